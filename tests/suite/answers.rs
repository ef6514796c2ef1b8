//! What commands answer when they cannot do what was asked: one line that names the cause, and the exit status for it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // it is a test

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use crate::driver::{run, testdata};

const MODEL: &str = "torch-2.15-py311/dataparallel_state.pth";

#[test]
fn urls_are_not_written_to() {
    for words in [
        "repair https://host/model.pth --in-place",
        &format!("convert {MODEL} s3://bucket/out.pth"),
        &format!("rename {MODEL} --add-prefix net. -o s3://bucket/out.pth"),
        &format!("convert {MODEL} s3://bucket/shards --max-shard-size 1MB --to safetensors"),
        "rename layouts/sharded_tied --add-prefix net. -o s3://bucket/shards",
        &format!("extract {MODEL} -o s3://bucket/tensors.npz"),
        &format!("extract {MODEL} -o s3://bucket/tensors/ --to npy"),
    ] {
        let run = run(words).exits(2);
        assert!(run.stderr.contains("://") && run.stderr.contains("is an address"), "{words}: {}", run.stderr);
    }
}

#[test]
fn what_is_no_url_is_a_missing_file() {
    for name in ["C://model.pth", "://model.pth", "folder/https://host", "model.pth"] {
        let run = run(&format!("ls {name}")).exits(2);
        assert!(run.stderr.contains("No such file"), "{name}: {}", run.stderr);
    }
}

type Names = BTreeMap<String, BTreeSet<String>>;

#[test]
fn states_of_devices_and_optimizers_keep_their_keys() {
    let expected: BTreeMap<String, Names> =
        serde_json::from_slice(&fs::read(testdata("answers/expected.json")).unwrap()).unwrap();
    for (file, wanted) in expected {
        let report = run(&format!("rename answers/{file} --add-prefix net. --dry-run --json")).exits(0).json();
        let mut found = Names::new();
        for row in report["renamed"].as_array().unwrap() {
            let text = |key: &str| row[key].as_str().unwrap().to_owned();
            found.entry(text("in")).or_default().insert(text("old"));
        }
        assert_eq!(found, wanted, "{file}");
    }
}

#[test]
fn a_module_beside_a_state_dict_is_no_reason() {
    let run = run("strip-prefix module. answers/module_beside.pt -o out.pt").exits(1);
    let (about_module, why) = run.stderr.trim_end().split_once('\n').unwrap();
    assert!(about_module.contains("criterion is left unchanged"), "{about_module}");
    assert!(why.contains("no name begins with") && why.contains("0.weight"), "{why}");
    // with nothing but a module, it is
    let whole = crate::driver::run("strip-prefix module. torch-2.15-py311/dataparallel_full.pth -o out.pt").exits(2);
    assert!(whole.stderr.contains("a module pickled whole"), "{}", whole.stderr);
    let passed =
        crate::driver::run("strip-prefix module. torch-2.15-py311/dataparallel_full.pth --if-present").exits(2);
    assert!(passed.stderr.contains("no output given"), "{}", passed.stderr);
    let passed =
        crate::driver::run("strip-prefix module. torch-2.15-py311/dataparallel_full.pth --if-present --dry-run");
    assert!(passed.exits(0).stderr.contains("a module pickled whole"));
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_is_named_as_standard_output() {
    for words in [
        format!("ls {MODEL}"),
        format!("ls --json {MODEL}"),
        format!("check {MODEL}"),
        format!("diff {MODEL} answers/devices.pt"),
        format!("extract {MODEL}"),
        format!("extract {MODEL} --json"),
        format!("rename {MODEL} --add-prefix net. --dry-run"),
        format!("strip-prefix module. {MODEL} -o -"),
        "completions bash".to_owned(),
        "man ls".to_owned(),
        "ls --help".to_owned(),
        "--version".to_owned(),
    ] {
        let full = fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
        let run = crate::driver::ckpt().args(words.split(' ')).stdout(full).output().unwrap();
        let told = String::from_utf8(run.stderr).unwrap();
        assert_eq!(run.status.code(), Some(2), "{words}: {told}");
        assert!(told.starts_with("ckpt: ") && told.contains("standard output: No space left"), "{words}: {told}");
    }
}

/// With `--json` no input vanishes, whatever the command.
#[test]
fn inputs_that_cannot_be_used_are_lines_of_json() {
    let dir = crate::driver::Dir::new();
    let out = dir.path("out.pt");
    for (command, file) in [
        (format!("merge --json a=nope.pt {MODEL} -o {out}"), "a=nope.pt"),
        (format!("merge --json nope.pt -o {out}"), "nope.pt"),
        (format!("edit --json nope.pt --set a=1 -o {out}"), "nope.pt"),
        (format!("edit --json layouts/dcp_mesh --set a=1 -o {out}"), "layouts/dcp_mesh"),
        (format!("edit --json layouts/dcp_mesh --set a=1 --in-place"), "layouts/dcp_mesh"),
    ] {
        let line = run(&command).exits(2).json();
        assert_eq!((&line["schema"], &line["file"]), (&"ckpt.error/1".into(), &file.into()), "{command}");
    }
}
