//! `ckpt convert --dtype` and `--device`: what is cast and what is not, and how both are spelled. What torch makes of each
//! file is in `testdata/round_trips/expected.json`.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::collections::BTreeMap;

use serde_json::Value;

use crate::driver::{Dir, Run, ckpt, run_with, testdata};

fn expected(file: &str) -> Value {
    let text = std::fs::read_to_string(testdata("round_trips/expected.json")).unwrap();
    serde_json::from_str::<Value>(&text).unwrap()[file].take()
}

fn run(args: &[&str]) -> Run {
    run_with(ckpt().args(args), b"")
}

/// Dtype and hash of each tensor of a file.
fn facts(path: &str) -> BTreeMap<String, Value> {
    let listed = run(&["ls", "--json", "--hash", path]).exits(0).json();
    let rows = listed["tensors"].as_array().unwrap().clone();
    let fact = |row: &Value| serde_json::json!([row["dtype"], row["sha256"]]);
    rows.iter().map(|row| (row["name"].as_str().unwrap().to_owned(), fact(row))).collect()
}

fn wanted(said: &Value) -> BTreeMap<String, Value> {
    said.as_object().unwrap().clone().into_iter().collect()
}

#[test]
fn a_training_checkpoint_is_cast_as_torch_would() {
    let dir = Dir::new();
    let said = expected("training.pt");
    for (dtype, to) in [("half", "float16"), ("bf16", "bfloat16"), ("torch.float64", "float64")] {
        for format in ["torch", "torch-legacy"] {
            let out = dir.path(&format!("{to}.{format}"));
            let args = ["convert", "--json", "round_trips/training.pt", "-o", &out, "--to", format, "--dtype", dtype];
            let told = run(&args).exits(0).json();
            assert_eq!(facts(&out), wanted(&said[to]), "{to}");
            let lost = told["overflowed"].as_array().unwrap().iter();
            let lost: BTreeMap<String, Value> =
                lost.map(|row| (row["name"].as_str().unwrap().to_owned(), row["values"].clone())).collect();
            assert_eq!(lost, wanted(&said[format!("overflowed_{to}")]));
            let kept: Vec<&str> = told["not_cast"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
            for name in ["model.decay", "optimizer.state.1.step", "loss", "class_weights", "scaler.scale"] {
                assert!(kept.contains(&name), "{name}: {kept:?}");
            }
            assert!(!kept.contains(&"model.norm.num_batches_tracked"), "integers are never cast");
        }
    }
}

#[test]
fn overflowing_tensors_are_named() {
    let dir = Dir::new();
    let out = dir.path("x.pt");
    let said = run(&["convert", "round_trips/training.pt", &out, "--dtype", "fp16"]).exits(0).stderr;
    let line = "round_trips/training.pt: 2 values of model.conv.weight overflowed float16 and became infinite";
    assert!(said.contains(line), "{said}");
    assert!(said.contains("not cast: ") && said.contains("optimizer.state.1.step"), "{said}");
    // of what shares memory, the first
    let out = dir.path("x.safetensors");
    let args = ["convert", "round_trips/training.pt", &out, "--dtype", "fp16", "--root", "model"];
    let said = run(&args).exits(0).stderr;
    assert!(said.contains(" 2 values of conv.weight overflowed float16"), "{said}");
}

#[test]
fn weights_alone_are_cast_by_the_same_rule() {
    let dir = Dir::new();
    let said = wanted(&expected("training.pt")["float16"]);
    let model = said.iter().filter_map(|(name, fact)| Some((name.strip_prefix("model.")?.to_owned(), fact.clone())));
    let model: BTreeMap<String, Value> = model.collect();
    for out in ["x.safetensors", "x.npz", "x.pt"].map(|name| dir.path(name)) {
        let args = ["convert", "-q", "round_trips/training.pt", &out, "--dtype", "half", "--root", "model"];
        run(&args).exits(0);
        assert_eq!(facts(&out), model, "{out}");
    }
    let out = dir.path("dict.pt");
    let args = ["convert", "-q", "round_trips/training.pt", &out, "--dtype", "half", "--root", "model", "--state-dict"];
    run(&args).exits(0);
    assert_eq!(facts(&out), model);
}

#[test]
fn observers_and_scales_of_packed_weights_stay() {
    let dir = Dir::new();
    for file in ["observed.pt", "packed.pt"] {
        let out = dir.path(file);
        run(&["convert", "-q", &format!("round_trips/{file}"), &out, "--dtype", "half"]).exits(0);
        assert_eq!(facts(&out), wanted(&expected(file)["float16"]), "{file}");
    }
    // nothing of a quantized module is: its kernels want float32 beside the integers
    let (file, out) = ("round_trips/quantized.pt", dir.path("quantized.pt"));
    run(&["convert", "-q", file, &out, "--dtype", "half"]).exits(0);
    assert_eq!(facts(&out)["1.bias"], facts(file)["1.bias"]);
    assert_eq!(facts(&out)["3.scale"], facts(file)["3.scale"]);
}

#[test]
fn an_optimizer_taken_out_keeps_its_steps() {
    let dir = Dir::new();
    let out = dir.path("opt.pt");
    let args = ["extract", "-q", "round_trips/training.pt", "--root", "optimizer", "-o", &out, "--dtype", "half"];
    run(&args).exits(0);
    let said = wanted(&expected("training.pt")["float16"]);
    let optimizer =
        said.iter().filter_map(|(name, fact)| Some((name.strip_prefix("optimizer.")?.to_owned(), fact.clone())));
    assert_eq!(facts(&out), optimizer.collect());
}

#[test]
fn an_unknown_dtype_lists_the_known() {
    let dir = Dir::new();
    for name in ["f17", "int8", "float8_e4m3fn", ""] {
        for command in [["convert", "round_trips/tied.pt"], ["extract", "round_trips/tied.pt"]] {
            let out = dir.path("x.pt");
            let said = run(&[&command[..], &["-o", &out, "--dtype", name]].concat()).exits(2).stderr;
            let known = ["float16", "bfloat16", "float32", "float64", "half", "bf16", "double"];
            assert!(known.iter().all(|known| said.contains(known)), "{name}: {said}");
        }
    }
    assert!(dir.is_empty());
}

#[test]
fn devices_are_torchs() {
    let dir = Dir::new();
    for device in ["gpu", "cuda0", "cuda:-1", "CUDA", "cuda:", ""] {
        let out = dir.path("x.pt");
        let said = run(&["convert", "round_trips/tied.pt", &out, "--device", device]).exits(2).stderr;
        assert!(["cpu", "cuda", "mps", "xpu"].iter().all(|known| said.contains(known)), "{device}: {said}");
    }
    assert!(dir.is_empty());
    // torch.load knows no location `cpu:0`
    for (device, recorded) in [("cuda:1", "cuda:1"), ("mps", "mps"), ("xpu:0", "xpu:0"), ("cpu:0", "cpu")] {
        let out = dir.path("x.pt");
        run(&["convert", "-q", "--force", "round_trips/tied.pt", &out, "--device", device]).exits(0);
        let listed = run(&["ls", "--json", &out]).exits(0).json();
        let rows = listed["tensors"].as_array().unwrap().clone();
        assert!(!rows.is_empty() && rows.iter().all(|row| row["device"] == recorded), "{device}");
    }
}
