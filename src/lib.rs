//! `ckpt` is a small compiler for checkpoints: bytes -> containers -> object graph -> named tensors -> report or new
//! bytes. This library is the whole program but its process boundary; the binary, tests, benches and fuzz targets use it.
//!
//! [`open`] opens a checkpoint; an [`Input`] gives its tensors and values by name. [`check`], [`diff`] and [`digest`] are the shortest
//! ways to three of the subcommands; what all of them do is in [`operations`]. A program that needs no command line leaves out the feature `cli`.
//!
//! ```
//! let checkpoint = ckpt::open("testdata/torch-2.15-py311/cnn_state.pt")?;
//! for tensor in checkpoint.tensors()? {
//!     println!("{} {} {:?}", tensor.name(), tensor.dtype(), tensor.shape());
//! }
//! let bias: Vec<f32> = checkpoint.tensor("features.0.bias")?.read()?;
//! # assert_eq!(bias.len(), 4);
//! # Ok::<(), ckpt::Error>(())
//! ```
//!
//! # The rooms
//!
//! | room | what it owns |
//! | --- | --- |
//! | [`cli`] | the command line as clap types; completions and man pages are made from them |
//! | [`commands`] | one file a subcommand: its `Args` and its `run` |
//! | `options` | groups of options that several commands share, and what they come to |
//! | `terminal` | the person's end of the program: output streams, progress bars, the words for settings |
//! | [`operations`] | what the subcommands do, for any caller: options in, an outcome out |
//! | [`report`] | what a command found, as plain serde types, each also laid out as a document |
//! | [`render`] | documents to tables, reports to JSON; hostile names escaped |
//! | [`layout`] | checkpoints that are not one file: shards with an index, directories of torch.distributed and DeepSpeed, unpacked zips, members of archives |
//! | [`safety`] | what a file would do when it is loaded, and whether it is sound: findings, never an execution |
//! | [`mod@write`] | one encoder a format; output appears whole or not at all |
//! | [`checkpoint`] | the shared core: an object graph plus the storages it names; names, tensors, values |
//! | [`data`] | the elements of one tensor in bounded memory: gather, cast, hash, statistics, comparison |
//! | [`container`] | one file's framing: where its pickles and bytes lie |
//! | [`pickle`] | Python's pickle without Python: opcodes, decoding into an arena |
//! | [`dtype`] [`source`] [`limits`] [`error`] [`progress`] | what everything stands on |
//!
//! # The rule
//!
//! Arrows point down only: commands -> options -> terminal, operations -> report, render, safety, write -> layout -> checkpoint -> data, container -> pickle ->
//! dtype, source, limits, error, progress. `pickle` knows nothing of torch, `container` nothing of names; commands never
//! touch a zip or an opcode; a renderer knows documents, not commands. A new format is one file in `container`, `layout`
//! or `write` and a line in a table; a new output is one `Renderer`; a new subcommand is one file.
//!
//! # What holds everywhere
//!
//! Nothing is executed: constructors are recognised by name, everything else stays as it is and is shown with its
//! attributes. Nothing recurses over input, and nothing is allocated from a length that has not been checked against what
//! is left of the file. A pickle's structure is read at once, tensor bytes are streamed in blocks: any command runs in
//! less than 100 MB and about a kilobyte for each key, whatever the file's size; what is streamed from a URL takes up to 100 MB more.

#![forbid(unsafe_code)]
#![warn(unreachable_pub)]
// the heads of the rooms also speak to those who work in them
#![allow(rustdoc::private_intra_doc_links)]
// the command line is the only caller of some
#![cfg_attr(not(feature = "cli"), allow(dead_code, unused_imports))]

pub mod checkpoint;
#[cfg(feature = "cli")]
pub mod cli;
#[cfg(feature = "cli")]
pub mod commands;
pub mod container;
pub mod data;
pub mod dtype;
pub mod error;
pub mod layout;
pub mod limits;
pub mod message;
pub mod operations;
#[cfg(feature = "cli")]
pub(crate) mod options;
pub mod pickle;
pub mod progress;
pub mod render;
pub mod report;
pub mod safety;
pub mod source;
#[cfg(feature = "cli")]
pub(crate) mod terminal;
pub mod write;

use std::path::Path;

pub use checkpoint::value::Value;
pub use data::scalar::Scalar;
pub use error::{Error, ErrorKind, Result};
pub use half::{bf16, f16};
pub use limits::Limits;
pub use operations::Input;
pub use operations::read::TensorView;
pub use report::check::Check;
pub use report::diff::Diff;

