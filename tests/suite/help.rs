//! What `-h`, `--help` and the man pages hold, whatever the commands are.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // helpers of tests are tests

use clap::Command;

use crate::driver::run;
use crate::readme::{alone, is_taken};

fn commands() -> Vec<Command> {
    let mut command = ckpt::cli::command();
    command.build();
    command.get_subcommands().cloned().collect()
}

/// The lines below a title, up to the next line that is not indented.
fn below<'a>(text: &'a str, title: &str) -> Vec<&'a str> {
    let mut lines = text.lines().skip_while(|line| *line != title);
    assert!(lines.next().is_some(), "no `{title}` in {text}");
    lines.take_while(|line| line.starts_with("  ")).map(str::trim).collect()
}

#[test]
fn short_help_fits_a_screen() {
    for words in std::iter::once("-h".to_owned()).chain(commands().iter().map(|c| format!("{} -h", c.get_name()))) {
        let run = run(&words).exits(0);
        let lines = run.lines();
        assert!(lines.len() <= 40, "{words}: {} lines", lines.len());
        assert!(lines.iter().all(|line| line.chars().count() <= 100), "{words}: {}", run.text());
        assert!(lines.last().unwrap().contains("--help`"), "{words}");
    }
}

#[test]
fn every_option_has_a_line_and_every_limit_its_default() {
    for command in commands() {
        let name = command.get_name();
        let run = run(&format!("{name} --help")).exits(0);
        for option in command.get_arguments().filter(|option| !option.is_hide_set()) {
            let help =
                option.get_help().unwrap_or_else(|| panic!("{name}: {} has no help", option.get_id())).to_string();
            assert!(!help.is_empty() && !help.ends_with('.') && help.chars().count() <= 90, "{name}: {help}");
            let is_imperative = help.chars().next().unwrap().is_uppercase() || help.starts_with('`');
            assert!(is_imperative, "{name}: {help}");
            if let Some(long) = option.get_long().filter(|long| long.starts_with("max-") && *long != "max-shard-size") {
                let after = run.text().split(&format!("--{long} <")).nth(1).unwrap();
                let of_option = after.split("\n      --").next().unwrap();
                assert!(of_option.contains("[default: "), "{name} --{long}: {of_option}");
            }
        }
    }
}

/// Options that do something only where they are given: there is nothing else to say of their default.
const OFF: &[&str] = &[
    "a",
    "allow",
    "allow_from",
    "b",
    "check",
    "drop",
    "delete",
    "ema",
    "exclude",
    "expect_digest",
    "files_from",
    "map",
    "move",
    "input",
    "inputs",
    "max_shard_size",
    "output",
    "prefix",
    "add-prefix",
    "regex",
    "save_values",
    "set",
    "set-metadata",
    "set-tensor",
    "set_metadata",
    "strip-prefix",
    "strip_prefix",
    "to_output",
    "write_allow",
    "dir",
    "shell",
];

#[test]
fn every_value_has_its_default() {
    let mut without = Vec::new();
    for command in commands() {
        for option in
            command.get_arguments().filter(|option| option.get_action().takes_values() && !option.is_hide_set())
        {
            let help = option.get_long_help().or(option.get_help()).map(ToString::to_string).unwrap_or_default();
            let is_told = help.contains("efault") || !option.get_default_values().is_empty();
            let is_off = OFF.contains(&option.get_id().as_str());
            if !is_told && !is_off {
                without.push(format!("{} {}", command.get_name(), option.get_id()));
            }
        }
    }
    assert!(without.is_empty(), "{without:?}");
}

#[test]
fn every_help_has_examples_that_are_taken() {
    let names = commands().into_iter().map(|command| command.get_name().to_owned());
    for name in names.chain([String::new()]) {
        let run = run(&format!("{name} --help")).exits(0);
        let examples = below(run.text(), "Examples:");
        assert!(!examples.is_empty(), "{name}");
        for example in examples {
            let part = example.split(" | ").find(|part| part.starts_with("ckpt "));
            let command = part.unwrap_or_else(|| panic!("{name}: {example}"));
            let is_of_name = name.is_empty() || command.starts_with(&format!("ckpt {name} "));
            assert!(is_of_name, "{name}: {example}");
            if command != "ckpt help convert" {
                is_taken(&alone(command));
            }
        }
        assert_eq!(below(run.text(), "Exit status:").len(), 5, "{name}");
    }
}

#[test]
fn every_man_page_has_its_sections() {
    for name in commands().iter().map(Command::get_name) {
        let page = run(&format!("man {name}")).exits(0);
        let titles: Vec<&str> = page
            .lines()
            .into_iter()
            .filter_map(|line| line.strip_prefix(".SH "))
            .map(|title| title.trim_matches('"'))
            .collect();
        let wanted = ["NAME", "SYNOPSIS", "DESCRIPTION", "OPTIONS", "EXIT STATUS", "EXAMPLES", "FILES", "SEE ALSO"];
        assert_eq!(titles, wanted, "{name}");
        let head = page.lines().into_iter().find(|line| line.starts_with(".TH ")).unwrap();
        assert!(head.contains(&format!("ckpt {}", env!("CARGO_PKG_VERSION"))), "{head}");
    }
    let main = run("man").exits(0);
    for name in commands().iter().map(Command::get_name) {
        assert!(main.text().replace('\\', "").contains(&format!("ckpt-{name}(1)")), "{name}");
    }
}

/// The date of a page is that of the release in the changelog, whenever it is built.
#[test]
fn man_pages_have_the_date_of_the_release() {
    let changelog = std::fs::read_to_string("CHANGELOG.md").unwrap();
    let is_date = |word: &&str| word.len() == 10 && word.split('-').map(str::len).eq([4, 2, 2]);
    let headings = changelog.lines().filter(|line| line.starts_with("## "));
    let mut dates = headings.flat_map(|line| line.split([' ', '(', ')', '['])).filter(is_date);
    let wanted = dates.next().unwrap_or("unreleased");
    assert!(run("man ls").exits(0).text().contains(wanted), "{wanted}");
}
