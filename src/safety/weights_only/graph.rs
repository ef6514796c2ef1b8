//! Whether `torch.load(weights_only=True)` would open an object once it is written: by the globals it names.

use super::known_storages::{RecordBytes, Storages};
use super::replay::Replay;
use super::{TABLES, Verdict, is_allowed};
use crate::checkpoint::Checkpoint;
use crate::container::spool::Spool;
use crate::error::Result;
use crate::pickle::{Census, Change, Construct, Graph, Node, NodeId, encode};

/// Whether the unpickler takes a global, by Python 2's name or Python 3's.
pub(crate) fn takes_global(module: &str, name: &str) -> bool {
    let (module, name) = TABLES.renamed(module, name);
    is_allowed(module, name)
}

/// The verdict on an object that is about to be written. `storages`: the bytes of each by its key, for an archive; a legacy
/// stream has them behind the objects.
pub(crate) fn of_graph(graph: &Graph, scan: &Census, storages: Option<&[u64]>) -> Result<Verdict> {
    let mut spool = Spool::new(u64::MAX);
    encode(graph, scan, &mut spool)?;
    let source = spool.finish()?;
    let record = |key: &str| storages?.get(key.parse::<usize>().ok()?).copied();
    let record: Option<RecordBytes<'_>> = if storages.is_some() { Some(&record) } else { None };
    // it is made of objects that are in memory
    let mut replay = Replay::new(Storages::new(record), u64::MAX);
    replay.takes_ids = true;
    replay.load(&source, 0)?;
    Ok(Verdict::of(replay.into_reasons()))
}

/// Whether the unpickler opens the object and all that lies in it.
pub(crate) fn opens_object(checkpoint: &Checkpoint, root: NodeId) -> Result<bool> {
    let scan = Census::new(&checkpoint.graph, root)?;
    Ok(scan.order().iter().all(|node| is_open(checkpoint, *node)))
}

/// Whether the unpickler opens a mapping, its attributes and its tensors; other values may be taken out of it.
pub(crate) fn opens_mapping(checkpoint: &Checkpoint, root: NodeId) -> Result<bool> {
    let graph = &checkpoint.graph;
    let is_plain = match graph.node(root) {
        Node::Dict(_) => graph.changes(root).is_empty(),
        Node::Object(object) => {
            let global = graph.global(object.callable);
            global.is_some_and(|(module, name)| (&*module, &*name) == ("collections", "OrderedDict"))
        }
        _ => false,
    };
    if !is_plain {
        return Ok(false);
    }
    for change in graph.changes(root) {
        if let Change::Build(state) = change
            && !opens_object(checkpoint, *state)?
        {
            return Ok(false);
        }
    }
    for entry in checkpoint.objects().items(root).unwrap_or_default() {
        if checkpoint.tensors.of(checkpoint.objects().unwrap(entry.value)).is_some()
            && !opens_object(checkpoint, entry.value)?
        {
            return Ok(false);
        }
    }
    Ok(true)
}

fn is_open(checkpoint: &Checkpoint, node: NodeId) -> bool {
    match checkpoint.graph.node(node) {
        Node::Global { .. } => {
            let global = checkpoint.graph.global(node);
            global.is_some_and(|(module, name)| takes_global(&module, &name))
        }
        Node::Persistent(_) => checkpoint.storages.is_storage(node),
        Node::Object(object) => matches!(object.how, Construct::Reduce | Construct::NewObj) && object.kwargs.is_none(),
        Node::FrozenSet(_) | Node::Extension(_) | Node::ByteArray(_) | Node::Buffer | Node::ReadOnlyBuffer(_) => false,
        _ => true,
    }
}
