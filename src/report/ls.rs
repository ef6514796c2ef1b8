//! What `ckpt ls` found in one input: the JSON schema `ckpt.ls/1`, field for field, and beside it what only the table
//! shows (skipped in JSON).

pub(super) mod layout;
mod remarks;
#[cfg(test)]
pub(crate) mod sample;

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use serde::ser::{Serialize, SerializeSeq, Serializer};
use serde_json::{Number, Value};

pub use layout::Names;

/// One input, listed. Fields stand in the order of the JSON. The rows of its tensors may be something that makes them one by
/// one.
#[derive(Debug, Clone, serde::Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Listing<Rows = Vec<TensorRow>> {
    /// Always [`Listing::SCHEMA`].
    pub schema: &'static str,
    /// The path as given; `-` for standard input.
    pub file: String,
    /// Its bytes in base64, where it is no Unicode.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file_bytes: Option<String>,
    /// `zip`, `legacy`, `tar`, `pickle`, `torchscript`, `pt2`, `safetensors`, `npz`, `sharded`, `dcp`, `deepspeed`, `ranks`, `megatron`.
    pub container: &'static str,
    /// Bytes on disk; of a directory the sum of its files.
    pub bytes: u64,
    /// PROTO's, else 0 or 1; `None` where there is no pickle.
    pub pickle_protocol: Option<u8>,
    /// `little` or `big`.
    pub byte_order: Option<&'static str>,
    /// The bare class name of the top object.
    pub root_type: Option<String>,
    /// `gzip`, `zlib`, `bz2`, `xz`, `lzma`.
    pub compression: Option<&'static str>,
    /// Sums over the tensors.
    pub totals: Totals,
    /// Of the weights, as `ckpt digest` prints it; only with `--hash`, where it is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
    /// In file order, or sorted as asked.
    pub tensors: Rows,
    /// In file order, or sorted as asked.
    pub values: Vec<ValueRow>,
    /// Which torch wrote it, as far as the container tells: `torch 1.6 or newer`.
    #[serde(skip)]
    pub era: Option<String>,
    /// Modules and other mappings that the file gives a class for: whole name (as tensors are named) and class.
    #[serde(skip)]
    pub modules: Vec<(String, String)>,
    /// For stderr: what was left aside or guessed.
    #[serde(skip)]
    pub notes: Vec<String>,
}

/// Sums over the tensors of a listing.
#[derive(Debug, Clone, Default, serde::Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Totals {
    /// How many tensors are listed.
    pub tensors: u64,
    /// Elements of floating and complex tensors outside optimizers, tied ones once, without buffers.
    pub parameters: u64,
    /// Elements of buffers.
    pub buffers: u64,
    /// Bytes of all tensors' elements, shared ones counted each time.
    pub tensor_bytes: u64,
    /// Bytes of the storages they lie in, each counted once.
    pub storage_bytes: u64,
    /// What there is of each dtype, in file order.
    #[serde(serialize_with = "as_map")]
    #[cfg_attr(test, schemars(with = "std::collections::BTreeMap<String, OfDType>"))]
    pub dtypes: Vec<(Cow<'static, str>, OfDType)>,
    /// What the storages take in the file, where that differs (deflated members).
    #[serde(skip)]
    pub disk_bytes: Option<u64>,
}

impl Totals {
    /// Counts anew what rows have of parameters, buffers and dtypes: dtype and bytes of each, and what counts of it as
    /// parameters and buffers.
    pub(crate) fn count(&mut self, rows: impl Iterator<Item = (Cow<'static, str>, u64, (u64, u64))>) {
        (self.parameters, self.buffers) = (0, 0);
        self.dtypes.clear();
        let mut places: HashMap<Cow<'static, str>, usize> = HashMap::new();
        for (dtype, bytes, (parameters, buffers)) in rows {
            self.parameters = self.parameters.saturating_add(parameters);
            self.buffers = self.buffers.saturating_add(buffers);
            // most tensors are of the dtype of the one before
            let at = match self.dtypes.last() {
                Some((last, _)) if *last == dtype => self.dtypes.len() - 1,
                _ => *places.entry(dtype).or_insert_with_key(|dtype| {
                    self.dtypes.push((dtype.clone(), OfDType::default()));
                    self.dtypes.len() - 1
                }),
            };
            if let Some((_, of)) = self.dtypes.get_mut(at) {
                of.tensors += 1;
                of.bytes = of.bytes.saturating_add(bytes);
            }
        }
    }
}

/// The tensors of one dtype.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct OfDType {
    /// How many there are.
    pub tensors: u64,
    /// Bytes of their elements.
    pub bytes: u64,
}

