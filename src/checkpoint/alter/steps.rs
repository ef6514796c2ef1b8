//! The steps: a value is set, what a name stands for is deleted or moved, the top object is wrapped or unwrapped.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::Done;
use super::objects::Objects;
use super::objects::entries_of;
use super::spot::{Holder, Spot, Target};
use crate::checkpoint::names::{self, join};
use crate::checkpoint::object::{Child, Label};
use crate::checkpoint::{Checkpoint, Located, literal};
use crate::error::{Error, Result};
use crate::pickle::splice::Origin;
use crate::pickle::{Change, Node, NodeId, Pair};

/// Keys of one dict that begin alike.
struct Below {
    /// The dict.
    node: NodeId,
    /// Its name, with a dot; nothing for the top object.
    above: String,
    /// The keys, by their places among the items.
    keys: BTreeMap<usize, String>,
}

fn counted(elements: usize) -> String {
    if elements == 1 { "1 element".to_owned() } else { format!("{elements} elements") }
}

impl Objects {
    pub(super) fn set(&mut self, checkpoint: &mut Checkpoint, name: &str, value: &str) -> Result<Done> {
        if name == "." {
            return Err(Error::refused("the top object cannot be set"));
        }
        let value = literal::literal(&mut checkpoint.graph, value)?;
        let Some(spot) = self.spot(checkpoint, name)? else {
            let (container, key) = self.container_of(checkpoint, name)?;
            let new = Some(checkpoint.described(value));
            self.add(checkpoint, &container, &key, value)?;
            return Ok(Done::was(None, new));
        };
        let done = Done::was(checkpoint.described(spot.node), checkpoint.described(value));
        if let Label::Index(index) = spot.label {
            self.set_element(checkpoint, &spot, index, value)?;
            return Ok(done);
        }
        let holder = checkpoint.holder(&spot, name)?;
        checkpoint.replace_entry(&holder, Some(Pair { value, ..holder.entry }));
        if holder.entry.key_at != 0 {
            self.grafts.fates.entry(holder.entry.key_at).or_default().value = Some(value);
        }
        Ok(done)
    }

    fn set_element(&mut self, checkpoint: &mut Checkpoint, spot: &Spot, index: u64, value: NodeId) -> Result<()> {
        let place = usize::try_from(index).unwrap_or(usize::MAX);
        let mut items = checkpoint.graph.sequence(spot.parent).map(<[NodeId]>::to_vec).unwrap_or_default();
        let Some(item) = items.get_mut(place) else {
            let class = checkpoint.objects().type_name(spot.parent);
            return Err(Error::unsupported(format!("an element of a {class} cannot be set; set the whole of it")));
        };
        *item = value;
        let new = match checkpoint.graph.node(spot.parent) {
            Node::List(_) => Node::List(Box::new(items)),
            _ => {
                let tuple = checkpoint.graph.push_tuple(&items)?;
                checkpoint.graph.node(tuple).clone()
            }
        };
        checkpoint.set_node(spot.parent, new);
        if let Some(locator) = &spot.locator {
            let place = self.place_in_file(locator, place);
            self.grafts.elements.insert((locator.clone(), place), Some(value));
        }
        Ok(())
    }

    pub(super) fn delete(&mut self, checkpoint: &mut Checkpoint, name: &str) -> Result<Done> {
        if name == "." {
            return Err(Error::refused("the top object cannot be deleted"));
        }
        if let Some(below) = self.keys_below(checkpoint, name)? {
            let fates = &mut self.grafts.fates;
            checkpoint.change_entries(below.node, |index, entry| match below.keys.contains_key(&index) {
                false => Some(entry),
                true => {
                    if entry.key_at != 0 {
                        fates.entry(entry.key_at).or_default().is_gone = true;
                    }
                    None
                }
            });
            return Ok(Done::was(counted(below.keys.len()), None));
        }
        let spot = self.spot(checkpoint, name)?.ok_or_else(|| checkpoint.not_there(name))?;
        let done = Done::was(checkpoint.described(spot.node), None);
        match (spot.label, checkpoint.graph.node(spot.parent)) {
            (Label::Index(index), Node::List(items)) => {
                let (mut items, place) = (items.to_vec(), usize::try_from(index).unwrap_or(usize::MAX));
                if place < items.len() {
                    items.remove(place);
                }
                checkpoint.set_node(spot.parent, Node::List(Box::new(items)));
                if let Some(locator) = &spot.locator {
                    let place = self.place_in_file(locator, place);
                    self.grafts.elements.insert((locator.clone(), place), None);
                    let gone = self.gone.entry(locator.clone()).or_default();
                    gone.insert(gone.partition_point(|other| *other < place), place);
                }
            }
            _ => drop(self.remove(checkpoint, &spot, name)?),
        }
        Ok(done)
    }

