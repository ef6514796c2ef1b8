//! `ckpt edit` of files that hold named arrays and nothing else: safetensors and npz.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // helpers of tests are tests

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use crate::driver::{Run, ckpt, run_with, testdata};
use crate::edit::rows;
use serde_json::Value;

fn run(path: &Path, words: &[&str]) -> Run {
    run_with(ckpt().arg("edit").arg(path).args(words), b"")
}

/// A safetensors file with these metadata and tensors of bytes.
fn file(path: &Path, metadata: &str, tensors: &[(&str, &[u8])], padding: usize) {
    let mut at = 0;
    let mut members: Vec<String> =
        if metadata.is_empty() { Vec::new() } else { vec![format!("\"__metadata__\":{metadata}")] };
    for (name, bytes) in tensors {
        let (begin, end) = (at, at + bytes.len());
        members.push(format!(
            "\"{name}\":{{\"dtype\":\"U8\",\"shape\":[{}],\"data_offsets\":[{begin},{end}]}}",
            bytes.len()
        ));
        at = end;
    }
    let mut json = format!("{{{}}}", members.join(",")).into_bytes();
    json.resize((json.len() + padding).next_multiple_of(8), b' ');
    let data: Vec<u8> = tensors.iter().flat_map(|(_, bytes)| bytes.iter().copied()).collect();
    fs::write(path, [(json.len() as u64).to_le_bytes().to_vec(), json, data].concat()).unwrap();
}

/// Bytes by name, and strings by key.
type Tensors = BTreeMap<String, Vec<u8>>;
type Strings = BTreeMap<String, String>;

/// What the `safetensors` crate, which is another reader, finds: the tensors' bytes, the strings.
fn read(path: &Path) -> (Tensors, Strings) {
    let bytes = fs::read(path).unwrap();
    let tensors = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let named = tensors.tensors().into_iter().map(|(name, view)| (name, view.data().to_vec()));
    let (_, header) = safetensors::SafeTensors::read_metadata(&bytes).unwrap();
    let strings = header.metadata().clone().unwrap_or_default().into_iter().collect();
    (named.collect(), strings)
}

fn npy(path: &Path, bytes: &[u8]) {
    let mut text = format!("{{'descr': '|u1', 'fortran_order': False, 'shape': ({},), }}", bytes.len());
    while (10 + text.len() + 1) % 64 != 0 {
        text.push(' ');
    }
    text.push('\n');
    let head = [&b"\x93NUMPY\x01\x00"[..], &u16::try_from(text.len()).unwrap().to_le_bytes(), text.as_bytes()].concat();
    fs::write(path, [head, bytes.to_vec()].concat()).unwrap();
}

struct Place {
    _dir: tempfile::TempDir,
    file: PathBuf,
    out: PathBuf,
    set: String,
}

