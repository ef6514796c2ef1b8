//! `--in-place`, and `ckpt repair` of what an interruption leaves.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // helpers of tests are tests

use std::fs::{self, File, OpenOptions};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::driver::{Run, ckpt, run_with, testdata};
use serde_json::Value;

const STATE: &str = "torch-2.15-py311/dataparallel_state.pth";
const LEGACY: &str = "torch-2.15-py311/dataparallel_state.legacy.pth";

/// A copy of a file of testdata that may be written.
fn copy(file: &str, dir: &Path) -> PathBuf {
    let path = dir.join("model.pth");
    fs::write(&path, fs::read(testdata(file)).unwrap()).unwrap();
    path
}

fn strip(path: &Path) -> Run {
    run_with(ckpt().args(["strip-prefix", "module.", "--in-place"]).arg(path), b"")
}

fn tensors(path: &Path) -> Vec<Value> {
    let listed = run_with(ckpt().args(["ls", "--json", "--hash"]).arg(path), b"").exits(0).json();
    listed["tensors"].as_array().unwrap().iter().map(|row| serde_json::json!([row["path"][0], row["sha256"]])).collect()
}

/// What torch says is in the file, without the prefix.
fn wanted(file: &str) -> Vec<Value> {
    let oracle: Value = serde_json::from_slice(&fs::read(testdata(&format!("{file}.json"))).unwrap()).unwrap();
    let rows = oracle["tensors"].as_array().unwrap().iter();
    let name = |row: &Value| row["path"][0].as_str().unwrap().strip_prefix("module.").unwrap().to_owned();
    rows.map(|row| serde_json::json!([name(row), row["sha256"]])).collect()
}

#[test]
fn a_zip_grows_at_its_end_only() {
    let dir = tempfile::tempdir().unwrap();
    let path = copy(STATE, dir.path());
    let old = fs::read(&path).unwrap();
    let report =
        run_with(ckpt().args(["strip-prefix", "module.", "--in-place", "--json"]).arg(&path), b"").exits(0).json();
    let new = fs::read(&path).unwrap();
    assert_eq!(new[..old.len()], old);
    assert_eq!(report["bytes"], new.len() - old.len());
    assert_eq!((&report["in_place"], &report["output"]), (&true.into(), &path.to_str().unwrap().into()));
    assert_eq!(tensors(&path), wanted(STATE));
    // a second edit, and one that finds nothing
    run_with(ckpt().args(["rename", "--add-prefix", "module.", "--in-place"]).arg(&path), b"").exits(0);
    let again = fs::read(&path).unwrap();
    assert_eq!(again[..new.len()], new);
    strip(&path).exits(0);
    assert_eq!(tensors(&path), wanted(STATE));
    let before = fs::read(&path).unwrap();
    strip(&path).exits(1);
    run_with(ckpt().args(["strip-prefix", "module.", "--in-place", "--if-present"]).arg(&path), b"").exits(0);
    assert!(fs::read(&path).unwrap() == before);
    run_with(ckpt().args(["rename", "--add-prefix", "module.", "--in-place", "--dry-run"]).arg(&path), b"").exits(0);
    assert!(fs::read(&path).unwrap() == before);
}

#[test]
fn other_containers_are_replaced_as_a_whole() {
    for (file, tensors_of) in [(LEGACY, wanted(LEGACY)), ("torch-1.0-py27/dataparallel_state.pth", Vec::new())] {
        let dir = tempfile::tempdir().unwrap();
        let path = copy(file, dir.path());
        strip(&path).exits(0);
        let tensors_of = if tensors_of.is_empty() { wanted(file) } else { tensors_of };
        assert_eq!(tensors(&path), tensors_of);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "no temporary file stays");
    }
}

