//! From every container that can be read to one that is asked for.

mod arrays;
mod options;
mod plain;
mod reduce;
mod said;
mod shards;
mod size;
mod there;
mod torch;

pub use self::options::{Options, Outlet, Portion, Shards, Shared};
pub(in crate::operations) use self::reduce::{Reduced, Top, reduce, tensors_below};
pub(crate) use self::size::bytes_of;
pub(in crate::operations) use self::torch::attributes_of;

use std::collections::HashMap;
use std::io::Write;
use std::path::PathBuf;

use crate::checkpoint::casting::{Casting, Kept};
use crate::checkpoint::resolve::Listed;
use crate::checkpoint::selection::{Weight, Weights};
use crate::checkpoint::{Checkpoint, Entry, Root, TensorId};
use crate::container::safetensors::METADATA;
use crate::dtype::Class;
use crate::error::{Error, ErrorKind, Result};
use crate::limits::Limits;
use crate::message::{Message, Setting};
use crate::operations::Input;
use crate::operations::select::{self, Asked, Filter, Resolved, choose, find_weights};
use crate::operations::sink::Sink;
use crate::operations::{digest, occupied};
use crate::pickle::{Census, NodeId};
use crate::progress::Progress;
use crate::report::convert::{Conversion, LeftOut, Overflowed};
use crate::report::written::Written;
use crate::write::atomic::{Output, Target};
use crate::write::content::Overflow;
use crate::write::directory::NewDirectory;
use crate::write::format::Format;
use crate::write::indexed;
use crate::write::watch::{self, Watch};

/// Wrapper tensors that a note names.
const MAX_WRAPPERS: usize = 8;

/// What a conversion goes by.
struct Job<'a> {
    options: &'a Options,
    outlet: &'a Outlet,
    /// Where values go that the format does not hold.
    values: Option<&'a Sink>,
    progress: &'a dyn Progress,
    /// Of names below the root, as soon as that is known.
    filter: Filter,
    limits: Limits,
    report: Conversion,
    /// `__metadata__` of a safetensors input, without aliases.
    metadata: Vec<(String, String)>,
    /// How many names that are left out have been noted.
    told: usize,
    /// The complete outputs that wait for their names, in order, each with what people call it.
    outputs: Vec<(String, Output)>,
    /// What was made for them, to go again when they come to nothing.
    directory: Option<NewDirectory>,
    /// The index of the outputs: it does not hold any more once one of them has its name.
    index: Option<Target>,
    /// Shards of an older cut that go once the index is there.
    stale: Vec<PathBuf>,
    /// Looks at the checksums of what is written.
    watch: Option<Watch>,
}

/// Writes an input in another format. Values that the format does not hold go to `values` as JSON. The input's objects are
/// changed on the way. Outputs get their names when all of them are complete.
pub fn convert(
    input: &mut Input,
    options: &Options,
    outlet: &Outlet,
    values: Option<&Sink>,
    progress: &dyn Progress,
) -> Result<Conversion> {
    convert_if(input, options, outlet, values, progress, &mut |_| Ok(()))
}

/// The same, of which nothing gets its name unless `proof`, asked once all is written, finds nothing wrong.
pub(super) fn convert_if(
    input: &mut Input,
    options: &Options,
    outlet: &Outlet,
    values: Option<&Sink>,
    progress: &dyn Progress,
    proof: &mut dyn FnMut(&Checkpoint) -> Result<()>,
) -> Result<Conversion> {
    if options.to != Format::Safetensors && !options.set_metadata.is_empty() {
        let what = format!(" is for safetensors; {} has no metadata", options.to);
        return Err(Error::refused(Setting::SetMetadata.then(what)));
    }
    if options.safe {
        may_be_safe(options, outlet)?;
    }
    if let (Outlet::Shards(Shards { part: Portion::Shard(_), .. }), Some(_)) = (outlet, values) {
        let what = Setting::SaveValues.then(" is for the job with ").setting(Setting::IndexOnly);
        return Err(Error::refused(what.text(": several would write one file")));
    }
    let Input { name, checkpoint, .. } = input;
    let job = Job::new(name, checkpoint, options, outlet, values, progress);
    job.run(checkpoint, proof).map_err(|e| e.of_input(name))
}

