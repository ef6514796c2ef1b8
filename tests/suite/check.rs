//! `ckpt check`: every trick by which a pickle hides what it calls, what is broken in a file, every option.
//!
//! # How it differs from other scanners
//!
//! Compared with picklescan 1.0.5 and fickling 0.1.12 on all files of their repositories' tests (none is kept here): what either
//! calls dangerous or suspicious never comes out `ok`, what either calls clean never comes out `danger`. Where the words
//! differ:
//!
//! - Members of `__future__` and `collections.abc`, which fickling counts as harmless because they are in the standard
//!   library, are `unknown` here (a warning): the allow list names what checkpoints need, nothing else.
//! - Names with dots in modules of Python's own (`__future__._ssl.RAND_bytes`) are dangerous, whether they are there or not:
//!   fickling calls them unsafe, picklescan does not list them.
//! - Pickles that only break (an unhashable key, a list that holds itself, a PROTO in the middle) are `warning` or `error`:
//!   nothing is run by them, so `danger` would be the wrong word.
//! - A 7-Zip archive is no checkpoint (exit status 2); picklescan unpacks it with another package.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // helpers of tests are tests

use std::fs;
use std::io::Write;
use std::path::Path;
use std::sync::Arc;

use crate::driver::{self, ckpt, golden, run, run_with, testdata};
use ckpt::limits::Limits;
use ckpt::safety::examine::{Examined, examine};
use ckpt::safety::finding::Severity;
use ckpt::safety::globals::Status;
use ckpt::safety::integrity::Depth;
use ckpt::source::{MemorySource, SharedSource};
use serde_json::Value;

fn examined(name: &str, bytes: &[u8]) -> Examined {
    let source: SharedSource = Arc::new(MemorySource::new(bytes.to_vec()));
    let depth = Depth { data: true, numerics: false };
    examine(Path::new(name), &source, &Limits::default(), depth).unwrap()
}

fn worst(examined: &Examined) -> Option<Severity> {
    examined.findings.iter().map(|finding| finding.severity).max()
}

fn codes(examined: &Examined) -> Vec<&str> {
    examined.findings.iter().map(|finding| finding.code).collect()
}

/// `os.system("id")`, protocol 0.
const SYSTEM: &[u8] = b"cos\nsystem\n(S'id'\ntR.";

/// A zip of stored members.
fn zip_of(members: &[(&str, &[u8])]) -> Vec<u8> {
    driver::zip_of(members, zip::CompressionMethod::Stored)
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut writer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    writer.write_all(bytes).unwrap();
    writer.finish().unwrap()
}

fn tar_of(members: &[(&str, &[u8])]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, bytes) in members {
        let mut header = tar::Header::new_ustar();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        header.set_cksum();
        builder.append_data(&mut header, name, *bytes).unwrap();
    }
    builder.into_inner().unwrap()
}

/// `bytes` as the argument of a call, protocol 3.
fn call_with_bytes(module: &str, name: &str, bytes: &[u8]) -> Vec<u8> {
    let mut out = format!("\u{0}c{module}\n{name}\n").into_bytes();
    out.splice(..1, [0x80, 3]);
    out.push(b'B');
    out.extend(u32::try_from(bytes.len()).unwrap().to_le_bytes());
    out.extend(bytes);
    out.extend(b"\x85R.");
    out
}