fn as_map<S: Serializer>(dtypes: &[(Cow<'static, str>, OfDType)], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_map(dtypes.iter().map(|(name, of)| (name, of)))
}

/// One tensor or array.
#[derive(Debug, Clone, Default, serde::Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct TensorRow {
    /// Path elements joined with `.`; empty for a bare tensor.
    pub name: String,
    /// How to get there from the top object.
    pub path: Vec<PathElement>,
    /// `tensor`, `parameter`, `ndarray`.
    pub kind: &'static str,
    /// torch's name.
    pub dtype: Cow<'static, str>,
    /// Elements in each dimension.
    pub shape: Vec<i64>,
    /// Step of each dimension in elements; `None` for sparse layouts.
    pub stride: Option<Vec<i64>>,
    /// First element in the storage; `None` where there is no storage.
    pub storage_offset: Option<i64>,
    /// `strided`, `sparse_coo`, …
    pub layout: &'static str,
    /// As saved: `cpu`, `cuda:0`, `meta`; `None` where the format does not say.
    pub device: Option<Arc<str>>,
    /// As pickled.
    pub requires_grad: Option<bool>,
    /// False for what a module holds but `state_dict()` does not give.
    pub in_state_dict: bool,
    /// The parameter that a part of an optimizer's state belongs to, where that is certain.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub of: Option<Arc<str>>,
    /// Elements times the size of one.
    pub bytes: u64,
    /// The storage's key.
    pub storage: Option<Arc<str>>,
    /// The other tensors in the same storage.
    #[cfg_attr(test, schemars(with = "Vec<String>"))]
    pub shares_with: Sharing,
    /// Why the data cannot be trusted.
    pub problem: Option<String>,
    /// Only with `--hash`; then `Some(None)` where there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sha256: Option<Option<String>>,
    /// Only with `--stats`; then `Some(None)` where there are none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stats: Option<Option<Box<Stats>>>,
    /// What counts into [`Totals::parameters`], unless a tensor that it is tied to has been counted.
    #[serde(skip)]
    pub parameters: u64,
    /// The same for [`Totals::buffers`].
    #[serde(skip)]
    pub buffers: u64,
    /// The same for all names of one tensor, and for no others.
    #[serde(skip)]
    pub tied: Option<usize>,
    /// The class of a tensor subclass (`DTensor`).
    #[serde(skip)]
    pub class: Option<String>,
    /// How it is quantized: `per tensor affine, scale 0.1, zero point 10`.
    #[serde(skip)]
    pub quantizer: Option<String>,
    /// The elements stand for their complex conjugates.
    #[serde(skip)]
    pub conj: bool,
    /// The elements stand for their negatives.
    #[serde(skip)]
    pub neg: bool,
    /// Bytes of the whole storage.
    #[serde(skip)]
    pub storage_bytes: Option<u64>,
}

/// One value that is no tensor.
#[derive(Debug, Clone, serde::Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct ValueRow {
    /// Path elements joined with `.`.
    pub name: String,
    /// How to get there from the top object.
    pub path: Vec<PathElement>,
    /// Python's bare class name.
    #[serde(rename = "type")]
    pub class: String,
    /// JSON where that is exact, else null.
    pub value: Value,
    /// Python's `repr`, cut to a bound.
    pub repr: String,
}

/// One step from an object to a part of it.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(untagged)]
pub enum PathElement {
    /// A dict key, an attribute, or the repr of another key.
    Text(String),
    /// A list index or an integer key.
    Int(i64),
    /// A boolean key.
    Bool(bool),
}

