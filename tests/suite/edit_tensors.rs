//! `ckpt edit --set-tensor`: a tensor has the elements of the array, whatever shares them with it too, and nothing else changes.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // helpers of tests are tests

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use crate::driver::{Run, ckpt, run_with, testdata};
use crate::edit::{edited_with_report, files, rows, some};
use ckpt::checkpoint::alter::Step;
use ckpt::data::Elements;
use ckpt::limits::Limits;
use ckpt::operations::edit::read_array;
use serde_json::Value;
use sha2::{Digest, Sha256};

/// numpy's names of the types, and bytes of an element and of what a byte order turns round.
const TYPES: [(&str, &str, usize, usize); 13] = [
    ("float64", "f8", 8, 8),
    ("float32", "f4", 4, 4),
    ("float16", "f2", 2, 2),
    ("int64", "i8", 8, 8),
    ("int32", "i4", 4, 4),
    ("int16", "i2", 2, 2),
    ("int8", "i1", 1, 1),
    ("uint8", "u1", 1, 1),
    ("uint16", "u2", 2, 2),
    ("uint32", "u4", 4, 4),
    ("bool", "b1", 1, 1),
    ("complex64", "c8", 8, 4),
    ("complex128", "c16", 16, 8),
];

/// How an array lies in its file.
#[derive(Debug, Clone, Copy)]
struct Layout {
    columns: bool,
    big: bool,
}

const LAYOUTS: [Layout; 4] = [
    Layout { columns: false, big: false },
    Layout { columns: true, big: false },
    Layout { columns: false, big: true },
    Layout { columns: true, big: true },
];

/// Bytes of elements in rows, little-endian, that look like nothing else.
fn elements(dtype: &str, count: usize, seed: u64) -> Vec<u8> {
    let (_, _, size, _) = TYPES.iter().find(|(name, ..)| *name == dtype).unwrap();
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut bytes = Vec::with_capacity(count * size);
    for _ in 0..count * size {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        bytes.push(u8::try_from(state >> 56).unwrap());
    }
    if dtype == "bool" {
        bytes.iter_mut().for_each(|byte| *byte &= 1);
    }
    bytes
}

/// The same as numpy would write them to a file.
fn npy(dtype: &str, shape: &[usize], rows: &[u8], layout: Layout) -> Vec<u8> {
    let (_, code, size, unit) = *TYPES.iter().find(|(name, ..)| *name == dtype).unwrap();
    let order = match (unit, layout.big) {
        (1, _) => '|',
        (_, true) => '>',
        (_, false) => '<',
    };
    let mut extents: String = shape.iter().map(|extent| format!("{extent}, ")).collect();
    if shape.len() != 1 {
        extents = extents.trim_end_matches(", ").to_owned();
    }
    let order_of = if layout.columns { "True" } else { "False" };
    let mut text = format!("{{'descr': '{order}{code}', 'fortran_order': {order_of}, 'shape': ({extents}), }}");
    while (10 + text.len() + 1) % 64 != 0 {
        text.push(' ');
    }
    text.push('\n');
    let mut file = b"\x93NUMPY\x01\x00".to_vec();
    file.extend(u16::try_from(text.len()).unwrap().to_le_bytes());
    file.extend(text.as_bytes());
    let count: usize = shape.iter().product();
    for position in 0..count {
        let mut row = position;
        if layout.columns {
            // the index of the element, first one fastest, as the place in rows
            let (mut left, mut indexes) = (position, Vec::new());
            for extent in shape {
                indexes.push(left % extent);
                left /= extent;
            }
            row = indexes.iter().zip(shape).fold(0, |at, (index, extent)| at * extent + index);
        }
        let mut element = rows[row * size..(row + 1) * size].to_vec();
        if layout.big {
            element.chunks_mut(unit).for_each(<[u8]>::reverse);
        }
        file.extend(element);
    }
    file
}

fn array(dir: &Path, dtype: &str, shape: &[usize], rows: &[u8], layout: Layout) -> Elements {
    let path = dir.join("x.npy");
    fs::write(&path, npy(dtype, shape, rows, layout)).unwrap();
    read_array(&path, &Limits::default()).unwrap()
}

