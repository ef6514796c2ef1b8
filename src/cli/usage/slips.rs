//! What somebody meant who typed something else: the names that other programs have for commands and options, arguments in
//! another order, options of another command.

use std::path::Path;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Arg, Command};

use crate::cli::manual::first_example;
use crate::report::shell::quoted;
use crate::write::format::Format;

/// What people call the commands who know other programs.
const COMMANDS: &[(&str, &[&str])] = &[
    (
        "ls",
        &[
            "list",
            "show",
            "info",
            "inspect",
            "view",
            "dump",
            "keys",
            "open",
            "load",
            "summary",
            "stat",
            "head",
            "print-keys",
        ],
    ),
    ("ls --tree", &["tree"]),
    ("diff", &["compare", "cmp", "delta"]),
    ("check", &["verify", "scan", "validate", "audit", "lint", "fsck"]),
    ("repair", &["fix", "recover", "salvage", "restore"]),
    ("convert", &["export", "save", "cast", "transform", "to"]),
    ("convert --to safetensors", &["to-safetensors", "safetensors"]),
    ("extract", &["get", "cat", "print", "pick", "dump-tensor"]),
    ("average", &["mean", "avg", "soup"]),
    ("average --ema 0.999", &["ema"]),
    ("merge", &["join", "concat", "combine"]),
    ("rename", &["mv", "map"]),
    ("edit", &["set", "update", "patch", "modify"]),
    ("strip-prefix", &["strip", "unwrap", "remove-prefix", "strip_prefix"]),
    ("digest", &["hash", "sha256", "sha256sum", "checksum", "fingerprint"]),
    ("completions", &["completion", "complete-shell"]),
    ("man", &["manual"]),
];

/// What people call options, and what commands call them that have them.
const OPTIONS: &[(&str, &[&str])] = &[
    ("--names", &["--keys", "--list", "--names-only"]),
    ("--hash", &["--sha256", "--checksum", "--digest"]),
    ("--tree", &["--modules", "--nested"]),
    ("--depth", &["--level", "--levels", "-L"]),
    ("--reverse", &["--desc", "--descending"]),
    ("--force", &["--overwrite", "--yes", "--replace", "--clobber", "-f", "-y"]),
    ("--in-place", &["--inplace", "-i"]),
    ("--output", &["--out", "--outfile", "--output-file", "--dest", "--destination", "--save"]),
    ("--recursive", &["--recurse", "-r"]),
    ("--quiet", &["--silent", "--no-progress"]),
    ("--strip-prefix", &["--prefix", "--remove-prefix"]),
    ("--include", &["--filter", "--pattern", "--match", "--only", "--grep"]),
    ("--exclude", &["--ignore", "--skip", "--without"]),
    ("--root", &["--key", "--subtree", "--under"]),
    ("--top", &["--limit", "--head", "-n"]),
    ("--atol", &["--tol", "--tolerance", "--eps", "--epsilon"]),
    ("--color never", &["--no-color", "--no-colour", "--nocolor"]),
    ("--dtype float16", &["--half", "--fp16", "--float16"]),
    ("--dtype bfloat16", &["--bf16", "--bfloat16"]),
    ("--dtype float32", &["--float", "--fp32", "--float32"]),
    ("--device cpu", &["--cpu"]),
    ("--device", &["--map-location", "--map_location"]),
    ("--to safetensors", &["--safetensors"]),
    ("--to npz", &["--npz"]),
    ("--to torch-legacy", &["--legacy"]),
    ("--to", &["--output-format", "--type"]),
    ("--max-shard-size", &["--shards", "--split", "--shard-size"]),
    ("--dry-run", &["--dry", "--what-if", "-n"]),
    ("--delete", &["--remove", "--rm"]),
    ("--move", &["--rename", "--mv"]),
    ("--require weights-only", &["--weights-only"]),
    ("--fail-on info", &["--strict", "--pedantic"]),
];

/// What is no option of a command, but an argument of it.
const ARGUMENTS: &[(&str, &[&str], &str)] = &[
    ("extract", &["--name", "--names", "--tensor", "--key", "-k"], "names follow the file: `ckpt extract FILE NAME`"),
    (
        "strip-prefix",
        &["--prefix", "-p"],
        "the prefix is the first argument: `ckpt strip-prefix PREFIX FILE -o OUTPUT`",
    ),
    ("average", &["--method", "--mean"], "the mean is the default"),
];

/// What reads our output where somebody wants a directory of torch.distributed.checkpoint.
const NO_DCP: &str = "\
    DCP directories are read, not written; \
    `python -m torch.distributed.checkpoint.format_utils torch_to_dcp FILE DIR` makes one of what `--to torch` writes, and \
    torch.distributed.checkpoint loads what `--to safetensors` writes with HuggingFaceStorageReader";

