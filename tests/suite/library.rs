//! The library as another program uses it: no command line, no process.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // tests

use ckpt::operations::extract::{self, Destination, Form, Text};
use ckpt::operations::list::{self, Outcome};
use ckpt::operations::open;
use ckpt::operations::select::Unmatched;
use ckpt::progress::Silent;
use ckpt::{Error, ErrorKind, Input, Limits, Scalar, bf16, f16};
use serde_json::Value;

const CHECKPOINT: &str = "testdata/torch-2.15-py311/checkpoint.tar";
const DTYPES: &str = "testdata/torch-2.15-py311/dtypes.pt";
const EVERYTHING: &str = "testdata/torch-2.15-py311/everything.pt";

/// The elements of a tensor as `extract --json` writes them, one after the other.
fn json(input: &Input, name: &str) -> Vec<Value> {
    let mut options = extract::Options::default();
    options.names.push(name.to_owned());
    let chosen = extract::choose(input, &options).unwrap();
    let mut out = Vec::new();
    let notes = extract::show(input, &chosen, &options, Form::Json, &mut out).unwrap();
    assert!(notes.is_empty());
    let printed: Value = serde_json::from_slice(&out).unwrap();
    let rows: Vec<Vec<Value>> = serde_json::from_value(printed["value"].clone()).unwrap();
    rows.concat()
}

fn same<T: Scalar + Into<f64>>(input: &Input, names: &[&str]) {
    for name in names {
        let values: Vec<T> = input.tensor(name).unwrap().read().unwrap();
        let values: Vec<f64> = values.into_iter().map(Into::into).collect();
        let wanted: Vec<f64> = json(input, name).iter().map(number).collect();
        assert_eq!(values.len(), 6, "{name}");
        // JSON has the shortest text that is the same float32
        let near = |a: &f64, b: &f64| *name != "float64" && (a - b).abs() <= 1e-7 * a.abs();
        let is_same = values.iter().zip(&wanted).all(|(a, b)| a == b || near(a, b) || (a.is_nan() && b.is_nan()));
        assert!(is_same, "{name} as {}: {values:?} {wanted:?}", T::NAME);
    }
}

fn number(value: &Value) -> f64 {
    match value {
        Value::String(text) => text.parse().unwrap(),
        Value::Bool(value) => f64::from(u8::from(*value)),
        number => number.as_f64().unwrap(),
    }
}

#[test]
fn elements_are_what_extract_writes() {
    let input = ckpt::open(DTYPES).unwrap();
    let small = ["float16", "bfloat16", "float8_e4m3fn", "float8_e5m2", "float8_e4m3fnuz", "float8_e8m0fnu"];
    same::<f64>(&input, &[&["float64", "float32"][..], &small].concat());
    same::<f32>(&input, &[&["float32"][..], &small].concat());
    same::<f16>(&input, &["float16"]);
    same::<bf16>(&input, &["bfloat16"]);
    same::<i32>(&input, &["int32"]);
    same::<i16>(&input, &["int16"]);
    same::<i8>(&input, &["int8"]);
    same::<u8>(&input, &["uint8"]);
    same::<u16>(&input, &["uint16"]);
    same::<u32>(&input, &["uint32"]);
    same::<bool>(&input, &["bool"]);
    let longs: Vec<Option<i64>> = json(&input, "int64").iter().map(Value::as_i64).collect();
    let read: Vec<i64> = input.tensor("int64").unwrap().read().unwrap();
    assert_eq!(read.into_iter().map(Some).collect::<Vec<_>>(), longs);
}

#[test]
fn nothing_is_rounded_and_the_error_says_the_dtype() {
    let input = ckpt::open(DTYPES).unwrap();
    let refused = |e: Error, part: &str| {
        assert_eq!(e.kind(), ErrorKind::Refused);
        assert_eq!(e.to_string(), format!("{DTYPES}: {part}"));
    };
    let tensor = |name: &str| input.tensor(name).unwrap();
    refused(tensor("float64").read::<f32>().unwrap_err(), "float64: float64 elements cannot be read as f32");
    refused(tensor("int32").read::<i64>().unwrap_err(), "int32: int32 elements cannot be read as i64");
    refused(tensor("complex64").read::<f32>().unwrap_err(), "complex64: complex64 elements cannot be read as f32");
    refused(tensor("bfloat16").read::<f16>().unwrap_err(), "bfloat16: bfloat16 elements cannot be read as f16");
}

