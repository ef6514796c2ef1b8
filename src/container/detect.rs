//! What a file is, by its bytes alone; and when it is none of ours, what it is instead.
//!
//! People feed failed downloads, Git LFS pointers and other frameworks' files by mistake, so the error names them.

pub(crate) mod damage;
mod foreign;
mod text_pickle;

use flate2::{Decompress, FlushDecompress};

use crate::container::compress::Compression;
use crate::container::{tar, zstd};
use crate::error::{Error, Result};
use crate::limits::Limits;
use crate::source::{Source, read_vec};

/// The outermost framing of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Framing {
    /// A zip archive, maybe truncated: torch, TorchScript, pt2, npz or something else.
    Zip,
    /// A tar archive: torch before 0.1.10, or something that may hold checkpoints.
    Tar,
    /// One numpy array.
    Npy,
    /// safetensors.
    Safetensors,
    /// A pickle of any protocol: plain, or the first one of torch's legacy stream.
    Pickle,
    /// JSON with a `weight_map`: a Hugging Face index of shards.
    ShardIndex,
    /// Any of these, compressed as a whole.
    Compressed(Compression),
}

/// How much is looked at.
const HEAD_BYTES: u64 = 64 << 10;
/// Bytes that tell what has a magic number, or a length and JSON.
const MAGIC_BYTES: u64 = 4 << 10;

/// Decides what `source` holds. The error for anything else has the kind `NotACheckpoint` (a pickle of an unknown
/// protocol and formats we could but do not read: `Unsupported`) and says what the bytes are.
pub(crate) fn detect(source: &dyn Source) -> Result<Framing> {
    if source.is_empty() {
        return Err(Error::not_a_checkpoint("the file is empty"));
    }
    let head = read_vec(source, 0, source.len().min(MAGIC_BYTES))?;
    if let Some(framing) = binary(&head, source.len()) {
        return framing.map_err(|e| e.at(source.absolute(0)));
    }
    let head = read_vec(source, 0, source.len().min(HEAD_BYTES))?;
    // only tables of LevelDB's, which begin like that, are told by their end
    let tail = match head.starts_with(&[0, 0]) {
        true => read_vec(source, source.len().saturating_sub(8), source.len().min(8))?,
        false => Vec::new(),
    };
    look(&head, &tail, source.len()).unwrap_or_else(|| Err(unknown(&head))).map_err(|e| e.at(source.absolute(0)))
}

/// What the bytes begin like, of which there may be more; nothing for what is none of ours, which is not said.
pub(crate) fn of_head(head: &[u8]) -> Option<Framing> {
    let tail = head.get(head.len().saturating_sub(8)..).unwrap_or_default();
    look(head, tail, head.len() as u64)?.ok()
}

/// What a file of `len` bytes is by its first and last ones; nothing when they say nothing.
fn look(head: &[u8], tail: &[u8], len: u64) -> Option<Result<Framing>> {
    let foreign = |what| Err(Error::not_a_checkpoint(format!("not a checkpoint: {what}")));
    binary(head, len)
        .or_else(|| foreign::name(head, tail).map(foreign))
        .or_else(|| tar::is_header(head).then_some(Ok(Framing::Tar)))
        .or_else(|| pickle(head))
        .or_else(|| text(head))
}

fn binary(head: &[u8], len: u64) -> Option<Result<Framing>> {
    let framing = match head {
        [b'P', b'K', 3, 4, ..] | [b'P', b'K', 5, 6, ..] => Framing::Zip,
        [0x93, b'N', b'U', b'M', b'P', b'Y', ..] => Framing::Npy,
        head if is_safetensors(head, len) => Framing::Safetensors,
        head => Framing::Compressed(compression(head)?),
    };
    Some(Ok(framing))
}

/// A length, then a JSON object. The length may exceed a truncated file.
fn is_safetensors(head: &[u8], len: u64) -> bool {
    let Some((length, rest)) = head.split_first_chunk() else { return false };
    let length = u64::from_le_bytes(*length);
    let plausible = length >= 2 && (length <= len || length <= Limits::default().max_header_bytes);
    let follows = rest.get(1).is_none_or(|byte| matches!(byte, b'"' | b'}') || byte.is_ascii_whitespace());
    plausible && rest.first() == Some(&b'{') && follows
}

