//! Files that cannot be read are named as what they are, with the cause where the bytes tell it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // helpers of tests are tests

use std::fs;
use std::path::Path;

use crate::driver::{ckpt, run, run_with, testdata};

/// What `ls` says of bytes that it refuses.
fn refusal(bytes: &[u8], file: &str) -> String {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(file);
    fs::write(&path, bytes).unwrap();
    said(&path, bytes)
}

fn said(path: &Path, bytes: &[u8]) -> String {
    let mut all = Vec::new();
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("out.pt");
    // every command that reads, and standard input
    for (args, file) in [
        (&["ls"][..], path.as_os_str()),
        (&["ls", "--names"], "-".as_ref()),
        (&["extract"], path.as_os_str()),
        (&["rename", "--add-prefix", "m.", "--dry-run"], path.as_os_str()),
    ] {
        let run = run_with(ckpt().args(args).arg(file), bytes).exits(2);
        assert!(run.stdout.is_empty(), "{args:?}: {}", run.text());
        assert_eq!(run.stderr.lines().count(), 1, "{args:?}: {}", run.stderr);
        all.push(run.stderr.split_once(": ").unwrap().1.split_once(": ").unwrap().1.to_owned());
    }
    run_with(ckpt().arg("convert").args([path, &out]), b"").exits(2);
    assert!(!out.exists());
    all.dedup();
    assert_eq!(all.len(), 1, "the commands disagree: {all:#?}");
    all.remove(0)
}

fn replaced(bytes: &[u8], by: impl Fn(u8) -> Vec<u8>) -> Vec<u8> {
    bytes.iter().flat_map(|byte| by(*byte)).collect()
}

/// Files of every container, with enough bytes of every kind in them.
const FILES: &[&str] = &[
    "torch-2.15-py311/checkpoint.tar",
    "torch-2.15-py311/cnn_full.legacy.pth",
    "torch-1.5-py36/checkpoint.tar",
    "torch-1.5-py36/numpy_protocol2.pkl",
    "frameworks/cnn_state.safetensors",
];

fn files() -> impl Iterator<Item = (&'static str, Vec<u8>)> {
    FILES.iter().map(|file| (*file, fs::read(testdata(file)).unwrap()))
}

#[test]
fn line_feeds_that_became_two_bytes() {
    for (file, bytes) in files() {
        let damaged = replaced(&bytes, |byte| if byte == b'\n' { b"\r\n".to_vec() } else { vec![byte] });
        let said = refusal(&damaged, "f.pt");
        assert!(said.contains("every LF byte in it became CR LF; get the file again"), "{file}: {said}");
        // the whole file is no such case
        run_with(ckpt().args(["ls", file]), b"").exits(0);
    }
}

#[test]
fn bytes_that_were_made_text() {
    for (file, bytes) in files() {
        let lossy = String::from_utf8_lossy(&bytes).into_owned().into_bytes();
        let said = refusal(&lossy, "f.pt");
        assert!(said.contains("each byte that was no UTF-8 became EF BF BD"), "{file}: {said}");
        let latin: String = bytes.iter().map(|byte| char::from(*byte)).collect();
        let said = refusal(latin.as_bytes(), "f.pt");
        assert!(said.contains("`iconv -f UTF-8 -t LATIN1` undoes that"), "{file}: {said}");
    }
}

#[test]
fn damage_of_another_kind_has_no_such_cause() {
    for (file, bytes) in files() {
        for end in [bytes.len() / 3, bytes.len() / 2, bytes.len() - 1] {
            let said = refusal(&bytes[..end], "f.pt");
            assert!(!said.contains("as text"), "{file}: {said}");
        }
    }
}

/// Archives and documents with Windows' line ends are no damaged checkpoints.
#[test]
fn text_in_archives_is_not_damage() {
    let text = b"first line\r\nsecond line\r\nthird line\r\nfourth line\r\n";
    let mut writer = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    let stored = zip::write::SimpleFileOptions::default().compression_method(zip::CompressionMethod::Stored);
    writer.start_file("notes.txt", stored).unwrap();
    std::io::Write::write_all(&mut writer, text).unwrap();
    let zip = writer.finish().unwrap().into_inner();
    assert!(refusal(&zip, "f.zip").contains("zip archive of notes.txt"));
    assert!(refusal(&zip[..zip.len() - 30], "f.zip").contains("truncated zip"));
    let mut tar = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_size(text.len() as u64);
    tar.append_data(&mut header, "notes.txt", &text[..]).unwrap();
    let tar = tar.into_inner().unwrap();
    assert!(refusal(&tar, "f.tar").contains("tar archive of notes.txt"));
    assert!(refusal(&tar[..530], "f.tar").contains("ends early"));
    let document = [&b"%PDF-1.7\r\n\0\r\n\x01\r\n"[..], text].concat();
    assert!(refusal(&document, "f.pdf").contains("a PDF document"));
}

fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for (number, block) in bytes.chunks(3).enumerate() {
        let word = block.iter().chain(&[0, 0]).take(3).fold(0, |word, byte| word << 8 | usize::from(*byte));
        for digit in 0..4 {
            let shown = if digit <= block.len() { DIGITS[word >> (18 - 6 * digit) & 63] } else { b'=' };
            text.push(shown.into());
        }
        if number % 19 == 18 {
            text.push('\n');
        }
    }
    text
}

#[test]
fn base64_text_is_told() {
    for (file, bytes) in files() {
        let said = refusal(base64(&bytes).as_bytes(), "f.pt");
        assert!(said.contains("is base64 text of a checkpoint") && said.contains("base64 -d"), "{file}: {said}");
    }
    let said = refusal(base64(b"only some words of text, and then more of them").as_bytes(), "f.txt");
    assert!(said.contains("plain text starting with"), "{said}");
}

#[test]
fn files_of_other_programs_are_named() {
    for file in ["tensor.t7", "table.t7"] {
        let path = testdata("archives").join(file);
        assert!(said(&path, &fs::read(&path).unwrap()).contains("Lua Torch file"));
    }
    // `flax.serialization.to_bytes({"params": {"w": np.ones(1, np.float32)}})`, and with an array at the top
    let flax = b"\x81\xa6params\x81\xa1w\xc7\x0e\x01\x93\x91\x01\xa7float32\xc4\x04\0\0\x80?";
    let flat = b"\x81\xa1w\xc7\x0e\x01\x93\x91\x01\xa7float32\xc4\x04\0\0\x80?";
    let tensorflow =
        [&b"\0\0\x06\x08\x01\x1a\x02\x08\x01"[..], &[7; 60], &0xdb47_7524_8b80_fb57_u64.to_le_bytes()].concat();
    for (bytes, what) in [
        (&flax[..], "MessagePack"),
        (&flat[..], "MessagePack"),
        (&tensorflow, "TensorFlow"),
        (b"\x1c\0\0\0ET12\x14\0\x20\0", "ExecuTorch"),
        (b"\x1c\0\0\0PTMF\x14\0\x20\0", "torch.jit.load"),
        (b"\x89HDF\r\n\x1a\n\0\0\0\0\0\x08\x08\0", "HDF5"),
        (b"GGUF\x03\0\0\0\x22\x01\0\0", "GGUF"),
        (b"\x30\0\0\0ET12eh00", "ExecuTorch program"),
        (b"\x30\0\0\0ET13eh00", "ExecuTorch program"),
        (b"\x30\0\0\0FT01eh00", "(.ptd)"),
        (b"\x12\x01\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x02\0", "MXNet"),
        (b"\x0a\x1a\x0a\x05input\x12\x0bPlaceholder\x2a\x04\x0a\x02dt", "TensorFlow graph"),
        (b"model_checkpoint_path: \"model.ckpt-5\"\n", "tf.train.load_checkpoint"),
        (b"\x82\xa4step\x07\xa6params\x81\xa1a\xc7", "MessagePack"),
        (b"7z\xbc\xaf\x27\x1c\0\x04", "7-Zip"),
        (b"Rar!\x1a\x07\x01\0", "RAR"),
        (b"\x04\x22\x4d\x18\x64\x40", "LZ4"),
        (b"\x08\x08\x12\x07pytorch\x1a\x05", "ONNX"),
        (b"\x08\x01\x12\xf5\x0c\x0a", "TensorFlow SavedModel"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0123\nsize 132\n", "Git LFS pointer"),
        (b"<!DOCTYPE html>\r\n<html>\r\n\r\n", "HTML page"),
    ] {
        let said = refusal(bytes, "f.bin");
        assert!(said.contains(what), "{what}: {said}");
    }
    // bytes that only look a little like it are not guessed at
    for bytes in
        [&b"\x81\xa6par\0ms\x81\x01\x02\x03"[..], b"\x04\0\0\0\x01\0\0\0\x03\0\0\0V 2", b"\0\0\x06\x08\x01\x1a\x02\x08"]
    {
        assert!(refusal(bytes, "f.bin").contains("starts with bytes"), "{bytes:02x?}");
    }
}

#[test]
fn a_keras_model_is_named() {
    let mut writer = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    for name in ["metadata.json", "config.json", "model.weights.h5"] {
        writer.start_file(name, zip::write::SimpleFileOptions::default()).unwrap();
        std::io::Write::write_all(&mut writer, b"{}").unwrap();
    }
    let said = refusal(&writer.finish().unwrap().into_inner(), "m.keras");
    assert!(said.contains("not a checkpoint: a Keras model"), "{said}");
}

/// A list that never ends is none.
#[cfg(unix)]
#[test]
fn lists_without_an_end() {
    for words in [
        "ls --tp-rule /dev/zero ranks/llama2",
        "ls --files-from /dev/zero",
        "check --allow-from /dev/zero torch-2.15-py311/cnn_state.pt",
        "rename --map /dev/zero torch-2.15-py311/cnn_state.pt --dry-run",
        "digest --check /dev/zero",
    ] {
        let run = run(words).exits(2);
        assert!(run.stderr.contains("has more than") && run.stderr.lines().count() == 1, "{words}: {}", run.stderr);
    }
}
