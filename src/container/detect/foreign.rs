//! What other programs' files are, where their first bytes tell for sure.

/// What such files start with, and where.
const FOREIGN: &[(usize, &[u8], &str)] = &[
    (0, b"\x89PNG\r\n", "a PNG picture"),
    (0, b"\xff\xd8\xff", "a JPEG picture"),
    (0, b"GIF8", "a GIF picture"),
    (0, b"%PDF-", "a PDF document"),
    (0, b"\x7fELF", "an ELF executable or shared library"),
    (0, b"\xcf\xfa\xed\xfe", "a Mach-O executable or library"),
    (0, b"\xca\xfe\xba\xbe", "a Mach-O or Java file"),
    (0, b"MZ\x90\0", "a Windows executable or library"),
    (0, HDF5_START, HDF5),
    (0, b"GGUF", "a GGUF file (llama.cpp's format; the Python package gguf reads its tensors)"),
    (0, b"ggjt", "a GGML file (llama.cpp's old format)"),
    (0, b"tjgg", "a GGML file (llama.cpp's old format)"),
    (0, b"lmgg", "a GGML file (llama.cpp's old format)"),
    (4, b"TFL3", "a TensorFlow Lite model (open it with tf.lite.Interpreter)"),
    (4, b"FT01", "ExecuTorch's data for a program (.ptd), which holds no state dict"),
    (4, b"PTMF", "a TorchScript model for mobile in the flatbuffer format (open it with torch.jit.load)"),
    (0, b"PAR1", "a Parquet table"),
    (0, b"ARROW1", "an Arrow file"),
    (0, b"SQLite format 3\0", "an SQLite database"),
    (0, b"MATLAB 5.0 MAT-file", "a MATLAB file (open it with scipy.io.loadmat)"),
    (0, b"RIFF", "a RIFF file (sound or video)"),
    (0, b"7z\xbc\xaf\x27\x1c", "a 7-Zip archive; unpack it first"),
    (0, b"Rar!\x1a\x07", "a RAR archive; unpack it first"),
    (0, b"\x04\x22\x4d\x18", "compressed with LZ4; expand it first (lz4 -d)"),
    (0, b"LZIP\x01", "compressed with lzip; expand it first (lzip -d)"),
];

/// What a file is that is none of ours.
pub(super) fn name(head: &[u8], tail: &[u8]) -> Option<&'static str> {
    let starts = |(at, magic, _): &&(usize, &[u8], &str)| head.get(*at..).is_some_and(|rest| rest.starts_with(magic));
    if let Some((.., what)) = FOREIGN.iter().find(starts) {
        return Some(what);
    }
    match head {
        // protobuf: field 1 is a small version number, then a length-delimited field
        [0x08, 1, 0x12, ..] => Some("a TensorFlow SavedModel (load its directory with tf.saved_model.load)"),
        [0x08, 3..=0x20, 0x12 | 0x3a | 0x42, ..] => {
            Some("an ONNX model (the Python package onnx reads its initializers)")
        }
        [_, _, _, _, b'E', b'T', b'0'..=b'9', b'0'..=b'9', ..] => {
            Some("an ExecuTorch program (.pte), which holds no state dict; the model that it was exported from does")
        }
        // a number of its own before the list of arrays
        [0x12, 0x01, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, ..] => {
            Some("parameters of MXNet (load them with mxnet.nd.load)")
        }
        head if is_hdf5_behind_a_block(head) => Some(HDF5),
        head if is_graph(head) => Some("a TensorFlow graph (.pb; parse it as a GraphDef with TensorFlow)"),
        head if head.starts_with(b"model_checkpoint_path: ") => {
            Some("the list of a directory's TensorFlow checkpoints (read them with tf.train.load_checkpoint)")
        }
        [0xff, 0xfe, ..] | [0xfe, 0xff, ..] => Some("UTF-16 text"),
        head if is_torch7(head) => Some(TORCH7),
        _ if tail == LEVEL_DB => Some("the index of a TensorFlow checkpoint (open it with TensorFlow)"),
        head if is_msgpack(head) => Some("MessagePack data, as Flax and JAX keep parameters in (open it with flax)"),
        _ => None,
    }
}

const HDF5: &str = "an HDF5 file (Keras keeps weights in such; open it with h5py)";
const HDF5_START: &[u8] = b"\x89HDF\r\n\x1a\n";

/// HDF5 may begin behind 512, 1024, 2048 … bytes of whoever wrote it.
fn is_hdf5_behind_a_block(head: &[u8]) -> bool {
    (9..16).any(|power| head.get(1usize << power..).is_some_and(|rest| rest.starts_with(HDF5_START)))
}