#[test]
fn what_is_not_there_is_an_error_with_near_names() {
    let input = ckpt::open(CHECKPOINT).unwrap();
    let said = |e: Error| e.message();
    assert_eq!(said(input.tensor("epoch").unwrap_err()), "`epoch` is not a tensor");
    assert_eq!(said(input.value("model_state_dict.steps").unwrap_err()), "`model_state_dict.steps` is a tensor");
    let below = "`model_state_dict` has elements of its own; name one of them";
    assert_eq!(said(input.tensor("model_state_dict").unwrap_err()), below);
    let near = said(input.value("epohc").unwrap_err());
    assert!(near.contains("epohc") && near.contains("epoch"), "{near}");
    assert_eq!(ckpt::open("testdata/none.pt").unwrap_err().kind(), ErrorKind::Io);
    // standard input is the command line's
    assert_eq!(ckpt::open("-").unwrap_err().kind(), ErrorKind::Io);
}

#[test]
fn every_tensor_is_read_or_says_why_not() {
    for file in [EVERYTHING, CHECKPOINT, "testdata/torch-2.15-py311/meta.pt", "testdata/torch-2.15-py311/conj.pt"] {
        let input = ckpt::open(file).unwrap();
        for tensor in input.tensors().unwrap() {
            let read = match tensor.dtype() {
                "float32" => tensor.read::<f32>().map(|values| values.len()),
                "int64" => tensor.read::<i64>().map(|values| values.len()),
                _ => continue,
            };
            let elements: i64 = tensor.shape().iter().product();
            match read {
                Ok(count) => assert_eq!(i64::try_from(count), Ok(elements), "{tensor:?}"),
                Err(e) => assert!(e.to_string().starts_with(&format!("{file}: ")), "{e}"),
            }
        }
    }
}

#[test]
fn settings_are_fields_not_flags() {
    let limits = Limits { max_entries: 3, ..Limits::default() };
    let e = open::open(CHECKPOINT.as_ref(), &limits, &Silent).and_then(|input| input.tensors().map(Iterator::count));
    let said = e.unwrap_err().to_string();
    assert!(said.starts_with(CHECKPOINT) && said.contains("max_entries") && !said.contains("--"), "{said}");
}

#[test]
fn what_matches_nothing_is_data() {
    let input = ckpt::open(CHECKPOINT).unwrap();
    let mut options = list::Options::default();
    options.select.include = vec!["model_state_dict".to_owned(), "optimizre".to_owned()];
    let mut unmatched = Unmatched::of(&options.select);
    let Outcome::Listed(listing, unread) = list::list(&input, &options, &mut unmatched, &Silent).unwrap() else {
        panic!("something matches");
    };
    assert!(listing.tensors.len() == 13 && listing.values.is_empty() && unread.is_empty());
    let said = unmatched.said().unwrap().to_string();
    assert!(said.contains("optimizre") && !said.contains("--"), "{said}");
}

#[test]
fn a_part_is_shown_and_written() {
    let mut input = ckpt::open(CHECKPOINT).unwrap();
    let mut options = extract::Options::default();
    options.names.push("model_state_dict.steps".to_owned());
    let chosen = extract::choose(&input, &options).unwrap();
    let mut text = Vec::new();
    extract::show(&input, &chosen, &options, Form::Text(Text::default()), &mut text).unwrap();
    assert_eq!(String::from_utf8(text).unwrap(), "tensor([3, 1, 4])\n");

    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("steps.npy");
    let to = Destination { path: &path, format: None, force: false, input: None };
    let report = extract::write(&mut input, &chosen, &options, &to, &Silent).unwrap();
    assert_eq!((report.format.as_str(), report.written.len()), ("npy", 1));
    let written = ckpt::open(&path).unwrap();
    assert_eq!(written.tensor("").unwrap().read::<i64>().unwrap(), [3, 1, 4]);
    let e = extract::write(&mut input, &chosen, &options, &to, &Silent).unwrap_err();
    assert_eq!(e.to_string(), format!("{}: exists already; force replaces it", path.display()));
}
