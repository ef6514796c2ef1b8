//! Members of archives, unpacked archives and chunks in safetensors files hold what torch put in (`holds.json`), and what is
//! not there is an error that says what is.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // helpers of tests are tests

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use crate::driver::{Run, ckpt, run_with, testdata, zip_of};
use flate2::write::GzEncoder;
use serde_json::{Value, json};

/// Inputs that `holds.json` lists.
const INPUTS: usize = 33;

/// `ckpt ARGS` among the archives.
fn run(args: &[&str]) -> Run {
    run_with(ckpt().current_dir(testdata("archives")).args(args), b"")
}

/// The one line on standard error of a run that ends with status 2 and prints nothing.
fn refusal(args: &[&str]) -> String {
    let run = run(args).exits(2);
    assert!(run.stdout.is_empty(), "{args:?}: {}", run.text());
    assert_eq!(run.stderr.lines().count(), 1, "{args:?}: {}", run.stderr);
    run.stderr
}

/// Tensors by name, as `holds.json` tells them.
fn held(listing: &Value) -> Value {
    let rows = listing["tensors"].as_array().unwrap().iter();
    let row = |row: &Value| {
        let kept = json!({"dtype": row["dtype"], "shape": row["shape"], "sha256": row["sha256"]});
        (row["name"].as_str().unwrap().to_owned(), kept)
    };
    rows.map(row).collect::<serde_json::Map<_, _>>().into()
}

#[test]
fn every_input_holds_what_torch_says() {
    let holds: Value = serde_json::from_slice(&fs::read(testdata("archives/holds.json")).unwrap()).unwrap();
    let holds: Vec<_> = holds.as_object().unwrap().iter().collect();
    assert_eq!(holds.len(), INPUTS);
    crate::driver::for_each(&holds, |(input, want)| {
        let run = run(&["ls", "--json", "--hash", input]);
        if run.status != 0 {
            return Err(format!("{input}: {}", run.stderr));
        }
        let got = run.json();
        let (file, have) = (got["file"].as_str().unwrap(), held(&got));
        if file != *input || have != **want { Err(format!("{input}: {file} {have}, not {want}")) } else { Ok(()) }
    });
}

#[test]
fn every_reading_command_takes_members() {
    let dir = tempfile::tempdir().unwrap();
    let place = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    let member = "nested.zip::b.tar.gz::c.pt";
    for input in [member, "folder.zip::outer/run", "folder.tar::outer/run", "unpacked", "unpacked_script", "package.pt"]
    {
        let out = place("out.safetensors");
        let wanted = held(&run(&["ls", "--json", "--hash", input]).exits(0).json());
        run(&["convert", "--force", "--root", ".", input, &out]).exits(0);
        let got = held(&run(&["ls", "--json", "--hash", &out]).exits(0).json());
        let hashes =
            |rows: &Value| rows.as_object().unwrap().values().map(|row| row["sha256"].to_string()).collect::<Vec<_>>();
        let (mut a, mut b) = (hashes(&wanted), hashes(&got));
        a.sort();
        b.sort();
        assert_eq!(a, b, "{input}");
        // torch.package runs the sources that it holds
        run(&["check", "--fail-on", "danger", input]).exits(i32::from(input == "package.pt"));
    }
    run(&["diff", member, "plain.pt"]).exits(0);
    run(&["diff", "stored.zip::weights/model.pt", "agent.zip::policy.optimizer.pth"]).exits(1);
    let printed = run(&["extract", member, "n"]).exits(0);
    assert_eq!(printed.stdout, run(&["extract", "plain.pt", "n"]).exits(0).stdout);
    let renamed = place("renamed.pt");
    run(&["rename", member, "--add-prefix", "m.", "-o", &renamed]).exits(0);
    assert_eq!(run(&["ls", "--names", &renamed]).text(), "m.w\nm.half\nm.n\n");
    // the same as of the file itself
    let check = |input: &str| {
        let mut json = run(&["check", "--json", input]).exits(0).json();
        json["file"].take();
        json
    };
    assert_eq!(check("model.nemo::model_weights.ckpt"), check("plain.pt"));
}

