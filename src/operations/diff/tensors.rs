//! Tensors of one name: what the files say of them, then their elements.

use std::collections::{HashMap, HashSet};

use rayon::prelude::*;

use super::Answer;
use super::comparing::Comparing;
use super::side::{Aligned, Side, dtype_name};
use crate::checkpoint::tensor::{Data, Quantizer, View};
use crate::checkpoint::{StorageId, Tensor, equality::Equality};
use crate::data::Elements;
use crate::data::compare::{Comparison, compare};
use crate::data::gather::for_each_block;
use crate::error::{Error, ErrorKind, Result};
use crate::progress::Progress;
use crate::report::diff::{Aspect, Changed, Diff, Facts, Numbers, Problem};

/// What reading two tensors showed.
#[derive(Debug, Clone, Default)]
struct Outcome {
    numbers: Numbers,
    elements_differ: bool,
    quantizer_differs: bool,
}

/// The pairs whose data is to be read; pairs of the same views share one job.
#[derive(Debug, Default)]
pub(crate) struct Jobs {
    work: Vec<(usize, usize)>,
    /// For each pair of the pairing.
    of_pair: Vec<Option<usize>>,
}

/// One pair with its names.
struct Pair<'a> {
    names: [&'a Aligned; 2],
    a: &'a Tensor,
    b: &'a Tensor,
}

