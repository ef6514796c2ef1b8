//! `ckpt strip-prefix`: names as torch's own helper gives them, everything else as torch's oracles have it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // helpers of tests are tests

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::driver::{Run, ckpt, for_each, run_with, testdata};
use ckpt::checkpoint::Checkpoint;
use ckpt::limits::Limits;
use ckpt::progress::Silent;
use ckpt::source::FileSource;
use serde_json::{Value, json};

const STATE: &str = "torch-2.15-py311/dataparallel_state.pth";
const COMPILED: &str = "frameworks/compiled_state.pt";
const CHECKPOINT: &str = "torch-2.15-py311/checkpoint.tar";

fn strip(words: &str) -> Run {
    run_with(ckpt().arg("strip-prefix").args(words.split_whitespace()), b"")
}

fn strip_into(words: &str, output: &Path) -> Run {
    run_with(ckpt().arg("strip-prefix").args(words.split_whitespace()).arg("-o").arg(output), b"")
}

fn listing(path: &Path) -> Value {
    run_with(ckpt().args(["ls", "--json", "--hash"]).arg(path), b"").exits(0).json()
}

/// Path, dtype, shape and digest of each tensor, in order; of an oracle or a listing.
fn tensors(of: &Value) -> Vec<Value> {
    let rows = of["tensors"].as_array().unwrap().iter();
    rows.map(|row| json!([row["path"], row["dtype"], row["shape"], row["stride"], row["sha256"]])).collect()
}

fn oracle(file: &str) -> Value {
    serde_json::from_slice(&fs::read(testdata(&format!("{file}.json"))).unwrap()).unwrap()
}

/// The oracle's tensors with `prefix` removed from the last element of their paths.
fn stripped(file: &str, prefix: &str) -> Vec<Value> {
    let mut rows = tensors(&oracle(file));
    for row in &mut rows {
        let last = row[0].as_array_mut().unwrap().last_mut().unwrap();
        if let Some(rest) = last.as_str().and_then(|name| name.strip_prefix(prefix)) {
            *last = json!(rest);
        }
    }
    rows
}

/// The keys of the top object's `_metadata` with the version each has.
fn metadata(path: &Path) -> Vec<(String, String)> {
    let source = Arc::new(FileSource::open(path).unwrap());
    let checkpoint = Checkpoint::open(source, &Limits::default(), &Silent).unwrap();
    let objects = checkpoint.objects();
    let found = objects.attribute(checkpoint.root, "_metadata").unwrap();
    let items = objects.items(found).unwrap().into_iter();
    items.map(|item| (checkpoint.graph.str(item.key).unwrap().into_owned(), objects.repr(item.value, 100))).collect()
}

fn every_dataparallel_state() -> Vec<String> {
    let mut found = Vec::new();
    for dir in fs::read_dir(testdata("")).unwrap().map(|dir| dir.unwrap()) {
        let files = fs::read_dir(dir.path()).into_iter().flatten().map(|file| file.unwrap().file_name());
        let names = files.map(|name| name.into_string().unwrap());
        let states = names.filter(|name| name.starts_with("dataparallel_state") && name.ends_with(".pth"));
        found.extend(states.map(|name| format!("{}/{name}", dir.file_name().into_string().unwrap())));
    }
    assert!(found.len() >= 6, "{found:?}");
    found
}

#[test]
fn the_names_of_every_torch_and_container_lose_their_prefix() {
    for_each(&every_dataparallel_state(), |file| {
        let dir = tempfile::tempdir().unwrap();
        let output = dir.path().join("out.pth");
        let run = strip_into(&format!("module. {file}"), &output);
        if run.status != 0 || !run.stdout.is_empty() {
            return Err(format!("{file}: {run:?}"));
        }
        if tensors(&listing(&output)) != stripped(file, "module.") {
            return Err(format!("{file}: other tensors"));
        }
        // torch.nn.modules.utils.consume_prefix_in_state_dict_if_present: `module` takes the place of ``
        let found: Vec<String> = metadata(&output).into_iter().map(|(path, _)| path).collect();
        let wanted: Vec<String> = metadata(&testdata(file)).into_iter().map(|(path, _)| path).collect();
        let wanted: Vec<&str> = wanted
            .iter()
            .filter(|path| *path != "module")
            .map(|path| path.strip_prefix("module.").unwrap_or(path))
            .collect();
        if found != wanted || !found.iter().any(|path| path == "features.0") {
            return Err(format!("{file}: _metadata {found:?}"));
        }
        Ok(())
    });
}

