//! Code that is no pickle: libraries, Python sources, layers of Keras, templates; and what is not looked into.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // helpers of tests are tests

use std::fs;
use std::io::{Cursor, Write};
use std::path::Path;

use crate::driver::{ckpt, run_with, testdata};
use serde_json::Value;
use zip::write::{SimpleFileOptions, ZipWriter};

/// The findings of a file, as (code, severity), with the exit status and what stands on standard error.
fn check(name: &str, bytes: &[u8]) -> (Vec<(String, String)>, i32, String) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(name);
    fs::write(&path, bytes).unwrap();
    checked(&path)
}

fn checked(path: &Path) -> (Vec<(String, String)>, i32, String) {
    let run = run_with(ckpt().args(["check", "--json"]).arg(path), b"");
    let mut found = Vec::new();
    for line in run.text().lines() {
        let json: Value = serde_json::from_str(line).unwrap();
        for finding in json["findings"].as_array().into_iter().flatten() {
            let text = |key: &str| finding[key].as_str().unwrap().to_owned();
            found.push((text("code"), text("severity")));
        }
    }
    (found, run.status, format!("{}{}", run.text(), run.stderr))
}

fn has(found: &[(String, String)], code: &str, severity: &str) -> bool {
    found.iter().any(|(is, of)| is == code && of == severity)
}

fn archive(members: &[(&str, &[u8])]) -> Vec<u8> {
    let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
    let stored = SimpleFileOptions::default().compression_method(zip::CompressionMethod::Stored);
    for (name, content) in members {
        zip.start_file(*name, stored).unwrap();
        zip.write_all(content).unwrap();
    }
    zip.finish().unwrap().into_inner()
}

#[test]
fn libraries_and_sources_in_archives_of_torch() {
    let library = b"\x7fELF\x02\x01\x01\0";
    let of =
        |name: &str, content: &[u8]| archive(&[("m/data.pkl", b"\x80\x02}."), ("m/version", b"3\n"), (name, content)]);
    for (name, content, code) in [
        ("m/data/aotinductor/model/c2h.so", &library[..], "native-code"),
        ("m/extra/anything", library, "native-code"),
        ("m/my_package/net.py", b"import os\n", "python-code"),
        ("m/my_package/net.PYC", b"\0", "python-code"),
    ] {
        let (found, status, said) = check("model.pt2", &of(name, content));
        assert!(has(&found, code, "danger") && status == 1, "{name}: {said}");
    }
    let (found, status, said) = check("model.pt", &of("m/readme", b"text"));
    assert!(found.is_empty() && status == 0, "{said}");
}

fn keras(config: &str) -> Vec<u8> {
    archive(&[("metadata.json", b"{}"), ("config.json", config.as_bytes()), ("model.weights.h5", b"\x89HDF\r\n\x1a\n")])
}

