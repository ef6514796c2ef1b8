//! What the commands do, as far as the process boundary, on sources and sinks in memory: for the sweeps and for fuzz/.
#![allow(dead_code)] // each user takes its part
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // helpers of tests are tests

use std::collections::{BTreeMap, HashSet};
use std::io;
use std::path::Path;
use std::sync::Arc;

use ckpt::checkpoint::edit::rules::{Rules, Step};
use ckpt::checkpoint::{Checkpoint, Container};
use ckpt::container::archive::Contents;
use ckpt::data::cast;
use ckpt::error::{Error, ErrorKind, Result};
use ckpt::layout::Layout;
use ckpt::limits::Limits;
use ckpt::operations::Input;
use ckpt::operations::convert::{self, Options, Outlet};
use ckpt::operations::destination::{Destination, Original, Sink};
use ckpt::operations::diff::{self, Answer};
use ckpt::operations::list::{self, Outcome, list};
use ckpt::operations::rename::{self, Named, rename};
use ckpt::operations::repair::{self, SaveTo};
use ckpt::operations::select::{Select, Unmatched};
use ckpt::progress::Silent;
use ckpt::report::diff::Diff;
use ckpt::report::ls::{Listing, TensorRow};
use ckpt::report::repair::{Action, Repair};
use ckpt::safety::examine::examine;
use ckpt::safety::integrity::Depth;
use ckpt::source::{MemorySource, SharedSource};
use ckpt::write::append::{Medium, append};
use ckpt::write::atomic::{Memory, Target};
use ckpt::write::format::Format;
use ckpt::write::rewrite::Change;

/// Every format that can be written.
pub const FORMATS: [Format; 4] = [Format::Torch, Format::TorchLegacy, Format::Safetensors, Format::Npz];

pub fn memory(bytes: Vec<u8>) -> SharedSource {
    Arc::new(MemorySource::new(bytes))
}

fn open(source: SharedSource) -> Result<Checkpoint> {
    Checkpoint::open(source, &Limits::default(), &Silent)
}

/// `ls --hash --stats`.
pub fn list_and_hash(source: SharedSource) -> Result<Listing> {
    listing(&input("file", source)?, true, true)
}

fn listing(input: &Input, hash: bool, stats: bool) -> Result<Listing> {
    let mut options = list::Options::default();
    (options.hash, options.stats) = (hash, stats);
    match list(input, &options, &mut Unmatched::of(&Select::default()), &Silent)? {
        Outcome::Listed(listing, _) => Ok(*listing),
        Outcome::Nothing(why) => panic!("everything is nothing: {why}"),
    }
}

/// `check --numerics`; what it found.
pub fn check(source: &SharedSource) -> Result<String> {
    let depth = Depth { data: true, numerics: true };
    let examined = examine(Path::new("file"), source, &Limits::default(), depth)?;
    Ok(format!("{:?}{:?}{:?}", examined.findings, examined.globals, examined.weights_only))
}

/// `convert --to`; the new file.
pub fn convert(source: SharedSource, to: Format) -> Result<Vec<u8>> {
    let mut options = Options::default();
    options.to = to;
    converted(source, &options)
}

fn converted(source: SharedSource, options: &Options) -> Result<Vec<u8>> {
    let target = Memory::default();
    let outlet = Outlet::File(sink(&target));
    convert::convert(&mut input("in", source)?, options, &outlet, None, &Silent)?;
    Ok(target.take())
}

fn sink(memory: &Memory) -> Sink {
    Sink { name: "out".to_owned(), target: Target::Memory(memory.clone()) }
}

/// Ways to convert that change what is written: what is chosen, how it is stored.
pub const WAYS: [fn(&mut Options); 5] = [
    |options| {
        options.drop = vec!["*.bias".to_owned()];
        options.select.exclude = vec!["*0*".to_owned()];
    },
    |options| {
        options.select.include = vec!["*weight".to_owned()];
        options.state_dict = true;
    },
    |options| {
        options.dtype = cast::target("bfloat16").ok();
        options.device = Some("cpu".to_owned());
    },
    |options| {
        options.dtype = cast::target("float64").ok();
        options.compact = true;
    },
    |options| {
        options.compact = true;
        options.to = Format::TorchLegacy;
    },
];

/// `convert` to torch's formats in the way of this number: what is written is read, and nothing in it is broken.
pub fn convert_with(source: SharedSource, number: usize) -> Result<()> {
    let mut options = Options::default();
    WAYS[number % WAYS.len()](&mut options);
    reread(converted(source, &options)?, &options);
    Ok(())
}

