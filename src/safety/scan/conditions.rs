//! Globals that are harmless in one use only: whether a graph uses them so, and in no other way.
//!
//! `_load_from_bytes` whose bytes are read here as well; `functools.partial` of what is harmless; `getattr` of a class that
//! the file names; `operator.itemgetter`, as long as nothing calls what it gives.

use std::borrow::Cow;
use std::collections::HashMap;

use rustc_hash::{FxHashMap, FxHashSet};

use super::reached::{given, reached};
use crate::checkpoint::numpy::byte_string;
use crate::pickle::{Change, Construct, Graph, Node, NodeId, Object};
use crate::safety::globals::{Condition, Status, classify, condition, is_inert_attribute, is_pure_method};

/// The conditional globals of a graph that it uses in any way but the harmless one.
pub(in crate::safety) fn loose(graph: &Graph) -> FxHashSet<NodeId> {
    // a pickle may name one global a million times
    let mut known: HashMap<(Cow<'_, str>, Cow<'_, str>), Option<Condition>> = HashMap::new();
    let conditional: FxHashMap<NodeId, Condition> = graph
        .ids()
        .filter_map(|id| {
            let global = graph.global(id)?;
            let found = match known.get(&global) {
                Some(found) => *found,
                None => {
                    let found = condition(&global.0, &global.1);
                    known.insert(global, found);
                    found
                }
            };
            Some((id, found?))
        })
        .collect();
    if conditional.is_empty() {
        return FxHashSet::default();
    }
    let called: FxHashSet<NodeId> =
        graph.ids().filter_map(|id| graph.object(id)).map(|object| object.callable).collect();
    // what partial, getattr and the like give here, when that is harmless
    let mut harmless = FxHashSet::default();
    let mut uses: FxHashMap<NodeId, u64> = FxHashMap::default();
    let mut loose = FxHashSet::default();
    // what must not be called, by the global that gave it
    let mut uncalled: FxHashMap<NodeId, NodeId> = FxHashMap::default();
    let is_of_calls = |id: &NodeId| conditional.get(id).is_some_and(|condition| condition.is_of_calls());
    for id in graph.ids() {
        let Some(object) = graph.object(id) else { continue };
        let made = made_without_call(graph, object);
        if let Some(class) = made.filter(|class| conditional.contains_key(class)) {
            *uses.entry(class).or_default() += 1;
        }
        if !is_made(object) && !keeps(graph, object) {
            // a function may call what it is given
            let given = graph.sequence(object.args).unwrap_or_default().iter().copied();
            loose.extend(given.filter(|arg| Some(*arg) != made && is_of_calls(arg)));
        }
        let Some(condition) = conditional.get(&object.callable) else { continue };
        let is_harmless = match condition {
            // a bytearray may have been given more since
            Condition::Loads => {
                let is_fixed = |arg: NodeId| byte_string(graph, arg).is_some() && graph.changes(arg).is_empty();
                is_reduce(object) && first(graph, object).is_some_and(is_fixed)
            }
            Condition::Partial => is_reduce(object) && !called.contains(&id) && is_partial(graph, object, &harmless),
            Condition::Getter | Condition::MethodCaller => {
                uncalled.insert(id, object.callable);
                let is_pure = |name: NodeId| graph.str(name).is_some_and(|name| is_pure_method(&name));
                is_reduce(object)
                    && !called.contains(&id)
                    && object.changes.is_empty()
                    && names_attributes(graph, object)
                    && (*condition == Condition::Getter || first(graph, object).is_some_and(is_pure))
            }
            Condition::GetAttr => {
                if gives_function(graph, object) {
                    uncalled.insert(id, object.callable);
                }
                is_reduce(object) && object.changes.is_empty() && is_attribute(graph, object, &harmless)
            }
            Condition::TypeOf | Condition::Item => {
                let is_of_typing = |of: NodeId| graph.global(of).is_some_and(|(module, _)| module == "typing");
                let is_plain = match (condition, graph.sequence(object.args)) {
                    // the types of these have no name of their own to pickle
                    (Condition::TypeOf, Some([of])) => {
                        let is_constant = |name: &str| matches!(name, "Ellipsis" | "NotImplemented");
                        matches!(graph.node(*of), Node::None)
                            || graph.global(*of).is_some_and(|(_, name)| is_constant(&name))
                    }
                    (Condition::Item, Some([of, _])) => is_of_typing(*of),
                    _ => false,
                };
                is_reduce(object) && is_plain && !called.contains(&id) && object.changes.is_empty()
            }
            Condition::TypeName => is_reduce(object) && !called.contains(&id) && names_plain_type(graph, object),
            Condition::Init(_) | Condition::Made => makes_no_call(graph, object),
        };
        if is_harmless {
            harmless.insert(id);
            *uses.entry(object.callable).or_default() += 1;
        } else if condition.is_of_calls() {
            loose.insert(object.callable);
        }
    }
    let is_made_of = |condition: &Condition| matches!(condition, Condition::Init(_) | Condition::Made);
    if !uncalled.is_empty() || conditional.values().any(is_made_of) {
        reached(graph, given_to_calls(graph), |id| {
            loose.extend(
                uncalled.get(&id).copied().or_else(|| conditional.get(&id).is_some_and(is_made_of).then_some(id)),
            );
        });
    }
    let mut references: FxHashMap<NodeId, u64> = FxHashMap::default();
    graph.for_each_reference(|id| {
        if conditional.contains_key(&id) && !is_of_calls(&id) {
            *references.entry(id).or_default() += 1;
        }
    });
    for id in conditional.keys().copied() {
        let uses = uses.get(&id).copied().unwrap_or_default();
        let referred = references.get(&id).copied().unwrap_or_default();
        if uses < referred {
            loose.insert(id);
        }
    }
    loose
}

