//! Whether the files of a directory hold what its index says, once each, and nothing else.

use std::collections::HashMap;
use std::sync::Arc;

use super::in_safetensors::File;
use super::metadata::{FileRange, Metadata, Stored, Undescribed};
use crate::checkpoint::Oddity;
use crate::layout::DCP_DATA;
use crate::layout::directory::Directory;
use crate::layout::spelled::spelled;

/// The places that an index names.
#[derive(Debug)]
pub(super) struct Coverage {
    /// Each with the number of its entry; those of nothing that the index describes have none.
    places: Vec<(FileRange, Option<usize>)>,
    undescribed: Vec<Undescribed>,
}

impl Coverage {
    pub(super) fn of(metadata: &mut Metadata) -> Self {
        let mut places = Vec::new();
        for (number, entry) in metadata.entries.iter().enumerate() {
            match &entry.stored {
                Stored::Tensor(tensor) => {
                    let named = tensor.chunks.iter().filter_map(|chunk| chunk.place.as_ref());
                    let named = named.chain(&tensor.empty).cloned();
                    places.extend(named.map(|place| (place, Some(number))));
                }
                Stored::Object(place) => places.extend(place.clone().map(|place| (place, Some(number)))),
            }
        }
        let undescribed = std::mem::take(&mut metadata.undescribed);
        places.extend(undescribed.iter().map(|(_, place)| (place.clone(), None)));
        places.sort_by(|(a, x), (b, y)| (&a.file, a.offset, a.length, x).cmp(&(&b.file, b.offset, b.length, y)));
        // a chunk without an element is found where another one begins
        places.dedup_by(|(a, x), (b, y)| (&a.file, a.offset, a.length, x) == (&b.file, b.offset, b.length, y));
        Coverage { places, undescribed }
    }

    /// What is not so, and what to tell of it where something is left aside. `names` are those of the entries.
    pub(super) fn oddities(
        self,
        names: &[String],
        directory: &mut Directory,
        safetensors: &HashMap<Arc<str>, Option<(u64, File)>>,
    ) -> (Vec<Oddity>, Option<String>) {
        let (mut found, mut aside) = (Vec::new(), Vec::new());
        for (fqn, FileRange { file, offset, length, .. }) in &self.undescribed {
            let message =
                format!("the index has {length} bytes from byte {offset} on for {fqn}, and does not say what that is");
            found.push(Oddity { code: "tensor-unnamed", place: file.to_string(), message });
            aside.push(fqn.clone());
        }
        for places in self.places.chunk_by(|(a, _), (b, _)| a.file == b.file) {
            let Some((FileRange { file, .. }, _)) = places.first() else { continue };
            // what is missing is told of what lies in it
            let Ok(source) = directory.file(file) else { continue };
            let within = safetensors.get(file).and_then(Option::as_ref);
            for name in within.iter().flat_map(|(_, file)| file.unnamed()) {
                let message = format!("holds {name}, which the index does not name there");
                found.push(Oddity { code: "tensor-unnamed", place: file.to_string(), message });
                aside.push(name.to_owned());
            }
            let end = within.map_or(source.len(), |(at, _)| *at);
            let raw = places.iter().filter(|(place, _)| within.is_none_or(|(at, _)| place.offset != *at));
            found.extend(of_file(file, end, raw, names));
        }
        let named: Vec<&str> = self
            .places
            .chunk_by(|(a, _), (b, _)| a.file == b.file)
            .filter_map(|all| Some(&*all.first()?.0.file))
            .collect();
        for name in directory.names() {
            // the names are sorted
            if name.ends_with(DCP_DATA) && named.binary_search(&name.as_str()).is_err() {
                aside.push(name.clone());
                let message = "the index does not name it".to_owned();
                found.push(Oddity { code: "file-unnamed", place: name, message });
            }
        }
        (found, note(&aside))
    }
}

/// Gaps between the places of one file, which are in order, and overlaps; it ends at `end`.
fn of_file<'a>(
    file: &str,
    end: u64,
    places: impl Iterator<Item = &'a (FileRange, Option<usize>)>,
    names: &[String],
) -> Vec<Oddity> {
    let name =
        |number: Option<usize>| number.and_then(|number| names.get(number)).map_or("something else", String::as_str);
    let gap = |from: u64, to: u64| Oddity {
        code: "bytes-unnamed",
        place: file.to_owned(),
        message: format!("the index says nothing of the {} bytes from byte {from} on", to - from),
    };
    let mut found = Vec::new();
    let (mut at, mut before) = (0, None);
    for (place, number) in places.filter(|(place, _)| place.length > 0) {
        let to = place.offset.saturating_add(place.length);
        if place.offset > at && place.offset <= end {
            found.push(gap(at, place.offset));
        } else if place.offset < at {
            let message =
                format!("{} and {} lie over each other at byte {}", name(before), name(*number), place.offset);
            found.push(Oddity { code: "bytes-shared", place: file.to_owned(), message });
        }
        if to > at {
            (at, before) = (to, *number);
        }
    }
    if at < end {
        found.push(gap(at, end));
    }
    found
}

fn note(aside: &[String]) -> Option<String> {
    (!aside.is_empty()).then(|| format!("left aside, as the index does not describe it: {}", spelled(aside)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gaps_and_overlaps_of_a_file() {
        let of = |places: &[(u64, u64)], end| {
            let place = |(number, (offset, length)): (usize, &(u64, u64))| {
                let file = "f".into();
                (FileRange { file, offset: *offset, length: *length, is_zstd: false }, Some(number))
            };
            let places: Vec<_> = places.iter().enumerate().map(place).collect();
            let names = ["a".to_owned(), "b".to_owned(), "c".to_owned()];
            let found = of_file("f", end, places.iter(), &names).into_iter();
            found.map(|oddity| oddity.message).collect::<Vec<_>>().join("; ")
        };
        assert_eq!(of(&[(0, 10), (10, 5), (15, 5)], 20), "");
        assert_eq!(of(&[(0, 10), (12, 8)], 20), "the index says nothing of the 2 bytes from byte 10 on");
        assert_eq!(of(&[(0, 10)], 20), "the index says nothing of the 10 bytes from byte 10 on");
        assert_eq!(of(&[(0, 10), (0, 10), (10, 10)], 20), "a and b lie over each other at byte 0");
        assert_eq!(of(&[(0, 20), (5, 5), (10, 10)], 20).matches("over each other").count(), 2);
        // a place behind the end is told of what lies there
        assert_eq!(of(&[(0, 10), (30, 8)], 10), "");
    }
}
