//! Many files at once, and archives of some: each checkpoint is a line, and nothing is passed over in silence.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // helpers of tests are tests

use std::fs;
use std::path::Path;

use crate::driver::{Run, ckpt, run_with, testdata, zip_of};
use serde_json::Value;

fn run_in(dir: &Path, args: &[&str]) -> Run {
    run_with(ckpt().current_dir(dir).args(args), b"")
}

fn run(args: &[&str]) -> Run {
    run_in(&testdata("archives"), args)
}

fn objects(run: &Run) -> Vec<Value> {
    run.lines().iter().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn files(run: &Run) -> Vec<(String, String)> {
    let shown = |object: &Value| {
        let what = object["verdict"].as_str().or(object["kind"].as_str()).unwrap_or_default();
        (object["file"].as_str().unwrap().to_owned(), what.to_owned())
    };
    objects(run).iter().map(shown).collect()
}

const STORED: zip::CompressionMethod = zip::CompressionMethod::Stored;
const DEFLATED: zip::CompressionMethod = zip::CompressionMethod::Deflated;
const SYSTEM: &[u8] = b"\x80\x02cposix\nsystem\nX\x04\0\0\0true\x85R.";

#[test]
fn check_looks_into_every_checkpoint_of_an_archive() {
    for (archive, members) in [
        ("stored.zip", &["weights/model.pt"][..]),
        ("agent.zip", &["pytorch_variables.pth", "policy.pth", "policy.optimizer.pth"]),
        ("model.tar.gz", &["model.pth"]),
        ("model.nemo", &["model_weights.ckpt"]),
        ("model.mar", &["model.pt"]),
        ("folder.zip", &["outer/run"]),
        ("folder.tar", &["outer/run"]),
        (
            "nested.zip",
            &[
                "b.tar.gz::c.pt",
                "b.tar.gz::d.zip::model.pt",
                "b.tar.gz::d.zip::old.pt",
                "b.tar.gz::d.zip::m.safetensors",
            ],
        ),
    ] {
        // SageMaker's has the code that serves the model
        let (status, verdict) = if archive == "model.tar.gz" { (1, "warning") } else { (0, "ok") };
        let got = run(&["check", "--json", archive]).exits(status);
        let mut want = vec![(archive.to_owned(), verdict.to_owned())];
        want.extend(members.iter().map(|member| (format!("{archive}::{member}"), "ok".to_owned())));
        assert_eq!(files(&got), want);
        // the same as of the member alone, and the same with -R
        for object in &objects(&got)[1..] {
            let name = object["file"].as_str().unwrap();
            assert_eq!(run(&["check", "--json", name]).exits(0).json(), *object, "{name}");
        }
        assert_eq!(run(&["check", "-R", "--json", archive]).exits(status).stdout, got.stdout);
    }
}

#[test]
fn danger_in_a_member_is_that_of_the_archive() {
    let dir = tempfile::tempdir().unwrap();
    let plain = fs::read(testdata("archives/plain.pt")).unwrap();
    let inner = zip_of(&[("evil.pkl", SYSTEM), ("good.pt", &plain)], DEFLATED);
    fs::write(dir.path().join("a.zip"), zip_of(&[("x.zip", &inner), ("notes.txt", SYSTEM)], STORED)).unwrap();
    let got = run_in(dir.path(), &["check", "--json", "a.zip"]).exits(1);
    let want = [
        ("a.zip", "danger"),
        ("a.zip::x.zip::evil.pkl", "danger"),
        ("a.zip::x.zip::good.pt", "ok"),
        ("a.zip::notes.txt", "danger"),
    ];
    assert_eq!(files(&got), want.map(|(file, verdict)| (file.to_owned(), verdict.to_owned())));
    let archive = &objects(&got)[0]["findings"];
    let places: Vec<&str> =
        archive.as_array().unwrap().iter().filter_map(|finding| finding["where"].as_str()).collect();
    assert!(places.contains(&"a.zip::x.zip::evil.pkl"), "{archive}");
    // what is no checkpoint hides nothing: bytes behind the end of a member's pickle, the comment
    let text = run_in(dir.path(), &["check", "a.zip"]).exits(1);
    assert!(text.text().contains("posix.system('true') is called"), "{}", text.text());
}

#[test]
fn an_archive_without_a_checkpoint_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let mut tar = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_size(2);
    tar.append_data(&mut header, "readme.md", &b"hi"[..]).unwrap();
    fs::write(dir.path().join("a.tar"), tar.into_inner().unwrap()).unwrap();
    fs::write(dir.path().join("a.zip"), zip_of(&[("readme.md", b"hi")], STORED)).unwrap();
    for archive in ["a.tar", "a.zip"] {
        for args in [&["check"][..], &["check", "-R"], &["ls"], &["ls", "--json"]] {
            let got = run_in(dir.path(), &[args, &[archive]].concat()).exits(2);
            assert!(got.stderr.contains("not a checkpoint: a ") && got.stderr.contains("readme.md"), "{}", got.stderr);
        }
        let refused = objects(&run_in(dir.path(), &["check", "--json", archive]).exits(2));
        assert_eq!((&refused[0]["schema"], refused.len()), (&"ckpt.error/1".into(), 1));
    }
}

