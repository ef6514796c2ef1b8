//! `ckpt` is a small compiler for checkpoints: bytes -> containers -> object graph -> named tensors -> report or new
//! bytes. This library is the whole program but its process boundary; the binary, tests, benches and fuzz targets use it.
//!
//! # The rooms
//!
//! | room | what it owns |
//! | --- | --- |
//! | [`cli`] | the command line as clap types; completions and man pages are made from them |
//! | [`commands`] | one file a subcommand: its `Args` and its `run` |
//! | [`report`] | what a command found, as plain serde types, each also laid out as a document |
//! | [`render`] | documents to tables, reports to JSON; hostile names escaped |
//! | [`layout`] | checkpoints that are not one file: shards with an index, torch.distributed's directories, unpacked zips, members of archives |
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
//! Arrows point down only: commands -> report, render, safety, write -> layout -> checkpoint -> data, container -> pickle ->
//! dtype, source, limits, error, progress. `pickle` knows nothing of torch, `container` nothing of names; commands never
//! touch a zip or an opcode; a renderer knows documents, not commands. A new format is one file in `container`, `layout`
//! or `write` and a line in a table; a new output is one `Renderer`; a new subcommand is one file.
//!
//! # What holds everywhere
//!
//! Nothing is executed: constructors are recognised by name, everything else stays as it is and is shown with its
//! attributes. Nothing recurses over input, and nothing is allocated from a length that has not been checked against what
//! is left of the file. A pickle's structure is read at once, tensor bytes are streamed in blocks: any command runs in
//! less than 100 MB and about a kilobyte for each key, whatever the file's size.

#![forbid(unsafe_code)]

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
pub mod pickle;
pub mod progress;
pub mod render;
pub mod report;
pub mod safety;
pub mod source;
pub mod write;
