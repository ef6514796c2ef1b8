//! Writing what was chosen: first all that can be wrong is looked for, then files appear whole.

use std::collections::{BTreeMap, HashSet};
use std::io::Write;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, bail};

use crate::checkpoint::casting::Kept;
use crate::checkpoint::resave::{Resave, resave};
use crate::checkpoint::{Checkpoint, Container, Entry, Item};
use crate::commands::Status;
use crate::commands::extract::choose::Chosen;
use crate::commands::extract::file_names::FileNames;
use crate::commands::extract::form::{self, Place};
use crate::commands::extract::parts::{self, Taken};
use crate::commands::extract::{Args, cast, is_castable, named, show};
use crate::commands::progress_bar::Bar;
use crate::commands::wording::flag;
use crate::container::safetensors::is_alias;
use crate::data::Elements;
use crate::data::number::numeric;
use crate::data::recast::Recast;
use crate::dtype::DType;
use crate::error::Error;
use crate::limits::Limits;
use crate::operations::Input;
use crate::pickle::{Node, NodeId, Scan, graph};
use crate::report::extract::{Extraction, Written};
use crate::write::atomic::{Output, Target};
use crate::write::content::{Content, Overflow};
use crate::write::directory::NewTree;
use crate::write::format::Format;
use crate::write::png::{Options, Picture};
use crate::write::safetensors::NamedTensor;
use crate::write::{csv, json, npz, safetensors, torch_zip, watch};

/// A tensor, or a part of one, to be written under its name.
struct Piece {
    name: String,
    elements: Elements,
    cast: Option<Arc<Recast>>,
}

/// What is to be written, found to be possible.
#[derive(Default)]
struct Plan {
    pieces: Vec<Piece>,
    values: Vec<(String, NodeId)>,
    /// Tensors that stay the objects they are.
    objects: Vec<Written>,
    left_out: Vec<String>,
}

/// Writes `chosen` to `output`.
pub fn run(args: &Args, input: &mut Input, chosen: &Chosen, output: &Path) -> anyhow::Result<Status> {
    let place = form::place(output, args.to, chosen.single)?;
    let (Place::File(form) | Place::Directory(form)) = place;
    check_options(args, form)?;
    if output.as_os_str() == "-" && args.report.wants_json() {
        bail!("--json and `-o -` both write to standard output; use -o FILE");
    }
    let input_name = input.name.clone();
    let of_input = || input_name.clone();
    let of_output = || output.display().to_string();
    let plan = Plan::new(args, &input.checkpoint, chosen, place).with_context(of_input)?;
    let mut report = Extraction {
        schema: Extraction::SCHEMA,
        file: input.name.clone(),
        output: of_output(),
        format: form.to_string(),
        bytes: 0,
        written: Vec::new(),
        left_out: plan.left_out.clone(),
        doubtful: Vec::new(),
    };
    let watched = super::watch(&input.checkpoint, chosen);
    let mut overflows = 0;
    match place {
        Place::File(form) => {
            let source = (args.input.as_os_str() != "-").then_some(args.input.as_path());
            let target = Target::new(output, args.force, source).with_context(of_output)?;
            plan.check_room(&target, form, &input.checkpoint.limits).with_context(of_output)?;
            let bar = Bar::new(&input.name, plan.bytes(&input.checkpoint.limits)?, args.report.quiet);
            let (out, lost) = match form {
                Format::Torch => plan.write_torch(args, &mut input.checkpoint, chosen, &target, &bar),
                _ => plan.write(args, &input.checkpoint, chosen, form, &target, &bar),
            }
            .with_context(of_input)?;
            (report.bytes, overflows) = (out.position(), lost);
            out.commit().with_context(of_output)?;
            report.written = plan.written(|_| None);
        }
        Place::Directory(form) => {
            let files = plan.file_names(form);
            report.bytes = plan.write_directory(args, input, output, form, &files)?;
            report.written = plan.written(|at| files.get(at).cloned());
        }
    }
    plan.tell(args, input, overflows);
    report.doubtful =
        watched.finish().and_then(|wrong| watch::named(&input.checkpoint, &wrong)).with_context(of_input)?;
    for line in watch::told(&report.doubtful) {
        args.report.note(&input.name, line.spoken(flag));
    }
    if args.report.wants_json() {
        args.report.print(&report)?;
    }
    Ok(Status::Success)
}

fn check_options(args: &Args, form: Format) -> anyhow::Result<()> {
    let picture = &args.picture;
    let given = [
        (picture.range.is_some(), "--range"),
        (picture.diverging, "--diverging"),
        (picture.scale.is_some(), "--scale"),
    ];
    match given.iter().find(|(given, _)| *given) {
        Some((_, option)) if form != Format::Png => bail!("{option} is only for pictures (.png)"),
        _ => Ok(()),
    }
}