/// Opens a checkpoint: a file, a directory, an index of shards, or a member of an archive (`model.tar.gz::model.pth`), on
/// this machine or behind an address (`https://…`, `s3://…`, `gs://…`, `az://…`, `hf://…`). What it is, its bytes decide. No tensor's data is read, and nothing in the file is run.
///
/// ```
/// let checkpoint = ckpt::open("testdata/torch-2.15-py311/checkpoint.tar")?;
/// assert_eq!(checkpoint.tensors()?.count(), 40);
///
/// let e = ckpt::open("README.md").unwrap_err();
/// assert_eq!(e.kind(), ckpt::ErrorKind::NotACheckpoint);
/// # Ok::<(), ckpt::Error>(())
/// ```
///
/// Errors name the file. The bounds are [`Limits::default`]; [`operations::open::open`] takes others.
pub fn open(path: impl AsRef<Path>) -> Result<Input> {
    let path = source::address::given(path.as_ref().as_os_str());
    operations::open::open(Path::new(&path), &Limits::default(), &progress::Silent)
}

/// Checks whether a file is safe to load and intact, without loading it: one report, or for an archive of checkpoints one of
/// its own and one for each checkpoint in it.
///
/// ```
/// let reports = ckpt::check("testdata/torch-2.15-py311/cnn_state.pt")?;
/// assert!(reports.iter().all(|report| report.verdict == "ok"));
/// assert!(reports[0].weights_only.as_ref().is_some_and(|verdict| verdict.opens));
///
/// let reports = ckpt::check("testdata/torch-2.15-py311/cnn_full.pth")?;
/// assert_eq!((reports[0].verdict, reports[0].findings[0].code), ("warning", "global-unknown"));
/// # Ok::<(), ckpt::Error>(())
/// ```
///
/// Checksums are looked at, tensors' numbers are not; [`operations::check::check`] takes other options, bounds, and globals
/// that are vouched for.
///
/// # Errors
/// When the file, or a checkpoint in an archive, cannot be read or is no checkpoint. What is damaged is a finding.
pub fn check(path: impl AsRef<Path>) -> Result<Vec<Check>> {
    let (path, limits) = (path.as_ref(), Limits::default());
    let layout = operations::open::layout(path, &limits, &progress::Silent);
    let (options, allow) = (operations::check::Options::default(), safety::allow::Allow::default());
    operations::check::check(layout, path, &options, &allow, &limits).into_iter().map(|(_, check)| check).collect()
}

/// Compares two checkpoints, of whatever formats: equal means equal as numbers.
///
/// ```
/// let diff = ckpt::diff("testdata/diff/run_a.ckpt", "testdata/diff/run_b.ckpt")?;
/// assert!(!diff.equal && diff.problems.is_empty());
/// assert!(diff.changed.iter().any(|tensor| tensor.name == "model.head.weight"));
/// # Ok::<(), ckpt::Error>(())
/// ```
///
/// Every tensor and value counts; [`operations::diff::diff`] takes other options.
///
/// # Errors
/// When one cannot be opened. Tensors and values that cannot be compared are [`Diff::problems`], and no `equal` then.
pub fn diff(a: impl AsRef<Path>, b: impl AsRef<Path>) -> Result<Diff> {
    let (mut a, mut b) = (open(a)?, open(b)?);
    operations::diff::diff(&mut a, &mut b, &operations::diff::Options::default(), &progress::Silent)
}

/// The digest of a checkpoint's weights, in hexadecimal: the same in whatever they lie. `ckpt digest --help` defines it, and so
/// does [`operations::digest`].
///
/// ```
/// let digest = ckpt::digest("testdata/digest/state.safetensors")?;
/// assert_eq!(digest, ckpt::digest("testdata/digest/dcp")?);
/// assert_ne!(digest, ckpt::digest("testdata/digest/one_bit.pt")?);
/// # Ok::<(), ckpt::Error>(())
/// ```
///
/// # Errors
/// When something of the weights is missing or damaged, or nobody can tell which of several sets they are.
pub fn digest(path: impl AsRef<Path>) -> Result<String> {
    let (path, limits, options) = (path.as_ref(), Limits::default(), operations::digest::Options::default());
    let mut input = operations::digest::open(path, &limits, &progress::Silent)?;
    let missing = operations::digest::Missing::of(&options.select);
    Ok(operations::digest::digest(&mut input, &options, &missing, &progress::Silent)?.digest)
}

/// What the README shows of the library.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