/// What pickles do, however they say it, and the global that must come out of it.
#[test]
fn no_trick_hides_a_dangerous_global() {
    let npy = |body: &[u8]| {
        let header = b"{'descr': '|O', 'fortran_order': False, 'shape': (1,), }\n";
        [b"\x93NUMPY\x01\x00".as_slice(), &u16::try_from(header.len()).unwrap().to_le_bytes(), header, body].concat()
    };
    let cases: Vec<(&str, Vec<u8>, &str)> = vec![
        ("GLOBAL and REDUCE", SYSTEM.to_vec(), "os.system"),
        ("merely named", b"cos\nsystem\n.".to_vec(), "os.system"),
        ("the module's other names", b"cposix\nsystem\n(S'id'\ntR.".to_vec(), "posix.system"),
        ("the module's name on Windows", b"cnt\nsystem\n(S'id'\ntR.".to_vec(), "nt.system"),
        ("Python 2's builtins", b"c__builtin__\neval\n(S'1'\ntR.".to_vec(), "__builtin__.eval"),
        ("builtins", b"cbuiltins\nexec\n(S'1'\ntR.".to_vec(), "builtins.exec"),
        ("INST", b"(S'id'\nios\nsystem\n.".to_vec(), "os.system"),
        ("OBJ", b"(cos\nsystem\nS'id'\no.".to_vec(), "os.system"),
        ("NEWOBJ", b"\x80\x02csubprocess\nPopen\n(S'id'\nt\x81.".to_vec(), "subprocess.Popen"),
        ("NEWOBJ_EX", b"\x80\x04csubprocess\nPopen\n)}\x92.".to_vec(), "subprocess.Popen"),
        ("STACK_GLOBAL", b"\x80\x04\x8c\x02os\x8c\x06system\x93\x8c\x02id\x85R.".to_vec(), "os.system"),
        (
            "STACK_GLOBAL from the memo, overwritten there",
            b"\x80\x04\x8c\x04jsonq\x000\x8c\x02osq\x000\x8c\x06systemq\x010h\x00h\x01\x93\x8c\x02id\x85R.".to_vec(),
            "os.system",
        ),
        ("STACK_GLOBAL of protocol 0's escapes", b"S'\\x6fs'\nVsyst\\u0065m\n\x93(S'id'\ntR.".to_vec(), "os.system"),
        ("a dotted name", b"\x80\x04\x8c\x05torch\x8c\x09os.system\x93\x8c\x02id\x85R.".to_vec(), "torch.os.system"),
        (
            "through another module",
            b"\x80\x04\x8c\x06shutil\x8c\x09os.system\x93\x8c\x02id\x85R.".to_vec(),
            "shutil.os.system",
        ),
        ("getattr", b"cbuiltins\ngetattr\n(cos\npath\nS'os'\ntR.".to_vec(), "builtins.getattr"),
        ("operator", b"coperator\nattrgetter\n(S'system'\ntR(cos\npath\ntR.".to_vec(), "operator.attrgetter"),
        ("runs before it breaks", b"cos\nsystem\n(S'id'\ntR\xff".to_vec(), "os.system"),
        ("is cut off after the call", b"cos\nsystem\n(S'id'\ntR".to_vec(), "os.system"),
        ("thrown away", b"cos\nsystem\n(S'id'\ntR0N.".to_vec(), "os.system"),
        ("in a state", b"ccollections\nOrderedDict\n)R(dS'a'\ncos\nsystem\n(S'id'\ntRsb.".to_vec(), "os.system"),
        ("in a persistent id", b"cos\nsystem\n(S'id'\ntRQ.".to_vec(), "os.system"),
        ("the second pickle", [b"N.".as_slice(), SYSTEM].concat(), "os.system"),
        ("the third pickle", [b"N.N.".as_slice(), SYSTEM].concat(), "os.system"),
        ("a file behind the pickle", [b"N.".as_slice(), &gzip(SYSTEM)].concat(), "os.system"),
        ("compressed", gzip(SYSTEM), "os.system"),
        ("compressed twice", gzip(&gzip(SYSTEM)), "os.system"),
        ("data.pkl", zip_of(&[("archive/data.pkl", SYSTEM)]), "os.system"),
        ("another pickle", zip_of(&[("archive/data.pkl", b"N."), ("archive/extra.pkl", SYSTEM)]), "os.system"),
        ("a member that is no pickle by its name", zip_of(&[("archive/data/0", SYSTEM)]), "os.system"),
        ("a zip in a zip", zip_of(&[("archive/data/0", &zip_of(&[("x", SYSTEM)]))]), "os.system"),
        ("compressed in a zip", zip_of(&[("archive/data/0", &gzip(SYSTEM))]), "os.system"),
        ("in a tar", tar_of(&[("pickle", SYSTEM)]), "os.system"),
        (
            "between the storages of an old tar, without a first opcode that tells",
            tar_of(&[("pickle", b"N."), ("storages", &[b"I1\n.", SYSTEM].concat()), ("tensors", b"I0\n.")]),
            "os.system",
        ),
        (
            "among the tensors of an old tar",
            tar_of(&[("pickle", b"N."), ("storages", b"I0\n.(l."), ("tensors", &[b"I1\n.", SYSTEM].concat())]),
            "os.system",
        ),
        ("in an array of objects", npy(SYSTEM), "os.system"),
        ("in an npz", zip_of(&[("a.npy", &npy(SYSTEM))]), "os.system"),
        ("in the bytes of a storage", call_with_bytes("torch.storage", "_load_from_bytes", SYSTEM), "os.system"),
        ("in the bytes for pickle.loads", call_with_bytes("_pickle", "loads", SYSTEM), "os.system"),
        ("a scanner's own module", b"cfickling\nload\n(S'x'\ntR.".to_vec(), "fickling.load"),
    ];
    for (what, bytes, global) in cases {
        let found = examined("file.pt", &bytes);
        assert_eq!(worst(&found), Some(Severity::Danger), "{what}: {:?}", found.findings);
        let known = found.globals.iter().find(|found| found.name == global);
        let known = known.unwrap_or_else(|| panic!("{what}: {:?}", found.globals));
        assert!(matches!(known.status, Status::Dangerous(_)), "{what}");
        assert!(!found.weights_only.unwrap().opens, "{what}");
    }
}

