//! What is known of the globals that pickles name: harmless, dangerous with why, or nothing.
//!
//! Known-good is a list, everything else is at least unknown. The lists are of what loading really needs (torch, numpy,
//! collections, common classes of configurations) and of what Python and its libraries offer to run code, start
//! processes, touch files or reach the network.

use std::sync::LazyLock;

use rustc_hash::{FxHashMap, FxHashSet};

mod dangerous;
mod kinds;
mod known;
mod reexports;
mod vetted;

use self::dangerous::{CONSTRUCTORS, DANGEROUS, NESTED, REACHES, ROADS};
use self::known::{KNOWN, MADE};
use self::vetted::Vetted;
use super::weights_only::is_allowed;
use crate::checkpoint::constructors::{Constructor, constructor};

/// What to think of a global.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Status {
    /// Loading it and calling it makes data and nothing else.
    Known,
    /// Nothing is known: it may do anything when it is called.
    Unknown,
    /// Would run code, start a process, or touch files, the network or the interpreter; why.
    Dangerous(&'static str),
}

/// How a global may be used and do no harm, that is dangerous otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Condition {
    /// Loads the bytes it is called with: those are looked at.
    Loads,
    /// `functools.partial`, with something harmless.
    Partial,
    /// `operator.itemgetter` and `attrgetter`, when nothing calls what they give.
    Getter,
    /// `operator.methodcaller` of a method that only computes, under the same condition.
    MethodCaller,
    /// `getattr`, of a class that the file names.
    GetAttr,
    /// `cloudpickle`'s way to a type of Python's, that is not one of code.
    TypeName,
    /// `type` of None and the like.
    TypeOf,
    /// `operator.getitem` of what `typing` has.
    Item,
    /// A class whose constructor reaches something, when it is not called: why.
    Init(&'static str),
    /// A class of which nobody has found that calling it is harmless, when it is not called.
    Made,
}

impl Condition {
    /// Whether only what calls the global can do harm, and not one that just keeps it.
    pub(crate) fn is_of_calls(self) -> bool {
        matches!(self, Condition::Partial | Condition::TypeName | Condition::Init(_) | Condition::Made)
    }
}

/// Which condition a global is under.
pub(crate) fn condition(module: &str, name: &str) -> Option<Condition> {
    if constructor(module, name) == Some(Constructor::LoadFromBytes) {
        return Some(Condition::Loads);
    }
    match (module, name) {
        ("functools" | "_functools", "partial") => Some(Condition::Partial),
        ("operator" | "_operator", "itemgetter" | "attrgetter") => Some(Condition::Getter),
        ("operator" | "_operator", "methodcaller") => Some(Condition::MethodCaller),
        ("builtins" | "__builtin__", "type") => Some(Condition::TypeOf),
        ("operator" | "_operator", "getitem") => Some(Condition::Item),
        ("builtins" | "__builtin__", "getattr") => Some(Condition::GetAttr),
        ("cloudpickle.cloudpickle" | "cloudpickle", "_builtin_type") => Some(Condition::TypeName),
        _ => TABLES
            .constructors
            .get(&(module, name))
            .map(|why| Condition::Init(why))
            .or_else(|| is_only_made(module, name).then_some(Condition::Made)),
    }
}

fn is_only_made(module: &str, name: &str) -> bool {
    (vetted::find(module, name) == Some(Vetted::Made) || TABLES.made.has(module, name))
        && !is_known(module, name)
        && danger(module, name).is_none()
}

/// Sorts a global by what it is and how it is used: `is_bound` when every use of it keeps to its condition.
pub(crate) fn judge(module: &str, name: &str, is_bound: bool) -> Status {
    match (condition(module, name), is_bound) {
        (None, _) => classify(module, name),
        (Some(_), true) => Status::Known,
        (Some(Condition::Loads), false) => Status::Dangerous(NESTED),
        (Some(Condition::Init(why)), false) => Status::Dangerous(why),
        (Some(Condition::Made), false) => classify(module, name),
        (Some(_), false) => Status::Dangerous(REACHES),
    }
}

