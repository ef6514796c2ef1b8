//! Checkpoints of which each process saved its own part with `torch.save`, into a file of its own: DTensors and
//! ShardedTensors say what they are a part of.
//!
//! Sources: verl's `utils/checkpoint/fsdp_checkpoint_manager.py` (`model_world_size_N_rank_I.pt`), `torch/distributed/fsdp`.
//! What is taken from the first rank's file is everything but the tensors; those are put together, and what several ranks
//! have must be the same.

mod agree;
mod cut;
mod found;
mod grid;
mod join;
mod megatron;
mod mesh;
mod parallel;
mod params;
mod placement;
mod rows;
mod stages;
mod whole;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use self::found::Group;
use self::join::OfRank;
pub(super) use self::megatron::{Megatron, is_megatron, latest};
use self::parallel::{Cutter, Shapes, Table};
use self::placement::{Part, Reader};
use self::rows::{Row, Rows};
use self::whole::Wholes;
use super::directory::{self, Directory};
use super::places;
use crate::checkpoint::framed::{Framed, Several};
use crate::checkpoint::names::Item;
use crate::checkpoint::open::{Opened, Opener, Parts};
use crate::checkpoint::{Checkpoint, Container, Oddity, Root, TensorId};
use crate::container::zip::Zip;
use crate::error::{Error, ErrorKind, Result};
use crate::layout::spelled::spelled;
use crate::limits::Limits;
use crate::pickle::{Graph, NodeId};
use crate::progress::Progress;
use crate::source::{SharedSource, files};

/// How FSDP calls parameters that it has flattened (`torch/distributed/fsdp/_common_utils.py`).
const FLAT: &str = "flat_param";

/// The files of one checkpoint, by their names.
#[derive(Debug)]
pub(super) struct Ranks {
    directory: Directory,
    chosen: Group,
    /// Files of ranks beside them, which are a checkpoint of their own.
    others: Vec<Group>,
    bytes: u64,
}

/// The files of ranks that are a checkpoint of their own, with what its name is, and their names.
pub(super) fn survey(names: &[String]) -> Vec<(Option<String>, Vec<String>)> {
    let Ok(groups) = found::groups(names) else { return Vec::new() };
    let whole = found::choose(groups.clone()).ok().flatten().map(|(chosen, _)| chosen).filter(Group::is_model);
    let of = |group: Group| {
        let name = (Some(&group) != whole.as_ref()).then(|| group.pattern());
        (name, group.files.into_values().collect())
    };
    groups.into_iter().map(of).collect()
}

/// Whether a path is one for files of ranks, with a star in place of the number: no file has that name itself.
fn pattern_of(path: &Path) -> Option<(PathBuf, &str)> {
    let name = path.file_name()?.to_str().filter(|name| name.contains(found::ANY))?;
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    (!files::exists(path)).then(|| (parent.unwrap_or(Path::new(".")).to_owned(), name))
}

impl Ranks {
    /// The files of ranks in a directory, by the names of its files.
    pub(crate) fn of_directory(path: &Path, names: &[String]) -> Result<Option<Self>> {
        let Some((chosen, others)) = found::choose(found::groups(names)?)? else { return Ok(None) };
        chosen.check_complete()?;
        Ok(Some(Ranks { directory: Directory::new(path), chosen, others, bytes: directory::bytes(path)? }))
    }

    /// The files that `DIRECTORY/model_rank_*.pt` stands for; nothing where that is a file itself, or has no star.
    pub(crate) fn of_pattern(path: &Path) -> Result<Option<Self>> {
        let Some((parent, pattern)) = pattern_of(path) else { return Ok(None) };
        if !files::is_dir(&parent) {
            return Ok(None);
        }
        let Some(chosen) = found::by_pattern(&super::file_names(&parent)?, pattern) else { return Ok(None) };
        chosen.check_complete()?;
        let directory = Directory::new(&parent);
        let bytes = chosen.files.values().map(|name| directory.bytes_of(name));
        let bytes = bytes.fold(0u64, u64::saturating_add);
        Ok(Some(Ranks { directory, chosen, others: Vec::new(), bytes }))
    }

