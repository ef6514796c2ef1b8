//! Tensors that are on each side under another name: found by their elements.
//!
//! Only tensors of one dtype and shape are held against each other; their first elements tell most of them apart, and
//! what is still alike is compared, or hashed where there are several. The work is linear in the bytes of what has no
//! partner.

use std::collections::{HashMap, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};

use rayon::prelude::*;

use super::criteria::Criteria;
use super::pairs::Pairing;
use super::prefix::{Prefix, by_names};
use super::side::{Aligned, Side};
use crate::data::Elements;
use crate::data::compare::{Options, compare};
use crate::data::gather::for_each_block_in;
use crate::data::hash::sha256;
use crate::dtype::DType;
use crate::error::Result;
use crate::progress::Progress;
use crate::report::diff::{Problem, Renamed};

/// Which tensors of A are which of B, as indexes into the sides' tensors.
#[derive(Debug, Default)]
pub(crate) struct Renames {
    /// From A to B.
    pub a: HashMap<usize, usize>,
    /// Those of B.
    pub b: HashSet<usize>,
    /// What explains the names.
    pub prefix: Option<Prefix>,
    /// It explains all that were found by their elements, and there are some.
    pub is_proven: bool,
}

impl Renames {
    /// The names, in the order of A.
    pub(crate) fn pairs(&self, left: &Side<'_>, right: &Side<'_>) -> Vec<Renamed> {
        let mut pairs: Vec<(&usize, &usize)> = self.a.iter().collect();
        pairs.sort_unstable();
        let name = |side: &Side<'_>, index: &usize| side.tensors.get(*index).map(|named| named.name.clone());
        let renamed = |(a, b)| Some(Renamed { a: name(left, a)?, b: name(right, b)? });
        pairs.into_iter().filter_map(renamed).collect()
    }
}

/// A tensor without a partner.
struct Lone<'a> {
    is_left: bool,
    index: usize,
    named: &'a Aligned,
    elements: Elements,
    fingerprint: u64,
}

/// Elements that are enough to tell most tensors apart.
const FIRST_ELEMENTS: u64 = 4096;

/// Looks among the names that only one side has. What cannot be read goes into `problems`.
pub(crate) fn find_renames(
    (left, right): (&Side<'_>, &Side<'_>),
    tensors: &Pairing,
    criteria: &Criteria,
    progress: &dyn Progress,
    problems: &mut Vec<Problem>,
) -> Renames {
    let (only_a, only_b) = (&tensors.only_a, &tensors.only_b);
    if only_a.is_empty() || only_b.is_empty() {
        return Renames::default();
    }
    let names_a: Vec<&Aligned> = only_a.iter().filter_map(|index| left.tensors.get(*index)).collect();
    let names_b: Vec<&Aligned> = only_b.iter().filter_map(|index| right.tensors.get(*index)).collect();
    let same_shape =
        |a: &Aligned, b: &Aligned| left.tensor(a).zip(right.tensor(b)).is_some_and(|(a, b)| a.shape == b.shape);
    let mut renames = Renames { prefix: by_names(&names_a, &names_b, same_shape), ..Renames::default() };
    if criteria.reads_data {
        let mut search = Search { left, right, tensors, criteria, progress, problems };
        for class in search.classes() {
            renames.add(&class);
        }
    }
    renames.explain(left, right);
    renames
}

impl Renames {
    /// Pairs tensors of the same elements: by name where the prefix explains it, the others in order.
    fn add(&mut self, class: &[Lone<'_>]) {
        let (left, right): (Vec<&Lone<'_>>, Vec<&Lone<'_>>) = class.iter().partition(|lone| lone.is_left);
        let mut rest = [left, right];
        if let Some(prefix) = self.prefix.as_ref().filter(|_| class.len() > 2) {
            let [a, b] = [&rest[0], &rest[1]].map(|side| side.iter().map(|lone| lone.named).collect::<Vec<_>>());
            for (a, b) in prefix.align(&a, &b) {
                if let Some((a, b)) = rest[0].get(a).zip(rest[1].get(b)) {
                    self.a.insert(a.index, b.index);
                    self.b.insert(b.index);
                }
            }
            rest[0].retain(|lone| !self.a.contains_key(&lone.index));
            rest[1].retain(|lone| !self.b.contains(&lone.index));
        }
        for (a, b) in rest[0].iter().zip(&rest[1]) {
            self.a.insert(a.index, b.index);
            self.b.insert(b.index);
        }
    }

    /// Finds the one prefix of all pairs, if there is one.
    fn explain(&mut self, left: &Side<'_>, right: &Side<'_>) {
        let named = |(a, b): (&usize, &usize)| left.tensors.get(*a).zip(right.tensors.get(*b));
        let pairs: Vec<(&Aligned, &Aligned)> = self.a.iter().filter_map(named).collect();
        let explains = |prefix: &Prefix| pairs.iter().all(|(a, b)| prefix.explains(&a.name, &b.name));
        if self.prefix.is_none() {
            self.prefix = pairs.first().and_then(|(a, b)| Prefix::between(a, b)).filter(explains);
        }
        self.is_proven = !pairs.is_empty() && self.prefix.as_ref().is_some_and(explains);
    }
}

struct Search<'a> {
    left: &'a Side<'a>,
    right: &'a Side<'a>,
    tensors: &'a Pairing,
    criteria: &'a Criteria,
    progress: &'a dyn Progress,
    problems: &'a mut Vec<Problem>,
}

