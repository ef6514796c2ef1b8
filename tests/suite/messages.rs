//! The words of the program, by example: help, what usage errors answer, what inputs are refused with. A change shows as a
//! change of testdata/golden/messages/; `cargo xtask bless` writes them again.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // helpers of tests are tests

use std::fmt::Write;
use std::fs;

use crate::driver::{Dir, ckpt, golden, run, run_with, testdata};
use crate::readme::words;

/// What newcomers type, in a folder of `model.pth`, `checkpoint.tar`, `dir/model.pth` and `empty/`.
const SLIPS: &str = include_str!("slips.txt");

fn folder() -> Dir {
    let dir = Dir::new();
    for name in ["dir", "empty"] {
        fs::create_dir(dir.path(name)).unwrap();
    }
    let from = |name: &str| testdata("torch-2.15-py311").join(name);
    fs::copy(from("dataparallel_state.pth"), dir.path("model.pth")).unwrap();
    fs::copy(from("dataparallel_state.pth"), dir.path("dir/model.pth")).unwrap();
    fs::copy(from("checkpoint.tar"), dir.path("checkpoint.tar")).unwrap();
    dir
}

#[test]
fn slips_lead_to_the_right_command() {
    let dir = folder();
    let before = dir.names();
    let mut told = String::new();
    let slips: Vec<&str> = SLIPS.lines().filter(|line| !line.is_empty()).collect();
    assert!(slips.len() >= 40, "{}", slips.len());
    for line in slips {
        let words = words(line);
        let run = run_with(ckpt().current_dir(dir.path("")).args(&words[1..]), b"").exits(2);
        assert!(run.stdout.is_empty(), "{line}: {}", run.text());
        assert_eq!(run.stderr.lines().count(), 1, "{line}: {}", run.stderr);
        assert!(run.stderr.starts_with("ckpt: "), "{line}: {}", run.stderr);
        writeln!(told, "$ {line}\n{}", run.stderr).unwrap();
        // a command that is proposed with all that it needs is one
        for proposed in run.stderr.split('`').skip(1).step_by(2).filter(|text| text.starts_with("ckpt ")) {
            let is_whole = !proposed.contains("PREFIX ") && !proposed.ends_with(" FILE NAME");
            let taken = ckpt::cli::command().try_get_matches_from(crate::readme::words(proposed));
            let is_command =
                |e: clap::Error| !e.use_stderr() || e.kind() == clap::error::ErrorKind::MissingRequiredArgument;
            assert!(!is_whole || taken.map_or_else(is_command, |_| true), "{line}: proposes `{proposed}`");
        }
    }
    assert_eq!(dir.names(), before, "nothing is written");
    golden("messages/slips.txt", &told);
}

#[test]
fn help_texts() {
    let mut told = String::new();
    let commands: Vec<String> = ckpt::cli::command().get_subcommands().map(|c| c.get_name().to_owned()).collect();
    for name in std::iter::once(String::new()).chain(commands) {
        for option in ["-h", "--help"] {
            let words = format!("{name} {option}");
            writeln!(told, "$ ckpt {}\n{}", words.trim(), run(&words).exits(0).text()).unwrap();
        }
    }
    golden("messages/help.txt", &told);
}

/// What is wrong with inputs, and what is noted of them: one example of each kind.
#[test]
fn refusals_and_notes() {
    let mut told = String::new();
    let model = "torch-2.15-py311/checkpoint.tar";
    for words in [
        "ls golden",
        "ls no/such/file.pt",
        "ls generate_hostile.py",
        &format!("ls {model} --root nope"),
        &format!("ls {model} --include model_state_dict.feature"),
        &format!("ls {model} --include ["),
        &format!("ls {model} --max-entries 3"),
        &format!("ls {model} --max-depth 1"),
        &format!("extract {model} epoc"),
        &format!("extract {model} epoch -o epoch.npy"),
        &format!("extract {model} model_state_dict.features.0.weight --slice 9,9,9,9,9"),
        &format!("extract {model} model_state_dict.steps --dtype float16"),
        &format!("extract {model} -o x.foo"),
        &format!("convert {model} x.foo"),
        &format!("convert {model} - --to torch --json"),
        &format!("convert {model} /no/such/folder/x.pt"),
        &format!("convert {model} {model}"),
        &format!("convert {model} x.pt --device gpu"),
        &format!("convert {model} x.pt --drop nope"),
        &format!("convert {model} x.pt --expect-digest 0"),
        &format!("strip-prefix nope. {model} --dry-run"),
        &format!("strip-prefix features {model} --dry-run"),
        &format!("rename {model} --regex s/a --dry-run"),
        &format!("rename {model} --map no.tsv --dry-run"),
        &format!("edit {model} --set epoch=1+ --dry-run"),
        &format!("edit {model} --delete nope --dry-run"),
        &format!("merge {model} {model} -o x.pt"),
        &format!("average {model} torch-2.15-py311/cnn_state.pt -o -"),
        &format!("average {model} -o x.pt"),
        "diff - -",
        &format!("digest {model}"),
        "digest --check generate_hostile.py",
        &format!("check {model} --allow nope"),
        &format!("check {model} --allow ["),
        &format!("repair {model} -o x.pt"),
        "man nonsense",
    ] {
        let run = run(words);
        assert!(!run.stderr.is_empty(), "{words}");
        writeln!(told, "$ ckpt {words}\n{}", run.stderr).unwrap();
    }
    golden("messages/refusals.txt", &told);
}