/// Reads what was written: every tensor lies where it should. Gives the listing.
fn reread(written: Vec<u8>, by: &dyn std::fmt::Debug) -> Option<Listing> {
    let source = memory(written);
    let listed = match list_and_hash(Arc::clone(&source)) {
        // the bounds are those of the new file, which may explain less
        Err(e) if e.kind() == ErrorKind::Limit => return None,
        listed => listed.unwrap_or_else(|e| panic!("what {by:?} wrote is refused: {e}")),
    };
    let structure = input("file", source).and_then(|input| listing(&input, false, false)).unwrap();
    // arrays without a storage stay in the pickle as they were, and so do files inside byte strings
    let stays = |key: &str| key.starts_with("bytes");
    let stays = |row: &TensorRow| row.storage.as_deref().is_none_or(stays);
    let whole = structure.tensors.iter().all(|row| stays(row) || row.problem.is_none());
    assert!(whole, "{by:?}: {:?}", structure.tensors);
    Some(listed)
}

/// `repair`: the report and what was written.
pub fn repaired(source: SharedSource, keep_damaged: bool) -> Result<(Repair, Vec<u8>)> {
    let target = Memory::default();
    let mut options = repair::Options::default();
    options.keep_damaged = keep_damaged;
    let contents = Contents { source, limits: Limits::default() };
    let to = || Ok(sink(&target));
    let report = repair::repair(&contents, "file", &options, &mut SaveTo::File(&to), &Silent)?;
    Ok((report, target.take()))
}

/// What tells one tensor from another.
pub type Facts = (String, Vec<i64>, Option<Option<String>>);

/// What there is under each name; keys of several types may look alike.
pub type Tensors = BTreeMap<String, Vec<Facts>>;

pub fn tensors(listing: &Listing) -> Tensors {
    let facts = |row: &TensorRow| (row.dtype.to_string(), row.shape.clone(), row.sha256.clone());
    let mut all = Tensors::new();
    listing.tensors.iter().for_each(|row| all.entry(row.name.clone()).or_default().push(facts(row)));
    all
}

/// `repair`: the report, and the tensors of what was written; nothing where nothing was.
pub fn salvaged(bytes: &[u8], keep_damaged: bool) -> Result<Option<(Repair, Tensors)>> {
    let (report, written) = repaired(memory(bytes.to_vec()), keep_damaged)?;
    if report.action == Action::Nothing {
        return Ok(None);
    }
    let listing = list_and_hash(memory(written)).expect("what repair writes opens");
    let problem = listing.tensors.iter().find_map(|row| row.problem.as_ref());
    if let Some(problem) = problem.filter(|_| report.doubtful.is_empty()) {
        return Err(Error::data(format!("SAVED WITH A PROBLEM: {problem} {report:?}")));
    }
    Ok(Some((report, tensors(&listing))))
}

/// `repair` of a damaged file: every tensor that is saved is read again. Nothing where nothing is lost.
pub fn repair(source: SharedSource) -> Result<Option<Listing>> {
    let (report, written) = repaired(source, false)?;
    Ok(if report.action == Action::Nothing { None } else { reread(written, &"repair") })
}

/// Converts, and reads what was written: the tensors of the input, each with its elements.
pub fn convert_and_reread(bytes: &[u8], to: Format) -> Result<()> {
    let written = convert(memory(bytes.to_vec()), to)?;
    let mut input = input("file", memory(bytes.to_vec()))?;
    // names that safetensors records as aliases are tensors again
    input.checkpoint.restore_aliases()?;
    let before = listing(&input, true, false)?;
    let checkpoint = input.checkpoint;
    let after = list_and_hash(memory(written)).unwrap_or_else(|e| panic!("what was written to {to:?} is refused: {e}"));
    let row = |row: &ckpt::report::ls::TensorRow, name: &str| {
        (name.to_owned(), row.dtype.clone(), row.shape.clone(), row.sha256.clone())
    };
    let whole = matches!(to, Format::Torch | Format::TorchLegacy) && checkpoint.container() != Container::TorchScript;
    if whole {
        let rows = |listing: &Listing| {
            let kept =
                listing.tensors.iter().filter(|row| checkpoint.container() != Container::Pt2 || row.in_state_dict);
            let mut rows: Vec<_> = kept.map(|t| row(t, &t.name)).collect();
            rows.sort();
            rows
        };
        assert_eq!(rows(&after), rows(&before), "{to:?}");
    } else {
        // names are relative to where the weights lie
        let ends = |name: &str| name.match_indices('.').map(|(at, _)| name[at + 1..].to_owned()).collect::<Vec<_>>();
        let known: HashSet<_> = before
            .tensors
            .iter()
            .flat_map(|t| ends(&t.name).into_iter().chain([t.name.clone()]).map(|name| row(t, &name)))
            .collect();
        assert!(!after.tensors.is_empty(), "{to:?}");
        for tensor in &after.tensors {
            assert!(known.contains(&row(tensor, &tensor.name)), "{to:?}: {tensor:?} is not in {:?}", before.tensors);
        }
    }
    Ok(())
}