/// Harmless oddities told by the hundred leave no harm untold.
#[test]
fn noise_hides_nothing() {
    let noise = [&b"\x80\x02"[..], &b"\x82\x07".repeat(150)].concat();
    let computed = b"cbuiltins\nstr\n)RS'system'\n\x93.";
    let found = examined("file.pkl", &[&noise, &computed[..]].concat());
    assert!(codes(&found).contains(&"global-computed"), "{:?}", found.findings);
    let noise_told = found.findings.iter().filter(|finding| finding.code == "global-extension");
    let noise_told: Vec<_> = noise_told.map(|finding| finding.message.as_str()).collect();
    assert!(noise_told.len() == 101 && noise_told.contains(&"and 50 more like these"), "{noise_told:?}");

    // members that only some readers open, behind the noise
    let mut zip = zip_of(&[("a/data.pkl", &[&noise, &b"."[..]].concat()), ("a/data/0", SYSTEM)]);
    let at = |signature: &[u8], zip: &[u8]| zip.windows(4).rposition(|window| window == signature).unwrap();
    let (local, entry) = (at(b"PK\x03\x04", &zip), at(b"PK\x01\x02", &zip));
    (zip[local + 6], zip[entry + 8]) = (1, 1);
    let found = examined("file.pt", &zip);
    assert_eq!(worst(&found), Some(Severity::Danger), "{:?}", found.findings);
}

/// What is not looked at any more is an error, so that it passes nowhere.
#[test]
fn what_is_too_much_is_said() {
    let many = [&b"N.".repeat(10_001), SYSTEM].concat();
    let mut deep = SYSTEM.to_vec();
    for _ in 0..14 {
        deep = zip_of(&[("a.pkl", b"N."), ("x.zip", &deep)]);
    }
    for (bytes, code, severity) in
        [(many, "too-many-pickles", Severity::Error), (deep, "nested-too-deep", Severity::Danger)]
    {
        let found = examined("file.pkl", &bytes);
        let told = found.findings.iter().find(|finding| finding.code == code);
        assert_eq!(told.map(|told| told.severity), Some(severity), "{:?}", found.findings);
        assert_eq!(worst(&found), Some(Severity::Danger), "{:?}", found.findings);
    }
}

/// Of two tables of one name torch reads the last: the other one does not pass for that.
#[test]
fn a_table_of_an_old_tar_stands_twice() {
    let (empty, tensors) = (b"I0\n.(l.".as_slice(), b"I0\n.".as_slice());
    let hidden = [b"I1\n.\x80\x02".as_slice(), SYSTEM].concat();
    let first = [("pickle", b"N.".as_slice()), ("storages", &hidden), ("storages", empty), ("tensors", tensors)];
    let found = examined("file.tar", &tar_of(&first));
    assert!(codes(&found).contains(&"member-duplicate"), "{:?}", found.findings);
    assert_eq!(worst(&found), Some(Severity::Danger), "{:?}", found.findings);
}

