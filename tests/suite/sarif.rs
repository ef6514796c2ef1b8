//! `ckpt check --format sarif`: one log of all inputs, valid by the schema of SARIF 2.1.0.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // helpers of tests are tests

use std::collections::BTreeMap;
use std::fs;
use std::sync::LazyLock;

use jsonschema::Validator;
use serde_json::{Value, json};

use crate::driver::{Dir, Run, ckpt, run, run_with, testdata, zip_of};

static SCHEMA: LazyLock<Validator> = LazyLock::new(|| {
    let schema = fs::read(testdata("sarif/sarif-2.1.0-rtm.5.json")).unwrap();
    let mut schema: Value = serde_json::from_slice(&schema).unwrap();
    // no regular expression, in the schema as it was published; `ckpt` writes no language
    for object in ["run", "toolComponent"] {
        let language = &mut schema["definitions"][object]["properties"]["language"];
        language.as_object_mut().unwrap().remove("pattern").unwrap();
    }
    jsonschema::options().should_validate_formats(true).build(&schema).unwrap()
});

/// The only run of a valid log.
fn log(run: &Run) -> Value {
    assert_eq!(run.lines().len(), 1, "{}", run.text());
    let log: Value = serde_json::from_str(run.text()).unwrap();
    let wrong: Vec<String> = SCHEMA.iter_errors(&log).map(|e| format!("{e} at {}", e.instance_path())).collect();
    assert!(wrong.is_empty(), "{wrong:?}");
    assert_eq!(log["runs"].as_array().unwrap().len(), 1);
    let run = &log["runs"][0];
    let rules = run["tool"]["driver"]["rules"].as_array().unwrap();
    for result in run["results"].as_array().unwrap() {
        let index = usize::try_from(result["ruleIndex"].as_u64().unwrap()).unwrap();
        assert_eq!(rules[index]["id"], result["ruleId"]);
    }
    run.clone()
}

#[test]
fn the_schema_of_sarif_refuses_what_is_none() {
    for wrong in [json!({}), json!({"version": "2.0.0", "runs": []}), json!({"version": "2.1.0", "runs": [{}]})] {
        assert!(!SCHEMA.is_valid(&wrong), "{wrong}");
    }
}

#[test]
fn findings_have_rules_levels_and_places() {
    const FILE: &str = "torch-2.15-py311/cnn_full.pth";
    let found = log(&run(&format!("check --format sarif {FILE}")).exits(1));
    let results = found["results"].as_array().unwrap();
    let report = run(&format!("check --json {FILE}")).exits(1).json();
    assert_eq!(results.len(), report["findings"].as_array().unwrap().len());
    assert_eq!((&results[0]["ruleId"], &results[0]["level"]), (&json!("global-unknown"), &json!("warning")));
    let place = &results[0]["locations"][0];
    assert_eq!(place["physicalLocation"]["artifactLocation"]["uri"], FILE);
    let said = report["findings"][0]["where"].as_str().unwrap();
    assert_eq!(place["logicalLocations"][0]["fullyQualifiedName"], said);
    let message = format!("{said}: {}", report["findings"][0]["message"].as_str().unwrap());
    assert_eq!(results[0]["message"]["text"], message);
    assert_eq!(found["artifacts"][0]["properties"]["verdict"], "warning");
    let again = log(&run(&format!("check --format sarif {FILE}")));
    assert_eq!(again["results"][0]["partialFingerprints"], results[0]["partialFingerprints"]);
}

#[test]
fn levels_follow_severities() {
    let found = log(&run("check --format sarif -R hostile torch-2.15-py311").exits(2));
    let mut levels: BTreeMap<&str, &str> = BTreeMap::new();
    for result in found["results"].as_array().unwrap() {
        levels.insert(result["properties"]["severity"].as_str().unwrap(), result["level"].as_str().unwrap());
    }
    let wanted = [("danger", "error"), ("error", "error"), ("info", "note"), ("warning", "warning")];
    assert_eq!(levels, BTreeMap::from(wanted));
    // every file is in the one run, those without findings too
    let listed = run("check --json -R hostile torch-2.15-py311").exits(2);
    let files = listed.lines().iter().filter(|line| line.contains("ckpt.check/1")).count();
    assert_eq!(found["artifacts"].as_array().unwrap().len(), files);
}

#[test]
fn what_cannot_be_read_is_a_notification() {
    let run = run("check --format sarif missing.pt torch-2.15-py311/cnn_state.pt").exits(2);
    assert!(run.stderr.contains("missing.pt"), "{}", run.stderr);
    let found = log(&run);
    let told = &found["invocations"][0];
    assert_eq!(told["executionSuccessful"], false);
    let told = &told["toolExecutionNotifications"][0];
    assert!(told["message"]["text"].as_str().unwrap().contains("No such file"), "{told}");
    let location = |of: &Value| of["physicalLocation"]["artifactLocation"]["uri"].clone();
    assert_eq!(location(&told["locations"][0]), "missing.pt");
    assert_eq!(found["results"], json!([]));
}

#[test]
fn names_are_uris_and_members_are_in_their_archive() {
    let dir = Dir::new();
    let full = fs::read(testdata("torch-2.15-py311/cnn_full.pth")).unwrap();
    let archive = dir.path("a b%c.zip");
    fs::write(&archive, zip_of(&[("in/model.pth", &full)], zip::CompressionMethod::Stored)).unwrap();
    // the archive's own report names the member, which has a report of its own
    let archive_member = format!("{archive}::in/model.pth");
    let run = run_with(ckpt().args(["check", "--format", "sarif", &archive]), b"").exits(1);
    let found = log(&run);
    let named = |result: &&Value| result["locations"][0]["logicalLocations"][0]["fullyQualifiedName"] != archive_member;
    let unknown = |result: &&Value| result["ruleId"] == "global-unknown" && named(result);
    let place = &found["results"].as_array().unwrap().iter().find(unknown).unwrap()["locations"][0];
    let uri = place["physicalLocation"]["artifactLocation"]["uri"].as_str().unwrap();
    assert!(uri.starts_with("file:///") && uri.ends_with("/a%20b%25c.zip"), "{uri}");
    let name = place["logicalLocations"][0]["fullyQualifiedName"].as_str().unwrap();
    assert!(name.starts_with("in/model.pth::"), "{name}");
    let piped = run_with(ckpt().args(["check", "--format", "sarif", "-"]), &full).exits(1);
    let artifact = &log(&piped)["artifacts"][0]["location"];
    assert_eq!(artifact, &json!({"description": {"text": "standard input"}}));
}

#[test]
fn only_check_has_it_and_not_with_json() {
    let refused = run("ls --format sarif torch-2.15-py311/cnn_state.pt").exits(2);
    assert!(refused.stderr.contains("table, json"), "{}", refused.stderr);
    let both = run("check --json --format sarif torch-2.15-py311/cnn_state.pt").exits(2);
    assert!(both.stdout.is_empty() && both.stderr.contains("--format sarif"), "{}", both.stderr);
}
