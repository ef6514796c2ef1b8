//! Which part of a checkpoint is meant: where to begin, which names to take, and which part is "the weights". What a name
//! or glob means is [`checkpoint::resolve`](crate::checkpoint::resolve)'s affair; here is what is said when there is
//! nothing of the name.

use crate::checkpoint::names::{Entry, ambiguous, join};
use crate::checkpoint::near::{near, not_there};
use crate::checkpoint::resolve::{Ambiguous, Choice, Listed, Meaning, Reach, meaning};
use crate::checkpoint::weights::Found;
use crate::checkpoint::{Checkpoint, Located, Root};
use crate::error::{Error, Result};
use crate::message::{Message, Setting};
use crate::report::figures::counted;
use crate::report::shell::quoted;

/// What is meant of a checkpoint: everything, unless something is set.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Select {
    /// Begin at this element; `.` is the top. Names are relative to it.
    pub root: Option<String>,
    /// Take what these match: a name, an element with everything below it, or a glob.
    pub include: Vec<String>,
    /// Skip what these match.
    pub exclude: Vec<String>,
}

impl Select {
    /// Where to begin in this checkpoint; nothing of that name is an error.
    pub fn find_root(&self, checkpoint: &Checkpoint) -> Result<Root> {
        find_root(checkpoint, self.root.as_deref(), Setting::Root)
    }

    /// What `include` and `exclude` choose among `entries`; an argument that matches none of them is an error.
    pub fn filter(&self, entries: &[Entry]) -> Result<Filter> {
        let (filter, missing) = self.filter_if_there(entries)?;
        missing.map(|()| filter)
    }

    /// The same with what is to be said of arguments that match nothing apart.
    pub(crate) fn filter_if_there(&self, entries: &[Entry]) -> Result<(Filter, Result<()>)> {
        let asked = Asked::of(self, &[]);
        if asked.is_empty() {
            return Ok((Filter::default(), Ok(())));
        }
        let listed = [Listed::of(entries)];
        let resolved = asked.resolve(&listed)?;
        Ok((resolved.filter()?, resolved.missing_is_an_error(&listed)))
    }
}

/// Choices that an error lists.
const MAX_CHOICES: usize = 8;

/// The one set of weights. `setting` is what chooses among several.
pub(crate) fn find_weights(checkpoint: &Checkpoint, setting: Setting) -> Result<Root> {
    match checkpoint.find_weights()? {
        Found::One(root) => Ok(root),
        Found::Several(sets) => {
            let shown = sets.iter().take(MAX_CHOICES).map(|set| setting.then(format!(" {}", quoted(&shown(set)))));
            let more = sets.len().saturating_sub(MAX_CHOICES);
            let more = if more > 0 { format!(" ({more} more)") } else { String::new() };
            let message = Message::from("holds several sets of weights; choose ").message(Message::joined(shown, ", "));
            Err(Error::refused(message.text(format!("{more}, or ")).setting(setting).text(" . for everything")))
        }
        Found::Nothing => Err(match checkpoint.tensors.iter().count() as u64 {
            0 => Error::refused("holds no tensors"),
            tensors => {
                let what = format!(
                    "no model found among its {}: neither a module nor a state dict",
                    counted(tensors, "tensor")
                );
                Error::refused(what).advise(setting.then(" . takes them all"))
            }
        }),
    }
}

/// The name of a root: `.` for the top object.
pub(crate) fn shown(root: &Root) -> String {
    if root.path.is_empty() { ".".to_owned() } else { join(&root.path) }
}

/// The object or node of that name, the top without one; nothing of that name is an error that names `setting`.
pub fn find_root(checkpoint: &Checkpoint, name: Option<&str>, setting: Setting) -> Result<Root> {
    let Some(name) = name else { return Ok(checkpoint.top()) };
    match root_if_there(checkpoint, name)? {
        Some(root) => Ok(root),
        None => {
            let entries = checkpoint.names(&checkpoint.top())?.entries;
            Err(Error::refused(missing_in(name, Some(setting), &entries)))
        }
    }
}

/// The same, nothing when there is nothing of that name.
pub(crate) fn root_if_there(checkpoint: &Checkpoint, name: &str) -> Result<Option<Root>> {
    match checkpoint.place(&checkpoint.top(), name)? {
        Located::Of(root) => Ok(Some(root)),
        Located::Nowhere => Ok(None),
        Located::Ambiguous(first, second) => Err(Error::refused(ambiguous(name, &first, &second))),
    }
}

/// Says that there is nothing of a name among `entries`.
pub(crate) fn missing_in(name: &str, setting: Option<Setting>, entries: &[Entry]) -> Message {
    let listed = Listed::of(entries);
    not_there("element", name, setting, &near(name, listed.names()))
}

const SETTINGS: [(Setting, Reach); 3] =
    [(Setting::Include, Reach::Names), (Setting::Exclude, Reach::Names), (Setting::Drop, Reach::Subtrees)];

/// The arguments of `include`, `exclude` and `drop`, without a meaning yet.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Asked<'a>([&'a [String]; 3]);