#[test]
fn standard_input_has_members_too() {
    let bytes = fs::read(testdata("archives/model.tar.gz")).unwrap();
    let piped = run_with(ckpt().args(["ls", "--names", "--", "-::model.pth"]), &bytes).exits(0);
    assert_eq!(piped.text(), "w\nhalf\nn\n");
    // no option, wherever it stands
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("out.pt").to_str().unwrap().to_owned();
    let plain = testdata("archives/plain.pt").to_str().unwrap().to_owned();
    for words in [
        &["ls", "-::model.pth", "--names"][..],
        &["check", "-::model.pth"],
        &["diff", &plain, "-::model.pth"],
        &["diff", "-::model.pth", &plain],
        &["convert", "-::model.pth", &out, "--force"],
        &["convert", "-::model.pth", "-o", "-", "--to", "safetensors"],
        &["extract", "-::model.pth", "w", "n"],
        &["rename", "-::model.pth", "--add-prefix", "m.", "-o", &out, "--force"],
        &["strip-prefix", "none.", "-::model.pth", "-o", &out, "--force", "--if-present"],
        &["edit", "-::model.pth", "--set", "step=3", "-o", &out, "--force"],
        &["merge", "a=-::model.pth", "-o", &out, "--force"],
        &["merge", "-::model.pth", &plain, "--on-conflict", "equal", "-o", &out, "--force"],
        &["average", "-::model.pth", &plain, "-o", &out, "--force"],
    ] {
        run_with(ckpt().args(words), &bytes).exits(0);
    }
    run_with(ckpt().args(["convert", &plain, "-o", "-::x.pt"]), b"").exits(2);
    let said = run_with(ckpt().args(["ls", "-::none.pt"]), &bytes).exits(2).stderr;
    assert!(said.contains("-::none.pt: the tar archive has no member") && said.contains(" -::model.pth "), "{said}");
}

#[test]
fn an_archive_says_what_is_in_it() {
    let dir = tempfile::tempdir().unwrap();
    let unwritten = dir.path().join("none.safetensors");
    let unwritten = unwritten.to_str().unwrap();
    let one = refusal(&["extract", "stored.zip"]);
    assert!(one.contains("zip archive around a checkpoint (zip)"), "{one}");
    assert!(one.contains("`ckpt ls stored.zip::weights/model.pt`"), "{one}");
    for (input, parts) in [
        (
            "deflated.zip",
            &["3 checkpoints", "deflated.zip::old.pt (legacy)", "deflated.zip::m.safetensors (safetensors)"][..],
        ),
        ("odd_names.zip", &["'odd_names.zip::my model.pt' (zip)", r"'odd_names.zip::it'\''s.pt' (zip)"]),
        ("model.tar.gz", &["tar archive", "`ckpt ls model.tar.gz::model.pth`"]),
        ("model.nemo", &["a NeMo archive", "model.nemo::model_weights.ckpt"]),
        ("model.mar", &["a TorchServe archive", "model.mar::model.pt"]),
        ("agent.zip", &["a stable-baselines3 archive", "agent.zip::policy.pth (zip)"]),
        ("nested.zip", &["a zip archive around a tar archive", "`ckpt ls nested.zip::b.tar.gz`"]),
        (
            "nested.zip::b.tar.gz",
            &[
                "1 checkpoint and 1 archive",
                "nested.zip::b.tar.gz::c.pt (zip)",
                "nested.zip::b.tar.gz::d.zip (zip archive)",
            ],
        ),
        ("folder.zip", &["around a checkpoint (unpacked)", "`ckpt ls folder.zip::outer/run`"]),
        ("packages.pt", &["a torch.package archive of 2", "packages.pt::packages/models/enc.pkl"]),
    ] {
        for command in [&["ls", "--tree"][..], &["convert"], &["extract"]] {
            let out = if command == ["convert"] { &[unwritten][..] } else { &[] };
            let said = refusal(&[command, &[input], out].concat());
            parts.iter().for_each(|part| assert!(said.contains(part), "{input}: {part}: {said}"));
        }
    }
    let said = refusal(&["repair", "-o", unwritten, "deflated.zip"]);
    assert!(said.contains("deflated.zip::old.pt (legacy)"), "{said}");
    assert!(!Path::new(unwritten).exists());
}

