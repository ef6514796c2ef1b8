//! The README: every command line is one that the program takes, each is run on files of its names, and what it shows is what
//! is printed. Its files are those of `testdata/readme/`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // helpers of tests are tests

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::driver::{Dir, bless_or_compare, testdata};

/// The words of a command as a shell takes them: blanks part them, quotes hold them together.
pub fn words(line: &str) -> Vec<String> {
    let (mut words, mut word, mut quote, mut is_open) = (Vec::new(), String::new(), None, false);
    for c in line.chars() {
        match (c, quote) {
            ('\'' | '"', None) => (quote, is_open) = (Some(c), true),
            (c, Some(end)) if c == end => quote = None,
            (' ', None) if is_open => (words.push(std::mem::take(&mut word)), is_open = false).0,
            (' ', None) => {}
            ('#', None) if !is_open => break,
            (c, _) => (word.push(c), is_open = true).0,
        }
    }
    words.extend(is_open.then_some(word));
    words
}

/// `ckpt …` at a prompt, or between backticks in a table; without what a shell does with it.
fn commands(readme: &str) -> Vec<String> {
    let at_prompts = readme.lines().filter_map(|line| line.strip_prefix("$ "));
    let rows = readme.lines().filter(|line| line.starts_with('|'));
    let in_tables = rows.flat_map(|row| row.split('`').skip(1).step_by(2));
    let lines = at_prompts.chain(in_tables).filter(|line| line.starts_with("ckpt ") && !line.contains('…'));
    lines.map(alone).collect()
}

/// Without what a shell does with it.
pub fn alone(line: &str) -> String {
    let ends = [" && ", " > ", " < ", " | "];
    ends.iter().fold(line, |line, end| line.split(end).next().unwrap_or_default()).to_owned()
}

/// Fails where the program does not take a command.
pub fn is_taken(command: &str) {
    if let Err(e) = ckpt::cli::command().try_get_matches_from(words(command)) {
        assert!(!e.use_stderr(), "{command}: {e}");
    }
}

#[test]
fn every_command_is_taken() {
    let readme = fs::read_to_string("README.md").unwrap();
    let commands = commands(&readme);
    assert!(commands.len() > 60, "{} commands", commands.len());
    commands.iter().for_each(|command| is_taken(command));
}

/// A command at a prompt, with the lines that follow it.
struct Shown {
    command: String,
    output: String,
}

/// The commands of each console block.
fn blocks(readme: &str) -> Vec<Vec<Shown>> {
    let mut blocks = Vec::new();
    for block in readme.split("```console\n").skip(1) {
        let block = block.split("```").next().unwrap();
        let mut shown: Vec<Shown> = Vec::new();
        for line in block.lines() {
            match (line.strip_prefix("$ "), shown.last_mut()) {
                (Some(command), _) => shown.push(Shown { command: command.to_owned(), output: String::new() }),
                (None, Some(last)) => last.output.push_str(&format!("{line}\n")),
                (None, None) => panic!("output without a command: {line}"),
            }
        }
        blocks.push(shown);
    }
    blocks
}

/// Commands of programs that a test cannot count on; what `ckpt` does in them is in `jobs.rs` and `git.rs`.
const ELSEWHERE: &[&str] = &["JOBS=32 bash examples/", "python3 examples/", "sbatch ", "git config "];

/// A folder with every file that the README names.
fn folder() -> Dir {
    fn copy(from: &Path, to: &Path) {
        fs::create_dir_all(to).unwrap();
        for entry in fs::read_dir(from).unwrap() {
            let path = entry.unwrap().path();
            let target = to.join(path.file_name().unwrap());
            match path.is_dir() {
                true => copy(&path, &target),
                false => drop(fs::copy(&path, &target).unwrap()),
            }
        }
    }
    let dir = Dir::new();
    copy(&testdata("readme"), Path::new(&dir.path("")));
    fs::copy(testdata("torch-2.15-py311/checkpoint.tar"), dir.path("checkpoint.tar")).unwrap();
    dir
}