/// Refuses what holds weights only anyway.
fn may_be_safe(options: &Options, outlet: &Outlet) -> Result<()> {
    let message = if options.state_dict {
        Setting::Safe.then(" keeps the whole object: leave out ").setting(Setting::StateDict)
    } else if !matches!(options.to, Format::Torch | Format::TorchLegacy) {
        let what = format!(" is for torch's formats; {} holds nothing but weights: leave out ", options.to);
        Setting::Safe.then(what).setting(Setting::Safe)
    } else if matches!(outlet, Outlet::Shards(_)) {
        Setting::Safe.then(" writes one file: leave out ").setting(Setting::MaxShardSize)
    } else {
        return Ok(());
    };
    Err(Error::refused(message))
}

/// Names the output in what the system says; all else that goes wrong while something is written is the input's.
fn at_output<T>(name: &str, result: Result<T>) -> Result<T> {
    result.map_err(|e| if e.kind() == ErrorKind::Io { e.of_output(name) } else { e })
}

impl<'a> Job<'a> {
    fn new(
        name: &str,
        checkpoint: &Checkpoint,
        options: &'a Options,
        outlet: &'a Outlet,
        values: Option<&'a Sink>,
        progress: &'a dyn Progress,
    ) -> Self {
        let report = Conversion {
            schema: "ckpt.convert/1",
            input: name.to_owned(),
            output: outlet.name(),
            to: options.to.name(),
            // the input's notes name them
            left_out: checkpoint.left_aside.iter().map(|name| LeftOut { name: name.clone(), tensors: None }).collect(),
            ..Conversion::default()
        };
        let mut job = Job {
            options,
            outlet,
            values,
            progress,
            filter: Filter::default(),
            limits: checkpoint.limits.clone(),
            told: report.left_out.len(),
            report,
            metadata: Vec::new(),
            outputs: Vec::new(),
            directory: None,
            index: None,
            stale: Vec::new(),
            watch: None,
        };
        checkpoint.notes.iter().for_each(|note| job.note(note.as_str()));
        job
    }
}

