//! `ckpt convert`, byte for byte: small outputs beside their goldens, and what goes there and back unchanged.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::fmt::Write;
use std::fs;
use std::path::Path;

use crate::driver::{Dir, ckpt, golden, run, run_with, testdata};
use proptest::prelude::*;

/// As `hexdump -C` shows bytes: lines that repeat the one before are one `*`.
fn dump(bytes: &[u8]) -> String {
    let mut out = String::new();
    let mut before: Option<&[u8]> = None;
    let mut repeats = false;
    for (line, at) in bytes.chunks(16).zip((0..).step_by(16)) {
        if before == Some(line) {
            out.push_str(if repeats { "" } else { "*\n" });
            repeats = true;
            continue;
        }
        (before, repeats) = (Some(line), false);
        let hex: Vec<String> = line.iter().map(|byte| format!("{byte:02x}")).collect();
        let text: String =
            line.iter().map(|byte| if (b' '..=b'~').contains(byte) { char::from(*byte) } else { '.' }).collect();
        writeln!(out, "{at:08x}  {:<47}  |{text}|", hex.join(" ")).unwrap();
    }
    writeln!(out, "{:08x}", bytes.len()).unwrap();
    out
}

fn convert(input: &Path, output: &Path, to: &str) {
    let run = run_with(ckpt().args(["convert", "-q", "--force", "--to", to]).arg(input).arg(output), b"");
    assert_eq!(run.exits(0).stderr, "");
}

/// tests/interop.py has torch open what is made of the same file.
#[test]
fn every_format_as_it_was() {
    let dir = tempfile::tempdir().unwrap();
    for to in ["torch", "torch-legacy", "safetensors", "npz"] {
        let out = dir.path().join("out");
        convert(&testdata("torch-2.15-py311/one_layer_state.pth"), &out, to);
        golden(&format!("convert_{}.txt", to.replace('-', "_")), &dump(&fs::read(&out).unwrap()));
    }
}

/// Types of safetensors that torch has as well, with the bytes of an element.
const DTYPES: &[(&str, usize)] = &[
    ("F64", 8),
    ("F32", 4),
    ("F16", 2),
    ("BF16", 2),
    ("I64", 8),
    ("I32", 4),
    ("I16", 2),
    ("I8", 1),
    ("U8", 1),
    ("BOOL", 1),
    ("F8_E4M3", 1),
    ("U16", 2),
    ("U64", 8),
    ("C64", 8),
];

type Tensor = (String, usize, Vec<usize>, u8);

/// A safetensors file as its library writes it.
fn file(tensors: &[Tensor]) -> Vec<u8> {
    let mut views = Vec::new();
    for (name, dtype, shape, seed) in tensors {
        let (dtype, size) = DTYPES[*dtype];
        let bytes = shape.iter().product::<usize>() * size;
        // booleans are 0 or 1
        let data: Vec<u8> = (0..bytes)
            .map(|i| if dtype == "BOOL" { i % 2 } else { i * 31 + usize::from(*seed) })
            .map(|value| value.to_le_bytes()[0])
            .collect();
        views.push((name.clone(), dtype, shape.clone(), data));
    }
    let views = views.iter().map(|(name, dtype, shape, data)| {
        let dtype: safetensors::Dtype = serde_json::from_value(serde_json::json!(dtype)).unwrap();
        (name.clone(), safetensors::tensor::TensorView::new(dtype, shape.clone(), data).unwrap())
    });
    safetensors::serialize(views, Some([("format".to_owned(), "pt".to_owned())].into())).unwrap()
}

fn tensors() -> impl Strategy<Value = Vec<Tensor>> {
    let name = "[a-z\\.é\"]{1,12}";
    let shape = prop::collection::vec(0_usize..5, 0..4);
    let tensors = prop::collection::vec((name, 0..DTYPES.len(), shape, any::<u8>()), 1..8);
    tensors.prop_map(|mut tensors| {
        tensors.sort();
        tensors.dedup_by(|a, b| a.0 == b.0);
        tensors
    })
}

proptest! {
    // every case is five processes
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn there_and_back_is_the_same_file(tensors in tensors()) {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        let original = file(&tensors);
        fs::write(at("a.safetensors"), &original).unwrap();
        convert(&at("a.safetensors"), &at("b.pt"), "torch");
        convert(&at("b.pt"), &at("c.pt"), "torch-legacy");
        convert(&at("c.pt"), &at("d.pt"), "torch");
        // the legacy form has no untyped storages: bytes stand for them, and stay
        let untyped = |tensor: &Tensor| matches!(DTYPES[tensor.1].0, "F8_E4M3" | "U16" | "U64");
        let same = fs::read(at("b.pt")).unwrap() == fs::read(at("d.pt")).unwrap();
        prop_assert!(same || tensors.iter().any(untyped));
        for from in ["b.pt", "c.pt", "d.pt"] {
            convert(&at(from), &at("e.safetensors"), "safetensors");
            prop_assert!(fs::read(at("e.safetensors")).unwrap() == original, "by way of {}", from);
        }
    }

    #[test]
    fn through_numpy_and_back(tensors in tensors()) {
        let held = |tensor: &Tensor| !matches!(DTYPES[tensor.1].0, "BF16" | "F8_E4M3");
        let tensors: Vec<Tensor> = tensors.into_iter().filter(held).collect();
        prop_assume!(!tensors.is_empty());
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        let original = file(&tensors);
        fs::write(at("a.safetensors"), &original).unwrap();
        convert(&at("a.safetensors"), &at("b.npz"), "npz");
        convert(&at("b.npz"), &at("c.safetensors"), "safetensors");
        prop_assert!(fs::read(at("c.safetensors")).unwrap() == original);
    }
}

/// A storage without a type of its own (`UntypedStorage`) says nothing of the elements of what is written anew over it.
#[test]
fn every_dtype_keeps_its_type_in_a_new_state_dict() {
    let dir = Dir::new();
    let out = dir.path("shards");
    for input in ["diff/numbers_a.pt", "digest/odd.pt"] {
        run(&format!("convert -q {input} {out} --to torch --max-shard-size 300 --force")).exits(0);
        let facts = |file: &str| {
            let listing = run(&format!("ls --json --hash {file}")).exits(0).json();
            let row = |row: &serde_json::Value| ["name", "dtype", "shape", "sha256"].map(|key| row[key].to_string());
            let mut rows: Vec<_> = listing["tensors"].as_array().unwrap().iter().map(row).collect();
            rows.sort();
            rows
        };
        assert_eq!(facts(&out), facts(input));
        fs::remove_dir_all(&out).unwrap();
    }
}