impl<'a> Search<'a> {
    /// Groups of tensors whose elements are the same, each with some of both sides, all in file order.
    fn classes(&mut self) -> Vec<Vec<Lone<'a>>> {
        let mut lone = Vec::new();
        let (a, b) = (&self.tensors.only_a, &self.tensors.only_b);
        for (side, indexes, is_left) in [(self.left, a, true), (self.right, b, false)] {
            for index in indexes {
                let Some(named) = side.tensors.get(*index) else { continue };
                let Some(tensor) = side.tensor(named).filter(|tensor| tensor.quantizer.is_none()) else { continue };
                if let Ok(elements) = tensor.readable(&side.checkpoint.storages) {
                    lone.push(Lone { is_left, index: *index, named, elements, fingerprint: 0 });
                }
            }
        }
        let mut lone: Vec<Lone<'a>> = groups(lone, |lone| (lone.elements.dtype.clone(), lone.elements.shape.clone()))
            .into_iter()
            .flatten()
            .collect();
        let prints: Vec<_> = lone.par_iter().with_max_len(1).map(|lone| self.fingerprint(lone)).collect();
        let mut read = self.without_problems(&mut lone, prints);
        read.iter_mut().for_each(|(lone, print)| lone.fingerprint = *print);
        let alike = groups(read.into_iter().map(|(lone, _)| lone).collect(), |lone| {
            let key: (DType, Vec<u64>, u64) =
                (lone.elements.dtype.clone(), lone.elements.shape.clone(), lone.fingerprint);
            key
        });
        let same: Vec<_> = alike.par_iter().with_max_len(1).map(|group| self.is_same_pair(group)).collect();
        let (mut classes, mut crowd) = (Vec::new(), Vec::new());
        for (group, same) in alike.into_iter().zip(same) {
            match same {
                Some(true) => classes.push(group),
                Some(false) => {}
                None => crowd.extend(group),
            }
        }
        let hashes: Vec<_> = crowd.par_iter().with_max_len(1).map(|lone| self.sha256(lone)).collect();
        let hashed = self.without_problems(&mut crowd, hashes);
        let by_hash = groups(hashed, |(lone, hash)| (lone.elements.dtype.clone(), lone.elements.shape.clone(), *hash));
        classes.extend(by_hash.into_iter().map(|group| group.into_iter().map(|(lone, _)| lone).collect()));
        classes
    }

    fn fingerprint(&self, lone: &Lone<'_>) -> Result<u64> {
        let mut hasher = DefaultHasher::new();
        for_each_block_in(&lone.elements, &self.criteria.limits, 0..FIRST_ELEMENTS, &mut |block| {
            block.hash(&mut hasher);
            Ok(())
        })?;
        Ok(hasher.finish())
    }

    fn sha256(&self, lone: &Lone<'_>) -> Result<[u8; 32]> {
        sha256(&lone.elements, &self.criteria.limits, self.progress)
    }

    /// Whether two are the same to their last element. `None` for more than two, and for what cannot be read: hashing
    /// tells which one that is.
    fn is_same_pair(&self, group: &[Lone<'_>]) -> Option<bool> {
        let [a, b] = group else { return None };
        let options = Options { bitwise: true, stop_at_first: true, ..Options::default() };
        let limits = &self.criteria.limits;
        Some(compare(&a.elements, &b.elements, limits, &options, self.progress).ok()?.equal())
    }

    /// Takes out what could not be read, and notes it.
    fn without_problems<T>(&mut self, lone: &mut Vec<Lone<'a>>, results: Vec<Result<T>>) -> Vec<(Lone<'a>, T)> {
        let mut read = Vec::new();
        for (lone, result) in lone.drain(..).zip(results) {
            let side = if lone.is_left { self.left } else { self.right };
            match result {
                Ok(found) => read.push((lone, found)),
                Err(e) => self.problems.push(side.problem(lone.named, &e.beside_its_part())),
            }
        }
        read
    }
}

/// Who belongs to a side.
trait Sided {
    fn is_left(&self) -> bool;
}

impl Sided for Lone<'_> {
    fn is_left(&self) -> bool {
        self.is_left
    }
}

impl<T> Sided for (Lone<'_>, T) {
    fn is_left(&self) -> bool {
        self.0.is_left
    }
}

/// Puts together what has the same key; groups that lie on one side only are left out. Order is kept.
fn groups<T: Sided, K: Hash + Eq>(all: Vec<T>, key: impl Fn(&T) -> K) -> Vec<Vec<T>> {
    let mut places: HashMap<K, usize> = HashMap::new();
    let mut groups: Vec<Vec<T>> = Vec::new();
    for one in all {
        let place = *places.entry(key(&one)).or_insert_with(|| {
            groups.push(Vec::new());
            groups.len() - 1
        });
        if let Some(group) = groups.get_mut(place) {
            group.push(one);
        }
    }
    groups.retain(|group| group.iter().any(T::is_left) && !group.iter().all(T::is_left));
    groups
}