/// Methods that compute a value of the object's own data, in every class that is known here: all else may write a file,
/// remove one or run code.
const PURE_METHODS: &[&str] = &[
    "astype",
    "capitalize",
    "cpu",
    "decode",
    "detach",
    "double",
    "encode",
    "float",
    "get",
    "half",
    "int",
    "item",
    "items",
    "keys",
    "long",
    "lower",
    "lstrip",
    "max",
    "mean",
    "min",
    "numpy",
    "reshape",
    "rstrip",
    "split",
    "squeeze",
    "std",
    "strip",
    "sum",
    "title",
    "toarray",
    "todense",
    "tolist",
    "transpose",
    "unsqueeze",
    "upper",
    "values",
    "view",
];

/// Whether `operator.methodcaller` of this method computes and does nothing else.
pub(crate) fn is_pure_method(name: &str) -> bool {
    PURE_METHODS.binary_search(&name).is_ok()
}

/// An attribute that leads neither to modules nor to the insides of classes and functions.
pub(crate) fn is_inert_attribute(name: &str) -> bool {
    !name.is_empty() && !name.starts_with("__") && !ROADS.contains(&name) && !kinds::is_stdlib(name)
}

/// Modules that a name may lead through to others: more than any real one has.
const MAX_HOPS: usize = 8;

/// Sorts a global by its module and qualified name: by the worst of what versions of Python have there.
pub(crate) fn classify(module: &str, name: &str) -> Status {
    // a transfer as text put a CR before the end of each line: nothing of that name can be imported, so what it was counts
    let [module, name] = [module, name].map(|text| text.strip_suffix('\r').unwrap_or(text));
    let mut open = vec![(module.to_owned(), name.to_owned())];
    let mut worst = Status::Known;
    for _ in 0..MAX_HOPS {
        let mut next = Vec::new();
        for (module, name) in open {
            match follow(&module, &name) {
                Followed::Is(status) => worst = worst.max(status),
                Followed::To(targets) => next.extend(targets),
            }
        }
        if next.is_empty() {
            return worst;
        }
        open = next;
    }
    Status::Dangerous(REACHES)
}

/// What a name is, or where it comes from.
enum Followed {
    Is(Status),
    To(Vec<(String, String)>),
}

fn follow(module: &str, name: &str) -> Followed {
    // a lone surrogate is shown as U+FFFD
    let is_odd = |c: char| c.is_control() || c == char::REPLACEMENT_CHARACTER;
    if name.is_empty() || module.chars().chain(name.chars()).any(is_odd) {
        return Followed::Is(Status::Dangerous("has a name that no program writes"));
    }
    if is_listed(module, name) {
        return Followed::Is(Status::Known);
    }
    // what has a row of its own is that, wherever it comes from
    if let Some(why) = danger(module, name).filter(|_| !is_known(module, name)) {
        return Followed::Is(Status::Dangerous(why));
    }
    // `torch.functional` `operator.attrgetter` is one of operator
    let (head, rest) = name.split_once('.').unwrap_or((name, ""));
    let mut origins = reexports::origins(module, head);
    if origins.is_empty() && kinds::is_charted(module) && kinds::is_stdlib(head) && !is_known(module, name) {
        origins.push(head);
    }
    if origins.is_empty() {
        return Followed::Is(classify_here(module, name));
    }
    let mut targets = Vec::new();
    for origin in origins {
        let target = if rest.is_empty() { origin.to_owned() } else { format!("{origin}.{rest}") };
        if !target.contains('.') {
            return Followed::Is(Status::Dangerous("is a module"));
        }
        let (to, what) = split(&target);
        targets.push((to.to_owned(), what.to_owned()));
    }
    Followed::To(targets)
}

/// A dotted path as a module and a name in it: modules' names are lower case, what has them not is a class.
fn split(path: &str) -> (&str, &str) {
    let class = path.split('.').position(|part| part.trim_start_matches('_').starts_with(char::is_uppercase));
    let dots: Vec<usize> = path.match_indices('.').map(|(at, _)| at).collect();
    let at = match class {
        Some(class) => class.checked_sub(1).and_then(|at| dots.get(at)),
        None => dots.last(),
    };
    at.and_then(|at| Some((path.get(..*at)?, path.get(at + 1..)?))).unwrap_or((path, ""))
}