/// What calls are given that may call it: all that no class makes its object of and that is not only kept; and what a
/// `partial` calls, or a `defaultdict`, when that is more than a class or function.
fn given_to_calls(graph: &Graph) -> Vec<NodeId> {
    let mut all = Vec::new();
    for object in graph.ids().filter_map(|id| graph.object(id)) {
        if is_made(object) {
            continue;
        }
        if !keeps(graph, object) {
            given(graph, object, &mut |arg| all.push(arg));
            continue;
        }
        let Some((_, name)) = graph.global(object.callable) else { continue };
        let is_object = |id: &NodeId| graph.object(*id).is_some();
        if name == "defaultdict" {
            all.extend(first(graph, object).filter(is_object));
        } else if name == "partial" {
            // a partial of a partial is one
            let is_getter = |id: &NodeId| {
                let made = graph.object(*id).and_then(|made| graph.global(made.callable));
                made.is_some_and(|(module, name)| condition(&module, &name) != Some(Condition::Partial))
            };
            let states = object.changes.iter().filter_map(|change| match change {
                Change::Build(state) => graph.tuple(*state).and_then(|parts| parts.first()).copied(),
                _ => None,
            });
            all.extend(first(graph, object).into_iter().chain(states).filter(is_getter));
        }
    }
    all
}

/// `getattr(Class, 'method')` of a class that is known: a function that nobody looked at.
fn gives_function(graph: &Graph, object: &Object) -> bool {
    let Some([of, name]) = graph.sequence(object.args) else { return true };
    let Some((module, class)) = graph.global(*of) else { return false };
    let Some(name) = graph.str(*name) else { return true };
    let is_constant = name.trim_start_matches('_').starts_with(char::is_uppercase);
    let is_named = || classify(&module, &format!("{class}.{name}")) == Status::Known;
    let is_unknown = || condition(&module, &class).is_none() && classify(&module, &class) == Status::Unknown;
    !is_constant && module != "torch._C" && !is_named() && !is_unknown()
}

fn is_reduce(object: &Object) -> bool {
    object.how == Construct::Reduce
}

fn first(graph: &Graph, object: &Object) -> Option<NodeId> {
    graph.sequence(object.args)?.first().copied()
}

/// Python makes the object of its class, and hands the arguments to no other function.
fn is_made(object: &Object) -> bool {
    matches!(object.how, Construct::NewObj | Construct::NewObjEx)
}

/// Calls that keep what they are given, and at most call it later without arguments.
fn keeps(graph: &Graph, object: &Object) -> bool {
    graph.global(object.callable).is_some_and(|(module, name)| {
        matches!(
            (module.as_ref(), name.as_ref()),
            ("functools" | "_functools", "partial")
                | ("collections", "defaultdict" | "OrderedDict" | "deque")
                | ("numpy.core.multiarray" | "numpy._core.multiarray", "_reconstruct")
                | ("numpy", "dtype")
                | ("builtins" | "__builtin__", "getattr" | "set" | "frozenset" | "list" | "tuple")
        )
    })
}