#[test]
fn names_that_escape_and_damage_belong_to_the_archive() {
    let dir = tempfile::tempdir().unwrap();
    let plain = fs::read(testdata("archives/plain.pt")).unwrap();
    let mut tar = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_size(plain.len() as u64);
    tar.append_data(&mut header, "m.pt", &plain[..]).unwrap();
    // the crate refuses such a name
    let mut header = tar::Header::new_gnu();
    header.as_old_mut().name[..10].copy_from_slice(b"../../x.sh");
    header.set_size(0);
    header.set_cksum();
    tar.append(&header, &b""[..]).unwrap();
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(tar::EntryType::Symlink);
    header.set_size(0);
    tar.append_link(&mut header, "link", "/etc/passwd").unwrap();
    fs::write(dir.path().join("a.tar"), tar.into_inner().unwrap()).unwrap();
    let got = objects(&run_in(dir.path(), &["check", "--json", "a.tar"]).exits(1));
    let codes: Vec<&str> =
        got[0]["findings"].as_array().unwrap().iter().map(|finding| finding["code"].as_str().unwrap()).collect();
    assert_eq!(codes, ["name-escapes", "link-escapes"]);
    assert_eq!((&got[0]["verdict"], &got[1]["verdict"]), (&"danger".into(), &"ok".into()));
    // a checksum of the archive's own: safetensors has none
    let tensor = fs::read(testdata("frameworks/cnn_state.safetensors")).unwrap();
    let mut bytes = zip_of(&[("m.safetensors", &tensor)], STORED);
    bytes[30 + 13 + tensor.len() - 1] ^= 1;
    fs::write(dir.path().join("b.zip"), bytes).unwrap();
    let got = objects(&run_in(dir.path(), &["check", "--json", "b.zip"]).exits(1));
    assert_eq!(got[0]["findings"][0]["code"], "crc-mismatch");
}