impl<'a> Asked<'a> {
    /// Of a selection.
    pub(crate) fn of(names: &'a Select, drops: &'a [String]) -> Self {
        Asked([&names.include, &names.exclude, drops])
    }

    /// Whether there are none.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.iter().all(|arguments| arguments.is_empty())
    }

    /// Gives each its meaning among the names of one file, or of several that are looked at together. Two things of one
    /// name are an error.
    pub(crate) fn resolve(&self, files: &[Listed<'_>]) -> Result<Resolved<'a>> {
        let mut resolved = Resolved::default();
        for ((arguments, (_, reach)), meanings) in self.0.iter().zip(SETTINGS).zip(&mut resolved.0) {
            for argument in *arguments {
                let found = meaning(argument, files, reach)
                    .map_err(|Ambiguous { name, first, second }| Error::refused(ambiguous(&name, &first, &second)))?;
                meanings.push((argument.as_str(), found, Meaning::Nothing));
            }
        }
        Ok(resolved)
    }

    /// Says that no `what` (names, tensors, values) are left.
    pub(crate) fn nothing_left(&self, what: &str) -> Message {
        let message = Message::from(format!("no {what} left after ")).setting(Setting::Include);
        let message = message.text("/").setting(Setting::Exclude);
        if let [.., []] = self.0 { message } else { message.text("/").setting(Setting::Drop) }
    }
}

/// Arguments with their meanings: among the names that are meant, and among those of the whole file.
#[derive(Debug, Clone, Default)]
pub(crate) struct Resolved<'a>([Vec<(&'a str, Meaning, Meaning)>; 3]);