fn compression(head: &[u8]) -> Option<Compression> {
    match head {
        [0x1f, 0x8b, 8, ..] => Some(Compression::Gzip),
        [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Some(Compression::Xz),
        [b'Z', b'F', b'0', b'x', ..] => Some(Compression::JoblibZf),
        head if zstd::is_frame(head) => Some(Compression::Zstd),
        // a block, or the end of a stream without any
        [b'B', b'Z', b'h', b'1'..=b'9', 0x31, 0x41, 0x59, 0x26, 0x53, 0x59, ..]
        | [b'B', b'Z', b'h', b'1'..=b'9', 0x17, 0x72, 0x45, 0x38, 0x50, 0x90, ..] => Some(Compression::Bzip2),
        head if is_lzma_alone(head) => Some(Compression::Lzma),
        head if is_zlib(head) => Some(Compression::Zlib),
        _ => None,
    }
}

/// The header has no magic: the usual properties, a dictionary of 2^n or 3*2^n bytes, a sane length, a zero byte.
fn is_lzma_alone(head: &[u8]) -> bool {
    let Some(([0x5d, d0, d1, d2, d3, size @ ..], [0, ..])) = head.split_first_chunk::<13>() else { return false };
    let dictionary = u32::from_le_bytes([*d0, *d1, *d2, *d3]);
    let size = u64::from_le_bytes(*size);
    let odd = dictionary >> dictionary.trailing_zeros().min(31);
    dictionary >= 1 << 12 && (odd == 1 || odd == 3) && (size == u64::MAX || size < 1 << 38)
}

/// The default window, a right check value, and a start that really inflates: two bytes alone would also be text (`x^2`).
fn is_zlib(head: &[u8]) -> bool {
    let [0x78, flags, ..] = head else { return false };
    if (0x7800 + u32::from(*flags)) % 31 != 0 || flags & 0x20 != 0 || head.is_ascii() {
        return false;
    }
    Decompress::new(true).decompress(head, &mut [0; 4096], FlushDecompress::None).is_ok()
}

/// The last protocol Python has defined.
const LAST_PROTOCOL: u8 = 5;

fn pickle(head: &[u8]) -> Option<Result<Framing>> {
    match head {
        [0x80, protocol, ..] if *protocol <= LAST_PROTOCOL => Some(Ok(Framing::Pickle)),
        // the protocol is followed by an opcode that really starts pickles, else these are just bytes
        [0x80, protocol @ ..=15, 0x95 | b'}' | b']' | b'(' | b'c', ..] => {
            Some(Err(Error::unsupported(format!("is a pickle of protocol {protocol}; 0 to {LAST_PROTOCOL} are known"))))
        }
        [first, ..] if *first >= 0x80 => None,
        head => text_pickle::is_plausible(head).then_some(Ok(Framing::Pickle)),
    }
}

/// Names the kind of text it is; nothing for binary data.
fn text(head: &[u8]) -> Option<Result<Framing>> {
    let controls = |byte: &u8| byte.is_ascii_control() && !matches!(byte, b'\n' | b'\r' | b'\t' | 0x0c | 0x1b);
    // the window may end inside a character
    let is_utf8 =
        std::str::from_utf8(head).map_or_else(|e| e.valid_up_to() + 4 > head.len() && head.len() > 4, |_| true);
    if !is_utf8 || head.iter().any(controls) {
        return None;
    }
    let body = head.strip_prefix(b"\xef\xbb\xbf").unwrap_or(head).trim_ascii_start();
    let lower = |prefix: &[u8]| body.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix));
    if body.starts_with(b"version https://git-lfs") {
        return Some(Err(lfs_pointer(body)));
    }
    if damage::is_base64(body) {
        let message = "is base64 text of a checkpoint, not the file itself; decode it first (`base64 -d`)";
        return Some(Err(Error::not_a_checkpoint(message)));
    }
    let what = if lower(b"<!doctype html") || lower(b"<html") || lower(b"<head") || lower(b"<body") {
        "an HTML page: looks like a failed download (a login or error page instead of the file)".to_owned()
    } else if lower(b"<?xml") || lower(b"<error") {
        "an XML document: looks like a failed download (a server's error instead of the file)".to_owned()
    } else if body.starts_with(b"{") && body.windows(WEIGHT_MAP.len()).any(|window| window == WEIGHT_MAP) {
        return Some(Ok(Framing::ShardIndex));
    } else if body.starts_with(b"{") || body.starts_with(b"[") {
        "JSON text".to_owned()
    } else {
        format!("plain text starting with `{}`", first_line(body))
    };
    Some(Err(Error::not_a_checkpoint(format!("not a checkpoint: {what}"))))
}