impl Job<'_> {
    fn run(
        mut self,
        checkpoint: &mut Checkpoint,
        proof: &mut dyn FnMut(&Checkpoint) -> Result<()>,
    ) -> Result<Conversion> {
        let aliases = checkpoint.restore_aliases()?;
        self.expect_digest(checkpoint)?;
        self.metadata = checkpoint.take_metadata();
        self.leave_out_metadata();
        match self.options.to {
            Format::Torch | Format::TorchLegacy => self.torch(checkpoint)?,
            Format::Safetensors | Format::Npz => self.arrays(checkpoint)?,
            other => return Err(Error::refused(format!("{other} holds no whole checkpoint"))),
        }
        self.restored(&aliases);
        if let Some(watch) = self.watch.take() {
            let wrong = watch.finish().and_then(|wrong| watch::named(checkpoint, &wrong))?;
            self.report.doubtful.extend(wrong);
        }
        proof(checkpoint)?;
        for (file, bytes) in indexed::commit(self.index.as_ref(), std::mem::take(&mut self.outputs))? {
            self.report.files.push(Written { file, bytes });
        }
        self.report.notes.extend(occupied::remove(&self.stale, &self.report.output)?);
        self.say_what_was_done();
        Ok(self.report)
    }

    /// Fails unless the weights are those that are expected.
    fn expect_digest(&self, checkpoint: &Checkpoint) -> Result<()> {
        let Some(expected) = &self.options.expect_digest else { return Ok(()) };
        let mut options = digest::Options::default();
        options.select = self.options.select.clone();
        let missing = digest::Missing::of(&options.select);
        let name = &self.report.input;
        let found = digest::of_checkpoint(checkpoint, name, &options, &missing, self.progress)?;
        if found.digest == *expected {
            return Ok(());
        }
        let what = format!("the digest of its weights is {}, not {expected} (", found.digest);
        Err(Error::refused(Message::from(what).setting(Setting::ExpectDigest).text("); nothing written")))
    }

    /// Resolves what was asked for among the names below `root`; where that is the weights, which nobody named, among all
    /// names of the file too.
    fn choose(&mut self, checkpoint: &Checkpoint, root: &Root) -> Result<()> {
        let is_named = self.options.select.root.is_some();
        let is_there = &mut |resolved: &Resolved<'_>, files: &[Listed<'_>]| resolved.missing_is_an_error(files);
        self.filter = choose(self.asked(), checkpoint, root, is_named, is_there)?;
        Ok(())
    }

    fn asked(&self) -> Asked<'_> {
        Asked::of(&self.options.select, &self.options.drop)
    }

    fn root(&self, checkpoint: &Checkpoint) -> Result<Root> {
        self.options.select.find_root(checkpoint)
    }

    /// The weights, for formats that hold nothing else.
    fn weights(&mut self, checkpoint: &Checkpoint) -> Result<Weights> {
        let root = match self.options.select.root {
            Some(_) => self.root(checkpoint)?,
            None => find_weights(checkpoint, Setting::Root)?,
        };
        self.choose(checkpoint, &root)?;
        let weights = checkpoint.select_weights(root, &|name| self.filter.takes(name))?;
        if !weights.by_parts.is_empty() {
            let shown = weights.by_parts.iter().take(MAX_WRAPPERS).map(|(name, class, parts)| {
                let name = if name.is_empty() { "." } else { name };
                format!("{name} ({class}: {})", parts.join(", "))
            });
            let shown: Vec<String> = shown.collect();
            let more = weights.by_parts.len().saturating_sub(MAX_WRAPPERS);
            let more = if more > 0 { format!(" and {more} more") } else { String::new() };
            self.note(format!("written as the tensors that they wrap: {}{more}", shown.join(", ")));
        }
        if weights.tensors.is_empty() {
            let asked = self.asked();
            let what = match asked.is_empty() {
                true => Message::from("no tensors selected"),
                false => asked.nothing_left("tensors"),
            };
            return Err(Error::refused(what.text("; nothing written")));
        }
        if self.options.select.root.is_none() {
            self.report.weights = Some(select::shown(&weights.root));
        }
        let mut seen = std::collections::HashSet::new();
        for weight in &weights.tensors {
            if !seen.insert(weight.name.as_str()) {
                let message =
                    Message::from(format!("two tensors would have the name {}; choose one with ", weight.name));
                return Err(Error::refused(message.setting(Setting::Root).text(" or ").setting(Setting::Exclude)));
            }
        }
        self.report
            .left_out
            .extend(weights.left_out.iter().map(|(name, tensors)| LeftOut { name: name.clone(), tensors: *tensors }));
        Ok(weights)
    }

    /// safetensors' strings have a place in safetensors only.
    fn leave_out_metadata(&mut self) {
        if self.options.to != Format::Safetensors && !self.metadata.is_empty() {
            self.report.left_out.push(LeftOut { name: METADATA.to_owned(), tensors: None });
        }
    }

    /// Writes what a weights-only target leaves out as one JSON object.
    fn save_values(&mut self, checkpoint: &Checkpoint, values: &[(String, NodeId)]) -> Result<()> {
        let Some(Sink { name: file, target }) = self.values else { return Ok(()) };
        let mut object = serde_json::Map::new();
        let metadata = self.metadata.iter().filter(|_| self.options.to != Format::Safetensors);
        object.extend(metadata.map(|(key, value)| (format!("{METADATA}.{key}"), value.as_str().into())));
        for (name, node) in values.iter().filter(|(name, _)| self.filter.takes_whole(name)) {
            let value = checkpoint.objects().value(*node, usize::MAX);
            let type_name = checkpoint.objects().type_name(*node);
            object.insert(
                name.clone(),
                match value {
                    Some(value) if !value.json.is_null() || type_name == "NoneType" => value.json,
                    Some(value) => serde_json::json!({"type": value.type_name, "repr": value.repr}),
                    None => serde_json::json!({"type": type_name}),
                },
            );
        }
        let mut text = serde_json::to_vec_pretty(&object).map_err(std::io::Error::from)?;
        text.push(b'\n');
        let mut output = at_output(file, target.create())?;
        at_output(file, output.write_all(&text).map_err(Error::from))?;
        self.keep(file, output)
    }

    /// Refuses what will not fit on the disk.
    fn check_room(&self, target: &Target, bytes: u64) -> Result<()> {
        match target.free_bytes() {
            Some(free) if free < bytes => {
                let message = format!("not enough space: {bytes} bytes needed, {free} free");
                Err(Error::new(ErrorKind::Io, message).of_output(&self.report.output))
            }
            _ => Ok(()),
        }
    }

    /// Keeps a complete output until all are. Several, shards mostly, are not left to one long sync at the end.
    fn keep(&mut self, name: &str, mut output: Output) -> Result<()> {
        if let Outlet::Shards(_) = self.outlet {
            at_output(name, output.settle())?;
        }
        self.outputs.push((name.to_owned(), output));
        Ok(())
    }

    /// Has the checksums of these tensors' storages looked at while they are copied.
    fn watch_weights<'w>(&mut self, checkpoint: &Checkpoint, tensors: impl IntoIterator<Item = &'w Weight>) {
        let tensors: Vec<&Weight> = tensors.into_iter().collect();
        let names = tensors.iter().map(|weight| weight.name.clone()).collect();
        let storages = tensors.iter().flat_map(|weight| checkpoint.storages_of(weight.id));
        self.watch = Some(Watch::start(checkpoint, storages, &names));
    }

    /// The same for every tensor that is left below a node.
    fn watch_all(&mut self, checkpoint: &Checkpoint, scan: &Census) -> Result<()> {
        let tensors = scan.order().iter().filter_map(|node| checkpoint.tensors.of(*node));
        let storages = tensors.flat_map(|id| checkpoint.storages_of(id));
        let entries = checkpoint.names(&checkpoint.top())?.entries;
        self.report.doubtful = watch::broken(checkpoint, &entries);
        let names = entries.iter().map(Entry::name).collect();
        self.watch = Some(Watch::start(checkpoint, storages, &names));
        Ok(())
    }
}

