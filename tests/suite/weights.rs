//! Which part of a checkpoint is the weights: layouts of public training scripts, with what their loading code takes.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::collections::BTreeMap;
use std::fs;

use crate::driver::{ckpt, run, run_with, testdata};
use serde_json::Value;
use tempfile::TempDir;

fn expected() -> BTreeMap<String, Value> {
    serde_json::from_slice(&fs::read(testdata("weights/expected.json")).unwrap()).unwrap()
}

fn choices(row: &Value) -> Vec<&str> {
    row["choices"].as_array().map(|names| names.iter().map(|name| name.as_str().unwrap()).collect()).unwrap_or_default()
}

/// Names and hashes of the tensors of a file.
fn contents(file: &str) -> BTreeMap<String, Value> {
    let listed = run_with(ckpt().args(["ls", "--json", "--hash", file]), b"").exits(0).json();
    let rows = listed["tensors"].as_array().unwrap().clone();
    rows.into_iter().map(|row| (row["name"].as_str().unwrap().to_owned(), row["sha256"].clone())).collect()
}

#[test]
fn convert_takes_what_the_loading_code_takes() {
    let out = TempDir::new().unwrap();
    let out = out.path().join("out.npz").display().to_string();
    let rows = expected();
    assert!(rows.len() > 70);
    for (file, row) in rows {
        let Some(root) = row["root"].as_str() else { continue };
        let run = run(&format!("convert --force --json weights/{file} {out}")).exits(0);
        assert_eq!(run.json()["weights"], root, "{file}");
        let wanted: BTreeMap<String, Value> = serde_json::from_value(row["tensors"].clone()).unwrap();
        assert_eq!(contents(&out), wanted, "{file}");
        let said = format!("ckpt: weights/{file}: weights: {root}, {} tensor", wanted.len());
        assert_eq!(run.stderr.contains(&said), root != ".", "{file}: {}", run.stderr);
    }
}

#[test]
fn whole_sets_are_listed_where_somebody_has_to_choose() {
    let out = TempDir::new().unwrap();
    let out = out.path().join("out.npz").display().to_string();
    for (file, row) in expected() {
        let choices = choices(&row);
        if choices.is_empty() {
            continue;
        }
        let run = run(&format!("convert weights/{file} {out}")).exits(2);
        // as a shell takes them
        let quoted = |name: &str| if name.contains(' ') { format!("'{name}'") } else { name.to_owned() };
        let shown: Vec<String> = choices.iter().map(|name| format!("--root {}", quoted(name))).collect();
        let wanted = format!("several sets of weights; choose {}, or --root . for everything", shown.join(", "));
        assert!(run.stderr.contains(&wanted), "{file}: {}", run.stderr);
        assert!(!fs::exists(&out).unwrap());
        for choice in choices.iter().chain(&["."]) {
            let input = format!("weights/{file}");
            run_with(ckpt().args(["convert", "--root", choice, &input, &out]), b"").exits(0);
            fs::remove_file(&out).unwrap();
        }
    }
}

#[test]
fn what_has_another_role_is_no_weights_but_can_be_had() {
    let out = TempDir::new().unwrap();
    let out = out.path().join("out.npz").display().to_string();
    let rows = expected();
    let nothing: Vec<&String> =
        rows.iter().filter(|(_, row)| row.as_object().unwrap().is_empty()).map(|row| row.0).collect();
    assert!(nothing.len() >= 6);
    for file in nothing {
        let run = run(&format!("convert weights/{file} {out}")).exits(2);
        assert!(run.stderr.contains("; --root . takes them all\n"), "{file}: {}", run.stderr);
        crate::driver::run(&format!("convert --root . weights/{file} {out}")).exits(0);
        let all = contents(&format!("weights/{file}")).len();
        assert_eq!(contents(&out).len(), all, "{file}");
        fs::remove_file(&out).unwrap();
    }
}

#[test]
fn diff_compares_the_same_part() {
    for (file, row) in expected() {
        let run = run(&format!("diff --load weights/{file} weights/{file}"));
        let status = if row["root"].is_string() { 0 } else { 2 };
        assert_eq!(run.status, status, "{file}: {}", run.stderr);
        for choice in choices(&row) {
            assert!(run.stderr.contains(choice) && run.stderr.contains("--root-a "), "{file}: {}", run.stderr);
        }
    }
}
