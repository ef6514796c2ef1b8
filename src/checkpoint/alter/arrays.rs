//! Steps in files of named arrays.

use std::collections::{HashMap, HashSet};

use super::{Done, Step, fits, tensor_words};
use crate::checkpoint::Container;
use crate::checkpoint::flat::{Array, Flat, Text};
use crate::checkpoint::near::{near, not_there};
use crate::container::safetensors::METADATA;
use crate::data::Elements;
use crate::error::{Error, Result};
use crate::message::Setting;

/// What a name stands for.
enum Found {
    /// Arrays, by their index.
    Arrays(Vec<usize>),
    /// Another name of an array, by its index among the strings.
    Alias(usize),
    /// A string, by its index.
    Text(usize),
}

fn words(array: &Array) -> String {
    tensor_words(array.dtype.as_ref(), &array.shape)
}

fn counted(arrays: usize) -> String {
    if arrays == 1 { "1 array".to_owned() } else { format!("{arrays} arrays") }
}

impl Flat {
    pub(super) fn step(&mut self, step: &Step) -> Result<Done> {
        let done = match step {
            Step::Set { name, .. } => Err(self.holds_no_values(name)),
            Step::SetTensor { name, elements, force_shape } => self.set_tensor(name, elements, *force_shape),
            Step::Delete { name } => self.delete(name),
            Step::Move { from, to } => self.change_name(from, to),
            Step::SetMetadata { key, value } => self.set_metadata(key, value),
        }?;
        self.check()?;
        Ok(done)
    }

    fn holds_no_values(&self, name: &str) -> Error {
        match self.container {
            Container::Safetensors => {
                let key = name.strip_prefix(METADATA).and_then(|rest| rest.strip_prefix('.'));
                let what = "a safetensors file holds tensors and metadata only, no values";
                let advice = match key {
                    Some(_) => Setting::SetMetadata.then(" sets strings beside the tensors"),
                    None => Setting::SetMetadata
                        .then(" sets strings beside the tensors")
                        .text(", ")
                        .setting(Setting::SetTensor)
                        .text(" the elements of one"),
                };
                Error::refused(what).advise(advice)
            }
            _ => Error::refused("an npz file holds arrays only, no values")
                .advise(Setting::SetTensor.then(" sets the elements of one")),
        }
    }

    /// Every name there is.
    fn names(&self) -> impl Iterator<Item = &str> + Clone {
        let aliases = self.metadata.iter().filter_map(|text| match text {
            Text::Alias(alias, _) => Some(alias.as_str()),
            Text::Is(..) => None,
        });
        self.arrays.iter().map(|array| array.name.as_str()).chain(aliases)
    }

    /// What just this name stands for: an array, another name of one, a string, or all arrays below it.
    fn find(&self, name: &str) -> Result<Found> {
        if let Some(index) = self.arrays.iter().position(|array| array.name == name) {
            return Ok(Found::Arrays(vec![index]));
        }
        let key = name.strip_prefix(METADATA).and_then(|rest| rest.strip_prefix('.'));
        for (index, text) in self.metadata.iter().enumerate() {
            match text {
                Text::Alias(alias, _) if alias == name => return Ok(Found::Alias(index)),
                Text::Is(text, _) | Text::Alias(text, _) if Some(text.as_str()) == key => {
                    return Ok(Found::Text(index));
                }
                _ => {}
            }
        }
        let inside = format!("{name}.");
        let below = self.arrays.iter().enumerate().filter(|(_, array)| array.name.starts_with(&inside));
        let below: Vec<usize> = below.map(|(index, _)| index).collect();
        match below.is_empty() {
            false if self.names().skip(self.arrays.len()).any(|alias| alias.starts_with(&inside)) => {
                Err(Error::refused(format!("`{name}` holds tensors with other names too; name each of them")))
            }
            false => Ok(Found::Arrays(below)),
            true => Err(Error::refused(not_there("element", name, None, &near(name, self.names())))),
        }
    }

    fn array_of(&self, place: usize) -> Result<usize> {
        self.arrays.iter().position(|array| array.place == place).ok_or_else(|| Error::malformed("no such tensor"))
    }

    fn set_tensor(&mut self, name: &str, elements: &Elements, force_shape: bool) -> Result<Done> {
        let index = match self.find(name)? {
            Found::Arrays(all) => match all.as_slice() {
                [one] if self.arrays.get(*one).is_some_and(|array| array.name == name) => *one,
                _ => return Err(Error::refused(format!("`{name}` is the beginning of several names, and no tensor"))),
            },
            Found::Alias(index) => match self.metadata.get(index) {
                Some(Text::Alias(_, place)) => self.array_of(*place)?,
                _ => return Err(Error::malformed("no such tensor")),
            },
            Found::Text(_) => return Err(Error::refused(format!("`{name}` is a string, and no tensor"))),
        };
        let Some(array) = self.arrays.get_mut(index) else { return Err(Error::malformed("no such tensor")) };
        fits(name, (array.dtype.as_ref(), &array.shape), (&elements.dtype, &elements.shape), force_shape)?;
        let old = words(array);
        array.shape.clone_from(&elements.shape);
        array.new = Some(elements.clone());
        let (new, place, own) = (words(array), array.place, array.name.clone());
        let aliases = self.metadata.iter().filter_map(|text| match text {
            Text::Alias(alias, of) if *of == place => Some(alias.clone()),
            _ => None,
        });
        let also = [own].into_iter().chain(aliases).filter(|other| other != name).collect();
        Ok(Done { also, ..Done::was(old, new) })
    }