/// What an error proposes is a command that works, as the shell reads it.
#[test]
fn proposed_names_open() {
    let said = refusal(&["extract", "odd_names.zip"]);
    let mut opened = 0;
    for proposed in said.split("one of them: ").nth(1).unwrap().trim().split(", ") {
        let proposed = proposed.split(" (zip").next().unwrap();
        let script = format!("exec \"$0\" ls --names {}", proposed);
        let mut shell = std::process::Command::new("sh");
        shell.current_dir(testdata("archives")).args(["-c", &script, env!("CARGO_BIN_EXE_ckpt")]);
        let run = run_with(&mut shell, b"");
        // an archive in the archive proposes the next name
        if proposed.ends_with("::a") {
            assert!(run.exits(0).text().contains("odd_names.zip::a::b.pt"));
        } else {
            opened += usize::from(run.exits(0).text().contains('w'));
        }
    }
    assert_eq!(opened, 4, "{said}");
}

#[test]
fn a_member_that_is_not_there_is_an_error_with_near_names() {
    let said = refusal(&["ls", "agent.zip::polcy.pth"]);
    assert!(said.contains("no member `polcy.pth`; its checkpoints are agent.zip::policy.pth (zip), "), "{said}");
    let said = refusal(&["ls", "stored.zip::"]);
    assert!(said.contains("stored.zip::weights/model.pt"), "{said}");
    let said = refusal(&["ls", "nested.zip::b.tar.gz::nope.pt"]);
    assert!(said.contains("nested.zip::b.tar.gz::c.pt (zip)"), "{said}");
    let said = refusal(&["ls", "plain.pt::nope"]);
    assert!(said.contains("no member `nope`"), "{said}");
    assert!(refusal(&["ls", "holds.json::x"]).contains("neither a zip nor a tar archive"));
    assert!(refusal(&["ls", "none.zip::x"]).contains("No such file"));
    assert!(refusal(&["ls", "stored.zip::README.md"]).contains("plain text starting with `Read me.`"));
    assert!(refusal(&["ls", "package.pt::zoo.py"]).contains("no member `zoo.py`"));
}

#[test]
fn members_are_not_edited_in_place() {
    let before = fs::read(testdata("archives/stored.zip")).unwrap();
    let member = "stored.zip::weights/model.pt";
    for args in [
        &["strip-prefix", "--in-place", "w", member][..],
        &["rename", "--in-place", "--add-prefix", "m.", member],
        &["repair", "--in-place", member],
    ] {
        let said = refusal(args);
        assert!(said.contains("a member of an archive cannot be edited in place"), "{said}");
    }
    assert_eq!(fs::read(testdata("archives/stored.zip")).unwrap(), before);
}

/// A file whose name holds `::` is that file.
#[test]
fn a_file_that_exists_wins() {
    let dir = tempfile::tempdir().unwrap();
    let copy = |from: &str, to: &str| fs::copy(testdata("archives").join(from), dir.path().join(to)).unwrap();
    copy("stored.zip", "a.zip");
    copy("agent.zip", "a.zip::weights");
    copy("plain.pt", "b::c.pt");
    let ls = |name: &str| run_with(ckpt().current_dir(dir.path()).args(["ls", "--names", name]), b"");
    assert_eq!(ls("b::c.pt").exits(0).text(), "w\nhalf\nn\n");
    assert_eq!(ls("a.zip::weights/model.pt").exits(0).text(), "w\nhalf\nn\n");
    assert_eq!(ls("a.zip::weights::policy.optimizer.pth").exits(0).text(), "w\n");
}

fn written(dir: &Path, name: &str, bytes: &[u8]) -> PathBuf {
    fs::write(dir.join(name), bytes).unwrap();
    dir.join(name)
}

