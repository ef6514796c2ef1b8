//! What libraries save is known, and calls of what does more are not.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // helpers of tests are tests

use std::fs;
use std::path::Path;
use std::sync::Arc;

use crate::driver::{run, testdata};
use ckpt::limits::Limits;
use ckpt::safety::examine::{Examined, examine};
use ckpt::safety::finding::Severity;
use ckpt::safety::globals::Status;
use ckpt::safety::integrity::Depth;
use ckpt::source::{MemorySource, SharedSource};

fn verdict(file: &str) -> String {
    let run = run(&format!("check --json globals/{file}"));
    let json: serde_json::Value = serde_json::from_slice(&run.stdout).expect("JSON");
    json["verdict"].as_str().unwrap().to_owned()
}

fn examined(bytes: Vec<u8>) -> Examined {
    let source: SharedSource = Arc::new(MemorySource::new(bytes));
    let depth = Depth { data: true, numerics: false };
    examine(Path::new("a.pkl"), &source, &Limits::default(), depth).unwrap()
}

fn is_danger(bytes: Vec<u8>) -> bool {
    examined(bytes).findings.iter().any(|finding| finding.severity == Severity::Danger)
}

fn text(value: &str) -> Vec<u8> {
    [b"X".as_slice(), &u32::try_from(value.len()).unwrap().to_le_bytes(), value.as_bytes()].concat()
}

fn global(module: &str, name: &str) -> Vec<u8> {
    [text(module), text(name), b"\x93".to_vec()].concat()
}

fn pickle(parts: &[&[u8]]) -> Vec<u8> {
    [&[b"\x80\x04".as_slice()], parts, &[b".".as_slice()]].concat().concat()
}

/// The ways in which a pickle makes Python call a global, each as a whole pickle.
fn calls(module: &str, name: &str) -> Vec<(&'static str, Vec<u8>)> {
    let global = global(module, name);
    let arg = text("x");
    vec![
        ("REDUCE", pickle(&[&global, b"(", &arg, b"tR"])),
        ("REDUCE without arguments", pickle(&[&global, b")R"])),
        ("OBJ", pickle(&[b"(", &global, &arg, b"o"])),
        ("GLOBAL", [format!("c{module}\n{name}\n(S'x'\ntR.").as_bytes()].concat()),
        ("INST", [format!("(S'x'\ni{module}\n{name}\n.").as_bytes()].concat()),
        ("partial", pickle(&[&self::global("functools", "partial"), b"(", &global, &arg, b"tR)R"])),
        ("map", pickle(&[&self::global("builtins", "map"), b"(", &global, b"(", &arg, b"ltR"])),
    ]
}

/// The rows of a table of `testdata/globals`: a module, a name, and what it says of them.
fn rows(file: &str) -> Vec<(String, String, Option<String>)> {
    let table = fs::read_to_string(testdata("globals").join(file)).unwrap();
    let rows = table.lines().filter(|line| !line.starts_with('#')).map(|line| {
        let (global, why) = line.split_once(": ").map_or((line, None), |(global, why)| (global, Some(why.to_owned())));
        let (module, name) = global.split_once(' ').expect("a module and a name");
        (module.to_owned(), name.to_owned(), why)
    });
    rows.collect()
}

#[test]
fn globals_of_libraries_are_known() {
    for file in ["library_named.pkl", "library_made.pkl", "type_by_name.pkl"] {
        assert_eq!(verdict(file), "ok", "{file}");
    }
}

#[test]
fn calls_of_what_reaches_something_are_danger() {
    for file in ["handler_called.pkl", "handler_handed.pkl", "type_of_code.pkl", "partial_of_system.pkl"] {
        assert_eq!(verdict(file), "danger", "{file}");
    }
}

