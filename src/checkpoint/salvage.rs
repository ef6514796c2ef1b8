//! Tensors whose bytes are not all there: which they are, and the object without them.

use std::collections::{HashMap, HashSet};

use crate::checkpoint::names::Element;
use crate::checkpoint::tensor::Tensor;
use crate::checkpoint::{Checkpoint, Container, Entry, Item, TensorId};
use crate::container::zip::Member;
use crate::error::Result;
use crate::pickle::{Change, Node, NodeId};

/// A tensor that cannot be had.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Lost {
    /// Its name from the top object on.
    pub name: String,
    /// What is wrong with it.
    pub why: String,
}

impl Checkpoint {
    /// The tensors that are all there and may not be what was written, by every name they have.
    pub(crate) fn doubtful(&self) -> Result<Vec<Lost>> {
        let pickle = self.pickle_doubt();
        let why = |id: TensorId| {
            let tensor = self.tensors.get(id)?;
            let of_storage = |tensor: &Tensor| self.storages.get(tensor.storage()?)?.doubt();
            let of_parts = || tensor.parts().find_map(|part| of_storage(self.tensors.get(self.tensors.of(*part)?)?));
            of_storage(tensor).or_else(of_parts).or_else(|| pickle.clone())
        };
        let lost: HashSet<TensorId> = self.lost_nodes()?.into_values().collect();
        let mut found = Vec::new();
        for entry in self.names(&self.top())?.entries {
            if let Item::Tensor(id, _) = entry.item
                && !lost.contains(&id)
                && let Some(why) = why(id)
            {
                found.push(Lost { name: entry.name(), why });
            }
        }
        Ok(found)
    }

    /// Why names, types and places of the tensors may not be what was written.
    pub(crate) fn pickle_doubt(&self) -> Option<String> {
        let Some(zip) = self.zip() else { return self.odd_global() };
        let says = |member: &Member| Some(format!("{}: {}", member.name, member.doubt.as_deref()?));
        match self.container() {
            Container::Zip | Container::TorchScript => says(zip.in_top("data.pkl")?),
            Container::Pt2 => {
                let describes = |member: &&Member| {
                    let name = member.name.strip_prefix(zip.top()).unwrap_or(&member.name).trim_start_matches('/');
                    let in_data = name.starts_with("data/weights/") || name.starts_with("data/constants/");
                    in_data && (name.ends_with("_config.json") || name.ends_with(".pt"))
                };
                zip.members.iter().filter(describes).find_map(says)
            }
            _ => None,
        }
    }

    /// What no program writes: a class with control characters in its name. Without a checksum it is all that tells that bytes
    /// of the pickle were overwritten.
    fn odd_global(&self) -> Option<String> {
        let is_odd = |text: NodeId| self.graph.str_or_bytes(text).is_some_and(|text| text.contains(char::is_control));
        let is_global = |id: NodeId| match self.graph.node(id) {
            Node::Global { module, name } => is_odd(*module) || is_odd(*name),
            _ => false,
        };
        self.graph.ids().any(is_global).then(|| "the pickle names a class that no program writes".to_owned())
    }

    /// The constants of TorchScript's code, where their pickle is damaged or missing.
    pub(crate) fn lost_constants(&self) -> Option<Lost> {
        let zip = self.zip().filter(|_| self.container() == Container::TorchScript)?;
        let why = match zip.in_top("constants.pkl") {
            Some(member) => format!("{}: {}", member.name, member.doubt.as_deref()?),
            None => "constants.pkl is missing".to_owned(),
        };
        Some(Lost { name: "CONSTANTS".to_owned(), why })
    }

    /// Takes storages that may be damaged for missing, and so the tensors in them for lost.
    pub(crate) fn distrust(&mut self) {
        self.storages.distrust();
        self.tensors.inspect_again(&self.storages);
    }

    /// The tensors that are not all there, by every name they have.
    pub(crate) fn lost(&self) -> Result<Vec<Lost>> {
        let ids: HashSet<TensorId> = self.lost_nodes()?.into_values().collect();
        let mut lost = Vec::new();
        if ids.is_empty() {
            return Ok(lost);
        }
        for entry in self.names(&self.top())?.entries {
            if let Item::Tensor(id, _) = entry.item
                && ids.contains(&id)
            {
                let problem = self.tensors.get(id).and_then(|tensor| tensor.problem.clone());
                let why = problem.unwrap_or_else(|| "belongs together with a tensor that is not all there".to_owned());
                lost.push(Lost { name: entry.name(), why });
            }
        }
        Ok(lost)
    }

    /// Takes the tensors that are not all there out of every dict, and leaves `None` in their place elsewhere: the object
    /// can be saved again.
    pub(crate) fn give_up_lost(&mut self) -> Result<()> {
        let lost: HashSet<NodeId> = self.lost_nodes()?.into_keys().collect();
        for id in self.graph.ids() {
            let Some(node) = self.graph.node_mut(id) else { continue };
            match node {
                _ if lost.contains(&id) => *node = Node::None,
                Node::Dict(entries) => entries.retain(|entry| !lost.contains(&entry.value)),
                Node::Object(object) => {
                    let goes = |change: &Change| matches!(change, Change::Item(entry) if lost.contains(&entry.value));
                    object.changes.retain(|change| !goes(change));
                }
                _ => {}
            }
        }
        self.tensors.forget(&lost);
        self.storages.empty_missing();
        Ok(())
    }

    /// Every node that stands for a tensor that is not all there, for one that consists of such tensors, or for one that
    /// goes with a tensor whose state it is in.
    fn lost_nodes(&self) -> Result<HashMap<NodeId, TensorId>> {
        let mut lost = HashMap::new();
        loop {
            let before = lost.len();
            for (node, id, tensor) in self.tensors.nodes() {
                if tensor.problem.is_some() || tensor.parts().any(|part| lost.contains_key(part)) {
                    lost.insert(node, id);
                }
            }
            if lost.len() == before {
                break;
            }
        }
        if lost.is_empty() || self.tensors.iter().all(|tensor| tensor.state.is_none()) {
            return Ok(lost);
        }
        let names = self.names(&self.top())?;
        // those that hold a lost one go, then what they hold
        for goes_down in [false, true] {
            let mut around: Vec<&Entry> = Vec::new();
            for entry in &names.entries {
                while around.last().is_some_and(|outer| !is_below(&entry.path, &outer.path)) {
                    around.pop();
                }
                let Item::Tensor(id, _) = entry.item else { continue };
                let Some(tensor) = self.tensors.get(id) else { continue };
                if !goes_down && lost.contains_key(&entry.node) {
                    for outer in &around {
                        if let Item::Tensor(id, _) = outer.item
                            && self.tensors.get(id).is_some_and(Tensor::is_wrapper)
                        {
                            lost.insert(outer.node, id);
                        }
                    }
                } else if goes_down && around.iter().any(|outer| lost.contains_key(&outer.node)) {
                    lost.insert(entry.node, id);
                }
                if tensor.state.is_some() {
                    around.push(entry);
                }
            }
        }
        Ok(lost)
    }
}

fn is_below(path: &[Element], outer: &[Element]) -> bool {
    path.len() > outer.len() && path.starts_with(outer)
}
