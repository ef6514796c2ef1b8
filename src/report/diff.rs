//! What differs between two checkpoints: the JSON schema `ckpt.diff/1`, and beside it what only people are shown (skipped
//! in JSON).

mod layout;

use serde_json::Value;

use crate::checkpoint::edit::rules::Step;
use crate::message::{Message, Note};

/// Two checkpoints compared. Fields stand in the order of the JSON; lists are in file order, of A where it has the name.
#[derive(Debug, Clone, Default, serde::Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Diff {
    /// Always [`Diff::SCHEMA`].
    pub schema: &'static str,
    /// The first input as given.
    pub a: String,
    /// The second one.
    pub b: String,
    /// No difference that counts, and nothing that could not be read.
    pub equal: bool,
    /// Names of tensors and values that only A has.
    pub only_a: Vec<OneSided>,
    /// Names of tensors and values that only B has.
    pub only_b: Vec<OneSided>,
    /// Tensors of one name that differ.
    pub changed: Vec<Changed>,
    /// Other values, and the classes of modules, of one name that differ.
    pub values: Vec<ValueChange>,
    /// Tensors that are on each side under another name.
    pub renamed: Vec<Renamed>,
    /// Tensors without any difference.
    pub same: u64,
    /// Other values without any difference.
    pub same_values: u64,
    /// How long the lists are, however many of their entries are shown.
    pub counts: Counts,
    /// Tensors and values whose data cannot be compared, and why.
    pub problems: Vec<Problem>,
    /// The one prefix that explains the renamed tensors.
    pub strip_prefix: Option<StripPrefix>,
    /// Worth knowing about the files, before anything else.
    #[serde(skip)]
    pub notes: Vec<Note>,
    /// No tensor's data was looked at.
    #[serde(skip)]
    pub structure_only: bool,
    /// What `load_state_dict` of A into B would find: people read it in torch's words.
    #[serde(skip)]
    pub is_load: bool,
    /// People are shown the summary alone.
    #[serde(skip)]
    pub summary_only: bool,
}

/// A name that one side has, shown with what it stands for.
#[derive(Debug, Clone, serde::Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(transparent)]
pub struct OneSided {
    /// The name.
    pub name: String,
    /// A tensor's dtype and shape, a value's type and `repr`.
    #[serde(skip)]
    pub shown: [String; 2],
}

/// A tensor that both have, with a difference.
#[derive(Debug, Clone, serde::Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Changed {
    /// Its name.
    pub name: String,
    /// In which respects.
    pub what: Vec<Aspect>,
    /// In the first file.
    pub a: Facts,
    /// In the second.
    pub b: Facts,
    /// Where the elements were compared; null in JSON where it was not.
    #[serde(flatten)]
    pub numbers: Numbers,
}

/// In which respect tensors differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs)]
pub enum Aspect {
    Shape,
    Dtype,
    Device,
    RequiresGrad,
    /// Strided or one of the sparse layouts.
    Layout,
    /// Scale and zero point.
    Quantizer,
    /// The elements.
    Values,
}

/// What a file says of a tensor.
#[derive(Debug, Clone, Default, PartialEq, serde::Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Facts {
    /// torch's name of it.
    pub dtype: String,
    /// Elements in each dimension.
    pub shape: Vec<i64>,
    /// The device, where the format says.
    pub device: Option<String>,
    /// As pickled, where the format says.
    pub requires_grad: Option<bool>,
    /// `strided`, `sparse_coo`, ….
    pub layout: &'static str,
    /// How it is quantized.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub quantizer: Option<String>,
}

/// Elements `a` and `b` compared. JSON has null for what is not finite; where a NaN makes a difference, that is all but the
/// counts.
#[derive(Debug, Clone, Default, serde::Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Numbers {
    /// The largest `|a - b|`.
    pub max_abs: Option<f64>,
    /// The mean of `|a - b|` over all elements.
    pub mean_abs: Option<f64>,
    /// The largest `|a - b| / |b|`.
    pub max_rel: Option<f64>,
    /// The cosine of the angle between them as vectors.
    pub cosine: Option<f64>,
    /// Elements that are not equal.
    pub differing: Option<u64>,
    /// Those of them that differ by a NaN.
    pub nan: Option<u64>,
    /// Elements in all.
    pub total: Option<u64>,
}

