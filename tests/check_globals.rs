//! What libraries save is known, and calls of what does more are not.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // helpers of tests are tests

mod driver;

use driver::run;

fn verdict(file: &str) -> String {
    let run = run(&format!("check --json globals/{file}"));
    let json: serde_json::Value = serde_json::from_slice(&run.stdout).expect("JSON");
    json["verdict"].as_str().unwrap().to_owned()
}

#[test]
fn globals_of_libraries_are_known() {
    for file in ["library_named.pkl", "library_made.pkl", "type_by_name.pkl"] {
        assert_eq!(verdict(file), "ok", "{file}");
    }
}

#[test]
fn calls_of_what_reaches_something_are_danger() {
    for file in ["handler_called.pkl", "handler_handed.pkl", "type_of_code.pkl", "partial_of_system.pkl"] {
        assert_eq!(verdict(file), "danger", "{file}");
    }
}
