//! `ckpt diff` as the command of a git diff driver.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // helpers of tests are tests

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::driver::{Run, ckpt, run_with, testdata};

const OLD: &str = "torch-2.15-py311/cnn_state.pt";
const NEW: &str = "torch-2.15-py311/checkpoint.tar";
const HASH: &str = "0123456789abcdef";

fn diff(args: &[&str]) -> Run {
    run_with(ckpt().arg("diff").args(args), b"")
}

fn driver(old: &str, new: &str, more: &[&str]) -> Run {
    let args = [&["models/net.pth", old, HASH, "100644", new, HASH, "100644"], more].concat();
    diff(&args)
}

/// git takes any exit status but 0 for a crash.
#[test]
fn seven_arguments_of_git() {
    let shown = driver(OLD, NEW, &[]).exits(0);
    assert!(shown.text().contains("a/models/net.pth") && !shown.text().contains("cnn_state"), "{}", shown.text());
    assert_eq!(
        driver(OLD, NEW, &["models/new.pth", "similarity index 90%"])
            .exits(0)
            .text()
            .lines()
            .take(2)
            .collect::<Vec<_>>(),
        ["ckpt diff a/models/net.pth b/models/new.pth", "similarity index 90%"]
    );
    assert_eq!(driver("/dev/null", OLD, &[]).exits(0).text(), "b/models/net.pth: new, 13 tensors\n");
    assert_eq!(driver(OLD, "/dev/null", &[]).exits(0).text(), "a/models/net.pth: deleted, 13 tensors\n");
    for (old, new, name) in [(OLD, "README.md", "b/models/net.pth"), ("README.md", OLD, "a/models/net.pth")] {
        let shown = driver(old, new, &[]).exits(0);
        let wanted = format!("ckpt diff a/models/net.pth b/models/net.pth\nnot compared: {name}: not a checkpoint");
        assert!(shown.text().starts_with(&wanted) && !shown.text().contains("README.md"), "{}", shown.text());
    }
    assert!(driver("/dev/null", "README.md", &[]).exits(0).text().contains("b/models/net.pth: not a checkpoint"));
    let modes = diff(&["net.pth", OLD, HASH, "100644", NEW, HASH, "100755"]).exits(0);
    assert!(
        modes.text().starts_with("ckpt diff a/net.pth b/net.pth\nold mode 100644\nnew mode 100755\n"),
        "{}",
        modes.text()
    );
    // an unmerged path comes alone, and people who forget a file get an error all the same
    let unmerged = run_with(ckpt().args(["diff", "models/net.pth"]).env("GIT_DIFF_PATH_COUNTER", "1"), b"").exits(0);
    assert_eq!(unmerged.text(), "* Unmerged path models/net.pth\n");
    assert!(diff(&["models/net.pth"]).exits(2).stderr.starts_with("ckpt: "));
    assert_eq!(driver(OLD, NEW, &["--quiet"]).exits(0).text(), "");
}

/// Two files are two files.
#[test]
fn other_numbers_of_arguments() {
    assert_eq!(diff(&[OLD, NEW, "c"]).exits(2).stderr, "ckpt: unexpected argument 'c' found; see `ckpt diff --help`\n");
    assert!(diff(&["a", OLD, "no hash", "100644", NEW, HASH, "100644"]).exits(2).stderr.contains("'no hash'"));
}

/// git makes a directory of another name each time it wants text of a file.
#[test]
fn listings_do_not_name_the_directories_of_git() {
    let temp = tempfile::tempdir().unwrap();
    let file = temp.path().join("git-blob-Ab12Cd/net.pth");
    fs::create_dir(file.parent().unwrap()).unwrap();
    fs::copy(testdata(OLD), &file).unwrap();
    let listed = run_with(ckpt().args(["ls", "--hash"]).arg(&file), b"").exits(0);
    assert!(listed.text().starts_with("net.pth: zip"), "{}", listed.text());
}

fn git(dir: &Path, args: &[&str]) -> String {
    let output =
        Command::new("git").args(["-c", "user.name=a", "-c", "user.email=a@b"]).args(args).current_dir(dir).output();
    let output = output.expect("git runs");
    assert!(output.status.success(), "git {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// The recipe of the README.
#[test]
#[ignore = "needs git"]
fn git_shows_what_changed() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    git(dir, &["init", "-q"]);
    fs::write(dir.join(".gitattributes"), "*.pth diff=ckpt\n").unwrap();
    git(dir, &["config", "diff.ckpt.command", &format!("'{}' diff", env!("CARGO_BIN_EXE_ckpt"))]);
    fs::create_dir(dir.join("models")).unwrap();
    let commit = |from: &str| {
        fs::copy(testdata(from), dir.join("models/net.pth")).unwrap();
        git(dir, &["add", "."]);
        git(dir, &["commit", "-q", "-m", "a model"]);
    };
    commit(OLD);
    assert_eq!(git(dir, &["show", "--ext-diff", "--format=", "--", "models"]), "b/models/net.pth: new, 13 tensors\n");
    commit(NEW);
    let shown = git(dir, &["diff", "HEAD~", "HEAD"]);
    assert!(shown.contains("a/models/net.pth") && shown.contains("model_state_dict.features.0.weight"), "{shown}");
    // what is no checkpoint does not end the diff of the files behind it
    fs::write(dir.join("models/a.pth"), "text").unwrap();
    git(dir, &["add", "."]);
    git(dir, &["commit", "-q", "-m", "no model"]);
    fs::write(dir.join("models/a.pth"), "more text").unwrap();
    fs::copy(testdata(OLD), dir.join("models/net.pth")).unwrap();
    let shown = git(dir, &["diff"]);
    assert!(shown.contains("a/models/a.pth: not a checkpoint") && shown.contains("b/models/net.pth"), "{shown}");
    git(dir, &["checkout", "-q", "."]);
    git(dir, &["config", "--unset", "diff.ckpt.command"]);
    git(dir, &["config", "diff.ckpt.textconv", &format!("'{}' ls --hash", env!("CARGO_BIN_EXE_ckpt"))]);
    let shown = git(dir, &["diff", "HEAD~2", "HEAD~"]);
    assert!(!shown.contains("git-blob"), "{shown}");
    assert!(
        shown.contains("\n-features.0.weight") && shown.contains("\n+model_state_dict.features.0.weight"),
        "{shown}"
    );
}
