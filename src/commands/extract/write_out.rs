//! Writing what was chosen: first all that can be wrong is looked for, then files appear whole.

use std::io::Write;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, bail};

use crate::checkpoint::{Checkpoint, Entry, Item};
use crate::commands::Status;
use crate::commands::extract::choose::Chosen;
use crate::commands::extract::file_names::FileNames;
use crate::commands::extract::form::{self, Form, Place};
use crate::commands::extract::parts::{self, Taken};
use crate::commands::extract::{Args, cast, named, show};
use crate::commands::input::Input;
use crate::data::Elements;
use crate::data::recast::Recast;
use crate::pickle::NodeId;
use crate::report::extract::{Extraction, Written};
use crate::write::atomic::{Output, Target};
use crate::write::png::{Options, Picture};
use crate::write::{csv, json, numerals, raw};

/// A tensor, or a part of one, to be written under its name.
struct Piece {
    name: String,
    elements: Elements,
    cast: Option<Arc<Recast>>,
}

/// What is to be written, found to be possible.
struct Plan {
    pieces: Vec<Piece>,
    values: Vec<(String, NodeId)>,
    left_out: Vec<String>,
}

/// Writes `chosen` to `output`.
pub fn run(args: &Args, input: &Input, chosen: &Chosen, output: &Path) -> anyhow::Result<Status> {
    let place = form::place(output, args.to)?;
    let (Place::File(form) | Place::Directory(form)) = place;
    check_options(args, form)?;
    let to_stdout = output.as_os_str() == "-";
    if to_stdout && args.report.wants_json() {
        bail!("--json tells on standard output what was written, where -o - writes");
    }
    let of_input = || input.name.clone();
    let of_output = || output.display().to_string();
    let source = (args.input.as_os_str() != "-").then_some(args.input.as_path());
    let mut report = Extraction {
        schema: Extraction::SCHEMA,
        file: input.name.clone(),
        output: output.display().to_string(),
        format: form.to_string(),
        bytes: 0,
        written: Vec::new(),
        left_out: Vec::new(),
    };
    let plan = Plan::new(args, &input.checkpoint, chosen, place).with_context(of_input)?;
    match place {
        Place::File(form) => {
            let target = Target::new(output, args.force, source).with_context(of_output)?;
            let mut out = target.create().with_context(of_output)?;
            plan.write(args, &input.checkpoint, chosen, form, &mut out).with_context(of_input)?;
            report.bytes = out.position();
            out.commit().with_context(of_output)?;
            report.written = plan.written(|_| None);
        }
        Place::Directory(form) => {
            let files = plan.file_names(form);
            report.bytes = plan.write_directory(args, input, output, form, &files)?;
            report.written = plan.written(|at| files.get(at).cloned());
        }
    }
    plan.tell(args, input);
    report.left_out = plan.left_out;
    if args.report.wants_json() {
        args.report.print(&report)?;
    }
    Ok(Status::Success)
}

fn check_options(args: &Args, form: Form) -> anyhow::Result<()> {
    let picture = &args.picture;
    let given = [(picture.range.is_some(), "--range"), (picture.diverging, "--diverging"), (picture.scale.is_some(), "--scale")];
    match given.iter().find(|(given, _)| *given) {
        Some((_, option)) if form != Form::Png => bail!("{option} is for pictures (.png)"),
        _ => Ok(()),
    }
}

impl Plan {
    fn new(args: &Args, checkpoint: &Checkpoint, chosen: &Chosen, place: Place) -> anyhow::Result<Self> {
        let (Place::File(form) | Place::Directory(form)) = place;
        let mut plan = Plan { pieces: Vec::new(), values: Vec::new(), left_out: Vec::new() };
        let tensors = chosen.entries.iter().filter(|entry| matches!(entry.item, Item::Tensor(..))).count();
        let one_only = matches!(place, Place::File(form) if !form.is_collection());
        if one_only && tensors > 1 {
            bail!("{tensors} tensors do not fit into .{}: name one, or write .npz, .safetensors, .pt or a directory", form.extension());
        }
        for entry in &chosen.entries {
            let Item::Tensor(id, _) = entry.item else {
                match form.holds_values() || matches!(place, Place::Directory(_)) {
                    true => plan.values.push((entry.name(), entry.node)),
                    false => plan.left_out.push(entry.name()),
                }
                continue;
            };
            let Some(tensor) = checkpoint.tensor(id) else { continue };
            let taken = Taken { checkpoint, tensor, subscript: args.slice.as_ref() };
            let found = match one_only {
                true => taken.elements().map(|elements| vec![("", elements)]),
                false => taken.parts(),
            };
            for (part, elements) in found.map_err(|e| named(e.into(), entry, true))? {
                let piece = Piece::new(args, checkpoint, entry, part, elements)?;
                piece.check(args, form).map_err(|e| named(e, entry, true))?;
                plan.pieces.push(piece);
            }
        }
        if plan.pieces.is_empty() && plan.values.is_empty() {
            let name = plan.left_out.first().cloned().unwrap_or_default();
            bail!("{name} is no tensor: .json and .pt hold values, and without -o they are printed");
        }
        Ok(plan)
    }

