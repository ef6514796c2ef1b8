//! `ckpt ls --json --hash` agrees with what torch (numpy) said it saved: the oracle `F.json` beside each file `F` of
//! testdata/ (testdata/README.md). Every tensor is there, in order, with nothing added, and every plain value.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // helpers of tests are tests

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

/// The oracle's walk does not go below a tensor; the listing shows what tensor subclasses hold there.
const STATE_BELOW_TENSORS: &[(&str, &[&str])] = &[
    ("more/subclasses.pt", &["mine.extra", "holding.ema"]),
    ("more/subclasses.legacy.pt", &["mine.extra", "holding.ema"]),
];

/// How many files have an oracle.
const ORACLES: usize = 332;

const PLAIN: &[&str] = &["int", "float", "str", "bool", "NoneType", "list", "tuple"];

macro_rules! want {
    ($condition:expr, $($message:tt)*) => {
        if !$condition {
            return Err(format!($($message)*));
        }
    };
}

#[test]
fn every_file_with_an_oracle_agrees() {
    let mut files = Vec::new();
    oracles(&crate::driver::testdata(""), &mut files);
    files.sort();
    assert_eq!(files.len(), ORACLES);
    crate::driver::for_each(&files, |path| {
        let name = path.strip_prefix(crate::driver::testdata("")).expect("below testdata").to_string_lossy();
        check(path, &name).map_err(|why| format!("{name}: {why}"))
    });
}

/// Everything below `dir` that has an oracle beside it.
fn oracles(dir: &Path, files: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(dir).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            oracles(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "json") && path.with_extension("").exists() {
            files.push(path.with_extension(""));
        }
    }
}

fn check(path: &Path, name: &str) -> Result<(), String> {
    let oracle = std::fs::read(format!("{}.json", path.display())).expect("an oracle");
    let oracle: Value = serde_json::from_slice(&oracle).expect("JSON");
    let run = crate::driver::run_with(crate::driver::ckpt().args(["ls", "--json", "--hash", name]), b"");
    want!(run.status == 0, "exit {}: {}", run.status, run.stderr);
    let got = run.json();
    want!(got["schema"] == "ckpt.ls/1", "schema {}", got["schema"]);
    want!(got["file"] == name, "file {}", got["file"]);
    if let Some(container) = container(&oracle) {
        want!(got["container"] == container, "container {}, not {container}", got["container"]);
    }
    let all = list(&got["tensors"]);
    want!(got["totals"]["tensors"] == all.len(), "totals.tensors is {}", got["totals"]["tensors"]);
    let (mut have, outside): (Vec<&Value>, Vec<&Value>) =
        all.iter().partition(|tensor| tensor["in_state_dict"] == true);
    let want: Vec<&Value> = list(&oracle["tensors"]).iter().collect();

    if let Some((_, below)) = STATE_BELOW_TENSORS.iter().find(|(file, _)| *file == name) {
        let before = have.len();
        have.retain(|tensor| !below.contains(&tensor["name"].as_str().unwrap_or_default()));
        want!(before == have.len() + below.len(), "{below:?} are not all listed");
    }
    if let Some(wanted) = oracle["outside_state_dict"].as_array() {
        same_data(wanted.iter(), outside.iter().copied())?;
        let names = |rows: &mut dyn Iterator<Item = &Value>| rows.map(|row| row["name"].clone()).collect::<Vec<_>>();
        let (wanted, found) = (names(&mut wanted.iter()), names(&mut outside.iter().copied()));
        want!(wanted == found, "outside the state dict are {found:?}, not {wanted:?}");
    }
    if let Some(modules) = oracle["packed"].as_object() {
        let parts = modules.values().flat_map(|module| ["weight", "bias"].map(|part| &module[part]));
        same_data(parts.filter(|part| !part.is_null()), outside.iter().copied())?;
    }
    same_tensors(&oracle, &want, &have)?;
    same_values(&oracle, &got)
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn container(oracle: &Value) -> Option<&'static str> {
    let by_field = [("tar", "tar"), ("torchscript", "torchscript"), ("pt2", "pt2")];
    let found = by_field.iter().find(|(field, _)| oracle[*field].as_bool() == Some(true)).map(|(_, name)| *name);
    found.or_else(|| oracle.get("plain_pickle").map(|_| "pickle")).or(match oracle["legacy"].as_bool() {
        Some(true) => Some("legacy"),
        Some(false) => Some("zip"),
        None => None,
    })
}

/// The same dtypes, shapes and bytes, in any order and under any name.
fn same_data<'a>(want: impl Iterator<Item = &'a Value>, have: impl Iterator<Item = &'a Value>) -> Result<(), String> {
    let facts = |tensor: &Value| format!("{} {} {}", tensor["dtype"], tensor["shape"], tensor["sha256"]);
    let (mut want, mut have): (Vec<_>, Vec<_>) = (want.map(facts).collect(), have.map(facts).collect());
    want.sort();
    have.sort();
    want!(want == have, "outside the state dict are {have:?}, not {want:?}");
    Ok(())
}