#[test]
fn an_encrypted_member_is_said() {
    let dir = tempfile::tempdir().unwrap();
    let mut bytes = fs::read(testdata("archives/deflated.zip")).unwrap();
    let flag = |bytes: &mut Vec<u8>, signature: &[u8], at: usize, name: &[u8]| {
        let starts: Vec<usize> = (0..bytes.len() - 50).filter(|start| bytes[*start..].starts_with(signature)).collect();
        for start in starts {
            let name_at = start + if at == 6 { 30 } else { 46 };
            if name.is_empty() || bytes[name_at..].starts_with(name) {
                bytes[start + at] |= 1;
            }
        }
    };
    flag(&mut bytes, b"PK\x03\x04", 6, b"model.pt");
    flag(&mut bytes, b"PK\x01\x02", 8, b"model.pt");
    let one = written(dir.path(), "one.zip", &bytes);
    let one = one.to_str().unwrap();
    assert!(
        refusal(&["ls", &format!("{one}::model.pt")])
            .contains("is encrypted (in model.pt); unpack it with the password")
    );
    run(&["ls", &format!("{one}::old.pt")]).exits(0);
    flag(&mut bytes, b"PK\x03\x04", 6, b"");
    flag(&mut bytes, b"PK\x01\x02", 8, b"");
    let all = written(dir.path(), "all.zip", &bytes);
    assert!(refusal(&["ls", all.to_str().unwrap()]).contains("is a zip archive that is encrypted with a password"));
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut out = GzEncoder::new(Vec::new(), flate2::Compression::fast());
    out.write_all(bytes).unwrap();
    out.finish().unwrap()
}

/// What an archive expands to is bounded by what the outermost file explains, however deep it nests.
#[test]
fn bombs_are_stopped() {
    let dir = tempfile::tempdir().unwrap();
    let zeros = vec![0; 4 << 20];
    let deflated = zip::CompressionMethod::Deflated;
    let inner = zip_of(&[("m.pt", &zeros)], deflated);
    let bomb = written(dir.path(), "bomb.zip", &zip_of(&[("a.zip", &inner)], deflated));
    let bomb = bomb.to_str().unwrap();
    let said = refusal(&["ls", "--max-expanded-bytes", "1048576", &format!("{bomb}::a.zip::m.pt")]);
    assert!(said.contains("--max-expanded-bytes"), "{said}");
    let tar = written(dir.path(), "bomb.tar.gz", &gzip(&gzip(&zeros)));
    let said = refusal(&["ls", "--max-expanded-bytes", "1048576", &format!("{}::m.pt", tar.display())]);
    assert!(said.contains("neither a zip nor a tar"), "{said}");

    // a thousand archives in each other
    let mut bytes = fs::read(testdata("archives/plain.pt")).unwrap();
    for _ in 0..1000 {
        bytes = zip_of(&[("z", &bytes)], zip::CompressionMethod::Stored);
    }
    let deep = written(dir.path(), "deep.zip", &bytes);
    let said = refusal(&["ls", &format!("{}{}", deep.display(), "::z".repeat(1000))]);
    assert!(said.contains("nest more than 16 deep"), "{said}");
    let said = refusal(&["extract", deep.to_str().unwrap()]);
    assert!(said.contains("around a zip archive; look into that"), "{said}");
    for command in ["ls", "check"] {
        let run = run(&[command, deep.to_str().unwrap()]).exits(2);
        assert!(run.stderr.contains("archives nest more than 16 deep"), "{}", run.stderr);
    }
}

