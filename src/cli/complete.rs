//! What a shell offers at Tab: commands, options, their values, files, names in the file that the line is about.
//!
//! The scripts for bash, zsh and fish are short: they hand the words to `ckpt complete`, which answers on
//! lines, the first of which says what the shell is to complete by itself. clap's own engine would be less code, but it
//! leaves the quoting of names and files to nobody and is not stable; elvish and PowerShell have clap's scripts.

mod names;
mod reply;

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Arg, Command, Parser};
use clap_complete::Shell;

use self::names::Wanted;
use self::reply::{reply, unquoted};
use crate::data::cast;
use crate::terminal::streams::stdout;

/// What a script asks: `ckpt complete SHELL INDEX --breaks CHARACTERS -- WORDS`. No person does, so it is not a command.
#[derive(Debug, Parser)]
pub(super) struct Question {
    /// Shell that asks
    #[arg(value_enum)]
    shell: Shell,
    /// Place of the word that is completed, counted from 0
    index: usize,
    /// Characters that end a word for the shell (bash's COMP_WORDBREAKS)
    #[arg(long, default_value = "")]
    breaks: String,
    /// Words of the command line, `ckpt` first
    #[arg(last = true)]
    words: Vec<String>,
}

/// What a shell offers.
#[derive(Debug, PartialEq, Eq)]
enum Offer {
    /// Files and directories, which the shell knows best.
    Files,
    Directories,
    Words(Vec<Word>),
}

/// One word that would do.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Word {
    value: String,
    help: String,
    /// Whether more follows without a blank.
    is_open: bool,
}

impl Word {
    fn new(value: impl Into<String>, help: impl Into<String>) -> Self {
        Word { value: value.into(), help: help.into(), is_open: false }
    }

    fn open(value: impl Into<String>) -> Self {
        Word { is_open: true, ..Word::new(value, "") }
    }
}

