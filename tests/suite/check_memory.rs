//! Calls that ask for more memory than there is, or never end: `check` names them, and nothing that libraries save.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // helpers of tests are tests

use std::path::Path;
use std::sync::Arc;

use ckpt::limits::Limits;
use ckpt::safety::examine::examine;
use ckpt::safety::finding::Severity;
use ckpt::safety::integrity::Depth;
use ckpt::source::{MemorySource, SharedSource};

const HUGE: i64 = 20_000_000_000;

/// What is said of a bomb; nothing where there is none.
fn bomb(parts: &[&[u8]]) -> Option<String> {
    let bytes = [b"\x80\x02", parts.concat().as_slice(), b"."].concat();
    let source: SharedSource = Arc::new(MemorySource::new(bytes));
    let depth = Depth { data: false, numerics: false };
    let examined = examine(Path::new("a.pkl"), &source, &Limits::default(), depth).unwrap();
    let found = examined.findings.into_iter().find(|finding| finding.code == "memory-bomb")?;
    assert_eq!(found.severity, Severity::Danger);
    Some(found.message)
}

fn int(value: i64) -> Vec<u8> {
    [&[0x8a, 8][..], &value.to_le_bytes()].concat()
}

fn text(value: &str) -> Vec<u8> {
    [b"X", &u32::try_from(value.len()).unwrap().to_le_bytes()[..], value.as_bytes()].concat()
}

fn global(path: &str) -> Vec<u8> {
    let (module, name) = path.rsplit_once('.').unwrap();
    format!("c{module}\n{name}\n").into_bytes()
}

fn call(path: &str, args: &[Vec<u8>]) -> Vec<u8> {
    [global(path), b"(".to_vec(), args.concat(), b"tR".to_vec()].concat()
}

#[test]
fn in_every_spelling() {
    for path in ["__builtin__.bytearray", "builtins.bytes", "numpy.zeros", "torch.empty", "torch.FloatTensor"] {
        let (module, name) = path.rsplit_once('.').unwrap();
        let (global, inst) = (global(path), format!("i{module}\n{name}\n"));
        let spellings: [&[&[u8]]; 5] = [
            &[&global, &int(HUGE), b"\x85R"],
            &[&global, &int(HUGE), b"\x85\x81"],
            &[b"(", &global, &int(HUGE), b"o"],
            &[b"(", &int(HUGE), inst.as_bytes()],
            &[&global, &int(HUGE), b"\x85}\x92"],
        ];
        for (number, spelling) in spellings.into_iter().enumerate() {
            assert!(bomb(spelling).is_some(), "{path}, spelling {number}");
        }
    }
    let said = bomb(&[&call("__builtin__.bytearray", &[int(2_000_000_000)])]).unwrap();
    assert_eq!(said, "__builtin__.bytearray(2000000000) asks for 1.8 GiB of memory");
}

#[test]
fn numbers_that_say_how_much() {
    let shape = [b"(".to_vec(), int(1_000_000), int(1_000_000), b"t".to_vec()].concat();
    for (path, args) in [
        ("numpy.ones", vec![shape.clone()]),
        ("numpy.full", vec![int(HUGE), int(1)]),
        ("numpy.arange", vec![int(0), int(HUGE), int(2)]),
        ("numpy.linspace", vec![int(0), int(1), int(HUGE)]),
        ("numpy.eye", vec![int(1_000_000)]),
        ("numpy.tile", vec![int(1), int(HUGE)]),
        ("torch.zeros", vec![int(1_000_000), int(1_000_000)]),
        ("torch.rand", vec![shape.clone()]),
        ("torch.full", vec![shape, int(1)]),
        ("torch.FloatStorage", vec![int(HUGE)]),
        ("torch.storage.UntypedStorage", vec![int(HUGE)]),
        ("torch.nn.modules.linear.Linear", vec![int(1_000_000), int(1_000_000)]),
        ("scipy.sparse._csr.csr_matrix", vec![[b"(".to_vec(), int(HUGE), int(1), b"t".to_vec()].concat()]),
        ("operator.mul", vec![text("a"), int(HUGE)]),
        ("_operator.mul", vec![int(HUGE), text("a")]),
        ("operator.mul", vec![b"]".to_vec(), int(HUGE)]),
        ("operator.mod", vec![text("%20000000000d"), int(1)]),
        ("operator.pow", vec![int(10), int(HUGE)]),
        // 400 MB, and hours
        ("builtins.pow", vec![int(10), int(1_000_000_000)]),
        ("math.factorial", vec![int(100_000_000)]),
        ("builtins.format", vec![int(1), text(">20000000000")]),
        ("operator.lshift", vec![int(1), int(HUGE)]),
        ("fractions.Fraction", vec![text("1e20000000000")]),
    ] {
        // an empty list stays one
        assert_eq!(bomb(&[&call(path, &args)]).is_some(), args[0] != b"]", "{path}");
    }
    let product = call("operator.mul", &[int(1_000_000), int(1_000_000)]);
    assert!(bomb(&[&call("builtins.bytearray", &[product])]).is_some());
    let digits = call("builtins.int", &[text("99999999999")]);
    assert!(bomb(&[&call("builtins.bytearray", &[digits])]).is_some());
    let dtype = call("numpy.dtype", &[text("V2000000000")]);
    assert!(bomb(&[&call("numpy.core.multiarray.scalar", &[dtype])]).is_some());
    let reconstruct = [b"(".to_vec(), int(HUGE), b"t".to_vec()].concat();
    let args = [global("numpy.ndarray"), reconstruct, text("b")];
    assert!(bomb(&[&call("numpy.core.multiarray._reconstruct", &args)]).is_some());
    // many small ones
    let one = [call("builtins.bytearray", &[int(100_000_000)]), b"0".to_vec()].concat();
    assert!(bomb(&[&one.repeat(5), b"N"]).is_none());
    assert!(bomb(&[&one.repeat(15), b"N"]).unwrap().contains("with the calls before it"));
}

