//! Where the means go: into the storages of the last input, in which everything else stays. A view is averaged once, under
//! however many names it stands; where that would mean more than one thing, nothing is done.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::ops::Range;
use std::sync::Arc;

use super::agree::Side;
use super::proof::Sums;
use super::{Made, Options, shown};
use crate::checkpoint::casting::Casting;
use crate::checkpoint::selection::Weight;
use crate::checkpoint::tensor::{Data, View};
use crate::checkpoint::{Checkpoint, Container, Item, StorageId, Tensor, TensorId};
use crate::data::Elements;
use crate::data::average::{Average, Blend, Part, averaged_as};
use crate::data::gather::Blocks;
use crate::data::patch::{self, Patched};
use crate::dtype::{ByteOrder, Class};
use crate::error::{Error, Result};
use crate::limits::Limits;
use crate::operations::Input;
use crate::pickle::{Census, Node};
use crate::report::average::Averaging;
use crate::source::SharedSource;
use crate::write::format::Format;

/// What decides which elements a weight has.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Same {
    View(View),
    Tensor(TensorId),
}

/// A weight in a storage.
struct Member<'a> {
    span: Range<u64>,
    name: &'a str,
    tensor: &'a Tensor,
    /// What is to lie there; nothing for what stays.
    view: Option<patch::View>,
}

/// Finds out what goes where.
pub(crate) struct Placing<'a> {
    inputs: &'a [Input],
    sides: &'a [Side],
    options: &'a Options,
    blend: &'a Arc<Blend>,
    last: &'a Input,
    side: &'a Side,
    /// In the files' names.
    files: Vec<Arc<str>>,
    limits: &'a Limits,
    made: Vec<Made>,
    members: BTreeMap<StorageId, Vec<Member<'a>>>,
    arrays: Vec<(TensorId, Elements)>,
    /// Of each input.
    sums: Vec<Sums>,
}

/// What goes where.
pub(crate) struct Placed {
    /// Of each input, what will have been read of it.
    sums: Vec<Sums>,
    storages: Vec<(StorageId, SharedSource)>,
    arrays: Vec<(TensorId, Elements)>,
    made: Vec<Made>,
}

impl Placed {
    /// Of each input, what the mean will have read of it.
    pub(crate) fn sums(&self) -> &[Sums] {
        &self.sums
    }

    /// Puts it there.
    pub(crate) fn apply(self, checkpoint: &mut Checkpoint) -> (Vec<Made>, Vec<Sums>) {
        self.storages.into_iter().for_each(|(id, source)| checkpoint.replace_storage(id, source));
        self.arrays.into_iter().for_each(|(id, elements)| checkpoint.replace_elements(id, elements));
        (self.made, self.sums)
    }
}

impl<'a> Placing<'a> {
    pub(crate) fn new(
        inputs: &'a [Input],
        sides: &'a [Side],
        options: &'a Options,
        blend: &'a Arc<Blend>,
    ) -> Result<Self> {
        let (Some(last), Some(side)) = (inputs.last(), sides.last()) else {
            return Err(Error::refused("nothing to average"));
        };
        Ok(Placing {
            files: inputs.iter().map(|input| input.name.as_str().into()).collect(),
            limits: &last.checkpoint.limits,
            made: Vec::new(),
            members: BTreeMap::new(),
            arrays: Vec::new(),
            sums: inputs.iter().map(|_| Sums::default()).collect(),
            inputs,
            sides,
            options,
            blend,
            last,
            side,
        })
    }

