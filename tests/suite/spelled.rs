//! Files that mean the same in other words, and those that only look like it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // helpers of tests are tests

use crate::driver::{Dir, Run, ckpt, run, run_with, testdata};

fn spelled(words: &[&str]) -> Run {
    run_with(ckpt().current_dir(testdata("spelled")).args(words), b"")
}

fn digest(file: &str) -> String {
    spelled(&["digest", "-q", "--all", file]).exits(0).text()[..64].to_owned()
}

#[test]
fn pickle_protocols_are_no_difference() {
    for protocol in 3..6 {
        let other = format!("protocol_{protocol}.pt");
        let found = spelled(&["diff", "protocol_2.pt", &other]).exits(0);
        assert_eq!(found.text(), "equal: 1 tensor, 9 values\n");
        assert_eq!(digest("protocol_2.pt"), digest(&other));
        let found = spelled(&["diff", &other, "values_differ.pt"]).exits(1);
        assert!(found.text().contains("1 other value changed"), "{}", found.text());
    }
}

#[test]
fn the_order_of_a_set_is_no_difference() {
    spelled(&["diff", "-q", "set_forwards.pt", "set_backwards.pt"]).exits(0);
    assert_eq!(digest("set_forwards.pt"), digest("set_backwards.pt"));
}

#[test]
fn a_number_is_another_key_than_its_text() {
    let found = spelled(&["diff", "--json", "keys_int.pt", "keys_str.pt"]).exits(1).json();
    let row = |name, a, b| serde_json::json!({"name": name, "a": a, "b": b});
    assert_eq!(
        found["values"],
        serde_json::json!([row("o.state.0", "key 0", "key \"0\""), row("o.state.1", "key 1", "key \"1\"")])
    );
    spelled(&["diff", "-q", "keys_int.pt", "keys_str.pt"]).exits(1);
    spelled(&["diff", "-q", "--ignore", "values", "keys_int.pt", "keys_str.pt"]).exits(0);
    spelled(&["diff", "-q", "keys_int.pt", "keys_int.pt"]).exits(0);
}

#[test]
fn a_new_nan_is_no_small_change() {
    let found = spelled(&["diff", "--sort", "change", "weights.pt", "nan.pt"]).exits(1);
    let rows: Vec<&str> =
        found.text().lines().filter(|line| line.starts_with("w ") || line.starts_with("v ")).collect();
    assert_eq!(rows[0].split_whitespace().collect::<Vec<_>>(), ["w", "NaN", "NaN", "NaN", "NaN", "1", "of", "4"]);
    assert!(found.text().contains("(max |a-b| NaN)"), "{}", found.text());
    let found = spelled(&["diff", "--json", "weights.pt", "nan.pt"]).exits(1).json();
    let changed = &found["changed"];
    let of = |name: &str| changed.as_array().unwrap().iter().find(|row| row["name"] == name).unwrap().clone();
    assert_eq!((&of("w")["nan"], &of("w")["max_abs"], &of("w")["cosine"]), (&1.into(), &().into(), &().into()));
    assert_eq!((&of("v")["nan"], &of("v")["max_abs"]), (&0.into(), &2997.0.into()));
    // one that was there is no difference
    spelled(&["diff", "-q", "nan.pt", "nan.pt"]).exits(0);
    let found = spelled(&["diff", "--json", "--nan-differs", "nan.pt", "nan.pt"]).exits(1).json();
    assert_eq!(found["changed"][0]["nan"], 1);
}

/// In torch's words: `load_state_dict(strict=False)`.
#[test]
fn keys_without_tensors_are_loaded_too() {
    let found = spelled(&["diff", "--load", "extra.pt", "weights.pt"]).exits(1);
    assert!(
        found.text().contains("Unexpected key(s) in state_dict:\n    \"2._extra_state\"\n    \"epoch\"\n"),
        "{}",
        found.text()
    );
    spelled(&["diff", "--load", "-q", "extra.pt", "weights.pt"]).exits(1);
    spelled(&["diff", "--load", "-q", "extra.pt", "extra.pt"]).exits(0);
    // a model that saves more than tensors wants that
    let found = spelled(&["diff", "--load", "weights.pt", "extra.pt"]).exits(1);
    assert!(found.text().contains("Missing key(s) in state_dict:\n    \"2._extra_state\"\n"), "{}", found.text());
    assert!(!found.text().contains("epoch"), "{}", found.text());
    let found = spelled(&["diff", "--load", "number.pt", "weights.pt"]).exits(1);
    let wanted =
        "the parameter named \"w\", expected torch.Tensor or Tensor-like object from checkpoint but received float";
    let said = found.text().split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(said.contains(wanted) && said.contains("fails: 1 mismatched, 0 missing, 0 unexpected"), "{said}");
}

#[test]
fn no_tensor_is_called_metadata() {
    let dir = Dir::new();
    let input = "spelled/metadata.pt";
    for arguments in [
        format!("convert {input} {}", dir.path("x.safetensors")),
        format!("extract {input} __metadata__ -o {}", dir.path("x.safetensors")),
        format!("average {input} {input} -o {}", dir.path("x.safetensors")),
        format!("convert {input} {} --to safetensors --max-shard-size 16", dir.path("shards")),
        format!("merge {input} spelled/weights.pt --on-conflict first -o {}", dir.path("x.safetensors")),
    ] {
        let refused = run(&arguments).exits(2);
        let why = "a tensor of a safetensors file cannot be called `__metadata__`";
        assert!(refused.stderr.contains(why), "{arguments}: {}", refused.stderr);
        assert!(dir.is_empty(), "{arguments}");
    }
    run(&format!("convert {input} {}", dir.path("x.npz"))).exits(0);
}
