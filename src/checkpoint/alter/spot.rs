//! Where the thing of a name stands in the objects, and where the opcodes lie that made what it stands in.

use super::objects::Objects;
use crate::checkpoint::names::{ambiguous, join};
use crate::checkpoint::object::{Child, Label};
use crate::checkpoint::{Checkpoint, Located, module};
use crate::error::{Error, Result};
use crate::pickle::splice::{Hop, Locator, Origin};
use crate::pickle::{Census, NodeId, Pair};

/// Where something stands.
pub(super) struct Spot {
    /// The container that it is an item or element of.
    pub(super) parent: NodeId,
    /// Where the opcodes that make the parent lie; nothing for what is new itself.
    pub(super) locator: Option<Locator>,
    pub(super) label: Label,
    pub(super) node: NodeId,
    /// The containers that it lies in, outermost first.
    pub(super) around: Vec<NodeId>,
}

/// An item of a dict, or of what stands for one.
#[derive(Debug, Clone, Copy)]
pub(super) struct Holder {
    /// Whose it is.
    pub(super) node: NodeId,
    /// Its place there.
    pub(super) index: usize,
    pub(super) entry: Pair,
}

/// What gets a new item.
pub(super) struct Target {
    pub(super) node: NodeId,
    pub(super) locator: Option<Locator>,
    pub(super) around: Vec<NodeId>,
}

impl Objects {
    /// The dict that a name that is not there would be an item of, and its key there.
    pub(super) fn container_of(&self, checkpoint: &Checkpoint, name: &str) -> Result<(Target, String)> {
        let top = || Target { node: checkpoint.root, locator: self.locator_of_root(checkpoint), around: Vec::new() };
        let Some((before, key)) = name.rsplit_once('.') else { return Ok((top(), name.to_owned())) };
        let Some(spot) = self.spot(checkpoint, before)? else { return Err(checkpoint.not_there(name)) };
        let locator = self.below(checkpoint, &spot);
        let around = [spot.around, vec![spot.node]].concat();
        if Census::new(&checkpoint.graph, checkpoint.root)?.uses(spot.node) > 1 {
            return Err(shared(before));
        }
        Ok((Target { node: spot.node, locator, around }, key.to_owned()))
    }

    /// Where an element was in the list of the file, of which some are gone.
    pub(super) fn place_in_file(&self, locator: &Locator, place: usize) -> usize {
        let gone = self.gone.get(locator).map_or(&[][..], Vec::as_slice);
        gone.iter().fold(place, |place, gone| if *gone <= place { place + 1 } else { place })
    }

    pub(super) fn locator_of_root(&self, checkpoint: &Checkpoint) -> Option<Locator> {
        let origin = match self.grafts.origins.get(&checkpoint.root) {
            Some(origin) => Some(*origin),
            None if checkpoint.root == self.first_root => Some(Origin::Root),
            None => None,
        };
        origin.map(Locator::of)
    }

    /// Where what stands at a spot was made.
    pub(super) fn below(&self, checkpoint: &Checkpoint, spot: &Spot) -> Option<Locator> {
        if let Some(origin) = self.grafts.origins.get(&spot.node) {
            return Some(Locator::of(*origin));
        }
        if let Label::Index(index) = spot.label {
            let locator = spot.locator.clone()?;
            let place = self.place_in_file(&locator, usize::try_from(index).ok()?);
            let is_new = self.grafts.elements.contains_key(&(locator.clone(), place));
            return (!is_new).then(|| locator.then(Hop::Element(place)));
        }
        let key_at = checkpoint.holder(spot, "").ok()?.entry.key_at;
        let is_new = self.grafts.fates.get(&key_at).is_some_and(|fate| fate.value.is_some());
        (key_at != 0 && !is_new).then(|| Locator::of(Origin::Item(key_at)))
    }

    /// What stands under just this name; nothing where nothing does.
    pub(super) fn spot(&self, checkpoint: &Checkpoint, name: &str) -> Result<Option<Spot>> {
        let path = match checkpoint.place(&checkpoint.top(), name)? {
            Located::Of(root) if root.stem.is_none() && join(&root.path) == name => root.path,
            Located::Of(root) if root.stem.is_some() && join(&root.path) == name => {
                return Err(Error::refused(format!("`{name}` is the beginning of several names, and no object")));
            }
            Located::Of(_) | Located::Nowhere => return self.out_of_range(checkpoint, name).map(|()| None),
            Located::Ambiguous(first, second) => {
                return Err(Error::refused(ambiguous(name, &first, &second)));
            }
        };
        let uses = Census::new(&checkpoint.graph, checkpoint.root)?;
        let objects = checkpoint.objects();
        let mut around: Vec<NodeId> = Vec::new();
        let mut spot: Option<Spot> = None;
        let (mut node, mut locator) = (checkpoint.root, self.locator_of_root(checkpoint));
        for (depth, element) in path.iter().enumerate() {
            let shown = || join(path.get(..depth).unwrap_or_default());
            if module::is_module(checkpoint, objects.unwrap(node)) {
                let message = format!("`{name}` is part of a module pickled whole");
                return Err(Error::unsupported(message).advise(crate::checkpoint::edit::weights_first()));
            }
            if objects.unwrap(node) != node || checkpoint.tensors.of(node).is_some() {
                return Err(Error::unsupported(format!("`{name}` is part of `{}`, which stays whole", shown())));
            }
            if uses.uses(node) > 1 {
                return Err(shared(&shown()));
            }
            let child = objects.children(node).into_iter().find(|child| checkpoint.element(child.label) == *element);
            let Some(Child { label, node: child }) = child else {
                return Err(Error::unsupported(format!("`{name}` is part of `{}`, which stays whole", shown())));
            };
            around.push(node);
            let next = Spot { parent: node, locator, label, node: child, around: around.clone() };
            locator = self.below(checkpoint, &next);
            node = child;
            spot = Some(next);
        }
        Ok(spot)
    }

    /// An error for what would be an element of a list or tuple.
    fn out_of_range(&self, checkpoint: &Checkpoint, name: &str) -> Result<()> {
        let Some((before, key)) = name.rsplit_once('.') else { return Ok(()) };
        if let Located::Of(root) = checkpoint.place(&checkpoint.top(), before)?
            && root.stem.is_none()
            && join(&root.path) == before
            && let Some(elements) = checkpoint.objects().elements(root.node)
        {
            let class = checkpoint.objects().type_name(root.node);
            let what = match elements.len() {
                0 => format!("`{before}` is an empty {class}; it has no element `{key}`"),
                1 => format!("`{before}` is a {class} of 1 element, `{before}.0`; it has none called `{key}`"),
                count => {
                    let last = count - 1;
                    format!("`{before}` is a {class} of {count} elements, 0 to {last}; it has none called `{key}`")
                }
            };
            return Err(Error::refused(what));
        }
        Ok(())
    }
}

pub(super) fn shared(name: &str) -> Error {
    let what = if name.is_empty() { "the top object".to_owned() } else { format!("`{name}`") };
    Error::refused(format!("{what} is one object that the file uses more than once: an edit would show in all places"))
}