/// Whoever calls one of these by a pickle is told so, or the table says why it is no danger.
#[test]
fn what_attacks_call_is_danger_or_explained() {
    let rows = rows("called_in_attacks.txt");
    assert!(rows.len() > 750, "{} rows", rows.len());
    let mut wrong = Vec::new();
    for (module, name, why) in rows {
        for (how, bytes) in calls(&module, &name).into_iter().take(if why.is_some() { 2 } else { 7 }) {
            if is_danger(bytes) == why.is_some() {
                wrong.push(format!("{module} {name} by {how}: {}", why.as_deref().unwrap_or("is no danger")));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Named and made as libraries do, these are known, or the table says why not.
#[test]
fn what_checkpoints_name_is_known_or_explained() {
    let rows = rows("of_checkpoints.txt");
    assert!(rows.len() > 100, "{} rows", rows.len());
    let (mut wrong, mut known) = (Vec::new(), 0);
    for (module, name, why) in &rows {
        let global = global(module, name);
        let named = pickle(&[&global]);
        let made = pickle(&[&global, b")\x81}b"]);
        let is_known = |bytes: Vec<u8>| examined(bytes).globals.iter().all(|global| global.status == Status::Known);
        let named = is_known(named);
        known += usize::from(named);
        if (named && is_known(made)) == why.is_some() {
            wrong.push(format!("{module} {name}: {}", why.as_deref().unwrap_or("is not known")));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(known * 100 >= rows.len() * 95, "{known} of {}", rows.len());
}

/// Functions that Cython's and pandas' pickles call make an object of the class that they are given, and call nothing.
#[test]
fn classes_given_to_what_makes_them_are_known() {
    let made = |function: (&str, &str), class: (&str, &str)| {
        pickle(&[&global(function.0, function.1), b"(", &global(class.0, class.1), b"K\x01}tR"])
    };
    for (function, class) in [
        (("pandas.core.indexes.base", "_new_Index"), ("pandas", "Index")),
        (("pandas.core.indexes.base", "_new_Index"), ("pandas.core.indexes.range", "RangeIndex")),
        (("pandas._libs.arrays", "__pyx_unpickle_NDArrayBacked"), ("pandas.arrays", "DatetimeArray")),
        (("numpy.random.bit_generator", "__pyx_unpickle_SeedSequence"), ("numpy.random.bit_generator", "SeedSequence")),
        (("sklearn.neighbors._kd_tree", "newObj"), ("sklearn.neighbors._kd_tree", "KDTree")),
    ] {
        let found = examined(made(function, class));
        assert!(found.globals.iter().all(|global| global.status == Status::Known), "{function:?}: {:?}", found.globals);
        // and no other function may
        let other = examined(made(("models", "_new_Index"), class));
        assert!(other.globals.iter().any(|global| global.name.ends_with(class.1) && global.status != Status::Known));
        assert!(is_danger(made(function, ("posix", "system"))), "{function:?}");
    }
    // a function that pickles find by `getattr`, before protocol 4
    let getattr = [global("builtins", "getattr"), global("zoneinfo", "ZoneInfo"), text("_unpickle")].concat();
    let zone = pickle(&[&getattr, b"\x86R", &text("Europe/Berlin"), b"K\x01\x86R"]);
    assert!(examined(zone).findings.is_empty());
    let other = [global("builtins", "getattr"), global("models", "Net"), text("_unpickle")].concat();
    let other = examined(pickle(&[&other, b"\x86R", &text("Europe/Berlin"), b"K\x01\x86R"]));
    assert!(other.findings.iter().any(|finding| finding.code == "call-of-result"));
}

/// `__setstate__` of these does what the state says, however the object is made.
#[test]
fn states_that_are_run_are_danger() {
    for (module, name) in [
        ("scipy.stats._continuous_distns", "norm_gen"),
        ("scipy.stats._distn_infrastructure", "rv_discrete"),
        ("joblib.numpy_pickle", "NDArrayWrapper"),
        ("xgboost.core", "Booster"),
        ("lightgbm.basic", "Booster"),
        ("catboost.core", "CatBoostClassifier"),
        ("stable_baselines3.common.vec_env.base_vec_env", "CloudpickleWrapper"),
        ("flair.embeddings.token", "BPEmbSerializable"),
    ] {
        let state = [b"}".as_slice(), &text("_parse_arg_template"), &text("x"), b"sb"].concat();
        assert!(is_danger(pickle(&[&global(module, name), b")\x81", &state])), "{module} {name}");
        let copyreg = global("copyreg", "_reconstructor");
        let object = global("builtins", "object");
        let old = pickle(&[&copyreg, &global(module, name), &object, b"N\x87R", &state]);
        assert!(is_danger(old), "{module} {name} by copyreg");
    }
}

/// Annotations, formulas and the like are text that is evaluated, and some functions call the one that they are given.
#[test]
fn what_evaluates_or_calls_what_it_is_given_is_danger() {
    for (module, name) in [
        ("typing", "get_type_hints"),
        ("attr", "make_class"),
        ("pydantic.main", "create_model"),
        ("patsy", "dmatrix"),
        ("statsmodels.formula.api", "ols"),
        ("sympy", "lambdify"),
        ("heapq", "nsmallest"),
        ("functools", "cmp_to_key"),
        ("numpy", "apply_along_axis"),
        ("scipy.optimize", "minimize"),
        ("pandas", "DataFrame.pipe"),
        ("torch.utils._pytree", "tree_map"),
        ("toolz.functoolz", "compose"),
        ("gymnasium", "make"),
    ] {
        for (how, bytes) in calls(module, name) {
            assert!(is_danger(bytes), "{module} {name} by {how}");
        }
    }
    // their results and the structures that they go through are none
    for (module, name) in [("scipy.optimize._optimize", "OptimizeResult"), ("torch.utils._pytree", "TreeSpec")] {
        assert!(!is_danger(pickle(&[&global(module, name), b")\x81"])), "{module} {name}");
    }
}

/// Chains of harmless steps that end in a call.
#[test]
fn chains_that_end_in_a_call_are_danger() {
    let call = |module: &str, name: &str, args: &[&[u8]]| {
        [global(module, name), b"(".to_vec(), args.concat(), b"tR".to_vec()].concat()
    };
    let (x, system) = (text("x"), text("system"));
    let module = |name: &str| global(name, name);
    let cases: Vec<(&str, Vec<u8>)> = vec![
        ("getattr of a module", call("builtins", "getattr", &[&global("random", "_os"), &system])),
        ("getattr of a class", call("builtins", "getattr", &[&global("builtins", "object"), &text("__subclasses__")])),
        (
            "methodcaller",
            [call("operator", "methodcaller", &[&system, &x]), b"(".to_vec(), global("random", "_os"), b"tR".to_vec()]
                .concat(),
        ),
        (
            "attrgetter",
            [call("operator", "attrgetter", &[&text("_os.system")]), b"(".to_vec(), module("random"), b"tR".to_vec()]
                .concat(),
        ),
        (
            "itemgetter called",
            [call("operator", "itemgetter", &[b"K\x00"]), b"(".to_vec(), global("posix", "environ"), b"tR".to_vec()]
                .concat(),
        ),
        ("copyreg.__newobj__", call("copyreg", "__newobj__", &[&global("subprocess", "Popen"), &x])),
        (
            "copyreg._reconstructor",
            call("copyreg", "_reconstructor", &[&global("builtins", "object"), &global("subprocess", "Popen"), &x]),
        ),
        (
            "weakref.finalize",
            call("weakref", "finalize", &[&global("collections", "OrderedDict"), &global("posix", "system"), &x]),
        ),
        ("FunctionType of code", call("types", "FunctionType", &[&call("types", "CodeType", &[&x]), b"}"])),
        ("reduce", call("functools", "reduce", &[&global("posix", "system"), b"(", &x, b"l"])),
        (
            "starmap",
            call("builtins", "list", &[&call("itertools", "starmap", &[&global("posix", "system"), b"(", &x, b"l"])]),
        ),
        ("a Timer", call("threading", "Timer", &[b"K\x01", &global("posix", "system")])),
        ("a property", call("builtins", "property", &[&global("posix", "system")])),
        ("LambdaLR of system", call("torch.optim.lr_scheduler", "LambdaLR", &[b"N", &global("posix", "system")])),
        ("loads of bytes", call("pickle", "loads", &[b"C\x02N."])),
        ("a Lambda", call("keras.layers.core", "Lambda", &[&x])),
        ("torch.ops.load_library", call("torch", "ops.load_library", &[&x])),
        (
            "_rebuild_from_type_v2 of system",
            call(
                "torch._tensor",
                "_rebuild_from_type_v2",
                &[&global("posix", "system"), &global("torch", "Tensor"), b"(", &x, b"tN"],
            ),
        ),
        (
            "_rebuild_wrapper of exec",
            call("torch._utils", "_rebuild_wrapper_subclass", &[&global("builtins", "exec"), &x]),
        ),
        ("nested bytes", call("torch.storage", "_load_from_bytes", &[b"C\x14cposix\nsystem\nU\x01x\x85R."])),
    ];
    for (name, bytes) in cases {
        assert!(is_danger(pickle(&[&bytes])), "{name}");
    }
}

/// Bytes in the state of an object whose class nobody knows: it may load them.
#[test]
fn files_in_states_are_read() {
    let inner = b"\x80\x02cposix\nsystem\nU\x01x\x85R.";
    let fine = b"\x80\x02}U\x01aK\x01s.";
    let bytes = |bytes: &[u8]| [&[b'C', u8::try_from(bytes.len()).unwrap()], bytes].concat();
    let made = [global("skorch.net", "NeuralNet"), b")\x81".to_vec()].concat();
    for (how, before, after) in [
        ("the state", b"".as_slice(), b"b".as_slice()),
        ("an attribute", b"}X\x01\0\0\0a", b"sb"),
        ("a slot", b"N}X\x01\0\0\0a", b"s\x86b"),
    ] {
        assert!(is_danger(pickle(&[&made, before, &bytes(inner), after])), "{how}");
        assert!(!is_danger(pickle(&[&made, before, &bytes(fine), after])), "{how}");
    }
}