impl<'a> Resolved<'a> {
    /// Arguments that match nothing, with their settings.
    pub(crate) fn missing(&self) -> impl Iterator<Item = (Setting, &'a str)> + '_ {
        let of_setting = self.0.iter().zip(SETTINGS).flat_map(|(meanings, (setting, _))| {
            meanings.iter().map(move |(argument, found, outer)| (setting, *argument, *found, *outer))
        });
        let missing = of_setting.filter(|(_, _, found, outer)| [*found, *outer] == [Meaning::Nothing; 2]);
        missing.map(|(setting, argument, ..)| (setting, argument))
    }

    /// Looks for arguments that match nothing among the names of the whole file, of which only a part was meant that
    /// nobody named.
    pub(crate) fn look_further(&mut self, files: &[Listed<'_>]) -> Result<()> {
        for (meanings, (_, reach)) in self.0.iter_mut().zip(SETTINGS) {
            for (argument, found, outer) in meanings.iter_mut().filter(|(_, found, _)| *found == Meaning::Nothing) {
                debug_assert_eq!(*found, Meaning::Nothing);
                *outer = meaning(argument, files, reach)
                    .map_err(|Ambiguous { name, first, second }| Error::refused(ambiguous(&name, &first, &second)))?;
            }
        }
        Ok(())
    }

    /// Fails when an argument matches nothing, and proposes names of `files`.
    pub(crate) fn missing_is_an_error(&self, files: &[Listed<'_>]) -> Result<()> {
        let names = || files.iter().flat_map(Listed::names);
        let missing = self.missing().take(MAX_MISSING);
        let mut said = missing
            .map(|(setting, argument)| not_there("element", argument, Some(setting), &near(argument, names())))
            .peekable();
        if said.peek().is_none() { Ok(()) } else { Err(Error::refused(Message::joined(said, "; "))) }
    }

    /// Decides by these.
    pub(crate) fn filter(&self) -> Result<Filter> {
        let [include, exclude, drops] = [0, 1, 2].map(|at| self.0.get(at).map(Vec::as_slice).unwrap_or_default());
        let both = |meanings: &[(&'a str, Meaning, Meaning)], reach| -> Result<Option<Choices>> {
            if meanings.is_empty() {
                return Ok(None);
            }
            let inner = Choice::of(meanings.iter().map(|(argument, found, _)| (*argument, *found)), reach)?;
            let outer = Choice::of(meanings.iter().map(|(argument, _, outer)| (*argument, *outer)), reach)?;
            Ok(Some(Choices { inner, outer: Some(outer).filter(|outer| !outer.is_empty()) }))
        };
        Ok(Filter {
            include: both(include, Reach::Names)?,
            exclude: both(exclude, Reach::Names)?,
            drops: both(drops, Reach::Subtrees)?,
            prefix: String::new(),
        })
    }
}

/// What is asked for among the names below `root`; where nobody named that, among all names of the file too. `look` hears
/// what came of it, with the names that were looked at.
pub(crate) fn choose(
    asked: Asked<'_>,
    checkpoint: &Checkpoint,
    root: &Root,
    is_root_named: bool,
    look: &mut dyn FnMut(&Resolved<'_>, &[Listed<'_>]) -> Result<()>,
) -> Result<Filter> {
    if asked.is_empty() {
        return Ok(Filter::default());
    }
    let entries = checkpoint.names(root)?.entries;
    let mut listed = vec![Listed::of(&entries)];
    let mut resolved = asked.resolve(&listed)?;
    let whole;
    if resolved.missing().next().is_some() && !is_root_named && !root.path.is_empty() {
        whole = checkpoint.names(&checkpoint.top())?.entries;
        listed.push(Listed::of(&whole));
        resolved.look_further(listed.get(1..).unwrap_or_default())?;
    }
    look(&resolved, &listed)?;
    Ok(resolved.filter()?.below(root))
}

/// Arguments that match nothing and are named at once.
const MAX_MISSING: usize = 8;

#[derive(Debug)]
struct Choices {
    inner: Choice,
    /// Of whole names from the top object on.
    outer: Option<Choice>,
}

/// Decides by name.
#[derive(Debug, Default)]
pub struct Filter {
    include: Option<Choices>,
    exclude: Option<Choices>,
    drops: Option<Choices>,
    /// Where the names begin.
    prefix: String,
}

impl Filter {
    /// With names that begin at `root`.
    #[must_use]
    pub(crate) fn below(mut self, root: &Root) -> Self {
        self.prefix = join(&root.path);
        self
    }

    /// Whether a name is meant.
    pub fn takes(&self, name: &str) -> bool {
        self.takes_as(name, name)
    }

    /// Whether a name is meant that was another in its file.
    pub(crate) fn takes_as(&self, name: &str, in_file: &str) -> bool {
        let whole = || match (self.prefix.as_str(), in_file) {
            ("", name) => name.to_owned(),
            (prefix, "") => prefix.to_owned(),
            (prefix, name) => format!("{prefix}.{name}"),
        };
        let takes = |choices: &Choices| {
            choices.inner.takes(name) || choices.outer.as_ref().is_some_and(|outer| outer.takes(&whole()))
        };
        self.include.as_ref().is_none_or(takes) && ![&self.exclude, &self.drops].into_iter().flatten().any(takes)
    }

    /// Whether a value is meant that stands under this whole name, be it below the root or beside it. What was included by
    /// names below the root says nothing of what lies beside it.
    pub(crate) fn takes_whole(&self, name: &str) -> bool {
        let inner = match self.prefix.as_str() {
            "" => Some(name),
            prefix if name == prefix => Some(""),
            prefix => name.strip_prefix(prefix).and_then(|rest| rest.strip_prefix('.')),
        };
        if let Some(inner) = inner {
            return self.takes(inner);
        }
        let outer = |choices: &Choices| choices.outer.as_ref().map(|outer| outer.takes(name));
        let is_refused = |choices: &Choices| choices.inner.takes(name) || outer(choices) == Some(true);
        self.include.as_ref().and_then(outer).unwrap_or(true)
            && ![&self.exclude, &self.drops].into_iter().flatten().any(is_refused)
    }

    /// Whether every name is meant.
    pub(crate) fn takes_all(&self) -> bool {
        self.include.is_none() && self.exclude.is_none() && self.drops.is_none()
    }
}

/// Arguments that no input has matched so far: with several inputs one match is enough.
#[derive(Debug)]
pub struct Unmatched<'a> {
    arguments: Vec<Miss<'a>>,
    inputs: usize,
}

#[derive(Debug)]
struct Miss<'a> {
    setting: Setting,
    argument: &'a str,
    near: Vec<String>,
}

/// Inputs that are searched for near names.
const MAX_SEARCHED: usize = 16;

impl<'a> Unmatched<'a> {
    /// All of a selection.
    pub fn of(names: &'a Select) -> Self {
        let root = names.root.iter().map(|name| (Setting::Root, name));
        let include = names.include.iter().map(|name| (Setting::Include, name));
        let exclude = names.exclude.iter().map(|name| (Setting::Exclude, name));
        let miss = |(setting, argument): (Setting, &'a String)| Miss { setting, argument, near: Vec::new() };
        Unmatched { arguments: root.chain(include).chain(exclude).map(miss).collect(), inputs: 0 }
    }

    /// Leaves the arguments of one setting to somebody else.
    pub(crate) fn forget(&mut self, setting: Setting) {
        self.arguments.retain(|miss| miss.setting != setting);
    }

    /// One more input was looked at, in which the arguments for which `is_missing` match nothing.
    pub(crate) fn look_at(&mut self, listed: &Listed<'_>, is_missing: impl Fn(Setting, &str) -> bool) {
        self.inputs += 1;
        self.arguments.retain(|miss| is_missing(miss.setting, miss.argument));
        let search = self.inputs <= MAX_SEARCHED;
        for miss in self.arguments.iter_mut().filter(|miss| search && miss.near.is_empty()).take(MAX_MISSING) {
            miss.near = near(miss.argument, listed.names());
        }
    }

    /// Whether every argument has matched in some input.
    pub(crate) fn is_empty(&self) -> bool {
        self.arguments.is_empty()
    }

    /// What is to be said when there are no more inputs.
    pub fn said(&self) -> Option<Message> {
        let said = self.arguments.iter().take(MAX_MISSING);
        let said = said.map(|miss| not_there("element", miss.argument, Some(miss.setting), &miss.near));
        (self.inputs > 0 && !self.arguments.is_empty()).then(|| Message::joined(said, "; "))
    }
}