impl Plan {
    fn new(args: &Args, checkpoint: &Checkpoint, chosen: &Chosen, place: Place) -> anyhow::Result<Self> {
        let (Place::File(form) | Place::Directory(form)) = place;
        let mut plan = Plan::default();
        let tensors = chosen.entries.iter().filter(|entry| matches!(entry.item, Item::Tensor(..))).count();
        let one_only = matches!(place, Place::File(form) if !form.is_collection());
        if one_only && tensors > 1 {
            let extension = form.extension();
            bail!(
                "{tensors} tensors do not fit into .{extension}: name one, or write .npz, .safetensors, .pt or a directory"
            );
        }
        if !one_only && matches!(place, Place::Directory(_)) && form != Format::Json && form.is_collection() {
            bail!("a directory takes one file per tensor; use --to npy, csv, bin, png or json");
        }
        let whole = form == Format::Torch && args.slice.is_none();
        let entries: Vec<_> = match whole {
            true => chosen.entries.iter().collect(),
            false => chosen.without_wrappers(checkpoint).collect(),
        };
        for entry in entries {
            let Item::Tensor(id, _) = entry.item else {
                match form.holds_values() || matches!(place, Place::Directory(_)) {
                    true => plan.values.push((entry.name(), entry.node)),
                    false => plan.left_out.push(entry.name()),
                }
                continue;
            };
            let Some(tensor) = checkpoint.tensor(id) else { continue };
            let taken = Taken { checkpoint, tensor, subscript: args.slice.as_ref() };
            if whole {
                plan.objects.push(taken.as_it_is(entry.name(), args.dtype.as_ref()));
                continue;
            }
            taken.refuse_wrapper(&entry.name())?;
            let found = match one_only || form == Format::Torch {
                true => taken.elements().map(|elements| vec![("", elements)]),
                false => taken.parts(),
            };
            for (part, elements) in found.map_err(|e| named(e.into(), entry, true))? {
                let piece = Piece::new(args, checkpoint, entry, part, elements).map_err(|e| named(e, entry, true))?;
                piece.check(args, form).map_err(|e| named(e, entry, true))?;
                plan.pieces.push(piece);
            }
        }
        if plan.pieces.is_empty() && plan.values.is_empty() && plan.objects.is_empty() {
            let name = plan.left_out.first().cloned().unwrap_or_default();
            bail!("{name} is not a tensor; write .json or .pt, or leave out -o to print it");
        }
        if matches!(form, Format::Npz | Format::Safetensors | Format::Json) && matches!(place, Place::File(_)) {
            let mut names = HashSet::new();
            let twice = plan.pieces.iter().map(|piece| &piece.name).find(|name| !names.insert(name.as_str()));
            if let Some(name) = twice {
                bail!("two tensors would be named {name}; choose one with --root or --include");
            }
        }
        Ok(plan)
    }

    /// Bytes of all elements.
    fn bytes(&self, limits: &Limits) -> anyhow::Result<u64> {
        let each = self.pieces.iter().map(|piece| Ok(piece.elements.validate(limits)?.bytes));
        each.sum::<anyhow::Result<u64>>()
    }

    /// Elements that are written as they are take at least their bytes.
    fn check_room(&self, target: &Target, form: Format, limits: &Limits) -> anyhow::Result<()> {
        let needed = self.bytes(limits)?;
        match target.free_bytes() {
            Some(free) if free < needed && !matches!(form, Format::Png | Format::Csv | Format::Json) => {
                bail!("not enough space: {needed} bytes needed, {free} free")
            }
            _ => Ok(()),
        }
    }

    /// Writes everything but torch's format: the complete output, and how many elements a cast made infinite besides
    /// those that [`Recast::overflows`] counts.
    fn write(
        &self,
        args: &Args,
        checkpoint: &Checkpoint,
        chosen: &Chosen,
        form: Format,
        target: &Target,
        bar: &Bar,
    ) -> anyhow::Result<(Output, u64)> {
        let limits = &checkpoint.limits;
        Ok(match form {
            Format::Npz => counted(npz::write(target, &self.named_tensors("arr_0"), limits, bar)?),
            Format::Safetensors => {
                let tensors = self.named_tensors("tensor");
                counted(safetensors::write(target, &tensors, &kept_metadata(checkpoint, &tensors), limits, bar)?)
            }
            Format::Json => {
                let mut out = target.create()?;
                let part = show::Part { subscript: args.slice.as_ref(), dtype: args.dtype.as_ref() };
                show::write_json(checkpoint, chosen, part, &mut out)?;
                (out, 0)
            }
            _ => {
                let mut out = target.create()?;
                for piece in &self.pieces {
                    piece.write(args, limits, form, &mut out, bar)?;
                }
                (out, 0)
            }
        })
    }