#[test]
fn ls_lists_the_checkpoints_of_an_archive() {
    let got = run(&["ls", "--json", "nested.zip"]).exits(0).json();
    assert_eq!((&got["schema"], &got["container"]), (&"ckpt.ls-archive/1".into(), &"zip archive".into()));
    let rows = got["checkpoints"].as_array().unwrap();
    assert_eq!(rows.len(), 4);
    for row in rows {
        let alone = run(&["ls", "--json", row["file"].as_str().unwrap()]).exits(0).json();
        for name in ["tensors", "parameters"] {
            assert_eq!(row[name], alone["totals"][name], "{row}");
        }
        assert_eq!((&row["container"], &row["bytes"]), (&alone["container"], &alone["bytes"]));
    }
    let names = run(&["ls", "--names", "agent.zip"]).exits(0);
    assert_eq!(
        names.text(),
        "agent.zip::pytorch_variables.pth\nagent.zip::policy.pth\nagent.zip::policy.optimizer.pth\n"
    );
    let sorted = run(&["ls", "--names", "--sort", "name", "--reverse", "agent.zip"]).exits(0);
    assert_eq!(sorted.lines()[0], "agent.zip::pytorch_variables.pth");
    let table = run(&["ls", "stored.zip"]).exits(0);
    assert!(table.text().contains("stored.zip::weights/model.pt  zip "), "{}", table.text());
    // what only a checkpoint has is asked of one
    for option in ["--tree", "--stats", "--hash", "--values", "--tensors"] {
        assert!(run(&["ls", option, "agent.zip"]).exits(2).stderr.contains("name one of them"));
    }
    // with -R each is listed itself
    let each = run(&["ls", "-R", "--json", "agent.zip"]).exits(0);
    let files: Vec<String> = files(&each).into_iter().map(|(file, _)| file).collect();
    assert_eq!(files.join("\n") + "\n", names.text());
    let found = run(&["ls", "-R", "--json", "agent.zip", "nested.zip", "--include", "half"]).exits(0);
    assert_eq!(found.lines().len(), 5);
}

#[test]
fn a_checkpoint_of_several_files_in_an_archive() {
    let dir = tempfile::tempdir().unwrap();
    for (folder, index) in [
        ("dcp_sharded", ""),
        ("hf_sharded_bin", "/pytorch_model.bin.index.json"),
        ("hf_sharded_safetensors", "/model.safetensors.index.json"),
    ] {
        let from = testdata("frameworks").join(folder);
        let members: Vec<(String, Vec<u8>)> = fs::read_dir(&from)
            .unwrap()
            .map(Result::unwrap)
            .map(|entry| (format!("up/{}", entry.file_name().to_str().unwrap()), fs::read(entry.path()).unwrap()))
            .collect();
        let members: Vec<(&str, &[u8])> =
            members.iter().map(|(name, bytes)| (name.as_str(), bytes.as_slice())).collect();
        fs::write(dir.path().join("a.zip"), zip_of(&members, DEFLATED)).unwrap();
        let hashes = |args: &[&str]| {
            let json = run_in(dir.path(), &[&["ls", "--json", "--hash"], args].concat()).exits(0).json();
            (json["container"].clone(), json["tensors"].clone())
        };
        let name = format!("a.zip::up{index}");
        assert_eq!(hashes(&[&name]), hashes(&[from.to_str().unwrap()]));
        assert_eq!(hashes(&["a.zip::up"]), hashes(&[&name]));
        let listed = run_in(dir.path(), &["ls", "--names", "a.zip"]).exits(0);
        assert_eq!(listed.text(), format!("{name}\n"), "parts are no checkpoints of their own");
        let checked = files(&run_in(dir.path(), &["check", "--json", "a.zip"]).exits(0));
        assert_eq!(checked, [("a.zip".into(), "ok".into()), (name.clone(), "ok".into())]);
        // a part that is changed is found
        let changed: Vec<(&str, Vec<u8>)> = members
            .iter()
            .map(|(name, bytes)| {
                (
                    *name,
                    if name.ends_with("json") || name.ends_with(".metadata") {
                        bytes.to_vec()
                    } else {
                        SYSTEM.to_vec()
                    },
                )
            })
            .collect();
        let changed: Vec<(&str, &[u8])> = changed.iter().map(|(name, bytes)| (*name, bytes.as_slice())).collect();
        fs::write(dir.path().join("a.zip"), zip_of(&changed, STORED)).unwrap();
        let checked = files(&run_in(dir.path(), &["check", "--json", "a.zip"]).exits(1));
        assert_eq!(checked[1], (name, "danger".into()));
    }
}

