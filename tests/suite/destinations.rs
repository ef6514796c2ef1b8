//! Where a renaming goes, as the library does it: nothing here is a command line.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // helpers of tests are tests

use crate::driver::testdata;
use ckpt::checkpoint::edit::rules::Step;
use ckpt::checkpoint::{Checkpoint, Container};
use ckpt::error::{ErrorKind, Result};
use ckpt::layout::Layout;
use ckpt::limits::Limits;
use ckpt::message::fields;
use ckpt::operations::destination::{Destination, Original, Sink};
use ckpt::operations::rename::{Named, Options, rename};
use ckpt::progress::Silent;
use ckpt::report::rename::Renaming;
use ckpt::source::MemorySource;
use ckpt::write::atomic::{Memory, Target};
use ckpt::write::format::Format;

fn original() -> Original {
    let path = testdata("renames/wrapped.pt");
    Original::open(Layout::of(&path, &Limits::default()).unwrap(), "wrapped.pt", &path, &Limits::default(), &Silent)
        .unwrap()
}

fn to_memory(options: &Options, to: Option<Format>) -> (Result<Renaming>, Vec<u8>) {
    let memory = Memory::default();
    let sink = Sink { name: "out".to_owned(), target: Target::Memory(memory.clone()) };
    let done = rename(&mut original(), options, &mut Destination::File { sink, to }, &Silent);
    (done, memory.take())
}

fn strip(prefixes: &[&str]) -> Options {
    let named = |prefix: &&str| Named::new(Step::StripPrefix((*prefix).to_owned()), *prefix);
    Options::of(prefixes.iter().map(named).collect())
}

fn names(bytes: Vec<u8>) -> (Container, Vec<String>) {
    let checkpoint =
        Checkpoint::open(std::sync::Arc::new(MemorySource::new(bytes)), &Limits::default(), &Silent).unwrap();
    let names = checkpoint.names(&checkpoint.top()).unwrap().entries;
    let names = names.iter().map(|entry| entry.name()).filter(|name| !name.starts_with("__metadata__"));
    (checkpoint.container(), names.collect())
}

#[test]
fn an_idle_step_is_named_by_its_field() {
    let (done, written) = to_memory(&strip(&["module.", "nope."]), None);
    let e = done.unwrap_err();
    let said = e.spoken(fields);
    assert!(said.starts_with("wrapped.pt: strip_prefix nope. changes nothing: "), "{said}");
    assert!(said.ends_with("; nothing written; if_present ignores such steps"), "{said}");
    assert_eq!((e.kind(), written.len()), (ErrorKind::Refused, 0));
}

#[test]
fn nothing_to_rename_is_said_and_not_written() {
    let (done, written) = to_memory(&strip(&["nope."]), None);
    let why = done.unwrap().nothing.unwrap().to_string();
    assert!(why.starts_with("no name begins with \"nope.\"") && written.is_empty(), "{why}");
    let mut options = strip(&["nope."]);
    options.if_present = true;
    let (done, written) = to_memory(&options, None);
    assert_eq!((done.unwrap().changes, written), (0, std::fs::read(testdata("renames/wrapped.pt")).unwrap()));
}

/// A file is what its name says, whether a name changes or not.
#[test]
fn another_container_is_written_though_no_name_changes() {
    for prefix in ["nope.", "module."] {
        let mut options = strip(&[prefix]);
        options.if_present = true;
        let (done, written) = to_memory(&options, Some(Format::Safetensors));
        let report = done.unwrap();
        assert_eq!((report.output.as_deref(), report.bytes), (Some("out"), Some(written.len() as u64)));
        let (container, names) = names(written);
        assert_eq!(container, Container::Safetensors);
        assert!(
            !names.is_empty() && names.iter().all(|name| name.starts_with("module.") == (prefix == "nope.")),
            "{names:?}"
        );
    }
}
