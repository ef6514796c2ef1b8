//! Usage errors: one line that begins with `ckpt:`, with what was probably meant.

use std::ffi::OsString;
use std::path::Path;

use clap::error::{ContextKind, ContextValue, ErrorKind};

use crate::cli::command;
use crate::commands::input::{masked, unmasked_text};
use crate::report::shell::quoted;
use crate::source::address;

/// What people call the subcommands who know other programs.
const OTHER_NAMES: &[(&str, &str)] = &[
    ("list", "ls"),
    ("show", "ls"),
    ("info", "ls"),
    ("inspect", "ls"),
    ("tree", "ls --tree"),
    ("compare", "diff"),
    ("cmp", "diff"),
    ("verify", "check"),
    ("scan", "check"),
    ("validate", "check"),
    ("fix", "repair"),
    ("recover", "repair"),
    ("export", "convert"),
    ("get", "extract"),
    ("cat", "extract"),
    ("print", "extract"),
    ("mean", "average"),
    ("soup", "average"),
    ("ema", "average --ema"),
    ("join", "merge"),
    ("concat", "merge"),
    ("combine", "merge"),
    ("mv", "rename"),
    ("strip", "strip-prefix"),
    ("completion", "completions"),
];

/// What reads our output where somebody wants a directory of torch.distributed.checkpoint.
const NO_DCP: &str = "\
    DCP directories are read, not written; \
    `python -m torch.distributed.checkpoint.format_utils torch_to_dcp FILE DIR` makes one of what `--to torch` writes, and \
    torch.distributed.checkpoint loads what `--to safetensors` writes with HuggingFaceStorageReader";

/// The command line with `ckpt help ls` put as `ckpt ls --help`, members of standard input (`-::model.pt`) so that they are
/// no options, and addresses without what may be secret.
pub(crate) fn arguments(given: impl Iterator<Item = OsString>) -> Vec<OsString> {
    // nothing secret in an address is for anybody's eyes
    let mut arguments: Vec<OsString> = given.map(|argument| address::given(&argument)).collect();
    if arguments.get(1).is_some_and(|first| first == "help") {
        arguments.remove(1);
        arguments.truncate(2);
        arguments.push("--help".into());
    }
    let is_member = |argument: &OsString| argument.as_encoded_bytes().starts_with(b"-::");
    if arguments.iter().any(is_member) {
        let end = arguments.iter().position(|argument| argument == "--").unwrap_or(arguments.len());
        let command = command();
        let of = arguments.get(1).and_then(|name| command.find_subcommand(name));
        for at in 2..end {
            let is_value = arguments.get(at - 1).is_some_and(|before| takes_value(of, before));
            if let Some(argument) = arguments.get_mut(at).filter(|argument| !is_value && is_member(argument)) {
                *argument = masked(argument);
            }
        }
    }
    arguments
}

/// Whether an argument is an option of a command whose value is the next one.
fn takes_value(command: Option<&clap::Command>, argument: &OsString) -> bool {
    let Some((command, argument)) = command.zip(argument.to_str()) else { return false };
    let is_it = |option: &&clap::Arg| match argument.strip_prefix("--") {
        Some(long) => option.get_long() == Some(long),
        None => argument.starts_with('-') && option.get_short().is_some_and(|short| argument.ends_with(short)),
    };
    command.get_arguments().find(is_it).is_some_and(|option| option.get_action().takes_values())
}

/// What is wrong with the command line, in one line. `arguments` are those that were parsed.
pub(crate) fn message(error: &clap::Error, arguments: &[OsString]) -> String {
    let words: Vec<String> = arguments.iter().skip(1).map(|word| word.to_string_lossy().into_owned()).collect();
    let subcommand = words.first().map(String::as_str).filter(|word| is_subcommand(word));
    let help = match subcommand {
        Some(name) => format!("see `ckpt {name} --help`"),
        None => "see `ckpt --help`".to_owned(),
    };
    if let Some(special) = special(error, &words, subcommand) {
        return unmasked_text(&special);
    }
    let mut parts = Vec::new();
    for paragraph in error.to_string().split("\n\n") {
        let text = paragraph.split_whitespace().collect::<Vec<_>>().join(" ");
        if text.starts_with("Usage:") || text.starts_with("For more information") {
            break;
        }
        // nobody wants `-o` to be the name of a file
        let is_value = text.starts_with("tip: to pass '-") && !text.starts_with("tip: to pass '--");
        if is_value {
            continue;
        }
        let text = text.strip_prefix("error: ").or_else(|| text.strip_prefix("tip: ")).unwrap_or(&text);
        parts.extend((!text.is_empty()).then(|| text.replace(" tip: ", "; ")));
    }
    parts.push(help);
    unmasked_text(&parts.join("; "))
}

fn is_subcommand(word: &str) -> bool {
    command().get_subcommands().any(|subcommand| subcommand.get_name() == word)
}

fn context(error: &clap::Error, kind: ContextKind) -> Option<&str> {
    match error.get(kind) {
        Some(ContextValue::String(text)) => Some(text),
        _ => None,
    }
}

