//! `ckpt rename`, and what it shares with `ckpt strip-prefix`: one input, a plan, one output.

mod shards;
mod unmatched;

use std::fs::{self, File, OpenOptions};
use std::mem::ManuallyDrop;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, anyhow, bail};
use clap::{ArgMatches, Command, FromArgMatches};

use crate::checkpoint::edit::Plan;
use crate::checkpoint::edit::rules::{Rules, Step, parse_substitution, parse_table};
use crate::checkpoint::{Checkpoint, Container, Root};
use crate::commands::Status;
use crate::commands::convert;
use crate::commands::input::{self, LimitArgs};
use crate::commands::names::NameArgs;
use crate::commands::output::{OutputArgs, say};
use crate::commands::progress_bar::Bar;
use crate::commands::wording::flag;
use crate::container::archive::Contents;
use crate::layout::{address, explain};
use crate::operations::select::{Filter, root_if_there};
use crate::report::figures::counted;
use crate::report::rename::{Renaming, Row};
use crate::report::shell::quoted;
use crate::source::{FileSource, MemorySource, SharedSource, url};
use crate::write::append::append;
use crate::write::atomic::Target;
use crate::write::format::Format;
use crate::write::interrupt::Appending;
use crate::write::rewrite::{pickle_member, rewrite, spliced};

/// Options of `ckpt rename`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Steps apply in the order given, each to the names left by the one before it. Every step must change a name, and every row \
of a table must match one; --if-present ignores those that do not. Only keys of state dicts change, never those of optimizers, \
random number states, schedulers, metrics and other dicts of values. A prefix without its dot that would leave an empty \
element (`.conv1.weight`) or join two words (`backbonefc1`) is refused.\n\n\
Examples:\n  ckpt rename model.pth --add-prefix backbone. -o with_prefix.pth\n  \
ckpt rename model.pth --strip-prefix module. --regex 's/^encoder\\.(\\d+)/layers.$1/' --in-place\n  \
ckpt rename model.safetensors --map names.tsv --dry-run")]
pub struct Args {
    /// The file, or `ARCHIVE::member`; `-` is standard input
    #[arg(value_name = "INPUT")]
    pub input: PathBuf,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub changes: Changes,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub edit: EditArgs,
}

/// Options of every command that edits names.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct EditArgs {
    /// Where to write; `-` is standard output
    #[arg(short, long, value_name = "OUTPUT", conflicts_with = "in_place")]
    pub output: Option<PathBuf>,
    /// Edit the file itself: append a new pickle and directory to a zip, replace any other file as a whole
    #[arg(long)]
    pub in_place: bool,
    /// Overwrite an existing OUTPUT
    #[arg(long, conflicts_with = "in_place")]
    pub force: bool,
    /// Show old -> new and write nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Ignore steps and table rows that match nothing; if none match, write the input unchanged
    #[arg(long)]
    pub if_present: bool,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub names: NameArgs,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub report: OutputArgs,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub limits: LimitArgs,
}