    fn write(
        &self,
        args: &Args,
        checkpoint: &Checkpoint,
        chosen: &Chosen,
        form: Form,
        out: &mut Output,
    ) -> anyhow::Result<()> {
        match form {
            Form::Json => {
                let part = show::Part { subscript: args.slice.as_ref(), dtype: args.dtype.as_ref() };
                show::write_json(checkpoint, chosen, part, out)
            }
            Form::Npz | Form::Safetensors | Form::Torch => bail!("NOT YET"),
            Form::Npy | Form::Csv | Form::Bin | Form::Png => match self.pieces.first() {
                Some(piece) => piece.write(args, checkpoint, form, out),
                None => Ok(()),
            },
        }
    }

    /// A file for each piece, then one for each value.
    fn file_names(&self, form: Form) -> Vec<String> {
        let mut names = FileNames::default();
        let dotted = |extension: &str| format!(".{extension}");
        let pieces = self.pieces.iter().map(|piece| (&piece.name, dotted(form.extension())));
        let values = self.values.iter().map(|(name, _)| (name, dotted(Form::Json.extension())));
        pieces.chain(values).map(|(name, extension)| names.make(name, &extension)).collect()
    }

    /// Writes the files into a directory; the bytes of them all. A new one appears whole; in one that exists, all names
    /// are checked before the first file is written.
    fn write_directory(
        &self,
        args: &Args,
        input: &Input,
        output: &Path,
        form: Form,
        files: &[String],
    ) -> anyhow::Result<u64> {
        let of_output = || output.display().to_string();
        if output.is_dir() {
            let targets = files.iter().map(|file| target_inside(output, file, args.force)).collect::<anyhow::Result<_>>()?;
            return self.write_files(args, input, form, targets);
        }
        let parent = match output.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        let mut builder = tempfile::Builder::new();
        builder.prefix(".ckpt-tmp-");
        #[cfg(unix)]
        builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o777));
        let fresh = builder.tempdir_in(parent).with_context(of_output)?;
        let targets =
            files.iter().map(|file| target_inside(fresh.path(), file, false)).collect::<anyhow::Result<_>>()?;
        let bytes = self.write_files(args, input, form, targets)?;
        std::fs::rename(fresh.path(), output).with_context(of_output)?;
        // it has another name now, so there is nothing left to remove
        let _ = fresh.keep();
        Ok(bytes)
    }

    fn write_files(&self, args: &Args, input: &Input, form: Form, targets: Vec<Target>) -> anyhow::Result<u64> {
        let mut bytes = 0;
        let mut targets = targets.into_iter();
        for (piece, target) in self.pieces.iter().zip(targets.by_ref()) {
            let mut out = target.create()?;
            piece.write(args, &input.checkpoint, form, &mut out).with_context(|| input.name.clone())?;
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

    fn written(&self, file: impl Fn(usize) -> Option<String>) -> Vec<Written> {
        let pieces = self.pieces.iter().map(|piece| {
            let (dtype, shape) = (piece.elements.dtype.to_string(), piece.elements.shape.clone());
            (piece.name.clone(), Some(dtype), Some(shape))
        });
        let values = self.values.iter().map(|(name, _)| (name.clone(), None, None));
        let written = pieces.chain(values).enumerate();
        written.map(|(at, (name, dtype, shape))| Written { name, file: file(at), dtype, shape }).collect()
    }

    /// What a person should know.
    fn tell(&self, args: &Args, input: &Input) {
        if !self.left_out.is_empty() {
            args.report.note(&input.name, format_args!("left out: {}", self.left_out.join(", ")));
        }
        for piece in &self.pieces {
            let overflows = piece.cast.as_ref().map_or(0, |cast| cast.overflows());
            if overflows > 0 {
                let (name, dtype) = (&piece.name, &piece.elements.dtype);
                args.report.note(&input.name, format_args!("{name}: {overflows} elements overflow {dtype} and are infinite"));
            }
        }
    }
}

/// A file of a directory. Links are not followed: they may lead outside.
fn target_inside(dir: &Path, file: &str, force: bool) -> anyhow::Result<Target> {
    let path = dir.join(file);
    let shown = path.display().to_string();
    if path.is_symlink() {
        bail!("{shown}: is a link, which may lead out of the directory");
    }
    Target::new(&path, force, None).context(shown)
}

impl Piece {
    fn new(args: &Args, checkpoint: &Checkpoint, entry: &Entry, part: &str, elements: Elements) -> anyhow::Result<Self> {
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
    fn check(&self, args: &Args, form: Form) -> anyhow::Result<()> {
        match form {
            Form::Npy | Form::Npz => bail!("NOT YET"),
            Form::Csv => Ok(csv::check(&self.elements)?),
            Form::Json => Ok(numerals::numeric(&self.elements.dtype).map(|_| ())?),
            Form::Png => Ok(self.picture(args).map(|_| ())?),
            Form::Bin | Form::Safetensors | Form::Torch => Ok(()),
        }
    }

    fn picture(&self, args: &Args) -> crate::error::Result<Picture> {
        let picture = &args.picture;
        let options =
            Options { range: picture.range, diverging: picture.diverging, scale: picture.scale.unwrap_or(1) };
        Picture::new(&self.elements, options)
    }

    fn write(&self, args: &Args, checkpoint: &Checkpoint, form: Form, out: &mut Output) -> anyhow::Result<()> {
        let (elements, limits) = (&self.elements, &checkpoint.limits);
        match form {
            Form::Csv => csv::write(elements, limits, out)?,
            Form::Png => self.picture(args)?.write(limits, out)?,
            Form::Json => {
                json::write(elements, limits, out)?;
                out.write_all(b"\n")?;
            }
            Form::Npy => bail!("NOT YET"),
            _ => raw::write(elements, limits, out)?,
        }
        Ok(())
    }
}
