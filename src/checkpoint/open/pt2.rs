//! `torch.export` archives (`.pt2`): raw storages and JSON that says which tensor is which part of them.
//!
//! Sources: `torch/export/pt2_archive/_package.py`, `torch/_export/serde/schema.py` (`PayloadMeta`, `TensorMeta`,
//! `ScalarType`, `Layout`). The graph of operators is not looked at.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::{Opened, Opener, Parts};
use crate::checkpoint::framed::Archived;
use crate::checkpoint::names::Element;
use crate::checkpoint::storage::{Bytes, Storage, StorageId};
use crate::checkpoint::tensor::{Data, Extents, Kind, Rare, STRIDED, Tensor};
use crate::container::ordered::{Ordered, json_error};
use crate::container::zip::{Member, Zip};
use crate::dtype::{ByteOrder, DType, Known};
use crate::error::{Error, Result};
use crate::pickle::NodeId;
use crate::source::read_vec;

/// `data/weights/<model>_weights_config.json` and `data/constants/<model>_constants_config.json`.
#[derive(Deserialize)]
struct Config {
    config: Ordered<Payload>,
}

#[derive(Deserialize)]
struct Payload {
    path_name: String,
    is_param: bool,
    use_pickle: bool,
    tensor_meta: Option<Meta>,
}

#[derive(Deserialize)]
struct Meta {
    dtype: u32,
    sizes: Vec<SymInt>,
    requires_grad: bool,
    device: Device,
    strides: Vec<SymInt>,
    storage_offset: SymInt,
    layout: u32,
}

#[derive(Deserialize)]
struct Device {
    r#type: String,
    index: Option<i64>,
}

/// An integer, or an expression with the value that it had when the program was traced.
#[derive(Deserialize)]
struct SymInt {
    as_int: Option<i64>,
    as_expr: Option<SymExpr>,
}

#[derive(Deserialize)]
struct SymExpr {
    hint: Option<Hint>,
}

#[derive(Deserialize)]
struct Hint {
    as_int: Option<i64>,
}

impl SymInt {
    fn value(&self) -> Option<i64> {
        self.as_int.or_else(|| self.as_expr.as_ref()?.hint.as_ref()?.as_int)
    }
}

/// The export schema's own numbers (`ScalarType`).
const DTYPES: &[(u32, Known)] = &[
    (1, Known::UInt8),
    (2, Known::Int8),
    (3, Known::Int16),
    (4, Known::Int32),
    (5, Known::Int64),
    (6, Known::Float16),
    (7, Known::Float32),
    (8, Known::Float64),
    (9, Known::Complex32),
    (10, Known::Complex64),
    (11, Known::Complex128),
    (12, Known::Bool),
    (13, Known::BFloat16),
    (28, Known::UInt16),
    (29, Known::Float8E4M3fn),
    (30, Known::Float8E5M2),
    (31, Known::Float8E4M3fnuz),
    (32, Known::Float8E5M2fnuz),
    (33, Known::Float8E8M0fnu),
    (34, Known::UInt32),
    (35, Known::UInt64),
];

/// `Layout.Strided`.
const LAYOUT_STRIDED: u32 = 7;

const WEIGHTS: &str = "data/weights/";
const CONSTANTS: &str = "data/constants/";