/// An archive that only some readers open hides nothing either.
#[test]
fn broken_archives_are_read_by_their_headers() {
    let whole = zip_of(&[("archive/data.pkl", SYSTEM), ("archive/version", b"3\n")]);
    let directory = whole.windows(4).position(|window| window == b"PK\x01\x02").unwrap();
    let end = whole.windows(4).position(|window| window == b"PK\x05\x06").unwrap();
    let mut encrypted = whole.clone();
    (encrypted[6], encrypted[directory + 8]) = (1, 1);
    let mut wrong_size = whole.clone();
    wrong_size[directory + 20] = 200;
    let cases = [
        ("no directory", whole[..directory].to_vec()),
        ("no end record", whole[..end].to_vec()),
        ("said to be encrypted", encrypted),
        ("a wrong size", wrong_size),
        ("damaged behind the call", {
            let mut writer = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
            writer.start_file("archive/data.pkl", zip::write::SimpleFileOptions::default()).unwrap();
            let random: Vec<u8> = (0..4000_u32).flat_map(|n| n.wrapping_mul(2_654_435_761).to_be_bytes()).collect();
            writer
                .write_all(&[b"cos\nsystem\n(S'id'\ntR0\x8e".as_slice(), &16_000_u64.to_le_bytes(), &random].concat())
                .unwrap();
            let mut zip = writer.finish().unwrap().into_inner();
            let middle = zip.len() / 2;
            zip[middle..middle + 200].fill(0xff);
            zip
        }),
        ("the same name twice", {
            let mut twice = zip_of(&[("archive/data.pkl", b"N."), ("archive/data.pk2", SYSTEM)]);
            while let Some(at) = twice.windows(8).position(|window| window == b"data.pk2") {
                twice[at + 7] = b'l';
            }
            twice
        }),
    ];
    for (what, bytes) in cases {
        let found = examined("file.pt", &bytes);
        assert_eq!(worst(&found), Some(Severity::Danger), "{what}: {:?}", found.findings);
    }
}

/// What cannot be told apart from harm is said to be unknown, and what is odd is told.
#[test]
fn what_is_unknown_or_odd() {
    let bomb = {
        let mut out = b"\x80\x02]q\x00(K\x01K\x02e".to_vec();
        for level in 1..=20u8 {
            out.extend([b']', b'q', level, b'(']);
            out.extend([b'h', level - 1].repeat(10));
            out.push(b'e');
        }
        out.push(b'.');
        out
    };
    let cases: Vec<(&str, Vec<u8>, &str, Severity)> = vec![
        ("a class nobody knows", b"cmodels\nNet\n)R.".to_vec(), "global-unknown", Severity::Warning),
        ("a number in copyreg's registry", b"\x80\x02\x82\x07.".to_vec(), "global-extension", Severity::Warning),
        ("bytes after the pickle", b"N.\xff\xfe\xfd".to_vec(), "trailing-data", Severity::Warning),
        ("a list in itself", b"\x80\x02]q\x00h\x00a.".to_vec(), "pickle-endless", Severity::Warning),
        ("lists of lists of lists", bomb, "pickle-expands", Severity::Error),
        ("a list as a key", b"}(]Ns.".to_vec(), "pickle-broken", Severity::Error),
        (
            "STOP outside of the frame",
            b"\x80\x04\x95\x04\0\0\0\0\0\0\0\x8c\x02ab.".to_vec(),
            "pickle-odd",
            Severity::Warning,
        ),
        (
            "a frame in a frame",
            b"\x80\x04\x95\x0b\0\0\0\0\0\0\0\x95\x01\0\0\0\0\0\0\0N.".to_vec(),
            "pickle-odd",
            Severity::Error,
        ),
        ("a PROTO in the middle", b"\x80\x02N\x80\x02.".to_vec(), "pickle-odd", Severity::Warning),
        ("an unhashable key", b"\x80\x02}]Ns.".to_vec(), "key-unhashable", Severity::Error),
        ("an unhashable key in tuples", b"\x80\x02}]\x85\x85Ns.".to_vec(), "key-unhashable", Severity::Error),
        (
            "a pickle in a storage",
            zip_of(&[("a/data.pkl", b"N."), ("a/data/0", b"cmodels\nNet\n)R.")]),
            "pickle-hidden",
            Severity::Warning,
        ),
    ];
    for (what, bytes, code, severity) in cases {
        let found = examined("file.pt", &bytes);
        assert!(codes(&found).contains(&code), "{what}: {:?}", found.findings);
        assert_eq!(worst(&found), Some(severity), "{what}: {:?}", found.findings);
    }
}