/// What clap cannot know.
fn special(error: &clap::Error, words: &[String], subcommand: Option<&str>) -> Option<String> {
    match error.kind() {
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand | ErrorKind::MissingSubcommand => {
            Some("no command given; `ckpt ls FILE` lists a checkpoint, `ckpt --help` the commands".to_owned())
        }
        ErrorKind::InvalidSubcommand => {
            let word = context(error, ContextKind::InvalidSubcommand)?;
            if let Some((_, name)) = OTHER_NAMES.iter().find(|(other, _)| *other == word) {
                return Some(format!("no command is called `{word}`; did you mean `ckpt {name}`?"));
            }
            let is_file = word == "-" || word.contains(['.', '/', '\\', ':']) || Path::new(word).exists();
            is_file.then(|| format!("`{word}` is not a command; to list a file: `ckpt ls {}`", words.join(" ")))
        }
        ErrorKind::UnknownArgument if subcommand.is_none() => {
            let option = context(error, ContextKind::InvalidArg)?;
            let name = option.strip_prefix("--");
            let of_ls = command();
            let of_ls = of_ls.find_subcommand("ls")?;
            let is_known = of_ls.get_arguments().any(|argument| match name {
                Some(name) => argument.get_long() == Some(name),
                None => argument.get_short().is_some_and(|short| option == format!("-{short}")),
            });
            is_known.then(|| format!("options follow the command: `ckpt ls {}`", words.join(" ")))
        }
        ErrorKind::UnknownArgument if matches!(subcommand, Some("strip-prefix" | "rename" | "edit" | "repair")) => {
            let argument = context(error, ContextKind::InvalidArg).filter(|argument| !argument.starts_with('-'))?;
            Some(format!("unexpected argument `{argument}`; to write to it: `-o {}`", quoted(argument)))
        }
        ErrorKind::MissingRequiredArgument if subcommand == Some("rename") => {
            let Some(ContextValue::Strings(missing)) = error.get(ContextKind::InvalidArg) else { return None };
            let is_change = missing.iter().any(|argument| argument.contains("--add-prefix"));
            (is_change && missing.len() == 1)
                .then(|| "nothing to change; use --add-prefix, --strip-prefix, --regex or --map".to_owned())
        }
        ErrorKind::InvalidValue => {
            let option = context(error, ContextKind::InvalidArg)?;
            let value = context(error, ContextKind::InvalidValue)?;
            if option.starts_with("--to") && value.eq_ignore_ascii_case("dcp") {
                return Some(NO_DCP.to_owned());
            }
            if subcommand != Some("convert") {
                return None;
            }
            let is_target = matches!(value, "torch" | "torch-legacy" | "safetensors" | "npz");
            (option.starts_with("--format") && is_target).then(|| {
                format!("--format is the form of the report, table or json; the file's is chosen by `--to {value}`")
            })
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(words: &str) -> String {
        let arguments: Vec<OsString> = words.split(' ').map(OsString::from).collect();
        let arguments = self::arguments(arguments.into_iter());
        message(&command().try_get_matches_from(&arguments).unwrap_err(), &arguments)
    }

    #[test]
    fn one_line_with_the_likely_fix() {
        for (words, parts) in [
            ("ckpt model.pth", &["`ckpt ls model.pth`"][..]),
            ("ckpt --json model.pth", &["`ckpt ls --json model.pth`"]),
            ("ckpt lss a", &["'lss'", "'ls'", "`ckpt --help`"]),
            ("ckpt list a", &["`ckpt ls`"]),
            ("ckpt nonsense", &["'nonsense'"]),
            ("ckpt ls --jsno a", &["'--jsno'", "'--json'", "`ckpt ls --help`"]),
            ("ckpt ls", &["<INPUT>", "`ckpt ls --help`"]),
            ("ckpt ls --sort nam a", &["'nam'", "name, size, file", "'--sort <ORDER>'"]),
            ("ckpt ls --tree --depth x a", &["'x'", "'--depth <N>'", "invalid digit"]),
            ("ckpt ls --names --tree a", &["--names", "--tree", "cannot be used with"]),
            ("ckpt convert a b --format safetensors", &["`--to safetensors`"]),
            ("ckpt convert a b --to dcp", &["read, not written", "torch_to_dcp FILE DIR", "HuggingFaceStorageReader"]),
            ("ckpt merge a b -o c --to dcp", &["read, not written"]),
            ("ckpt help nonsense", &["'nonsense'"]),
            ("ckpt strip-prefix module. a.pt b.pt", &["`b.pt`", "`-o b.pt`"]),
            ("ckpt rename a.pt b.pt --add-prefix net.", &["`b.pt`", "`-o b.pt`"]),
            ("ckpt repair a.pt b.pt", &["`-o b.pt`"]),
            ("ckpt edit a.pt b.pt --set epoch=0", &["`b.pt`", "`-o b.pt`"]),
            ("ckpt rename a.pt -o b.pt", &["--add-prefix, --strip-prefix, --regex or --map"]),
            ("ckpt rename", &["<INPUT>"]),
            ("ckpt diff a b --rtol -1", &["'-1'", "must be finite and not negative"]),
            ("ckpt ls a.pt -o b", &["'-o'", "`ckpt ls --help`"]),
            ("ckpt repair a.pt -::b.pt", &["`-::b.pt`"]),
            ("ckpt convert a.pt -o -::b.pt", &["'-:'"]),
        ] {
            let text = said(words);
            for part in parts {
                assert!(text.contains(part), "{words}: {text}");
            }
            assert!(!text.contains('\n') && !text.contains("error:") && !text.contains("Usage:"), "{words}: {text}");
        }
    }
}
