//! `ckpt edit`: what was asked for changes, and nothing else.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // helpers of tests are tests

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use crate::driver::{Run, ckpt, run_with, testdata};
use crate::in_memory::{list_and_hash, memory};
use ckpt::checkpoint::alter::Step;
use ckpt::error::Result;
use ckpt::layout::Layout;
use ckpt::limits::Limits;
use ckpt::operations::destination::{Destination, Original, Sink};
use ckpt::operations::edit::{Options, edit};
use ckpt::progress::Silent;
use ckpt::report::edit::Edits;
use ckpt::write::atomic::{Memory, Target};
use proptest::prelude::*;
use rayon::prelude::*;
use serde_json::Value;

const CHECKPOINT: &str = "torch-2.15-py311/checkpoint.tar";
/// Bytes of the files that are edited again and again.
const MAX_BYTES: u64 = 200 << 10;
/// Names of one file that are edited.
const MAX_NAMES: usize = 8;

fn set(name: &str, value: &str) -> Step {
    Step::Set { name: name.to_owned(), value: value.to_owned() }
}

fn delete(name: &str) -> Step {
    Step::Delete { name: name.to_owned() }
}

fn rename(from: &str, to: &str) -> Step {
    Step::Move { from: from.to_owned(), to: to.to_owned() }
}

/// The file with the steps done to it.
pub fn edited(bytes: &[u8], steps: &[Step]) -> Result<Vec<u8>> {
    edited_with_report(bytes, steps).map(|(bytes, _)| bytes)
}

/// The same, and what is told of it.
pub fn edited_with_report(bytes: &[u8], steps: &[Step]) -> Result<(Vec<u8>, Edits)> {
    let layout = Layout::of_source(memory(bytes.to_vec()), Path::new("file"));
    let mut original = Original::open(layout, "file", Path::new("file"), &Limits::default(), &Silent)?;
    let target = Memory::default();
    let sink = Sink { name: "out".to_owned(), target: Target::Memory(target.clone()) };
    let mut destination = Destination::File { sink, to: None };
    let report = edit(&mut original, &Options::of(steps.to_vec()), &mut destination, &Silent)?;
    Ok((target.take(), report))
}

/// What a file lists, by name: nothing where two things have one name. Left out is what depends on the names beside it,
/// and containers with nothing in them.
pub fn rows(bytes: &[u8]) -> Option<BTreeMap<String, Value>> {
    let listing = serde_json::to_value(list_and_hash(memory(bytes.to_vec())).ok()?).unwrap();
    let mut rows = BTreeMap::new();
    for kind in ["tensors", "values"] {
        for row in listing[kind].as_array().unwrap() {
            let mut row = row.as_object().unwrap().clone();
            for depends in ["shares_with", "of", "in_state_dict", "path", "stats", "problem"] {
                row.remove(depends);
            }
            // storages in the pickle itself have the order in which they come as their numbers
            if row.get("storage").and_then(Value::as_str).is_some_and(|storage| storage.contains('/')) {
                row.remove("storage");
            }
            let name = row.remove("name").unwrap().as_str().unwrap().to_owned();
            let is_empty = ["{}", "[]", "OrderedDict()"]
                .contains(&row.get("repr").and_then(Value::as_str).unwrap_or(""))
                || row.get("repr").and_then(Value::as_str).is_some_and(|repr| repr.ends_with(", {})"));
            if !is_empty && rows.insert(name, Value::Object(row)).is_some() {
                return None;
            }
        }
    }
    Some(rows)
}