/// Doubled again and again.
#[test]
fn texts_that_grow() {
    let double = |at: u8| [global("operator.concat"), vec![b'h', at, b'h', at, 0x86, b'R', b'q', at + 1]].concat();
    let all = (0..34).flat_map(double).collect::<Vec<_>>();
    assert!(bomb(&[b"X\x01\0\0\0aq\0", &all]).is_some());
    assert!(bomb(&[b"X\x01\0\0\0aq\0", &all[..all.len() / 2]]).is_none());
}

#[test]
fn iterators_without_end() {
    let count = call("itertools.count", &[]);
    let of = |path: &str, arg: &[u8]| call(path, &[arg.to_vec()]);
    for path in ["list", "tuple", "set", "frozenset", "bytes", "bytearray", "sorted", "sum", "max"] {
        let said = bomb(&[&of(&format!("builtins.{path}"), &count)]);
        assert_eq!(said, Some(format!("builtins.{path}(itertools.count()) never ends")));
    }
    assert!(bomb(&[&of("collections.deque", &count)]).is_some());
    assert!(bomb(&[&of("collections.Counter", &count)]).is_some());
    assert!(bomb(&[&of("builtins.list", &of("itertools.repeat", &int(1)))]).is_some());
    assert!(bomb(&[&of("builtins.list", &of("itertools.cycle", b"](K\x01e"))]).is_some());
    assert!(bomb(&[&of("builtins.list", &call("itertools.chain", &[text("ab"), count.clone()]))]).is_some());
    assert!(bomb(&[&of("builtins.list", &of("builtins.range", &int(HUGE)))]).is_some());
    assert!(bomb(&[&of("builtins.list", &of("__builtin__.xrange", &int(HUGE)))]).is_some());
    let range = of("builtins.range", &int(1000));
    let product = call("itertools.product", &[range.clone(), range.clone(), range.clone(), range.clone()]);
    assert!(bomb(&[&of("builtins.list", &product)]).is_some());
    assert!(bomb(&[&of("builtins.list", &of("itertools.permutations", &range))]).is_some());
    let slice = call("itertools.islice", &[count.clone(), int(10)]);
    assert!(bomb(&[&of("builtins.list", &slice)]).is_none());
    let zipped = call("builtins.zip", &[text("ab"), count.clone()]);
    assert!(bomb(&[&of("builtins.list", &zipped)]).is_none());
    // these hold nothing yet
    for lazy in [count.clone(), of("builtins.range", &int(HUGE)), call("itertools.repeat", &[int(1), int(HUGE)])] {
        assert_eq!(bomb(&[&lazy]), None);
    }
}

/// What the file holds itself is no more than that, and what is not known counts as nothing.
#[test]
fn what_libraries_save_is_none() {
    let items = [b"](".to_vec(), b"K\x01".repeat(1000), b"e".to_vec()].concat();
    for (path, args) in [
        ("builtins.set", vec![items.clone()]),
        ("builtins.bytearray", vec![text(&"x".repeat(5000))]),
        ("collections.deque", vec![items, int(HUGE)]),
        ("builtins.pow", vec![int(2), int(64)]),
        ("builtins.slice", vec![int(0), int(HUGE), int(1)]),
        ("fractions.Fraction", vec![text("1/3")]),
        ("numpy.dtype", vec![text("V2000000000")]),
        ("torch.Size", vec![[b"(".to_vec(), int(HUGE), b"t".to_vec()].concat()]),
        ("random.Random", vec![int(HUGE)]),
        ("models.Net", vec![int(HUGE)]),
    ] {
        assert_eq!(bomb(&[&call(path, &args)]), None, "{path}");
    }
}
