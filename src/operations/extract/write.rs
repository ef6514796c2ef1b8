//! Writing what was chosen: first all that can be wrong is looked for, then files appear whole.

use std::collections::{BTreeMap, HashSet};
use std::io::Write;
use std::path::Path;

use super::choose::Chosen;
use super::place::{OutputForm, place};
use super::plan::{Piece, Pieces};
use super::{Destination, Options, show, watch};
use crate::checkpoint::casting::Kept;
use crate::checkpoint::resave::{Resave, resave};
use crate::checkpoint::{Checkpoint, Container};
use crate::container::safetensors::is_alias;
use crate::data::recast::Recast;
use crate::error::{Error, ErrorKind, Result};
use crate::limits::Limits;
use crate::message::Setting;
use crate::operations::Input;
use crate::operations::Note;
use crate::pickle::{Census, Node, NodeId, graph};
use crate::progress::Progress;
use crate::report::extract::Extraction;
use crate::write::atomic::{Output, Target};
use crate::write::content::{Content, Overflow};
use crate::write::directory::NewTree;
use crate::write::format::Format;
use crate::write::safetensors::NamedTensor;
use crate::write::{csv, json, npz, safetensors, torch_zip};

/// Writes `chosen`.
pub(super) fn write(
    input: &mut Input,
    chosen: &Chosen,
    options: &Options,
    to: &Destination<'_>,
    progress: &dyn Progress,
) -> Result<Extraction> {
    let place = place(to.path, to.format, chosen.single)?;
    let (OutputForm::File(format) | OutputForm::Directory(format)) = place;
    check_options(options, format)?;
    let (name, output) = (input.name.clone(), to.path.display().to_string());
    let (of_input, of_output) = (|e: Error| e.of_input(&name), |e: Error| e.of_output(&output));
    let plan = Pieces::new(options, &input.checkpoint, chosen, place).map_err(of_input)?;
    let mut report = Extraction {
        schema: Extraction::SCHEMA,
        file: name.clone(),
        output: output.clone(),
        format: format.to_string(),
        bytes: 0,
        written: Vec::new(),
        left_out: plan.left_out.clone(),
        doubtful: Vec::new(),
        notes: Vec::new(),
    };
    let watched = watch(&input.checkpoint, chosen);
    let broken = watch::broken(&input.checkpoint, &chosen.entries);
    let mut overflows = 0;
    match place {
        OutputForm::File(format) => {
            let target = Target::new(to.path, to.force, to.input).map_err(of_output)?;
            plan.check_room(&target, format, &input.checkpoint.limits).map_err(of_output)?;
            progress.begin(&name, plan.bytes(&input.checkpoint.limits).map_err(of_input)?);
            let written = match format {
                Format::Torch => plan.write_torch(options, &mut input.checkpoint, chosen, &target, progress),
                _ => plan.write(options, &input.checkpoint, chosen, format, &target, progress),
            };
            let (out, lost) = written.map_err(of_input)?;
            (report.bytes, overflows) = (out.position(), lost);
            out.commit().map_err(of_output)?;
            report.written = plan.written(|_| None);
        }
        OutputForm::Directory(format) => {
            let files = plan.file_names(format);
            report.bytes = plan.write_directory(options, input, to, format, &files, progress)?;
            report.written = plan.written(|at| files.get(at).cloned());
        }
    }
    report.notes = plan.notes(options, input, overflows);
    report.doubtful = broken;
    report.doubtful.extend(super::doubtful(input, watched)?);
    report.notes.extend(watch::told(&report.doubtful).map(|line| Note::new(&input.name, line)));
    Ok(report)
}

fn check_options(options: &Options, format: Format) -> Result<()> {
    let given = [
        (options.range.is_some(), Setting::Range),
        (options.diverging, Setting::Diverging),
        (options.scale.is_some(), Setting::Scale),
    ];
    match given.into_iter().find(|(given, _)| *given) {
        Some((_, option)) if format != Format::Png => Err(Error::refused(option.then(" is only for pictures (.png)"))),
        _ => Ok(()),
    }
}