impl Opener<'_> {
    pub(super) fn pt2(&self, zip: Arc<Zip>, parts: &mut Parts) -> Result<Opened> {
        let (byte_order, mut notes) = self.byte_order(&zip)?;
        let mut archive = Archive { opener: self, byte_order, storages: HashMap::new(), zip };
        let models = archive.models();
        let mut dicts = Vec::new();
        let mut attached = Vec::new();
        for model in &models {
            let Some(weights) = archive.weights(model, parts)? else { continue };
            dicts.push((model.as_str(), weights));
            let (constants, objects) = archive.constants(model, parts)?;
            for (name, node) in constants {
                let above = (models.len() > 1).then(|| Element::Text(model.clone()));
                attached.push((above.into_iter().chain([Element::Text(name)]).collect(), node));
            }
            if !objects.is_empty() {
                notes.push(format!("constants that are no tensors are left aside: {}", objects.join(", ")));
            }
        }
        let root = match dicts.as_slice() {
            [] => {
                return Err(Error::unsupported("is a torch.export archive without weights (compiled by AOTInductor?)"));
            }
            // how many models there were is not known of every archive; one alone has this name
            [(name, weights)] if models.len() == 1 && (archive.zip.is_complete || *name == "model") => *weights,
            _ => parts.dict(dicts)?,
        };
        if self.damaged {
            parts.storages.probe(0)?;
        }
        if self.damaged && !archive.zip.is_complete {
            notes.push("other models, if the archive had any, are lost".to_owned());
        }
        let byte_order = Some(archive.byte_order);
        let era = Some("torch.export");
        let framed = self.archive(Archived::Pt2 { constants: attached }, archive.zip);
        Ok(Opened { byte_order, era, notes, ..Opened::new(framed, root) })
    }
}

struct Archive<'a, 'b> {
    opener: &'a Opener<'b>,
    zip: Arc<Zip>,
    byte_order: ByteOrder,
    /// Storages by their member's name: tensors that share one name the same member.
    storages: HashMap<String, Option<StorageId>>,
}

/// Tensors by name, and the names of what is none.
type Constants = (Vec<(String, NodeId)>, Vec<String>);

impl Archive<'_, '_> {
    /// `models/<name>.json`, in the archive's order.
    fn models(&self) -> Vec<String> {
        let top = self.zip.top();
        let members = self.zip.members.iter().filter_map(|member| {
            let name = member.name.strip_prefix(top).map_or(&*member.name, |name| name.trim_start_matches('/'));
            let program = name.strip_prefix("models/").and_then(|name| name.strip_suffix(".json"));
            // a program that is lost leaves its weights
            let weights = || name.strip_prefix(WEIGHTS)?.strip_suffix("_weights_config.json");
            program.or_else(|| weights().filter(|_| self.opener.damaged)).map(str::to_owned)
        });
        let mut models: Vec<String> = Vec::new();
        for model in members {
            if !models.contains(&model) {
                models.push(model);
            }
        }
        models
    }

    fn json<T: DeserializeOwned>(&self, member: &Member) -> Result<T> {
        let source = self.zip.member_source(member)?;
        let max = self.opener.limits.max_header_bytes;
        if source.len() > max {
            let message = format!("{} bytes of JSON; {max} are allowed", source.len());
            return Err(Error::limit(message).in_member(&member.name));
        }
        let json = read_vec(source.as_ref(), 0, source.len())?;
        serde_json::from_slice(&json).map_err(|e| {
            let (at, what) = json_error(&json, &e);
            Error::malformed(what).at(at).in_member(&member.name)
        })
    }

    /// The state dict of a model; `None` when the archive has no weights for it.
    fn weights(&mut self, model: &str, parts: &mut Parts) -> Result<Option<NodeId>> {
        if let Some(member) = self.zip.in_top(&format!("{WEIGHTS}{model}.pt")) {
            // torch 2.8 and 2.9 write one torch.save file
            return self.saved(member, parts).map(Some);
        }
        let Some(member) = self.zip.in_top(&format!("{WEIGHTS}{model}_weights_config.json")) else { return Ok(None) };
        let Config { config } = self.json(member)?;
        let mut items = Vec::new();
        for (name, payload) in &config.0 {
            items.push((name.as_str(), self.tensor(WEIGHTS, name, payload, parts)?));
        }
        parts.dict(items).map(Some)
    }

    fn constants(&mut self, model: &str, parts: &mut Parts) -> Result<Constants> {
        let mut found = Constants::default();
        if let Some(member) = self.zip.in_top(&format!("{CONSTANTS}{model}_constants_config.json")) {
            let Config { config } = self.json(member)?;
            for (name, payload) in config.0 {
                // other prefixes stand for script objects and opaque pickles
                if payload.path_name.starts_with("tensor_") {
                    let node = self.tensor(CONSTANTS, &name, &payload, parts)?;
                    found.0.push((name, node));
                } else {
                    found.1.push(name);
                }
            }
        }
        Ok(found)
    }