const WEIGHT_MAP: &[u8] = b"\"weight_map\"";

fn first_line(body: &[u8]) -> String {
    let line = body.split(|byte| matches!(byte, b'\n' | b'\r')).next().unwrap_or_default();
    String::from_utf8_lossy(line).chars().filter(|c| !c.is_control()).take(40).collect()
}

/// <https://github.com/git-lfs/git-lfs/blob/main/docs/spec.md>
fn lfs_pointer(body: &[u8]) -> Error {
    let text = String::from_utf8_lossy(body);
    let field = |key: &str| text.lines().find_map(|line| line.strip_prefix(key)).map(str::trim);
    let place = match (field("oid "), field("size ")) {
        (Some(oid), Some(size)) => format!(" to {oid}, {size} bytes"),
        _ => String::new(),
    };
    let place: String = place.chars().filter(|c| !c.is_control()).take(120).collect();
    Error::not_a_checkpoint(format!("is a Git LFS pointer{place}, not the file itself; run `git lfs pull`"))
}

/// Whether bytes start like a checkpoint for sure: with more than two bytes of it.
fn is_known_start(bytes: &[u8]) -> bool {
    match bytes {
        [0x80, 2..=LAST_PROTOCOL, opcode, ..] => b"}](ccX\x95\x8a\x8c".contains(opcode),
        bytes => binary(bytes, Limits::default().max_header_bytes).is_some(),
    }
}

