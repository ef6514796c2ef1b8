//! The strings of `__metadata__` that safetensors inputs bring along: all of them, the first of each key.

use std::collections::HashMap;

use crate::container::safetensors::METADATA;
use crate::message::Note;

/// What the inputs say together.
#[derive(Debug, Default)]
pub(super) struct Strings {
    /// In order, each with the input that says so.
    all: Vec<(String, String, String)>,
    places: HashMap<String, usize>,
    /// What others say of the same key.
    others: Vec<(String, String)>,
}

impl Strings {
    /// Adds what an input says.
    pub(crate) fn add(&mut self, input: &str, strings: Vec<(String, String)>) {
        for (key, value) in strings {
            match self.places.get(&key).and_then(|place| self.all.get(*place)) {
                None => {
                    self.places.insert(key.clone(), self.all.len());
                    self.all.push((input.to_owned(), key, value));
                }
                Some((_, _, first)) if *first == value => {}
                Some(_) => self.others.push((input.to_owned(), key)),
            }
        }
    }

    /// What is not kept, as somebody else has said something else of it before.
    pub(crate) fn disagreeing(&self) -> impl Iterator<Item = Note> + '_ {
        self.others.iter().filter_map(|(input, key)| {
            let (first, ..) = self.all.get(*self.places.get(key)?)?;
            Some(Note::new(input, format!("{METADATA}.{key} is taken from {first}, which says something else of it")))
        })
    }

    /// All keys and values.
    pub(crate) fn into_all(self) -> Vec<(String, String)> {
        self.all.into_iter().map(|(_, key, value)| (key, value)).collect()
    }
}