/// A GraphDef: nodes (field 1), each with a name (1) and an operation (2).
fn is_graph(head: &[u8]) -> bool {
    let Some(node) = head.strip_prefix(b"\x0a").and_then(|rest| varint(rest)).map(|(_, node)| node) else {
        return false;
    };
    let word = |bytes: &[u8]| {
        let (length, rest) = varint(bytes)?;
        let (word, rest) = rest.split_at_checked(usize::try_from(length).ok()?)?;
        let is_name = |byte: &u8| byte.is_ascii_alphanumeric() || b"_./\\-".contains(byte);
        (!word.is_empty() && word.iter().all(is_name)).then_some(rest.len())
    };
    let Some(left) = node.strip_prefix(b"\x0a").and_then(word) else { return false };
    let rest = node.get(node.len() - left..).unwrap_or_default();
    rest.strip_prefix(b"\x12").and_then(word).is_some()
}

/// A number of protobuf's, and what follows it.
fn varint(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let length = bytes.iter().take(4).position(|byte| byte & 0x80 == 0)? + 1;
    let (number, rest) = bytes.split_at_checked(length)?;
    Some((number.iter().rev().fold(0, |sum, byte| sum << 7 | u64::from(byte & 0x7f)), rest))
}

const TORCH7: &str = "a Lua Torch file (.t7; the Python package torchfile reads such)";

/// `torch.serialize` of Lua Torch: an object (4) or a table (3), its number, then in text or binary form the version and a
/// class (`File.lua`).
fn is_torch7(head: &[u8]) -> bool {
    let word = |at: usize| head.get(at..).and_then(|rest| rest.first_chunk()).map(|bytes| u32::from_le_bytes(*bytes));
    let is_class = |at: usize| {
        let class = head.get(at..).unwrap_or_default();
        [&b"torch."[..], b"nn.", b"cunn.", b"cudnn.", b"nngraph.", b"tds."]
            .iter()
            .any(|module| class.starts_with(module))
    };
    match (word(0), word(4), word(8)) {
        (Some(4), Some(1), Some(3)) if head.get(12..15) == Some(b"V 1") => is_class(19),
        (Some(4), Some(1), Some(1..=64)) => is_class(12),
        // a table: how many entries, then the first key, a number (1) or a string (2) of some bytes
        (Some(3), Some(1), Some(1..=0xff_ffff)) => match (word(12), word(16)) {
            (Some(1), _) => head.get(16..24) == Some(&1f64.to_le_bytes()) && word(24).is_some_and(|value| value <= 5),
            (Some(2), Some(length @ 1..=255)) => {
                let key = usize::try_from(length).ok().and_then(|length| head.get(20..20 + length));
                key.is_some_and(|key| key.iter().all(|byte| byte.is_ascii_graphic() || *byte == b' '))
            }
            _ => false,
        },
        _ => head.starts_with(b"4\n1\n3\nV 1\n"),
    }
}

/// What ends a table of LevelDB's, as TensorFlow keeps the index of a checkpoint in (`tensor_bundle.cc`, `table/format.cc`).
const LEVEL_DB: [u8; 8] = 0xdb47_7524_8b80_fb57_u64.to_le_bytes();

/// A map whose first key is a short word and whose first value is a map, an array, or an array of numpy's (extension 1 to
/// 3, `flax/serialization.py`).
fn is_msgpack(head: &[u8]) -> bool {
    let body = match head {
        [0x81..=0x8f, rest @ ..] => rest,
        [0xde, _, _, rest @ ..] => rest,
        [0xdf, _, _, _, _, rest @ ..] => rest,
        _ => return false,
    };
    let (length, rest) = match body {
        [short @ 0xa1..=0xbf, rest @ ..] => (usize::from(short & 0x1f), rest),
        [0xd9, length, rest @ ..] => (usize::from(*length), rest),
        _ => return false,
    };
    let Some((key, value)) = rest.split_at_checked(length) else { return false };
    let is_word = key.iter().all(|byte| byte.is_ascii_alphanumeric() || b"_./-".contains(byte));
    is_word
        && matches!(
            value,
            [0x80..=0x9f | 0xdc..=0xdf, ..]
                // a train state has its step first
                | [0x00..=0x7f, 0xa1..=0xbf, ..]
                | [0xcc, _, 0xa1..=0xbf, ..]
                | [0xcd, _, _, 0xa1..=0xbf, ..]
                | [0xce, _, _, _, _, 0xa1..=0xbf, ..]
                | [0xc7, _, 1..=3, ..]
                | [0xc8, _, _, 1..=3, ..]
                | [0xc9, _, _, _, _, 1..=3, ..]
                | [0xd4..=0xd8, 1..=3, ..]
        )
}