    /// The keys that begin with a name and a dot, where they are keys of one dict and no object has the name.
    fn keys_below(&self, checkpoint: &Checkpoint, name: &str) -> Result<Option<Below>> {
        let Located::Of(root) = checkpoint.place(&checkpoint.top(), name)? else { return Ok(None) };
        let Some(stem) = root.stem.as_deref().filter(|_| join(&root.path) == name) else { return Ok(None) };
        if name.is_empty() {
            return Err(checkpoint.not_there(name));
        }
        let several =
            || Error::refused(format!("`{name}` is the beginning of names in several objects; name each of them"));
        let above = match name.strip_suffix(stem) {
            Some("") => String::new(),
            Some(above) if above.ends_with('.') => above.to_owned(),
            _ => return Err(several()),
        };
        let node = checkpoint.objects().unwrap(root.node);
        let inside = format!("{stem}.");
        let mut keys: BTreeMap<usize, String> = BTreeMap::new();
        for (index, entry) in entries_of(&checkpoint.graph, node).into_iter().enumerate() {
            let label = checkpoint.element(Label::Key(entry.key)).to_string();
            if label.starts_with(&inside) {
                keys.insert(index, label);
            }
        }
        let labels: HashSet<&str> = keys.values().map(String::as_str).collect();
        // one of the keys, an element below it: what else is listed stands elsewhere
        let is_below = |entry: &str| {
            let label = entry.strip_prefix(&above).unwrap_or_default();
            let ends = label.match_indices('.').map(|(at, _)| at).chain([label.len()]);
            ends.filter_map(|end| label.get(..end)).any(|label| labels.contains(label))
        };
        let inside = format!("{name}.");
        let all = checkpoint.names(&checkpoint.top())?.entries;
        let is_elsewhere =
            all.iter().map(names::Entry::name).any(|entry| entry.starts_with(&inside) && !is_below(&entry));
        let Some(first) = keys.values().next().filter(|_| labels.len() == keys.len() && !is_elsewhere) else {
            return Err(several());
        };
        // the way there is as for one of them
        let first = format!("{above}{first}");
        let spot = self.spot(checkpoint, &first)?.ok_or_else(|| checkpoint.not_there(name))?;
        if spot.parent != node {
            return Err(several());
        }
        checkpoint.holder(&spot, &first)?;
        Ok(Some(Below { node, above, keys }))
    }

    fn remove(&mut self, checkpoint: &mut Checkpoint, spot: &Spot, name: &str) -> Result<Holder> {
        let holder = checkpoint.holder(spot, name)?;
        checkpoint.replace_entry(&holder, None);
        if holder.entry.key_at != 0 {
            self.grafts.fates.entry(holder.entry.key_at).or_default().is_gone = true;
        }
        Ok(holder)
    }

    pub(super) fn rename(&mut self, checkpoint: &mut Checkpoint, from: &str, to: &str) -> Result<Done> {
        if from == to {
            return Err(Error::refused(format!("`{from}` is that already")));
        }
        if from == "." {
            return self.wrap(checkpoint, to);
        }
        if let Some(below) = self.keys_below(checkpoint, from)? {
            return self.rename_keys(checkpoint, from, to, &below);
        }
        let spot = self.spot(checkpoint, from)?.ok_or_else(|| checkpoint.not_there(from))?;
        let done = Done::moved(checkpoint.described(spot.node));
        if to == "." {
            self.unwrap(checkpoint, &spot, from)?;
            return Ok(done);
        }
        if self.spot(checkpoint, to)?.is_some() {
            return Err(Error::refused(format!("`{to}` is there already")));
        }
        let (container, key) = self.container_of(checkpoint, to)?;
        if container.node == spot.node || container.around.contains(&spot.node) {
            return Err(Error::refused(format!("`{from}` cannot be moved into itself")));
        }
        if container.node == spot.parent {
            self.set_key(checkpoint, &spot, from, &key)?;
            return Ok(done);
        }
        checkpoint.takes_items(container.node)?;
        let holder = self.remove(checkpoint, &spot, from)?;
        self.comes_from(&holder);
        self.add(checkpoint, &container, &key, holder.entry.value)?;
        Ok(done)
    }

    /// Gives an item another key in its dict.
    fn set_key(&mut self, checkpoint: &mut Checkpoint, spot: &Spot, name: &str, key: &str) -> Result<()> {
        let holder = checkpoint.holder(spot, name)?;
        let key = checkpoint.new_key(holder.node, key)?;
        checkpoint.replace_entry(&holder, Some(Pair { key, ..holder.entry }));
        if holder.entry.key_at != 0 {
            self.grafts.fates.entry(holder.entry.key_at).or_default().key = Some(key);
        }
        Ok(())
    }