impl Pieces {
    /// Elements that are written as they are take at least their bytes.
    fn check_room(&self, target: &Target, format: Format, limits: &Limits) -> Result<()> {
        let needed = self.bytes(limits)?;
        match target.free_bytes() {
            Some(free) if free < needed && !matches!(format, Format::Png | Format::Csv | Format::Json) => {
                Err(Error::new(ErrorKind::Io, format!("not enough space: {needed} bytes needed, {free} free")))
            }
            _ => Ok(()),
        }
    }

    /// Writes everything but torch's format: the complete output, and how many elements a cast made infinite besides
    /// those that [`Recast::overflows`] counts.
    fn write(
        &self,
        options: &Options,
        checkpoint: &Checkpoint,
        chosen: &Chosen,
        format: Format,
        target: &Target,
        progress: &dyn Progress,
    ) -> Result<(Output, u64)> {
        let limits = &checkpoint.limits;
        Ok(match format {
            Format::Npz => counted(npz::write(target, &self.named_tensors("arr_0"), limits, progress)?),
            Format::Safetensors => {
                let tensors = self.named_tensors("tensor");
                counted(safetensors::write(target, &tensors, &kept_metadata(checkpoint, &tensors), limits, progress)?)
            }
            Format::Json => {
                let mut out = target.create()?;
                show::write_json(checkpoint, chosen, options, &mut out)?;
                out.write_all(b"\n")?;
                (out, 0)
            }
            _ => {
                let mut out = target.create()?;
                for piece in &self.pieces {
                    piece.write(options, limits, format, &mut out, progress)?;
                }
                (out, 0)
            }
        })
    }

    /// Writes torch's zip: the whole subtree, a single object, or a dict of those that were chosen.
    fn write_torch(
        &self,
        options: &Options,
        checkpoint: &mut Checkpoint,
        chosen: &Chosen,
        target: &Target,
        progress: &dyn Progress,
    ) -> Result<(Output, u64)> {
        let mut nodes: Vec<(String, NodeId)> = self.values.clone();
        match options.slice {
            Some(_) => {
                for piece in &self.pieces {
                    let elements = Recast::over(piece.elements.clone(), &piece.elements.dtype, &checkpoint.limits)?.0;
                    nodes.push((piece.name.clone(), checkpoint.add_tensor(elements)?));
                }
            }
            None => nodes = chosen.entries.iter().map(|entry| (entry.name(), entry.node)).collect(),
        }
        // TorchScript's classes exist in its archive only
        let whole = chosen.whole && options.slice.is_none() && checkpoint.container() != Container::TorchScript;
        let root = match nodes.as_slice() {
            [(_, node)] if chosen.single => *node,
            _ if whole => chosen.root.node,
            _ => {
                let mut entries = Vec::new();
                for (name, value) in nodes {
                    entries.push(graph::Pair { key: checkpoint.graph.push_str(&name)?, value, key_at: 0 });
                }
                checkpoint.graph.push(Node::Dict(Box::new(entries)))?
            }
        };
        // a subtree keeps its storages as torch.save would; of what was picked out only the part that is used goes along
        let uncast = match &options.dtype {
            Some(_) if whole => checkpoint.casting(&chosen.root, &checkpoint.weights_sets()?)?.kept,
            _ => Kept::default(),
        };
        let options = Resave { cast: options.dtype.clone(), uncast, compact: !whole, ..Resave::default() };
        let storages = resave(checkpoint, root, &options)?;
        let scan = Census::new(&checkpoint.graph, root)?;
        Ok(counted(torch_zip::write(target, &checkpoint.graph, &scan, &storages, &checkpoint.limits, progress)?))
    }

