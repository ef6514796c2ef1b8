//! Where each parameter's elements lie, by the shapes in the module's file and the flat tensors in the ranks'.

use super::optimizer::Rank;
use super::partition::{self, Parameter, Place};
use super::reading::{Shapes, count, wrong};
use crate::error::{Error, Result};

/// The elements of a shape, which the file `model` gives to `name`.
pub(super) fn counted(model: &str, name: &str, shape: &[i64]) -> Result<u64> {
    count(shape).ok_or_else(|| wrong(model, format_args!("{name} has too many elements: {shape:?}")))
}

/// The places of each parameter of each group, with stages 1 and 2. `model` is the file that names them.
pub(super) fn of_groups(model: &str, groups: &[Shapes], ranks: &[Rank]) -> Result<Vec<Vec<Vec<Place>>>> {
    let lengths: Vec<Vec<u64>> = ranks.iter().map(Rank::lengths).collect();
    let (file, alignments, has) = match ranks.first() {
        Some(rank) => (&*rank.file, rank.alignments.as_deref(), rank.groups.len()),
        None => (model, None, 0),
    };
    if has != groups.len() {
        let want = groups.len();
        return Err(wrong(file, format_args!("has {has} groups of weights, and {model} names {want}")));
    }
    let mut all = Vec::new();
    for (number, shapes) in groups.iter().enumerate() {
        let alignment = match alignments {
            Some(lists) => match lists.get(number).filter(|list| list.len() == shapes.len()) {
                Some(list) => list.clone(),
                None => return Err(wrong(file, "its param_alignment_paddings are not one for each parameter")),
            },
            None => vec![0; shapes.len()],
        };
        let parameters = shapes.iter().zip(alignment).map(|((name, shape), padding)| {
            counted(model, name, shape).map(|elements| Parameter { elements, padding })
        });
        let parameters: Vec<Parameter> = parameters.collect::<Result<_>>()?;
        let flat: Vec<u64> = lengths.iter().map(|of_rank| of_rank.get(number).copied().unwrap_or_default()).collect();
        let places = partition::of_group(number, &parameters, &flat);
        all.push(places.map_err(|what| Error::malformed(format!("group {number} of the weights {what}")))?);
    }
    Ok(all)
}

/// The places of each parameter of all groups, with stage 3.
pub(super) fn of_all(model: &str, groups: &[Shapes], ranks: &[Rank]) -> Result<Vec<Vec<Place>>> {
    let mut all: Option<(&Rank, Vec<u64>)> = None;
    for rank in ranks {
        let lengths = rank.lengths();
        match &all {
            Some((first, wanted)) if *wanted != lengths => {
                let file = &first.file;
                return Err(wrong(
                    &rank.file,
                    format_args!("its groups of weights have {lengths:?} elements, and those of {file} {wanted:?}"),
                ));
            }
            Some(_) => {}
            None => all = Some((rank, lengths)),
        }
    }
    let shapes = groups.iter().flatten();
    let elements = shapes.map(|(name, shape)| counted(model, name, shape)).collect::<Result<Vec<_>>>()?;
    let (_, lengths) = all.ok_or_else(|| Error::malformed("has no rank"))?;
    let places = partition::of_all(&elements, &lengths, ranks.len());
    places.map_err(|what| Error::malformed(format!("what the ranks have of the weights {what}")))
}