/// A value that differs: as JSON where that holds both sides exactly, else both as Python's `repr`.
#[derive(Debug, Clone, serde::Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct ValueChange {
    /// Its name.
    pub name: String,
    /// In the first file.
    pub a: Value,
    /// In the second.
    pub b: Value,
    /// Both as people see them, shortened to where they differ.
    #[serde(skip)]
    pub shown: [String; 2],
}

/// The same tensor under two names.
#[derive(Debug, Clone, serde::Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Renamed {
    /// Its name in the first file.
    pub a: String,
    /// In the second.
    pub b: String,
}

/// Lengths of the lists.
#[derive(Debug, Clone, Default, serde::Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[allow(missing_docs)]
pub struct Counts {
    pub only_a: u64,
    pub only_b: u64,
    pub changed: u64,
    pub values: u64,
    pub renamed: u64,
    /// Changed tensors by what is shown of them: facts, elements.
    #[serde(skip)]
    pub shown: [u64; 2],
}

/// What could not be compared.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Problem {
    /// The file it is in.
    pub file: String,
    /// The tensor or value.
    pub name: String,
    /// What is wrong with it.
    #[cfg_attr(test, schemars(with = "String"))]
    pub problem: Message,
}

/// A prefix that the names of one file have and those of the other have not.
#[derive(Debug, Clone, serde::Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct StripPrefix {
    /// The file with the prefix.
    pub file: String,
    /// The prefix.
    pub prefix: String,
    /// The edit that removes it for good; `None` while the elements differ as well.
    #[serde(skip)]
    pub step: Option<Step>,
    /// The command that makes the edit, where the report is for people who type some: an operation leaves that open.
    pub command: Option<String>,
}

/// By what changed tensors are sorted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum SortBy {
    /// As they stand in the first file.
    #[default]
    File,
    /// Largest relative change first; a changed shape is larger than any, then a new NaN.
    Change,
}

impl Changed {
    fn differs_in_facts(&self) -> bool {
        self.what.iter().any(|aspect| *aspect != Aspect::Values)
    }

    fn differs_in_elements(&self) -> bool {
        self.what.contains(&Aspect::Values)
    }
}

impl Diff {
    /// The name of the JSON schema.
    pub(crate) const SCHEMA: &'static str = "ckpt.diff/1";

    /// Counts the lists and says whether there was any difference.
    pub(crate) fn conclude(&mut self) {
        let len = |n: usize| n as u64;
        self.counts = Counts {
            only_a: len(self.only_a.len()),
            only_b: len(self.only_b.len()),
            changed: len(self.changed.len()),
            values: len(self.values.len()),
            renamed: len(self.renamed.len()),
            shown: [Changed::differs_in_facts, Changed::differs_in_elements]
                .map(|is_shown| len(self.changed.iter().filter(|changed| is_shown(changed)).count())),
        };
        self.equal = self.differences() == 0 && self.problems.is_empty();
    }

    /// How many differences there are, of any kind.
    pub(crate) fn differences(&self) -> u64 {
        let counts = &self.counts;
        counts.only_a + counts.only_b + counts.changed + counts.values + counts.renamed
    }

    /// Sorts the changed tensors, stably.
    pub(crate) fn sort(&mut self, by: SortBy) {
        if by == SortBy::Change {
            let size = |changed: &Changed| {
                let numbers = &changed.numbers;
                let or_more = |x: Option<f64>| x.unwrap_or(f64::INFINITY);
                match changed.what.contains(&Aspect::Shape) {
                    true => (2, [f64::INFINITY; 2]),
                    false if numbers.nan.is_some_and(|nan| nan > 0) => (1, [f64::INFINITY; 2]),
                    false if numbers.total.is_some() => (0, [or_more(numbers.max_rel), or_more(numbers.max_abs)]),
                    false => (0, [0.0; 2]),
                }
            };
            self.changed.sort_by(|x, y| {
                let ((kind_x, [rel_x, abs_x]), (kind_y, [rel_y, abs_y])) = (size(x), size(y));
                kind_y.cmp(&kind_x).then(rel_y.total_cmp(&rel_x)).then(abs_y.total_cmp(&abs_x))
            });
        }
    }

    /// Keeps the first `most` entries of each list; the counts stay.
    pub(crate) fn keep_top(&mut self, most: usize) {
        self.only_a.truncate(most);
        self.only_b.truncate(most);
        self.changed.truncate(most);
        self.values.truncate(most);
        self.renamed.truncate(most);
    }
}
