//! What scripts rely on: exit statuses, a line for every input, errors that begin with `ckpt:` and say what to do.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // helpers of tests are tests

use crate::driver::{Run, ckpt, run, run_with, testdata};
use serde_json::Value;

const STATE: &str = "torch-2.15-py311/cnn_state.pt";
const MODULE: &str = "torch-2.15-py311/cnn_full.pth";
const TEXT: &str = "hostile/text.pt";

/// `ckpt ARGS` in a folder of its own, where `model.pt` is a state dict and `cut.pt` lacks its end.
fn in_a_folder(words: &str) -> Run {
    let dir = tempfile::tempdir().unwrap();
    let whole = std::fs::read(testdata(STATE)).unwrap();
    std::fs::write(dir.path().join("model.pt"), &whole).unwrap();
    std::fs::write(dir.path().join("cut.pt"), &whole[..whole.len() - 300]).unwrap();
    std::fs::write(dir.path().join("hello.pt"), "hello, I am no checkpoint").unwrap();
    std::fs::write(dir.path().join("empty.pt"), "").unwrap();
    std::fs::copy(testdata("torch-2.15-py311/checkpoint.tar"), dir.path().join("checkpoint.tar")).unwrap();
    run_with(ckpt().args(words.split_whitespace()).current_dir(dir.path()), b"")
}