/// A command line that clap does not take.
pub(super) struct Slip<'a> {
    pub error: &'a clap::Error,
    /// Without `ckpt`.
    pub words: &'a [String],
    pub command: &'a Command,
    pub subcommand: Option<&'a Command>,
}

impl Slip<'_> {
    fn context(&self, kind: ContextKind) -> Option<&str> {
        match self.error.get(kind) {
            Some(ContextValue::String(text)) => Some(text),
            _ => None,
        }
    }

    fn name(&self) -> &str {
        self.subcommand.map_or("", Command::get_name)
    }

    /// Whether what was meant says all: a pointer to the help would say no more.
    pub(super) fn is_complete(&self) -> bool {
        matches!(self.error.kind(), ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand | ErrorKind::MissingSubcommand)
            || self.meant().is_some_and(|meant| meant.contains('`') && !meant.contains("for example"))
    }

    /// What clap cannot know.
    pub(super) fn meant(&self) -> Option<String> {
        match self.error.kind() {
            ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand | ErrorKind::MissingSubcommand => {
                Some("no command given; `ckpt ls FILE` lists a checkpoint, `ckpt --help` the commands".to_owned())
            }
            ErrorKind::InvalidSubcommand => self.other_command(),
            ErrorKind::UnknownArgument => match (self.subcommand, self.context(ContextKind::InvalidArg)?) {
                (None, option) => self.option_first(option),
                (Some(of), option) if option.starts_with('-') => self.other_option(of, option),
                (Some(of), argument) => self.too_many(of, argument),
            },
            ErrorKind::MissingRequiredArgument => self.missing(),
            ErrorKind::InvalidValue => self.other_value(),
            ErrorKind::TooManyValues if self.context(ContextKind::InvalidArg) == Some("--tree") => {
                Some("--tree takes no value; levels are folded with `--depth N`".to_owned())
            }
            _ => None,
        }
    }

    /// The command line from a word on, as it is typed.
    fn rest(&self, from: usize) -> String {
        self.words.iter().skip(from).map(|word| format!(" {}", quoted(word))).collect()
    }

    fn other_command(&self) -> Option<String> {
        let word = self.context(ContextKind::InvalidSubcommand)?;
        let lower = word.to_lowercase();
        let other = COMMANDS.iter().find(|(_, others)| others.contains(&&*lower)).map(|(ours, _)| *ours);
        let ours = other.or_else(|| Some(self.command.find_subcommand(&lower)?.get_name()));
        if let Some(ours) = ours {
            return Some(format!("no command is called `{word}`; did you mean `ckpt {ours}{}`?", self.rest(1)));
        }
        let is_file = word == "-" || word.contains(['.', '/', '\\', ':']) || Path::new(word).exists();
        is_file.then(|| format!("`{word}` is not a command; to list a file: `ckpt ls{}`", self.rest(0)))
    }

    /// An option before the command, or without one.
    fn option_first(&self, option: &str) -> Option<String> {
        let at = self.words.iter().position(|word| self.command.find_subcommand(word).is_some());
        let of = at.and_then(|at| self.words.get(at)).map_or("ls", String::as_str);
        let is_known = has(self.command.find_subcommand(of)?, option);
        let others = self.words.iter().enumerate().filter(|(place, _)| Some(*place) != at);
        let rest: String = others.map(|(_, word)| format!(" {}", quoted(word))).collect();
        is_known.then(|| format!("options follow the command: `ckpt {of}{rest}`"))
    }

    fn other_option(&self, of: &Command, option: &str) -> Option<String> {
        let name = of.get_name();
        if let Some((.., advice)) = ARGUMENTS.iter().find(|(at, others, _)| *at == name && others.contains(&option)) {
            return Some(format!("unexpected argument '{option}' found; {advice}"));
        }
        let ours = OPTIONS
            .iter()
            .find(|(ours, others)| others.contains(&option) && has(of, ours.split(' ').next().unwrap_or_default()));
        if let Some((ours, _)) = ours {
            return Some(format!("unexpected argument '{option}' found; `ckpt {name}` has `{ours}`"));
        }
        if matches!(option, "-o" | "--output" | "--out") {
            return Some(format!(
                "unexpected argument '{option}' found; `ckpt {name}` prints its result: redirect it with `>`"
            ));
        }
        let having = self.command.get_subcommands().filter(|other| has(other, option));
        let having: Vec<String> = having.map(|other| format!("`ckpt {}`", other.get_name())).collect();
        (!having.is_empty())
            .then(|| format!("unexpected argument '{option}' found; it is an option of {}", having.join(", ")))
    }

    /// One argument more than the command takes.
    fn too_many(&self, of: &Command, argument: &str) -> Option<String> {
        let place = self.words.iter().rposition(|word| word == argument);
        let before =
            |back: usize| place.and_then(|place| self.words.get(place.checked_sub(back)?)).map_or("", String::as_str);
        let shown = quoted(argument);
        let is_change = ["--set", "--set-tensor", "--move", "--set-metadata"].contains(&before(2));
        let meant = match of.get_name() {
            "edit" if is_change && !before(1).contains('=') => {
                format!("NAME and VALUE are one word: `{} {}`", before(2), quoted(&format!("{}={argument}", before(1))))
            }
            "edit" if argument.contains('=') => format!("each change is an option: `--set {shown}`"),
            "rename" if argument.ends_with('.') => format!("each change is an option: `--strip-prefix {shown}`"),
            "edit" | "rename" | "strip-prefix" | "repair" => format!("to write to it: `-o {shown}`"),
            _ => return None,
        };
        Some(format!("unexpected argument `{argument}`; {meant}"))
    }

    fn missing(&self) -> Option<String> {
        let Some(ContextValue::Strings(missing)) = self.error.get(ContextKind::InvalidArg) else { return None };
        let is = |what: &str| missing.len() == 1 && missing.iter().any(|argument| argument.contains(what));
        let words = self.words.get(1..).unwrap_or_default();
        match self.name() {
            "rename" if is("--add-prefix") => {
                return Some("nothing to change; use --add-prefix, --strip-prefix, --regex or --map".to_owned());
            }
            "edit" if is("--set") => {
                return Some(
                    "nothing to change; use --set, --set-tensor, --delete, --move or --set-metadata".to_owned(),
                );
            }
            "convert" if is("OUTPUT") => {
                let output = quoted(&output_for(words)?);
                return Some(format!("no output given; add it: `ckpt convert{} {output}`", self.rest(1)));
            }
            "diff" if is("<B>") => {
                return Some(format!("two files are compared; add one: `ckpt diff{} OTHER`", self.rest(1)));
            }
            "merge" | "average" if is("--output") => {
                let (last, others) = words.split_last()?;
                let is_output = Format::of_checkpoint(Path::new(last)).is_some() && !Path::new(last).exists();
                let others = if is_output { others } else { words };
                let others: String = others.iter().map(|word| format!(" {}", quoted(word))).collect();
                let output = if is_output { quoted(last) } else { "OUTPUT".to_owned() };
                return Some(format!("no output given; add it: `ckpt {}{others} -o {output}`", self.name()));
            }
            "completions" => return Some("name a shell: bash, elvish, fish, powershell or zsh".to_owned()),
            _ => {}
        }
        if let [option] = missing.as_slice()
            && option.starts_with("--")
            && !option.contains(' ')
        {
            return Some(format!("missing {option}; add it: `ckpt {}{} {option}`", self.name(), self.rest(1)));
        }
        Some(format!("missing {}; for example `{}`", missing.join(" and "), first_example(self.name())))
    }

    fn other_value(&self) -> Option<String> {
        let option = self.context(ContextKind::InvalidArg)?;
        let value = self.context(ContextKind::InvalidValue)?;
        if option.starts_with("--to") && value.eq_ignore_ascii_case("dcp") {
            return Some(NO_DCP.to_owned());
        }
        let to = Format::OF_CHECKPOINTS.iter().find(|format| format.name() == value);
        (option.starts_with("--format") && to.is_some() && self.subcommand.is_some_and(|of| has(of, "--to"))).then(
            || format!("--format is the form of the report, table or json; the file's is chosen by `--to {value}`"),
        )
    }
}

/// A name for what a conversion writes: that of the input, with the extension of the format that was asked for.
fn output_for(words: &[String]) -> Option<String> {
    let asked = words.iter().position(|word| word == "--to").and_then(|at| words.get(at + 1));
    let format = Format::OF_CHECKPOINTS.iter().find(|format| asked.is_some_and(|asked| asked == format.name()));
    let is_file = |word: &&String| Path::new(word).exists();
    let input = words.iter().find(is_file).or_else(|| words.iter().find(|word| !word.starts_with('-')))?;
    let input = Path::new(input);
    let extension = match format.map(|format| format.extension()) {
        Some("") => "pt",
        Some(extension) => extension,
        None if input.extension().is_some_and(|extension| extension == "safetensors") => "pt",
        None => "safetensors",
    };
    Some(input.with_extension(extension).to_string_lossy().into_owned())
}

/// Whether a command has an option.
fn has(command: &Command, option: &str) -> bool {
    let is = |argument: &&Arg| match option.strip_prefix("--") {
        Some(long) => argument.get_long() == Some(long),
        None => argument.get_short().is_some_and(|short| option == format!("-{short}")),
    };
    command.get_arguments().find(is).is_some()
}