/// What a word of the command line is.
#[derive(Debug, Clone, Copy)]
enum Role<'a> {
    /// An option, or `--`.
    Option,
    /// A value of an option, behind this many bytes of the word (`--root=`).
    Value(&'a Arg, usize),
    Positional(&'a Arg),
    /// One too many.
    None,
}

/// What stands where a value is named so.
#[derive(Debug, Clone, Copy)]
enum Kind {
    Files,
    Directories,
    Commands,
    Dtypes,
    Devices,
    Names(Wanted),
}

const KINDS: &[(&str, Kind)] = &[
    ("INPUT", Kind::Files),
    ("[KEY=]INPUT", Kind::Files),
    ("A", Kind::Files),
    ("B", Kind::Files),
    ("OUTPUT", Kind::Files),
    ("FILE", Kind::Files),
    ("LIST", Kind::Files),
    ("DIR", Kind::Directories),
    ("COMMAND", Kind::Commands),
    ("DTYPE", Kind::Dtypes),
    ("DEVICE", Kind::Devices),
    ("NAME", Kind::Names(Wanted::Nodes)),
    ("NAME|GLOB", Kind::Names(Wanted::Names)),
    ("PREFIX", Kind::Names(Wanted::Prefixes)),
    ("NAME=VALUE", Kind::Names(Wanted::Assigned)),
    ("NAME=FILE.npy", Kind::Names(Wanted::Assigned)),
    ("OLD=NEW", Kind::Names(Wanted::Assigned)),
];

/// The completion script of a shell for a command line.
pub(super) fn script(shell: Shell, mut command: Command) -> Vec<u8> {
    match shell {
        Shell::Bash => include_bytes!("complete/ckpt.bash").to_vec(),
        Shell::Zsh => include_bytes!("complete/_ckpt").to_vec(),
        Shell::Fish => include_bytes!("complete/ckpt.fish").to_vec(),
        other => {
            let mut out = Vec::new();
            clap_complete::generate(other, &mut command, "ckpt", &mut out);
            out
        }
    }
}

/// The question on the command line of a script.
pub(super) fn question(arguments: &[OsString]) -> Option<Question> {
    let is_one = arguments.get(1).is_some_and(|first| first == "complete") && arguments.len() > 3;
    Question::try_parse_from(arguments.iter().skip(1)).ok().filter(|_| is_one)
}

/// Answers a shell. Nobody is told what goes wrong: it would stand in the middle of what is typed.
pub(super) fn answer(question: &Question, command: Command) -> ExitCode {
    let Question { shell, index, breaks, words: given } = question;
    let words: Vec<String> = given.iter().map(|word| unquoted(word, *shell)).collect();
    let (offer, before) = offer(command, &words, *index);
    let current = given.get(*index).map_or("", String::as_str);
    match reply(&offer, &before, current, breaks, *shell, &mut stdout()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

/// What to offer for the word of a place, and what of that word stands before it.
fn offer(mut command: Command, words: &[String], index: usize) -> (Offer, String) {
    command.build();
    let current = words.get(index).map_or("", String::as_str);
    let given = |offer: Offer| (offer, String::new());
    let name = words.get(1).map_or("", String::as_str);
    if index <= 1 {
        return given(if current.starts_with('-') { options(&command) } else { commands(&command, true) });
    }
    if name == "help" {
        return given(commands(&command, false));
    }
    let Some(subcommand) = command.find_subcommand(name) else { return given(Offer::Words(Vec::new())) };
    let mut rest: Vec<&str> = words.iter().skip(2).map(String::as_str).collect();
    if rest.len() + 2 <= index {
        rest.push("");
    }
    let roles = roles(subcommand, &rest);
    let (argument, before) = match roles.get(index - 2) {
        Some(Role::Value(option, at)) => (*option, current.get(..*at).unwrap_or_default()),
        _ if current.starts_with('-') => return given(options(subcommand)),
        Some(Role::Positional(argument)) => (*argument, ""),
        _ => return given(Offer::Words(Vec::new())),
    };
    let line = Line { subcommand: name, rest: &rest, roles: &roles, at: index - 2 };
    let value = current.get(before.len()..).unwrap_or_default();
    let (found, more) = line.values(&command, argument, value);
    (found, format!("{before}{more}"))
}

/// What each word behind the name of a command is.
fn roles<'a>(command: &'a Command, words: &[&str]) -> Vec<Role<'a>> {
    let positionals: Vec<&Arg> = command.get_positionals().filter(|argument| !argument.is_hide_set()).collect();
    let is_many = |argument: &Arg| argument.get_num_args().is_some_and(|range| range.max_values() > 1);
    let (mut pending, mut count, mut is_escaped): (Option<&Arg>, usize, bool) = (None, 0, false);
    let mut role = |word: &&str| {
        let is_option = word.starts_with('-') && *word != "-" && !is_escaped;
        if let Some(option) = pending.take_if(|option| !is_option || option.is_allow_hyphen_values_set()) {
            pending = Some(option).filter(|option| is_many(option));
            return Role::Value(option, 0);
        }
        pending = None;
        if !is_option {
            let argument = positionals.get(count).or_else(|| positionals.last().filter(|last| is_many(last)));
            count += 1;
            return argument.map_or(Role::None, |argument| Role::Positional(argument));
        }
        is_escaped = *word == "--";
        let (found, value) = option_of(command, word);
        match (found.filter(|option| option.get_action().takes_values()), value) {
            (Some(option), Some(at)) => Role::Value(option, at),
            (takes_value, _) => {
                pending = takes_value;
                Role::Option
            }
        }
    };
    words.iter().map(&mut role).collect()
}

/// The last option in a word, and where in the word its value begins.
fn option_of<'a>(command: &'a Command, word: &str) -> (Option<&'a Arg>, Option<usize>) {
    if let Some(long) = word.strip_prefix("--") {
        let (name, at) = long.split_once('=').map_or((long, None), |(name, _)| (name, Some(name.len() + 3)));
        return (command.get_arguments().find(|option| option.get_long() == Some(name)), at);
    }
    let mut found = None;
    for (at, short) in word.char_indices().skip(1) {
        found = command.get_arguments().find(|option| option.get_short() == Some(short));
        let end = at + short.len_utf8();
        if found.is_some_and(|option| option.get_action().takes_values()) {
            return (found, Some(end).filter(|end| *end < word.len()));
        }
    }
    (found, None)
}