#[test]
fn a_hugging_face_folder_of_one_file() {
    let dir = tempfile::tempdir().unwrap();
    let place = |name: &str| dir.path().join(name);
    let from = testdata("frameworks/cnn_state.safetensors");
    fs::copy(&from, place("model.safetensors")).unwrap();
    fs::write(place("config.json"), "{}").unwrap();
    let path = dir.path().to_str().unwrap();
    let listed = |path: &str| run(&["ls", "--json", "--hash", path]).exits(0).json();
    let got = listed(path);
    assert_eq!(got["tensors"], listed(from.to_str().unwrap())["tensors"]);
    assert_eq!(got["bytes"], fs::metadata(&from).unwrap().len() + 2);
    assert_eq!(run(&["check", "--json", path]).exits(0).json()["weights_only"]["opens"], true);
    run(&["diff", path, from.to_str().unwrap()]).exits(0);
    // transformers takes the first of the two, and says nothing
    fs::write(place("pytorch_model.bin"), SYSTEM).unwrap();
    assert!(run(&["ls", path]).exits(0).stderr.contains("pytorch_model.bin beside it is left aside"));
    fs::copy(&from, place("adapter_model.safetensors")).unwrap();
    assert!(run(&["ls", path]).exits(2).stderr.contains("several files of weights"));
}

#[test]
#[cfg(unix)]
fn nothing_is_passed_over_in_silence() {
    use std::os::unix::fs::symlink;
    let dir = tempfile::tempdir().unwrap();
    let place = |name: &str| dir.path().join(name);
    fs::copy(testdata("archives/plain.pt"), place("a.pt")).unwrap();
    fs::write(place("b.txt"), "text").unwrap();
    run_in(dir.path(), &["check", "-R", "."]).exits(0);
    fs::write(place("fake.bin"), "text").unwrap();
    symlink("nowhere", place("dangling")).unwrap();
    symlink("loop", place("loop")).unwrap();
    let status = std::process::Command::new("mkfifo").arg(place("pipe.pt")).status().unwrap();
    assert!(status.success());
    let _socket = std::os::unix::net::UnixListener::bind(place("socket")).unwrap();
    fs::create_dir(place("sub")).unwrap();
    symlink("sub", place("sublink")).unwrap();
    let got = run_in(dir.path(), &["check", "-R", "--json", "."]).exits(2);
    let want = [
        ("./a.pt", "ok"),
        ("./dangling", "io"),
        ("./fake.bin", "not_a_checkpoint"),
        ("./loop", "io"),
        ("./pipe.pt", "unsupported"),
        ("./socket", "unsupported"),
    ];
    assert_eq!(files(&got), want.map(|(file, what)| (file.to_owned(), what.to_owned())));
    assert_eq!(got.stderr.lines().count(), 5, "{}", got.stderr);
    let table = run_in(dir.path(), &["check", "-R", "."]).exits(2);
    let summary = "1 file: 1 ok, 0 with warnings, 0 with errors, 0 dangerous; 5 inputs could not be read; 2 other files left aside";
    assert_eq!(*table.lines().last().unwrap(), summary);
    let said = run_in(dir.path(), &["check", "-R", "--verbose", "."]).exits(2).stderr;
    assert!(said.contains("left aside: ./b.txt: ") && said.contains("left aside: ./sublink: "), "{said}");
    let listed = run_in(dir.path(), &["ls", "-R", "--json", "."]).exits(2);
    let names: Vec<String> = files(&listed).into_iter().map(|(file, _)| file).collect();
    assert_eq!(names, ["./a.pt", "./dangling", "./loop", "./pipe.pt", "./socket"]);
}