fn objects(run: &Run) -> Vec<Value> {
    run.lines().iter().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn every_command_ends_with_its_documented_statuses() {
    for (words, status) in [
        ("ls model.pt", 0),
        ("ls missing.pt", 2),
        ("ls --nonsense model.pt", 2),
        ("diff model.pt model.pt", 0),
        ("diff model.pt checkpoint.tar", 1),
        ("diff model.pt missing.pt", 2),
        ("check model.pt", 0),
        ("check cut.pt", 1),
        ("check hello.pt", 2),
        ("extract checkpoint.tar epoch", 0),
        ("extract missing.pt epoch", 2),
        ("convert model.pt out.safetensors", 0),
        ("convert hello.pt out.safetensors", 2),
        ("convert model.pt model.pt", 2),
        ("strip-prefix features. model.pt -o out.pt", 0),
        ("strip-prefix module. model.pt -o out.pt", 1),
        ("strip-prefix module. --if-present model.pt -o out.pt", 0),
        ("strip-prefix module. missing.pt -o out.pt", 2),
        ("rename model.pt --add-prefix module. -o out.pt", 0),
        ("rename model.pt --strip-prefix module. -o out.pt", 1),
        ("rename model.pt -o out.pt", 2),
        ("repair cut.pt -o out.pt", 0),
        ("repair model.pt -o out.pt", 1),
        ("repair missing.pt -o out.pt", 2),
        ("completions bash", 0),
        ("completions nonsense", 2),
        ("man ls", 0),
        ("man nonsense", 2),
        ("--version", 0),
        ("nonsense", 2),
    ] {
        let run = in_a_folder(words);
        assert_eq!(run.status, status, "{words}: {}", run.stderr);
        let is_told = run.stderr.lines().all(|line| line.starts_with("ckpt: ")) && !run.stderr.is_empty();
        assert!(status != 2 || is_told, "{words}: {}", run.stderr);
    }
}

#[test]
fn one_table_of_exit_statuses_stands_in_every_help_and_man_page() {
    let table = |text: &str, title: &str| -> String {
        let rest = &text[text.find(title).unwrap_or_else(|| panic!("no table in {text}"))..];
        let (begin, end) = (rest.find("0  success").unwrap(), rest.find("disk full").unwrap());
        rest[begin..end].split_whitespace().collect::<Vec<_>>().join(" ")
    };
    let wanted = table(run("--help").exits(0).text(), "Exit status:");
    assert!(wanted.starts_with("0 ") && wanted.contains(" 1 ") && wanted.contains(" 2 "), "{wanted}");
    for command in ckpt::cli::command().get_subcommands() {
        let name = command.get_name();
        assert_eq!(table(run(&format!("{name} --help")).exits(0).text(), "Exit status:"), wanted, "{name}");
        let page = run(&format!("man {name}")).exits(0).text().replace('\\', "");
        assert_eq!(table(&page, "EXIT STATUS"), wanted, "man {name}");
    }
}

#[test]
fn help_is_a_command_too() {
    assert_eq!(run("help").exits(0).text(), run("--help").exits(0).text());
    assert_eq!(run("help strip-prefix").exits(0).text(), run("strip-prefix --help").exits(0).text());
    assert!(run("help nonsense").exits(2).stderr.starts_with("ckpt: "));
}

#[test]
fn usage_errors_are_one_line_with_the_likely_fix() {
    for (words, fix) in [
        ("model.pth", "`ckpt ls model.pth`"),
        ("--json model.pth", "`ckpt ls --json model.pth`"),
        ("convert a.pt b.pt --format safetensors", "`--to safetensors`"),
        ("lss a", "'ls'"),
        ("compare a b", "`ckpt diff a b`"),
        ("ls --jsn a", "'--json'"),
        ("ls --sort nothing a", "name, size, file"),
        ("ls", "<INPUT>"),
        ("ls --tree --names a", "cannot be used with"),
    ] {
        let run = run(words).exits(2);
        assert!(run.stderr.starts_with("ckpt: ") && run.stderr.contains(fix), "{words}: {}", run.stderr);
        assert_eq!((run.stderr.lines().count(), run.stdout.len()), (1, 0), "{words}: {}", run.stderr);
    }
    for words in ["ls - -", "check - model.pt -"] {
        assert!(run(words).exits(2).stderr.contains("only once"), "{words}");
    }
    assert!(run("man nonsense").exits(2).stderr.contains("strip-prefix"));
    let bare = run("").exits(2);
    assert!(bare.stderr.starts_with("ckpt: no command") && bare.stderr.contains("strip-prefix"), "{}", bare.stderr);
}

#[test]
fn an_input_that_cannot_be_read_is_a_line_among_the_others() {
    for command in ["ls", "check", "check -R"] {
        let run = in_a_folder(&format!("{command} --json model.pt missing.pt hello.pt empty.pt model.pt")).exits(2);
        let lines = objects(&run);
        let files: Vec<_> = lines.iter().map(|line| line["file"].as_str().unwrap()).collect();
        assert_eq!(files, ["model.pt", "missing.pt", "hello.pt", "empty.pt", "model.pt"], "{command}");
        let (missing, hello) = (&lines[1], &lines[2]);
        let keys: Vec<_> = missing.as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!(keys.len(), 6, "{keys:?}");
        for key in ["schema", "file", "kind", "message", "member", "offset"] {
            assert!(missing.get(key).is_some(), "{key}");
        }
        assert_eq!((&missing["schema"], &missing["kind"]), (&"ckpt.error/1".into(), &"io".into()));
        assert!(missing["message"].as_str().unwrap().contains("No such file"), "{missing}");
        assert_eq!(hello["kind"], "not_a_checkpoint");
        assert!(!hello["message"].as_str().unwrap().contains("hello.pt"), "{hello}");
        assert_eq!(run.stderr.lines().count(), 3, "{}", run.stderr);
    }
}

#[test]
fn every_command_with_inputs_has_that_line() {
    for words in [
        "ls --json hello.pt",
        "check --json hello.pt",
        "diff --json model.pt hello.pt",
        "diff --json hello.pt model.pt",
        "extract --json hello.pt",
        "convert --json hello.pt out.pt",
        "strip-prefix --json module. hello.pt -o out.pt",
        "rename --json hello.pt --add-prefix a. -o out.pt",
        "repair --json hello.pt -o out.pt",
    ] {
        let run = in_a_folder(words).exits(2);
        let lines = objects(&run);
        assert_eq!(lines.len(), 1, "{words}: {}", run.text());
        assert_eq!((&lines[0]["schema"], &lines[0]["file"]), (&"ckpt.error/1".into(), &"hello.pt".into()), "{words}");
        assert_eq!(lines[0]["kind"], "not_a_checkpoint", "{words}");
        assert_eq!(run.stderr.lines().count(), 1, "{words}: {}", run.stderr);
        assert!(in_a_folder(&words.replace(" --json", "")).exits(2).stdout.is_empty(), "{words}");
    }
    let both = in_a_folder("diff --json missing.pt hello.pt").exits(2);
    let files: Vec<_> = objects(&both).iter().map(|line| line["file"].clone()).collect();
    assert_eq!(files, ["missing.pt", "hello.pt"]);
}

#[test]
fn what_is_asked_for_and_not_there_is_no_fault_of_the_input() {
    for words in [
        "ls --json --root nope model.pt",
        "diff --json --root nope model.pt model.pt",
        "extract --json model.pt nope",
        "extract --json model.pt -o out.foo",
        "extract --json model.pt --scale 2 -o out.npz",
        "extract --json model.pt -o no/such/folder/out.npz",
        "convert --json --root nope model.pt out.safetensors",
    ] {
        let run = in_a_folder(words).exits(2);
        assert!(run.stdout.is_empty() && run.stderr.lines().count() == 1, "{words}: {}{}", run.text(), run.stderr);
    }
}

#[test]
fn the_line_has_the_kind_of_the_trouble() {
    for (file, kind) in [("hostile/tensor_missing_storage.pt", "data"), ("more/joblib.pkl.gz", "unsupported")] {
        let run = run(&format!("extract --json {file}")).exits(2);
        // what was printed before the trouble is a line of its own
        let line: Value = serde_json::from_str(run.text().lines().last().unwrap()).unwrap();
        assert_eq!((&line["kind"], &line["file"]), (&kind.into(), &file.into()), "{line}");
    }
}

#[test]
fn the_line_says_where() {
    let cut = in_a_folder("ls --json cut.pt").exits(2);
    let line = &objects(&cut)[0];
    let place = [&line["member"], &line["offset"]];
    assert!(place.iter().any(|place| !place.is_null()) || line["kind"] == "truncated", "{line}");
    let whole = run(&format!("ls --json {TEXT} {MODULE}"));
    assert_eq!(objects(&whole).len(), 2);
}

#[test]
fn errors_of_usage_are_on_standard_error_only() {
    for words in
        ["ls --json --nonsense model.pt", "convert --json model.pt out.xyz", "rename --json model.pt --add-prefix a."]
    {
        let run = in_a_folder(words).exits(2);
        assert!(run.stdout.is_empty(), "{words}: {}", run.text());
    }
}

#[cfg(unix)]
#[test]
fn names_that_are_no_text_are_told_as_far_as_they_are() {
    use std::os::unix::ffi::OsStrExt;
    let name = std::ffi::OsStr::from_bytes(b"no\xfftext.pt");
    let run = run_with(ckpt().args(["ls", "--json"]).arg(name), b"").exits(2);
    assert_eq!(run.json()["file"], "no\u{fffd}text.pt");
}