fn unknown(head: &[u8]) -> Error {
    if head.len() >= 16 && head.iter().all(|byte| *byte == 0) {
        return Error::not_a_checkpoint("not a checkpoint: starts with zero bytes only, like an unfinished download");
    }
    let start: Vec<String> = head.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    Error::not_a_checkpoint(format!("not a checkpoint: starts with bytes {}", start.join(" ")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;
    use crate::source::MemorySource;

    fn look(bytes: &[u8]) -> Result<Framing> {
        detect(&MemorySource::new(bytes.to_vec()))
    }

    fn says(bytes: &[u8], part: &str) {
        let e = look(bytes).expect_err(part);
        assert!(e.to_string().contains(part), "{part:?}: {e}");
        assert!(
            matches!(e.kind(), ErrorKind::NotACheckpoint | ErrorKind::Unsupported)
                && (e.offset() == Some(0) || bytes.is_empty())
        );
    }

    #[test]
    fn containers_are_told_by_their_first_bytes() {
        let mut tar = ::tar::Builder::new(Vec::new());
        let mut old = ::tar::Header::new_old();
        old.set_path("sys_info").unwrap();
        old.set_size(0);
        old.set_cksum();
        tar.append(&old, &b""[..]).unwrap();
        let lzma = b"\x5d\0\0\x80\0\xff\xff\xff\xff\xff\xff\xff\xff\0\x18";
        let cases: &[(&[u8], Framing)] = &[
            (b"PK\x03\x04", Framing::Zip),
            (b"PK\x05\x06\0\0", Framing::Zip),
            (&tar.into_inner().unwrap(), Framing::Tar),
            (b"\x93NUMPY\x01\0", Framing::Npy),
            (b"\x02\0\0\0\0\0\0\0{}", Framing::Safetensors),
            (b"\x80\x04\0\0\0\0\0\0{\"a\"", Framing::Safetensors),
            (b"\x1f\x8b\x08\0", Framing::Compressed(Compression::Gzip)),
            (b"BZh91AY&SY", Framing::Compressed(Compression::Bzip2)),
            (b"\xfd7zXZ\0", Framing::Compressed(Compression::Xz)),
            (b"\x28\xb5\x2f\xfd\0\0", Framing::Compressed(Compression::Zstd)),
            (lzma, Framing::Compressed(Compression::Lzma)),
            (b"ZF0x10              ", Framing::Compressed(Compression::JoblibZf)),
            (b"x\x9c\x4b\x04\0\0\x62\0\x62", Framing::Compressed(Compression::Zlib)),
            (b"\n {\"metadata\": {}, \"weight_map\": {\"a\": \"b\"}}", Framing::ShardIndex),
        ];
        for (bytes, framing) in cases {
            assert_eq!(look(bytes).unwrap(), *framing, "{bytes:02x?}");
        }
    }

    #[test]
    fn pickles_of_every_protocol_are_pickles() {
        let cases: &[&[u8]] = &[
            b"\x80\x02}.",
            b"\x80\x05\x95\0",
            b"(dp0\nS'a'\np1\nI1\ns.",
            b"(lp0\n.",
            b"ccollections\nOrderedDict\np0\n(lp1\ntR.",
            b"cos\nsystem\n(S'true'\ntR.",
            b"I01\n.",
            b"F1.5\n.",
            b"L119547037146038801333356L\n.L1001L\n.",
            b"N.",
            b"Vtext\np0\n.",
            b"}q\0(U\x01aq\x01K\x01u.",
            b"]q\0.",
            b"G?\xf0\0\0\0\0\0\0.",
            b"I1\n.\n",
        ];
        for bytes in cases {
            assert_eq!(look(bytes).unwrap(), Framing::Pickle, "{:?}", String::from_utf8_lossy(bytes));
        }
        // a protocol 0 pickle whose first string reaches beyond the window
        let long = [&b"S'"[..], &vec![b'a'; 100_000], b"'\n."].concat();
        assert_eq!(look(&long).unwrap(), Framing::Pickle);
    }

    #[test]
    fn text_is_not_a_pickle() {
        for text in [
            "import torch\nmodel = torch.nn.Linear(1, 2)\n",
            "class A:\n    pass\n",
            "# README\n\nThis is it.",
            "(c) 2020 by nobody. All rights reserved.",
            "Note that this ends with a stop.",
            "Version 1.0\nof this.",
            "I am a text.\n",
            "a,b,c\n1,2,3\n",
            "Not Found",
            "Internal Server Error",
            "N",
            "(",
            ".",
            "x^2 + y",
            "testdata/torch.pt (zip), 3 tensors\n",
            "global",
            "epoch 1 loss 0.5\nepoch 2 loss 0.4\n",
            "Se\u{e4}or",
        ] {
            says(text.as_bytes(), "plain text starting with");
        }
    }

    #[test]
    fn mistakes_are_named() {
        says(b"", "empty");
        says(b"\r\n<!DOCTYPE html>\n<html>", "HTML page: looks like a failed download");
        says(b"<?xml version='1.0'?><Error/>", "XML");
        says(b"{\"a\": 1}", "JSON");
        says(b"\x89PNG\r\n\x1a\n\0\0", "PNG");
        says(b"\x89HDF\r\n\x1a\n\0\0", "HDF5");
        says(b"GGUF\x03\0\0\0", "GGUF");
        says(b"\x08\x07\x12\x07pytorch", "ONNX");
        says(b"\x04\x22\x4d\x18\0\0", "lz4 -d");
        says(b"\x80\x06\x95\0\0", "protocol 6");
        says(b"\xde\xad\xbe\xef", "starts with bytes de ad be ef");
        says(&[0; 4096], "zero bytes only");
        let pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a21\nsize 12345\n";
        says(pointer, "Git LFS pointer to sha256:4d7a21, 12345 bytes");
        says(pointer, "git lfs pull");
    }

    #[test]
    fn no_short_input_is_trouble() {
        for first in 0..=255u8 {
            for second in 0..=255 {
                let _ = look(&[first]);
                let _ = look(&[first, second]);
                let _ = look(&[first, 0xff, 0xff, second]);
            }
        }
    }
}
