//! What a checkpoint holds, for programs: tensors and values by name.

use std::fmt;

use crate::checkpoint::names::ambiguous;
use crate::checkpoint::value::Value;
use crate::checkpoint::{Entry, Item, Located, Tensor};
use crate::data::scalar::{Scalar, read};
use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::operations::Input;
use crate::operations::select::missing_in;

/// One tensor of an [`Input`], by name.
#[derive(Clone)]
pub struct TensorView<'a> {
    input: &'a Input,
    name: String,
    tensor: &'a Tensor,
}

impl Input {
    /// The tensors in file order, shared ones under each of their names. No data is read.
    ///
    /// ```
    /// let checkpoint = ckpt::open("testdata/torch-2.15-py311/checkpoint.tar")?;
    /// let names: Vec<String> = checkpoint.tensors()?.map(|tensor| tensor.name().to_owned()).collect();
    /// assert!(names.contains(&"model_state_dict.features.0.weight".to_owned()));
    /// # Ok::<(), ckpt::Error>(())
    /// ```
    pub fn tensors(&self) -> Result<impl Iterator<Item = TensorView<'_>>> {
        Ok(self.entries()?.into_iter().filter_map(|entry| self.view(&entry)))
    }

    /// The tensor of this name: path elements joined with `.`, as `ckpt ls` lists them; empty for a file that is one
    /// tensor. A name that is not there is an error that proposes near ones. Every call goes through the names of the
    /// whole file; [`Input::tensors`] does so once.
    ///
    /// ```
    /// let checkpoint = ckpt::open("testdata/torch-2.15-py311/checkpoint.tar")?;
    /// let weight = checkpoint.tensor("model_state_dict.features.0.weight")?;
    /// assert_eq!((weight.dtype(), weight.shape()), ("float32", &[4, 3, 3, 3][..]));
    ///
    /// let e = checkpoint.tensor("model_state_dict.features.0.wieght").unwrap_err();
    /// assert_eq!(e.kind(), ckpt::ErrorKind::Refused);
    /// # Ok::<(), ckpt::Error>(())
    /// ```
    pub fn tensor(&self, name: &str) -> Result<TensorView<'_>> {
        let entry = self.entry(name)?;
        self.view(&entry).ok_or_else(|| Error::refused(format!("`{name}` is not a tensor")).of_input(&self.name))
    }

    /// The value of this name that is not a tensor: its Python type, its `repr`, and JSON where that is exact.
    ///
    /// ```
    /// let checkpoint = ckpt::open("testdata/torch-2.15-py311/checkpoint.tar")?;
    /// let epoch = checkpoint.value("epoch")?;
    /// assert_eq!((epoch.type_name.as_str(), epoch.json.as_i64()), ("int", Some(96)));
    /// # Ok::<(), ckpt::Error>(())
    /// ```
    pub fn value(&self, name: &str) -> Result<Value> {
        let entry = self.entry(name)?;
        if self.view(&entry).is_some() {
            return Err(Error::refused(format!("`{name}` is a tensor")).of_input(&self.name));
        }
        let value = self.checkpoint.objects().listed(entry.node, entry.item, usize::MAX);
        self.checkpoint.graph.complete().map_err(|e| e.of_input(&self.name))?;
        Ok(value)
    }

    /// What is listed, in file order.
    pub(crate) fn entries(&self) -> Result<Vec<Entry>> {
        let names = self.checkpoint.names(&self.checkpoint.top());
        names.map(|names| names.entries).map_err(|e| e.of_input(&self.name))
    }

    fn view(&self, entry: &Entry) -> Option<TensorView<'_>> {
        let Item::Tensor(id, _) = entry.item else { return None };
        Some(TensorView { input: self, name: entry.name(), tensor: self.checkpoint.tensor(id)? })
    }

    /// What is listed under exactly this name.
    fn entry(&self, name: &str) -> Result<Entry> {
        let entries = self.entries()?;
        let mut found = entries.iter().filter(|entry| entry.name() == name);
        let wrong = match (found.next(), found.next()) {
            (Some(entry), None) => return Ok(entry.clone()),
            (Some(first), Some(second)) => ambiguous(name, &first.path, &second.path).into(),
            (None, _) => match self.checkpoint.place(&self.checkpoint.top(), name) {
                Ok(Located::Of(_)) => format!("`{name}` has elements of its own; name one of them").into(),
                _ => missing_in(name, None, &entries),
            },
        };
        Err(Error::refused(wrong).of_input(&self.name))
    }
}

impl<'a> TensorView<'a> {
    /// Its name: path elements joined with `.`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// torch's name of the type of its elements (`float32`), numpy's where torch has none; `unknown` where the file does
    /// not say.
    pub fn dtype(&self) -> &'a str {
        self.tensor.dtype.as_ref().map_or("unknown", DType::name)
    }

    /// Extents; negative ones, which a broken file may have, as they are.
    pub fn shape(&self) -> &'a [i64] {
        &self.tensor.shape
    }

    /// torch's name of its layout: `strided`, `sparse_coo`, ….
    pub fn layout(&self) -> &'static str {
        self.tensor.layout
    }

    /// The device that it was saved on, where the file says.
    pub fn device(&self) -> Option<&'a str> {
        self.tensor.device.as_deref()
    }

    /// Bytes of all elements, where that is known.
    pub fn bytes(&self) -> Option<u64> {
        self.tensor.bytes()
    }

    /// Why its elements cannot be read, as far as the structure of the file tells.
    pub fn problem(&self) -> Option<&'a str> {
        self.tensor.problem.as_deref()
    }

    /// All elements in row-major order. `T` is the type of the same name as [`TensorView::dtype`], or a float that is
    /// wider: nothing is rounded. Another dtype is an error that names it; sparse, quantized and meta tensors are errors
    /// too, and so is what [`Limits`](crate::Limits) forbids.
    ///
    /// ```
    /// let checkpoint = ckpt::open("testdata/torch-2.15-py311/checkpoint.tar")?;
    /// let steps = checkpoint.tensor("model_state_dict.steps")?;
    /// assert_eq!(steps.read::<i64>()?, [3, 1, 4]);
    ///
    /// let weight = checkpoint.tensor("model_state_dict.features.0.weight")?;
    /// let exact: Vec<f32> = weight.read()?;
    /// let wider: Vec<f64> = weight.read()?;
    /// assert!(exact.len() == 108 && exact.iter().zip(&wider).all(|(a, b)| f64::from(*a) == *b));
    /// assert!(weight.read::<ckpt::f16>().is_err());
    /// # Ok::<(), ckpt::Error>(())
    /// ```
    pub fn read<T: Scalar>(&self) -> Result<Vec<T>> {
        let checkpoint = &self.input.checkpoint;
        let elements = self.tensor.readable(&checkpoint.storages);
        let values = elements.and_then(|elements| read(&elements, &checkpoint.limits));
        values.map_err(|e| e.of_part(&self.name).of_input(&self.input.name))
    }
}

impl fmt::Debug for TensorView<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} {:?}", self.name, self.dtype(), self.shape())
    }
}