fn same_tensors(oracle: &Value, want: &[&Value], have: &[&Value]) -> Result<(), String> {
    let paths = |tensors: &[&Value]| tensors.iter().map(|tensor| tensor["path"].clone()).collect::<Vec<_>>();
    let (wanted, listed) = (paths(want), paths(have));
    if wanted != listed {
        let missing: Vec<_> = wanted.iter().filter(|path| !listed.contains(path)).take(3).collect();
        let extra: Vec<_> = listed.iter().filter(|path| !wanted.contains(path)).take(3).collect();
        return Err(format!("{} tensors, not {}: missing {missing:?}, extra {extra:?}", listed.len(), wanted.len()));
    }
    for (want, have) in want.iter().zip(have) {
        same_tensor(oracle, want, have).map_err(|why| format!("{}: {why}", want["path"]))?;
    }
    Ok(())
}

fn same_tensor(oracle: &Value, want: &Value, have: &Value) -> Result<(), String> {
    let sparse = want.get("layout").is_some_and(|layout| layout != "strided");
    for (field, listed) in [
        ("shape", "shape"),
        ("dtype", "dtype"),
        ("layout", "layout"),
        ("sha256", "sha256"),
        ("stride", "stride"),
        ("offset", "storage_offset"),
    ] {
        if let Some(value) = want.get(field).filter(|_| !(field == "sha256" && sparse)) {
            want!(have[listed] == *value, "{listed} is {}, not {value}", have[listed]);
        }
    }
    want!(!sparse || have["sha256"].is_null(), "a sparse tensor has no sha256");
    let name: Vec<String> = list(&want["path"]).iter().map(python_str).collect();
    want!(have["name"] == name.join("."), "name is {}", have["name"]);
    let array = want["class"] == "ndarray";
    let kind =
        [("ndarray", "ndarray"), ("Parameter", "parameter")].into_iter().find(|(class, _)| want["class"] == *class);
    if let Some((_, kind)) = kind {
        want!(have["kind"] == kind, "kind is {}, not {kind}", have["kind"]);
    }
    if let Some(device) = oracle.get("location").or(want.get("device")).filter(|_| !array) {
        want!(have["device"] == *device, "device is {}, not {device}", have["device"]);
    }
    if want["class"] == "Parameter" {
        want!(have["requires_grad"] == want["requires_grad"], "requires_grad is {}", have["requires_grad"]);
    }
    want!(have["problem"].is_null(), "has a problem: {}", have["problem"]);
    Ok(())
}

/// A path element as Python's `str` shows it.
fn python_str(element: &Value) -> String {
    match element {
        Value::String(text) => text.clone(),
        Value::Bool(true) => "True".to_owned(),
        Value::Bool(false) => "False".to_owned(),
        other => other.to_string(),
    }
}

fn same_values(oracle: &Value, got: &Value) -> Result<(), String> {
    // Python 2 shows values otherwise than Python 3 does, which is what the listing follows
    if oracle["python"].as_str().is_some_and(|version| version.starts_with('2')) {
        return Ok(());
    }
    let listed: HashMap<String, &Value> =
        list(&got["values"]).iter().map(|value| (value["path"].to_string(), value)).collect();
    for leaf in list(&oracle["leaves"]) {
        let (class, repr) = (leaf["type"].as_str().unwrap_or_default(), leaf["repr"].as_str().unwrap_or_default());
        // of other types the oracle has a repr that only their classes could make; long ones it cuts elsewhere
        if !PLAIN.contains(&class) || repr.ends_with("...") {
            continue;
        }
        let Some(value) = listed.get(&leaf["path"].to_string()) else {
            return Err(format!("value {} is not listed", leaf["path"]));
        };
        let found = (&value["type"], &value["repr"]);
        want!(found == (&leaf["type"], &leaf["repr"]), "value {} is {found:?}, not {class} {repr}", leaf["path"]);
    }
    Ok(())
}

#[test]
fn a_wrapper_subclass_shows_the_facts_of_its_inner_tensor_and_lists_what_it_holds() {
    let oracle = std::fs::read(crate::driver::testdata("more/wrapper_subclass.pt.parts.json")).expect("an oracle");
    let oracle: Value = serde_json::from_slice(&oracle).expect("JSON");
    let got = crate::driver::run("ls --json --hash more/wrapper_subclass.pt").exits(0).json();
    let (outer, inner): (Vec<&Value>, Vec<&Value>) = list(&got["tensors"]).iter().partition(|row| row["name"] == "w");
    same_tensors(&oracle, &list(&oracle["tensors"]).iter().collect::<Vec<_>>(), &inner).expect("agreement");
    let [outer] = outer[..] else { panic!("w is listed {} times", outer.len()) };
    assert_eq!((&outer["shape"], &outer["dtype"], &outer["sha256"]), (&json!([2, 2]), &json!("float32"), &Value::Null));
}