    fn named_tensors(&self, nameless: &str) -> Vec<NamedTensor> {
        let named = self.pieces.iter().map(|piece| NamedTensor {
            name: if piece.name.is_empty() { nameless.to_owned() } else { piece.name.clone() },
            elements: piece.elements.clone(),
            cast: None,
        });
        named.collect()
    }

    /// Writes torch's zip: the whole subtree, a single object, or a dict of those that were chosen.
    fn write_torch(
        &self,
        args: &Args,
        checkpoint: &mut Checkpoint,
        chosen: &Chosen,
        target: &Target,
        bar: &Bar,
    ) -> anyhow::Result<(Output, u64)> {
        let mut nodes: Vec<(String, NodeId)> = self.values.clone();
        match args.slice {
            Some(_) => {
                for piece in &self.pieces {
                    let elements = Recast::over(piece.elements.clone(), &piece.elements.dtype, &checkpoint.limits)?.0;
                    nodes.push((piece.name.clone(), checkpoint.add_tensor(elements)?));
                }
            }
            None => nodes = chosen.entries.iter().map(|entry| (entry.name(), entry.node)).collect(),
        }
        // TorchScript's classes exist in its archive only
        let whole = chosen.whole && args.slice.is_none() && checkpoint.container != Container::TorchScript;
        let root = match nodes.as_slice() {
            [(_, node)] if chosen.single => *node,
            _ if whole => chosen.root.node,
            _ => {
                let mut entries = Vec::new();
                for (name, value) in nodes {
                    entries.push(graph::Entry { key: checkpoint.graph.push_str(&name)?, value, key_at: 0 });
                }
                checkpoint.graph.push(Node::Dict(Box::new(entries)))?
            }
        };
        // a subtree keeps its storages as torch.save would; of what was picked out only the part that is used goes along
        let uncast = match &args.dtype {
            Some(_) if whole => checkpoint.casting(&chosen.root, &checkpoint.weights_sets()?)?.kept,
            _ => Kept::default(),
        };
        let options = Resave { cast: args.dtype.clone(), uncast, compact: !whole, ..Resave::default() };
        let storages = resave(checkpoint, root, &options)?;
        let scan = Scan::new(&checkpoint.graph, root)?;
        Ok(counted(torch_zip::write(target, &checkpoint.graph, &scan, &storages, &checkpoint.limits, bar)?))
    }

    /// A file for each piece, then one for each value.
    fn file_names(&self, form: Format) -> Vec<String> {
        let mut names = FileNames::default();
        let dotted = |extension: &str| format!(".{extension}");
        let pieces = self.pieces.iter().map(|piece| (&piece.name, dotted(form.extension())));
        let values = self.values.iter().map(|(name, _)| (name, dotted(Format::Json.extension())));
        pieces.chain(values).map(|(name, extension)| names.make(name, &extension)).collect()
    }

    /// Writes the files into a directory; the bytes of them all. A new one appears whole; in one that exists, all names
    /// are checked before the first file is written.
    fn write_directory(
        &self,
        args: &Args,
        input: &Input,
        output: &Path,
        form: Format,
        files: &[String],
    ) -> anyhow::Result<u64> {
        let of_output = || output.display().to_string();
        if output.is_dir() {
            let targets =
                files.iter().map(|file| target_inside(output, file, args.force)).collect::<anyhow::Result<_>>()?;
            return self.write_files(args, input, form, targets);
        }
        let fresh = NewTree::beside(output).with_context(of_output)?;
        let targets =
            files.iter().map(|file| target_inside(fresh.path(), file, false)).collect::<anyhow::Result<_>>()?;
        let bytes = self.write_files(args, input, form, targets)?;
        fresh.commit().with_context(of_output)?;
        Ok(bytes)
    }

    fn write_files(&self, args: &Args, input: &Input, form: Format, targets: Vec<Target>) -> anyhow::Result<u64> {
        let limits = &input.checkpoint.limits;
        let bar = Bar::new(&input.name, self.bytes(limits)?, args.report.quiet);
        let of_output = || args.output.as_ref().map(|path| path.display().to_string()).unwrap_or_default();
        let mut bytes = 0;
        let mut targets = targets.into_iter();
        for (piece, target) in self.pieces.iter().zip(targets.by_ref()) {
            let mut out = target.create().with_context(of_output)?;
            piece.write(args, limits, form, &mut out, &bar).with_context(|| input.name.clone())?;
            bytes += out.position();
            out.commit().with_context(of_output)?;
        }
        for ((_, node), target) in self.values.iter().zip(targets) {
            let mut out = target.create().with_context(of_output)?;
            writeln!(out, "{}", show::value_json(&input.checkpoint, *node)).with_context(of_output)?;
            bytes += out.position();
            out.commit().with_context(of_output)?;
        }
        Ok(bytes)
    }

