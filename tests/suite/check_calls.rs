//! Calls that a pickle makes others make: what it hands to a function of torch's, numpy's or Python's, or puts where they
//! look for a method. The loaders of these were asked: each of the dangerous ones makes or changes a file.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // helpers of tests are tests

use std::path::Path;
use std::sync::Arc;

use ckpt::limits::Limits;
use ckpt::safety::examine::examine;
use ckpt::safety::finding::{Finding, Severity};
use ckpt::safety::integrity::Depth;
use ckpt::source::{MemorySource, SharedSource};

fn findings(bytes: &[u8]) -> Vec<Finding> {
    let source: SharedSource = Arc::new(MemorySource::new([b"\x80\x04", bytes, b"."].concat()));
    let depth = Depth { data: true, numerics: false };
    examine(Path::new("x.pkl"), &source, &Limits::default(), depth).unwrap().findings
}

fn worst(bytes: &[u8]) -> Option<Severity> {
    findings(bytes).iter().map(|finding| finding.severity).max()
}

fn global(module: &str, name: &str) -> Vec<u8> {
    format!("c{module}\n{name}\n").into_bytes()
}

fn text(text: &str) -> Vec<u8> {
    [b"\x8c", &[u8::try_from(text.len()).unwrap()], text.as_bytes()].concat()
}

fn call(module: &str, name: &str, args: &[&[u8]]) -> Vec<u8> {
    [&global(module, name), b"(".as_slice(), &args.concat(), b"tR"].concat()
}

fn touch() -> Vec<u8> {
    call("operator", "methodcaller", &[&text("touch")])
}

fn path() -> Vec<u8> {
    call("pathlib", "PosixPath", &[&text("there")])
}

fn touches_when_called() -> Vec<u8> {
    call("functools", "partial", &[&touch(), &path()])
}

/// An object with a state of one attribute.
fn object(module: &str, name: &str, attribute: &str, value: &[u8]) -> Vec<u8> {
    [&global(module, name), b")\x81}".as_slice(), &text(attribute), value, b"sb"].concat()
}

fn namespace(attribute: &str, value: &[u8]) -> Vec<u8> {
    object("argparse", "Namespace", attribute, value)
}

/// Calls what it is given.
fn rebuilt(function: &[u8], args: &[u8]) -> Vec<u8> {
    let tensor = global("torch", "Tensor");
    call("torch._tensor", "_rebuild_from_type", &[function, &tensor, b"(", args, b"t}"])
}

#[test]
fn what_a_known_function_is_made_to_call_is_danger() {
    let module = |attribute: &str| object("torch.nn.modules.linear", "Identity", attribute, &touches_when_called());
    let frame = [&global("pandas.core.frame", "DataFrame"), b")\x81".as_slice()].concat();
    let handler = global("logging", "FileHandler");
    let getter = |name: &str| call("operator", "attrgetter", &[&text(name)]);
    let key = [
        &global("functools", "partial"),
        global("builtins", "max").as_slice(),
        b"\x85R(",
        &global("builtins", "max"),
        &text("there"),
        b"\x85}",
        &text("key"),
        &handler,
        b"sNtb",
    ]
    .concat();
    let cases: Vec<(&str, Vec<u8>)> = vec![
        ("a methodcaller", rebuilt(&touch(), &path())),
        ("an array's tofile", rebuilt(&call("operator", "methodcaller", &[&text("tofile"), &text("x")]), b"]")),
        ("a partial of one", rebuilt(&touches_when_called(), b"")),
        ("a method that attrgetter finds", rebuilt(&rebuilt(&getter("touch"), &path()), b"")),
        ("a partial of attrgetter", call("functools", "partial", &[&getter("touch"), &path()])),
        ("a key of max", rebuilt(&key, b"")),
        ("a method of an object", rebuilt(&call("builtins", "getattr", &[&frame, &text("to_csv")]), &text("x"))),
        (
            "a function of a class",
            rebuilt(
                &call("builtins", "getattr", &[&global("pandas.core.frame", "DataFrame"), &text("to_csv")]),
                &[frame, text("x")].concat(),
            ),
        ),
        ("__new__", call("copyreg", "__newobj__", &[&namespace("__new__", &key)])),
        ("numpy's sin", call("numpy", "sin", &[&namespace("sin", &touches_when_called())])),
        ("a module's repr", call("builtins", "repr", &[&module("extra_repr")])),
        ("a copied module", call("torch.optim.swa_utils", "AveragedModel", &[&module("__deepcopy__")])),
        ("keys of a mapping", call("builtins", "dict", &[&namespace("keys", &touches_when_called())])),
        ("a list of schedules", call("torch.optim.lr_scheduler", "LambdaLR", &[b"N", b"]", &getter("x"), b"a"])),
        ("a class in a list", call("torch.optim.lr_scheduler", "LambdaLR", &[b"N", b"]", &handler, b"a"])),
        (
            "a factory that setstate calls",
            object(
                "torch.optim.adam",
                "Adam",
                "param_groups",
                &[b"]", call("collections", "defaultdict", &[&touches_when_called()]).as_slice(), b"a"].concat(),
            ),
        ),
        (
            "a logger's handlers",
            [&global("logging", "getLogger"), b")R}".as_slice(), &text("handlers"), b"]sb"].concat(),
        ),
    ];
    for (what, bytes) in cases {
        assert_eq!(worst(&bytes), Some(Severity::Danger), "{what}: {:?}", findings(&bytes));
    }
}

#[test]
fn a_change_after_the_state_is_an_error() {
    let handler = global("logging", "FileHandler");
    for (attribute, change) in [
        ("append", b"\x8c\x05therea".as_slice()),
        ("extend", b"(\x8c\x05there\x8c\x01ae"),
        ("add", b"(\x8c\x05there\x8c\x01a\x90"),
        ("__setstate__", b"\x8c\x05thereb"),
        ("data", b"\x8c\x05thereK\x01s"),
    ] {
        let bytes = [&namespace(attribute, &handler), change].concat();
        assert!(worst(&bytes) >= Some(Severity::Error), "{attribute}: {:?}", findings(&bytes));
    }
}

#[test]
fn what_is_only_kept_is_none() {
    let inner = call("functools", "partial", &[&global("collections", "defaultdict"), &global("builtins", "int")]);
    let color = |name: &str| call("builtins", "getattr", &[&global("torch.nn.modules.linear", "Linear"), &text(name)]);
    let cases: Vec<(&str, Vec<u8>)> = vec![
        ("a key function", namespace("key", &call("operator", "itemgetter", &[b"K\x01"]))),
        ("an attribute's", namespace("key", &call("operator", "attrgetter", &[&text("name")]))),
        ("a method that computes", namespace("f", &call("operator", "methodcaller", &[&text("toarray")]))),
        ("dicts of dicts", call("collections", "defaultdict", &[&inner])),
        ("a partial of a partial", call("functools", "partial", &[&inner])),
        ("an inner class", namespace("kind", &color("Inner"))),
        ("a handler", [&global("logging", "FileHandler"), b")\x81}".as_slice(), &text("level"), b"K\x01sb"].concat()),
        ("items, then the state", [&global("collections", "OrderedDict"), b")R(K\x01K\x02u}b".as_slice()].concat()),
    ];
    for (what, bytes) in cases {
        assert_eq!(worst(&bytes), None, "{what}: {:?}", findings(&bytes));
    }
}