/// What a global is that its module really has.
fn classify_here(module: &str, name: &str) -> Status {
    if is_known(module, name) {
        return Status::Known;
    }
    if let Some(why) = danger(module, name) {
        return Status::Dangerous(why);
    }
    if vetted::find(module, name) == Some(Vetted::Called) {
        return Status::Known;
    }
    // an attribute of an attribute: `torch` `serialization.os.system`
    let leads_out = name.split('.').any(|part| ROADS.contains(&part)) && name.contains('.');
    if leads_out || module.split('.').skip(1).any(is_road) {
        return Status::Dangerous(REACHES);
    }
    // a function that another one made is found by no name: loading ends there
    let is_local = name.contains('<');
    if name.split('.').any(|part| part == "<locals>") {
        return Status::Known;
    }
    // `Class.__getattr__`, and whatever else Python calls by itself
    let is_special = |part: &str| part.starts_with("__") && part.ends_with("__");
    if name.contains('.') && !is_local && name.split('.').any(is_special) {
        return Status::Dangerous(REACHES);
    }
    let is_class = |part: &str| part.trim_start_matches('_').starts_with(char::is_uppercase);
    // the methods of layers and optimizers work on tensors; those of other classes are not looked at one by one
    let is_layer = |last: &str| kinds::is_layers(module) && is_inert_attribute(last);
    if let Some((outer, last)) = name.rsplit_once('.').filter(|_| !is_local)
        && (kinds::is_charted(module) && !is_layer(last) || !outer.split('.').all(is_class))
    {
        return Status::Dangerous(REACHES);
    }
    if kinds::is_named_so(name) {
        return Status::Dangerous(kinds::BY_NAME);
    }
    if kinds::is_tool(name) {
        return Status::Dangerous(kinds::BY_TOOL);
    }
    kinds::no_use(module, name).map_or(Status::Unknown, Status::Dangerous)
}

/// Whether a global is dangerous by its name, and not only because nothing else is known of it.
pub(crate) fn is_named_dangerous(module: &str, name: &str) -> bool {
    !is_known(module, name) && danger(module, name).is_some()
}

/// In a module's path only what nobody calls a module of their own.
fn is_road(part: &str) -> bool {
    matches!(part, "os" | "posix" | "nt" | "sys" | "subprocess" | "builtins" | "__builtin__" | "ctypes")
}

fn is_known(module: &str, name: &str) -> bool {
    is_listed(module, name) || TABLES.known.has(module, name)
}

/// Known by its own name, not only as one of many.
fn is_listed(module: &str, name: &str) -> bool {
    // TorchScript's classes: there is no such module, and torch.jit makes them without Python
    let scripted =
        module == "__torch__" || module.starts_with("__torch__.") || (module, name) == ("torch", "ScriptObject");
    TABLES.known.names.contains(&(module, name))
        || is_allowed(module, name)
        || scripted
        || (module == "torch" || module == "torch.cuda" || module == "torch.sparse")
            && (constructor(module, name).is_some() || name.ends_with("Storage") && !name.contains('.'))
}

fn danger(module: &str, name: &str) -> Option<&'static str> {
    let first = name.split('.').next().unwrap_or(name);
    let named = [name, first].into_iter().filter_map(|name| TABLES.dangerous.get(&(module, name)));
    let of_all = parents(module).filter_map(|part| TABLES.dangerous_parts.get(part));
    named.chain(of_all).min_by_key(|(row, _)| *row).map(|(_, why)| *why)
}

/// Globals by module and name, and parts of packages of which all classes are meant.
#[derive(Default)]
struct Listed {
    names: FxHashSet<(&'static str, &'static str)>,
    parts: FxHashSet<&'static str>,
}

impl Listed {
    fn of(rows: &[(&'static str, &'static str)]) -> Self {
        let mut listed = Listed::default();
        for (modules, names) in rows {
            for module in modules.split_ascii_whitespace() {
                match *names {
                    "*" => drop(listed.parts.insert(module)),
                    names => listed.names.extend(names.split_ascii_whitespace().map(|name| (module, name))),
                }
            }
        }
        listed
    }

    fn has(&self, module: &str, name: &str) -> bool {
        let bare = name.strip_prefix('_').unwrap_or(name);
        let is_class = bare.starts_with(|c: char| c.is_ascii_uppercase()) && !name.contains('.');
        let of_all = is_class && !module.starts_with("transformers.models.rag");
        self.names.contains(&(module, name)) || of_all && parents(module).any(|part| self.parts.contains(part))
    }
}

