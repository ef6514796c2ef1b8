//! What `ckpt convert` says of what it leaves out, restores and takes apart, and what `--save-values` keeps.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::fs;

use crate::driver::{Run, ckpt, names_of, run_with};
use serde_json::{Value, json};
use tempfile::TempDir;

/// Converts `input` into `name` of a folder, with options.
fn convert(dir: &TempDir, input: &str, name: &str, more: &[&str]) -> Run {
    let out = dir.path().join(name).display().to_string();
    run_with(ckpt().args(["convert", "--force", input, &out]).args(more), b"").exits(0)
}

fn pickle_of(dir: &TempDir, name: &str) -> Vec<u8> {
    let out = dir.path().join(name);
    fs::read(out).unwrap()
}

fn holds(bytes: &[u8], text: &str) -> bool {
    bytes.windows(text.len()).any(|window| window == text.as_bytes())
}

#[test]
fn attributes_of_a_state_dict_that_weights_only_refuses_are_left_out_by_name() {
    let dir = TempDir::new().unwrap();
    let run = convert(&dir, "convert/attribute.pt", "x.pt", &["--state-dict", "--json"]);
    assert!(run.stderr.contains("left out: model.origin, epoch\n"), "{}", run.stderr);
    let names: Vec<Value> =
        run.json()["left_out"].as_array().unwrap().iter().map(|left| left["name"].clone()).collect();
    assert_eq!(json!(names), json!(["model.origin", "epoch"]));
    // what torch left on it stays
    let written = pickle_of(&dir, "x.pt");
    assert!(holds(&written, "_metadata") && !holds(&written, "fractions"));
    let run = convert(&dir, "convert/odd_metadata.pt", "x.pt", &["--state-dict"]);
    assert!(run.stderr.contains("left out: _metadata\n"), "{}", run.stderr);
    let written = pickle_of(&dir, "x.pt");
    assert!(!holds(&written, "_metadata") && !holds(&written, "fractions"));
    // the whole object keeps it
    let run = convert(&dir, "convert/attribute.pt", "x.pt", &[]);
    assert!(!run.stderr.contains("left out"), "{}", run.stderr);
    assert!(holds(&pickle_of(&dir, "x.pt"), "fractions"));
}

#[test]
fn saved_values_are_those_that_were_chosen() {
    let dir = TempDir::new().unwrap();
    let values = dir.path().join("values.json");
    let cases: &[(&[&str], Value)] = &[
        (&[], json!({"cfg.a": 1, "cfg.b": 2, "epoch": 3, "model.lr": 0.1, "model.note": "x"})),
        (&["--exclude", "cfg"], json!({"epoch": 3, "model.lr": 0.1, "model.note": "x"})),
        (&["--exclude", "cfg.a"], json!({"cfg.b": 2, "epoch": 3, "model.lr": 0.1, "model.note": "x"})),
        (&["--exclude", "note"], json!({"cfg.a": 1, "cfg.b": 2, "epoch": 3, "model.lr": 0.1})),
        (&["--drop", "cfg", "--drop", "epoch"], json!({"model.lr": 0.1, "model.note": "x"})),
        (&["--include", "w", "--include", "lr"], json!({"cfg.a": 1, "cfg.b": 2, "epoch": 3, "model.lr": 0.1})),
        (&["--include", "w", "--include", "epoch"], json!({"epoch": 3})),
    ];
    for (more, want) in cases {
        let path = values.display().to_string();
        convert(&dir, "convert/values.pt", "x.npz", &[&["--save-values", &path][..], more].concat());
        let saved: Value = serde_json::from_slice(&fs::read(&values).unwrap()).unwrap();
        assert_eq!(saved, *want, "{more:?}");
    }
}

#[test]
fn a_wrapper_is_chosen_by_its_name() {
    let dir = TempDir::new().unwrap();
    for (more, want) in [(["--include", "a"], "a"), (["--exclude", "a"], "b"), (["--drop", "a"], "b")] {
        let run = convert(&dir, "convert/two_wrappers.pt", "x.npz", &more);
        let written =
            format!("written as the tensors that they wrap: {want} (MaskedTensor: _masked_data, _masked_mask)\n");
        assert!(run.stderr.contains(&written), "{more:?}: {}", run.stderr);
        let out = dir.path().join("x.npz").display().to_string();
        let listed = run_with(ckpt().args(["ls", "--json", &out]), b"").exits(0).json();
        assert_eq!(names_of(&listed["tensors"]), [format!("{want}._masked_data"), format!("{want}._masked_mask")]);
    }
}

#[test]
fn restored_aliases_are_named() {
    let dir = TempDir::new().unwrap();
    let said = "views.safetensors: restored from __metadata__, each with the shape of the tensor it stands for (if it was \
                part of that, its own shape is lost): row = weight\n";
    for (name, more) in
        [("x.pt", &[][..]), ("x.npz", &[]), ("x.pt", &["--state-dict"]), ("x.safetensors", &["--shared", "duplicate"])]
    {
        let run = convert(&dir, "convert/views.safetensors", name, more);
        assert!(run.stderr.contains(said), "{name}: {}", run.stderr);
    }
    // an alias stays one
    let run = convert(&dir, "convert/views.safetensors", "x.safetensors", &[]);
    assert!(!run.stderr.contains("restored"), "{}", run.stderr);
    // and one that is not chosen is not restored
    let run = convert(&dir, "convert/views.safetensors", "x.pt", &["--exclude", "row"]);
    assert!(!run.stderr.contains("restored"), "{}", run.stderr);
    let run = run_with(ckpt().args(["convert", "--help"]), b"").exits(0);
    assert!(
        run.text().split_whitespace().collect::<Vec<_>>().join(" ").contains("cannot be told apart"),
        "{}",
        run.text()
    );
}

#[test]
fn an_option_without_effect_is_told() {
    let dir = TempDir::new().unwrap();
    for how in ["drop", "duplicate", "error"] {
        let run = convert(&dir, "round_trips/tied.pt", "x.pt", &["--shared", how]);
        assert!(run.stderr.contains("--shared has no effect on torch's formats"), "{}", run.stderr);
    }
    assert_eq!(convert(&dir, "round_trips/tied.pt", "x.pt", &[]).stderr, "");
}

/// The names that systems have for standard output.
#[cfg(unix)]
#[test]
fn standard_output_by_its_names() {
    let convert = |output: &str| {
        let words = format!("convert torch-2.15-py311/cnn_state.pt --to safetensors -o {output}");
        crate::driver::run(&words).exits(0).stdout
    };
    let wanted = convert("-");
    assert!(wanted.len() > 100);
    for name in ["/dev/stdout", "/dev/fd/1", "/proc/self/fd/1"] {
        assert_eq!(convert(name), wanted, "{name}");
    }
}