fn hash(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn every_tensor_of_every_file_takes_other_elements() {
    let dir = tempfile::tempdir().unwrap();
    let (mut done, mut with_others, mut refusals) = (0, 0, BTreeMap::<String, usize>::new());
    let mut containers = BTreeSet::new();
    for path in files() {
        let bytes = fs::read(&path).unwrap();
        let Some(before) = rows(&bytes) else { continue };
        let tensors: Vec<(&String, &Value)> = before
            .iter()
            .filter(|(_, row)| {
                row.get("dtype").and_then(Value::as_str).is_some_and(|dtype| TYPES.iter().any(|t| t.0 == dtype))
            })
            .filter(|(_, row)| row["sha256"].is_string() && row["bytes"].as_u64() < Some(1 << 16))
            .collect();
        for (number, (name, row)) in some(&tensors).into_iter().enumerate() {
            let dtype = row["dtype"].as_str().unwrap();
            let shape: Vec<usize> = row["shape"]
                .as_array()
                .unwrap()
                .iter()
                .map(|e| usize::try_from(e.as_u64().unwrap()).unwrap())
                .collect();
            // numpy refuses shapes whose extents multiply to more than 64 bits, whether one of them is 0 or not
            let Some(count) = shape.iter().try_fold(1_usize, |count, extent| count.checked_mul(*extent)) else {
                continue;
            };
            let new = elements(dtype, count, number as u64 + 7);
            let elements = array(dir.path(), dtype, &shape, &new, LAYOUTS[number % 4]);
            let name = if name.is_empty() { "." } else { name.as_str() };
            let step = Step::SetTensor { name: name.to_owned(), elements, force_shape: false };
            let label = format!("{}: {name}", path.display());
            match edited_with_report(&bytes, &[step]) {
                Ok((changed, report)) => {
                    let now = rows(&changed).unwrap_or_else(|| panic!("{label}: cannot be listed"));
                    let also: BTreeSet<&str> = report.changes[0].also.iter().map(String::as_str).collect();
                    assert_eq!(before.keys().collect::<Vec<_>>(), now.keys().collect::<Vec<_>>(), "{label}");
                    for (other, row) in &now {
                        let (mut old, mut row) = (before[other].clone(), row.clone());
                        if other == name || name == "." && other.is_empty() {
                            assert_eq!(row["sha256"], hash(&new), "{label}");
                        } else if !also.contains(other.as_str()) {
                            assert_eq!(old, row, "{label}: {other} changed, and nothing said so");
                            continue;
                        }
                        // an npz gets the array in rows
                        let is_npz = path.extension().is_some_and(|extension| extension == "npz");
                        for value in [&mut old, &mut row] {
                            value.as_object_mut().unwrap().remove("sha256");
                            if is_npz {
                                value.as_object_mut().unwrap().remove("stride");
                            }
                        }
                        assert_eq!(old, row, "{label}: {other}");
                    }
                    containers.insert(ckpt::open(&path).unwrap().checkpoint.container().name());
                    done += 1;
                    with_others += usize::from(!also.is_empty());
                }
                Err(e) => {
                    let text = e.to_string();
                    let known = [
                        "expanded view",
                        "do not lie in the pickle",
                        "lies in a byte string",
                        "belongs to its code",
                        "several files",
                        "cannot be edited",
                        "is no tensor",
                        "ambiguous",
                        "no element named",
                        "its checksum does not match",
                        "read as two types",
                    ];
                    let known = known.iter().find(|known| text.contains(**known));
                    let why = known.unwrap_or_else(|| panic!("{label}: {e}"));
                    *refusals.entry((*why).to_owned()).or_default() += 1;
                }
            }
        }
    }
    assert!(done > 400 && with_others > 20, "{done} set, {with_others} shared, {refusals:?}");
    for container in ["zip", "legacy", "tar", "pickle", "safetensors", "npz"] {
        assert!(containers.contains(container), "{container}: {containers:?} {refusals:?}");
    }
}

fn run(words: &[&str]) -> Run {
    run_with(ckpt().arg("edit").args(words), b"")
}

const STATE: &str = "torch-2.15-py311/cnn_state.pt";

/// `{file, a float32 array of that shape}` in a directory.
fn with_array(file: &str, shape: &[usize]) -> (tempfile::TempDir, String, String) {
    let dir = tempfile::tempdir().unwrap();
    let (path, array) = (dir.path().join("model.pt"), dir.path().join("x.npy"));
    fs::copy(testdata(file), &path).unwrap();
    let new = elements("float32", shape.iter().product(), 3);
    fs::write(&array, npy("float32", shape, &new, LAYOUTS[0])).unwrap();
    let text = |path: &Path| path.to_str().unwrap().to_owned();
    let (path, array) = (text(&path), text(&array));
    (dir, path, array)
}

#[test]
fn in_place_a_zip_grows_by_the_storage_that_changed() {
    let (_dir, path, array) = with_array(STATE, &[4]);
    let old = fs::read(&path).unwrap();
    let set = format!("features.0.bias={array}");
    let report = run(&[&path, "--in-place", "--set-tensor", &set, "--json"]).exits(0).json();
    let new = fs::read(&path).unwrap();
    assert_eq!(new[..old.len()], old);
    assert_eq!(report["bytes"], new.len() - old.len());
    let change = serde_json::json!({"operation": "set_tensor", "name": "features.0.bias", "to": null,
        "old": "float32 [4]", "new": "float32 [4]", "also": []});
    assert_eq!(report["changes"], Value::Array(vec![change]));
    let row = rows(&new).unwrap()["features.0.bias"].clone();
    assert_eq!(row["sha256"], hash(&elements("float32", 4, 3)));
    // the whole file written anew has the same elements, and the same members in the same places
    let out = format!("{path}.out");
    fs::write(&path, &old).unwrap();
    run(&[&path, "-o", &out, "--set-tensor", &set]).exits(0);
    let out = fs::read(&out).unwrap();
    assert_eq!(rows(&out), rows(&new));
    assert_eq!(out.len(), old.len());
    let differ = out.iter().zip(&old).filter(|(a, b)| a != b).count();
    assert!(differ <= 16 + 8 + 8, "{differ} bytes differ: elements, two checksums, versions in the end records");
}

#[test]
fn another_shape_only_where_it_is_asked_for_and_can_be() {
    let (_dir, path, array) = with_array(STATE, &[2, 3]);
    let out = format!("{path}.out");
    let set = format!("features.0.bias={array}");
    let refused = run(&[&path, "-o", &out, "--set-tensor", &set]).exits(2).stderr;
    assert!(refused.contains("is float32 [4], the new elements are float32 [2, 3]; --force-shape"), "{refused}");
    let old = fs::read(&path).unwrap();
    let before = rows(&old).unwrap();
    for how in [&["-o", &out][..], &["--in-place"]] {
        run(&[&[&path, "--force-shape", "--set-tensor", &set], how].concat()).exits(0);
        let now = rows(&fs::read(if how.len() == 1 { &path } else { &out }).unwrap()).unwrap();
        for (name, row) in &now {
            if name == "features.0.bias" {
                assert_eq!((&row["shape"], &row["stride"]), (&serde_json::json!([2, 3]), &serde_json::json!([3, 1])));
                assert_eq!(row["sha256"], hash(&elements("float32", 6, 3)));
            } else {
                assert_eq!(row, &before[name], "{name}");
            }
        }
        run_with(
            ckpt().args(["check", "--require", "weights-only"]).arg(if how.len() == 1 { &path } else { &out }),
            b"",
        )
        .exits(0);
    }
    let (_dir, path, array) = with_array("torch-2.15-py311/checkpoint.legacy.tar", &[2, 3]);
    let set = format!("model_state_dict.features.0.bias={array}");
    let refused = run(&[&path, "--dry-run", "--force-shape", "--set-tensor", &set]).exits(2).stderr;
    assert!(refused.contains("legacy file keeps its shape; make a zip of it first"), "{refused}");
}

#[test]
fn an_array_that_does_not_fit_is_refused_with_both_sides() {
    let (dir, path, array) = with_array(STATE, &[4]);
    let old = fs::read(&path).unwrap();
    let file = |name: &str, bytes: &[u8]| {
        let path = dir.path().join(name);
        fs::write(&path, bytes).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let doubles = file("d.npy", &npy("float64", &[4], &elements("float64", 4, 1), LAYOUTS[0]));
    let whole = fs::read(&array).unwrap();
    let cut = file("cut.npy", &whole[..whole.len() - 1]);
    let text = file("text.npy", b"hello, this is text");
    let objects = file(
        "objects.npy",
        b"\x93NUMPY\x01\x00\x37\x00{'descr': '|O', 'fortran_order': False, 'shape': (1,)}\n\x80\x02]q\x00K\x01a.",
    );
    for (set, said) in [
        (format!("features.0.bias={doubles}"), "is float32 [4], the new elements are float64 [4]"),
        (format!("features.0.bias={cut}"), "ends early"),
        (format!("features.0.bias={text}"), "is not an .npy file"),
        (format!("features.0.bias={objects}"), "no numbers"),
        (format!("features.0.bias={path}"), "is not an .npy file: detected zip"),
        (format!("features.0.bias={}", dir.path().join("nothing.npy").display()), "No such file"),
        (format!("features.0.bia={array}"), "no element named `features.0.bia`; did you mean"),
        (format!("features.0={array}"), "the beginning of several names"),
        (format!("features.1.num_batches_tracked={array}"), "is int64 [], the new elements are float32 [4]"),
        ("features.0.bias".to_owned(), "has no `=`; use --set-tensor NAME=FILE.npy"),
        ("features.0.bias=".to_owned(), "no file behind"),
        (format!("={array}"), "has no name"),
    ] {
        let run = run(&[&path, "--in-place", "--set-tensor", &set]).exits(2);
        assert!(run.stderr.contains(said) && run.stderr.lines().count() == 1, "{set}: {}", run.stderr);
        assert!(run.stderr.starts_with("ckpt: "), "{}", run.stderr);
        assert_eq!(fs::read(&path).unwrap(), old);
    }
}

#[test]
fn what_shares_memory_is_named() {
    let (_dir, path, array) = with_array("torch-2.15-py311/views.pt", &[1]);
    fs::write(&array, npy("float32", &[4, 6], &elements("float32", 24, 5), LAYOUTS[1])).unwrap();
    let said = run(&[&path, "--dry-run", "--set-tensor", &format!("base={array}")]).exits(0).stderr;
    assert!(
        said.contains("`rows`, `column`, `transposed`, `expanded` share memory with `base` and change too"),
        "{said}"
    );
    fs::write(&array, npy("float32", &[3, 6], &elements("float32", 18, 5), LAYOUTS[0])).unwrap();
    let said = run(&[&path, "--dry-run", "--set-tensor", &format!("expanded={array}")]).exits(2).stderr;
    assert!(said.contains("expanded: is an expanded view"), "{said}");
    fs::write(&array, npy("float32", &[2, 6], &elements("float32", 12, 5), LAYOUTS[0])).unwrap();
    let said = run(&[&path, "--dry-run", "--force-shape", "--set-tensor", &format!("base={array}")]).exits(2).stderr;
    assert!(said.contains("`base` shares its storage with `rows`"), "{said}");
}

#[test]
fn an_array_that_stands_as_text_in_the_pickle_is_refused() {
    // small numbers are the same bytes as text and as bytes, others are not
    let (_dir, path, array) = with_array("more/old_forms.legacy.pt", &[1]);
    fs::write(&array, npy("int32", &[4], &elements("int32", 4, 7), LAYOUTS[0])).unwrap();
    let old = fs::read(&path).unwrap();
    let said = run(&[&path, "--in-place", "--set-tensor", &format!("from_numpy={array}")]).exits(2).stderr;
    assert!(said.contains("do not lie in the pickle as they are"), "{said}");
    assert!(fs::read(&path).unwrap() == old);
}