/// What a shell shows of a command, both streams as they come.
fn shell(dir: &Dir, command: &str) -> (Option<i32>, String) {
    let program = Path::new(env!("CARGO_BIN_EXE_ckpt"));
    let path = std::env::join_paths(
        std::iter::once(program.parent().unwrap().to_owned())
            .chain(std::env::split_paths(&std::env::var_os("PATH").unwrap())),
    );
    let mut shell = Command::new("sh");
    shell.args(["-c", &format!("exec 2>&1\n{command}")]).current_dir(dir.path("")).env("PATH", path.unwrap());
    let output = shell.env_remove("NO_COLOR").output().unwrap();
    (output.status.code(), String::from_utf8(output.stdout).unwrap())
}

fn run_block(block: &[Shown]) {
    let dir = folder();
    for Shown { command, output } in block.iter().filter(|shown| !is_elsewhere(&shown.command)) {
        let (status, printed) = shell(&dir, command);
        assert!(matches!(status, Some(0 | 1)), "{command}: {status:?}: {printed}");
        if !output.is_empty() {
            let wanted = output.replace("…\n", "...\n");
            println!("$ {command}");
            snapbox::assert_data_eq!(printed, wanted);
        }
    }
}

fn is_elsewhere(command: &str) -> bool {
    ELSEWHERE.iter().any(|begin| command.starts_with(begin))
}

fn needs_jq(block: &[Shown]) -> bool {
    block.iter().any(|shown| shown.command.contains("| jq "))
}

#[cfg(unix)]
#[test]
fn every_command_is_run_and_prints_what_is_shown() {
    let readme = fs::read_to_string("README.md").unwrap();
    let blocks = blocks(&readme);
    assert!(blocks.len() > 10, "{} blocks", blocks.len());
    blocks.iter().filter(|block| !needs_jq(block)).for_each(|block| run_block(block));
}

#[cfg(unix)]
#[test]
#[ignore = "needs jq"]
fn jq_commands_print_what_is_shown() {
    let readme = fs::read_to_string("README.md").unwrap();
    let with_jq: Vec<_> = blocks(&readme).into_iter().filter(|block| needs_jq(block)).collect();
    assert!(!with_jq.is_empty());
    with_jq.iter().for_each(|block| run_block(block));
}

#[cfg(unix)]
#[test]
fn every_command_of_a_table_is_run() {
    let readme = fs::read_to_string("README.md").unwrap();
    let rows: Vec<&str> = readme.lines().filter(|line| line.starts_with('|')).collect();
    let spans = rows.iter().flat_map(|row| row.split('`').skip(1).step_by(2));
    let commands: Vec<&str> = spans.filter(|span| span.starts_with("ckpt ")).collect();
    assert!(commands.len() > 12, "{} commands", commands.len());
    for command in commands {
        let (status, printed) = shell(&folder(), command);
        assert!(matches!(status, Some(0 | 1)), "{command}: {status:?}: {printed}");
    }
}

/// The commands of the picture.
const PICTURE: &[&str] =
    &["ckpt ls --tree --depth 2 model.pth", "ckpt diff before.pth after.pth --top 3", "ckpt check download.pth"];

#[cfg(unix)]
#[test]
fn picture_is_in_step() {
    let dir = folder();
    let mut shown = String::new();
    for command in PICTURE {
        let (status, printed) = shell(&dir, &format!("{command} --color always"));
        assert!(matches!(status, Some(0 | 1)), "{command}: {printed}");
        shown.push_str(&format!("\u{1b}[1m$ {command}\u{1b}[0m\n{printed}\n"));
    }
    let picture = anstyle_svg::Term::new().render_svg(&shown);
    bless_or_compare(&Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/terminal.svg"), picture.as_bytes());
}