#[test]
#[cfg(target_os = "linux")]
fn names_that_are_no_unicode_survive() {
    use std::os::unix::ffi::OsStrExt;
    let dir = tempfile::tempdir().unwrap();
    let place = |name: &[u8]| dir.path().join(std::ffi::OsStr::from_bytes(name));
    fs::copy(testdata("archives/plain.pt"), place(b"\xff.pt")).unwrap();
    fs::copy(testdata("archives/stored.zip"), place(b"\xfe.zip")).unwrap();
    fs::write(place(b"\xfd.pt"), "text").unwrap();
    let bytes = |command: &str, status| {
        let run = run_in(dir.path(), &[command, "-R", "--json", "."]).exits(status);
        objects(&run).iter().map(|object| object["file_bytes"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    // base64 of `./\xfd.pt`, `./\xfe.zip`, `./\xfe.zip::weights/model.pt`, `./\xff.pt`
    let want = ["Li/9LnB0", "Li/+LnppcA==", "Li/+LnppcDo6d2VpZ2h0cy9tb2RlbC5wdA==", "Li//LnB0"];
    assert_eq!(bytes("check", 2), want);
    assert_eq!(bytes("ls", 0), want[2..]);
    let plain = run(&["ls", "--json", "plain.pt"]).json();
    assert!(plain.get("file_bytes").is_none());
}

#[test]
fn ls_says_that_a_file_is_dangerous() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("a.pkl"), SYSTEM).unwrap();
    fs::write(dir.path().join("a.zip"), zip_of(&[("x/a.pkl", SYSTEM)], STORED)).unwrap();
    for (args, name) in [(&["a.pkl"][..], "a.pkl"), (&["--names", "a.pkl"], "a.pkl"), (&["a.zip"], "a.zip::x/a.pkl")] {
        let said = run_in(dir.path(), &[&["ls"], args].concat()).exits(0).stderr;
        assert!(said.starts_with(&format!("ckpt: {name}: dangerous: names posix.system, which ")), "{said}");
    }
    assert_eq!(run_in(dir.path(), &["ls", "-q", "a.pkl"]).exits(0).stderr, "");
    assert_eq!(run(&["ls", "plain.pt"]).exits(0).stderr, "");
}

/// What checkpoints come to follows from the archive's size, and what is not looked at is told.
#[test]
fn bombs_are_told() {
    let dir = tempfile::tempdir().unwrap();
    let names: Vec<String> = (0..3000).map(|number| format!("{number}.pkl")).collect();
    let members: Vec<(&str, &[u8])> = names.iter().map(|name| (name.as_str(), &b"\x80\x02N."[..])).collect();
    let bytes = zip_of(&members, DEFLATED);
    let most = 1000 + bytes.len() / 512;
    fs::write(dir.path().join("many.zip"), bytes).unwrap();
    let got = run_in(dir.path(), &["ls", "--names", "many.zip"]).exits(2);
    assert!(got.stderr.contains(&format!("more than {most} checkpoints")), "{}", got.stderr);
    let bomb = [&b"\x80\x02]("[..], &b"K\x01".repeat(1 << 20), b"e."].concat();
    let members: Vec<(&str, &[u8])> = names[..64].iter().map(|name| (name.as_str(), bomb.as_slice())).collect();
    fs::write(dir.path().join("bombs.zip"), zip_of(&members, DEFLATED)).unwrap();
    let got = run_in(dir.path(), &["ls", "bombs.zip"]).exits(2);
    assert!(got.stderr.contains("--max-objects") && got.stderr.contains("--max-expanded-bytes"), "{}", got.stderr);
}

/// A tar that begins like a pickle (`c` names a global) is none.
#[test]
fn a_tar_that_begins_like_a_pickle_is_no_danger() {
    let dir = tempfile::tempdir().unwrap();
    let plain = fs::read(testdata("archives/plain.pt")).unwrap();
    let mut tar = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_size(plain.len() as u64);
    tar.append_data(&mut header, "c.pt", &plain[..]).unwrap();
    fs::write(dir.path().join("a.tar"), tar.into_inner().unwrap()).unwrap();
    run_in(dir.path(), &["check", "a.tar"]).exits(0);
}