#[test]
fn state_dicts_in_a_checkpoint_change_and_optimizers_do_not() {
    let dir = tempfile::tempdir().unwrap();
    let (nested, back) = (dir.path().join("nested.tar"), dir.path().join("back.tar"));
    let rename = ["rename", CHECKPOINT, "--add-prefix", "_orig_mod.module.", "-o"];
    run_with(ckpt().args(rename).arg(&nested), b"").exits(0);
    let names = listing(&nested);
    let of = |part: &str| {
        let rows = names["tensors"].as_array().unwrap().iter().map(|row| row["name"].as_str().unwrap().to_owned());
        rows.filter(|name| name.starts_with(part)).collect::<Vec<_>>()
    };
    assert!(of("model_state_dict").iter().all(|name| name.starts_with("model_state_dict._orig_mod.module.")));
    assert!(of("optimizer_state_dict").iter().any(|name| name == "optimizer_state_dict.state.0.exp_avg"));
    let words = format!("_orig_mod.module. {} --json", nested.display());
    let report = strip_into(&words, &back).exits(0).json();
    assert_eq!(report["schema"], "ckpt.rename/1");
    assert_eq!(report["state_dicts"], 1);
    assert_eq!(report["renamed"].as_array().unwrap().len(), of("model_state_dict").len());
    assert_eq!(
        report["renamed"][0],
        json!({"in": "model_state_dict", "old": "_orig_mod.module.steps", "new": "steps"})
    );
    assert_eq!(report["output"], back.to_str().unwrap());
    assert_eq!(report["bytes"], fs::metadata(&back).unwrap().len());
    assert_eq!(report["in_place"], false);
    let (found, wanted) = (listing(&back), listing(&testdata(CHECKPOINT)));
    assert_eq!((tensors(&found), &found["values"]), (tensors(&oracle(CHECKPOINT)), &wanted["values"]));
}

#[test]
fn several_state_dicts_change_or_only_the_root() {
    let dir = tempfile::tempdir().unwrap();
    let (both, one) = (dir.path().join("both.pt"), dir.path().join("one.pt"));
    let file = "torch-2.15-py311/multi_model.pt";
    run_with(ckpt().args(["rename", file, "--add-prefix", "m.", "-o"]).arg(&both), b"").exits(0);
    let path = both.to_str().unwrap();
    let report = strip(&format!("m. {path} --dry-run --json")).exits(0).json();
    let within = |report: &Value| {
        let rows = report["renamed"].as_array().unwrap().iter().map(|row| row["in"].as_str().unwrap().to_owned());
        rows.collect::<std::collections::BTreeSet<_>>()
    };
    assert_eq!(within(&report), ["modelA_state_dict", "modelB_state_dict"].map(str::to_owned).into());
    assert_eq!(report["output"], Value::Null);
    strip_into(&format!("m. {path} --root modelB_state_dict"), &one).exits(0);
    let names = run_with(ckpt().args(["ls", "--names", "--tensors"]).arg(&one), b"").exits(0);
    assert!(
        names.text().contains("modelA_state_dict.m.fc.weight")
            && names.text().contains("\nmodelB_state_dict.fc.weight")
    );
    let chosen = strip(&format!("m. {path} --dry-run --json --include *fc.weight --exclude modelA*")).exits(0).json();
    assert_eq!(chosen["renamed"], json!([{"in": "modelB_state_dict", "old": "m.fc.weight", "new": "fc.weight"}]));
}

#[test]
fn anywhere_looks_inside_names() {
    let dir = tempfile::tempdir().unwrap();
    let output = dir.path().join("inside.pt");
    run_with(ckpt().args(["rename", COMPILED, "--add-prefix", "model.", "-o"]).arg(&output), b"").exits(0);
    let path = output.display();
    let without = strip(&format!("_orig_mod. {path} --dry-run")).exits(1);
    assert!(without.stderr.contains("--anywhere"), "{}", without.stderr);
    let lines = strip(&format!("_orig_mod. {path} --dry-run --anywhere")).exits(0);
    let first: Vec<&str> = lines.lines()[0].split_whitespace().collect();
    let ["->", new] = first[1..] else { panic!("{first:?}") };
    assert_eq!(first[0].replace("_orig_mod.", ""), new);
    assert!(first[0].starts_with("model._orig_mod."));
}

