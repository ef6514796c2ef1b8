//! Which name of one file belongs to which of the other.

use std::collections::{HashMap, VecDeque};

use super::side::Aligned;

/// Indexes into the names of both sides.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Pairing {
    /// Names that both have, in the order of A.
    pub both: Vec<(usize, usize)>,
    /// Names that only A has, in its order.
    pub only_a: Vec<usize>,
    /// Names that only B has, in its order.
    pub only_b: Vec<usize>,
}

/// Pairs names. Where a file has a name several times, equal paths belong together first, then what is left in order.
pub(crate) fn pair(a: &[Aligned], b: &[Aligned]) -> Pairing {
    // files of one program have the same names in the same order
    if a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.path == b.path) {
        return Pairing { both: (0..a.len()).map(|index| (index, index)).collect(), ..Pairing::default() };
    }
    let mut waiting = by_name(b);
    let mut partner: Vec<Option<usize>> = vec![None; a.len()];
    let mut taken = vec![false; b.len()];
    let mut take = |a: usize, b: usize, partner: &mut Vec<Option<usize>>| {
        if let (Some(partner), Some(taken)) = (partner.get_mut(a), taken.get_mut(b)) {
            (*partner, *taken) = (Some(b), true);
        }
    };
    for (name, of_a) in by_name(a) {
        let Some(of_b) = waiting.get_mut(name) else { continue };
        let mut left = of_a;
        if left.len() > 1 || of_b.len() > 1 {
            let mut paths: HashMap<String, VecDeque<usize>> = HashMap::new();
            for index in of_b.iter() {
                paths.entry(path_of(b, *index)).or_default().push_back(*index);
            }
            left.retain(|index| {
                let found = paths.get_mut(&path_of(a, *index)).and_then(VecDeque::pop_front);
                found.is_none_or(|found| {
                    take(*index, found, &mut partner);
                    false
                })
            });
            let mut rest: Vec<usize> = paths.into_values().flatten().collect();
            rest.sort_unstable();
            *of_b = rest.into();
        }
        for index in left {
            if let Some(found) = of_b.pop_front() {
                take(index, found, &mut partner);
            }
        }
    }
    let mut pairing = Pairing::default();
    for (index, partner) in partner.into_iter().enumerate() {
        match partner {
            Some(partner) => pairing.both.push((index, partner)),
            None => pairing.only_a.push(index),
        }
    }
    pairing.only_b = taken.iter().enumerate().filter(|(_, taken)| !**taken).map(|(index, _)| index).collect();
    pairing
}

fn by_name(names: &[Aligned]) -> HashMap<&str, VecDeque<usize>> {
    let mut found: HashMap<&str, VecDeque<usize>> = HashMap::with_capacity(names.len());
    for (index, named) in names.iter().enumerate() {
        found.entry(&named.name).or_default().push_back(index);
    }
    found
}

fn path_of(names: &[Aligned], index: usize) -> String {
    names.get(index).map(|named| format!("{:?}", named.path)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::super::side::What;
    use super::*;
    use crate::checkpoint::names::{Element, join};
    use crate::pickle::Graph;

    fn names(paths: &[&[&str]]) -> Vec<Aligned> {
        let named = |path: &&[&str]| {
            let path: Vec<Element> = path.iter().map(|text| Element::Text((*text).into())).collect();
            Aligned { name: join(&path), path, node: Graph::NONE, what: What::Value }
        };
        paths.iter().map(named).collect()
    }

    #[test]
    fn in_the_order_of_each_side() {
        let pairing = pair(&names(&[&["x"], &["b"], &["a"]]), &names(&[&["a"], &["y"], &["b"], &["z"]]));
        assert_eq!(pairing, Pairing { both: vec![(1, 2), (2, 0)], only_a: vec![0], only_b: vec![1, 3] });
    }

    #[test]
    fn a_name_that_is_there_twice() {
        // the second of A has the path of the first of B; what is left goes in order, whatever its path
        let a = names(&[&["a.b"], &["a", "b"], &["a.b"]]);
        let b = names(&[&["a", "b"], &["a", "b"]]);
        assert_eq!(pair(&a, &b), Pairing { both: vec![(0, 1), (1, 0)], only_a: vec![2], only_b: vec![] });
        assert_eq!(pair(&b, &a), Pairing { both: vec![(0, 1), (1, 0)], only_a: vec![], only_b: vec![2] });
        let one = names(&[&["a.b"]]);
        assert_eq!(pair(&one, &a), Pairing { both: vec![(0, 0)], only_a: vec![], only_b: vec![1, 2] });
    }
}
