//! Calls that only make an object of a class, or take an attribute of one: the class lies among their arguments.

use crate::pickle::{Construct, Graph, NodeId, Object};
use crate::safety::globals::{Condition, Status, classify, condition};

pub(super) fn is_reduce(object: &Object) -> bool {
    object.how == Construct::Reduce
}

pub(super) fn first(graph: &Graph, object: &Object) -> Option<NodeId> {
    graph.sequence(object.args)?.first().copied()
}

/// The class whose object `copyreg` makes without calling it: `_reconstructor(cls, object, None)`, `__newobj__(cls)`. Of any
/// other base the constructor is called. Cython's and pandas' functions for their pickles do the same as `__newobj__`.
pub(super) fn made_without_call(graph: &Graph, object: &Object) -> Option<NodeId> {
    let (module, name) = graph.global(object.callable).filter(|_| is_reduce(object))?;
    let args = graph.sequence(object.args)?;
    if makes_its_class(&module, &name) {
        return args.first().copied();
    }
    if !matches!(module.as_ref(), "copyreg" | "copy_reg") {
        return None;
    }
    match (name.as_ref(), args) {
        ("_reconstructor", [class, base, _]) => {
            graph.global(*base).is_some_and(|(_, base)| base == "object").then_some(*class)
        }
        ("__newobj__", [class]) => Some(*class),
        _ => None,
    }
}

/// `cls.__new__(cls)`, and a state for it: of the class that it is given first.
fn makes_its_class(module: &str, name: &str) -> bool {
    let is_pandas = module.starts_with("pandas.core.indexes.") && name.starts_with("_new_");
    (is_pandas || name.starts_with("__pyx_unpickle_") || name == "newObj") && classify(module, name) == Status::Known
}

/// The class that `getattr(Class, 'name')` takes something of.
pub(super) fn plain_attribute_of(graph: &Graph, object: &Object) -> Option<NodeId> {
    let (module, name) = graph.global(object.callable)?;
    // asked of every object: the tables, which know more of a name, would be searched each time
    let is_getattr = name == "getattr" && condition(&module, &name) == Some(Condition::GetAttr);
    let of = first(graph, object).filter(|_| is_getattr)?;
    graph.global(of).is_some().then_some(of)
}