/// Nothing that a framework wrote is called dangerous or broken.
#[test]
fn honest_files_are_clean() {
    let mut files = Vec::new();
    for folder in ["torch-1.0-py27", "torch-1.5-py36", "torch-1.6-py37", "torch-1.13-py311", "torch-2.15-py311"] {
        files.extend(fs::read_dir(testdata(folder)).unwrap().map(|entry| entry.unwrap().path()));
    }
    for folder in
        ["frameworks", "more", "layouts", "diff", "python2", "tar", "wrappers", "renames", "numbers", "weights"]
    {
        files.extend(fs::read_dir(testdata(folder)).unwrap().map(|entry| entry.unwrap().path()));
    }
    files.retain(|path| path.is_file() && path.extension().is_none_or(|ending| ending != "json" && ending != "py"));
    // NVlabs' persistence runs the source code that lies in the file
    files.retain(|path| !path.file_stem().is_some_and(|stem| stem == "stylegan" || stem == "stylegan_ema"));
    assert!(files.len() > 150);
    for path in files {
        let found = examined(&path.display().to_string(), &fs::read(&path).unwrap());
        let bad: Vec<_> = found.findings.iter().filter(|finding| finding.severity >= Severity::Error).collect();
        assert!(bad.is_empty(), "{}: {bad:?}", path.display());
        assert!(!codes(&found).contains(&"pickle-odd"), "{}", path.display());
    }
}

fn check(args: &[&str]) -> crate::driver::Run {
    run_with(ckpt().arg("check").args(args), b"")
}

fn path(name: &str) -> String {
    testdata(name).display().to_string()
}

/// A copy of a zip with one thing changed.
fn changed(dir: &Path, change: impl Fn(&mut Vec<u8>)) -> String {
    let mut bytes = fs::read(testdata("torch-2.15-py311/checkpoint.tar")).unwrap();
    change(&mut bytes);
    let path = dir.join("changed.tar");
    fs::write(&path, bytes).unwrap();
    path.display().to_string()
}

/// Where a member's data begins.
fn data_of(bytes: &[u8], member: &str) -> usize {
    let source: SharedSource = Arc::new(MemorySource::new(bytes.to_vec()));
    let zip = ckpt::container::zip::Zip::open(source, &Limits::default()).unwrap();
    usize::try_from(zip.data_start(zip.find(member).unwrap()).unwrap()).unwrap()
}

fn finding<'a>(report: &'a Value, code: &str) -> Option<&'a Value> {
    report["findings"].as_array().unwrap().iter().find(|finding| finding["code"] == code)
}

#[test]
fn a_sound_file() {
    let report = check(&["--json", &path("torch-2.15-py311/checkpoint.tar")]).exits(0).json();
    assert_eq!(report["schema"], "ckpt.check/1");
    assert_eq!((&report["verdict"], &report["container"]), (&"ok".into(), &"zip".into()));
    assert_eq!(report["weights_only"]["opens"], true);
    assert_eq!(report["weights_only"]["torch"], "2.15");
    let rebuild =
        report["globals"].as_array().unwrap().iter().find(|row| row["name"] == "torch._utils._rebuild_tensor_v2");
    assert_eq!((&rebuild.unwrap()["status"], &rebuild.unwrap()["uses"]), (&"known".into(), &40.into()));
}

#[test]
fn what_a_transfer_as_text_did_is_no_danger() {
    let dir = tempfile::tempdir().unwrap();
    let file = changed(dir.path(), |bytes| {
        *bytes = bytes.iter().flat_map(|b| [b"\r\n".as_slice(), &[*b]][usize::from(*b != b'\n')].to_vec()).collect()
    });
    let run = check(&["--json", &file]);
    assert_eq!(run.json()["verdict"], "error", "{}", run.text());
}

#[test]
fn meta_storages_have_no_bytes() {
    check(&["--fail-on", "info", &path("wrappers/meta_script.pt")]).exits(0);
}

#[test]
fn checksums_and_no_data() {
    let dir = tempfile::tempdir().unwrap();
    let file = changed(dir.path(), |bytes| {
        let at = data_of(bytes, "checkpoint/data/1");
        bytes[at] ^= 1;
    });
    let report = check(&["--json", &file]).exits(1).json();
    assert_eq!(report["verdict"], "error");
    assert_eq!(finding(&report, "crc-mismatch").unwrap()["where"], "checkpoint/data/1");
    check(&["--no-data", &file]).exits(0);
    // what was written without checksums is no damage
    let report = check(&["--json", &path("more/zip_without_crc.pt")]).exits(0).json();
    assert!(finding(&report, "crc-unused").is_some());
}