fn is_below(name: &str, above: &str) -> bool {
    above.is_empty() || name.strip_prefix(above).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

/// The rows without a name and what is below it: an item of a dict, or an element of a list, which those after it follow.
fn without(rows: &BTreeMap<String, Value>, name: &str) -> [BTreeMap<String, Value>; 2] {
    let kept = |(other, row): (&String, &Value)| (!is_below(other, name)).then(|| (other.clone(), row.clone()));
    let as_item: BTreeMap<String, Value> = rows.iter().filter_map(kept).collect();
    let mut as_element = as_item.clone();
    let (list, last) = name.rsplit_once('.').unwrap_or(("", name));
    if let Ok(place) = last.parse::<usize>() {
        let list = if list.is_empty() { String::new() } else { format!("{list}.") };
        let renamed = as_item.into_iter().map(|(other, row)| {
            let Some(rest) = other.strip_prefix(&list) else { return (other, row) };
            let (index, below) = rest.split_at(rest.find('.').unwrap_or(rest.len()));
            match index.parse::<usize>() {
                Ok(index) if index > place => (format!("{list}{}{below}", index - 1), row),
                _ => (other, row),
            }
        });
        as_element = renamed.collect();
    }
    [rows.iter().filter_map(kept).collect(), as_element]
}

/// Every file of the test data that is small.
pub fn files() -> Vec<PathBuf> {
    let (mut open, mut files) = (vec![testdata("")], Vec::new());
    while let Some(folder) = open.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let meta = fs::metadata(&path).unwrap();
            match () {
                () if meta.is_dir() => open.push(path),
                () if meta.len() <= MAX_BYTES && path.extension().is_none_or(|e| e != "json") => files.push(path),
                () => {}
            }
        }
    }
    files.sort();
    files
}

/// Some of them, from first to last; all where that is asked for.
pub fn some<T: Clone>(all: &[T]) -> Vec<T> {
    let most = if std::env::var_os("CKPT_EDIT_ALL").is_some() { usize::MAX } else { MAX_NAMES };
    let step = all.len().div_ceil(most).max(1);
    all.iter().step_by(step).cloned().collect()
}

/// Why what an edited file lists is not what was wanted.
fn differs(got: &BTreeMap<String, Value>, wanted: &BTreeMap<String, Value>, step: &Step) -> Option<String> {
    let (mut got, mut wanted) = (got.clone(), wanted.clone());
    // a list of nothing but plain values is one value, and so is an object with nothing left in it
    let (Step::Set { name, .. } | Step::Delete { name } | Step::Move { from: name, .. }) = step else {
        unreachable!("no other step is tried here")
    };
    let around = got.keys().find(|other| !wanted.contains_key(*other) && is_below(name, other)).cloned();
    if let Some(around) = around {
        let row = got.remove(&around).unwrap();
        let repr = row["repr"].as_str().unwrap_or_default();
        let is_plain = match step {
            Step::Set { .. } => repr.contains("12345"),
            Step::Delete { .. } => repr.starts_with('['),
            _ => false,
        };
        match is_plain {
            true => wanted.retain(|other, _| !is_below(other, &around)),
            false if wanted.keys().any(|other| is_below(other, &around)) => {
                return Some(format!("{around} is one value"));
            }
            false => {}
        }
    }
    let other = got.iter().find(|(name, row)| wanted.get(*name) != Some(row));
    match other {
        Some((name, row)) => Some(format!("{name}: {row}, and not {:?}", wanted.get(name))),
        None if got.len() != wanted.len() => wanted.keys().find(|name| !got.contains_key(*name)).cloned(),
        None => None,
    }
}