/// Numbers over all elements of one tensor; JSON has null for what is not finite or has no meaning.
#[derive(Debug, Clone, Default, serde::Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Stats {
    /// The smallest element.
    pub min: Option<Number>,
    /// The largest element.
    pub max: Option<Number>,
    /// The arithmetic mean.
    pub mean: Option<f64>,
    /// The standard deviation.
    pub std: Option<f64>,
    /// Elements equal to zero.
    pub zeros: u64,
    /// Elements that are not a number.
    pub nan: u64,
    /// Elements that are infinite.
    pub inf: u64,
}

/// The names of one storage's tensors, seen from one of them. The list is held once for the whole group, so that a
/// storage of 100,000 tensors costs no more than its names.
#[derive(Debug, Clone, Default)]
pub struct Sharing {
    group: Option<Arc<[String]>>,
    at: usize,
    total: u64,
}

impl Sharing {
    /// How `group[at]` sees the others. `group` may be cut to one name more than are to be shown; `at` is then past its
    /// end for the tensors that were cut. `total` counts the whole group.
    pub fn new(group: Arc<[String]>, at: usize, total: u64) -> Self {
        Sharing { group: Some(group), at, total }
    }

    /// Names of other tensors in the same storage, in file order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        let group = self.group.as_deref().unwrap_or(&[]);
        let most = if self.at < group.len() { group.len() } else { group.len().saturating_sub(1) };
        let others = group.iter().enumerate().filter(|(i, _)| *i != self.at);
        others.take(most).map(|(_, name)| name.as_str())
    }

    /// How many other tensors lie in the same storage, named or not.
    pub fn others(&self) -> u64 {
        self.total.saturating_sub(1)
    }
}

impl Serialize for Sharing {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut names = serializer.serialize_seq(None)?;
        for name in self.names() {
            names.serialize_element(name)?;
        }
        names.end()
    }
}

/// By what `ckpt ls` sorts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum SortBy {
    /// Byte order of the names.
    Name,
    /// Largest tensors first.
    Size,
    /// File order.
    #[default]
    File,
}

impl Listing {
    /// The name of the JSON schema.
    pub const SCHEMA: &'static str = "ckpt.ls/1";

    /// Counts parameters, buffers and dtypes of the rows into the totals.
    pub fn count(&mut self) {
        let mut ties = HashSet::new();
        self.totals.count(self.tensors.iter().map(|row| {
            let is_first = row.tied.is_none_or(|tied| ties.insert(tied));
            let counts = if is_first { (row.parameters, row.buffers) } else { (0, 0) };
            (row.dtype.clone(), row.bytes, counts)
        }));
    }

    /// Sorts tensors and values, stably; values have no size and keep their order then. `reverse` turns the result
    /// round.
    pub fn sort(&mut self, by: SortBy, reverse: bool) {
        match by {
            SortBy::File => {}
            SortBy::Name => {
                self.tensors.sort_by(|a, b| a.name.cmp(&b.name));
                self.values.sort_by(|a, b| a.name.cmp(&b.name));
            }
            SortBy::Size => self.tensors.sort_by_key(|row| std::cmp::Reverse(row.bytes)),
        }
        if reverse {
            self.tensors.reverse();
            self.values.reverse();
        }
    }
}

