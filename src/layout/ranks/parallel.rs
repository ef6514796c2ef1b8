//! How tensors are cut that do not say so: by rules, those of whoever opens the files and then those of the well-known
//! programs that write such files.
//!
//! Sources: Megatron-LM (`megatron/core/tensor_parallel/layers.py`, `megatron/core/transformer/mlp.py`,
//! `megatron/training/checkpointing.py`), Meta's `llama/model.py`, transformers' `convert_llama_weights_to_hf.py`.

use std::collections::HashMap;
use std::sync::Arc;

use globset::{GlobBuilder, GlobMatcher};

use super::cut::Pieces;
use super::join::{OfRank, shape_of};
use super::placement::Part;
use crate::checkpoint::Checkpoint;
use crate::error::{Error, Result};
use crate::limits::tensor_parallel::{Cut, TensorParallel};
use crate::message::Setting;

/// How a known program cuts a tensor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Known {
    /// Its first dimension.
    Rows,
    /// Its second dimension.
    Columns,
    /// Its first dimension; where it is two matrices over each other, each for itself. What its columns are cut to, the
    /// sibling named here has as columns.
    Gated(&'static str, &'static str),
    /// Its first dimension, if `checkpoint_version` says so.
    QueryKeyValue,
    /// The vocabulary, or what each word is.
    Embedding,
    /// Its first dimension, unless there are fewer heads than ranks, which then share one.
    KeyValue(&'static str),
}

/// A program and how it cuts tensors, by the ends of their names; what is not here is the same in all ranks.
#[derive(Debug)]
pub(super) struct Table {
    pub name: &'static str,
    ends: &'static [(&'static str, Known)],
}

pub(super) const MEGATRON: Table = Table {
    name: "Megatron-LM's",
    ends: &[
        ("word_embeddings.weight", Known::Rows),
        ("word_embeddings_for_head.weight", Known::Rows),
        ("output_layer.weight", Known::Rows),
        ("output_layer.bias", Known::Rows),
        ("self_attention.linear_qkv.weight", Known::Rows),
        ("self_attention.linear_qkv.bias", Known::Rows),
        ("self_attention.linear_q_proj.weight", Known::Rows),
        ("self_attention.linear_q_up_proj.weight", Known::Rows),
        ("self_attention.linear_kv_up_proj.weight", Known::Rows),
        ("cross_attention.linear_q.weight", Known::Rows),
        ("cross_attention.linear_q.bias", Known::Rows),
        ("cross_attention.linear_kv.weight", Known::Rows),
        ("cross_attention.linear_kv.bias", Known::Rows),
        ("self_attention.linear_proj.weight", Known::Columns),
        ("cross_attention.linear_proj.weight", Known::Columns),
        ("self_attention.query_key_value.weight", Known::QueryKeyValue),
        ("self_attention.query_key_value.bias", Known::QueryKeyValue),
        ("self_attention.dense.weight", Known::Columns),
        ("attention.query_key_value.weight", Known::QueryKeyValue),
        ("attention.query_key_value.bias", Known::QueryKeyValue),
        ("attention.dense.weight", Known::Columns),
        ("mlp.linear_fc1.weight", Known::Gated("linear_fc1.weight", "linear_fc2.weight")),
        ("mlp.linear_fc1.bias", Known::Gated("linear_fc1.bias", "linear_fc2.weight")),
        ("mlp.linear_fc2.weight", Known::Columns),
        ("mlp.shared_experts.linear_fc1.weight", Known::Gated("linear_fc1.weight", "linear_fc2.weight")),
        ("mlp.shared_experts.linear_fc2.weight", Known::Columns),
        ("mlp.dense_h_to_4h.weight", Known::Gated("dense_h_to_4h.weight", "dense_4h_to_h.weight")),
        ("mlp.dense_h_to_4h.bias", Known::Gated("dense_h_to_4h.bias", "dense_4h_to_h.weight")),
        ("mlp.dense_4h_to_h.weight", Known::Columns),
    ],
};

const LLAMA: Table = Table {
    name: "Meta's Llama",
    ends: &[
        ("tok_embeddings.weight", Known::Embedding),
        ("output.weight", Known::Rows),
        ("attention.wq.weight", Known::Rows),
        ("attention.wk.weight", Known::KeyValue("wk.weight")),
        ("attention.wv.weight", Known::KeyValue("wv.weight")),
        ("attention.wo.weight", Known::Columns),
        ("feed_forward.w1.weight", Known::Rows),
        ("feed_forward.w3.weight", Known::Rows),
        ("feed_forward.w2.weight", Known::Columns),
    ],
};

/// Whether a name is, or ends behind a dot with, `end`.
fn ends_with(name: &str, end: &str) -> bool {
    name.strip_suffix(end).is_some_and(|before| before.is_empty() || before.ends_with('.'))
}