    fn saved(&self, member: &Member, parts: &mut Parts) -> Result<NodeId> {
        let source = self.zip.member_source(member)?;
        let inner = Opener { source, ..*self.opener };
        inner.saved(parts).map(|opened| opened.root).map_err(|e| e.in_member(&member.name))
    }

    fn tensor(&mut self, folder: &str, name: &str, payload: &Payload, parts: &mut Parts) -> Result<NodeId> {
        let path = format!("{folder}{}", payload.path_name);
        let member = self.zip.in_top(&path);
        let doubt = member.and_then(|member| member.doubt.as_deref()).filter(|_| payload.use_pickle);
        if let (true, Some(member), None) = (payload.use_pickle, member, doubt) {
            return self.saved(member, parts);
        }
        let Some(meta) = &payload.tensor_meta else {
            return Err(Error::malformed(format!("nothing says what the tensor {name:?} looks like")));
        };
        let mut tensor = meta.tensor();
        tensor.kind = if payload.is_param { Kind::Parameter } else { Kind::Tensor };
        if let Some(doubt) = doubt {
            tensor.problem = Some(format!("its data, member {path}, may be damaged: {doubt}"));
            return parts.tensor(tensor);
        }
        match self.storage(&path, &payload.path_name, parts)? {
            Some(id) => {
                let offset = tensor.storage_offset.and_then(|offset| u64::try_from(offset).ok());
                tensor.data = Data::Storage { id, offset: offset.unwrap_or(0) };
            }
            None => tensor.problem = Some(format!("its data, member {path}, is missing")),
        }
        parts.tensor(tensor)
    }

    /// The storage that is a member's bytes; `None` when there is no such member.
    fn storage(&mut self, path: &str, key: &str, parts: &mut Parts) -> Result<Option<StorageId>> {
        if let Some(known) = self.storages.get(path) {
            return Ok(*known);
        }
        let member = self.zip.in_top(path);
        let id = match member.and_then(|member| Some((self.zip.position(&member.name)?, member.size))) {
            Some((index, size)) => Some(parts.storages.add(Storage {
                key: key.into(),
                class: "UntypedStorage".into(),
                dtype: Known::UInt8.into(),
                location: "cpu".into(),
                numel: size,
                byte_order: self.byte_order,
                bytes: Bytes::Member { zip: Arc::clone(&self.zip), index, opened: OnceLock::new() },
            })?),
            None => None,
        };
        self.storages.insert(path.to_owned(), id);
        Ok(id)
    }
}

impl Meta {
    /// What the tensor looks like, without its data.
    fn tensor(&self) -> Tensor {
        let known = DTYPES.iter().find(|(number, _)| *number == self.dtype).map(|(_, known)| DType::from(*known));
        let values = |list: &[SymInt]| list.iter().map(SymInt::value).collect::<Option<Extents>>();
        let (shape, stride, offset) = (values(&self.sizes), values(&self.strides), self.storage_offset.value());
        let problem = match () {
            () if shape.is_none() || stride.is_none() || offset.is_none() => {
                Some("its size is an expression without a value".to_owned())
            }
            () if self.layout != LAYOUT_STRIDED => Some(format!("its layout has the unknown number {}", self.layout)),
            () => None,
        };
        let kind = &self.device.r#type;
        Tensor {
            dtype: Some(known.unwrap_or_else(|| DType::other(&format!("type number {}", self.dtype), None))),
            shape: shape.unwrap_or_default(),
            stride,
            storage_offset: offset,
            layout: STRIDED,
            device: Some(
                self.device.index.map_or_else(|| kind.as_str().into(), |index| format!("{kind}:{index}").into()),
            ),
            requires_grad: Some(self.requires_grad),
            rare: Rare::of_problem(problem),
            ..Tensor::default()
        }
    }
}