impl<'a> Comparing<'a> {
    fn tensor_pair(&self, (a, b): (usize, usize)) -> Option<Pair<'_>> {
        let names = [self.left.tensors.get(a)?, self.right.tensors.get(b)?];
        Some(Pair { names, a: self.left.tensor(names[0])?, b: self.right.tensor(names[1])? })
    }

    /// What has to be read, in file order.
    pub(crate) fn jobs(&self) -> Jobs {
        let mut jobs = Jobs::default();
        let mut known: HashMap<(View, View), usize> = HashMap::new();
        let (shared_a, shared_b) = (shared_storages(&self.left), shared_storages(&self.right));
        let shares = |tensor: &Tensor, shared: &HashSet<StorageId>| {
            // quantized tensors have more to them than their view
            tensor.quantizer.is_none() && tensor.storage().is_some_and(|id| shared.contains(&id))
        };
        for indexes in &self.tensors.both {
            let readable = self.tensor_pair(*indexes).filter(|pair| {
                let sound = pair.a.problem.is_none() && pair.b.problem.is_none();
                self.criteria.reads_data && sound && pair.a.shape == pair.b.shape
            });
            let job = readable.map(|pair| {
                let work = &mut jobs.work;
                let mut add = || {
                    work.push(*indexes);
                    work.len() - 1
                };
                let is_shared = shares(pair.a, &shared_a) && shares(pair.b, &shared_b);
                match pair.a.view().zip(pair.b.view()).filter(|_| is_shared) {
                    Some(views) => *known.entry(views).or_insert_with(add),
                    None => add(),
                }
            });
            jobs.of_pair.push(job);
        }
        jobs
    }

    /// How many bytes there are to read.
    pub(crate) fn bytes(&self, jobs: &Jobs) -> u64 {
        let bytes = |tensor: &Tensor| tensor.bytes().unwrap_or(0);
        let pairs = jobs.work.iter().filter_map(|indexes| self.tensor_pair(*indexes));
        pairs.map(|pair| bytes(pair.a).saturating_add(bytes(pair.b))).fold(0, u64::saturating_add)
    }

    /// Reads everything on all cores and writes what differs into `diff`, in file order.
    pub(crate) fn compare_tensors(&self, jobs: &Jobs, progress: &dyn Progress, diff: &mut Diff) {
        let outcomes: Vec<_> =
            jobs.work.par_iter().with_max_len(1).map(|indexes| self.outcome(*indexes, progress)).collect();
        for (indexes, job) in self.tensors.both.iter().zip(&jobs.of_pair) {
            let Some(pair) = self.tensor_pair(*indexes) else { continue };
            let mut what = self.facts_that_differ(&pair);
            let outcome = match job.and_then(|job| outcomes.get(job)) {
                Some(Ok(outcome)) => outcome.clone(),
                Some(Err(problem)) => {
                    let name = pair.names[0].name.clone();
                    diff.problems.push(Problem { name, ..problem.clone() });
                    Outcome::default()
                }
                None => Outcome::default(),
            };
            if outcome.quantizer_differs && !what.contains(&Aspect::Quantizer) {
                what.push(Aspect::Quantizer);
            }
            if outcome.elements_differ {
                what.push(Aspect::Values);
            }
            let is_compared = job.is_some_and(|job| outcomes.get(job).is_some_and(Result::is_ok));
            if !what.is_empty() {
                diff.changed.push(self.changed(&pair, what, outcome.numbers));
            } else if is_compared || !self.criteria.reads_data {
                diff.same += 1;
            }
        }
    }

    /// What the first pair in file order says whose elements differ or cannot be compared.
    pub(crate) fn first_tensor(&self, jobs: &Jobs, progress: &dyn Progress) -> Answer {
        let answer = |indexes: &(usize, usize)| match self.outcome(*indexes, progress) {
            Ok(outcome) => (outcome.elements_differ || outcome.quantizer_differs).then_some(Answer::Different),
            Err(problem) => Some(Answer::Unknown(vec![problem])),
        };
        jobs.work.par_iter().with_max_len(1).find_map_first(answer).unwrap_or(Answer::Equal)
    }

    /// Whether the files say different things of any pair.
    pub(crate) fn facts_differ(&self) -> bool {
        let mut pairs = self.tensors.both.iter().filter_map(|indexes| self.tensor_pair(*indexes));
        pairs.any(|pair| !self.facts_that_differ(&pair).is_empty())
    }

    /// In which respects the files say different things. What one format does not say is no difference.
    fn facts_that_differ(&self, pair: &Pair<'_>) -> Vec<Aspect> {
        let (a, b, criteria) = (pair.a, pair.b, &self.criteria);
        let shapes_differ = a.shape != b.shape;
        if criteria.load {
            // torch takes tensors of one element from before 0.4, when there were no scalars
            let fits = !shapes_differ || b.shape.is_empty() && a.shape.len() == 1;
            return if fits { Vec::new() } else { vec![Aspect::Shape] };
        }
        let device = a.device.as_ref().zip(b.device.as_ref()).map(|(a, b)| a != b);
        let requires_grad = a.requires_grad.zip(b.requires_grad).map(|(a, b)| a != b);
        let found = [
            (Aspect::Shape, shapes_differ),
            (Aspect::Dtype, criteria.dtypes_count && a.dtype != b.dtype),
            (Aspect::Layout, a.layout != b.layout),
            (Aspect::Quantizer, self.quantizers_differ(a.quantizer.as_deref(), b.quantizer.as_deref())),
            (Aspect::Device, criteria.devices_count && device.unwrap_or(false)),
            (Aspect::RequiresGrad, criteria.gradients_count && requires_grad.unwrap_or(false)),
        ];
        found.into_iter().filter(|(_, differs)| *differs).map(|(aspect, _)| aspect).collect()
    }

    /// As far as can be said without reading scales that are tensors.
    fn quantizers_differ(&self, a: Option<&Quantizer>, b: Option<&Quantizer>) -> bool {
        let (Some(a), Some(b)) = (a, b) else { return a.is_some() != b.is_some() };
        let (x, y) = (self.left.checkpoint.objects(), self.right.checkpoint.objects());
        let equality = Equality { a: x, b: y, options: &self.criteria.elements, limits: &self.criteria.limits };
        let plain = |(a, b): (&_, &_)| !x.is_value(*a) || equality.same(*a, *b).unwrap_or(false);
        let same = a.scheme == b.scheme
            && a.arguments.len() == b.arguments.len()
            && a.arguments.iter().zip(&b.arguments).all(plain);
        !same
    }

    fn changed(&self, pair: &Pair<'_>, what: Vec<Aspect>, numbers: Numbers) -> Changed {
        let facts = |side: &Side<'_>, tensor: &Tensor| Facts {
            dtype: dtype_name(tensor),
            shape: tensor.shape.to_vec(),
            device: tensor.device.as_deref().map(str::to_owned),
            requires_grad: tensor.requires_grad,
            layout: tensor.layout,
            quantizer: tensor.quantizer.as_ref().map(|quantizer| side.checkpoint.objects().quantizer(quantizer)),
        };
        let (a, b) = (facts(&self.left, pair.a), facts(&self.right, pair.b));
        Changed { name: pair.names[0].name.clone(), what, a, b, numbers }
    }

    fn outcome(&self, indexes: (usize, usize), progress: &dyn Progress) -> std::result::Result<Outcome, Problem> {
        let Some(pair) = self.tensor_pair(indexes) else { return Ok(Outcome::default()) };
        let mut outcome = self.data_of(&pair, pair.a, pair.b, progress)?;
        for (a, b) in scales(&self.left, pair.a).zip(scales(&self.right, pair.b)) {
            outcome.quantizer_differs |= a.shape != b.shape || self.data_of(&pair, a, b, progress)?.elements_differ;
        }
        Ok(outcome)
    }

    /// The elements of two tensors of one shape; `pair` is what they belong to.
    fn data_of(
        &self,
        pair: &Pair<'_>,
        a: &Tensor,
        b: &Tensor,
        progress: &dyn Progress,
    ) -> std::result::Result<Outcome, Problem> {
        let differs = || Outcome { elements_differ: true, ..Outcome::default() };
        match (&a.data, &b.data) {
            (Data::Nothing, Data::Nothing) => Ok(Outcome::default()),
            (Data::Parts(x), Data::Parts(y)) if a.layout == b.layout && x.len() == y.len() => {
                let (x_tensors, y_tensors) = (&self.left.checkpoint.tensors, &self.right.checkpoint.tensors);
                let parts = x.iter().map(|node| x_tensors.get(x_tensors.of(*node)?));
                let mut all = Outcome::default();
                for (x, y) in parts.zip(y.iter().map(|node| y_tensors.get(y_tensors.of(*node)?))) {
                    let (Some(x), Some(y)) = (x, y) else { return Ok(differs()) };
                    // numbers say something while what was before (indices) is the same; values come last
                    if all.elements_differ || x.shape != y.shape {
                        return Ok(differs());
                    }
                    all = self.data_of(pair, x, y, progress)?;
                }
                Ok(all)
            }
            (Data::Nothing | Data::Parts(_), _) | (_, Data::Nothing | Data::Parts(_)) => {
                Ok(if a.numel() == Some(0) { Outcome::default() } else { differs() })
            }
            _ => self.elements(pair, a, b, progress),
        }
    }

    fn elements(
        &self,
        pair: &Pair<'_>,
        a: &Tensor,
        b: &Tensor,
        progress: &dyn Progress,
    ) -> std::result::Result<Outcome, Problem> {
        let [name_a, name_b] = pair.names;
        let mut a = a.readable(&self.left.checkpoint.storages).map_err(|e| self.left.problem(name_a, &e))?;
        let mut b = b.readable(&self.right.checkpoint.storages).map_err(|e| self.right.problem(name_b, &e))?;
        let times = collapse(&mut a, &mut b);
        let limits = &self.criteria.limits;
        match compare(&a, &b, limits, &self.criteria.elements, progress) {
            Ok(comparison) => {
                let numbers = numbers(&comparison, times);
                Ok(Outcome { elements_differ: !comparison.equal(), numbers, quantizer_differs: false })
            }
            Err(e) if e.kind() == ErrorKind::Unsupported => Ok(Outcome { elements_differ: true, ..Outcome::default() }),
            Err(e) => {
                let is_left = for_each_block::<Error>(&a, limits, &mut |_| Ok(())).is_err();
                let (side, name) = if is_left { (&self.left, name_a) } else { (&self.right, name_b) };
                Err(side.problem(name, &e.beside_its_part()))
            }
        }
    }
}