    /// Gives the keys of one dict that begin with a name another beginning.
    fn rename_keys(&mut self, checkpoint: &mut Checkpoint, from: &str, to: &str, below: &Below) -> Result<Done> {
        let Below { node, above, keys } = below;
        if to == "." {
            return Err(Error::refused(format!("`{from}` is the beginning of several names, and no object")));
        }
        if to.strip_prefix(from).is_some_and(|rest| rest.starts_with('.')) {
            return Err(Error::refused(format!("`{from}` cannot be moved into itself")));
        }
        let Some(key) = to.strip_prefix(above.as_str()).filter(|key| !key.is_empty()) else {
            let what = format!("keys that begin with `{from}` stay in their dict");
            return Err(Error::refused(format!("{what}; give them a name that begins with `{above}`")));
        };
        // an object of that name, or of a part of it, is another place
        for end in key.match_indices('.').map(|(at, _)| at).chain([key.len()]) {
            let taken = format!("{above}{}", key.get(..end).unwrap_or_default());
            let is_there = match checkpoint.place(&checkpoint.top(), &taken)? {
                Located::Of(root) => join(&root.path) == taken && (root.stem.is_none() || end == key.len()),
                Located::Ambiguous(..) => true,
                Located::Nowhere => false,
            };
            if is_there {
                return Err(Error::refused(format!("`{taken}` is there already")));
            }
        }
        let stem = from.strip_prefix(above.as_str()).unwrap_or(from);
        let mut new = HashMap::new();
        for (index, label) in keys {
            let label = format!("{key}{}", label.strip_prefix(stem).unwrap_or_default());
            new.insert(*index, checkpoint.graph.push_str(&label)?);
        }
        let fates = &mut self.grafts.fates;
        checkpoint.change_entries(*node, |index, entry| {
            let key = new.get(&index).copied().unwrap_or(entry.key);
            if key != entry.key && entry.key_at != 0 {
                fates.entry(entry.key_at).or_default().key = Some(key);
            }
            Some(Pair { key, ..entry })
        });
        Ok(Done::moved(counted(keys.len())))
    }

    /// What stood in an item of the file stands elsewhere from now on.
    fn comes_from(&mut self, holder: &Holder) {
        let key_at = holder.entry.key_at;
        let is_new = self.grafts.fates.get(&key_at).is_some_and(|fate| fate.value.is_some());
        if key_at != 0 && !is_new {
            self.grafts.origins.insert(holder.entry.value, Origin::Item(key_at));
        }
    }

    fn wrap(&mut self, checkpoint: &mut Checkpoint, key: &str) -> Result<Done> {
        let old = checkpoint.root;
        let shown = checkpoint.described(old);
        if old == self.first_root {
            self.grafts.origins.insert(old, Origin::Root);
        }
        let key = checkpoint.graph.push_str(key)?;
        checkpoint.root = checkpoint.graph.push_dict(vec![Pair { key, value: old, key_at: 0 }])?;
        Ok(Done::moved(shown))
    }

    fn unwrap(&mut self, checkpoint: &mut Checkpoint, spot: &Spot, name: &str) -> Result<()> {
        let mut inner = spot.node;
        for outer in spot.around.iter().rev() {
            // what stands there may stand beside itself too
            let is_on_the_way = |child: &Child| match *outer == spot.parent {
                true => child.label == spot.label,
                false => child.node == inner,
            };
            let beside: Vec<String> = checkpoint
                .objects()
                .children(*outer)
                .iter()
                .filter(|child| !is_on_the_way(child))
                .map(|child| checkpoint.element(child.label).to_string())
                .collect();
            if !beside.is_empty() {
                let shown = beside.iter().take(8).map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
                let more = if beside.len() > 8 { ", …" } else { "" };
                return Err(Error::refused(format!("{shown}{more} beside `{name}` would be lost; delete them first")));
            }
            inner = *outer;
        }
        let holder = checkpoint.holder(spot, name)?;
        self.comes_from(&holder);
        checkpoint.root = holder.entry.value;
        Ok(())
    }

    /// Puts a new item into a dict.
    fn add(&mut self, checkpoint: &mut Checkpoint, to: &Target, key: &str, value: NodeId) -> Result<()> {
        checkpoint.takes_items(to.node)?;
        let key = checkpoint.new_key(to.node, key)?;
        let entry = Pair { key, value, key_at: 0 };
        match checkpoint.graph.node_mut(to.node) {
            Some(Node::Dict(entries)) => entries.push(entry),
            Some(Node::Object(object)) => object.changes.push(Change::Item(entry)),
            _ => {}
        }
        if let Some(locator) = &to.locator
            && !self.grown.iter().any(|(node, _)| *node == to.node)
        {
            self.grown.push((to.node, locator.clone()));
        }
        Ok(())
    }
}
