//! `ckpt merge`: keyed and flat, any container in, any format out. What torch makes of it is in tests/interop.py.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::fs;
use std::path::Path;

use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use serde_json::Value;

use crate::driver::{Dir, Run, ckpt, for_each, run, run_with, testdata, zip_of};

const STATE: &str = "torch-2.15-py311/cnn_state.pt";
const FULL: &str = "torch-2.15-py311/cnn_full.pth";
const CHECKPOINT: &str = "torch-2.15-py311/checkpoint.tar";

fn merge(arguments: &str, output: &str) -> Run {
    run(&format!("merge {arguments} -o {output}"))
}

/// Refused with one line, and nothing is written.
fn refused(arguments: &str, output: &str) -> String {
    let dir = Dir::new();
    let run = merge(arguments, &dir.path(output)).exits(2);
    assert_eq!(run.stderr.lines().count(), 1, "{}", run.stderr);
    assert!(run.stdout.is_empty() && dir.is_empty(), "{arguments}: {:?}", dir.names());
    run.stderr
}

fn same(a: &str, b: &str) {
    let run = run(&format!("diff --bitwise {a} {b}"));
    assert_eq!(run.status, 0, "{a} {b}: {}{}", run.text(), run.stderr);
}

/// The values of two whole files, tensors, devices and all.
fn same_whole(a: &str, b: &str) {
    let run = run(&format!("diff --bitwise --root-a . --root-b . {a} {b}"));
    assert_eq!(run.status, 0, "{a} {b}: {}{}", run.text(), run.stderr);
}

fn names(file: &str) -> Vec<String> {
    run(&format!("ls --tensors --names {file}")).exits(0).lines().into_iter().map(str::to_owned).collect()
}

/// A state dict cut into parts, by names.
fn parts(dir: &Dir, file: &str, names: &[Vec<String>], extension: &str) -> Vec<String> {
    let write = |(number, names): (usize, &Vec<String>)| {
        let part = dir.path(&format!("part_{number}.{extension}"));
        let mut command = ckpt();
        command.args(["convert", "-q", file, &part]);
        names.iter().for_each(|name| {
            command.args(["--include", name]);
        });
        run_with(&mut command, b"").exits(0);
        part
    };
    names.iter().enumerate().map(write).collect()
}

#[test]
fn each_key_has_the_whole_object() {
    let dir = Dir::new();
    let out = dir.path("gan.pth");
    let run_of = merge(&format!("generator={FULL} discriminator={CHECKPOINT}"), &out).exits(0);
    assert_eq!(run_of.stderr, format!("ckpt: {out}: merged 2 inputs, 53 tensors\n"));
    for (key, file) in [("generator", FULL), ("discriminator", CHECKPOINT)] {
        let back = dir.path("back.pt");
        run(&format!("convert -q --force --root {key} {out} {back}")).exits(0);
        same_whole(&back, file);
        let alone = dir.path("alone.pt");
        run(&format!("convert -q --force {file} {alone}")).exits(0);
        // the same bytes as if it had never been among others
        assert_eq!(fs::read(&back).unwrap(), fs::read(&alone).unwrap(), "{key}");
    }
    let listed = run(&format!("ls --json {out}")).json();
    assert_eq!(listed["root_type"], "dict");
    assert!(run(&format!("ls --tree {out}")).text().contains("generator: SmallCNN"), "the class stays");
}