    /// Whether its files are called a model's.
    pub(crate) fn is_model(&self) -> bool {
        self.chosen.is_model()
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// All files of ranks, those of other checkpoints beside it too.
    pub(crate) fn files(&mut self) -> Vec<(String, Result<SharedSource>)> {
        let groups = [&self.chosen].into_iter().chain(&self.others);
        let names: Vec<String> = groups.flat_map(|group| group.files.values().cloned()).collect();
        let file = |name: String| {
            let opened = self.directory.file(&name).map_err(Error::malformed);
            (name, opened)
        };
        names.into_iter().map(file).collect()
    }

    /// Reads the pickles of all files. Fails where the files are not of one checkpoint.
    pub(crate) fn open(mut self, limits: &Limits, progress: &dyn Progress) -> Result<Checkpoint> {
        let files: Vec<(u64, Arc<str>)> =
            self.chosen.files.iter().map(|(rank, name)| (*rank, name.as_str().into())).collect();
        let mut sources = Vec::new();
        for (_, name) in &files {
            sources.push((Arc::clone(name), self.directory.file(name).map_err(Error::malformed)?));
        }
        let (mut checkpoint, roots, zips) = read(&sources, Several::Ranks, limits, progress)?;
        let rows = rows::rows(&checkpoint, &roots)?;
        let (mut parts, mesh_ranks) = parts(&checkpoint, &files, &rows)?;
        let table = match parts.iter().flatten().flatten().any(|(_, part)| matches!(part, Part::Placed { .. })) {
            true => None,
            false => self.table(&checkpoint, &rows)?,
        };
        if table.is_some() || !limits.tensor_parallel.rules.is_empty() {
            places::check_copies(placed(&roots, &zips))?;
        }
        let mut cutter = Cutter::new(&limits.tensor_parallel, table)?;
        cutter.heads = params::heads(&mut self.directory);
        let shapes = shapes(&checkpoint, &rows);
        for (row, parts) in rows.tensors.iter().zip(&mut parts) {
            let placed = std::mem::replace(parts, Ok(Vec::new()));
            *parts = placed.and_then(|ranks| cutter.place(&checkpoint, &row.entry.name(), ranks, &shapes));
        }
        cutter.check_used()?;
        put_together(&mut checkpoint, &rows, parts, limits)?;
        checkpoint.notes.extend(cutter.notes(files.len()));
        let Rows { differing, left_aside, tensors, .. } = rows;
        if !differing.is_empty() {
            let first = files.first().map_or("", |(_, name)| name);
            let names = spelled(&differing);
            checkpoint.notes.push(format!("the ranks differ in {names}: what {first} has is taken"));
        }
        if !left_aside.is_empty() {
            let names = spelled(&left_aside);
            checkpoint.notes.push(format!("left aside, as only some ranks have it: {names}"));
            checkpoint.left_aside.extend(left_aside);
        }
        if mesh_ranks > files.len() as u64 {
            let message = format!("its tensors are of {mesh_ranks} ranks, and {} are here", files.len());
            checkpoint.notes.push(message.clone());
            let place = self.chosen.pattern();
            checkpoint.oddities.push(Oddity { code: "rank-missing", place, message });
        }
        if tensors.iter().any(|row| row.entry.name().ends_with(FLAT)) {
            let note =
                "flat parameters of FSDP are as they are: the files do not say which parameters they are made of";
            checkpoint.notes.push(note.into());
        }
        if !self.others.is_empty() {
            let patterns: Vec<String> = self.others.iter().map(Group::pattern).collect();
            let patterns = patterns.join(", ");
            checkpoint
                .notes
                .push(format!("beside it, each a checkpoint of its own by this name, in quotes: {patterns}"));
        }
        Ok(checkpoint)
    }
}

impl Ranks {
    /// The rules of the program that wrote files without placements.
    fn table(&self, checkpoint: &Checkpoint, rows: &Rows) -> Result<Option<&'static Table>> {
        match parallel::llama(&shapes(checkpoint, rows), self.chosen.files.len() as u64) {
            Ok(table) => Ok(table),
            Err(why) if self.chosen.is_meta() => Err(Error::malformed(why)),
            Err(_) => Ok(None),
        }
    }
}

