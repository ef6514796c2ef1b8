//! What `ckpt convert` must bring through whole: `__metadata__` of safetensors and its aliases, plain state dicts, shards.
//! What torch and the safetensors library say of each file is in `testdata/round_trips/expected.json`.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::collections::BTreeMap;
use std::fs;

use serde_json::{Value, json};

use crate::driver::{Dir, Run, ckpt, run_with, testdata};

fn expected(file: &str) -> Value {
    let text = fs::read_to_string(testdata("round_trips/expected.json")).unwrap();
    serde_json::from_str::<Value>(&text).unwrap()[file].take()
}

fn run(args: &[&str]) -> Run {
    run_with(ckpt().args(args), b"")
}

#[track_caller]
fn ok(args: &[&str]) -> String {
    run(args).exits(0).stderr
}

fn list(path: &str) -> Value {
    run(&["ls", "--json", "--hash", path]).exits(0).json()
}

fn names(path: &str) -> Vec<String> {
    crate::driver::names_of(&list(path)["tensors"])
}

/// Dtype and hash of each tensor.
fn facts(path: &str) -> Value {
    let listed = list(path);
    let rows = listed["tensors"].as_array().unwrap().iter();
    rows.map(|row| (row["name"].as_str().unwrap().to_owned(), json!([row["dtype"], row["sha256"]]))).collect()
}

/// `__metadata__` as it stands in a safetensors file.
fn metadata(path: &str) -> Value {
    let bytes = fs::read(testdata("").join(path)).unwrap();
    let len = usize::try_from(u64::from_le_bytes(bytes[..8].try_into().unwrap())).unwrap();
    safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let header: Value = serde_json::from_slice(&bytes[8..8 + len]).unwrap();
    header["__metadata__"].clone()
}

const KOHYA: &str = "round_trips/kohya.safetensors";
const TIED: &str = "round_trips/tied.safetensors";

#[test]
fn metadata_survives_every_way_to_safetensors() {
    let dir = Dir::new();
    let want = expected("kohya.safetensors")["metadata"].clone();
    let out = |name: &str| dir.path(name);
    ok(&["convert", KOHYA, &out("a.safetensors")]);
    ok(&["convert", KOHYA, &out("half.safetensors"), "--dtype", "half", "--exclude", "a.bias"]);
    ok(&["rename", KOHYA, "--add-prefix", "m.", "-o", &out("b.safetensors")]);
    ok(&["strip-prefix", "b.", KOHYA, "-o", &out("c.safetensors")]);
    ok(&["extract", KOHYA, "b.weight", "-o", &out("d.safetensors")]);
    for name in ["a", "half", "b", "c", "d"] {
        assert_eq!(metadata(&out(&format!("{name}.safetensors"))), want, "{name}");
    }
    ok(&["convert", KOHYA, &out("shards"), "--to", "safetensors", "--max-shard-size", "8B"]);
    for shard in ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"] {
        assert_eq!(metadata(&out(&format!("shards/{shard}"))), want, "{shard}");
    }
    // and out of shards
    ok(&["convert", &out("shards"), &out("merged.safetensors")]);
    assert_eq!((metadata(&out("merged.safetensors")), facts(&out("merged.safetensors"))), (want, facts(KOHYA)));
}

#[test]
fn elsewhere_metadata_is_a_note_and_no_key() {
    let dir = Dir::new();
    for out in ["x.pt", "x.npz", "dict.pt", "old.bin"].map(|name| dir.path(name)) {
        let mut args = vec!["convert", "--json", KOHYA, &out];
        args.extend(out.ends_with("dict.pt").then_some("--state-dict"));
        args.extend(out.ends_with("old.bin").then_some("--to=torch-legacy"));
        // numpy has no bfloat16
        args.extend(out.ends_with("npz").then_some("--dtype=float32"));
        let done = run(&args).exits(0);
        assert!(done.stderr.contains("left out: __metadata__"), "{}", done.stderr);
        assert_eq!(done.json()["left_out"], json!([{"name": "__metadata__", "tensors": null}]));
        let listed = list(&out);
        assert_eq!(listed["values"], json!([]));
        match out.ends_with("npz") {
            true => assert_eq!(names(&out), names(KOHYA)),
            false => assert_eq!(facts(&out), facts(KOHYA)),
        }
    }
    let values = dir.path("values.json");
    ok(&["convert", KOHYA, &dir.path("y.pt"), "--save-values", &values]);
    let saved: BTreeMap<String, Value> = serde_json::from_str(&fs::read_to_string(values).unwrap()).unwrap();
    let want = expected("kohya.safetensors")["metadata"].as_object().unwrap().clone();
    assert_eq!(saved, want.into_iter().map(|(key, value)| (format!("__metadata__.{key}"), value)).collect());
}