/// Edits of one file: how many were done, and why others were refused.
fn one_change_each(path: &Path) -> (usize, BTreeMap<String, usize>) {
    let (mut done, mut refused) = (0, BTreeMap::new());
    let bytes = fs::read(path).unwrap();
    let Some(before) = rows(&bytes) else { return (done, refused) };
    // tensors of several names in safetensors, which are tested by themselves
    let strings = before.iter().filter(|(name, _)| name.starts_with("__metadata__."));
    if strings.filter_map(|(_, row)| row["value"].as_str()).any(|text| before.contains_key(text)) {
        return (done, refused);
    }
    // expanded tensors, of which only so many are hashed
    if before.values().any(|row| row.get("bytes").and_then(Value::as_u64) > Some(1 << 20)) {
        return (done, refused);
    }
    let names: Vec<String> = before.keys().cloned().collect();
    let mut heads: BTreeSet<String> = BTreeSet::new();
    for name in &names {
        heads.extend(name.match_indices('.').map(|(at, _)| name[..at].to_owned()));
        heads.insert(name.clone());
    }
    // names of things, and not of the beginnings of other things' names
    let is_one = |head: &String| !before.contains_key(head) || names.iter().filter(|n| is_below(n, head)).count() == 1;
    let mut check = |step: Step, wanted: &[BTreeMap<String, Value>]| match edited(&bytes, std::slice::from_ref(&step)) {
        Ok(new) => {
            let label = format!("{}: {step:?}", path.display());
            let got = rows(&new).unwrap_or_else(|| panic!("{label}: cannot be listed"));
            let found: Vec<String> = wanted.iter().map_while(|wanted| differs(&got, wanted, &step)).collect();
            assert!(found.len() < wanted.len(), "{label}: {found:?}");
            done += 1;
        }
        Err(e) => *refused.entry(e.to_string().replace(|c: char| c.is_ascii_digit(), "")).or_default() += 1,
    };
    for name in some(&names).into_iter().filter(&is_one) {
        let mut wanted = before.clone();
        wanted.retain(|other, _| !is_below(other, &name));
        wanted.insert(name.clone(), serde_json::json!({"type": "int", "value": 12345, "repr": "12345"}));
        check(set(&name, "12345"), &[wanted]);
    }
    let heads: Vec<String> = heads.into_iter().filter(|head| !head.is_empty() && is_one(head)).collect();
    for name in some(&heads) {
        check(delete(&name), &without(&before, &name));
        let (go, mut wanted): (BTreeMap<_, _>, BTreeMap<_, _>) =
            before.clone().into_iter().partition(|(other, _)| is_below(other, &name));
        wanted.extend(go.into_iter().map(|(old, row)| (format!("somewhere_else{}", &old[name.len()..]), row)));
        check(rename(&name, "somewhere_else"), &[wanted]);
    }
    (done, refused)
}

#[test]
fn one_change_changes_one_thing_in_every_file() {
    let all: Vec<_> = files().par_iter().map(|path| one_change_each(path)).collect();
    let done: usize = all.iter().map(|(done, _)| done).sum();
    let mut refused: BTreeMap<&str, usize> = BTreeMap::new();
    for (why, count) in all.iter().flat_map(|(_, refused)| refused) {
        *refused.entry(why).or_default() += count;
    }
    assert!(done > 1000, "{done} edits were done, {refused:?}");
}