#[cfg(unix)]
#[test]
fn modes_stay_and_links_are_followed() {
    use std::os::unix::fs::{MetadataExt, PermissionsExt};
    for file in [STATE, LEGACY] {
        let dir = tempfile::tempdir().unwrap();
        let path = copy(file, dir.path());
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        // only root may give files away
        let given = std::os::unix::fs::chown(&path, Some(12), Some(34)).is_ok();
        let link = dir.path().join("link");
        std::os::unix::fs::symlink("model.pth", &link).unwrap();
        strip(&link).exits(0);
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(tensors(&path), wanted(file));
        let meta = fs::metadata(&path).unwrap();
        assert_eq!(meta.mode() & 0o777, 0o640, "{file}");
        if given {
            assert_eq!((meta.uid(), meta.gid()), (12, 34), "{file}");
        }
    }
}

#[cfg(unix)]
#[test]
fn a_file_that_cannot_be_written_or_has_two_names_is_refused() {
    use std::os::unix::fs::PermissionsExt;
    use std::os::unix::process::CommandExt;
    let dir = tempfile::tempdir().unwrap();
    for file in [STATE, LEGACY] {
        let path = copy(file, dir.path());
        let old = fs::read(&path).unwrap();
        fs::hard_link(&path, dir.path().join("other")).unwrap();
        let run = strip(&path).exits(2);
        assert!(run.stderr.contains("2 hard links"), "{}", run.stderr);
        fs::remove_file(dir.path().join("other")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o444)).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_ckpt"));
        if OpenOptions::new().write(true).open(&path).is_ok() {
            // nothing is read-only to root: let somebody else try, where they can reach the binary
            fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o777)).unwrap();
            command.uid(65534).gid(65534);
            if Command::new(env!("CARGO_BIN_EXE_ckpt")).arg("--version").uid(65534).output().is_err() {
                return;
            }
        }
        let run = run_with(command.args(["strip-prefix", "module.", "--in-place"]).arg(&path), b"").exits(2);
        assert!(run.stderr.contains("cannot be written"), "{}", run.stderr);
        assert!(fs::read(&path).unwrap() == old);
        fs::remove_file(&path).unwrap();
    }
    let run = run_with(ckpt().args(["strip-prefix", "module.", "--in-place", "/dev/null"]), b"").exits(2);
    assert!(run.stderr.contains("not a regular file"), "{}", run.stderr);
}

#[test]
fn an_interrupted_edit_is_recognised_by_every_command_and_repaired() {
    let dir = tempfile::tempdir().unwrap();
    let path = copy(STATE, dir.path());
    let old = fs::read(&path).unwrap();
    strip(&path).exits(0);
    let new = fs::read(&path).unwrap();
    // cut in the first bytes, in the pickle, before and in the end records
    for (cut, finishes) in
        [(2, false), (500, false), (new.len() - old.len() - 98, true), (new.len() - old.len() - 5, true)]
    {
        let cut = old.len() + cut;
        let broken = || fs::write(&path, &new[..cut]).unwrap();
        broken();
        let shown = path.to_str().unwrap();
        let commands = [
            vec!["ls", shown],
            vec!["strip-prefix", "module.", shown, "--dry-run"],
            vec!["rename", shown, "--add-prefix", "x", "--in-place"],
        ];
        for command in commands {
            let run = run_with(ckpt().args(&command), b"").exits(2);
            assert!(run.stderr.contains("ckpt repair") && run.stderr.contains("interrupted"), "{}", run.stderr);
        }
        let run = run_with(ckpt().args(["repair", "--in-place", shown]), b"").exits(0);
        // two bytes are the beginning of anything
        let says = match (finishes, cut - old.len()) {
            (true, _) => "finished the interrupted edit",
            (false, 2) => "dropped 2 unfinished bytes after the end of the archive",
            (false, _) => "undid the interrupted edit",
        };
        assert!(run.stderr.contains(says), "{cut}: {}", run.stderr);
        let wanted = if finishes { &new } else { &old };
        assert!(fs::read(&path).unwrap() == *wanted, "{cut}");
        broken();
        let output = dir.path().join("repaired.pth");
        run_with(ckpt().args(["repair", "--force", shown, "-o"]).arg(&output), b"").exits(0);
        assert!(fs::read(&output).unwrap() == *wanted && fs::metadata(&path).unwrap().len() == cut as u64);
        run_with(ckpt().args(["repair", shown, "-o"]).arg(&output), b"").exits(2);
        let piped = run_with(ckpt().args(["repair", "-", "-o", "-"]), &new[..cut]).exits(0);
        assert!(piped.stdout == *wanted);
    }
    let whole = run_with(ckpt().args(["repair", "--in-place"]).arg(testdata(STATE)), b"");
    assert_ne!(whole.status, 0);
}