/// `--add-prefix`, `--strip-prefix`, `--regex` and `--map`, in the order of the command line.
#[derive(Debug, Clone, Default)]
pub struct Changes(Vec<(&'static str, String)>);

/// Option, value's name, help.
const CHANGES: [(&str, &str, &str); 4] = [
    ("add-prefix", "PREFIX", "Put PREFIX before every name"),
    ("strip-prefix", "PREFIX", "Remove PREFIX where a name begins with it"),
    (
        "regex",
        "s/FROM/TO/",
        "Rewrite by a regular expression: $1 in TO is what its first group matched; flags g (all matches) and i (any case)",
    ),
    ("map", "FILE", "Rename by a table: two columns (old, new), or a JSON object; `-` is standard input"),
];

impl clap::Args for Changes {
    fn augment_args(command: Command) -> Command {
        let options = CHANGES.map(|(name, value, help)| {
            clap::Arg::new(name).long(name).value_name(value).help(help).action(clap::ArgAction::Append)
        });
        let group = clap::ArgGroup::new("changes").args(CHANGES.map(|change| change.0)).required(true).multiple(true);
        command.args(options).group(group)
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for Changes {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let mut found = Vec::new();
        for (name, ..) in CHANGES {
            let values = matches.get_many::<String>(name).into_iter().flatten().cloned();
            found.extend(matches.indices_of(name).into_iter().flatten().zip(values).map(|(at, v)| (at, name, v)));
        }
        found.sort_by_key(|(at, ..)| *at);
        Ok(Changes(found.into_iter().map(|(_, name, value)| (name, value)).collect()))
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

impl Changes {
    fn rules(&self) -> anyhow::Result<Rules> {
        let steps = self.0.iter().map(|(name, value)| {
            if value.is_empty() {
                bail!("--{name} is empty");
            }
            Ok(match *name {
                "add-prefix" => Step::AddPrefix(value.clone()),
                "strip-prefix" => Step::StripPrefix(value.clone()),
                "regex" => parse_substitution(value).map_err(|why| anyhow!("--regex {value:?} {why}"))?,
                _ => table(Path::new(value))?,
            })
        });
        Ok(Rules(steps.collect::<anyhow::Result<_>>()?))
    }
}

fn table(path: &Path) -> anyhow::Result<Step> {
    let shown = || path.display().to_string();
    let text = match path.as_os_str() == "-" {
        true => std::io::read_to_string(std::io::stdin().lock()),
        false => fs::read_to_string(path),
    };
    parse_table(&text.with_context(shown)?).map_err(|why| anyhow!("{}: {why}", shown()))
}

/// Renames.
pub fn run(args: &Args) -> anyhow::Result<Status> {
    let stdin_twice = args.changes.0.iter().any(|(name, value)| *name == "map" && value == "-");
    if stdin_twice && input::is_stdin(&args.input) {
        bail!("standard input cannot be both INPUT and the --map table");
    }
    let options: Vec<String> =
        args.changes.0.iter().map(|(name, value)| format!("--{name} {}", quoted(value))).collect();
    edit(&args.edit, Some(&args.input), &args.changes.rules()?, &options)
}

/// Where the result goes.
enum Destination {
    Nowhere,
    InPlace { path: PathBuf, file: File },
    Output { target: Target, shown: String },
}

/// Plans, and writes when something changes. Without an input it is a filter. `options` are the rules' steps as they stand
/// on the command line, for messages.
pub(super) fn edit(args: &EditArgs, input: Option<&Path>, rules: &Rules, options: &[String]) -> anyhow::Result<Status> {
    let name = input.unwrap_or(Path::new("-"));
    let shown = if name.as_os_str() == "-" { "standard input".to_owned() } else { name.display().to_string() };
    let context = || shown.clone();
    let limits = args.limits.limits();
    let shards = if name.as_os_str() == "-" { None } else { shards::of_input(name, &limits).with_context(context)? };
    if shards.is_some() || name.is_dir() {
        return edit_several(args, name, rules, options, shards.as_ref());
    }
    let destination = args.destination(name)?;
    let contents = match &destination {
        Destination::InPlace { file, .. } => {
            let source = Arc::new(FileSource::from_file(file.try_clone()?).with_context(context)?);
            Contents { source, limits }
        }
        _ => input::contents(name, &limits).with_context(context)?,
    };
    let bar = Bar::new(&shown, contents.source.len(), args.report.quiet);
    let checkpoint = Checkpoint::open(Arc::clone(&contents.source), &contents.limits, &bar);
    let checkpoint = checkpoint.map_err(|e| explain(e, &contents, &name.display().to_string()));
    let mut checkpoint = checkpoint.with_context(context)?;
    checkpoint.restore_aliases().with_context(context)?;
    let source = contents.source;
    // the process ends with the command: giving back every small piece of a large graph only takes time
    let mut opened = ManuallyDrop::new(Opened { args, shown: &shown, checkpoint, source, bar: &bar });
    let planned = ManuallyDrop::new(opened.plan(rules)?);
    if planned.renames.is_empty() {
        return opened.nothing(&planned, rules, destination);
    }
    opened.refuse_idle_steps(&planned, rules, options)?;
    opened.note_modules(&planned);
    let mut report = ManuallyDrop::new(opened.report(&planned));
    opened.write(&planned, destination, &mut report)?;
    let summary = opened.summary(&planned);
    // what is said next is not to stand in the bar's line
    drop(bar);
    match report.output {
        None => args.report.print(&*report)?,
        Some(_) if args.report.wants_json() => args.report.print(&*report)?,
        Some(_) => args.report.note(&shown, summary),
    }
    Ok(Status::Success)
}

/// Shards go into another directory; they, and DCP directories, become one file where the output's name asks for it.
fn edit_several(
    args: &EditArgs,
    name: &Path,
    rules: &Rules,
    options: &[String],
    shards: Option<&(PathBuf, Vec<String>)>,
) -> anyhow::Result<Status> {
    let limits = args.limits.limits();
    if args.in_place {
        bail!("{}: made of several files, which cannot be edited in place; use -o", name.display());
    }
    let mut input = input::open(name, &limits, args.report.quiet)?;
    input.checkpoint.restore_aliases().with_context(|| input.name.clone())?;
    let bar = Bar::new(&input.name, input.bytes, args.report.quiet);
    let source: SharedSource = Arc::new(MemorySource::new(Vec::new()));
    let mut opened = Opened { args, shown: &input.name, checkpoint: input.checkpoint, source, bar: &bar };
    let plan = opened.plan(rules)?;
    if plan.renames.is_empty() && !args.if_present {
        return opened.nothing(&plan, rules, Destination::Nowhere);
    }
    opened.refuse_idle_steps(&plan, rules, options)?;
    let mut report = opened.report(&plan);
    if let (false, Some(output)) = (args.dry_run, &args.output) {
        report.bytes = Some(match (Format::of_checkpoint(output), shards) {
            (Some(to), _) => {
                let target = Target::new(output, args.force, None).with_context(|| output.display().to_string())?;
                opened.convert(&plan, &target, to)?
            }
            (None, Some(_)) if args.names.root.is_some() => {
                bail!("--root cannot be used with shards, which have one level")
            }
            (None, Some(shards)) => {
                let filter = opened.root_and_filter()?.map(|(_, filter)| filter).unwrap_or_default();
                let takes = |name: &str| filter.takes(name);
                let takes: Option<&dyn Fn(&str) -> bool> = if filter.takes_all() { None } else { Some(&takes) };
                let names = plan.renames.iter().map(|rename| opened.checkpoint.shown(rename)).collect();
                let job = shards::Job { rules, takes, names: &names, force: args.force, limits: &limits, bar: &bar };
                job.write(shards, output)?
            }
            (None, None) => {
                bail!("{}: cannot rename inside this layout; use -o FILE.pt to merge it into one file", input.name)
            }
        });
        report.output = Some(output.display().to_string());
    } else if !args.dry_run {
        bail!("no output given; use -o DIRECTORY, or --dry-run to see what would change");
    }
    match report.output {
        Some(_) if !args.report.wants_json() => args.report.note(&input.name, opened.summary(&plan)),
        _ => args.report.print(&report)?,
    }
    Ok(Status::Success)
}

fn or_top(name: &str) -> &str {
    if name.is_empty() { "the top object" } else { name }
}

impl EditArgs {
    fn destination(&self, input: &Path) -> anyhow::Result<Destination> {
        if self.dry_run {
            return Ok(Destination::Nowhere);
        }
        let from_stdin = input.as_os_str() == "-";
        if self.in_place {
            if from_stdin {
                bail!("standard input cannot be edited in place");
            }
            let context = || input.display().to_string();
            let (path, file) = open_for_editing(input).with_context(context)?;
            return Ok(Destination::InPlace { path, file });
        }
        let output = match &self.output {
            Some(output) => output.as_path(),
            None if from_stdin => Path::new("-"),
            None => bail!("no output given; use -o OUTPUT or --in-place, or --dry-run to see what would change"),
        };
        let to_stdout = output.as_os_str() == "-";
        if to_stdout && self.report.wants_json() {
            bail!("--json and `-o -` both write to standard output; use -o FILE");
        }
        let shown = if to_stdout { "standard output".to_owned() } else { output.display().to_string() };
        let target = Target::new(output, self.force, Some(input).filter(|_| !from_stdin));
        Ok(Destination::Output { target: target.with_context(|| shown.clone())?, shown })
    }
}

/// The regular file that a path leads to, open for reading and writing. Refused are files that cannot be written, and
/// those with several names: an edit would change them all, or part them.
pub(super) fn open_for_editing(path: &Path) -> anyhow::Result<(PathBuf, File)> {
    if address(path).is_some() {
        bail!("a member of an archive cannot be edited in place; use -o FILE");
    }
    let path = fs::canonicalize(path).map_err(|e| url(path).unwrap_or_else(|| e.into()))?;
    let meta = fs::metadata(&path)?;
    if !meta.is_file() {
        bail!("is not a regular file, so it cannot be edited in place");
    }
    #[cfg(unix)]
    if std::os::unix::fs::MetadataExt::nlink(&meta) > 1 {
        let links = std::os::unix::fs::MetadataExt::nlink(&meta);
        bail!("has {links} hard links, which an edit in place would change or break; use -o FILE");
    }
    let file = OpenOptions::new().read(true).write(true).open(&path);
    let file = file.context("cannot be written, so it cannot be edited in place; use -o FILE")?;
    Ok((path, file))
}

/// An open input.
struct Opened<'a> {
    args: &'a EditArgs,
    shown: &'a str,
    checkpoint: Checkpoint,
    /// The bytes as they came, maybe compressed.
    source: SharedSource,
    bar: &'a Bar,
}

impl Opened<'_> {
    fn context(&self) -> String {
        self.shown.to_owned()
    }

    /// Where to rename and which names; nothing where `--if-present` lets a `--root` pass that is not there.
    fn root_and_filter(&self) -> anyhow::Result<Option<(Root, Filter)>> {
        let names = &self.args.names.select();
        let found = || -> anyhow::Result<Option<(Root, Filter)>> {
            let root = match &names.root {
                Some(name) if self.args.if_present => root_if_there(&self.checkpoint, name)?,
                _ => Some(names.find_root(&self.checkpoint)?),
            };
            let Some(root) = root else { return Ok(None) };
            let asks = !names.include.is_empty() || !names.exclude.is_empty();
            let entries = if asks { self.checkpoint.names(&root)?.entries } else { Vec::new() };
            let (filter, missing) = names.filter_if_there(&entries)?;
            match missing {
                Err(e) if self.args.if_present => self.args.report.note(self.shown, e.spoken(flag)),
                missing => missing?,
            }
            Ok(Some((root, filter)))
        };
        found().with_context(|| self.context())
    }

    fn plan(&self, rules: &Rules) -> anyhow::Result<Plan> {
        let Some((root, filter)) = self.root_and_filter()? else { return Ok(Plan::default()) };
        let takes = |name: &str| filter.takes(name);
        let takes: Option<&dyn Fn(&str) -> bool> = if filter.takes_all() { None } else { Some(&takes) };
        self.checkpoint.plan_renames(&root, rules, takes).with_context(|| self.context())
    }

    /// Of several steps, and of the rows of a table, each has to find something.
    fn refuse_idle_steps(&self, plan: &Plan, rules: &Rules, options: &[String]) -> anyhow::Result<()> {
        if self.args.if_present {
            return Ok(());
        }
        match self.idle_step(plan, rules, options)? {
            Some(idle) => bail!("{}: {idle}; nothing written; --if-present ignores such steps", self.shown),
            None => Ok(()),
        }
    }

    /// Names the modules that keep their names.
    fn note_modules(&self, plan: &Plan) {
        for module in &plan.modules {
            let note = format!("{} is left unchanged: a module pickled whole", or_top(module));
            self.args.report.note(self.shown, note);
        }
    }

    fn report(&self, plan: &Plan) -> Renaming {
        Renaming {
            schema: Renaming::SCHEMA,
            file: self.shown.to_owned(),
            state_dicts: plan.state_dicts,
            renamed: if self.args.dry_run || self.args.report.wants_json() { self.rows(plan) } else { Vec::new() },
            ..Renaming::default()
        }
    }

    fn rows(&self, plan: &Plan) -> Vec<Row> {
        let rows = plan.renames.iter().map(|rename| {
            let (old, new) = self.checkpoint.shown(rename);
            Row { within: Arc::clone(&rename.within), old, new }
        });
        rows.collect()
    }

    /// What changed in one sentence.
    fn summary(&self, plan: &Plan) -> String {
        let Some(first) = plan.renames.first() else { return "nothing to rename".to_owned() };
        let mut dicts: Vec<&str> = plan.renames.iter().map(|rename| &*rename.within).collect();
        dicts.sort_unstable();
        dicts.dedup();
        let (names, dicts) = (counted(plan.renames.len() as u64, "name"), counted(dicts.len() as u64, "state dict"));
        let (old, new) = self.checkpoint.shown(first);
        let within = if first.within.is_empty() { String::new() } else { format!("{}.", first.within) };
        let more = if plan.renames.len() > 1 { ", …" } else { "" };
        format!("renamed {names} in {dicts} ({within}{old} -> {within}{new}{more})")
    }

    fn write(&mut self, plan: &Plan, destination: Destination, report: &mut Renaming) -> anyhow::Result<()> {
        match destination {
            Destination::Nowhere => {}
            Destination::InPlace { path, mut file } => {
                if let Some(compression) = self.checkpoint.compression {
                    bail!(
                        "{}: is compressed ({}), so it cannot be edited in place; use -o FILE to write it uncompressed",
                        self.shown,
                        compression.name()
                    );
                }
                report.in_place = true;
                report.output = Some(self.shown.to_owned());
                report.bytes = Some(match (&self.checkpoint.zip, self.checkpoint.container) {
                    (Some(zip), Container::Zip) => {
                        let content = spliced(&self.checkpoint, plan).with_context(|| self.context())?;
                        let position = pickle_member(zip).with_context(|| self.context())?;
                        let mut medium = Appending::to(&mut file).with_context(|| self.context())?;
                        append(&mut medium, zip, position, &content).with_context(|| self.context())?
                    }
                    _ => {
                        let target = Target::new(&path, true, None).with_context(|| self.context())?;
                        self.rewrite(plan, &target, Some(&file)).with_context(|| self.context())?
                    }
                });
            }
            Destination::Output { target, shown } => {
                if let Some(compression) = self.checkpoint.compression {
                    let note = format!("is compressed ({}), {shown} is not", compression.name());
                    self.args.report.note(self.shown, note);
                }
                report.bytes = Some(match self.other_format() {
                    Some(to) => self.convert(plan, &target, to)?,
                    None => self.rewrite(plan, &target, None).with_context(|| shown.clone())?,
                });
                report.output = Some(shown);
            }
        }
        Ok(())
    }

    /// Writes the whole file anew; with the owner of the one it replaces.
    fn rewrite(&self, plan: &Plan, target: &Target, replaced: Option<&File>) -> crate::error::Result<u64> {
        let mut output = target.create()?;
        replaced.map_or(Ok(()), |file| output.keep_owner(file))?;
        rewrite(&self.checkpoint, plan, &mut output, self.bar)?;
        let written = output.position();
        output.commit()?;
        Ok(written)
    }

    /// The format that the output's name asks for, when it is not the input's.
    fn other_format(&self) -> Option<Format> {
        let to = Format::of_checkpoint(self.args.output.as_deref()?)?;
        let same = match self.checkpoint.container {
            Container::Safetensors => to == Format::Safetensors,
            Container::Npz => to == Format::Npz,
            // all of torch's containers have the same extensions
            _ => to == Format::Torch,
        };
        (!same).then_some(to)
    }

    /// Writes another container, as `ckpt convert` does after the renaming.
    fn convert(&mut self, plan: &Plan, target: &Target, to: Format) -> anyhow::Result<u64> {
        self.checkpoint.apply(plan).with_context(|| self.shown.to_owned())?;
        let output = self.args.output.clone().unwrap_or_default();
        let args = convert::Args {
            limits: self.args.limits.clone(),
            report: OutputArgs { quiet: self.args.report.quiet, ..OutputArgs::default() },
            ..convert::Args::of(PathBuf::from(self.shown), output.clone())
        };
        convert::convert(&args, to, self.shown, &mut self.checkpoint, Some(target), None)?;
        Ok(fs::metadata(output)?.len())
    }

    /// Nothing matched: an error, the answer no, or the input as it is.
    fn nothing(&self, plan: &Plan, rules: &Rules, destination: Destination) -> anyhow::Result<Status> {
        let mut report = self.report(plan);
        if !self.args.if_present {
            if let Some(module) = plan.modules.first().filter(|_| plan.state_dicts == 0) {
                bail!(
                    "{}: {} is a module pickled whole, whose names come from its code; extract the weights first \
                     with `ckpt convert --state-dict`",
                    self.shown,
                    or_top(module)
                );
            }
            self.note_modules(plan);
            say(format_args!("{}: {}", self.shown, self.why_nothing(plan, rules)?));
            if self.args.report.wants_json() {
                self.args.report.print(&report)?;
            }
            return Ok(Status::No);
        }
        self.note_modules(plan);
        match destination {
            Destination::Nowhere => {}
            Destination::InPlace { .. } => (report.output, report.in_place) = (Some(self.shown.to_owned()), true),
            Destination::Output { target, shown } => {
                let copy = || -> crate::error::Result<u64> {
                    let mut output = target.create()?;
                    output.copy(self.source.as_ref(), 0, self.source.len(), &|_| ())?;
                    output.commit()?;
                    Ok(self.source.len())
                };
                report.bytes = Some(copy().with_context(|| shown.clone())?);
                report.output = Some(shown);
            }
        }
        self.args.report.note(self.shown, self.summary(plan));
        if self.args.report.wants_json() {
            self.args.report.print(&report)?;
        }
        Ok(Status::Success)
    }
}