#[test]
fn many_members_and_hostile_names() {
    let dir = tempfile::tempdir().unwrap();
    let plain = fs::read(testdata("archives/plain.pt")).unwrap();
    let names: Vec<String> = (0..30_000).map(|number| format!("d/{number}.txt")).collect();
    let mut members: Vec<(&str, &[u8])> = names.iter().map(|name| (name.as_str(), &b"x"[..])).collect();
    members.push(("last.pt", &plain));
    let many = written(dir.path(), "many.zip", &zip_of(&members, zip::CompressionMethod::Stored));
    assert_eq!(run(&["ls", "--names", &format!("{}::last.pt", many.display())]).exits(0).text(), "w\nhalf\nn\n");
    refusal(&["ls", &format!("{}::lost.pt", many.display())]);

    let escaping = zip_of(&[("../up.pt", &plain)], zip::CompressionMethod::Stored);
    let escaping = written(dir.path(), "escaping.zip", &escaping);
    assert!(refusal(&["ls", &format!("{}::../up.pt", escaping.display())]).contains("leads out of the archive"));

    // names are shown, not played
    let bell = written(dir.path(), "bell.zip", &zip_of(&[("a\x1b[31m.pt", &plain)], zip::CompressionMethod::Stored));
    assert!(!refusal(&["extract", bell.to_str().unwrap()]).contains('\x1b'));
    assert!(!run(&["ls", bell.to_str().unwrap()]).exits(0).text().contains('\x1b'));
}

/// Every truncation of an archive is an error or the whole answer, and nothing but that.
#[test]
fn damaged_archives_give_no_other_answer() {
    let dir = tempfile::tempdir().unwrap();
    for (name, member) in
        [("stored.zip", "weights/model.pt"), ("model.nemo", "model_weights.ckpt"), ("model.tar.gz", "model.pth")]
    {
        let bytes = fs::read(testdata("archives").join(name)).unwrap();
        let whole = run(&["ls", "--json", "--hash", &format!("{name}::{member}")]).exits(0).json();
        for end in (0..bytes.len()).step_by(bytes.len() / 23) {
            let path = written(dir.path(), name, &bytes[..end]);
            let got = run(&["ls", "--json", "--hash", &format!("{}::{member}", path.display())]);
            match got.status {
                0 => assert_eq!(held(&got.json()), held(&whole), "{name} {end}"),
                status => assert_eq!(status, 2, "{name} {end}: {}", got.stderr),
            }
        }
    }
}

/// The archive's checksum is the only one that what lies in a member has, where that is no archive itself.
#[test]
fn a_member_that_is_damaged_in_its_archive_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str| fs::read(testdata(name)).unwrap();
    let wrong = |mut archive: Vec<u8>, member: &[u8]| {
        let sum = crc32fast::hash(member).to_le_bytes();
        for at in memchr::memmem::find_iter(&archive.clone(), &sum) {
            archive[at] ^= 1;
        }
        archive
    };
    for (name, path) in [("old.pt", "torch-1.0-py27/bare_tensor.pt"), ("new.pt", "torch-2.15-py311/cnn_state.pt")] {
        for method in [zip::CompressionMethod::Stored, zip::CompressionMethod::Deflated] {
            let (member, out) = (file(path), dir.path().join("out.safetensors"));
            let sound = zip_of(&[(name, &member)], method);
            let damaged = wrong(sound.clone(), &member);
            let nested = zip_of(&[("a.zip", &damaged)], method);
            for (bytes, inside, is_damaged) in [
                (sound, name.to_owned(), false),
                (damaged, name.to_owned(), true),
                (nested, format!("a.zip::{name}"), true),
            ] {
                let archive = written(dir.path(), "archive.zip", &bytes);
                let (address, out) = (format!("{}::{inside}", archive.display()), out.to_str().unwrap());
                let checked = run(&["check", &address]);
                assert_eq!(checked.status, i32::from(is_damaged), "{}", checked.text());
                let said = checked.text();
                assert_eq!(said.contains("crc-mismatch"), is_damaged, "{said}");
                for args in [
                    vec!["ls", &address],
                    vec!["extract", &address, "--output", out, "--force"],
                    vec!["convert", &address, out, "--force"],
                ] {
                    let run = run(&args);
                    assert_eq!(run.status, 0, "{args:?}: {}", run.stderr);
                    let told = format!("{}{}", run.text(), run.stderr);
                    assert_eq!(told.contains(&format!("{name} is damaged")), is_damaged, "{args:?}: {told}");
                }
            }
        }
    }
}

