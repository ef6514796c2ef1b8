//! What has to hold before a change lands, as `cargo xtask TASK`. `.ci/run` runs all of it.

use std::env;
use std::process::{Command, ExitCode};

/// A task: its name, what it is for, its commands. A word `NAME=VALUE` before the program sets a variable.
type Task = (&'static str, &'static str, &'static [&'static str]);

const TASKS: &[Task] = &[
    (
        "lint",
        "format, clippy, documentation, the library without the command line, and schemas in step",
        &[
            "cargo fmt --all --check",
            "cargo clippy --locked --workspace --all-targets -- -D warnings",
            "cargo check --locked --no-default-features --lib --examples",
            "cargo check --locked --no-default-features --features cli",
            "RUSTDOCFLAGS=-Dwarnings cargo doc --locked --no-deps",
            "cargo test --locked --lib report::schema",
        ],
    ),
    (
        "test",
        "the two commands of the README",
        &["cargo run --locked --release -- ls testdata/torch-2.15-py311/checkpoint.tar", "cargo test --locked"],
    ),
    (
        "sweep",
        "every byte of every small file, cut and changed; under three minutes",
        &["CKPT_SWEEP=every cargo test --locked --release --test sweep"],
    ),
    (
        "torch",
        "what ckpt writes, opened by the torch of the Python that CKPT_TORCH_PYTHON names",
        &["cargo test --locked --test suite -- --ignored torch_agrees"],
    ),
    (
        "git",
        "ckpt diff as the command of a git diff driver, and the README's commands with jq, with those that are on the PATH",
        &["cargo test --locked --test suite -- --ignored git_ jq_"],
    ),
    (
        "completions",
        "completions in the real bash, zsh and fish; those that are not there are installed with apt",
        &["cargo build --locked", "bash tests/completions.sh"],
    ),
    (
        "remote",
        "inputs behind URLs, read from nginx and an S3 server (`MOTO_PYTHON` names a Python with moto[server])",
        &["python3 tests/servers.py cargo test --locked --test suite -- --ignored remote_"],
    ),
    (
        "bless",
        "write schemas, completions, man pages, messages, golden files and the picture again",
        &[
            "CKPT_BLESS=1 cargo test --lib report::schema",
            "CKPT_BLESS=1 cargo test --test suite -- generated:: check::shown ls:: picture messages::",
        ],
    ),
];

/// What `ci` runs, in this order.
const CI: &[&str] = &["lint", "test", "completions", "sweep", "torch"];

fn main() -> ExitCode {
    let wanted = env::args().nth(1);
    let names: Vec<&str> = match wanted.as_deref() {
        Some("ci") => CI.to_vec(),
        Some(name) => vec![name],
        None => Vec::new(),
    };
    let tasks: Option<Vec<&Task>> = names.iter().map(|name| TASKS.iter().find(|task| task.0 == *name)).collect();
    let Some(tasks) = tasks.filter(|tasks| !tasks.is_empty()) else {
        eprintln!("usage: cargo xtask TASK\n\n  ci          {}", CI.join(", "));
        for (name, what, _) in TASKS {
            eprintln!("  {name:<11} {what}");
        }
        return ExitCode::from(2);
    };
    for command in tasks.iter().flat_map(|task| task.2) {
        println!("\n=== {command}");
        if !run(command) {
            eprintln!("xtask: failed: {command}");
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}

/// Runs a command and says whether it succeeded.
fn run(command: &str) -> bool {
    let words: Vec<&str> = command.split(' ').collect();
    let variables = words.iter().take_while(|word| word.contains('=')).filter_map(|word| word.split_once('='));
    let mut rest = words.iter().skip_while(|word| word.contains('='));
    let Some(program) = rest.next() else { return false };
    let status = Command::new(program).args(rest).envs(variables).status();
    status.is_ok_and(|status| status.success())
}
