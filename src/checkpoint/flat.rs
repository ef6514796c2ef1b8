//! Files that hold named arrays and no objects, safetensors and npz, as what they are to hold: arrays under names, and
//! strings.

use std::collections::{HashMap, HashSet};

use crate::checkpoint::tensor::Data;
use crate::checkpoint::{Checkpoint, Container};
use crate::container::safetensors::{self, METADATA, is_alias};
use crate::container::zip::Member;
use crate::data::Elements;
use crate::dtype::DType;
use crate::error::{Error, Result};

/// What a file is to hold.
#[derive(Debug, Clone)]
pub struct Flat {
    /// Its container.
    pub container: Container,
    /// The arrays, in the order of their data.
    pub arrays: Vec<Array>,
    /// safetensors' `__metadata__`, in order.
    pub metadata: Vec<Text>,
}

/// One array.
#[derive(Debug, Clone)]
pub struct Array {
    /// Which it was in the file: of the header's tensors, of the zip's members.
    pub place: usize,
    /// Its name.
    pub name: String,
    /// Its type; nothing for what holds no numbers.
    pub dtype: Option<DType>,
    /// Its shape.
    pub shape: Vec<u64>,
    /// New elements, where it has some.
    pub new: Option<Elements>,
}

/// One entry of `__metadata__`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Text {
    /// A string under a key.
    Is(String, String),
    /// Another name for the array that had this place.
    Alias(String, usize),
}

impl Flat {
    /// What a file of arrays holds.
    pub(crate) fn of(checkpoint: &Checkpoint) -> Result<Self> {
        let (arrays, metadata) = match checkpoint.container() {
            Container::Safetensors => Self::safetensors(checkpoint)?,
            _ => (Self::npz(checkpoint)?, Vec::new()),
        };
        Ok(Flat { container: checkpoint.container(), arrays, metadata })
    }

    fn safetensors(checkpoint: &Checkpoint) -> Result<(Vec<Array>, Vec<Text>)> {
        let source = checkpoint.source().ok_or_else(|| Error::malformed("no header"))?;
        let header = safetensors::read(source.as_ref(), &checkpoint.limits)?;
        let place_of: HashMap<&str, usize> =
            header.tensors.iter().enumerate().map(|(place, tensor)| (tensor.name.as_str(), place)).collect();
        let texts = header.metadata.iter().map(|(key, value)| {
            match place_of.get(value.as_str()).filter(|_| is_alias(key, value, |name| place_of.contains_key(name))) {
                Some(place) => Text::Alias(key.clone(), *place),
                None => Text::Is(key.clone(), value.clone()),
            }
        });
        let metadata = texts.collect();
        let arrays = header.tensors.iter().enumerate().map(|(place, tensor)| Array {
            place,
            name: tensor.name.clone(),
            dtype: DType::from_safetensors(&tensor.dtype),
            shape: tensor.shape.clone(),
            new: None,
        });
        Ok((arrays.collect(), metadata))
    }

    fn npz(checkpoint: &Checkpoint) -> Result<Vec<Array>> {
        let zip = checkpoint.zip().ok_or_else(|| Error::malformed("no members"))?;
        let members = zip.members.iter().enumerate().filter(|(_, member)| !member.is_dir());
        let nodes = checkpoint.objects().items(checkpoint.root).unwrap_or_default();
        let arrays = members.zip(nodes).map(|((place, member), entry)| {
            let tensor = checkpoint.tensors.of(entry.value).and_then(|id| checkpoint.tensor(id));
            let tensor = tensor.filter(|tensor| matches!(tensor.data, Data::Array { .. }));
            let shape = tensor.map(|tensor| tensor.shape.iter().filter_map(|extent| u64::try_from(*extent).ok()));
            Array {
                place,
                name: Self::name_of(member).to_owned(),
                dtype: tensor.and_then(|tensor| tensor.dtype.clone()),
                shape: shape.map_or_else(Vec::new, Iterator::collect),
                new: None,
            }
        });
        Ok(arrays.collect())
    }

    /// What the array of a member is called.
    pub(crate) fn name_of(member: &Member) -> &str {
        member.name.strip_suffix(".npy").unwrap_or(&member.name)
    }

    /// Gives arrays and aliases other names.
    pub(crate) fn rename(&mut self, names: &HashMap<String, String>) -> Result<()> {
        let aliases = self.metadata.iter_mut().filter_map(|text| match text {
            Text::Alias(alias, _) => Some(alias),
            Text::Is(..) => None,
        });
        for name in self.arrays.iter_mut().map(|array| &mut array.name).chain(aliases) {
            if let Some(new) = names.get(name) {
                name.clone_from(new);
            }
        }
        self.check()
    }

    /// Refuses what a reader would take for something else: a string that became an alias, an array called as the strings
    /// are.
    pub(crate) fn check(&self) -> Result<()> {
        let names: HashSet<&str> = self.arrays.iter().map(|array| array.name.as_str()).collect();
        for text in &self.metadata {
            if let Text::Is(key, value) = text
                && is_alias(key, value, |name| names.contains(name))
            {
                let what =
                    format!("`{key}` of __metadata__ says {value:?}, so it would become another name of that tensor");
                return Err(Error::refused(what));
            }
        }
        if self.arrays.is_empty() && self.container == Container::Npz {
            return Err(Error::refused("nothing would be left in the npz file"));
        }
        if self.container == Container::Safetensors && names.contains(METADATA) {
            return Err(safetensors::reserved());
        }
        Ok(())
    }
}
