//! What describes a tensor in the target: the input's own call with another storage, offset or type, or a new call of
//! torch's constructors for what no pickle described.

use super::Work;
use super::state_dict::leave_out;
use super::storages::Home;
use crate::checkpoint::Container;
use crate::checkpoint::constructors::Constructor;
use crate::checkpoint::storage::StorageId;
use crate::checkpoint::tensor::{Data, Tensor, TensorId, contiguous};
use crate::dtype::{DType, Known};
use crate::error::{Error, Result};
use crate::message::Setting;
use crate::pickle::{Change, Graph, Node, NodeId, Pair};

impl Work<'_> {
    /// The tuple of an object's arguments or state that begins with its storage: storage, offset, size, stride, ….
    fn view_of(&self, node: NodeId) -> Option<NodeId> {
        let object = self.checkpoint.graph.object(node)?;
        let nested = self.checkpoint.graph.tuple(object.args).and_then(|args| args.get(2)).copied();
        let states = object.changes.iter().filter_map(|change| match change {
            Change::Build(state) => Some(*state),
            _ => None,
        });
        let mut candidates = [object.args].into_iter().chain(nested).chain(states);
        candidates.find(|tuple| {
            let first = self.checkpoint.graph.tuple(*tuple).filter(|items| items.len() >= 4);
            first.and_then(|items| items.first()).is_some_and(|first| self.storage_of(*first).is_some())
        })
    }

    pub(super) fn edit_tensor(&mut self, node: NodeId, tensor: &Tensor) -> Result<()> {
        if let (Some(_), true) = (&self.options.cast, tensor.wraps) {
            let class = tensor.class.as_deref().unwrap_or("a wrapper");
            let message = format!("{class} wraps tensors and cannot be cast");
            return Err(Error::unsupported(message).advise(Setting::StateDict.then(" takes its parts")));
        }
        let Data::Storage { id, offset } = tensor.data else { return Ok(()) };
        let Some(view) = self.view_of(node) else { return Ok(()) };
        let mut items = self.checkpoint.graph.tuple(view).unwrap_or_default().to_vec();
        let Some((_, _, source)) = items.first().and_then(|first| self.storage_of(*first)) else { return Ok(()) };
        let mut offset = offset;
        if let Some(parts) = self.parts.get(&id) {
            let dtype = tensor.dtype.clone().unwrap_or(DType::Known(Known::UInt8));
            let size = u64::from(dtype.size().unwrap_or(1));
            let at = offset * size;
            let part = parts.range(..=at).next_back().map(|(start, end)| *start..*end);
            let part = part.filter(|_| tensor.numel() != Some(0)).unwrap_or(0..0);
            offset = if part.is_empty() { 0 } else { (at - part.start) / size };
            let made = self.persistent(Home::Storage(id, part), Some(source))?;
            if let Some(first) = items.first_mut() {
                *first = made;
            }
        }
        let moved = i64::try_from(offset).map_err(|_| Error::data("an impossible storage offset"))?;
        if items.get(1).is_some_and(|place| self.checkpoint.graph.int(*place) != Some(moved)) {
            let new = self.push(Node::Int(moved))?;
            items.iter_mut().skip(1).take(1).for_each(|place| *place = new);
        }
        self.retype(node, view, id, tensor, &mut items)?;
        let tuple = self.checkpoint.graph.push_tuple(&items)?;
        let tuple = self.checkpoint.graph.node(tuple).clone();
        self.set(view, tuple);
        Ok(())
    }

    /// Meta tensors over storages without bytes are described without them; whether there were any.
    pub(super) fn replace_meta(&mut self, order: &[NodeId]) -> Result<bool> {
        let mut any = false;
        for node in order {
            let tensor = self.checkpoint.tensors.of(*node).and_then(|id| self.checkpoint.tensors.get(id));
            if let Some(tensor) = tensor.filter(|tensor| self.is_meta_storage(*node, tensor)).cloned() {
                self.make_meta(*node, &tensor)?;
                any = true;
            }
        }
        Ok(any)
    }

    /// A meta tensor over a storage without bytes: TorchScript describes them so, and torch's legacy form cannot.
    fn is_meta_storage(&self, node: NodeId, tensor: &Tensor) -> bool {
        let without_storage = self.options.legacy || self.checkpoint.container() == Container::TorchScript;
        let constructor = self.checkpoint.objects().constructor(node);
        let strided = matches!(constructor, Some(Constructor::Tensor | Constructor::TensorV2 | Constructor::TensorV3));
        let is_meta = matches!(tensor.data, Data::Nothing) && tensor.device.as_deref() == Some("meta");
        without_storage && strided && is_meta
    }

    /// `_rebuild_meta_tensor_no_storage(dtype, size, stride, requires_grad)`, as torch writes meta tensors.
    fn make_meta(&mut self, node: NodeId, tensor: &Tensor) -> Result<()> {
        let dtype = tensor.dtype.clone().ok_or_else(|| Error::data("a tensor of unknown type"))?;
        let cast = self.checkpoint.tensors.of(node).and_then(|id| self.cast_of_array(id, &dtype));
        let dtype = cast.unwrap_or(dtype);
        let dtype = self.global("torch", dtype.name())?;
        let size = self.ints(&tensor.shape)?;
        let stride = self.ints(tensor.stride.as_deref().unwrap_or_default())?;
        let grad = if tensor.requires_grad == Some(true) { Graph::TRUE } else { Graph::FALSE };
        let callable = self.global("torch._utils", "_rebuild_meta_tensor_no_storage")?;
        let made = self.call(callable, &[dtype, size, stride, grad])?;
        self.set(node, made);
        Ok(())
    }

    /// `(array or tensor, dtype, device, requires_grad)`: torch casts to the type and moves to the device that stand there.
    pub(super) fn edit_on_device(&mut self, node: NodeId, id: TensorId, tensor: &Tensor) -> Result<()> {
        let cast = tensor.dtype.as_ref().and_then(|dtype| self.cast_of_array(id, dtype));
        if cast.is_none() && self.options.device.is_none() {
            return Ok(());
        }
        if let Data::Array { .. } = tensor.data {
            return self.make(node, id, tensor);
        }
        let mut args = self.checkpoint.objects().args(node).to_vec();
        let dtype = cast.map(|cast| self.global("torch", cast.name())).transpose()?;
        let device = self.options.device.clone().map(|device| self.shared_text(&device)).transpose()?;
        for (place, new) in [(1, dtype), (2, device)] {
            if let (Some(place), Some(new)) = (args.get_mut(place), new) {
                *place = new;
            }
        }
        let args = self.checkpoint.graph.push_tuple(&args)?;
        if let Some(Node::Object(object)) = self.checkpoint.graph.node_mut(node) {
            object.args = args;
        }
        Ok(())
    }

    /// After a cast the storage's class says the type: `_rebuild_tensor_v3` becomes `_rebuild_tensor_v2`.
    fn retype(
        &mut self,
        node: NodeId,
        view: NodeId,
        id: StorageId,
        tensor: &Tensor,
        items: &mut Vec<NodeId>,
    ) -> Result<()> {
        let Some(dtype) = &tensor.dtype else { return Ok(()) };
        if self.checkpoint.objects().constructor(node) != Some(Constructor::TensorV3)
            || self.cast_of(id, dtype)?.is_none()
            || self.checkpoint.graph.object(node).is_none_or(|object| object.args != view)
        {
            return Ok(());
        }
        if items.len() > 6 {
            items.remove(6);
        }
        let callable = self.global("torch._utils", "_rebuild_tensor_v2")?;
        if let Some(Node::Object(object)) = self.checkpoint.graph.node_mut(node) {
            object.callable = callable;
        }
        Ok(())
    }

    /// A tensor that no pickle describes becomes a call of `_rebuild_tensor_v2` (or v3, for types without a storage
    /// class).
    pub(super) fn make(&mut self, node: NodeId, id: TensorId, tensor: &Tensor) -> Result<()> {
        let dtype = tensor.dtype.clone().ok_or_else(|| Error::data("a tensor of unknown type"))?;
        let DType::Known(_) = dtype else {
            return Err(Error::unsupported(format!("torch has no {dtype}")).advise(leave_out()));
        };
        let (home, offset, stride) = match &tensor.data {
            // a storage of torch has one type
            Data::Storage { id: storage, .. } if self.is_seen_as_another(*storage, &dtype) => {
                (Home::Array(id), 0, Some(contiguous(&tensor.shape)))
            }
            Data::Storage { id: storage, offset } => match self.parts.get(storage) {
                Some(parts) => {
                    let size = u64::from(dtype.size().unwrap_or(1));
                    let part = parts.range(..=offset * size).next_back().map(|(start, end)| *start..*end);
                    let part = part.filter(|_| tensor.numel() != Some(0)).unwrap_or(0..0);
                    let offset = if part.is_empty() { 0 } else { (offset * size - part.start) / size };
                    (Home::Storage(*storage, part), offset, tensor.stride.clone())
                }
                None => (Home::Storage(*storage, 0..u64::MAX), *offset, tensor.stride.clone()),
            },
            Data::Array { .. } => (Home::Array(id), 0, Some(contiguous(&tensor.shape))),
            Data::Nothing if tensor.device.as_deref() == Some("meta") => return self.make_meta(node, tensor),
            _ => return Err(Error::unsupported(format!("a {} tensor cannot be described anew", tensor.layout))),
        };
        let source = match &home {
            Home::Storage(storage, _) => self.pid_node(*storage),
            Home::Array(_) => None,
        };
        let storage = self.persistent(home.clone(), source)?;
        let cast = match &home {
            Home::Storage(storage, _) => self.cast_of(*storage, &dtype)?,
            Home::Array(id) => self.cast_of_array(*id, &dtype),
        };
        let dtype = cast.unwrap_or(dtype);
        let offset = self.int(offset)?;
        let size = self.ints(&tensor.shape)?;
        let stride = self.ints(stride.as_deref().unwrap_or_default())?;
        let grad = if tensor.requires_grad == Some(true) { Graph::TRUE } else { Graph::FALSE };
        let hooks = self.global("collections", "OrderedDict")?;
        let hooks = self.call(hooks, &[])?;
        let hooks = self.push(hooks)?;
        let mut args = vec![storage, offset, size, stride, grad, hooks];
        // what the storage's class does not say has to be said beside it
        let name = match dtype.storage_class() == self.class_of_storage(storage) && dtype.storage_class().is_some() {
            true => "_rebuild_tensor_v2",
            false => {
                args.push(self.global("torch", dtype.name())?);
                "_rebuild_tensor_v3"
            }
        };
        if matches!(home, Home::Storage(..)) && (tensor.conj || tensor.neg) {
            args.push(self.flags(tensor)?);
        }
        let callable = self.global("torch._utils", name)?;
        let made = self.call(callable, &args)?;
        self.set(node, made);
        Ok(())
    }

    /// The name of the class that a reference to a storage has.
    fn class_of_storage(&self, reference: NodeId) -> Option<String> {
        let Node::Persistent(id) = self.checkpoint.graph.node(reference) else { return None };
        let class = self.checkpoint.graph.tuple(*id)?.get(1).copied()?;
        self.checkpoint.graph.global(class).map(|(_, name)| name.into_owned())
    }

    /// A node whose persistent id names the storage, to keep its class.
    fn pid_node(&self, id: StorageId) -> Option<NodeId> {
        self.checkpoint.storages.node_of(id)
    }

    fn flags(&mut self, tensor: &Tensor) -> Result<NodeId> {
        let mut entries = Vec::new();
        for (name, set) in [("conj", tensor.conj), ("neg", tensor.neg)] {
            if set {
                let key = self.checkpoint.graph.push_str(name)?;
                entries.push(Pair { key, value: Graph::TRUE, key_at: 0 });
            }
        }
        self.push(Node::Dict(Box::new(entries)))
    }

    pub(super) fn ints(&mut self, values: &[i64]) -> Result<NodeId> {
        let nodes = values.iter().map(|value| self.push(Node::Int(*value))).collect::<Result<Vec<_>>>()?;
        self.checkpoint.graph.push_tuple(&nodes)
    }
}
