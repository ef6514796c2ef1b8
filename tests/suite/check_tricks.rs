//! Tricks that hide a call from scanners: what a loader reaches is danger.
//!
//! `testdata/tricks` is made by `generate_tricks.py`, which also asks the loaders (pickle's two unpicklers, torch, numpy,
//! joblib, zipfile) which of them come to the call.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // helpers of tests are tests

// Of 436 globals that were published as gadgets these few are not dangerous here: `operator.itemgetter` (until what it gives
// is called), `operator.concat`, `itertools.repeat`, `heapq.merge`, `re.compile`, `decimal.Context` (they make values of
// values), `torchvision.models.resnet.ResNet` (a module that builds layers).

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;

use crate::driver::testdata;
use ckpt::limits::Limits;
use ckpt::safety::examine::{Examined, examine};
use ckpt::safety::finding::Severity;
use ckpt::safety::integrity::Depth;
use ckpt::source::{MemorySource, SharedSource};

fn examined(name: &str, bytes: Vec<u8>) -> Examined {
    let source: SharedSource = Arc::new(MemorySource::new(bytes));
    let depth = Depth { data: true, numerics: false };
    examine(Path::new(name), &source, &Limits::default(), depth).unwrap_or_else(|e| panic!("{name}: {e}"))
}

fn is_danger(examined: &Examined) -> bool {
    examined.findings.iter().any(|finding| finding.severity == Severity::Danger)
}

fn expected() -> BTreeMap<String, Vec<String>> {
    serde_json::from_slice(&fs::read(testdata("tricks/expected.json")).unwrap()).unwrap()
}

#[test]
fn what_a_loader_reaches_is_danger() {
    let mut wrong = Vec::new();
    for (name, loaders) in expected().iter().filter(|(_, loaders)| !loaders.is_empty()) {
        let found = examined(name, fs::read(testdata("tricks").join(name)).unwrap());
        if !is_danger(&found) {
            wrong.push(format!("{name}, which {loaders:?} load: {:?}", found.findings));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn what_none_reaches_is_none() {
    let benign: Vec<String> = expected().into_keys().filter(|name| name.starts_with("benign_")).collect();
    assert_eq!(benign.len(), 5);
    for name in benign {
        let found = examined(&name, fs::read(testdata("tricks").join(&name)).unwrap());
        assert!(!is_danger(&found), "{name}: {:?}", found.findings);
    }
}

/// A call is shown with its arguments.
#[test]
fn calls_are_shown_as_python_writes_them() {
    let found = examined("a.pkl", b"\x80\x02cposix\nsystem\nU\x0aecho hello\x85R.".to_vec());
    assert!(found.findings[0].message.starts_with("posix.system('echo hello') is called"), "{:?}", found.findings);
    let found = examined("a.pkl", b"\x80\x02cm\nf\n(K\x01](N\x88e}U\x01aG?\xf8\0\0\0\0\0\0stR.".to_vec());
    let expected = "m.f(1, [None, True], {'a': 1.5}) is called";
    assert!(found.findings.iter().any(|finding| finding.message.starts_with(expected)), "{:?}", found.findings);
}

/// What was dropped behind a break is searched, in every position of the blocks it is read in.
#[test]
fn what_follows_a_break_is_searched() {
    let broken = b"\x80\x02NR".to_vec();
    for call in [&b"cposix\nsystem\n(S'id'\ntR."[..], b"\x8c\x05posix\x94\x8c\x06system\x94\x93\x8c\x02id\x85R."] {
        for pad in [0, 1, 1000, (1 << 20) - 20, (1 << 20) - 3, 1 << 20, (1 << 20) + 7] {
            let found = examined("a.pkl", [&broken[..], &vec![0; pad], call].concat());
            assert!(is_danger(&found), "{pad}: {:?}", found.findings);
        }
    }
    // names in a text are no call
    let found = examined("a.pkl", [&broken[..], b"\nHelios\nstat\nclos\nend\n"].concat());
    assert!(!is_danger(&found), "{:?}", found.findings);
}

/// A class whose constructor opens files may be made without calling it.
#[test]
fn constructors_that_reach_something() {
    let class = b"ctransformers.integrations.deepspeed\nHfDeepSpeedConfig\n";
    let object = b"c__builtin__\nobject\n";
    let cases: [(&str, Vec<u8>, bool); 5] = [
        ("made as pickle does", [&b"\x80\x02"[..], class, b")\x81}b."].concat(), false),
        ("made as copyreg does", [b"ccopyreg\n_reconstructor\n(", &class[..], object, b"NtR."].concat(), false),
        ("called", [&class[..], b"(S'/file'\ntR."].concat(), true),
        ("called as a base", [b"ccopyreg\n_reconstructor\n(", &object[..], class, b"S'/file'\ntR."].concat(), true),
        (
            "handed on",
            [b"ctorch._tensor\n_rebuild_from_type\n(", &class[..], b"ctorch\nTensor\n(S'/f'\nt(dtR."].concat(),
            true,
        ),
    ];
    for (name, bytes, danger) in cases {
        let found = examined("a.pkl", bytes);
        assert_eq!(is_danger(&found), danger, "{name}: {:?}", found.findings);
    }
    // a bytearray that got more than what it began with
    let loaded = b"\x80\x05ctorch.storage\n_load_from_bytes\n\x96\x02\0\0\0\0\0\0\0N.(K\x01e\x85R.";
    assert!(is_danger(&examined("a.pkl", loaded.to_vec())));
}