impl Table {
    fn known(&self, name: &str) -> Option<Known> {
        self.ends.iter().find(|(end, _)| ends_with(name, end)).map(|(_, known)| *known)
    }
}

/// Shapes in the first rank's file, by name.
pub(super) type Shapes = HashMap<String, Vec<u64>>;

/// Meta's table, where files of so many ranks have the names of a Llama and are parts of it, and not each the whole. The
/// error says what is missing.
pub(super) fn llama(shapes: &Shapes, ranks: u64) -> Result<Option<&'static Table>, String> {
    let width = |query: &str| {
        let before = query.split_once("layers.")?.0;
        shapes.get(&format!("{before}norm.weight"))?.first().copied()
    };
    let queries = shapes.iter().filter(|(name, _)| ends_with(name, "attention.wq.weight"));
    let found = queries.filter_map(|(name, shape)| Some((name, *shape.first()?, width(name)?))).min();
    let Some((name, rows, width)) = found else { return Ok(None) };
    if rows == width {
        return Ok(None);
    }
    match rows.checked_mul(ranks) {
        Some(all) if all == width => Ok(Some(&LLAMA)),
        _ => Err(format!(
            "{ranks} ranks with {rows} rows each of {name}, which should have {width}: not all ranks are here"
        )),
    }
}

/// What cuts the tensors of one checkpoint.
pub(super) struct Cutter {
    rules: Vec<(GlobMatcher, Cut, bool)>,
    pub table: Option<&'static Table>,
    /// `checkpoint_version`, where the files have one.
    pub version: Option<f64>,
    /// Attention heads, and those of keys and values, as `params.json` has them.
    pub heads: Option<(u64, u64)>,
    /// Tensors that were cut by the table.
    cut: u64,
}

impl Cutter {
    /// The rules of whoever opens the files, and those of a program. Fails for a rule that is no glob.
    pub(crate) fn new(rules: &TensorParallel, table: Option<&'static Table>) -> Result<Self> {
        let rules = rules.rules.iter().map(|rule| {
            let glob = GlobBuilder::new(&rule.glob).literal_separator(false).build();
            let glob = glob.map_err(|e| Error::refused(format!("{:?} is no glob: {}", rule.glob, e.kind())))?;
            Ok((glob.compile_matcher(), rule.cut, false))
        });
        let rules = rules.collect::<Result<_>>()?;
        Ok(Cutter { rules, table, version: None, heads: None, cut: 0 })
    }

    /// Fails where there are rules and none matched anything.
    pub(crate) fn check_used(&self) -> Result<()> {
        match self.rules.as_slice() {
            [] => Ok(()),
            rules if rules.iter().any(|(.., used)| *used) => Ok(()),
            _ => Err(Error::refused(Setting::TpRule.then(
                " holds no rule that matches a tensor whose file does not say how \
                                                        it is cut",
            ))),
        }
    }

    /// What is known of a tensor that says nothing itself; `shapes` are those of the first rank, of `ranks`.
    fn cut_of(&mut self, name: &str, ranks: u64, shapes: &Shapes) -> Result<Cut, String> {
        if let Some((_, cut, used)) = self.rules.iter_mut().find(|(glob, ..)| glob.is_match(name)) {
            *used = true;
            return Ok(*cut);
        }
        let Some(known) = self.table.and_then(|table| table.known(name)) else { return Ok(Cut::Replicate) };
        self.cut += 1;
        let (rows, columns) = (Cut::Dim { dim: 0, blocks: 1 }, Cut::Dim { dim: 1, blocks: 1 });
        let shape = shapes.get(name).map(Vec::as_slice).unwrap_or_default();
        match known {
            Known::Rows => Ok(rows),
            Known::Columns => Ok(columns),
            Known::QueryKeyValue => match self.version {
                Some(version) if version >= 1.0 => Ok(rows),
                Some(_) => Ok(Cut::Dim { dim: 0, blocks: 3 }),
                None => {
                    Err("is cut in an order that checkpoint_version says, which is missing; a rule of yours has to \
                             say it (dimension 0, or 0/3 before version 1)"
                        .into())
                }
            },
            Known::Gated(own, sibling) => {
                let other = name.strip_suffix(own).map(|before| format!("{before}{sibling}"));
                let inner = other.and_then(|other| shapes.get(&other)?.get(1).copied());
                match (shape.first(), inner) {
                    (Some(outer), Some(inner)) if *outer == inner => Ok(rows),
                    (Some(outer), Some(inner)) if inner.checked_mul(2) == Some(*outer) => {
                        Ok(Cut::Dim { dim: 0, blocks: 2 })
                    }
                    _ => Err(format!("has neither as many rows as {sibling} has columns nor twice as many")),
                }
            }
            Known::KeyValue(own) => {
                let query = name.strip_suffix(own).and_then(|before| shapes.get(&format!("{before}wq.weight")));
                let (Some(here), Some(queries)) = (shape.first(), query.and_then(|shape| shape.first())) else {
                    return Err("has no wq.weight beside it".into());
                };
                let heads = self.heads.filter(|(all, own)| *all > 0 && *own > 0);
                match heads {
                    // as many rows of keys as of queries for each head
                    Some((all, own)) if here.checked_mul(all) == queries.checked_mul(own) => Ok(rows),
                    None if here == queries => Ok(rows),
                    Some((_, own)) => Err(format!(
                        "has {here} rows in each of {ranks} ranks, which are not those of {own} \
                                                   heads cut once: ranks that share a head are not put together"
                    )),
                    None => {
                        Err("has fewer rows than wq.weight, and no params.json says how many heads there are".into())
                    }
                }
            }
            Known::Embedding => {
                let before = name.strip_suffix("tok_embeddings.weight").unwrap_or_default();
                let width = shapes.get(&format!("{before}norm.weight")).and_then(|shape| shape.first().copied());
                match (shape.get(1), width) {
                    (Some(columns), Some(width)) if *columns == width => Ok(rows),
                    (Some(here), Some(width)) if here.checked_mul(ranks) == Some(width) => Ok(columns),
                    _ => Err("is not as wide as norm.weight, neither in each rank nor together".into()),
                }
            }
        }
    }

