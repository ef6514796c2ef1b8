//! What a checkpoint holds, as a report: its tensors and values by name, and on request what their data amounts to.

mod archive;
mod data;
mod rows;
mod sharing;
mod stream;

use std::collections::{HashMap, HashSet};

use self::rows::{path_element, totals, type_name, value_row};
use self::sharing::Groups;
pub(crate) use self::stream::Rows;
use crate::checkpoint::names::{Entry, join};
use crate::checkpoint::owners::owners;
use crate::checkpoint::resolve::Listed;
use crate::checkpoint::{Item, Names, Role, Root};
use crate::error::{ErrorKind, Result};
use crate::message::{Message, Voice, fields};
use crate::operations::digest::Beside;
use crate::operations::select::{Asked, Filter, Select, Unmatched, root_if_there};
use crate::operations::{Input, Note};
use crate::progress::Progress;
use crate::report::ls::Listing;
use crate::safety::glance::dangerous;
use crate::write::watch::Paced;

pub(crate) use archive::list_archive;
pub(in crate::operations) use data::distinct;

/// What is listed: everything, without reading the data, unless something is set.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Options {
    /// Which part.
    pub select: Select,
    /// With tensors.
    pub tensors: bool,
    /// With values that are no tensors.
    pub values: bool,
    /// With the sha256 of each tensor's elements.
    pub hash: bool,
    /// With statistics of each tensor's elements.
    pub stats: bool,
    /// How the report calls settings where it says what is wrong with a tensor.
    pub voice: Voice,
}

impl Default for Options {
    fn default() -> Self {
        Options { select: Select::default(), tensors: true, values: true, hash: false, stats: false, voice: fields }
    }
}

impl Options {
    /// Says that nothing is left of what could be listed.
    pub(crate) fn nothing_left(&self) -> Message {
        let kind = match (self.tensors, self.values) {
            (_, false) => "tensors",
            (false, _) => "values",
            _ => "names",
        };
        Asked::of(&self.select, &[]).nothing_left(kind)
    }
}

/// What came of listing an input.
#[derive(Debug)]
pub enum Outcome {
    /// The report, and the tensors whose data could not be read: name and reason.
    Listed(Box<Listing>, Vec<(String, String)>),
    /// The input has nothing of what is meant, for this reason.
    Nothing(String),
}

/// Lists an input. `unmatched`, which is of the selection of `options`, hears what matches nothing in it.
pub fn list(
    input: &Input,
    options: &Options,
    unmatched: &mut Unmatched<'_>,
    progress: &dyn Progress,
) -> Result<Outcome> {
    let (mut listing, ids) = match list_rows(input, options, unmatched)? {
        Streamed::Listed(listing) => listing.whole(),
        Streamed::Nothing(why) => return Ok(Outcome::Nothing(why)),
    };
    // a tensor's quantizer may have been looked at
    input.checkpoint.graph.complete().map_err(|e| e.of_input(&input.name))?;
    let mut unread = Vec::new();
    if options.hash || options.stats {
        let checkpoint = &input.checkpoint;
        let beside = if options.hash { Beside::of(checkpoint, &options.select) } else { None };
        progress.begin(&input.name, data::bytes_to_read(checkpoint, &ids, options));
        let paced = Paced::new(beside.as_ref().map(Beside::watch), progress);
        unread = data::read_data(checkpoint, &mut listing.tensors, &ids, options, &paced);
        if let Some(beside) = beside {
            let rows = ids.iter().zip(&listing.tensors);
            let hashes = rows.filter_map(|(id, row)| Some((*id, row.sha256.as_ref()?.as_deref()?))).collect();
            match beside.finish(checkpoint, &hashes) {
                Ok(digest) => listing.digest = digest,
                Err(e) if e.kind() == ErrorKind::Io => return Err(e.of_input(&input.name)),
                Err(e) => listing.notes.push(format!("no digest of the weights: {}", e.spoken(options.voice))),
            }
        }
    }
    Ok(Outcome::Listed(Box::new(listing), unread))
}

/// What came of listing an input whose rows are made when they are written.
pub(crate) enum Streamed<'a> {
    Listed(Box<Listing<Rows<'a>>>),
    /// As [`Outcome::Nothing`].
    Nothing(String),
}

/// The same without the data of tensors and without their rows, which are made one by one, in file order, when the listing
/// is written.
pub(crate) fn list_rows<'a>(
    input: &'a Input,
    options: &Options,
    unmatched: &mut Unmatched<'_>,
) -> Result<Streamed<'a>> {
    select_and_list(input, options, unmatched).map_err(|e| e.of_input(&input.name))
}