    /// Writes the files into a directory; the bytes of them all. A new one appears whole; in one that exists, all names
    /// are checked before the first file is written.
    fn write_directory(
        &self,
        options: &Options,
        input: &Input,
        to: &Destination<'_>,
        format: Format,
        files: &[String],
        progress: &dyn Progress,
    ) -> Result<u64> {
        let of_output = |e: Error| e.of_output(&to.path.display().to_string());
        let inside = |dir: &Path, force| files.iter().map(|file| target_inside(dir, file, force)).collect();
        let write = |targets: Result<Vec<Target>>| -> Result<u64> {
            progress.begin(&input.name, self.bytes(&input.checkpoint.limits)?);
            self.write_files(options, input, format, targets?, progress).map_err(of_output)
        };
        if to.path.is_dir() {
            return write(inside(to.path, to.force));
        }
        let fresh = NewTree::beside(to.path).map_err(of_output)?;
        let bytes = write(inside(fresh.path(), false))?;
        fresh.commit().map_err(of_output)?;
        Ok(bytes)
    }

    /// Writes a file for each piece and value. Errors name the input where it is to blame.
    fn write_files(
        &self,
        options: &Options,
        input: &Input,
        format: Format,
        targets: Vec<Target>,
        progress: &dyn Progress,
    ) -> Result<u64> {
        let limits = &input.checkpoint.limits;
        let mut bytes = 0;
        let mut targets = targets.into_iter();
        for (piece, target) in self.pieces.iter().zip(targets.by_ref()) {
            let mut out = target.create()?;
            piece.write(options, limits, format, &mut out, progress).map_err(|e| e.of_input(&input.name))?;
            bytes += out.position();
            out.commit()?;
        }
        for ((_, node), target) in self.values.iter().zip(targets) {
            let mut out = target.create()?;
            writeln!(out, "{}", show::value_json(&input.checkpoint, *node))?;
            bytes += out.position();
            out.commit()?;
        }
        Ok(bytes)
    }
}

/// An output, and how many elements overflowed.
fn counted((output, overflows): (Output, Vec<Overflow>)) -> (Output, u64) {
    (output, overflows.iter().map(|overflow| overflow.elements).sum())
}

/// `__metadata__` of the input, but for aliases of tensors that do not go along.
fn kept_metadata(checkpoint: &Checkpoint, tensors: &[NamedTensor]) -> BTreeMap<String, String> {
    let objects = checkpoint.objects();
    let text = |node| checkpoint.graph.str(node).unwrap_or_default().into_owned();
    let listed = objects.items(checkpoint.root).unwrap_or_default();
    let of_input: HashSet<String> = listed.iter().map(|entry| text(entry.key)).collect();
    let taken: HashSet<&str> = tensors.iter().map(|tensor| tensor.name.as_str()).collect();
    let stays = |key: &str, value: &str| {
        !is_alias(key, value, |name| of_input.contains(name)) || is_alias(key, value, |name| taken.contains(name))
    };
    checkpoint.metadata().into_iter().filter(|(key, value)| stays(key, value)).collect()
}

/// A file of a directory. Links are not followed: they may lead outside.
fn target_inside(dir: &Path, file: &str, force: bool) -> Result<Target> {
    let path = dir.join(file);
    let shown = path.display().to_string();
    if path.is_symlink() {
        let linked = Error::refused("is a symbolic link, which may lead outside the directory");
        return Err(linked.of_output(&shown));
    }
    Target::new(&path, force, None).map_err(|e| e.of_output(&shown))
}

impl Piece {
    fn write(
        &self,
        options: &Options,
        limits: &Limits,
        format: Format,
        out: &mut Output,
        progress: &dyn Progress,
    ) -> Result<()> {
        let elements = &self.elements;
        match format {
            Format::Csv => csv::write(elements, limits, out)?,
            Format::Png => self.picture(options)?.write(limits, out)?,
            Format::Json => {
                json::write(elements, limits, out)?;
                out.write_all(b"\n")?;
            }
            _ => {
                if format == Format::Npy {
                    out.write_all(&npz::npy_header(&elements.dtype, &elements.shape)?)?;
                }
                let content = Content::Elements { elements: elements.clone(), cast: None };
                content.write(out, false, limits, progress)?;
            }
        }
        Ok(())
    }
}