/// The scales and zero points of a quantized tensor that are tensors.
fn scales<'a>(side: &Side<'a>, tensor: &'a Tensor) -> impl Iterator<Item = &'a Tensor> {
    let arguments = tensor.quantizer.iter().flat_map(|quantizer| &quantizer.arguments);
    let tensors = &side.checkpoint.tensors;
    arguments.filter_map(|node| tensors.get(tensors.of(*node)?))
}

/// Storages in which several tensors of a side lie: elsewhere no two names can share elements.
fn shared_storages(side: &Side<'_>) -> HashSet<StorageId> {
    let mut seen = HashSet::new();
    let storages = side.tensors.iter().filter_map(|named| side.tensor(named)?.storage());
    storages.filter(|id| !seen.insert(*id)).collect()
}

/// Dimensions that both sides only repeat are looked at once. Gives how often each element then stands.
fn collapse(a: &mut Elements, b: &mut Elements) -> u64 {
    let strides = a.stride.iter().zip(&b.stride);
    let extents = a.shape.iter_mut().zip(&mut b.shape);
    let repeated = extents.zip(strides).filter(|((x, y), strides)| **x > 1 && x == y && *strides == (&0, &0));
    repeated.fold(1, |times: u64, ((x, y), _)| {
        let times = times.saturating_mul(*x);
        (*x, *y) = (1, 1);
        times
    })
}

fn numbers(comparison: &Comparison, times: u64) -> Numbers {
    Numbers {
        max_abs: comparison.max_abs,
        mean_abs: comparison.mean_abs,
        max_rel: comparison.max_rel,
        cosine: comparison.cosine,
        differing: Some(comparison.differing.saturating_mul(times)),
        nan: Some(comparison.nan.saturating_mul(times)),
        total: Some(comparison.total.saturating_mul(times)),
    }
}