/// The line that is completed.
struct Line<'a> {
    subcommand: &'a str,
    rest: &'a [&'a str],
    roles: &'a [Role<'a>],
    at: usize,
}

impl Line<'_> {
    /// What to offer for a value, and what of it stands before.
    fn values<'v>(&self, command: &Command, argument: &Arg, value: &'v str) -> (Offer, &'v str) {
        let possible = argument.get_possible_values();
        if !possible.is_empty() {
            let at = argument.get_value_delimiter().and_then(|delimiter| value.rfind(delimiter)).map_or(0, |at| at + 1);
            let words = possible.iter().filter(|value| !value.is_hide_set()).map(|value| {
                Word::new(value.get_name(), value.get_help().map(ToString::to_string).unwrap_or_default())
            });
            return (Offer::Words(words.collect()), value.get(..at).unwrap_or_default());
        }
        let name = argument.get_value_names().and_then(|names| names.first()).map_or("", |name| name.as_str());
        let words = |names: &[&str]| Offer::Words(names.iter().map(|name| Word::new(*name, "")).collect());
        let offer = match KINDS.iter().find(|(of, _)| *of == name).map(|(_, kind)| *kind) {
            Some(Kind::Files) => Offer::Files,
            Some(Kind::Directories) => Offer::Directories,
            Some(Kind::Commands) => commands(command, false),
            Some(Kind::Dtypes) => words(&cast::target_names().collect::<Vec<_>>()),
            Some(Kind::Devices) => words(&["cpu", "cuda", "cuda:0", "mps", "xpu", "meta"]),
            Some(Kind::Names(Wanted::Assigned)) if name == "NAME=FILE.npy" && value.contains('=') => {
                return (Offer::Files, value.split_inclusive('=').next().unwrap_or_default());
            }
            // a prefix that is added is a new one
            Some(Kind::Names(wanted)) if argument.get_long() != Some("add-prefix") => {
                Offer::Words(names::of(&self.files(argument), self.root().as_deref(), wanted, value))
            }
            _ => words(&[]),
        };
        (offer, "")
    }

    /// The files that the line is about, wherever on it.
    fn files(&self, argument: &Arg) -> Vec<PathBuf> {
        let others = self.rest.iter().zip(self.roles).enumerate().filter(|(at, _)| *at != self.at);
        let files = others.filter_map(|(_, (word, role))| match role {
            Role::Positional(_) => names::input_of(word, self.subcommand == "merge"),
            _ => None,
        });
        let mut files: Vec<PathBuf> = files.collect();
        match argument.get_long() {
            Some("root-a") => files.truncate(1),
            Some("root-b") => drop(files.drain(..files.len().min(1))),
            _ => {}
        }
        files
    }

    /// What the names are relative to.
    fn root(&self) -> Option<String> {
        let others = self.rest.iter().zip(self.roles).enumerate().filter(|(at, _)| *at != self.at);
        let mut roots = others.filter_map(|(_, (word, role))| match role {
            Role::Value(option, at) if option.get_long() == Some("root") => word.get(*at..),
            _ => None,
        });
        roots.next().filter(|root| *root != ".").map(str::to_owned)
    }
}

fn commands(command: &Command, with_help: bool) -> Offer {
    let about = |command: &Command| command.get_about().map(ToString::to_string).unwrap_or_default();
    let shown = command.get_subcommands();
    let help = with_help.then(|| Word::new("help", "Show the options of a command"));
    Offer::Words(shown.map(|command| Word::new(command.get_name(), about(command))).chain(help).collect())
}

