//! Where ZeRO puts a parameter's elements: the arithmetic of its flat partitions, and nothing of files.
//!
//! Sources: `deepspeed/runtime/zero/stage_1_and_2.py`, `partition_parameters.py`, `deepspeed/utils/zero_to_fp32.py`.
//!
//! - Stages 1 and 2 lay the parameters of a group in one row, pad it to a multiple of twice the ranks, and give each
//!   rank an equal part. Most files are without the padding.
//! - Stage 3 gives each rank an equal part of every parameter, padded for itself; a rank's parts lie in one row, which may
//!   be cut into groups anywhere.

/// A parameter: its number of elements, and of those that pad it before the next one begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Parameter {
    pub elements: u64,
    pub padding: u64,
}

/// Elements of one flat tensor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    pub rank: usize,
    pub group: usize,
    pub from: u64,
    pub len: u64,
}

/// The parts of each parameter of a group. `flat` are the elements that each rank has of that group.
pub(super) fn of_group(group: usize, parameters: &[Parameter], flat: &[u64]) -> Result<Vec<Vec<Place>>, String> {
    let ranks = flat.len() as u64;
    let all = flat.iter().try_fold(0u64, |sum, len| sum.checked_add(*len));
    let all = all.ok_or("has more elements than 64 bits can count")?;
    equal_parts(flat)?;
    let mut places = Vec::with_capacity(parameters.len());
    let mut row = Row { flat, group, rank: 0, at: 0 };
    let mut used = 0u64;
    let few = |used: Option<u64>| match used {
        Some(used) => format!("holds {all} elements in its {ranks} files, and its parameters take {used} and more"),
        None => "has parameters of more elements than 64 bits can count".to_owned(),
    };
    for (number, Parameter { elements, padding }) in parameters.iter().enumerate() {
        let end =
            used.checked_add(*elements).filter(|end| *end <= all).ok_or_else(|| few(used.checked_add(*elements)))?;
        places.push(row.take(*elements));
        // what pads the last one is not always there
        let left = if number + 1 == parameters.len() { all - end } else { u64::MAX };
        let padding = *padding.min(&left);
        used = end.checked_add(padding).filter(|end| *end <= all).ok_or_else(|| few(end.checked_add(padding)))?;
        row.take(padding);
    }
    let align = ranks.saturating_mul(2).max(1);
    if used.div_ceil(align) != all.div_ceil(align) {
        return Err(format!("holds {all} elements in its {ranks} files, of which its parameters take {used}"));
    }
    Ok(places)
}

/// Every rank has the same number of elements, but where the row ends.
fn equal_parts(flat: &[u64]) -> Result<(), String> {
    let first = flat.first().copied().unwrap_or(0);
    let mut is_over = false;
    for (rank, len) in flat.iter().enumerate() {
        if *len > first || is_over && *len > 0 {
            return Err(format!("has {len} elements in the file of rank {rank}, which do not continue those before"));
        }
        is_over |= *len < first;
    }
    Ok(())
}

/// A way along the flat tensors of a group.
struct Row<'a> {
    flat: &'a [u64],
    group: usize,
    rank: usize,
    at: u64,
}

impl Row<'_> {
    fn take(&mut self, mut elements: u64) -> Vec<Place> {
        let mut places = Vec::new();
        while let Some(here) = self.flat.get(self.rank).filter(|_| elements > 0) {
            let len = elements.min(here - self.at);
            if len > 0 {
                places.push(Place { rank: self.rank, group: self.group, from: self.at, len });
            }
            (self.at, elements) = (self.at + len, elements - len);
            if self.at == *here {
                (self.rank, self.at) = (self.rank + 1, 0);
            }
        }
        places
    }
}

/// The elements of a parameter that each of so many ranks has, the padding included.
pub(super) fn part_of(elements: u64, ranks: usize) -> u64 {
    elements.div_ceil((ranks as u64).max(1))
}