/// `_builtin_type('NoneType')`
fn names_plain_type(graph: &Graph, object: &Object) -> bool {
    let name = first(graph, object).and_then(|arg| graph.str(arg));
    object.changes.is_empty()
        && name
            .is_some_and(|name| !matches!(classify("types", &name), Status::Dangerous(_)) && is_inert_attribute(&name))
}

/// Python makes the object without calling anything of it: `cls.__new__(cls)`.
fn makes_no_call(graph: &Graph, object: &Object) -> bool {
    match object.how {
        Construct::NewObj | Construct::NewObjEx => true,
        Construct::Inst | Construct::Obj => graph.sequence(object.args).is_some_and(<[NodeId]>::is_empty),
        Construct::Reduce => false,
    }
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

/// Whether a call gives what is known by its name: `getattr(ZoneInfo, '_unpickle')`.
pub(super) fn is_known_attribute(graph: &Graph, object: &Object) -> bool {
    let Some([of, name]) = graph.sequence(object.args) else { return false };
    plain_attribute_of(graph, object)
        .and_then(|_| graph.global(*of))
        .zip(graph.str(*name))
        .is_some_and(|((module, class), name)| classify(&module, &format!("{class}.{name}")) == Status::Known)
}

/// The class that `getattr(Class, 'name')` takes something of.
pub(super) fn plain_attribute_of(graph: &Graph, object: &Object) -> Option<NodeId> {
    let (module, name) = graph.global(object.callable)?;
    // asked of every object: the tables, which know more of a name, would be searched each time
    let is_getattr = name == "getattr" && condition(&module, &name) == Some(Condition::GetAttr);
    let of = first(graph, object).filter(|_| is_getattr)?;
    graph.global(of).is_some().then_some(of)
}

/// A class or function that is not dangerous, or what a harmless call gave.
fn is_callable(graph: &Graph, id: NodeId, harmless: &FxHashSet<NodeId>) -> bool {
    match graph.global(id) {
        Some((module, name)) => !matches!(classify(&module, &name), Status::Dangerous(_)),
        None => harmless.contains(&id),
    }
}

/// The function is given twice: to the constructor, and in the state.
fn is_partial(graph: &Graph, object: &Object, harmless: &FxHashSet<NodeId>) -> bool {
    let state = |change: &Change| match change {
        Change::Build(state) => graph
            .tuple(*state)
            .and_then(|parts| parts.first())
            .is_some_and(|function| is_callable(graph, *function, harmless)),
        _ => false,
    };
    first(graph, object).is_some_and(|function| is_callable(graph, function, harmless))
        && object.changes.iter().all(state)
}

/// `getattr(Outer, 'Inner')`: of a class that the file names, nothing that leads out of it.
fn is_attribute(graph: &Graph, object: &Object, harmless: &FxHashSet<NodeId>) -> bool {
    let Some([of, name]) = graph.sequence(object.args) else { return false };
    let Some(name) = graph.str(*name).filter(|name| is_inert_attribute(name)) else { return false };
    match graph.global(*of) {
        Some((module, class)) => {
            let is_class = class
                .rsplit('.')
                .next()
                .is_some_and(|last| last.trim_start_matches('_').starts_with(char::is_uppercase));
            if (module.as_ref(), class.as_ref()) == ("torch._C", "_VariableFunctionsClass") {
                // how torch's own functions are pickled
                return !matches!(classify("torch", &name), Status::Dangerous(_));
            }
            let path = format!("{class}.{name}");
            let full = classify(&module, &path);
            full == Status::Known
                || is_class && !matches!(full, Status::Dangerous(_))
                || condition(&module, &path) == Some(Condition::Made)
        }
        // of an object that is a method, which may do anything
        None => {
            harmless.contains(of)
                && graph
                    .object(*of)
                    .is_some_and(|of| of.callable == object.callable || plain_attribute_of(graph, of).is_some())
        }
    }
}

/// `itemgetter(0)`, `attrgetter('name')`
fn names_attributes(graph: &Graph, object: &Object) -> bool {
    graph.sequence(object.args).is_some_and(|args| {
        args.iter().all(|arg| match graph.node(*arg) {
            Node::Str(_) => graph.str(*arg).is_some_and(|name| name.split('.').all(is_inert_attribute)),
            Node::Int(_) | Node::Bool(_) | Node::None => true,
            _ => false,
        })
    })
}