fn options(command: &Command) -> Offer {
    let shown = command.get_arguments().filter(|option| !option.is_hide_set());
    let words = shown.filter_map(|option| {
        let help = option.get_help().map(ToString::to_string).unwrap_or_default();
        Some(Word::new(format!("--{}", option.get_long()?), help))
    });
    Offer::Words(words.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is offered for the last word, or for the one in brackets.
    fn offered(line: &str) -> Offer {
        let words: Vec<&str> = line.split(' ').collect();
        let index = words.iter().position(|word| word.starts_with('[')).unwrap_or(words.len() - 1);
        let words: Vec<String> = words.iter().map(|word| word.trim_matches(['[', ']']).to_owned()).collect();
        offer(crate::cli::command(), &words, index).0
    }

    fn values(line: &str) -> Vec<String> {
        match offered(line) {
            Offer::Words(words) => words.into_iter().map(|word| word.value).collect(),
            other => panic!("{line}: {other:?}"),
        }
    }

    #[test]
    fn commands_options_and_values() {
        assert!(values("ckpt ").contains(&"strip-prefix".to_owned()));
        assert!(!values("ckpt ").contains(&"complete".to_owned()));
        assert!(values("ckpt help ").contains(&"ls".to_owned()));
        assert!(values("ckpt man ").contains(&"ls".to_owned()));
        assert_eq!(values("ckpt ls --sort "), ["name", "size", "file"]);
        assert_eq!(values("ckpt ls --sort="), ["name", "size", "file"]);
        assert_eq!(values("ckpt convert a.pt b --to "), ["torch", "torch-legacy", "safetensors", "npz"]);
        assert_eq!(values("ckpt convert a.pt b --dtype "), ["float16", "bfloat16", "float32", "float64"]);
        assert!(values("ckpt completions ").contains(&"fish".to_owned()));
        assert!(values("ckpt diff --ignore device,").contains(&"dtype".to_owned()));
        assert!(values("ckpt diff -").contains(&"--root-a".to_owned()));
        assert!(values("ckpt ls --depth ").is_empty());
    }

    #[test]
    fn files_where_a_file_is_meant() {
        for line in [
            "ckpt ls ",
            "ckpt ls a.pt ",
            "ckpt ls --tree ",
            "ckpt ls --sort name ",
            "ckpt ls -rR ",
            "ckpt diff a.pt ",
            "ckpt convert a.pt b.pt -o ",
            "ckpt strip-prefix module. ",
            "ckpt rename a.pt --map ",
            "ckpt ls -- ",
            "ckpt digest -c ",
            "ckpt digest -c a b ",
            "ckpt edit a.pt --set-tensor w=",
        ] {
            assert_eq!(offered(line), Offer::Files, "{line}");
        }
        assert_eq!(offered("ckpt man --dir "), Offer::Directories);
    }

    #[test]
    fn names_of_the_file_on_the_line() {
        let file = "testdata/torch-2.15-py311/checkpoint.tar";
        let all = values(&format!("ckpt extract {file} model_state_dict.features.0."));
        assert_eq!(all, ["model_state_dict.features.0.weight", "model_state_dict.features.0.bias"]);
        let nodes = values(&format!("ckpt ls --root [] {file}"));
        assert!(nodes.contains(&".".to_owned()) && nodes.contains(&"optimizer_state_dict".to_owned()), "{nodes:?}");
        assert!(!nodes.contains(&"epoch".to_owned()), "{nodes:?}");
        let below = values(&format!("ckpt ls {file} --root model_state_dict --include feat"));
        assert!(below.contains(&"features.0.weight".to_owned()), "{below:?}");
        assert_eq!(values(&format!("ckpt edit {file} --set epo")), ["epoch="]);
        let state = "testdata/torch-2.15-py311/dataparallel_state.pth";
        assert_eq!(values(&format!("ckpt strip-prefix [] {state}")).first().map(String::as_str), Some("module."));
        let prefixes = values(&format!("ckpt rename {state} --strip-prefix m"));
        assert_eq!(prefixes.first().map(String::as_str), Some("module."));
        assert!(values(&format!("ckpt rename {state} --add-prefix m")).is_empty());
        assert!(values("ckpt extract no-such-file.pt ").is_empty());
    }
}