    /// Says of tensors that say nothing themselves what they are a part of, in as many ranks.
    pub(crate) fn place(
        &mut self,
        checkpoint: &Checkpoint,
        name: &str,
        ranks: Vec<OfRank>,
        shapes: &Shapes,
    ) -> Result<Vec<OfRank>, String> {
        if !ranks.iter().all(|(_, part)| matches!(part, Part::Plain(_))) {
            return Ok(ranks);
        }
        let count = ranks.len() as u64;
        let Cut::Dim { dim, blocks } = self.cut_of(name, count, shapes)? else { return Ok(ranks) };
        let mut first: Option<(Vec<u64>, Arc<str>)> = None;
        let mut placed = Vec::new();
        for (number, (file, part)) in (0..).zip(ranks) {
            let Part::Plain(id) = part else { continue };
            let shape = shape_of(checkpoint, id).map_err(|why| format!("{file}: {why}"))?;
            let (known, in_first) = first.get_or_insert_with(|| (shape.clone(), Arc::clone(&file)));
            if *known != shape {
                return Err(format!("is of shape {known:?} in {in_first} and {shape:?} in {file}"));
            }
            let extent = shape.get(dim).copied().ok_or_else(|| format!("has no dimension {dim} to be cut along"))?;
            if extent % blocks != 0 {
                return Err(format!("has {extent} of dimension {dim}, which are not {blocks} blocks"));
            }
            let whole = extent.checked_mul(count).ok_or("has more elements than 64 bits can count")?;
            let mut pieces: Vec<Pieces> = shape.iter().map(|extent| Pieces::whole(*extent)).collect();
            let own = Pieces::whole(whole).strided(number, count, blocks)?;
            pieces.iter_mut().skip(dim).take(1).for_each(|pieces| *pieces = own.clone());
            let mut shape = shape;
            shape.iter_mut().skip(dim).take(1).for_each(|extent| *extent = whole);
            placed.push((file, Part::Placed { mesh: vec![count], shape, held: vec![(pieces, id)], or_else: None }));
        }
        Ok(placed)
    }

    /// What people are told of the rules that were used, and of those that were not.
    pub(crate) fn notes(&self, ranks: usize) -> Vec<String> {
        let table = self.table.filter(|_| self.cut > 0 && ranks > 1);
        let table = table.map(|table| {
            let (name, cut) = (table.name, self.cut);
            format!(
                "{cut} tensors of {ranks} ranks are put together by {name} rules; the others must be the same in all"
            )
        });
        let unused: Vec<&str> =
            self.rules.iter().filter(|(.., used)| !used).map(|(glob, ..)| glob.glob().glob()).collect();
        let unused = (!unused.is_empty()).then(|| format!("rules that match no tensor: {}", unused.join(", ")));
        table.into_iter().chain(unused).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_are_whole_elements() {
        assert!(ends_with("a.b.weight", "b.weight") && ends_with("b.weight", "b.weight"));
        assert!(!ends_with("a.bb.weight", "b.weight"));
        assert_eq!(MEGATRON.known("model.x.self_attention.dense.weight"), Some(Known::Columns));
        assert_eq!(MEGATRON.known("model.x.mlp.experts.local_experts.0.linear_fc1.weight"), None);
    }
}