#[test]
fn parts_of_a_state_dict_come_back_as_the_whole() {
    let dir = Dir::new();
    let all = names(STATE);
    let cut: Vec<Vec<String>> = all.chunks(4).map(<[String]>::to_vec).collect();
    let whole = dir.path("whole.pt");
    let reference = dir.path("reference.pt");
    run(&format!("convert -q {STATE} {reference}")).exits(0);
    let torch = parts(&dir, STATE, &cut, "pt");
    merge(&torch.join(" "), &whole).exits(0);
    assert_eq!(names(&whole), all, "in order");
    // `_metadata` and all, byte for byte
    assert_eq!(fs::read(&whole).unwrap(), fs::read(&reference).unwrap());
    for extension in ["safetensors", "npz", "pth"] {
        let parts = parts(&dir, STATE, &cut, extension);
        let whole = dir.path(&format!("from_{extension}.safetensors"));
        merge(&parts.join(" "), &whole).exits(0);
        same(&whole, STATE);
    }
    // of unlike containers, one of them in shards
    let shards = dir.path("shards");
    run(&format!("convert -q {} {shards} --to safetensors --max-shard-size 100B", torch[1])).exits(0);
    let npz = dir.path("part_2.npz");
    for output in ["mixed.pt", "mixed.safetensors", "mixed.npz"] {
        let output = dir.path(output);
        merge(&format!("{} {shards} {npz} {}", torch[0], torch[3]), &output).exits(0);
        same(&output, STATE);
    }
    let legacy = dir.path("legacy.pt");
    merge(&format!("{} {} --to torch-legacy", torch[0], torch[1]), &legacy).exits(0);
    assert_eq!(run(&format!("ls --json {legacy}")).json()["container"], "legacy");
    let shards = dir.path("out");
    merge(&format!("{} --to torch --max-shard-size 400B", torch.join(" ")), &shards).exits(0);
    same(&shards, STATE);
}

#[test]
fn what_is_not_the_weights_is_named() {
    let dir = Dir::new();
    let out = dir.path("x.pt");
    let other = dir.path("other.safetensors");
    tensors(&other, &[("w", &[1.0])]);
    let run_of = merge(&format!("{CHECKPOINT} {other} --json"), &out);
    let report = run_of.exits(0);
    assert!(
        report.stderr.contains(&format!("{CHECKPOINT}: weights: model_state_dict, 13 tensors")),
        "{}",
        report.stderr
    );
    assert!(report.stderr.contains("left out: "), "{}", report.stderr);
    let json = report.json();
    assert_eq!(json["inputs"][0]["weights"], "model_state_dict");
    let left: Vec<&str> =
        json["inputs"][0]["left_out"].as_array().unwrap().iter().map(|left| left["name"].as_str().unwrap()).collect();
    assert!(left.contains(&"optimizer_state_dict") && left.contains(&"epoch"), "{left:?}");
    assert_eq!((json["schema"].as_str(), json["tensors"].as_u64()), (Some("ckpt.merge/1"), Some(14)));
    // the same part of several files
    let out = dir.path("roots.pt");
    let first = dir.path("first.pt");
    run(&format!("convert -q --include model_state_dict.features --include epoch {CHECKPOINT} {first}")).exits(0);
    let second = dir.path("second.pt");
    run(&format!("convert -q --include model_state_dict.classifier {CHECKPOINT} {second}")).exits(0);
    merge(&format!("--root model_state_dict {first} {second}"), &out).exits(0);
    assert_eq!(names(&out), names(STATE)[1..]);
}

