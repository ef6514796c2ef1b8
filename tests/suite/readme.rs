//! Every command line in the README is one that the program takes.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // helpers of tests are tests

use std::fs;

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