    /// Goes through the weights of the last input. Nothing of their elements is read, but for ties that only it has.
    pub(crate) fn place(mut self, report: &mut Averaging) -> Result<Placed> {
        let checkpoint = &self.last.checkpoint;
        let of_last = |e: Error| e.of_input(&self.last.name);
        let Casting { kept, .. } =
            checkpoint.casting(&self.side.root, std::slice::from_ref(&self.side.root)).map_err(of_last)?;
        self.are_written().map_err(of_last)?;
        let mut uses: HashMap<TensorId, usize> = HashMap::new();
        for weight in &self.side.weights {
            *uses.entry(weight.id).or_default() += 1;
        }
        let mut first_of: HashMap<Same, &str> = HashMap::new();
        for weight in &self.side.weights {
            let name = weight.name.as_str();
            let tensor = checkpoint.weight(weight)?;
            let of_part = |e: Error| e.of_part(shown(name)).of_input(&self.last.name);
            let is_taken = kept.tensors.contains(&weight.id);
            if is_taken || stays(tensor).map_err(of_part)? {
                report.from_last.push(shown(name).to_owned());
                self.stay(name, tensor);
                continue;
            }
            report.averaged += 1;
            let same = tensor.view().map_or(Same::Tensor(weight.id), Same::View);
            if let Some(first) = first_of.get(&same) {
                self.is_tied(first, name)?;
                continue;
            }
            first_of.insert(same, name);
            self.add(weight, tensor, uses.get(&weight.id) == Some(&1))?;
        }
        if self.made.is_empty() && report.averaged == 0 {
            return Err(
                Error::refused("holds no weights that can be averaged: no floating tensors").of_input(&self.last.name)
            );
        }
        report.also_changed = self.beside().map_err(of_last)?;
        let mut storages = Vec::new();
        for (id, mut members) in std::mem::take(&mut self.members) {
            members.sort_by_key(|member| (member.span.start, Reverse(member.span.end)));
            self.overlaps(&members)?;
            self.drop_covered(&mut members);
            let views: Vec<patch::View> = members.into_iter().filter_map(|member| member.view).collect();
            if let Some(sums) = self.sums.last_mut().filter(|_| !views.is_empty()) {
                let source: SharedSource = Arc::new(Patched::over(sums.source(checkpoint, id)?, views)?);
                storages.push((id, source));
            }
        }
        Ok(Placed { sums: self.sums, storages, arrays: self.arrays, made: self.made })
    }

    /// Whether the output is one of torch's formats, which keep the whole object.
    fn keeps_all(&self) -> bool {
        let is_script = self.last.checkpoint.container() == Container::TorchScript;
        matches!(self.options.to, Format::Torch | Format::TorchLegacy) && !is_script
    }

    /// Fails for weights that the objects of the output would not follow: what lies in byte strings.
    fn are_written(&self) -> Result<()> {
        let checkpoint = &self.last.checkpoint;
        if !self.keeps_all() {
            return Ok(());
        }
        let scan = Census::new(&checkpoint.graph, checkpoint.root)?;
        let written: HashSet<_> = scan.order().iter().copied().collect();
        for weight in &self.side.weights {
            let in_pickle = matches!(checkpoint.graph.node(weight.node), Node::Object(_));
            let is_array = matches!(checkpoint.weight(weight)?.data, Data::Array { .. });
            let what = match written.contains(&weight.node) {
                false => "lies in a byte string, which cannot be averaged",
                true if in_pickle && is_array => "is a NumPy array in a pickle, which cannot be averaged",
                true => continue,
            };
            return Err(Error::unsupported(what).of_part(shown(&weight.name)));
        }
        Ok(())
    }