#[test]
fn a_name_of_two_inputs() {
    let dir = Dir::new();
    let (a, b) = (dir.path("a.safetensors"), dir.path("b.safetensors"));
    tensors(&a, &[("w", &[1.0, 2.0]), ("v", &[3.0]), ("u", &[f32::NAN])]);
    tensors(&b, &[("x", &[9.0]), ("w", &[1.0, 2.5]), ("u", &[f32::NAN])]);
    let error = refused(&format!("{a} {b}"), "x.pt");
    let both = format!("({a}, {b})");
    assert!(
        error.contains(&format!("2 names are in more than one input: w {both}, u {both}; --on-conflict first")),
        "{error}"
    );
    let error = refused(&format!("{a} {b} --on-conflict equal"), "x.pt");
    assert!(error.contains(&format!("1 name not equal in all inputs: w ({a}, {b}: elements differ)")), "{error}");
    for (which, w, order) in [("first", 2.0, "w v u x"), ("last", 2.5, "w v u x")] {
        for extension in ["pt", "safetensors", "npz"] {
            let out = dir.path(&format!("{which}.{extension}"));
            let report = merge(&format!("{a} {b} --on-conflict {which} --json"), &out).exits(0);
            let mut found = names(&out);
            let mut wanted: Vec<&str> = order.split(' ').collect();
            if extension != "pt" {
                found.sort();
                wanted.sort_unstable();
            }
            assert_eq!(found, wanted);
            let value = run(&format!("extract --json {out} w")).exits(0);
            assert!(value.text().contains(&format!("{w:.1}")), "{which}: {}", value.text());
            let kept = if which == "first" { &a } else { &b };
            let conflict = serde_json::json!({"name": "w", "inputs": [a, b], "kept": kept});
            assert_eq!(report.json()["conflicts"][0], conflict);
            assert!(
                report.stderr.contains(&format!("{kept}: kept from this input, though others have it too: w, u")),
                "{}",
                report.stderr
            );
        }
    }
    let out = dir.path("equal.pt");
    merge(&format!("{a} {a} --on-conflict equal"), &out).exits(0);
    same(&out, &a);
    // shapes, dtypes, values
    let c = dir.path("c.safetensors");
    tensors(&c, &[("w", &[1.0])]);
    assert!(refused(&format!("{a} {c} --on-conflict equal"), "x.pt").contains("shapes differ"));
    assert!(refused(&format!("one={a} {b}"), "x.pt").contains("give every input a key, or none"));
    assert!(
        refused(&format!("one={a} two={b} --on-conflict first"), "x.pt")
            .contains("--on-conflict is for inputs without keys")
    );
    assert!(refused(&a, "x.pt").contains("at least two inputs"));
}

/// A safetensors file of rows of float32.
fn tensors(path: &str, rows: &[(&str, &[f32])]) {
    let mut header = serde_json::Map::new();
    let mut data: Vec<u8> = Vec::new();
    for (name, row) in rows {
        let start = data.len();
        data.extend(row.iter().flat_map(|value| value.to_le_bytes()));
        let entry = serde_json::json!({"dtype": "F32", "shape": [row.len()], "data_offsets": [start, data.len()]});
        header.insert((*name).to_owned(), entry);
    }
    let header = serde_json::to_vec(&Value::Object(header)).unwrap();
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend(header);
    bytes.extend(data);
    fs::write(path, bytes).unwrap();
}