fn copied(name: &str) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let mut open = vec![(testdata(name), dir.path().to_owned())];
    while let Some((from, to)) = open.pop() {
        for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
            let to = to.join(entry.file_name());
            if entry.path().is_dir() {
                fs::create_dir(&to).unwrap();
                open.push((entry.path(), to));
            } else {
                fs::write(to, fs::read(entry.path()).unwrap()).unwrap();
            }
        }
    }
    dir
}

#[test]
fn an_unpacked_archive_is_one_input() {
    let dir = copied("archives/unpacked");
    let ls = |args: &[&str]| run(&[&["ls"], args, &[dir.path().to_str().unwrap()]].concat());
    // once, and not its data.pkl besides
    let all = ls(&["-R", "--json"]).exits(0);
    assert_eq!(all.lines().len(), 1, "{}", all.text());
    // a file that is missing or cut is the tensor's problem
    fs::remove_file(dir.path().join("run/data/0")).unwrap();
    let run = ls(&["--json", "--hash"]).exits(2);
    let rows = run.json()["tensors"].clone();
    let problems = rows.as_array().unwrap().iter().filter(|row| !row["problem"].is_null()).count();
    assert_eq!(problems, 2, "{rows}");
    // two in one folder are a choice
    let again = copied("archives/unpacked");
    fs::rename(again.path().join("run"), dir.path().join("other")).unwrap();
    let said = refusal(&["ls", dir.path().to_str().unwrap()]);
    assert!(said.contains("several unpacked archives") && said.contains("other"), "{said}");
    // what has other files beside it is no unpacked archive
    fs::write(dir.path().join("notes.txt"), "").unwrap();
    assert!(refusal(&["ls", dir.path().to_str().unwrap()]).contains("a directory without an index"));
}

#[test]
fn chunks_in_safetensors_that_do_not_agree_are_told() {
    let dir = copied("archives/dcp_safetensors");
    let path = dir.path().to_str().unwrap();
    let problem = |name: &str| {
        let listing = run(&["ls", "--json", path]).json();
        let row = listing["tensors"].as_array().unwrap().iter().find(|row| row["name"] == name).unwrap().clone();
        row["problem"].as_str().unwrap_or_default().to_owned()
    };
    assert_eq!(problem("model.emb"), "");
    run(&["check", "--fail-on", "error", path]).exits(0);
    // a chunk from elsewhere in the tensor, a file that is cut, one that is gone
    let file = dir.path().join("__0_0.distcp");
    let bytes = fs::read(&file).unwrap();
    let (from, to) = (br#"{\"model.emb\": {\"saved_offsets\": [0"#, br#"{\"model.emb\": {\"saved_offsets\": [4"#);
    let at = bytes.windows(from.len()).position(|window| window == from).unwrap();
    fs::write(&file, [&bytes[..at], to, &bytes[at + from.len()..]].concat()).unwrap();
    assert!(
        problem("model.emb").contains("the file holds the chunk at [4, 0] in its place"),
        "{}",
        problem("model.emb")
    );
    fs::write(&file, &bytes[..bytes.len() - 1]).unwrap();
    assert!(problem("model.emb").contains("ends early"), "{}", problem("model.emb"));
    fs::remove_file(&file).unwrap();
    assert!(problem("model.emb").contains("is missing"), "{}", problem("model.emb"));

    let ranks = copied("archives/hf_ranks");
    let path = ranks.path().to_str().unwrap();
    assert!(run(&["ls", path]).exits(0).stderr.contains("put together from 2 files that no index lists"));
    fs::remove_file(ranks.path().join("shard-00001-model-00001-of-00001.safetensors")).unwrap();
    let listing = run(&["ls", "--json", "--hash", path]).exits(2).json();
    let emb = listing["tensors"].as_array().unwrap().iter().find(|row| row["name"] == "emb").unwrap();
    assert_eq!(emb["problem"], "its chunks hold 9 of 21 elements");
}