#[test]
fn nothing_matched_is_the_answer_no() {
    let dir = tempfile::tempdir().unwrap();
    let output = dir.path().join("out.pth");
    let run = strip_into(&format!("_orig_mod. {STATE}"), &output).exits(1);
    assert!(run.stderr.contains("13 names begin with `module.`"), "{}", run.stderr);
    assert!(run.stdout.is_empty() && !output.exists());
    let report = strip_into(&format!("_orig_mod. {STATE} --json"), &output).exits(1).json();
    assert_eq!(report["renamed"], json!([]));
    // but with --if-present the input passes through
    strip_into(&format!("_orig_mod. {STATE} --if-present"), &output).exits(0);
    assert_eq!(fs::read(&output).unwrap(), fs::read(testdata(STATE)).unwrap());
    // every known prefix is hinted at
    let hint = strip(&format!("module. {COMPILED} --dry-run")).exits(1);
    assert!(hint.stderr.contains("begin with `_orig_mod.`"), "{}", hint.stderr);
    strip("module. torch-2.15-py311/bare_tensor.pt --dry-run").exits(1);
}

#[test]
fn a_filter_from_standard_input_to_standard_output() {
    let input = fs::read(testdata(STATE)).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let output = dir.path().join("out.pth");
    let piped = run_with(ckpt().args(["strip-prefix", "module."]), &input).exits(0);
    strip_into(&format!("module. {STATE}"), &output).exits(0);
    assert!(piped.stdout == fs::read(&output).unwrap());
    assert!(piped.stderr.contains("renamed 13 names in 1 state dict (module.steps -> steps, …)"), "{}", piped.stderr);
    assert!(run_with(ckpt().args(["strip-prefix", "-q", "module."]), &input).exits(0).stderr.is_empty());
    run_with(ckpt().args(["strip-prefix", "module.", "--json"]), &input).exits(2);
    let passed = run_with(ckpt().args(["strip-prefix", "x.", "--if-present"]), &input).exits(0);
    assert!(passed.stdout == input);
}

#[test]
fn what_is_refused() {
    let says = |words: &str, why: &str| {
        let run = strip(words).exits(2);
        assert!(run.stderr.contains(why), "{words}: {}", run.stderr);
        assert_eq!(run.stderr.lines().count(), 1, "{}", run.stderr);
    };
    says(&format!("module. {STATE}"), "use -o OUTPUT or --in-place");
    says("module. torch-2.15-py311/dataparallel_full.pth --dry-run", "convert --state-dict");
    says("module. torch-2.15-py311/scripted.pt --dry-run", "convert --state-dict");
    says("module. - --in-place", "standard input");
    says(&format!("module. {STATE} --root nowhere --dry-run"), "no element named `nowhere` (--root)");
    let empty = run_with(ckpt().args(["strip-prefix", "", STATE, "--dry-run"]), b"").exits(2);
    assert!(empty.stderr.contains("the prefix is empty"), "{}", empty.stderr);
    let dir = tempfile::tempdir().unwrap();
    let output = dir.path().join("out.pth");
    fs::write(&output, "mine").unwrap();
    let exists = strip_into(&format!("module. {STATE}"), &output).exits(2);
    assert!(exists.stderr.contains("--force") && fs::read(&output).unwrap() == b"mine");
    strip_into(&format!("module. {STATE} --force"), &output).exits(0);
}