#[test]
fn two_inputs_never_share() {
    let dir = Dir::new();
    let out = dir.path("twice.pt");
    merge("one=layouts/tied.pt2 two=layouts/tied.pt2", &out).exits(0);
    let listed = run(&format!("ls --json {out}")).json();
    let shares = |tensor: &Value| {
        let all = tensor["shares_with"].as_array().unwrap();
        (
            tensor["name"].as_str().unwrap().to_owned(),
            all.iter().map(|name| name.as_str().unwrap().to_owned()).collect::<Vec<_>>(),
        )
    };
    let tied: Vec<(String, Vec<String>)> =
        listed["tensors"].as_array().unwrap().iter().map(shares).filter(|(_, shares)| !shares.is_empty()).collect();
    assert!(tied.len() >= 4, "{tied:?}");
    for (name, shares) in tied {
        let key = name.split('.').next().unwrap();
        assert!(shares.iter().all(|other| other.split('.').next() == Some(key)), "{name} shares with {shares:?}");
    }
    // formats without sharing: the aliases of one input stay its own
    let file = "round_trips/tied.safetensors";
    let out = dir.path("aliases.safetensors");
    merge(&format!("one={file} two={file}"), &out).exits(0);
    let header = String::from_utf8_lossy(&fs::read(&out).unwrap()).into_owned();
    assert!(
        header.contains(r#""one.wte.weight":"one.lm_head.weight""#)
            && header.contains(r#""two.wte.weight":"two.lm_head.weight""#),
        "{header}"
    );
    assert!(refused(&format!("one={file} two={file} --shared error"), "x.safetensors").contains("share memory"));
}

#[test]
fn keys_and_names_of_files() {
    let dir = Dir::new();
    let in_dir = |arguments: &str| {
        let words: Vec<&str> = arguments.split(' ').collect();
        run_with(ckpt().arg("merge").args(words).current_dir(dir.path("")), b"")
    };
    let copy = |name: &str| fs::copy(testdata(STATE), dir.path(name)).unwrap();
    copy("a.pt");
    copy("k=b.pt");
    // what is a file is no key
    assert!(in_dir("k=b.pt -o x.pt").exits(2).stderr.contains("at least two inputs"));
    assert_eq!(in_dir("k=b.pt a.pt --on-conflict equal -o x.pt").status, 0);
    // and a key may stand before it
    in_dir("one=k=b.pt model.v1.0=a.pt -o y.pt").exits(0);
    let listed = names(&dir.path("y.pt"));
    assert!(listed.contains(&"one.steps".to_owned()) && listed.contains(&"model.v1.0.steps".to_owned()), "{listed:?}");
    copy("b.pt");
    let both = in_dir("k=b.pt -o z.pt").exits(2).stderr;
    assert_eq!(
        both,
        "ckpt: k=b.pt: both this and b.pt are files; use ./k=b.pt for the one, k=./b.pt for the other with a key\n"
    );
    assert_eq!(in_dir("./k=b.pt a.pt --on-conflict first -o z.pt").status, 0);
    in_dir("k=./b.pt -o k.pt").exits(0);
    assert_eq!(names(&dir.path("k.pt"))[0], "k.steps");
    for (arguments, wanted) in [
        ("x=gone.pt y=a.pt -o w.pt", "x=gone.pt: no such file, and neither is gone.pt for the key \"x\""),
        ("=a.pt -o w.pt", "=a.pt: no such file, and no KEY before the `=`"),
        ("x= -o w.pt", "x=: no such file, and no INPUT behind the `=`"),
        ("x=a.pt x=b.pt -o w.pt", "b.pt: two inputs have the key \"x\""),
        ("x=- y=- -o w.pt", "`-` (standard input) can be read only once"),
    ] {
        let error = in_dir(arguments).exits(2).stderr;
        assert_eq!(error, format!("ckpt: {wanted}\n"));
        assert!(!Path::new(&dir.path("w.pt")).exists());
    }
    let stdin = fs::read(testdata(STATE)).unwrap();
    let out = dir.path("stdin.pt");
    run_with(ckpt().args(["merge", "piped=-", &format!("file={FULL}"), "-o", &out]), &stdin).exits(0);
    let back = dir.path("back.pt");
    run(&format!("convert -q --root piped {out} {back}")).exits(0);
    same_whole(&back, STATE);
    // a member of an archive
    let archive = zip_of(&[("deep/a.pt", &stdin)], zip::CompressionMethod::Deflated);
    fs::write(dir.path("a.zip"), archive).unwrap();
    in_dir("m=a.zip::deep/a.pt -o member.pt").exits(0);
    assert_eq!(names(&dir.path("member.pt"))[0], "m.steps");
}

#[test]
fn where_it_goes() {
    let dir = Dir::new();
    let (one, two) = (dir.path("one.pt"), dir.path("two.pt"));
    fs::copy(testdata(STATE), &one).unwrap();
    fs::copy(testdata(FULL), &two).unwrap();
    let error = merge(&format!("a={one} b={two}"), &two).exits(2).stderr;
    assert!(error.contains("is the input itself; --force replaces it"), "{error}");
    assert_eq!(fs::read(&two).unwrap(), fs::read(testdata(FULL)).unwrap());
    merge(&format!("a={one} b={two} --force"), &two).exits(0);
    assert_eq!(names(&two)[0], "a.steps");
    let error = merge(&format!("a={one}"), &dir.path("")).exits(2).stderr;
    assert!(error.contains("cannot tell the output format") || error.contains("is a directory"), "{error}");
    assert!(refused(&format!("a={one}"), "x.what").contains("--to torch|torch-legacy|safetensors|npz"));
    assert!(merge(&format!("a={one} --to torch --json"), "-").exits(2).stderr.contains("--json and OUTPUT `-`"));
    let out = run_with(ckpt().args(["merge", &format!("a={one}"), "--to", "torch", "-o", "-"]), b"").exits(0);
    let piped = dir.path("piped.pt");
    fs::write(&piped, out.stdout).unwrap();
    assert_eq!(names(&piped)[0], "a.steps");
    // names of the output are chosen
    let out = dir.path("chosen.pt");
    let report = merge(&format!("a={one} b={STATE} --exclude a.features --drop b"), &out).exits(0);
    assert!(names(&out).iter().all(|name| name.starts_with("a.classifier") || name == "a.steps"), "{:?}", names(&out));
    assert!(report.stderr.contains("left out: a.features.0.weight"), "{}", report.stderr);
    assert!(refused(&format!("a={one} --exclude a.faetures"), "x.pt").contains("a.features"), "suggests near names");
    assert!(refused(&format!("a={one} --root nope"), "x.pt").contains("nope"));
}

#[test]
fn damage_is_told_with_the_file() {
    let dir = Dir::new();
    let (broken, other) = (dir.path("broken.pt"), dir.path("other.safetensors"));
    tensors(&other, &[("w", &[1.0])]);
    let mut bytes = fs::read(testdata(STATE)).unwrap();
    let wanted: Vec<u8> = {
        let run = run(&format!("extract {STATE} features.3.weight -o - --to bin")).exits(0);
        run.stdout
    };
    let at = bytes.windows(64).position(|window| window == &wanted[..64]).unwrap();
    bytes[at] ^= 1;
    fs::write(&broken, bytes).unwrap();
    for (arguments, output) in [
        (format!("good={STATE} bad={broken}"), "x.pt"),
        (format!("good={STATE} bad={broken}"), "x.safetensors"),
        (format!("{broken} {other}"), "y.pt"),
    ] {
        let report = merge(&format!("{arguments} --json"), &dir.path(output)).exits(0);
        let doubtful = report.json()["doubtful"].clone();
        let doubtful = doubtful.as_array().unwrap();
        assert_eq!(doubtful.len(), 1, "{doubtful:?}");
        assert_eq!(doubtful[0]["name"], "features.3.weight");
        assert!(doubtful[0]["why"].as_str().unwrap().ends_with(&format!("in {broken}")), "{doubtful:?}");
        assert!(report.stderr.contains("warning: features.3.weight: its checksum does not match"), "{}", report.stderr);
    }
    // a storage that is missing
    let missing = dir.path("missing.pt");
    let source = fs::read(testdata(STATE)).unwrap();
    let mut archive = zip::ZipArchive::new(std::io::Cursor::new(source)).unwrap();
    let mut members = Vec::new();
    for index in 0..archive.len() {
        let mut member = archive.by_index(index).unwrap();
        let mut bytes = Vec::new();
        std::io::Read::read_to_end(&mut member, &mut bytes).unwrap();
        members.push((member.name().unwrap().into_owned(), bytes));
    }
    members.retain(|(name, _)| !name.ends_with("data/5"));
    let members: Vec<(&str, &[u8])> = members.iter().map(|(name, bytes)| (name.as_str(), bytes.as_slice())).collect();
    fs::write(&missing, zip_of(&members, zip::CompressionMethod::Stored)).unwrap();
    let error = refused(&format!("good={STATE} bad={missing}"), "x.pt");
    assert!(error.starts_with(&format!("ckpt: {missing}: ")) && error.contains("--exclude"), "{error}");
    // cut off
    let cut = dir.path("cut.pt");
    let bytes = fs::read(testdata(STATE)).unwrap();
    fs::write(&cut, &bytes[..bytes.len() / 2]).unwrap();
    assert!(refused(&format!("good={STATE} bad={cut}"), "x.pt").starts_with(&format!("ckpt: {cut}: ")));
    assert!(refused(&format!("good={STATE} bad=README.md"), "x.pt").starts_with("ckpt: README.md: not a checkpoint"));
}

#[test]
fn metadata_of_safetensors_and_of_modules() {
    let dir = Dir::new();
    let file = |name: &str, metadata: &str, tensor: &str| {
        let header =
            format!(r#"{{"__metadata__":{metadata},"{tensor}":{{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}}}"#);
        let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
        bytes.extend(header.as_bytes());
        bytes.push(7);
        let path = dir.path(name);
        fs::write(&path, bytes).unwrap();
        path
    };
    let a = file("a.safetensors", r#"{"format":"pt","step":"1"}"#, "w");
    let b = file("b.safetensors", r#"{"format":"pt","step":"2","who":"b"}"#, "v");
    let out = dir.path("out.safetensors");
    let report = merge(&format!("{a} {b}"), &out).exits(0);
    assert!(report.stderr.contains(&format!("{b}: __metadata__.step is taken from {a}")), "{}", report.stderr);
    let header = String::from_utf8_lossy(&fs::read(&out).unwrap()).into_owned();
    assert!(header.contains(r#""__metadata__":{"format":"pt","step":"1","who":"b"}"#), "{header}");
    let report = merge(&format!("{a} {b}"), &dir.path("out.pt")).exits(0);
    assert!(report.stderr.contains("left out: __metadata__"), "{}", report.stderr);
}

/// A pickle, protocol 2, that nothing else is in.
fn pickled(path: &str, opcodes: &[u8]) {
    fs::write(path, [b"\x80\x02", opcodes, b"."].concat()).unwrap();
}

/// A tensor of two float32 in the storage "0", as opcodes.
const TENSOR: &[u8] = b"ctorch._utils\n_rebuild_tensor_v2\n((X\x07\0\0\0storagectorch\nFloatStorage\nX\x01\0\0\x000X\x03\0\0\0cpuK\x02tQK\0K\x02\x85K\x01\x85\x89ccollections\nOrderedDict\n)RtR";

#[test]
fn keys_that_are_no_text() {
    let dir = Dir::new();
    let dict = |name: &str, keys: &[&[u8]]| {
        let path = dir.path(name);
        let items: Vec<u8> = keys.iter().flat_map(|key| [key, TENSOR].concat()).collect();
        let pickle = [b"\x80\x02}(", items.as_slice(), b"u."].concat();
        let members: &[(&str, &[u8])] =
            &[("archive/data.pkl", &pickle), ("archive/data/0", &[7; 8]), ("archive/version", b"3\n")];
        fs::write(&path, zip_of(members, zip::CompressionMethod::Stored)).unwrap();
        path
    };
    let numbers = dict("numbers.pkl", &[b"K\x00", b"K\x01"]);
    let others = dict("others.pkl", &[b"K\x02", b"\x88"]);
    // True is 1
    let error = refused(&format!("{numbers} {others} --root ."), "x.pt");
    assert!(error.contains("1 name is in more than one input: 1 ("), "{error}");
    let out = dir.path("numbers.pt");
    let third = dict("third.pkl", &[b"K\x07"]);
    merge(&format!("{numbers} {third} --root ."), &out).exits(0);
    assert_eq!(names(&out), ["0", "1", "7"]);
    for (name, key, shown) in [("tuple", &b"K\x00K\x01\x86"[..], "(0, 1)"), ("float", b"G\x3f\xf0\0\0\0\0\0\0", "1.0")]
    {
        let odd = dict(name, &[key]);
        let error = refused(&format!("{odd} {numbers} --root ."), "x.pt");
        assert!(error.contains(&format!("a key that is neither text nor a number: {shown}")), "{error}");
        // a key of its own above it makes no difference between its keys
        merge(&format!("a={odd} b={numbers}"), &dir.path(&format!("{name}.pt"))).exits(0);
    }
    let error = refused("torch-2.15-py311/bare_tensor.pt torch-2.15-py311/cnn_state.pt", "x.pt");
    assert_eq!(error, "ckpt: torch-2.15-py311/bare_tensor.pt: is one tensor without a name; give every input a key\n");
}

#[test]
fn advice_can_be_followed() {
    let error = refused(&format!("{STATE} torch-2.15-py311/multi_model.pt"), "x.pt");
    assert!(
        error.starts_with("ckpt: torch-2.15-py311/multi_model.pt: holds several sets of weights; choose --root "),
        "{error}"
    );
    let error = refused(&format!("{STATE} weights/frozen.pt"), "x.pt");
    assert!(
        error.starts_with("ckpt: weights/frozen.pt: ") && error.ends_with("; --root . takes them all\n"),
        "{error}"
    );
    let dir = Dir::new();
    let values = dir.path("values.pkl");
    pickled(&values, b"}X\x01\x00\x00\x00aK\x01s");
    assert_eq!(refused(&format!("{STATE} {values}"), "x.pt"), format!("ckpt: {values}: holds no tensors\n"));
    // a cast is not to be had here
    let error = refused("a=torch-2.15-py311/dtypes.pt", "x.npz");
    assert!(
        error.starts_with("ckpt: torch-2.15-py311/dtypes.pt: a.")
            && error.ends_with("; change the input first with `ckpt convert`\n")
            || error.contains("--exclude"),
        "{error}"
    );
    assert!(!error.contains("--dtype"), "{error}");
}

#[test]
fn keyed_inputs_come_back() {
    // what can be opened, in every container
    let folders =
        ["torch-2.15-py311", "torch-1.5-py36", "torch-1.13-py311", "tar", "layouts", "round_trips", "wrappers", "more"];
    let mut files: Vec<String> = Vec::new();
    for folder in folders {
        let entries = fs::read_dir(testdata(folder)).unwrap();
        let names = entries.map(|entry| format!("{folder}/{}", entry.unwrap().file_name().into_string().unwrap()));
        files.extend(names.filter(|name| !name.ends_with(".json") && !name.ends_with(".md")));
    }
    files.sort();
    assert!(files.len() > 60);
    let other = "torch-2.15-py311/everything.pt";
    for_each(&files, |file| {
        let dir = Dir::new();
        let (alone, out, back) = (dir.path("alone.pt"), dir.path("out.pt"), dir.path("back.pt"));
        let converted = run(&format!("convert {file} {alone}"));
        let merged = run(&format!("merge first={other} it={file} last={other} -o {out}"));
        if converted.status != merged.status {
            return Err(format!("{file}: convert {} merge {}", converted.stderr, merged.stderr));
        }
        if merged.status != 0 {
            return Ok(());
        }
        let back_run = run(&format!("convert -q --root it {out} {back}"));
        if back_run.status != 0 || fs::read(&back).unwrap() != fs::read(&alone).unwrap() {
            return Err(format!("{file}: not what convert makes of it: {}", back_run.stderr));
        }
        Ok(())
    });
}

#[test]
fn any_cut_of_a_state_dict_comes_back() {
    let all = names(STATE);
    let reference = {
        let dir = Dir::new();
        let path = dir.path("reference.pt");
        run(&format!("convert -q {STATE} {path}")).exits(0);
        fs::read(path).unwrap()
    };
    let mut runner =
        TestRunner::new(ProptestConfig { cases: 12, failure_persistence: None, ..ProptestConfig::default() });
    let cuts =
        (prop::collection::btree_set(1..all.len(), 0..4), prop::sample::select(vec!["pt", "safetensors", "npz"]));
    runner
        .run(&cuts, |(cuts, extension)| {
            let dir = Dir::new();
            let ends: Vec<usize> = cuts.into_iter().chain([all.len()]).collect();
            let mut start = 0;
            let mut slices = Vec::new();
            for end in ends {
                slices.push(all[start..end].to_vec());
                start = end;
            }
            let parts = parts(&dir, STATE, &slices, extension);
            if parts.len() < 2 {
                return Ok(());
            }
            let whole = dir.path("whole.pt");
            merge(&parts.join(" "), &whole).exits(0);
            same(&whole, STATE);
            if extension == "pt" {
                prop_assert_eq!(fs::read(&whole).unwrap(), reference.clone());
            }
            Ok(())
        })
        .unwrap();
}
