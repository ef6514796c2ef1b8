//! `ckpt extract` as a user runs it. What is printed is compared with what torch printed.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

fn testdata(name: &str) -> String {
    format!("{}/testdata/{name}", env!("CARGO_MANIFEST_DIR"))
}

fn ckpt(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_ckpt")).arg("extract").args(args).output().unwrap()
}

/// What a run that succeeds in silence writes to standard output.
fn stdout(args: &[&str]) -> String {
    let output = ckpt(args);
    assert_eq!(String::from_utf8_lossy(&output.stderr), "", "{args:?}");
    assert!(output.status.success(), "{args:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// The status and the error line of a run that fails without a word on standard output.
fn refused(args: &[&str]) -> (i32, String) {
    let output = ckpt(args);
    assert_eq!(String::from_utf8_lossy(&output.stdout), "", "{args:?}");
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(error.starts_with("ckpt: ") || error.starts_with("error: "), "{error}");
    (output.status.code().unwrap(), error)
}

fn expected_prints() -> BTreeMap<String, BTreeMap<String, String>> {
    serde_json::from_slice(&std::fs::read(testdata("prints/expected.json")).unwrap()).unwrap()
}

#[test]
fn tensors_are_printed_as_torch_prints_them() {
    let expected = expected_prints();
    assert!(expected.len() >= 100);
    let tensors = testdata("prints/tensors.pt");
    let mut wrong = Vec::new();
    for (name, prints) in &expected {
        for (kind, want) in prints {
            let full: &[&str] = if kind == "full" { &["--full"] } else { &[] };
            let got = ckpt(&[&[tensors.as_str(), name], full].concat());
            let text = String::from_utf8_lossy(&got.stdout).into_owned() + &String::from_utf8_lossy(&got.stderr);
            if text != *want {
                wrong.push(format!("{name} {kind}\n--- torch\n{want}--- ckpt\n{text}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), expected.len(), wrong.join("\n"));
}