#[test]
fn every_threshold() {
    let unknown = path("diff/run_a.ckpt");
    let dangerous = path("hostile/pickle_system.pkl");
    let damaged = path("hostile/tensor_missing_storage.pt");
    for (file, from) in [(&unknown, 1), (&damaged, 2), (&dangerous, 3)] {
        for (level, name) in ["info", "warning", "error", "danger"].iter().enumerate() {
            check(&["--fail-on", name, file]).exits(i32::from(level <= from));
        }
    }
    check(&[&unknown]).exits(1);
}

#[test]
fn numbers() {
    let file = path("diff/numbers_a.pt");
    let without = check(&["--json", &file]).exits(0).json();
    assert!(finding(&without, "numerics-nan").is_none());
    let with = check(&["--json", "--numerics", &file]).exits(1).json();
    assert!(finding(&with, "numerics-nan").is_some() && finding(&with, "numerics-inf").is_some(), "{with}");
    let zeros = check(&["--json", "--numerics", &path("torch-2.15-py311/cnn_add_linear_state.pt")]).exits(0).json();
    assert_eq!(finding(&zeros, "numerics-zero").unwrap()["severity"], "info");
    check(&["--numerics", "--no-data", &file]).exits(2);
}

#[test]
fn trouble_is_two_and_does_not_end_the_run() {
    let good = path("torch-2.15-py311/checkpoint.tar");
    let run = check(&["--json", "no such file", &good, &path("README.md")]).exits(2);
    let schema = |line: &&str| serde_json::from_str::<Value>(line).unwrap()["schema"].clone();
    let schemas: Vec<Value> = run.lines().iter().map(schema).collect();
    assert_eq!(schemas, ["ckpt.error/1", "ckpt.check/1", "ckpt.error/1"]);
    assert!(run.stderr.contains("no such file") && run.stderr.contains("README.md"), "{}", run.stderr);
    // a damaged file that can be diagnosed is an answer
    for damaged in
        ["hostile/truncated_zip.pt", "hostile/truncated.pkl", "hostile/shards_escape/model.safetensors.index.json"]
    {
        let run = check(&["--json", &path(damaged)]).exits(1);
        assert_eq!(run.json()["verdict"], "error");
        assert!(run.stderr.is_empty(), "{}", run.stderr);
    }
}

#[test]
fn several_files_of_one_checkpoint() {
    for dir in ["frameworks/dcp_sharded", "frameworks/hf_sharded_bin", "frameworks/hf_sharded_safetensors"] {
        let report = check(&["--json", &path(dir)]).exits(0).json();
        assert_eq!(report["weights_only"], Value::Null);
    }
    let dir = tempfile::tempdir().unwrap();
    for entry in fs::read_dir(testdata("frameworks/hf_sharded_bin")).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), dir.path().join(entry.file_name())).unwrap();
    }
    let shard = dir.path().join("pytorch_model-00002-of-00002.bin");
    fs::write(&shard, SYSTEM).unwrap();
    let index = dir.path().join("pytorch_model.bin.index.json").display().to_string();
    let report = check(&["--json", &index]).exits(1).json();
    assert_eq!(report["verdict"], "danger");
    let place = finding(&report, "global-dangerous").unwrap()["where"].as_str().unwrap().to_owned();
    assert!(place.starts_with("pytorch_model-00002-of-00002.bin"), "{place}");
    fs::remove_file(&shard).unwrap();
    check(&[&index]).exits(1);
}

#[test]
fn many_files() {
    let run = check(&["-R", &path("diff")]).exits(1);
    let lines = run.lines();
    assert_eq!(
        *lines.last().unwrap(),
        "13 files: 11 ok, 2 with warnings, 0 with errors, 0 dangerous; 1 other file left aside"
    );
    assert!(lines.iter().any(|line| line.starts_with("warning ") && line.contains("train.Config is called")));
    let run = check(&["-R", "--json", "--fail-on", "error", &path("diff")]).exits(0);
    assert_eq!(run.lines().len(), 13);
    assert!(run.lines().iter().all(|line| serde_json::from_str::<Value>(line).unwrap()["schema"] == "ckpt.check/1"));
    let empty = tempfile::tempdir().unwrap();
    check(&["-R", empty.path().to_str().unwrap()]).exits(2);
}