/// A large file in which almost all is hole: the edit's cost must not depend on it.
#[test]
fn the_cost_is_that_of_the_names() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("large.pt");
    write_sparse(&path, 40 << 30);
    let begun = std::time::Instant::now();
    let report =
        run_with(ckpt().args(["strip-prefix", "module.", "--in-place", "--json"]).arg(&path), b"").exits(0).json();
    assert!(begun.elapsed() < std::time::Duration::from_secs(10));
    assert!(report["bytes"].as_u64().unwrap() < 1000);
    let names = run_with(ckpt().args(["ls", "--names"]).arg(&path), b"").exits(0);
    assert_eq!(names.text(), "w\n");
}

/// torch's zip of one storage of so many bytes, not one of which is written: zip64 throughout.
fn write_sparse(path: &Path, bytes: u64) {
    use std::io::{Seek, SeekFrom, Write};
    let pickle = [
        &b"\x80\x02}X\x08\x00\x00\x00module.wctorch._utils\n_rebuild_tensor_v2\n((X\x07\x00\x00\x00storagectorch\nByteStorage\n"[..],
        b"X\x01\x00\x00\x000X\x03\x00\x00\x00cpu\x8a\x06",
        &bytes.to_le_bytes()[..6],
        b"tQK\x00K\x01\x85K\x01\x85\x89ccollections\nOrderedDict\n)RtRs.",
    ]
    .concat();
    let mut file = File::create(path).unwrap();
    let mut directory = Vec::new();
    let mut member = |file: &mut File, name: &[u8], size: u64, data: &[u8]| {
        let at = file.stream_position().unwrap();
        let sizes = [size.to_le_bytes(), size.to_le_bytes()].concat();
        let fixed = |extra: u16| {
            [
                &[45, 0, 0, 8, 0, 0, 0, 0, 33, 0, 0, 0, 0, 0][..],
                &[0xff; 8],
                &u16::try_from(name.len()).unwrap().to_le_bytes(),
                &extra.to_le_bytes(),
            ]
            .concat()
        };
        file.write_all(&[b"PK\x03\x04", &fixed(20)[..], name, b"\x01\x00\x10\x00", &sizes].concat()).unwrap();
        file.write_all(data).unwrap();
        file.seek(SeekFrom::Current(i64::try_from(size - data.len() as u64).unwrap())).unwrap();
        directory.extend(
            [
                b"PK\x01\x02\x2d\x00",
                &fixed(28)[..],
                &[0; 10],
                &[0xff; 4],
                name,
                b"\x01\x00\x18\x00",
                &sizes,
                &at.to_le_bytes(),
            ]
            .concat(),
        );
    };
    member(&mut file, b"large/data.pkl", pickle.len() as u64, &pickle);
    member(&mut file, b"large/data/0", bytes, b"");
    let start = file.stream_position().unwrap();
    let len = directory.len() as u64;
    file.write_all(&directory).unwrap();
    let end = [2u64, 2, len, start].map(u64::to_le_bytes).concat();
    file.write_all(&[b"PK\x06\x06\x2c\x00\x00\x00\x00\x00\x00\x00\x2d\x00\x2d\x00", &[0; 8][..], &end].concat())
        .unwrap();
    let locator = [b"PK\x06\x07\x00\x00\x00\x00", &(start + len).to_le_bytes()[..], &[1, 0, 0, 0]].concat();
    file.write_all(&[&locator[..], b"PK\x05\x06\x00\x00\x00\x00\x02\x00\x02\x00", &[0xff; 8], &[0; 2]].concat())
        .unwrap();
}