    fn delete(&mut self, name: &str) -> Result<Done> {
        match self.find(name)? {
            Found::Arrays(indexes) => {
                let places: HashSet<usize> =
                    indexes.iter().filter_map(|index| self.arrays.get(*index)).map(|array| array.place).collect();
                let old = match indexes.as_slice() {
                    [one] => self.arrays.get(*one).map(words).unwrap_or_default(),
                    all => counted(all.len()),
                };
                // another name of it is the only one from here on
                let mut heirs: HashMap<usize, String> = HashMap::new();
                self.metadata.retain(|text| match text {
                    Text::Alias(alias, place) if places.contains(place) && !heirs.contains_key(place) => {
                        heirs.insert(*place, alias.clone());
                        false
                    }
                    _ => true,
                });
                self.arrays.retain_mut(|array| match heirs.remove(&array.place) {
                    Some(alias) => {
                        array.name = alias;
                        true
                    }
                    None => !places.contains(&array.place),
                });
                Ok(Done::was(old, None))
            }
            Found::Alias(index) | Found::Text(index) => match self.metadata.remove(index) {
                Text::Alias(_, place) => {
                    let old = self.arrays.get(self.array_of(place)?).map(words);
                    Ok(Done::was(old, None))
                }
                Text::Is(_, old) => Ok(Done::was(format!("{old:?}"), None)),
            },
        }
    }

    fn change_name(&mut self, from: &str, to: &str) -> Result<Done> {
        if from == to {
            return Err(Error::refused(format!("`{from}` is that already")));
        }
        if from == "." || to == "." {
            let what = format!("{} files hold one level of names", self.container.name());
            return Err(Error::refused(what).advise("`ckpt rename` adds and strips prefixes"));
        }
        let found = self.find(from)?;
        let is_below = |name: &str| name.strip_prefix(to).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'));
        let moves_into_itself = to.strip_prefix(from).is_some_and(|rest| rest.starts_with('.'));
        let is_whole = |index: &usize| self.arrays.get(*index).is_some_and(|array| array.name == from);
        match found {
            Found::Text(_) => {
                let what = format!("`{from}` is a string of the metadata, which keeps its key");
                Err(Error::refused(what).advise(Setting::SetMetadata.then(" sets another")))
            }
            Found::Arrays(all) if !all.iter().any(is_whole) => {
                if moves_into_itself {
                    return Err(Error::refused(format!("`{from}` cannot be moved into itself")));
                }
                if self.names().any(is_below) {
                    return Err(Error::refused(format!("`{to}` is there already")));
                }
                for index in &all {
                    if let Some(array) = self.arrays.get_mut(*index) {
                        array.name = format!("{to}{}", array.name.strip_prefix(from).unwrap_or_default());
                    }
                }
                Ok(Done::moved(counted(all.len())))
            }
            Found::Arrays(all) => {
                self.is_free(to)?;
                let array = all.first().and_then(|index| self.arrays.get_mut(*index));
                let array = array.ok_or_else(|| Error::malformed("no such tensor"))?;
                to.clone_into(&mut array.name);
                Ok(Done::moved(words(array)))
            }
            Found::Alias(index) => {
                self.is_free(to)?;
                let Some(Text::Alias(alias, place)) = self.metadata.get_mut(index) else {
                    return Err(Error::malformed("no such tensor"));
                };
                to.clone_into(alias);
                let place = *place;
                let shown = self.arrays.get(self.array_of(place)?).map(words).unwrap_or_default();
                Ok(Done::moved(shown))
            }
        }
    }

    fn is_free(&self, name: &str) -> Result<()> {
        let is_key = |text: &Text| matches!(text, Text::Is(key, _) if key == name);
        match self.names().any(|other| other == name) {
            true => Err(Error::refused(format!("`{name}` is there already"))),
            // a string of that key cannot be told from another name of the tensor
            false if self.container == Container::Safetensors && self.metadata.iter().any(is_key) => {
                Err(Error::refused(format!("`{name}` is a key of __metadata__ already")))
            }
            false => Ok(()),
        }
    }

    fn set_metadata(&mut self, key: &str, value: &str) -> Result<Done> {
        if self.container != Container::Safetensors {
            let what =
                format!("only safetensors files have metadata, and this is one of the kind {}", self.container.name());
            return Err(Error::refused(what));
        }
        for text in &mut self.metadata {
            match text {
                Text::Alias(alias, _) if alias == key => {
                    return Err(Error::refused(format!("`{key}` is another name of a tensor, and no string")));
                }
                Text::Is(found, old) if found == key => {
                    let old = std::mem::replace(old, value.to_owned());
                    return Ok(Done::was(format!("{old:?}"), format!("{value:?}")));
                }
                _ => {}
            }
        }
        self.metadata.push(Text::Is(key.to_owned(), value.to_owned()));
        Ok(Done::was(None, format!("{value:?}")))
    }
}