/// What the steps make of the names.
fn model(rows: &mut BTreeMap<String, Value>, step: &Step) {
    match step {
        Step::Set { name, value } => {
            rows.retain(|other, _| !is_below(other, name));
            let value: i64 = value.parse().unwrap();
            rows.insert(name.clone(), serde_json::json!({"type": "int", "value": value, "repr": value.to_string()}));
        }
        Step::SetTensor { .. } | Step::SetMetadata { .. } => unreachable!("no other step is tried here"),
        Step::Delete { name } => rows.retain(|other, _| !is_below(other, name)),
        Step::Move { from, to } => {
            let (go, stay): (BTreeMap<_, _>, _) =
                std::mem::take(rows).into_iter().partition(|(other, _)| from == "." || is_below(other, from));
            *rows = stay;
            rows.extend(go.into_iter().map(|(old, row)| match (from.as_str(), to.as_str()) {
                (".", _) => (format!("{to}.{old}"), row),
                (_, ".") => (old[from.len() + 1..].to_owned(), row),
                _ => (format!("{to}{}", &old[from.len()..]), row),
            }));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    /// Steps one after the other are those steps together, and what each of them says.
    #[test]
    fn sequences_of_edits(choices in proptest::collection::vec((0..6u8, any::<prop::sample::Index>(), 0..1000i64), 1..8), which in 0..3usize) {
        let file = [CHECKPOINT, "torch-1.5-py36/checkpoint.tar", "torch-2.15-py311/checkpoint.legacy.tar"][which];
        let Ok(bytes) = fs::read(testdata(file)) else { return Ok(()) };
        let mut expected = rows(&bytes).unwrap();
        let (mut steps, mut one_by_one) = (Vec::new(), bytes.clone());
        for (at, (kind, index, number)) in choices.into_iter().enumerate() {
            let mut heads: BTreeSet<String> = BTreeSet::new();
            for name in expected.keys() {
                heads.extend(name.match_indices('.').map(|(at, _)| name[..at].to_owned()));
                heads.insert(name.clone());
            }
            let heads: Vec<String> = heads.into_iter().collect();
            if heads.is_empty() {
                break;
            }
            let name = index.get(&heads).clone();
            let names: Vec<String> = expected.keys().cloned().collect();
            let step = match kind {
                0 => set(&index.get(&names).clone(), &number.to_string()),
                1 => set(&format!("new{at}"), &number.to_string()),
                2 => delete(&name),
                3 | 4 => rename(&name, &format!("moved{at}")),
                _ => rename(".", &format!("whole{at}")),
            };
            steps.push(step.clone());
            match (edited(&bytes, &steps), edited(&one_by_one, std::slice::from_ref(&step))) {
                (Ok(together), Ok(next)) => {
                    let is_element = matches!(&step, Step::Delete { name } if without(&expected, name)[1] == rows(&together).unwrap());
                    match &step {
                        Step::Delete { name } if is_element => expected = without(&expected, name)[1].clone(),
                        step => model(&mut expected, step),
                    }
                    prop_assert!(rows(&together).unwrap() == expected, "{:?}", steps);
                    prop_assert!(rows(&next).unwrap() == expected, "{:?}", steps);
                    one_by_one = next;
                }
                (Err(_), Err(_)) => drop(steps.pop()),
                (together, next) => {
                    panic!("{steps:?}: together {:?}, one by one {:?}", together.map(|_| ()), next.map(|_| ()))
                }
            }
        }
    }
}

fn run(words: &[&str]) -> Run {
    run_with(ckpt().arg("edit").args(words), b"")
}

/// A copy of a file of testdata that may be written.
fn copy(file: &str, dir: &Path) -> PathBuf {
    let path = dir.join("model.pth");
    fs::write(&path, fs::read(testdata(file)).unwrap()).unwrap();
    path
}

fn values(path: &Path) -> BTreeMap<String, String> {
    let listed = run_with(ckpt().args(["ls", "--json"]).arg(path), b"").exits(0).json();
    let rows = listed["values"].as_array().unwrap().iter();
    rows.map(|row| (row["name"].as_str().unwrap().to_owned(), row["repr"].as_str().unwrap().to_owned())).collect()
}

#[test]
fn a_zip_edited_in_place_only_grows() {
    let dir = tempfile::tempdir().unwrap();
    let path = copy(CHECKPOINT, dir.path());
    let name = path.to_str().unwrap();
    let old = fs::read(&path).unwrap();
    let report = run(&[name, "--in-place", "--set", "epoch=-1", "--json"]).exits(0).json();
    let new = fs::read(&path).unwrap();
    assert_eq!(new[..old.len()], old);
    assert_eq!(report["bytes"], new.len() - old.len());
    assert_eq!((&report["schema"], &report["in_place"]), (&"ckpt.edit/1".into(), &true.into()));
    let change =
        serde_json::json!({"operation": "set", "name": "epoch", "to": null, "old": "96", "new": "-1", "also": []});
    assert_eq!(report["changes"], Value::Array(vec![change]));
    assert_eq!(values(&path)["epoch"], "-1");
    // and back again: the same objects, in the same pickle but for the integer
    run(&[name, "--in-place", "--set", "epoch=96"]).exits(0);
    assert_eq!(rows(&fs::read(&path).unwrap()), rows(&old));
}

#[test]
fn every_literal_is_what_python_would_set() {
    let dir = tempfile::tempdir().unwrap();
    let path = copy(CHECKPOINT, dir.path());
    let literals = [
        ("None", "None"),
        ("True", "True"),
        ("18446744073709551616", "18446744073709551616"),
        ("-32769", "-32769"),
        ("-9223372036854775808", "-9223372036854775808"),
        ("-inf", "-inf"),
        ("nan", "nan"),
        ("1e-4", "0.0001"),
        ("'a \"b\" é'", "'a \"b\" é'"),
        (r"b'\xff\x00'", r"b'\xff\x00'"),
        ("[1, (2, 3.5), 'x']", ""),
        ("(1, 2, 3, 4)", "(1, 2, 3, 4)"),
        ("{1, 2}", "{1, 2}"),
        ("[]", "[]"),
        ("{}", "{}"),
    ];
    for (literal, shown) in literals {
        run(&[path.to_str().unwrap(), "--in-place", "--set", &format!("added={literal}")]).exits(0);
        if !shown.is_empty() {
            assert_eq!(values(&path)["added"], shown);
        }
    }
    run(&[path.to_str().unwrap(), "--in-place", "--set", "added={'a': [{}, {'b': 1}]}", "--set", "added.a.0.c=2"])
        .exits(0);
    let values = values(&path);
    assert_eq!((&*values["added.a.0.c"], &*values["added.a.1.b"]), ("2", "1"));
}

#[test]
fn what_is_in_a_state_that_is_no_dict_is_set_or_refused() {
    let bytes = fs::read(testdata("weights/pandas.pt")).unwrap();
    let before = rows(&bytes).unwrap();
    let name = "df._mgr.1.0.1.data.__state__.1";
    assert!(before.contains_key(name));
    let e = edited(&bytes, &[set(name, "12345")]).unwrap_err();
    assert!(e.to_string().contains("pickled in a way"), "{e}");
}

#[test]
fn a_key_beside_the_one_that_is_left_is_not_lost_though_its_value_is_the_same() {
    // {'a': d, 'b': d} with d = {}
    let pickle = b"\x80\x02}q\x00(X\x01\0\0\0a}q\x01X\x01\0\0\0bh\x01u.";
    let e = edited(pickle, &[rename("b", ".")]).unwrap_err();
    assert!(e.to_string().contains("`a` beside `b` would be lost"), "{e}");
}

#[test]
fn a_tuple_that_was_edited_may_be_replaced_with_what_it_lies_in() {
    // {'a': ((1,), 2)}
    let pickle = b"\x80\x02}q\x00X\x01\0\0\0aK\x01\x85q\x01K\x02\x86q\x02s.";
    for steps in [[set("a.0.0", "5"), set("a.0", "True")], [set("a.0.0", "5"), set("a", "True")]] {
        let edited = edited(pickle, &steps).unwrap();
        assert!(rows(&edited).unwrap().values().all(|row| row["repr"].as_str().unwrap().contains("True")), "{steps:?}");
    }
}

#[test]
fn the_beginning_of_keys_stands_for_all_of_them() {
    let bytes = fs::read(testdata("torch-2.15-py311/cnn_state.pt")).unwrap();
    let names = |bytes: &[u8]| rows(bytes).unwrap().into_keys().collect::<BTreeSet<_>>();
    let before = names(&bytes);
    let left: BTreeSet<String> = before.iter().filter(|name| !is_below(name, "features")).cloned().collect();
    assert!(!left.is_empty() && left.len() < before.len());
    assert_eq!(names(&edited(&bytes, &[delete("features")]).unwrap()), left);
    let moved = names(&edited(&bytes, &[rename("features", "backbone.body")]).unwrap());
    let wanted: BTreeSet<String> = before
        .iter()
        .map(|name| if is_below(name, "features") { format!("backbone.body{}", &name[8..]) } else { name.clone() })
        .collect();
    assert_eq!(moved, wanted);
    for (step, said) in [
        (rename("features", "classifier"), "is there already"),
        (rename("features", "."), "the beginning of several names"),
        (set("features", "1"), "the beginning of several names"),
    ] {
        let e = edited(&bytes, std::slice::from_ref(&step)).unwrap_err().to_string();
        assert!(e.contains(said), "{step:?}: {e}");
    }
}

#[test]
fn elements_of_lists_go_and_those_after_them_follow() {
    // {'l': [10, 11, 12, 13]}, once with APPENDS and once with an APPEND for each
    let several = b"\x80\x02}X\x01\0\0\0l](K\x0aK\x0bK\x0cK\x0des.";
    let single = b"\x80\x02}X\x01\0\0\0l]K\x0aaK\x0baK\x0caK\x0das.";
    for pickle in [&several[..], single] {
        let steps = [delete("l.1"), set("l.1", "5"), delete("l.0"), delete("l.1"), set("l.0", "7")];
        let shown = ["[10, 12, 13]", "[10, 5, 13]", "[5, 13]", "[5]", "[7]"];
        for (count, shown) in (1..).zip(shown) {
            let edited = edited(pickle, &steps[..count]).unwrap();
            assert_eq!(rows(&edited).unwrap()["l"]["repr"], shown, "{count}");
        }
        assert!(edited(pickle, &[delete("l.4")]).is_err() && edited(pickle, &[delete("l.-1")]).is_err());
    }
}

#[test]
fn wrapping_and_unwrapping_again_gives_the_same_bytes() {
    let bytes = fs::read(testdata(CHECKPOINT)).unwrap();
    for file in [CHECKPOINT, "torch-2.15-py311/cnn_state.pt"] {
        let bytes = fs::read(testdata(file)).unwrap();
        let wrapped = edited(&bytes, &[rename(".", "all"), set("version", "2")]).unwrap();
        assert!(rows(&wrapped).unwrap().keys().all(|name| is_below(name, "all") || name == "version"));
        let again = edited(&wrapped, &[delete("version"), rename("all", ".")]).unwrap();
        let pickle = |bytes: &[u8]| {
            let mut zip = Vec::new();
            let checkpoint =
                ckpt::checkpoint::Checkpoint::open(memory(bytes.to_vec()), &Limits::default(), &Silent).unwrap();
            let source = checkpoint.graph.stream(checkpoint.graph.first_stream().unwrap()).unwrap().clone();
            zip.extend(ckpt::source::read_vec(source.as_ref(), 0, source.len()).unwrap());
            zip
        };
        assert_eq!(pickle(&again), pickle(&bytes), "{file}");
    }
    let e = edited(&bytes, &[rename("model_state_dict", ".")]).unwrap_err();
    assert!(e.to_string().contains("`epoch`") && e.to_string().contains("would be lost"), "{e}");
}

/// A pickle with an edit, as Python's opcodes.
fn of_pickle(pickle: &[u8], steps: &[Step]) -> Vec<u8> {
    edited(pickle, steps).unwrap()
}

#[test]
fn what_stays_is_made_where_it_is_needed_first() {
    // {'a': [1], 'b': <the list of a>, 'c': <the list of a>}, where the key of b is also the text in a
    let pickle = b"\x80\x02}q\x00(X\x01\0\0\0aq\x01]q\x02(K\x01X\x01\0\0\0bq\x03eh\x03h\x02X\x01\0\0\0cq\x04h\x02u.";
    assert_eq!(
        of_pickle(pickle, &[delete("a")]),
        b"\x80\x02}q\x00(X\x01\0\0\0bq\x03]q\x02(K\x01h\x03eX\x01\0\0\0cq\x04h\x02u."
    );
    assert_eq!(
        of_pickle(pickle, &[set("a", "None")]),
        b"\x80\x02}q\x00(X\x01\0\0\0aq\x01NX\x01\0\0\0bq\x03]q\x02(K\x01h\x03eX\x01\0\0\0cq\x04h\x02u."
    );
    assert_eq!(
        of_pickle(pickle, &[rename("a", "d"), set("e", "2")]),
        b"\x80\x02}q\x00(X\x01\0\0\0d]q\x02(K\x01X\x01\0\0\0bq\x03eh\x03h\x02X\x01\0\0\0cq\x04h\x02uX\x01\0\0\0eK\x02s."
    );
    // a single item goes with its SETITEM; an empty dict gets one
    assert_eq!(of_pickle(b"\x80\x02}q\x00K\x01K\x02s.", &[delete("1")]), b"\x80\x02}q\x00.");
    assert_eq!(of_pickle(b"\x80\x02}q\x00.", &[set("a", "1")]), b"\x80\x02}q\x00X\x01\0\0\0aK\x01s.");
}

#[test]
fn places_that_are_counted_are_counted_anew_and_frames_follow() {
    // protocol 4: {'a': 'x', 'b': 'y', 'c': 'y'}, with MEMOIZE and one frame
    let body = b"}\x94(\x8c\x01a\x94\x8c\x01x\x94\x8c\x01b\x94\x8c\x01y\x94\x8c\x01c\x94h\x04u.";
    let framed = |body: &[u8]| [&b"\x80\x04\x95"[..], &(body.len() as u64).to_le_bytes(), body].concat();
    let want = b"}\x94(\x8c\x01b\x94\x8c\x01y\x94\x8c\x01c\x94h\x02u.";
    assert_eq!(of_pickle(&framed(body), &[delete("a")]), framed(want));
}

#[test]
fn what_cannot_be_done_is_said_and_nothing_is_written() {
    let dir = tempfile::tempdir().unwrap();
    let path = copy(CHECKPOINT, dir.path());
    let old = fs::read(&path).unwrap();
    let name = path.to_str().unwrap();
    for (words, said) in [
        (&["--set", "epoch=resnet"][..], "as a Python literal"),
        (&["--set", "epoch"], "has no `=`"),
        (&["--set", "=1"], "has no name"),
        (&["--set", "epoch.x=1"], "is not a dict"),
        (&["--set", ".=1"], "the top object"),
        (&["--set", "optimizer_state_dict.param_groups.7=1"], "is a list of 1 element"),
        (&["--set", "optimiser_state_dict.lr=1"], "did you mean `optimizer_state_dict"),
        (&["--delete", "epoc"], "did you mean `epoch`?"),
        (
            &["--delete", "optimizer_state_dict.param_groups.0.betas.0"],
            "a tuple, which keeps its length; set the whole of it",
        ),
        (&["--set", "optimizer_state_dict.param_groups.-1=1"], "is a list of 1 element"),
        (&["--set-metadata", "a=b"], "only safetensors files have metadata"),
        (&["--delete", "epoc*"], "nothing matches"),
        (&["--move", "epoch=optimizer_state_dict"], "is there already"),
        (&["--move", "epoch=epoch"], "is that already"),
        (&["--move", "optimizer_state_dict=optimizer_state_dict.a"], "into itself"),
        (&["--move", "epoch="], "no name behind"),
        (&["--set", "epoch=1", "--delete", "nope"], "no element named `nope`"),
    ] {
        let run = run(&[&[name, "--in-place"], words].concat()).exits(2);
        assert!(run.stderr.contains(said) && run.stderr.lines().count() == 1, "{words:?}: {}", run.stderr);
        assert!(run.stderr.starts_with("ckpt: "), "{}", run.stderr);
        assert_eq!(fs::read(&path).unwrap(), old);
    }
    for (file, said) in [
        ("torch-2.15-py311/scripted.pt", "TorchScript"),
        ("torch-2.15-py311/cnn_full.pth", "part of a module pickled whole"),
    ] {
        let first = run_with(ckpt().args(["ls", "--names", file]), b"").exits(0);
        let run = run(&[file, "--dry-run", "--delete", first.lines()[0]]).exits(2);
        assert!(run.stderr.contains(said), "{}", run.stderr);
    }
    let out = dir.path().join("model.safetensors");
    let run = run(&[name, "--set", "epoch=1", "-o", out.to_str().unwrap()]).exits(2);
    assert!(run.stderr.contains("keeps the format") && !out.exists(), "{}", run.stderr);
}

#[test]
fn what_two_names_share_does_not_change_for_one_of_them() {
    // {'a': d, 'b': d} with d = {'k': 1}
    let pickle = b"\x80\x02}q\x00(X\x01\0\0\0a}q\x01X\x01\0\0\0kK\x01sX\x01\0\0\0bh\x01u.";
    for step in [set("a.k", "2"), set("b.l", "2"), delete("b.k"), rename("a.k", "c")] {
        let e = edited(pickle, std::slice::from_ref(&step)).unwrap_err();
        assert!(e.to_string().contains("more than once"), "{step:?}: {e}");
    }
    let both = edited(pickle, &[delete("a"), set("b.k", "2")]).unwrap();
    assert_eq!(both, b"\x80\x02}q\x00(X\x01\0\0\0b}q\x01X\x01\0\0\0kK\x02su.");
}

#[test]
fn a_key_that_is_assigned_twice_is_not_guessed_at() {
    // {1: 1, True: 2} in two assignments, {'a': 1, 'a': 2}, {1: 1, 1.0: 2}
    for pickle in [
        &b"\x80\x02}q\x00(K\x01K\x01\x88K\x02u."[..],
        b"\x80\x02}q\x00(X\x01\0\0\0aK\x01X\x01\0\0\0aK\x02u.",
        b"\x80\x02}q\x00(K\x01K\x01G\x3f\xf0\0\0\0\0\0\0K\x02u.",
    ] {
        let name = rows(pickle).unwrap().keys().next().unwrap().clone();
        for step in [set(&name, "3"), delete(&name), rename(&name, "b")] {
            let e = edited(pickle, std::slice::from_ref(&step)).unwrap_err();
            assert!(e.to_string().contains("assigned more than once"), "{step:?}: {e}");
        }
    }
}

#[test]
fn a_dry_run_shows_each_change_and_writes_nothing() {
    let words = [CHECKPOINT, "--dry-run", "--set", "epoch=0", "--set", "new='x'", "--delete", "optimizer_state_dict"];
    let run = run(&[&words[..], &["--move", "model_state_dict=model"]].concat()).exits(0);
    let lines: Vec<String> =
        run.lines().iter().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
    assert_eq!(lines[..2], ["epoch: 96 -> 0", "new: (new) -> 'x'"]);
    assert!(lines[2].starts_with("optimizer_state_dict: dict of") && lines[2].ends_with("-> (deleted)"), "{lines:?}");
    assert_eq!(lines[3], "model_state_dict -> model");
    assert!(run.stderr.contains("of the file any more"), "{}", run.stderr);
}

#[test]
fn a_new_key_that_resembles_another_is_told() {
    let told = run(&[CHECKPOINT, "--dry-run", "--set", "epcoh=0"]).exits(0);
    assert!(told.stderr.contains("`epcoh` is new; there is `epoch` already"), "{}", told.stderr);
    for quiet in ["best_metric_of_all=0", "epoch=0"] {
        let told = run(&[CHECKPOINT, "--dry-run", "--set", quiet]).exits(0);
        assert!(!told.stderr.contains("is new"), "{}", told.stderr);
    }
}

#[test]
fn legacy_files_keep_every_storage() {
    // torch refuses one whose storages no tensor uses
    let file = "torch-2.15-py311/cnn_state.legacy.pt";
    let Some(rows) = rows(&fs::read(testdata(file)).unwrap()) else { panic!("not listed") };
    let name = rows.keys().next().unwrap();
    let run = run(&[file, "--dry-run", "--delete", name]).exits(2);
    assert!(run.stderr.contains("would use") && run.stderr.contains("ckpt convert"), "{}", run.stderr);
}