fn select_and_list<'a>(input: &'a Input, options: &Options, unmatched: &mut Unmatched<'_>) -> Result<Streamed<'a>> {
    let (checkpoint, select) = (&input.checkpoint, &options.select);
    let root = match &select.root {
        None => checkpoint.top(),
        Some(name) => match root_if_there(checkpoint, name)? {
            Some(root) => root,
            None => {
                let entries = checkpoint.names(&checkpoint.top())?.entries;
                unmatched.look_at(&Listed::of(&entries), |_, _| true);
                return Ok(Streamed::Nothing(format!("no element named `{name}`")));
            }
        },
    };
    let found = checkpoint.names(&root)?;
    let asked = Asked::of(select, &[]);
    let mut filter = Filter::default();
    if select.root.is_some() || !asked.is_empty() {
        let files = [Listed::of(&found.entries)];
        let resolved = asked.resolve(&files)?;
        let missing: HashSet<_> = resolved.missing().collect();
        let [listed] = &files;
        unmatched.look_at(listed, |setting, argument| missing.contains(&(setting, argument)));
        filter = resolved.filter()?;
    }
    let listing = listing(input, &root, found, &filter, options)?;
    if !asked.is_empty() && listing.tensors.is_empty() && listing.values.is_empty() {
        return Ok(Streamed::Nothing("no matching names".to_owned()));
    }
    Ok(Streamed::Listed(Box::new(listing)))
}

/// Names a dangerous global of an input, if it has one, for who looks at a file before they load it.
pub(crate) fn danger(input: &Input) -> Option<Note> {
    let (global, why) = dangerous(&input.checkpoint.graph)?;
    let message = format!("dangerous: names {global}, which {why}; loading the file would run it (`ckpt check`)");
    Some(Note::new(&input.name, message))
}

/// The rows of what is meant of `names`, those below `root`. No data is read.
fn listing<'a>(
    input: &'a Input,
    root: &Root,
    mut names: Names,
    filter: &Filter,
    options: &Options,
) -> Result<Listing<Rows<'a>>> {
    let checkpoint = &input.checkpoint;
    let has_optimizer = |names: &Names| {
        names.entries.iter().any(|entry| entry.role == Role::Optimizer && matches!(entry.item, Item::Tensor(..)))
    };
    let owners = match options.tensors && has_optimizer(&names) {
        // the parameters may lie outside of what is listed
        true if root.node != checkpoint.root || root.stem.is_some() => {
            owners(checkpoint, &checkpoint.names(&checkpoint.top())?)
        }
        true => owners(checkpoint, &names),
        false => HashMap::new(),
    };
    let by_filter = |entry: &Entry| filter.takes_all() || filter.takes(&entry.name());
    names.entries.retain(|entry| {
        let kind = if matches!(entry.item, Item::Tensor(..)) { options.tensors } else { options.values };
        kind && by_filter(entry)
    });
    let groups = Groups::of(checkpoint, &names);
    let totals = totals(checkpoint, &names);
    let mut values = Vec::new();
    // in place: a second list of all names would take as much again
    for entry in names.entries.extract_if(.., |entry| !matches!(entry.item, Item::Tensor(..))) {
        let name = entry.name();
        let path = entry.path.into_iter().map(path_element).collect();
        values.push(value_row(checkpoint, entry.node, entry.item, name, path));
        checkpoint.graph.complete()?;
    }
    let mut listing = Listing {
        schema: <Listing>::SCHEMA,
        file: input.name.clone(),
        file_bytes: input.name_bytes.clone(),
        container: checkpoint.container().name(),
        bytes: input.bytes,
        pickle_protocol: checkpoint.protocol,
        byte_order: checkpoint.byte_order.map(|order| order.name()),
        // a node of the tree that is no object has no type
        root_type: root.stem.is_none().then(|| type_name(checkpoint, root.node)),
        compression: checkpoint.compression().map(|compression| compression.name()),
        totals,
        digest: None,
        tensors: Rows { checkpoint, entries: names.entries, groups, owners },
        values,
        era: checkpoint.era.map(str::to_owned),
        modules: names.modules.iter().map(|(path, class)| (join(path), class.clone())).collect(),
        notes: checkpoint.notes.clone(),
    };
    checkpoint.graph.complete()?;
    listing.count_rows();
    Ok(listing)
}
