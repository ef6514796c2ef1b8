//! The loops in which the time goes: pickles to objects and back, elements gathered, cast and compared. Each on what is in
//! memory, so that only the loop counts.
#![allow(clippy::unwrap_used, clippy::cast_possible_truncation)] // what is measured is made here

use std::io;
use std::sync::Arc;

use ckpt::Limits;
use ckpt::data::Elements;
use ckpt::data::cast::{Caster, target};
use ckpt::data::compare::{Options, compare};
use ckpt::data::gather::for_each_block;
use ckpt::error::Error;
use ckpt::pickle::{Census, Decoded, Graph, NothingInline, decode, encode};
use ckpt::progress::Silent;
use ckpt::source::{MemorySource, SharedSource};
use divan::Bencher;
use divan::counter::{BytesCount, ItemsCount};

fn main() {
    divan::main();
}

/// Tensors of the pickle.
const TENSORS: u32 = 10_000;
/// Rows and columns of the matrices, of four bytes an element: larger than a cache.
const SIDE: u64 = 2048;

/// The pickle of a state dict, as `torch.save` writes it.
fn state_dict() -> Vec<u8> {
    let text = |out: &mut Vec<u8>, text: &str| {
        out.push(b'X');
        out.extend((text.len() as u32).to_le_bytes());
        out.extend(text.as_bytes());
    };
    let mut out = b"\x80\x02}(".to_vec();
    for number in 0..TENSORS {
        text(&mut out, &format!("module.layers.{}.block.{}.weight", number / 10, number % 10));
        out.extend(b"ctorch._utils\n_rebuild_tensor_v2\n((");
        text(&mut out, "storage");
        out.extend(b"ctorch\nFloatStorage\n");
        text(&mut out, &number.to_string());
        text(&mut out, "cpu");
        out.extend(b"K\x04tQK\x00K\x04\x85K\x01\x85\x89ccollections\nOrderedDict\n)RtR");
    }
    out.extend(b"u.");
    out
}

fn decoded(bytes: &SharedSource) -> (Graph, Decoded) {
    let mut graph = Graph::new();
    let stream = graph.add_stream(Arc::clone(bytes), "");
    let decoded = decode(&mut graph, stream, 0, u64::MAX, &NothingInline).unwrap();
    (graph, decoded)
}

#[divan::bench]
fn decoder(bencher: Bencher<'_, '_>) {
    let bytes: SharedSource = Arc::new(MemorySource::new(state_dict()));
    bencher.counter(ItemsCount::new(TENSORS)).bench(|| decoded(&bytes));
}

#[divan::bench]
fn encoder(bencher: Bencher<'_, '_>) {
    let bytes: SharedSource = Arc::new(MemorySource::new(state_dict()));
    let (graph, decoded) = decoded(&bytes);
    bencher.counter(ItemsCount::new(TENSORS)).bench(|| {
        let scan = Census::new(&graph, decoded.root).unwrap();
        encode(&graph, &scan, &mut io::sink()).unwrap();
    });
}

/// A matrix of `float32`, its elements all unlike.
fn matrix() -> Elements {
    let numbers = (0..SIDE * SIDE).flat_map(|number| (number as f32).to_le_bytes());
    let source: SharedSource = Arc::new(MemorySource::new(numbers.collect()));
    Elements::row_major(source, target("float32").unwrap(), vec![SIDE, SIDE])
}

fn gather(bencher: Bencher<'_, '_>, elements: &Elements) {
    let limits = Limits::default();
    bencher.counter(BytesCount::new(SIDE * SIDE * 4)).bench(|| {
        let mut last = 0;
        for_each_block::<Error>(elements, &limits, &mut |block| {
            last = divan::black_box(block).len();
            Ok(())
        })
        .unwrap();
        last
    });
}

#[divan::bench]
fn gather_rows(bencher: Bencher<'_, '_>) {
    gather(bencher, &matrix());
}

#[divan::bench]
fn gather_columns(bencher: Bencher<'_, '_>) {
    let mut elements = matrix();
    elements.stride.reverse();
    gather(bencher, &elements);
}

#[divan::bench(args = [("float32", "bfloat16"), ("float32", "float16"), ("float16", "float32"), ("float64", "bfloat16")])]
fn cast(bencher: Bencher<'_, '_>, (from, to): (&str, &str)) {
    let block: Vec<u8> = (0..32_768_u32).flat_map(|number| (number as f32).to_le_bytes()).collect();
    let (from, to) = (target(from).unwrap(), target(to).unwrap());
    bencher.counter(BytesCount::new(block.len())).bench(|| {
        let (mut caster, mut out) = (Caster::new(&from, &to).unwrap(), Vec::new());
        caster.cast(&block, &mut out);
        out
    });
}

fn compared(bencher: Bencher<'_, '_>, b: &Elements) {
    let (a, limits) = (matrix(), Limits::default());
    bencher
        .counter(BytesCount::new(2 * SIDE * SIDE * 4))
        .bench(|| compare(&a, b, &limits, &Options::default(), &Silent).unwrap());
}

#[divan::bench]
fn compare_equal(bencher: Bencher<'_, '_>) {
    compared(bencher, &matrix());
}

#[divan::bench]
fn compare_unlike(bencher: Bencher<'_, '_>) {
    let mut transposed = matrix();
    transposed.stride.reverse();
    compared(bencher, &transposed);
}