#[test]
fn layers_of_keras() {
    let dense = r#"{"module": "keras.layers", "class_name": "Dense", "config": {"units": 1, "activation": "relu"}}"#;
    let lambda = r#"{"module": "keras.layers", "class_name": "Lambda", "config": {"function": {"class_name": "__lambda__",
        "config": {"code": "4wEAAAA=", "defaults": null, "closure": null}}}}"#;
    let escaped = r#"{"class_name": "\u004cambda", "config": {}}"#;
    let function =
        r#"{"module": "subprocess", "class_name": "function", "config": "check_output", "registered_name": "x"}"#;
    for (layer, code) in [(lambda, "keras-lambda"), (escaped, "keras-lambda"), (function, "keras-function")] {
        let config = format!(r#"{{"class_name": "Sequential", "config": {{"layers": [{dense}, {layer}]}}}}"#);
        let (found, status, said) = check("model.keras", &keras(&config));
        assert!(has(&found, code, "danger") && status == 1, "{layer}: {said}");
    }
    // as JSON in an attribute of HDF5, in every position of the blocks it is read in
    for pad in [10, (1 << 20) - 20, (1 << 20) - 8, 1 << 20] {
        for layer in [r#""class_name": "Lambda""#, r#""class_name":"\u004cambda""#] {
            let file = [b"\x89HDF\r\n\x1a\n".as_slice(), &vec![0; pad], layer.as_bytes(), &[0; 100]].concat();
            let (found, status, said) = check("model.h5", &file);
            assert!(has(&found, "keras-lambda", "danger") && status == 1, "{pad} {layer}: {said}");
        }
    }
    let config = format!(r#"{{"class_name": "Sequential", "config": {{"layers": [{dense}]}}}}"#);
    let (found, status, said) = check("model.keras", &keras(&config));
    assert!(found.is_empty() && status == 2, "{said}");
    let file = [b"\x89HDF\r\n\x1a\n".as_slice(), &[0; 64], br#""class_name": "Dense""#].concat();
    let (found, status, said) = check("model.h5", &file);
    assert!(found.is_empty() && status == 2, "{said}");
    let (found, status, said) = check("model.keras", &keras("{\"class_name\": "));
    assert!(has(&found, "unreadable", "error") && status == 1, "{said}");
}

fn gguf(entries: &[(&str, &str)]) -> Vec<u8> {
    let string = |text: &str| [&(text.len() as u64).to_le_bytes()[..], text.as_bytes()].concat();
    let mut out = [b"GGUF".as_slice(), &3u32.to_le_bytes(), &0u64.to_le_bytes()].concat();
    out.extend((entries.len() as u64 + 2).to_le_bytes());
    // an array of strings and a number before them
    out.extend([string("tokenizer.ggml.tokens"), 9u32.to_le_bytes().to_vec(), 8u32.to_le_bytes().to_vec()].concat());
    out.extend([2u64.to_le_bytes().to_vec(), string("a"), string("b")].concat());
    out.extend([string("general.file_type"), 4u32.to_le_bytes().to_vec(), 1u32.to_le_bytes().to_vec()].concat());
    for (key, value) in entries {
        out.extend([string(key), 8u32.to_le_bytes().to_vec(), string(value)].concat());
    }
    out
}

#[test]
fn templates_of_gguf() {
    let plain = "{% for message in messages %}{{ message['content'] }}{% endfor %}";
    let evil = "{{ ''.__class__.__mro__[1].__subclasses__() }}";
    let other = "{{ (messages|attr('x')) }}";
    let key = "tokenizer.chat_template";
    let (found, status, said) = check("m.gguf", &gguf(&[("general.name", "x"), (key, plain)]));
    assert!(has(&found, "template", "warning") && status == 1, "{said}");
    for template in [evil, other] {
        let (found, status, said) = check("m.gguf", &gguf(&[(key, plain), ("tokenizer.chat_template.tool", template)]));
        assert!(has(&found, "template-reaches", "danger") && status == 1, "{said}");
    }
    let file = gguf(&[("general.name", "__x__")]);
    let (found, status, said) = check("m.gguf", &file);
    assert!(found.is_empty() && status == 2, "{said}");
    // a break anywhere is no trouble
    let file = gguf(&[(key, plain)]);
    for end in 0..file.len() {
        assert!([1, 2].contains(&check("m.gguf", &file[..end]).1), "{end}");
    }
}

/// The chunks of a checkpoint of torch.distributed's are read wherever they begin, named by the index or not.
#[test]
fn chunks_that_no_index_names() {
    let call = b"cposix\nsystem\nU\x01x\x85R.";
    let evil = archive(&[("archive/data.pkl", &[b"\x80\x02".as_slice(), call].concat()), ("archive/version", b"3\n")]);
    let fine = archive(&[("archive/data.pkl", b"\x80\x02}."), ("archive/version", b"3\n")]);
    let cases: [(&str, Vec<u8>); 4] = [
        ("an archive in the middle", [&[7; 100][..], &evil, &fine].concat()),
        ("a pickle", [&[7; 100], b"\x80\x02".as_slice(), call, &[7; 100]].concat()),
        ("a pickle without a protocol", [&[7; 100], &call[..], &[7; 100]].concat()),
        ("an archive at the end", [&fine[..], &evil].concat()),
    ];
    let dcp = testdata("frameworks/dcp_single");
    let copy = |more: Option<&[u8]>| {
        let to = tempfile::tempdir().unwrap();
        for entry in fs::read_dir(&dcp).unwrap() {
            let path = entry.unwrap().path();
            let mut bytes = fs::read(&path).unwrap();
            if path.extension().is_some_and(|ending| ending == "distcp") {
                bytes.extend(more.unwrap_or_default());
            }
            fs::write(to.path().join(path.file_name().unwrap()), bytes).unwrap();
        }
        to
    };
    let (found, status, said) = checked(copy(None).path());
    assert!(status == 0, "{found:?} {said}");
    for (name, more) in cases {
        let (found, status, said) = checked(copy(Some(&more)).path());
        assert!(found.iter().any(|(_, severity)| severity == "danger") && status == 1, "{name}: {said}");
    }
}

/// A frame of Zstandard with one block as it is.
fn zstd(bytes: &[u8]) -> Vec<u8> {
    let length = u8::try_from(bytes.len()).unwrap();
    [&b"\x28\xb5\x2f\xfd\x20"[..], &[length, length << 3 | 1, length >> 5, 0], bytes].concat()
}

#[test]
fn zstandard_is_expanded() {
    let evil = b"\x80\x02cposix\nsystem\nX\x02\0\0\0ls\x85R.";
    for bytes in [zstd(evil), [zstd(b""), zstd(&evil[..9]), zstd(&evil[9..])].concat()] {
        let (found, status, said) = check("model.pkl.zst", &bytes);
        assert!(has(&found, "global-dangerous", "danger") && status == 1, "{said}");
        let inside = archive(&[("m/data.pkl", b"\x80\x02}."), ("m/version", b"3\n"), ("m/extra/a.pkl.zst", &bytes)]);
        let (found, status, said) = check("model.pt", &inside);
        assert!(has(&found, "global-dangerous", "danger") && status == 1, "{said}");
    }
}

/// What is compressed in a way that is not expanded is never said to be all right.
#[test]
fn compressed_otherwise() {
    let lzip = b"LZIP\x01\x0c";
    let lz4 = b"\x04\x22\x4d\x18\x64\x40\xa7\x02\0\0\x80N.\0\0\0\0";
    for frame in [&lzip[..], lz4] {
        let (found, status, said) = check("model.pkl", frame);
        assert!(found.is_empty() && status == 2 && said.contains("expand it first"), "{said}");
        let inside = archive(&[("m/data.pkl", b"\x80\x02}."), ("m/version", b"3\n"), ("m/extra/model.pkl.lz", frame)]);
        let (found, status, said) = check("model.pt", &inside);
        assert!(has(&found, "not-expanded", "warning") && status == 1, "{said}");
        // a tensor may begin with anything
        let data = archive(&[("m/data.pkl", b"\x80\x02}."), ("m/version", b"3\n"), ("m/data/0", frame)]);
        let (found, status, said) = check("model.pt", &data);
        assert!(!has(&found, "not-expanded", "warning") && status == 0, "{said}");
    }
    // a method of the archive itself
    let mut bytes = archive(&[("m/data.pkl", b"\x80\x02}."), ("m/version", b"3\n"), ("m/other", lz4)]);
    for signature in [b"PK\x03\x04", b"PK\x01\x02"] {
        let at = bytes.windows(4).enumerate().rfind(|(_, four)| four == signature).unwrap().0;
        let method = at + if signature == b"PK\x03\x04" { 8 } else { 10 };
        bytes[method..method + 2].copy_from_slice(&93u16.to_le_bytes());
    }
    let (found, status, said) = check("model.pt", &bytes);
    assert!(!found.is_empty() && status != 0, "{said}");
}