/// The parts of each parameter with stage 3. `flat` are the elements of each group, the same for every rank.
pub(super) fn of_all(parameters: &[u64], flat: &[u64], ranks: usize) -> Result<Vec<Vec<Place>>, String> {
    let all = flat.iter().try_fold(0u64, |sum, len| sum.checked_add(*len));
    let all = all.ok_or("has more elements than 64 bits can count")?;
    let used = parameters.iter().try_fold(0u64, |sum, elements| sum.checked_add(part_of(*elements, ranks)));
    if used != Some(all) {
        let used = used.map_or_else(|| "more than 64 bits can count".to_owned(), |used| used.to_string());
        return Err(format!("holds {all} elements in each file, and a rank's parts of all parameters take {used}"));
    }
    let (mut group, mut at) = (0, 0);
    let mut places = Vec::with_capacity(parameters.len());
    for elements in parameters {
        // where this parameter's part lies in the row of a rank
        let mut pieces = Vec::new();
        let mut left = part_of(*elements, ranks);
        while let Some(here) = flat.get(group).filter(|_| left > 0) {
            let len = left.min(here - at);
            pieces.push((group, at, len));
            (at, left) = (at + len, left - len);
            if at == *here {
                (group, at) = (group + 1, 0);
            }
        }
        let mut missing = *elements;
        let mut of_this = Vec::new();
        for rank in (0..ranks).take_while(|rank| (*rank as u64) < *elements) {
            for (group, from, len) in &pieces {
                let len = missing.min(*len);
                if len > 0 {
                    of_this.push(Place { rank, group: *group, from: *from, len });
                }
                missing -= len;
            }
        }
        places.push(of_this);
    }
    Ok(places)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(rank: usize, group: usize, from: u64, len: u64) -> Place {
        Place { rank, group, from, len }
    }

    fn plain(elements: &[u64]) -> Vec<Parameter> {
        elements.iter().map(|elements| Parameter { elements: *elements, padding: 0 }).collect()
    }

    #[test]
    fn a_row_over_ranks() {
        // 11 elements over two ranks: padded to 12, the padding is not saved
        let found = of_group(3, &plain(&[4, 0, 6, 1]), &[6, 5]).unwrap();
        let wanted =
            vec![vec![place(0, 3, 0, 4)], vec![], vec![place(0, 3, 4, 2), place(1, 3, 0, 4)], vec![place(1, 3, 4, 1)]];
        assert_eq!(found, wanted);
        // the padding is saved
        assert_eq!(of_group(3, &plain(&[4, 0, 6, 1]), &[6, 6]).unwrap(), wanted);
        // fewer elements than ranks
        assert_eq!(of_group(0, &plain(&[1]), &[1, 0, 0]).unwrap(), [[place(0, 0, 0, 1)]]);
        let padded = [Parameter { elements: 3, padding: 5 }, Parameter { elements: 4, padding: 4 }];
        assert_eq!(of_group(0, &padded, &[6, 6]).unwrap(), [[place(0, 0, 0, 3)], [place(1, 0, 2, 4)]]);
        for (parameters, flat) in [
            (&[4, 9][..], &[6, 6][..]),
            (&[4], &[6, 6]),
            (&[4, 7], &[5, 6]),
            (&[7], &[4, 2, 1]),
            (&[u64::MAX, 2], &[6]),
        ] {
            assert!(of_group(0, &plain(parameters), flat).is_err(), "{parameters:?} {flat:?}");
        }
        assert!(of_group(0, &plain(&[1]), &[u64::MAX, u64::MAX]).is_err());
    }

    #[test]
    fn every_parameter_over_ranks() {
        // 5 elements are 3 and 2 and a padding; 1 element is 1 and a padding
        let found = of_all(&[5, 1, 0, 4], &[4, 2], 2).unwrap();
        let wanted = vec![
            vec![place(0, 0, 0, 3), place(1, 0, 0, 2)],
            vec![place(0, 0, 3, 1)],
            vec![],
            vec![place(0, 1, 0, 2), place(1, 1, 0, 2)],
        ];
        assert_eq!(found, wanted);
        // a part that groups cut
        let found = of_all(&[5], &[1, 0, 2], 2).unwrap();
        assert_eq!(found, [[place(0, 0, 0, 1), place(0, 2, 0, 2), place(1, 0, 0, 1), place(1, 2, 0, 1)]]);
        assert!(of_all(&[5], &[2], 2).is_err() && of_all(&[5], &[4], 2).is_err());
        assert!(of_all(&[u64::MAX, u64::MAX, u64::MAX], &[1], 2).is_err());
    }
}
