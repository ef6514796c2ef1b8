//! Globals that a project vouches for.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // helpers of tests are tests

use std::fs;

use crate::driver::run;

#[test]
fn allowed_globals_are_known() {
    run("check globals/own.pkl").exits(1);
    let run = run("check --json --allow mymodels.* globals/own.pkl").exits(0);
    let json = run.json();
    assert_eq!(json["verdict"], "ok");
    assert_eq!(json["findings"].as_array().unwrap().len(), 0);
    for global in json["globals"].as_array().unwrap() {
        let ours = global["name"].as_str().unwrap().starts_with("mymodels.");
        assert_eq!(global["status"], "known");
        assert_eq!(global.get("allowed").is_some(), ours, "{global}");
    }
}

#[test]
fn one_that_is_not_allowed_is_told() {
    let run = run("check --json --allow mymodels.net.* globals/own.pkl").exits(1);
    let json = run.json();
    let findings = json["findings"].as_array().unwrap();
    assert_eq!(findings.len(), 1);
    assert!(findings[0]["message"].as_str().unwrap().contains("mymodels.config.Config"));
}

#[test]
fn what_is_dangerous_is_allowed_only_by_its_name() {
    let run_ = run("check --json --allow * globals/own_and_system.pkl").exits(1);
    assert_eq!(run_.json()["verdict"], "danger");
    assert!(run_.stderr.contains("posix.system is dangerous"), "{}", run_.stderr);
    let run_ = run("check --json --allow posix.system --allow mymodels.* globals/own_and_system.pkl").exits(0);
    let json = run_.json();
    assert_eq!(json["findings"][0]["code"], "global-allowed");
    assert_eq!(json["globals"][0]["status"], "dangerous");
    assert_eq!(json["globals"][0]["allowed"], true);
}

#[test]
fn a_name_that_nothing_has_is_an_error_with_near_ones() {
    let run_ = run("check --allow mymodels.net.Met globals/own.pkl").exits(2);
    assert!(run_.stderr.contains("no global named `mymodels.net.Met` (--allow)"), "{}", run_.stderr);
    assert!(run_.stderr.contains("`mymodels.net.Net`"), "{}", run_.stderr);
    let run_ = run("check -R --allow nothing.* globals").exits(2);
    assert!(run_.stderr.contains("nothing matches `nothing.*` (--allow)"), "{}", run_.stderr);
    // one input that has it is enough
    run("check --allow mymodels.config.* --allow mymodels.net.* globals/library_made.pkl globals/own.pkl").exits(0);
    let run_ = run("check --allow [ globals/own.pkl").exits(2);
    assert!(run_.stderr.contains("invalid glob"), "{}", run_.stderr);
}

#[test]
fn the_list_of_the_unknown_ones_allows_them() {
    let dir = tempfile::tempdir().unwrap();
    let list = dir.path().join("ours.txt");
    let list = list.to_str().unwrap();
    run(&format!("check -R --write-allow {list} globals")).exits(1);
    let text = fs::read_to_string(list).unwrap();
    let names: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
    assert_eq!(names, ["mymodels.config.Config", "mymodels.net.Net"]);
    run(&format!("check --allow-from {list} globals/own.pkl globals/library_made.pkl")).exits(0);
    // never overwritten unasked, and a glob that matches nothing leaves it alone
    run(&format!("check --write-allow {list} globals/library_made.pkl")).exits(2);
    run(&format!("check --write-allow {list} --force --allow none globals/library_made.pkl")).exits(2);
    assert_eq!(fs::read_to_string(list).unwrap(), text);
    run(&format!("check --write-allow {list} --force globals/library_made.pkl")).exits(0);
    assert_eq!(fs::read_to_string(list).unwrap().lines().count(), 1);
}

#[test]
fn lists_that_cannot_be_read_are_errors() {
    let dir = tempfile::tempdir().unwrap();
    let list = dir.path().join("ours.txt");
    fs::write(&list, "# ours\nmymodels.*\n[\n").unwrap();
    let run_ = run(&format!("check --allow-from {} globals/own.pkl", list.display())).exits(2);
    assert!(run_.stderr.contains("line 3"), "{}", run_.stderr);
    run("check --allow-from none.txt globals/own.pkl").exits(2);
}

#[test]
fn weights_only_can_be_required() {
    run("check globals/library_made.pkl").exits(0);
    let run_ = run("check --json --require weights-only globals/library_made.pkl").exits(1);
    let json = run_.json();
    assert_eq!(json["verdict"], "error");
    assert_eq!(json["findings"][0]["code"], "weights-only");
    assert!(json["findings"][0]["message"].as_str().unwrap().contains("weights_only=True: "), "{json}");
    run("check --require weights-only torch-2.15-py311/bare_tensor.pt").exits(0);
}