fn input(name: &str, source: SharedSource) -> Result<Input> {
    Ok(Input { name: name.to_owned(), name_bytes: None, bytes: source.len(), checkpoint: open(source)? })
}

/// `diff`.
pub fn diff(a: SharedSource, b: SharedSource) -> Result<Diff> {
    diff::diff(&mut input("a", a)?, &mut input("b", b)?, &diff::Options::default(), &Silent)
}

/// `diff --quiet`.
pub fn first_difference(a: SharedSource, b: SharedSource) -> Result<Answer> {
    diff::first_difference(&mut input("a", a)?, &mut input("b", b)?, &diff::Options::default())
}

/// What `strip-prefix` makes of a file.
pub struct Stripped {
    /// `-o`.
    pub new: Vec<u8>,
    /// `--in-place`, of zips.
    pub in_place: Option<Vec<u8>>,
}

/// `strip-prefix`, into a new file and in place; nothing when no name has the prefix.
pub fn strip_prefix(source: &SharedSource, prefix: &str) -> Result<Option<Stripped>> {
    let steps = vec![Named::new(Step::StripPrefix(prefix.to_owned()), prefix)];
    let target = Memory::default();
    let mut original = Original::open(
        Layout::of_source(Arc::clone(source), Path::new("in")),
        "in",
        Path::new("in"),
        &Limits::default(),
        &Silent,
    )?;
    let mut destination = Destination::File { sink: sink(&target), to: None };
    let report = rename(&mut original, &rename::Options::of(steps.clone()), &mut destination, &Silent)?;
    if report.changes == 0 {
        return Ok(None);
    }
    let checkpoint = original.input.checkpoint;
    let rules = Rules(steps.into_iter().map(|named| named.step).collect());
    let plan = checkpoint.plan_renames(&checkpoint.top(), &rules, None)?;
    let mut in_place = None;
    if let (Some(zip), Container::Zip) = (checkpoint.zip(), checkpoint.container()) {
        let old = ckpt::source::read_vec(source.as_ref(), 0, source.len())?;
        let mut file = InPlace(old.clone());
        let change = Change::of_renames(&checkpoint, &plan)?;
        let edited = change.members(zip).and_then(|members| append(&mut file, zip, &members));
        if let Err(e) = edited {
            assert!(file.0 == old, "an edit that fails leaves the file as it was");
            return Err(e);
        }
        assert!(file.0.starts_with(&old), "an edit in place appends");
        in_place = Some(file.0);
    }
    Ok(Some(Stripped { new: target.take(), in_place }))
}

/// Strips, and reads what was written: what the input lists, under other names.
pub fn strip_and_reread(bytes: &[u8], prefix: &str) -> Result<()> {
    let source = memory(bytes.to_vec());
    if let Some(Stripped { new, in_place }) = strip_prefix(&source, prefix)? {
        let before = input("file", source)?;
        [Some(new), in_place].into_iter().flatten().for_each(|after| same_but_names(&before, after));
    }
    Ok(())
}

/// Nothing but names changes: as many tensors, of the same facts, in the same order.
fn same_but_names(before: &Input, after: Vec<u8>) {
    let after = input("file", memory(after)).unwrap_or_else(|e| panic!("the renamed file is refused: {e}"));
    let facts = |input: &Input| {
        let rows = listing(input, true, false).map(|listing| listing.tensors);
        rows.map(|rows| rows.into_iter().map(|t| (t.dtype, t.shape, t.sha256, t.problem.is_some())).collect::<Vec<_>>())
    };
    match (facts(before), facts(&after)) {
        (Ok(before), Ok(after)) => assert_eq!(before, after),
        (before, after) => assert_eq!(before.is_ok(), after.is_ok()),
    }
}

/// A file that is edited in place.
struct InPlace(Vec<u8>);

impl Medium for InPlace {
    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.0.truncate(usize::try_from(offset).unwrap());
        self.0.extend_from_slice(bytes);
        Ok(())
    }

    fn sync_data(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn sync_all(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn set_len(&mut self, len: u64) -> io::Result<()> {
        self.0.truncate(usize::try_from(len).unwrap());
        Ok(())
    }
}