/// The shapes of tensors in the first rank's file.
fn shapes(checkpoint: &Checkpoint, rows: &Rows) -> Shapes {
    let shape = |row: &Row| join::shape_of(checkpoint, row.of_ranks.first()?.1).ok();
    rows.tensors.iter().filter_map(|row| Some((row.entry.name(), shape(row)?))).collect()
}

/// The archives of files, where they are such.
type Zips = Vec<Option<Arc<Zip>>>;

/// A file and its top object.
type Top = (Arc<str>, Root);

/// The files and their archives.
fn placed<'a>(
    roots: &'a [Top],
    zips: &'a [Option<Arc<Zip>>],
) -> impl Iterator<Item = (&'a str, Option<&'a Arc<Zip>>)> + Clone {
    roots.iter().map(|(name, _)| &**name).zip(zips.iter().map(Option::as_ref))
}

/// Reads files into one checkpoint, whose top object is that of the first; gives the top objects of all, and their archives.
fn read(
    files: &[(Arc<str>, SharedSource)],
    kind: Several,
    limits: &Limits,
    progress: &dyn Progress,
) -> Result<(Checkpoint, Vec<Top>, Zips)> {
    let bytes = files.iter().fold(0u64, |sum, (_, source)| sum.saturating_add(source.len()));
    let max_objects = limits.objects_for(bytes);
    let mut parts = Parts::new();
    let mut all = Opened::new(Framed::Several(kind), Graph::NONE);
    let (mut roots, mut zips) = (Vec::new(), Vec::new());
    for (name, source) in files {
        let opener = Opener::new(Arc::clone(source), limits, max_objects);
        let named = |e: Error| Error::new(e.kind(), format!("{name}: {e}"));
        let opened = opener.read(progress, &mut parts).map_err(named)?;
        if !matches!(opened.framed.container(), Container::Zip | Container::Legacy | Container::Pickle) {
            let kind = opened.framed.container().name();
            return Err(Error::new(
                ErrorKind::Unsupported,
                format!("{name} is no rank's part but a file of the kind {kind}"),
            ));
        }
        if roots.is_empty() {
            all.root = opened.root;
        }
        all.protocol = all.protocol.or(opened.protocol);
        all.byte_order = all.byte_order.or(opened.byte_order);
        all.era = all.era.or(opened.era);
        all.notes.extend(opened.notes.into_iter().map(|note| format!("{name}: {note}")));
        let root = Root { node: opened.root, path: Vec::new(), in_optimizer: false, stem: None };
        roots.push((Arc::clone(name), root));
        zips.push(opened.framed.zip().map(Arc::clone));
    }
    places::check_names(placed(&roots, &zips))?;
    Ok((parts.finish(all, limits)?, roots, zips))
}

/// What each rank has of every tensor, or why that is not known. Fails where a file is not of the rank that its name says.
/// Also gives how many ranks the meshes speak of.
fn parts(checkpoint: &Checkpoint, files: &[(u64, Arc<str>)], rows: &Rows) -> Result<(Vec<Placed>, u64)> {
    let mut readers: Vec<Reader<'_>> = files.iter().map(|_| Reader::new(checkpoint)).collect();
    let found = rows.tensors.iter().map(|row| of_ranks(row, files, &mut readers)).collect();
    for (reader, (rank, file)) in readers.iter().zip(files) {
        if let Some(said) = reader.rank.filter(|said| said != rank) {
            return Err(Error::malformed(format!("{file} holds what rank {said} saved, by what its tensors say")));
        }
        if let Some(world) = reader.world.filter(|world| *world != files.len() as u64) {
            let have = files.len();
            return Err(Error::malformed(format!(
                "{file} is of {world} ranks, by what its tensors say, and {have} are here"
            )));
        }
    }
    Ok((found, readers.iter().map(|reader| reader.mesh_ranks).max().unwrap_or(0)))
}