    fn written(&self, file: impl Fn(usize) -> Option<String>) -> Vec<Written> {
        let pieces = self.pieces.iter().map(|piece| {
            let (dtype, shape) = (piece.elements.dtype.to_string(), piece.elements.shape.clone());
            (piece.name.clone(), Some(dtype), Some(shape))
        });
        let values = self.values.iter().map(|(name, _)| (name.clone(), None, None));
        let written = pieces.chain(values).enumerate();
        let written = written.map(|(at, (name, dtype, shape))| Written { name, file: file(at), dtype, shape });
        self.objects.iter().cloned().chain(written).collect()
    }

    /// What a person should know.
    fn tell(&self, args: &Args, input: &Input, overflows: u64) {
        if !self.left_out.is_empty() {
            args.report.note(&input.name, format_args!("left out: {}", self.left_out.join(", ")));
        }
        let counted = self.pieces.iter().filter_map(|piece| piece.cast.as_ref()).map(|cast| cast.overflows());
        let overflows = counted.fold(overflows, u64::saturating_add);
        if let (Some(dtype), 1..) = (&args.dtype, overflows) {
            args.report.note(&input.name, format_args!("{overflows} values overflowed {dtype} and became infinite"));
        }
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
fn target_inside(dir: &Path, file: &str, force: bool) -> anyhow::Result<Target> {
    let path = dir.join(file);
    let shown = path.display().to_string();
    if path.is_symlink() {
        bail!("{shown}: is a symbolic link, which may lead outside the directory");
    }
    Target::new(&path, force, None).context(shown)
}

impl Piece {
    fn new(
        args: &Args,
        checkpoint: &Checkpoint,
        entry: &Entry,
        part: &str,
        elements: Elements,
    ) -> anyhow::Result<Self> {
        let dtype = args.dtype.as_ref().filter(|_| parts::is_cast(part));
        let (elements, cast) = cast(elements, dtype, &checkpoint.limits)?;
        elements.validate(&checkpoint.limits)?;
        let name = match (entry.name(), part) {
            (name, "") => name,
            (name, part) if name.is_empty() => part.to_owned(),
            (name, part) => format!("{name}.{part}"),
        };
        Ok(Piece { name, elements, cast })
    }

    /// Whether the format holds it.
    fn check(&self, args: &Args, form: Format) -> anyhow::Result<()> {
        match form {
            Format::Npy | Format::Npz => Ok(check_numpy(&self.elements.dtype)?),
            Format::Csv => Ok(csv::check(&self.elements)?),
            Format::Json => Ok(numeric(&self.elements.dtype).map(|_| ())?),
            Format::Png => Ok(self.picture(args).map(|_| ())?),
            Format::Safetensors if self.elements.dtype.safetensors().is_none() => {
                bail!("safetensors cannot hold {}", self.elements.dtype)
            }
            Format::Bin | Format::Safetensors | Format::Torch | Format::TorchLegacy => Ok(()),
        }
    }

    fn picture(&self, args: &Args) -> crate::error::Result<Picture> {
        let picture = &args.picture;
        let options = Options { range: picture.range, diverging: picture.diverging, scale: picture.scale.unwrap_or(1) };
        Picture::new(&self.elements, options)
    }

    fn write(&self, args: &Args, limits: &Limits, form: Format, out: &mut Output, bar: &Bar) -> anyhow::Result<()> {
        let elements = &self.elements;
        match form {
            Format::Csv => csv::write(elements, limits, out)?,
            Format::Png => self.picture(args)?.write(limits, out)?,
            Format::Json => {
                json::write(elements, limits, out)?;
                out.write_all(b"\n")?;
            }
            _ => {
                if form == Format::Npy {
                    out.write_all(&npz::npy_header(&elements.dtype, &elements.shape)?)?;
                }
                let content = Content::Elements { elements: elements.clone(), cast: None };
                content.write(out, false, limits, bar)?;
            }
        }
        Ok(())
    }
}

/// numpy has neither bfloat16 nor float8.
fn check_numpy(dtype: &DType) -> Result<(), Error> {
    match dtype.numpy() {
        Some(_) => Ok(()),
        None if is_castable(dtype) => {
            Err(Error::unsupported(format!("NumPy has no {dtype}; use --dtype float32 to cast it")))
        }
        None => Err(Error::unsupported(format!("NumPy has no {dtype}; write its bytes to .bin"))),
    }
}