    /// The tensors of a name, in the order of the inputs.
    fn tensors(&self, name: &str) -> Result<Vec<&'a Tensor>> {
        self.inputs.iter().zip(self.sides).map(|(input, side)| side.tensor(input, name)).collect()
    }

    /// The elements of a name, in the order of the inputs.
    fn elements(&mut self, name: &str) -> Result<Vec<Elements>> {
        let tensors = self.tensors(name)?;
        let all = self.inputs.iter().zip(&mut self.sums).zip(tensors).map(|((input, sums), tensor)| {
            let checkpoint = &input.checkpoint;
            let elements = tensor.readable(&checkpoint.storages).and_then(|mut elements| {
                elements.validate(&checkpoint.limits)?;
                if let Some(id) = tensor.storage() {
                    elements.source = sums.source(checkpoint, id)?;
                }
                Ok(elements)
            });
            elements.map_err(|e| e.of_part(shown(name)).of_input(&input.name))
        });
        all.collect()
    }

    fn average(&self, elements: Vec<Elements>, byte_order: ByteOrder) -> Result<Arc<Average>> {
        let parts = elements.into_iter().zip(&self.files);
        let parts = parts.map(|(elements, file)| Part { file: Arc::clone(file), elements }).collect();
        Average::over(parts, self.blend, byte_order, self.limits)
    }

    /// A weight that is averaged.
    fn add(&mut self, weight: &'a Weight, tensor: &'a Tensor, has_one_name: bool) -> Result<()> {
        let name = weight.name.as_str();
        let mut all = self.elements(name)?;
        let Some(own) = all.last().cloned() else { return Ok(()) };
        let made = |average: &Arc<Average>| Made { name: name.to_owned(), average: Arc::clone(average) };
        // formats of arrays need rows: what is strided is made in them at once
        let is_row = own.is_contiguous() || !has_one_name || self.keeps_all();
        let Some(id) = tensor.storage().filter(|_| is_row) else {
            let (dtype, shape) = (own.dtype, own.shape);
            let average = self.average(all, ByteOrder::Little)?;
            self.made.push(made(&average));
            self.arrays.push((weight.id, Elements::row_major(average, dtype, shape)));
            return Ok(());
        };
        let span = own.validate(self.limits)?.span;
        let dims = self.dims(name, &all)?;
        for elements in &mut all {
            // as they are to lie in the storage: the last input's flags are on top of that
            (elements.conj, elements.neg) = (elements.conj != own.conj, elements.neg != own.neg);
            let of = |of: &[u64]| dims.iter().filter_map(|dim| of.get(*dim).copied()).collect::<Vec<u64>>();
            (elements.shape, elements.stride) = (of(&elements.shape), of(&elements.stride));
        }
        let (shape, stride) = all.last().map(|own| (own.shape.clone(), own.stride.clone())).unwrap_or_default();
        let average = self.average(all, own.byte_order)?;
        self.made.push(made(&average));
        let view =
            Some(patch::View { size: average.element_size(), source: average, offset: own.offset, shape, stride });
        self.members.entry(id).or_default().push(Member { span, name, tensor, view });
        Ok(())
    }

    /// The dimensions of a weight in the order in which it lies in the last input's storage, without those that are
    /// expanded everywhere.
    fn dims(&self, name: &str, all: &[Elements]) -> Result<Vec<usize>> {
        let refuse = |what: &str| Err(Error::unsupported(what).of_part(shown(name)).of_input(&self.last.name));
        let Some(own) = all.last() else { return Ok(Vec::new()) };
        let of = |values: &[u64], dim: usize| values.get(dim).copied().unwrap_or(1);
        if own.shape.contains(&0) {
            return Ok((0..own.shape.len()).collect());
        }
        let mut dims: Vec<usize> = (0..own.shape.len()).filter(|dim| of(&own.shape, *dim) > 1).collect();
        let is_expanded = |dim: usize| of(&own.stride, dim) == 0;
        let elsewhere = |dim: usize| all.iter().all(|elements| of(&elements.stride, dim) == 0);
        if dims.iter().any(|dim| is_expanded(*dim) && !elsewhere(*dim)) {
            return refuse("is an expanded view, which other inputs have in full, so it cannot be averaged");
        }
        dims.retain(|dim| !is_expanded(*dim));
        dims.sort_by_key(|dim| Reverse((of(&own.stride, *dim), of(&own.shape, *dim))));
        let mut room = u64::MAX;
        for dim in &dims {
            let (len, step) = (of(&own.shape, *dim), of(&own.stride, *dim));
            if step.checked_mul(len).is_none_or(|all| all > room) {
                return refuse("is a view whose elements overlap, which cannot be averaged");
            }
            room = step;
        }
        Ok(dims)
    }

    /// A weight that is not averaged.
    fn stay(&mut self, name: &'a str, tensor: &'a Tensor) {
        let checkpoint = &self.last.checkpoint;
        let Some(id) = tensor.storage() else { return };
        let span = tensor.elements(&checkpoint.storages).and_then(|elements| Ok(elements.validate(self.limits)?.span));
        // what cannot be read is not averaged, and writing it says why
        if let Ok(span) = span {
            self.members.entry(id).or_default().push(Member { span, name, tensor, view: None });
        }
    }

    /// Checks that two names of one tensor are so in all inputs, or have the same elements.
    fn is_tied(&self, first: &str, name: &str) -> Result<()> {
        for ((input, side), (a, b)) in
            self.inputs.iter().zip(self.sides).zip(self.tensors(first)?.into_iter().zip(self.tensors(name)?))
        {
            let id = |name: &str| side.get(name).map(|weight| weight.id);
            if id(first) == id(name) || a.view().is_some_and(|view| b.view() == Some(view)) {
                continue;
            }
            let read = |tensor: &Tensor| tensor.readable(&input.checkpoint.storages);
            let are_equal = read(a).and_then(|a| equal(&a, &read(b)?, &input.checkpoint.limits));
            if !are_equal.map_err(|e| e.of_part(shown(name)).of_input(&input.name))? {
                let what = format!("{first} and {name} differ, and are one tensor in {}", self.last.name);
                return Err(Error::refused(what).of_input(&input.name));
            }
        }
        Ok(())
    }

    /// Checks of views of one storage that overlap, in order, that they do so in the same way in all inputs.
    fn overlaps(&self, members: &[Member<'a>]) -> Result<()> {
        let mut group: Option<(&Member<'a>, u64)> = None;
        for member in members.iter().filter(|member| !member.span.is_empty()) {
            let Some((first, end)) = group.filter(|(_, end)| member.span.start < *end) else {
                group = Some((member, member.span.end));
                continue;
            };
            group = Some((first, end.max(member.span.end)));
            if first.view.is_none() && member.view.is_none() {
                continue;
            }
            let (a, b) = (first.name, member.name);
            let is_mixed = first.view.is_none() || member.view.is_none() || first.tensor.dtype != member.tensor.dtype;
            if is_mixed {
                let what = format!("{a} and {b} share memory, and are of different types");
                return Err(Error::unsupported(what).of_input(&self.last.name));
            }
            for (input, (x, y)) in self.inputs.iter().zip(self.tensors(a)?.into_iter().zip(self.tensors(b)?)) {
                if !is_alike([first.tensor, member.tensor], [x, y]) {
                    let last = &self.last.name;
                    let what = format!("{a} and {b} do not share memory as they do in {last}");
                    return Err(Error::unsupported(what).of_input(&input.name));
                }
            }
        }
        Ok(())
    }

    /// A view without gaps says all of what lies in it: of the others nothing is made. In the order of
    /// [`Self::overlaps`], which has found them to be the same.
    fn drop_covered(&mut self, members: &mut [Member<'a>]) {
        let mut reach = 0;
        let mut covered: HashSet<&str> = HashSet::new();
        for member in members {
            let Some(view) = &member.view else { continue };
            let is_dense = view.source.len() == member.span.end - member.span.start;
            if member.span.end <= reach && !member.span.is_empty() {
                covered.insert(member.name);
                member.view = None;
            } else if is_dense {
                reach = member.span.end;
            }
        }
        self.made.retain(|made| !covered.contains(made.name.as_str()));
    }

    /// Tensors that are no weights and lie where means go.
    fn beside(&self) -> Result<Vec<String>> {
        let checkpoint = &self.last.checkpoint;
        if !self.keeps_all() {
            return Ok(Vec::new());
        }
        let mut averaged: HashMap<StorageId, Vec<Range<u64>>> = HashMap::new();
        for (id, members) in &self.members {
            let mut spans: Vec<Range<u64>> =
                members.iter().filter(|member| member.view.is_some()).map(|member| member.span.clone()).collect();
            spans.sort_by_key(|span| (span.start, span.end));
            let merged = averaged.entry(*id).or_default();
            for span in spans {
                match merged.last_mut() {
                    Some(last) if span.start <= last.end => last.end = last.end.max(span.end),
                    _ => merged.push(span),
                }
            }
        }
        let weights: HashSet<TensorId> = self.side.weights.iter().map(|weight| weight.id).collect();
        let root = &self.side.root;
        let mut found = Vec::new();
        for entry in checkpoint.names(&checkpoint.top())?.entries {
            let Item::Tensor(id, _) = entry.item else { continue };
            if weights.contains(&id) && (root.stem.is_some() || entry.path.starts_with(&root.path)) {
                continue;
            }
            let Some(tensor) = checkpoint.tensor(id) else { continue };
            let Some(spans) = tensor.storage().and_then(|storage| averaged.get(&storage)) else { continue };
            let Ok(elements) = tensor.elements(&checkpoint.storages) else { continue };
            let Ok(extent) = elements.validate(self.limits) else { continue };
            let next = spans.get(spans.partition_point(|span| span.end <= extent.span.start));
            if next.is_some_and(|next| next.start < extent.span.end) {
                found.push(entry.name());
            }
        }
        Ok(found)
    }
}

/// Whether a tensor is one that the last input gives: integers and booleans. Fails for what has no mean.
fn stays(tensor: &Tensor) -> Result<bool> {
    let refuse = |what: String| Err(Error::unsupported(format!("{what} tensors cannot be averaged")));
    if let Some(problem) = &tensor.problem {
        return Err(Error::data(problem.clone()));
    }
    if tensor.is_nested() {
        return refuse("nested".to_owned());
    }
    if tensor.is_sparse() {
        return refuse(format!("sparse ({})", tensor.layout));
    }
    let Some(dtype) = &tensor.dtype else { return Err(Error::data("its dtype is unknown")) };
    match dtype.class() {
        Some(Class::Signed | Class::Unsigned | Class::Bool) => Ok(true),
        _ if averaged_as(dtype).is_some() => Ok(false),
        Some(Class::Float) => {
            let e = Error::unsupported(format!("{dtype} tensors cannot be averaged"));
            Err(e.advise("convert the inputs to bfloat16 or float32 first"))
        }
        _ => refuse(dtype.name().to_owned()),
    }
}

/// Whether two tensors lie to each other as two others do.
fn is_alike([a, b]: [&Tensor; 2], [x, y]: [&Tensor; 2]) -> bool {
    let offset = |tensor: &Tensor| match tensor.data {
        Data::Storage { offset, .. } => Some(i128::from(offset)),
        _ => None,
    };
    let apart = |a: &Tensor, b: &Tensor| Some(offset(b)? - offset(a)?);
    let steps = |tensor: &Tensor| (tensor.stride.clone(), tensor.conj, tensor.neg, tensor.dtype.clone());
    x.storage().is_some()
        && x.storage() == y.storage()
        && apart(a, b) == apart(x, y)
        && steps(a) == steps(x)
        && steps(b) == steps(y)
}

/// Whether two tensors of one type and shape have the same bits.
fn equal(a: &Elements, b: &Elements, limits: &Limits) -> Result<bool> {
    if a.dtype != b.dtype || a.shape != b.shape {
        return Ok(false);
    }
    let (mut a, mut b) = (Blocks::new(a, limits)?, Blocks::new(b, limits)?);
    loop {
        let (x, y) = (a.block()?, b.block()?);
        let len = x.len().min(y.len());
        if x.get(..len) != y.get(..len) {
            return Ok(false);
        }
        if len == 0 {
            return Ok(x.is_empty() && y.is_empty());
        }
        a.consume(len);
        b.consume(len);
    }
}