/// A file of four tensors, and what gives `enc.w` the elements 7, 8, 9.
fn place() -> Place {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    npy(&at("x.npy"), &[7, 8, 9]);
    let tensors: [(&str, &[u8]); 4] = [("enc.w", &[1, 2, 3]), ("enc.b", &[4]), ("head", &[5, 6]), ("empty", &[])];
    file(&at("a.safetensors"), r#"{"format":"pt","note":"hello","tied":"head"}"#, &tensors, 0);
    let set = format!("enc.w={}", at("x.npy").display());
    Place { file: at("a.safetensors"), out: at("o.safetensors"), set, _dir: dir }
}

#[test]
fn tensors_are_set_renamed_and_removed_and_strings_stay() {
    let all = || {
        let tensors: [(&str, &[u8]); 4] = [("enc.w", &[1, 2, 3]), ("enc.b", &[4]), ("head", &[5, 6]), ("empty", &[])];
        tensors.map(|(name, bytes)| (name.to_owned(), bytes.to_vec())).into_iter().collect::<BTreeMap<_, _>>()
    };
    let without = |names: &[&str]| {
        let mut all = all();
        names.iter().for_each(|name| drop(all.remove(*name).unwrap()));
        all
    };
    let with = |mut all: BTreeMap<String, Vec<u8>>, more: &[(&str, &[u8])]| {
        all.extend(more.iter().map(|(name, bytes)| ((*name).to_owned(), bytes.to_vec())));
        all
    };
    let strings = |pairs: &[(&str, &str)]| {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect::<BTreeMap<_, _>>()
    };
    let kept = strings(&[("format", "pt"), ("note", "hello"), ("tied", "head")]);
    let set = place().set;
    let cases: Vec<(Vec<&str>, Tensors, Strings)> = vec![
        (vec!["--set-tensor", &set], with(all(), &[("enc.w", &[7, 8, 9])]), kept.clone()),
        (vec!["--delete", "enc.w"], without(&["enc.w"]), kept.clone()),
        (vec!["--delete", "enc"], without(&["enc.w", "enc.b"]), kept.clone()),
        (vec!["--delete", "empty"], without(&["empty"]), kept.clone()),
        (
            vec!["--move", "enc=e"],
            with(without(&["enc.w", "enc.b"]), &[("e.w", &[1, 2, 3]), ("e.b", &[4])]),
            kept.clone(),
        ),
        (
            vec!["--move", "head=h"],
            with(without(&["head"]), &[("h", &[5, 6])]),
            strings(&[("format", "pt"), ("note", "hello"), ("tied", "h")]),
        ),
        (
            vec!["--delete", "head"],
            with(without(&["head"]), &[("tied", &[5, 6])]),
            strings(&[("format", "pt"), ("note", "hello")]),
        ),
        (vec!["--delete", "tied"], all(), strings(&[("format", "pt"), ("note", "hello")])),
        (vec!["--delete", "__metadata__.note"], all(), strings(&[("format", "pt"), ("tied", "head")])),
        (
            vec!["--set-metadata", "note=é \"x\" = y", "--set-metadata", "a="],
            all(),
            strings(&[("format", "pt"), ("note", "é \"x\" = y"), ("tied", "head"), ("a", "")]),
        ),
        (
            vec!["--move", "head=a_name_for_which_there_is_no_room_in_the_header", "--delete", "enc.b"],
            with(without(&["head", "enc.b"]), &[("a_name_for_which_there_is_no_room_in_the_header", &[5, 6])]),
            strings(&[
                ("format", "pt"),
                ("note", "hello"),
                ("tied", "a_name_for_which_there_is_no_room_in_the_header"),
            ]),
        ),
    ];
    for (words, tensors, strings) in cases {
        for in_place in [false, true] {
            let place = place();
            // the array lies in this directory now
            let words: Vec<&str> =
                words.iter().map(|word| if word.starts_with("enc.w=") { place.set.as_str() } else { *word }).collect();
            let out = place.out.to_str().unwrap();
            let to = if in_place { vec!["--in-place"] } else { vec!["-o", out] };
            run(&place.file, &[words.clone(), to].concat()).exits(0);
            let (found, texts) = read(if in_place { &place.file } else { &place.out });
            assert_eq!((found, texts), (tensors.clone(), strings.clone()), "{words:?} {in_place}");
        }
    }
}

#[test]
fn a_header_that_fits_goes_over_the_old_one() {
    let place = place();
    let old = fs::read(&place.file).unwrap();
    let report =
        run(&place.file, &["--in-place", "--move", "head=h", "--set-metadata", "note=hi", "--json"]).exits(0).json();
    let new = fs::read(&place.file).unwrap();
    let header = usize::try_from(u64::from_le_bytes(*old.first_chunk().unwrap())).unwrap();
    assert_eq!((new.len(), &new[..8], &new[8 + header..]), (old.len(), &old[..8], &old[8 + header..]));
    assert_eq!(report["bytes"], header);
    assert_eq!(report["changes"][1]["new"], "\"hi\"");
    // what is at the end is cut off
    run(&place.file, &["--in-place", "--delete", "h"]).exits(0);
    run(&place.file, &["--in-place", "--delete", "tied"]).exits(0);
    assert_eq!(fs::read(&place.file).unwrap().len(), old.len() - 2);
    // with room in the header it may grow
    file(&place.file, "", &[("a", &[1])], 100);
    let old = fs::read(&place.file).unwrap().len();
    run(&place.file, &["--in-place", "--set-metadata", "license=mit"]).exits(0);
    assert_eq!(fs::read(&place.file).unwrap().len(), old);
    assert_eq!(read(&place.file).1["license"], "mit");
}

#[test]
fn what_a_safetensors_file_cannot_hold_is_said() {
    let place = place();
    let old = fs::read(&place.file).unwrap();
    for (words, said) in [
        (&["--set", "epoch=1"][..], "holds tensors and metadata only, no values; --set-metadata sets strings"),
        (&["--set", "__metadata__.note='x'"], "--set-metadata sets strings"),
        (&["--delete", "hea"], "no element named `hea`; did you mean `head`?"),
        (&["--move", "head=enc.w"], "`enc.w` is there already"),
        (&["--move", "enc=head"], "`head` is there already"),
        (&["--move", "enc=enc.x"], "cannot be moved into itself"),
        (&["--move", "head=note"], "is a key of __metadata__ already"),
        (&["--move", "head=__metadata__"], "cannot be called `__metadata__`"),
        (&["--move", ".=model"], "one level of names"),
        (&["--move", "enc=."], "one level of names"),
        (&["--move", "__metadata__.note=x"], "keeps its key"),
        (&["--set-metadata", "other=head"], "would become another name of that tensor"),
        (&["--set-metadata", "tied=x"], "is another name of a tensor"),
        (&["--set-metadata", "x"], "has no `=`; use --set-metadata KEY=VALUE"),
        (&["--set-metadata", "a=b", "--delete", "nope"], "no element named `nope`"),
    ] {
        let run = run(&place.file, &[&["--in-place"], words].concat()).exits(2);
        assert!(run.stderr.contains(said) && run.stderr.lines().count() == 1, "{words:?}: {}", run.stderr);
        assert!(fs::read(&place.file).unwrap() == old, "{words:?}");
    }
    let out = place.out.with_extension("pt");
    let refused = run(&place.file, &["--delete", "head", "-o", out.to_str().unwrap()]).exits(2).stderr;
    assert!(refused.contains("keeps the format of its input, safetensors") && !out.exists(), "{refused}");
    let shards = testdata("frameworks/hf_sharded_safetensors/model.safetensors.index.json");
    let refused = run(&shards, &["--delete", "head", "--dry-run"]).exits(2).stderr;
    assert!(refused.contains("made of several files") && refused.contains("ckpt convert"), "{refused}");
}

#[test]
fn an_npz_keeps_its_other_members() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.npz");
    fs::copy(testdata("more/arrays.npz"), &path).unwrap();
    let old = fs::read(&path).unwrap();
    let before = rows(&old).unwrap();
    let (name, row) =
        before.iter().find(|(_, row)| row["dtype"] == "float32" && row["shape"] != serde_json::json!([])).unwrap();
    let array = dir.path().join("x.npy");
    npy(&array, &[1, 2, 3]);
    let set = format!("{name}={}", array.display());
    let refused = run(&path, &["--in-place", "--set-tensor", &set, "--force-shape"]).exits(2).stderr;
    assert!(refused.contains("is float32") && refused.contains("uint8 [3]"), "{refused}");
    let refused = run(&path, &["--in-place", "--set", "a=1"]).exits(2).stderr;
    assert!(refused.contains("holds arrays only"), "{refused}");
    assert!(fs::read(&path).unwrap() == old);
    let others: Vec<&String> = before.keys().filter(|other| *other != name).collect();
    run(&path, &["--in-place", "--move", &format!("{name}=moved"), "--delete", others[0]]).exits(0);
    let now = rows(&fs::read(&path).unwrap()).unwrap();
    assert_eq!(now.len(), before.len() - 1);
    assert_eq!(now["moved"]["sha256"], row["sha256"]);
    for other in &others[1..] {
        assert_eq!(now[*other], before[*other], "{other}");
    }
    let mut zip = ::zip::ZipArchive::new(fs::File::open(&path).unwrap()).unwrap();
    for index in 0..zip.len() {
        std::io::copy(&mut zip.by_index(index).unwrap(), &mut std::io::sink()).unwrap();
    }
    assert!(now.values().all(|row| row.get("sha256").is_none_or(|hash| *hash != Value::Null)));
}

#[test]
fn a_prefix_is_stripped_in_the_header_alone() {
    let place = place();
    let old = fs::read(&place.file).unwrap();
    run_with(ckpt().args(["strip-prefix", "enc.", "--in-place"]).arg(&place.file), b"").exits(0);
    let new = fs::read(&place.file).unwrap();
    let header = 8 + usize::try_from(u64::from_le_bytes(*old.first_chunk().unwrap())).unwrap();
    assert_eq!((new.len(), &new[..8], &new[header..]), (old.len(), &old[..8], &old[header..]));
    let names: Vec<String> = read(&place.file).0.into_keys().collect();
    assert_eq!(names, ["b", "empty", "head", "w"]);
}