/// A name as it is shown: the top object itself has an empty one.
pub fn shown_name(name: &str) -> &str {
    if name.is_empty() { "." } else { name }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::render::{Renderer, json::Json};

    fn to_json(listing: &Listing) -> String {
        let mut out = Vec::new();
        Json.render(listing, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    // the contract's example, as far as it is spelled out there
    #[test]
    fn json_is_the_contracts_example() {
        let text = |t: &str| PathElement::Text(t.into());
        let listing = Listing {
            schema: Listing::SCHEMA,
            file: "checkpoint.tar".into(),
            file_bytes: None,
            container: "zip",
            bytes: 17909,
            pickle_protocol: Some(2),
            byte_order: Some("little"),
            root_type: Some("dict".into()),
            compression: None,
            totals: Totals {
                tensors: 40,
                parameters: 505,
                buffers: 0,
                tensor_bytes: 6064,
                storage_bytes: 6064,
                dtypes: vec![("float32".into(), OfDType { tensors: 40, bytes: 6064 })],
                disk_bytes: Some(7),
            },
            digest: None,
            tensors: vec![TensorRow {
                name: "model_state_dict.features.0.weight".into(),
                path: vec![text("model_state_dict"), text("features.0.weight")],
                sha256: Some(Some("…".into())),
                ..sample::tensor(&[], &[4, 3, 3, 3])
            }],
            values: vec![ValueRow {
                name: "epoch".into(),
                path: vec![text("epoch")],
                class: "int".into(),
                value: 96.into(),
                repr: "96".into(),
            }],
            era: Some("torch 1.6 or newer".into()),
            modules: vec![("features".into(), "Sequential".into())],
            notes: vec!["a note".into()],
        };
        let expected = concat!(
            r#"{"schema":"ckpt.ls/1","file":"checkpoint.tar","container":"zip","bytes":17909,"pickle_protocol":2,"#,
            r#""byte_order":"little","root_type":"dict","compression":null,"#,
            r#""totals":{"tensors":40,"parameters":505,"buffers":0,"tensor_bytes":6064,"storage_bytes":6064,"#,
            r#""dtypes":{"float32":{"tensors":40,"bytes":6064}}},"tensors":["#,
            r#"{"name":"model_state_dict.features.0.weight","path":["model_state_dict","features.0.weight"],"#,
            r#""kind":"tensor","dtype":"float32","shape":[4,3,3,3],"stride":[27,9,3,1],"storage_offset":0,"#,
            r#""layout":"strided","device":"cpu","requires_grad":false,"in_state_dict":true,"bytes":432,"#,
            r#""storage":"1","shares_with":[],"problem":null,"sha256":"…"}],"#,
            r#""values":[{"name":"epoch","path":["epoch"],"type":"int","value":96,"repr":"96"}]}"#,
            "\n"
        );
        assert_eq!(to_json(&listing), expected);
    }

    #[test]
    fn what_was_not_asked_for_is_no_key_and_what_there_is_not_is_null() {
        let mut listing = sample::listing();
        assert!(!to_json(&listing).contains("sha256") && !to_json(&listing).contains("stats"));
        listing.tensors.truncate(1);
        listing.tensors[0].sha256 = Some(None);
        listing.tensors[0].stats =
            Some(Some(Box::new(Stats { mean: Some(f64::INFINITY), nan: 1, ..Stats::default() })));
        let json = to_json(&listing);
        let end = r#""problem":null,"sha256":null,"stats":{"min":null,"max":null,"mean":null,"std":null,"zeros":0,"nan":1,"inf":0}}],"#;
        assert!(json.contains(end), "{json}");
    }

    #[test]
    fn path_elements_keep_their_types() {
        let path = [PathElement::Text("a.b".into()), PathElement::Int(i64::MAX), PathElement::Bool(true)];
        assert_eq!(serde_json::to_string(&path).unwrap(), r#"["a.b",9223372036854775807,true]"#);
    }

    #[test]
    fn sharing_leaves_out_oneself_and_is_bounded() {
        let group: Arc<[String]> = ["a", "b", "c"].map(String::from).into();
        let names = |at| Sharing::new(group.clone(), at, 9).names().collect::<Vec<_>>().join("");
        assert_eq!((names(0), names(2), names(8)), ("bc".into(), "ab".into(), "ab".into()));
        assert_eq!(Sharing::default().names().count(), 0);
        assert_eq!((Sharing::new(group.clone(), 0, 9).others(), Sharing::default().others()), (8, 0));
    }

    #[test]
    fn sorting() {
        let order = |by, reverse| {
            let mut listing = sample::listing();
            listing.sort(by, reverse);
            let short = |name: &str| name.rsplit('.').next().map(str::to_owned);
            let tensors: Vec<_> = listing.tensors.iter().filter_map(|row| short(&row.name)).collect();
            format!("{} {}", tensors.join(" "), listing.values[0].name.len())
        };
        assert_eq!(order(SortBy::File, false), "weight weight wte head ids 5");
        assert_eq!(order(SortBy::File, true), "ids head wte weight weight 8");
        assert_eq!(order(SortBy::Name, false), "head ids weight weight wte 5");
        assert_eq!(order(SortBy::Size, false), "weight weight ids wte head 5");
        assert_eq!(order(SortBy::Size, true), "head wte ids weight weight 8");
    }
}