/// What a cast leaves alone, found before anything is written.
#[derive(Default)]
struct Casts {
    names: HashMap<TensorId, String>,
    kept: Kept,
}

impl Job<'_> {
    /// Notes what a file's contents lost in the cast, by the names of its contents.
    fn overflowed(&mut self, overflows: &[Overflow], name: impl Fn(usize) -> Option<String>) {
        for overflow in overflows {
            let name = name(overflow.place).filter(|name| !name.is_empty()).unwrap_or_else(|| ".".to_owned());
            self.report.overflows += overflow.elements;
            self.report.overflowed.push(Overflowed { name, values: overflow.elements });
        }
    }

    /// Sorts the tensors below `root` for a cast. `places`: where the weights lie; none if all of it is weights.
    fn casts(&mut self, checkpoint: &Checkpoint, root: &Root, places: &[Root]) -> Result<Casts> {
        let Some(to) = &self.options.dtype else { return Ok(Casts::default()) };
        let Casting { names, kept } = checkpoint.casting(root, places)?;
        let casts = Casts { names, kept };
        let kept = self.not_cast(checkpoint, &casts);
        self.report.not_cast.extend(kept);
        self.report.dtype = Some(to.to_string());
        Ok(casts)
    }

    /// The names of what a cast would change and does not.
    fn not_cast(&self, checkpoint: &Checkpoint, casts: &Casts) -> Vec<String> {
        let changes = |id: &TensorId| {
            let dtype = checkpoint.tensor(*id).and_then(|tensor| tensor.dtype.as_ref());
            dtype.is_some_and(|dtype| dtype.class() == Some(Class::Float) && self.options.dtype.as_ref() != Some(dtype))
        };
        let mut stay: Vec<&TensorId> = casts.kept.tensors.iter().filter(|id| changes(id)).collect();
        stay.sort();
        stay.into_iter().filter_map(|id| casts.names.get(id).cloned()).collect()
    }
}