#[test]
fn metadata_can_be_set() {
    let dir = Dir::new();
    let out = dir.path("x.safetensors");
    let set = ["--set-metadata", "author=me=you", "--set-metadata", "format=mlx", "--set-metadata", "empty="];
    ok(&[&["convert", "round_trips/tied.pt", &out][..], &set].concat());
    assert_eq!(metadata(&out), json!({"author": "me=you", "format": "mlx", "empty": ""}));
    ok(&[&["convert", "--force", KOHYA, &out][..], &set].concat());
    assert_eq!(metadata(&out)["author"], "me=you");
    assert_eq!(metadata(&out)["ss_network_module"], "networks.lora");
    for other in ["x.pt", "x.npz", "x.bin"].map(|name| dir.path(name)) {
        let said = run(&["convert", KOHYA, &other, "--set-metadata", "a=b"]).exits(2).stderr;
        assert!(said.contains("--set-metadata"), "{said}");
    }
    for wrong in ["a", "=b", ""] {
        run(&["convert", KOHYA, &dir.path("y.safetensors"), "--set-metadata", wrong]).exits(2);
    }
}

#[test]
fn aliases_of_the_library_are_shared_tensors_again() {
    let dir = Dir::new();
    let want = expected("tied.safetensors");
    for (name, more) in [("x.pt", None), ("dict.pt", Some("--state-dict")), ("x.bin", Some("--to=torch-legacy"))] {
        let out = dir.path(name);
        ok(&[&["convert", TIED, &out][..], more.as_slice()].concat());
        assert_eq!(facts(&out), want["state"], "{name}");
        let listed = list(&out);
        let rows = listed["tensors"].as_array().unwrap();
        let of = |name: &str| rows.iter().find(|row| row["name"] == name).unwrap()["storage"].clone();
        assert_eq!(of("wte.weight"), of("lm_head.weight"));
        assert_eq!(of("proj.weight"), of("lm_head.weight"));
        assert_eq!(listed["totals"]["storage_bytes"].as_u64().unwrap(), 4 * (20 + 16 + 4));
    }
    let npz = dir.path("x.npz");
    let said = ok(&["convert", TIED, &npz]);
    assert!(said.contains("wte.weight = lm_head.weight"), "{said}");
    assert_eq!(facts(&npz), want["state"]);
    let full = dir.path("full.safetensors");
    ok(&["convert", TIED, &full, "--shared", "duplicate"]);
    assert_eq!((facts(&full), metadata(&full)), (want["state"].clone(), json!({"format": "pt", "note": "kept"})));
    let said = run(&["convert", TIED, &dir.path("y.safetensors"), "--shared", "error"]).exits(2).stderr;
    assert!(said.contains("share memory"), "{said}");
}