/// What each rank has of one tensor, or why that is not known.
type Placed = Result<Vec<OfRank>, String>;

/// What to say of one file that holds a rank's parts of tensors, and is read as if it were all.
pub(super) fn note_of_one(checkpoint: &Checkpoint) -> Option<String> {
    let is_placed = |tensor: &crate::checkpoint::Tensor| {
        matches!(tensor.class.as_deref(), Some("DTensor" | "ShardedTensor")) && tensor.state.is_some()
    };
    if !checkpoint.tensors.iter().any(is_placed) {
        return None;
    }
    let names = checkpoint.names(&checkpoint.top()).ok()?;
    let mut reader = Reader::new(checkpoint);
    let (mut parts, mut first) = (0u64, None);
    for entry in names.entries.iter().filter(|entry| entry.inside.is_none()) {
        let Item::Tensor(id, _) = entry.item else { continue };
        let Ok(Part::Placed { shape, held, .. }) = reader.part(entry.node, id) else { continue };
        let is_whole = |id: &TensorId| {
            let own = checkpoint.tensor(*id).map(|tensor| tensor.shape.iter().copied().map(u64::try_from));
            own.is_some_and(|own| own.eq(shape.iter().map(|size| Ok(*size))))
        };
        if !held.iter().any(|(_, id)| is_whole(id)) {
            parts += 1;
            first.get_or_insert_with(|| entry.name());
        }
    }
    let first = first?;
    let rank = reader.rank.map_or_else(|| "one rank".to_owned(), |rank| format!("rank {rank}"));
    let more = if parts > 1 { format!(" and {} more", parts - 1) } else { String::new() };
    Some(format!(
        "holds what {rank} has of {first}{more}, not the whole tensors: name the directory, or all files by one name with a \
         star for the rank, in quotes, to have them put together"
    ))
}

/// Has the first rank's objects refer to whole tensors in place of its own.
fn put_together(checkpoint: &mut Checkpoint, rows: &Rows, parts: Vec<Placed>, limits: &Limits) -> Result<()> {
    let limits = Arc::new(limits.clone());
    let mut wholes = Wholes::new(&limits);
    let mut new: HashMap<NodeId, NodeId> = HashMap::new();
    let mut partners: HashMap<NodeId, &[(NodeId, TensorId)]> = HashMap::new();
    for (row, parts) in rows.tensors.iter().zip(parts) {
        let Some((node, id)) = row.of_ranks.first() else { continue };
        if let Some(known) = partners.insert(*node, &row.of_ranks) {
            if known != row.of_ranks.as_slice() {
                let name = row.entry.name();
                return Err(Error::malformed(format!("{name}: the ranks do not share it alike with other names")));
            }
            continue;
        }
        new.insert(*node, wholes.add(checkpoint, &row.entry.name(), *id, parts)?);
    }
    checkpoint.graph.redirect(&new);
    checkpoint.root = new.get(&checkpoint.root).copied().unwrap_or(checkpoint.root);
    Ok(())
}

/// What each rank has of a tensor, or why that is not known.
fn of_ranks(row: &Row, files: &[(u64, Arc<str>)], readers: &mut [Reader<'_>]) -> Result<Vec<OfRank>, String> {
    if let Some((_, file)) = files.get(row.of_ranks.len()) {
        return Err(format!("{file} does not hold it"));
    }
    let parts = row.of_ranks.iter().zip(readers).zip(files);
    parts.map(|(((node, id), reader), (_, file))| Ok((Arc::clone(file), reader.part(*node, *id)?))).collect()
}