/// What people read.
#[test]
fn shown() {
    let in_testdata = |args: &[&str]| {
        let mut command = ckpt();
        command.arg("check").args(args).current_dir(testdata(""));
        let run = run_with(&mut command, b"");
        format!("{}{}", run.text(), run.stderr)
    };
    // bombs take their time before they are refused
    let slow = |name: &str| ["bomb", "deep", "laughs"].iter().any(|word| name.contains(word));
    let names =
        fs::read_dir(testdata("hostile")).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> = names.filter(|name| !slow(name)).map(|name| format!("hostile/{name}")).collect();
    names.sort();
    let mut args = vec!["-R"];
    args.extend(names.iter().map(String::as_str).filter(|name| *name != "hostile/expected.json"));
    golden("check_hostile.txt", &in_testdata(&args));
    golden("check_unknown.txt", &in_testdata(&["torch-2.15-py311/cnn_full.pth"]));
    golden("check_dangerous.txt", &in_testdata(&["hostile/pickle_getattr.pkl"]));
    golden("check_numerics.txt", &in_testdata(&["--numerics", "diff/numbers_a.pt"]));
}

/// The classes that a TorchScript archive brings are one row of the table where they are many, and all in the JSON.
#[test]
fn many_classes_of_a_script_are_one_row() {
    let shown = run("check more/scripted_quantized.pt").text().to_owned();
    assert!(shown.contains("__torch__.* (7 classes)") && shown.matches("__torch__").count() == 1, "{shown}");
    let json = run("check --json more/scripted_quantized.pt").text().to_owned();
    assert!(json.matches("\"__torch__.").count() == 7, "{json}");
    let few = run("check torch-2.15-py311/scripted.pt").text().to_owned();
    assert!(few.contains("__torch__.OneLayer") && !few.contains("classes)"), "{few}");
}

/// A zip that its last end record does not lead into is opened by nobody else.
#[test]
fn an_end_record_that_leads_elsewhere_is_an_error() {
    let dir = crate::driver::Dir::new();
    let path = dir.path("state.pt");
    let whole = std::fs::read(testdata("digest/state.pt")).unwrap();
    let end = whole.len() - 22;
    assert_eq!(&whole[end..end + 4], b"PK\x05\x06");
    let check = |bytes: &[u8], status| {
        std::fs::write(&path, bytes).unwrap();
        let found = run_with(ckpt().args(["check", "--json", &path]), b"").exits(status).json();
        found["findings"].as_array().unwrap().iter().any(|finding| finding["code"] == "zip-end-record")
    };
    assert!(!check(&whole, 0));
    // one more, of a directory that is not there
    let mut second = whole[end..].to_vec();
    second[16..20].copy_from_slice(&7_u32.to_le_bytes());
    assert!(check(&[&whole[..], &second].concat(), 1));
    second[12..16].copy_from_slice(&5_u32.to_le_bytes());
    assert!(check(&[&whole[..], &second].concat(), 1));
    run_with(ckpt().args(["repair", "-q", &path, "-o", &dir.path("saved.pt")]), b"").exits(0);
    run_with(ckpt().args(["diff", "-q", &dir.path("saved.pt"), "digest/state.pt"]), b"").exits(0);
}

#[test]
fn tensors_that_nobody_can_load_are_errors() {
    let safetensors = |dtype: &str| {
        let header = format!(r#"{{"a":{{"dtype":"{dtype}","shape":[2],"data_offsets":[0,8]}}}}"#);
        [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), &[0; 8]].concat()
    };
    assert_eq!(codes(&examined("a.safetensors", &safetensors("F32"))), [""; 0]);
    for dtype in ["G32", "F!2"] {
        assert_eq!(codes(&examined("a.safetensors", &safetensors(dtype))), ["dtype-unknown"], "{dtype}");
    }
    // torch._utils._rebuild_tensor_v2(storage, 0, SIZE, (1,), False, OrderedDict())
    let pickle = |size: &[u8]| {
        let head = b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n((U\x07storagectorch\nFloatStorage\nU\x010U\x03cpuK\x06tQK\x00";
        [&head[..], size, b"K\x01\x85\x89ccollections\nOrderedDict\n)RtR."].concat()
    };
    let archive = |size: &[u8]| zip_of(&[("a/data.pkl", &pickle(size)), ("a/version", b"3\n"), ("a/data/0", &[0; 24])]);
    assert_eq!(codes(&examined("a.pt", &archive(b"K\x06\x85"))), [""; 0]);
    let broken = examined("a.pt", &archive(b"K\x06"));
    assert_eq!((codes(&broken), worst(&broken)), (vec!["tensor-invalid"], Some(Severity::Error)));
}
