//! Usage errors: one line that begins with `ckpt:`, with what was probably meant.

mod slips;

use std::ffi::OsString;

use self::slips::Slip;
use crate::cli::command;
use crate::options::input::{masked, unmasked_text};
use crate::source::address;

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
    let command = command();
    let subcommand = words.first().and_then(|word| command.find_subcommand(word));
    let slip = Slip { error, words: &words, command: &command, subcommand };
    let mut parts = Vec::new();
    match slip.meant() {
        Some(meant) => parts.push(meant),
        None => parts.extend(said(error)),
    }
    if !slip.is_complete() {
        parts.push(match subcommand {
            Some(of) => format!("see `ckpt {} --help`", of.get_name()),
            None => "see `ckpt --help`".to_owned(),
        });
    }
    unmasked_text(&parts.join("; "))
}

/// What clap says, without its tips on how to make an option a value.
fn said(error: &clap::Error) -> Vec<String> {
    let mut parts = Vec::new();
    for paragraph in error.to_string().split("\n\n") {
        let text = paragraph.split_whitespace().collect::<Vec<_>>().join(" ");
        if text.starts_with("Usage:") || text.starts_with("For more information") {
            break;
        }
        if text.starts_with("tip: to pass '-") {
            continue;
        }
        let text = text.strip_prefix("error: ").or_else(|| text.strip_prefix("tip: ")).unwrap_or(&text);
        parts.extend((!text.is_empty()).then(|| text.replace(" tip: ", "; ")));
    }
    parts
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
            ("ckpt list a", &["`ckpt ls a`"]),
            ("ckpt nonsense", &["'nonsense'"]),
            ("ckpt ls --jsno a", &["'--jsno'", "'--json'", "`ckpt ls --help`"]),
            ("ckpt ls", &["<INPUT>", "`ckpt ls --help`"]),
            ("ckpt ls --sort nam a", &["'nam'", "name, size, file", "'--sort <ORDER>'"]),
            ("ckpt ls --tree --depth x a", &["'x'", "'--depth <N>'", "invalid digit"]),
            ("ckpt ls a --depth 2", &["`ckpt ls a --depth 2 --tree`"]),
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
            ("ckpt ls a.pt -o b", &["'-o'", "redirect it with `>`"]),
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