#[test]
fn aliases_stay_aliases_between_safetensors() {
    let dir = Dir::new();
    let want = expected("tied.safetensors");
    // what we make of the state dict is what the library made of the module, and so is what we make of that
    let (ours, again) = (dir.path("ours.safetensors"), dir.path("again.safetensors"));
    ok(&["convert", "round_trips/tied.pt", &ours, "--shared", "drop", "--set-metadata", "note=kept"]);
    ok(&["convert", TIED, &again]);
    for path in [TIED, &ours, &again] {
        let mut names = names(path);
        names.sort();
        assert_eq!((json!(names), metadata(path)), (want["keys"].clone(), want["metadata"].clone()), "{path}");
    }
    // names change on both sides of an alias
    let renamed = dir.path("renamed.safetensors");
    ok(&["rename", TIED, "--add-prefix", "m.", "-o", &renamed]);
    let prefixed = json!({"format": "pt", "note": "kept", "m.proj.weight": "m.lm_head.weight", "m.wte.weight": "m.lm_head.weight"});
    assert_eq!(metadata(&renamed), prefixed);
    ok(&["strip-prefix", "m.", &renamed, "--in-place"]);
    assert_eq!(metadata(&renamed), want["metadata"]);
    let said = run(&["rename", TIED, "--regex", "s/^wte/mid/", "-o", &dir.path("z.safetensors")]).exits(2).stderr;
    assert!(said.contains("mid.weight"), "an alias may not take a tensor's name: {said}");
    // what an alias stands for is not chosen: it is a tensor then
    let part = dir.path("part.safetensors");
    ok(&["convert", TIED, &part, "--exclude", "lm_head.*", "--exclude", "mid.*"]);
    assert_eq!(names(&part), ["proj.weight"]);
    assert_eq!(metadata(&part), json!({"format": "pt", "note": "kept", "wte.weight": "proj.weight"}));
    let part = dir.path("mid.safetensors");
    ok(&["extract", TIED, "mid.*", "-o", &part]);
    assert_eq!(metadata(&part), json!({"format": "pt", "note": "kept"}));
}

#[test]
fn aliases_in_shards() {
    let dir = Dir::new();
    let shards = dir.path("shards");
    let args =
        ["convert", "round_trips/tied.pt", &shards, "--to", "safetensors", "--shared", "drop", "--max-shard-size"];
    ok(&[&args[..], &["64B"]].concat());
    ok(&["diff", &shards, "round_trips/tied.pt"]);
    let (renamed, torch) = (dir.path("renamed"), dir.path("x.pt"));
    ok(&["rename", &shards, "--add-prefix", "m.", "-o", &renamed]);
    ok(&["convert", &renamed, &torch]);
    ok(&["diff", &torch, "round_trips/tied.pt", "--strip-prefix", "m."]);
    // in torch's shards what shares memory is in one file
    let bins = dir.path("bins");
    ok(&["convert", TIED, &bins, "--to", "torch", "--max-shard-size", "80B"]);
    let whole = list(&bins);
    assert_eq!(whole["totals"]["storage_bytes"].as_u64().unwrap(), 4 * (20 + 16 + 4));
    ok(&["diff", &bins, "round_trips/tied.pt"]);
}

#[test]
fn diff_knows_aliases() {
    let dir = Dir::new();
    ok(&["diff", TIED, "round_trips/tied.pt"]);
    ok(&["diff", "-q", "round_trips/tied.pt", TIED]);
    let full = dir.path("full.safetensors");
    ok(&["convert", TIED, &full, "--shared", "duplicate"]);
    ok(&["diff", TIED, &full]);
    // one name of three is another tensor
    let other = dir.path("other.npz");
    ok(&["convert", TIED, &other, "--exclude", "wte.*"]);
    let said = run(&["diff", "--json", TIED, &other]).exits(1).json();
    assert_eq!(said["only_a"], json!(["wte.weight"]));
}

#[test]
fn strings_that_are_no_aliases_stay_strings() {
    let dir = Dir::new();
    let (file, out) = ("round_trips/no_alias.safetensors", dir.path("x.pt"));
    ok(&["convert", file, &out]);
    let mut found = names(&out);
    found.sort();
    assert_eq!(json!(found), expected("no_alias.safetensors")["keys"]);
    let out = dir.path("x.safetensors");
    ok(&["rename", file, "--regex", "s/^(w|v|pt)$/n.$1/", "-o", &out]);
    assert_eq!(metadata(&out), expected("no_alias.safetensors")["metadata"]);
}

