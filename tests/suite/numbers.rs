//! The numbers that people quote: parameters, buffers, dtypes, and whose state an optimizer keeps. Expected values are
//! torch's, from `model.parameters()`, `model.buffers()` and the optimizers that wrote the files.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // helpers of tests are tests

use std::collections::BTreeMap;

use crate::driver::{for_each, run, testdata};
use serde_json::{Map, Value, json};

fn oracle(name: &str) -> Map<String, Value> {
    let text = std::fs::read(testdata("numbers").join(name)).unwrap();
    serde_json::from_slice::<Value>(&text).unwrap().as_object().unwrap().clone()
}

fn list(words: &str) -> Value {
    run(&format!("ls --json {words}")).exits(0).json()
}

/// The names of the tensors that belong to a parameter, and its name.
fn owners(listing: &Value) -> BTreeMap<String, Value> {
    let rows = listing["tensors"].as_array().unwrap().iter();
    rows.filter_map(|row| Some((row["name"].as_str().unwrap().to_owned(), row.get("of")?.clone()))).collect()
}

#[test]
fn parameters_and_buffers_are_torchs() {
    let files: Vec<_> = oracle("numbers.json").into_iter().collect();
    assert!(files.len() >= 20);
    for_each(&files, |(file, wanted)| {
        let totals = list(&format!("numbers/{file}"))["totals"].clone();
        let tree = run(&format!("ls --tree --json numbers/{file}")).exits(0).json();
        for found in [&totals, &tree] {
            if found["parameters"] != wanted["parameters"] || found["buffers"] != wanted["buffers"] {
                return Err(format!("{file}: {} and {}, not {wanted}", found["parameters"], found["buffers"]));
            }
        }
        Ok(())
    });
}

#[test]
fn resnet_18_has_the_numbers_that_everybody_knows() {
    for file in ["resnet18_state.pt", "resnet18_full.pt"] {
        let table = run(&format!("ls numbers/{file}")).exits(0);
        let summary = "122 tensors, 11,689,512 parameters, 9,620 buffers, 44.6 MiB";
        assert!(table.text().contains(summary), "{file}: {:?}", table.lines().last());
    }
}

#[test]
fn state_of_an_optimizer_says_whose_it_is_or_nothing() {
    let files: Vec<_> = oracle("owners.json").into_iter().collect();
    assert!(files.len() >= 14);
    for_each(&files, |(file, wanted)| {
        let found = owners(&list(&format!("numbers/{file}")));
        let wanted: BTreeMap<String, Value> = wanted.as_object().unwrap().clone().into_iter().collect();
        if found == wanted { Ok(()) } else { Err(format!("{file}: {found:?}\nnot {wanted:?}")) }
    });
}

#[test]
fn the_owner_is_known_below_a_root_and_shown_in_the_table() {
    let below = owners(&list("--root optimizer numbers/adam.pt"));
    assert_eq!(below["state.3.exp_avg"], "lower.weight");
    let table = run("ls --include *exp_avg numbers/adam.pt").exits(0);
    let row = table.lines().into_iter().find(|line| line.starts_with("optimizer.state.3.exp_avg ")).unwrap().to_owned();
    assert!(row.ends_with("of lower.weight"), "{row}");
}

#[test]
fn tied_tensors_count_once_in_every_module_that_holds_them() {
    let tree = run("ls --tree --json numbers/net_full.pt").exits(0).json();
    let child = |name: &str| -> Value {
        let children = tree["children"].as_array().unwrap();
        children.iter().find(|child| child["name"] == name).unwrap()["parameters"].clone()
    };
    assert_eq!((child("embed"), child("head"), tree["parameters"].clone()), (json!(28), json!(28), json!(76)));
    // an optimizer's tensors are no parameters, alone or not
    assert_eq!(list("--root optimizer numbers/adam.pt")["totals"]["parameters"], 0);
}

#[test]
fn totals_tell_the_dtypes() {
    let listing = list("numbers/net_state.pt");
    let dtypes = listing["totals"]["dtypes"].as_object().unwrap().clone();
    let of = |dtype: &str| {
        let rows = listing["tensors"].as_array().unwrap().iter().filter(|row| row["dtype"] == dtype);
        let bytes: Vec<u64> = rows.map(|row| row["bytes"].as_u64().unwrap()).collect();
        json!({"tensors": bytes.len(), "bytes": bytes.iter().sum::<u64>()})
    };
    assert_eq!(dtypes.len(), 3);
    assert_eq!(dtypes["bool"], json!({"tensors": 1, "bytes": 25}));
    for dtype in ["float32", "int64"] {
        assert_eq!(dtypes[dtype], of(dtype));
    }
    assert_eq!(list("--values numbers/adam.pt")["totals"]["dtypes"], json!({}));
}
