//! completions/ and man/ are what `ckpt completions SHELL` and `ckpt man` print, for whatever the command line has.
//! CKPT_BLESS=1 writes them again.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // helpers of tests are tests

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use crate::driver::{bless_or_compare, run};
use clap::ValueEnum;

/// A shell, and the name its completions are installed under.
const COMPLETIONS: &[(&str, &str)] = &[
    ("bash", "ckpt.bash"),
    ("elvish", "ckpt.elv"),
    ("fish", "ckpt.fish"),
    ("powershell", "_ckpt.ps1"),
    ("zsh", "_ckpt"),
];

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

/// Nothing lies in the folder that is not made.
fn holds_only(folder: &Path, wanted: impl IntoIterator<Item = String>) {
    let found: BTreeSet<String> = std::fs::read_dir(folder)
        .expect("the folder")
        .map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned())
        .collect();
    assert_eq!(found, wanted.into_iter().collect(), "{}", folder.display());
}

#[test]
fn completions_are_in_step() {
    let known: Vec<&str> = COMPLETIONS.iter().map(|(shell, _)| *shell).collect();
    let shells: Vec<String> = clap_complete::Shell::value_variants().iter().map(ToString::to_string).collect();
    assert_eq!(known, shells, "every shell that there are completions for");
    for (shell, file) in COMPLETIONS {
        let script = run(&format!("completions {shell}")).exits(0).stdout;
        bless_or_compare(&folder("completions").join(file), &script);
    }
    holds_only(&folder("completions"), COMPLETIONS.iter().map(|(_, file)| (*file).to_owned()));
}

#[test]
fn man_pages_are_in_step() {
    let mut pages = vec!["ckpt.1".to_owned()];
    bless_or_compare(&folder("man").join("ckpt.1"), &run("man").exits(0).stdout);
    for subcommand in ckpt::cli::command().get_subcommands() {
        let page = format!("ckpt-{}.1", subcommand.get_name());
        let text = run(&format!("man {}", subcommand.get_name())).exits(0).stdout;
        bless_or_compare(&folder("man").join(&page), &text);
        pages.push(page);
    }
    let dir = tempfile::tempdir().expect("a folder");
    run(&format!("man --dir {}", dir.path().display())).exits(0);
    for page in &pages {
        let written = std::fs::read(dir.path().join(page)).expect("a page");
        assert_eq!(written, std::fs::read(folder("man").join(page)).expect("a page"), "{page}");
    }
    holds_only(dir.path(), pages.clone());
    holds_only(&folder("man"), pages);
    assert!(run("man nonsense").exits(2).stderr.contains("nonsense"));
}