#[test]
fn plain_state_dicts_stay_what_they_are() {
    let dir = Dir::new();
    for file in ["extra_state.pt", "quantized.pt", "tied.pt"] {
        let (path, out) = (format!("round_trips/{file}"), dir.path(file));
        let done = run(&["convert", "--json", "--state-dict", &path, &out]).exits(0);
        assert_eq!(done.json()["left_out"], json!([]), "{}", done.stderr);
        let rows = |path: &str| {
            let listed = list(path);
            let facts = ["name", "path", "kind", "dtype", "shape", "stride", "requires_grad", "sha256"];
            let row = |row: &Value| facts.map(|fact| row[fact].clone());
            listed["tensors"].as_array().unwrap().iter().map(row).collect::<Vec<_>>()
        };
        assert_eq!(rows(&path), rows(&out), "{file}");
        let verdict = run(&["check", "--json", &out]).exits(0).json();
        assert_eq!(verdict["weights_only"]["opens"], true, "{file}");
    }
    // numpy's number is Python's: the same value, and weights_only opens it
    let values = |path: &str| list(path)["values"].clone();
    let (before, after) = (values("round_trips/extra_state.pt"), values(&dir.path("extra_state.pt")));
    let types = |values: &Value| values.as_array().unwrap().iter().map(|v| v["type"].clone()).collect::<Vec<_>>();
    assert_eq!(types(&before), ["int", "float64", "list"]);
    assert_eq!(types(&after), ["int", "float", "list"]);
    assert_eq!(before[1]["value"], after[1]["value"]);
    assert_eq!(values("round_trips/quantized.pt"), values(&dir.path("quantized.pt")));
    // what was asked for still goes
    let out = dir.path("part.pt");
    ok(&["convert", "--state-dict", "round_trips/extra_state.pt", &out, "--drop", "1._extra_state"]);
    assert_eq!(names(&out), ["0.weight", "0.bias", "1.weight", "1.bias"]);
}

#[test]
fn a_tensor_that_the_index_does_not_name_is_told() {
    let dir = Dir::new();
    let want = expected("extra_tensor");
    for out in ["x.pt", "x.safetensors", "x.npz"].map(|name| dir.path(name)) {
        let done = run(&["convert", "--json", "round_trips/extra_tensor", &out]).exits(0);
        let told = done.json();
        let left: Vec<&Value> = told["left_out"].as_array().unwrap().iter().map(|left| &left["name"]).collect();
        assert!(left.contains(&&want["left_out"][0]), "{left:?}");
        assert!(done.stderr.contains("stray"), "{}", done.stderr);
        assert_eq!(json!(names(&out)), want["keys"]);
    }
}

#[test]
fn a_hundred_thousand_tensors_in_one_header() {
    let dir = Dir::new();
    let mut header = String::from("{");
    for number in 0..100_000_u32 {
        let name = format!("model.layers.{}.mlp.experts.{}.{}", number / 1000, number % 1000, "w".repeat(150));
        let (begin, end) = (number * 4, number * 4 + 4);
        header.push_str(&format!(r#""{name}":{{"dtype":"F32","shape":[1],"data_offsets":[{begin},{end}]}},"#));
    }
    header.pop();
    header.push('}');
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend(header.as_bytes());
    bytes.resize(bytes.len() + 400_000, 0);
    let path = dir.path("x.safetensors");
    fs::write(&path, bytes).unwrap();
    assert_eq!(run(&["ls", "--names", &path]).exits(0).lines().len(), 100_000);
    run(&["check", &path]).exits(0);
    run(&["convert", "-q", &path, &dir.path("y.safetensors")]).exits(0);
}

#[test]
fn output_is_an_option_too() {
    let dir = Dir::new();
    let (a, b) = (dir.path("a.safetensors"), dir.path("b.safetensors"));
    ok(&["convert", "-o", &a, "round_trips/tied.pt"]);
    ok(&["convert", "round_trips/tied.pt", "--output", &b]);
    assert_eq!(fs::read(a).unwrap(), fs::read(b).unwrap());
    let said = run(&["convert", "round_trips/tied.pt"]).exits(2).stderr;
    assert!(said.contains("no output given"), "{said}");
    let both = ["convert", "round_trips/tied.pt", &dir.path("c.pt"), "-o", &dir.path("d.pt")];
    let said = run(&both).exits(2).stderr;
    assert!(said.contains("cannot be used with"), "{said}");
    assert_eq!(dir.names().len(), 2);
}