/// The tables by module and name; of rows for whole parts of packages, by the part.
struct Tables {
    known: Listed,
    made: Listed,
    /// With the number of the row: the first one counts.
    dangerous: FxHashMap<(&'static str, &'static str), (usize, &'static str)>,
    dangerous_parts: FxHashMap<&'static str, (usize, &'static str)>,
    constructors: FxHashMap<(&'static str, &'static str), &'static str>,
}

static TABLES: LazyLock<Tables> = LazyLock::new(|| {
    let (mut dangerous, mut dangerous_parts) = (FxHashMap::default(), FxHashMap::default());
    for (row, (modules, names, why)) in DANGEROUS.iter().enumerate() {
        for module in modules.split_ascii_whitespace() {
            for name in names.split_ascii_whitespace() {
                match name {
                    "*" => dangerous_parts.entry(module).or_insert((row, *why)),
                    name => dangerous.entry((module, name)).or_insert((row, *why)),
                };
            }
        }
    }
    let mut constructors = FxHashMap::default();
    for (modules, names, why) in CONSTRUCTORS {
        for module in modules.split_ascii_whitespace() {
            for name in names.split_ascii_whitespace() {
                constructors.entry((module, name)).or_insert(*why);
            }
        }
    }
    Tables { known: Listed::of(KNOWN), made: Listed::of(MADE), dangerous, dangerous_parts, constructors }
});

/// A module and the packages that it lies in.
fn parents(module: &str) -> impl Iterator<Item = &str> {
    let ends = module.match_indices('.').map(|(at, _)| at).chain([module.len()]);
    ends.filter_map(|end| module.get(..end))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dangerous(module: &str, name: &str) -> bool {
        matches!(classify(module, name), Status::Dangerous(_))
    }

    #[test]
    fn what_checkpoints_need_is_known() {
        for (module, name) in [
            ("collections", "OrderedDict"),
            ("torch._utils", "_rebuild_tensor_v2"),
            ("torch", "FloatStorage"),
            ("torch", "float8_e4m3fn"),
            ("torch.nn.modules.conv", "Conv2d"),
            ("numpy._core.multiarray", "_reconstruct"),
            ("argparse", "Namespace"),
            ("__builtin__", "set"),
            ("pathlib", "PosixPath"),
            ("torch._utils\r", "_rebuild_tensor_v2\r"),
            ("train", "main.<locals>.<lambda>"),
            ("sklearn.svm._classes", "SVC"),
        ] {
            assert_eq!(classify(module, name), Status::Known, "{module} {name}");
        }
    }

    #[test]
    fn what_runs_code_is_dangerous_by_every_name() {
        for (module, name) in [
            ("os", "system"),
            ("os\r", "system\r"),
            ("collections\n", "OrderedDict"),
            ("posix", "system"),
            ("nt", "system"),
            ("builtins", "eval"),
            ("__builtin__", "eval"),
            ("builtins", "getattr"),
            ("torch.serialization", "os.system"),
            ("torch", "serialization.os.system"),
            ("torch.nn.modules.module", "Module.__init__.__globals__"),
            ("torch.os", "system"),
            ("subprocess", "Popen"),
            ("numpy.testing._private.utils", "runstring"),
            ("runpy", "_run_code"),
            ("_pickle", "loads"),
            ("collections", "abc.sys.modules"),
            ("os.path", "join"),
            ("operator", "attrgetter"),
            ("torch.hub", "load"),
        ] {
            assert!(dangerous(module, name), "{module} {name}");
        }
    }

    #[test]
    fn methods_that_compute_are_found() {
        assert!(PURE_METHODS.is_sorted());
        assert!(is_pure_method("toarray") && !is_pure_method("touch") && !is_pure_method("tofile"));
    }

    #[test]
    fn everything_else_is_unknown() {
        for (module, name) in [
            ("models.cnn", "CNN"),
            ("torch.nn.modules.conv", "some_function"),
            ("torch.nn.modules", "Conv2d.forward"),
            ("utils.logging", "Logger"),
            ("ossaudio", "Mixer"),
            ("__main__", "Net"),
        ] {
            assert_eq!(classify(module, name), Status::Unknown, "{module} {name}");
        }
    }
}