/// `{key: numpy scalar array}` in a plain pickle: each key is an opcode's bytes.
fn plain(keys: &[&[u8]], after: &[u8]) -> Vec<u8> {
    let array = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\nK\x00\x85U\x01btR(K\x01)cnumpy\ndtype\n\
        (U\x02u1K\x00K\x01tR(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89U\x01\x07tb";
    let mut pickle = b"\x80\x02}(".to_vec();
    for key in keys {
        pickle.extend(*key);
        pickle.extend(array);
    }
    pickle.extend(after);
    pickle.extend(b"u.");
    pickle
}

fn key(text: &str) -> Vec<u8> {
    [b"X", &u32::try_from(text.len()).unwrap().to_le_bytes()[..], text.as_bytes()].concat()
}

fn strip_plain(prefix: &str, pickle: &[u8]) -> Run {
    run_with(ckpt().args(["strip-prefix", prefix]), pickle)
}

#[test]
fn a_string_that_is_key_and_value_changes_as_key_only() {
    let memoised = [&key("m.a")[..], b"q\x01"].concat();
    let after = [&key("name")[..], b"h\x01"].concat();
    let run = strip_plain("m.", &plain(&[&memoised], &after)).exits(0);
    let wanted = plain(&[&[&key("a")[..], b"q\x01"].concat()], &[key("name"), key("m.a")].concat());
    assert_eq!(run.stdout, wanted);
}

#[test]
fn keys_of_bytes_and_integers_stay() {
    let keys = [&key("m.a")[..], b"C\x03m.b", b"K\x07", b"U\x03m.c"];
    let run = strip_plain("m.", &plain(&keys, b"")).exits(0);
    assert_eq!(run.stdout, plain(&[&key("a"), b"C\x03m.b", b"K\x07", b"U\x01c"], b""));
}

#[test]
fn a_prefix_may_be_the_whole_key_and_any_unicode() {
    let run = strip_plain("模块.", &plain(&[&key("模块."), &key("模块.é")], b"")).exits(0);
    assert_eq!(run.stdout, plain(&[&key(""), &key("é")], b""));
    // a lone surrogate keeps its bytes
    let lone = b"X\x05\x00\x00\x00m.\xed\xa0\x80";
    let run = strip_plain("m.", &plain(&[lone], b"")).exits(0);
    assert_eq!(run.stdout, plain(&[b"X\x03\x00\x00\x00\xed\xa0\x80"], b""));
    // Latin-1 text of Python 2 stays Latin-1
    let run = strip_plain("é.", &plain(&[b"U\x03\xe9.\xe8"], b"")).exits(0);
    assert_eq!(run.stdout, plain(&[b"U\x01\xe8"], b""));
}

#[test]
fn two_keys_that_would_become_one_are_refused() {
    let run = strip_plain("m.", &plain(&[&key("m.a"), &key("a")], b"")).exits(2);
    assert!(run.stderr.contains("m.a and a would both become a"), "{}", run.stderr);
    assert!(run.stdout.is_empty());
    // one key assigned twice is one key
    let run = strip_plain("m.", &plain(&[&key("m.a"), &key("m.a")], b"")).exits(0);
    assert_eq!(run.stdout, plain(&[&key("a"), &key("a")], b""));
}

#[test]
fn compressed_input_comes_out_uncompressed_and_is_said_to() {
    let dir = tempfile::tempdir().unwrap();
    let (input, output) = (dir.path().join("in.gz"), dir.path().join("out.pth"));
    let mut gzip = flate2::write::GzEncoder::new(fs::File::create(&input).unwrap(), flate2::Compression::fast());
    std::io::Write::write_all(&mut gzip, &fs::read(testdata(STATE)).unwrap()).unwrap();
    gzip.finish().unwrap();
    let run = strip_into(&format!("module. {}", input.display()), &output).exits(0);
    assert!(run.stderr.contains("is compressed (gzip)"), "{}", run.stderr);
    assert_eq!(tensors(&listing(&output)), stripped(STATE, "module."));
    let before = fs::read(&input).unwrap();
    strip(&format!("module. {} --in-place", input.display())).exits(2);
    assert_eq!(fs::read(&input).unwrap(), before);
}

/// The files of testdata that hold a state dict, with their containers.
fn every_file() -> Vec<PathBuf> {
    let mut found = Vec::new();
    for dir in ["frameworks", "more", "python2", "tar", "torch-1.0-py27", "torch-2.15-py311"] {
        let files = fs::read_dir(testdata(dir)).unwrap().map(|file| file.unwrap().path());
        found.extend(files.filter(|file| file.is_file() && file.extension().is_none_or(|ext| ext != "json")));
    }
    found
}

#[test]
fn a_prefix_added_and_removed_again_leaves_every_file_as_it_was() {
    let containers = std::sync::Mutex::new(BTreeMap::new());
    for_each(&every_file(), |file| {
        let dir = tempfile::tempdir().unwrap();
        let (there, back) = (dir.path().join("there"), dir.path().join("back"));
        let added = run_with(ckpt().args(["rename", "--add-prefix", "x.y."]).arg(file).arg("-o").arg(&there), b"");
        match added.status {
            0 => {}
            // no state dict in it, or modules pickled whole, TorchScript, torch.export
            1 => return Ok(()),
            _ if added.stderr.contains("convert --state-dict") => return Ok(()),
            _ => return Err(added.stderr),
        }
        let removed = run_with(ckpt().args(["strip-prefix", "x.y."]).arg(&there).arg("-o").arg(&back), b"");
        let facts = |path: &Path| {
            let mut facts = listing(path);
            for changed in ["file", "bytes", "compression"] {
                facts.as_object_mut().unwrap().remove(changed);
            }
            facts
        };
        let (before, after) = (facts(file), if removed.status == 0 { facts(&back) } else { Value::Null });
        *containers.lock().unwrap().entry(before["container"].as_str().unwrap().to_owned()).or_insert(0) += 1;
        if before == after { Ok(()) } else { Err(format!("{}: {}", file.display(), removed.stderr)) }
    });
    let containers = containers.into_inner().unwrap();
    let kinds: Vec<&str> = containers.keys().map(String::as_str).collect();
    assert_eq!(kinds, ["legacy", "npz", "pickle", "safetensors", "tar", "zip"], "{containers:?}");
}
