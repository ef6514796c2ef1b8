//! What one object of a pickle is: a node, and what nodes are made of.

use std::num::NonZeroU32;

use thin_vec::ThinVec;

use super::TextId;

/// A node's place in the arena, which an `Option` of one takes no more memory than.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NodeId(NonZeroU32);

impl NodeId {
    /// The node of number `place`. The last of 4 billion there never is.
    pub(super) const fn at(place: u32) -> Self {
        NodeId(NonZeroU32::MIN.saturating_add(place))
    }

    /// The place as a number.
    pub(super) fn place(self) -> u32 {
        self.0.get() - 1
    }

    /// The place as a number: less than the graph's length.
    pub(crate) fn index(self) -> usize {
        self.place() as usize
    }
}

/// A tuple's elements: a run in the graph's table of children.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Children {
    pub(super) start: u32,
    pub(super) len: u32,
}

/// One object.
#[derive(Debug, Clone, PartialEq)]
pub enum Node {
    /// `None`.
    None,
    /// `True` or `False`.
    Bool(bool),
    /// An integer of 64 bits.
    Int(i64),
    /// A larger integer: decimal digits or two's complement, as the text's encoding says.
    Long(TextId),
    /// A float.
    Float(f64),
    /// A `str`, of Python 2 too.
    Str(TextId),
    /// A `bytes`.
    Bytes(TextId),
    /// A `bytearray`.
    ByteArray(TextId),
    /// A `tuple`.
    Tuple(Children),
    /// A `frozenset`, in pickled order.
    FrozenSet(Children),
    /// A `list`.
    List(Box<Vec<NodeId>>),
    /// A `set`, in pickled order.
    Set(Box<Vec<NodeId>>),
    /// A `dict`: its assignments in order, a key assigned twice included.
    Dict(Box<Vec<Pair>>),
    /// A class or function by module and qualified name (two `Str` nodes).
    Global {
        /// The module's name.
        module: NodeId,
        /// The name in it, with dots for nested ones.
        name: NodeId,
    },
    /// A global by its number in `copyreg`'s extension registry.
    Extension(u32),
    /// What `persistent_load` of this id would give.
    Persistent(NodeId),
    /// The result of a call or a construction, with what was done to it afterwards.
    Object(Box<Object>),
    /// An out-of-band buffer (protocol 5).
    Buffer,
    /// The same, read-only.
    ReadOnlyBuffer(NodeId),
    /// A value that the layer above made and knows by number.
    Foreign(u32),
}

/// One assignment in a dict.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Pair {
    /// The key.
    pub key: NodeId,
    /// The value.
    pub value: NodeId,
    /// Where in its stream the opcode lies that pushed the key: a string opcode or a memo get.
    pub key_at: u64,
}

/// How an [`Object`] was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Construct {
    /// `callable(*args)`.
    Reduce,
    /// `cls.__new__(cls, *args)`.
    NewObj,
    /// `cls.__new__(cls, *args, **kwargs)`.
    NewObjEx,
    /// Protocol 0's `INST`.
    Inst,
    /// Protocol 1's `OBJ`.
    Obj,
}

/// The result of a call or a construction.
#[derive(Debug, Clone, PartialEq)]
pub struct Object {
    /// How it was made.
    pub how: Construct,
    /// What was called.
    pub callable: NodeId,
    /// Its positional arguments: a tuple (whatever the pickle gave, for `REDUCE`).
    pub args: NodeId,
    /// Its keyword arguments (`NEWOBJ_EX` only).
    pub kwargs: Option<NodeId>,
    /// What was done to it afterwards, in order.
    pub changes: ThinVec<Change>,
}

/// What a pickle does to an object that it has made.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Change {
    /// `obj.append(x)` or a part of `obj.extend`.
    Append(NodeId),
    /// `obj[key] = value`.
    Item(Pair),
    /// `obj.add(x)`.
    Add(NodeId),
    /// `obj.__setstate__(state)` or its default.
    Build(NodeId),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_stay_small() {
        // a state dict makes about fifteen nodes a tensor: their size is the memory of a listing
        assert_eq!((size_of::<Node>(), size_of::<Object>()), (16, 24));
    }
}
