//! What the repository offers to continuous integration: the files are YAML of the right shape, and the shell steps of the
//! action do what they say.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // helpers of tests are tests

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;
use yaml_rust2::{Yaml, YamlLoader};

use crate::driver::{Dir, testdata};

fn yaml(path: &str) -> Yaml {
    let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap();
    YamlLoader::load_from_str(&text).unwrap().remove(0)
}

const ACTION: &str = ".github/actions/check/action.yml";

/// The script of a step of the action.
fn step(id: &str) -> String {
    let action = yaml(ACTION);
    let steps = action["runs"]["steps"].as_vec().unwrap();
    let step = steps.iter().find(|step| step["id"].as_str() == Some(id)).unwrap();
    assert_eq!(step["shell"].as_str(), Some("bash"));
    step["run"].as_str().unwrap().to_owned()
}

/// Runs a step as GitHub does (`bash -e`), in a folder.
fn run_step(id: &str, dir: &Dir, variables: &[(&str, &str)]) -> Output {
    let program = Path::new(env!("CARGO_BIN_EXE_ckpt")).parent().unwrap();
    let path = format!("{}:{}", program.display(), std::env::var("PATH").unwrap());
    let mut bash = Command::new("bash");
    bash.args(["--noprofile", "--norc", "-eo", "pipefail", "-c", &step(id)])
        .current_dir(dir.path(""))
        .env("PATH", path);
    bash.env("GITHUB_OUTPUT", dir.path("output")).envs(variables.iter().copied()).output().unwrap()
}

#[cfg(unix)]
#[test]
fn the_action_writes_sarif_and_fails_with_a_finding() {
    let dir = Dir::new();
    fs::create_dir(dir.path("some models")).unwrap();
    fs::copy(testdata("readme/model.pth"), dir.path("some models/model.pth")).unwrap();
    fs::copy(testdata("readme/full.pth"), dir.path("full.pth")).unwrap();
    fs::write(dir.path("allowed"), "models.Net\nmodels.Block\n").unwrap();
    let run = |paths: &str, fail_on: &str, allow: &str| {
        let variables = [
            ("CKPT_PATHS", paths),
            ("CKPT_FAIL_ON", fail_on),
            ("CKPT_ALLOW_FROM", allow),
            ("CKPT_SARIF", "found.sarif"),
        ];
        let done = run_step("check", &dir, &variables);
        let sarif: Value = serde_json::from_slice(&fs::read(dir.path("found.sarif")).unwrap()).unwrap();
        (done.status.code(), sarif["runs"][0]["artifacts"].as_array().unwrap().len(), done)
    };
    let (status, files, _) = run("some models\n", "warning", "");
    assert_eq!((status, files), (Some(0), 1));
    let (status, files, done) = run("some models\nfull.pth", "warning", "");
    assert_eq!((status, files), (Some(1), 2));
    // the log has it for people
    assert!(String::from_utf8(done.stdout).unwrap().contains("models.Block"));
    assert_eq!(run("full.pth", "danger", "").0, Some(0));
    assert_eq!(run("full.pth", "warning", "allowed").0, Some(0));
    assert_eq!(run("missing.pth", "warning", "").0, Some(2));
    assert!(fs::read_to_string(dir.path("output")).unwrap().starts_with("sarif=found.sarif\n"));
}

#[cfg(unix)]
#[test]
fn the_action_takes_the_ckpt_that_is_there() {
    let done = run_step("install", &Dir::new(), &[]);
    assert_eq!((done.status.code(), done.stdout.len()), (Some(0), 0), "{}", String::from_utf8_lossy(&done.stderr));
}

#[test]
fn every_input_of_the_action_is_used() {
    let action = yaml(ACTION);
    let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(ACTION)).unwrap();
    for (name, input) in action["inputs"].as_hash().unwrap() {
        assert!(input["description"].as_str().is_some() && input["default"].as_str().is_some(), "{name:?}");
        assert!(text.contains(&format!("${{{{ inputs.{} }}}}", name.as_str().unwrap())), "{name:?}");
    }
    assert_eq!(action["runs"]["using"].as_str(), Some("composite"));
}

#[cfg(unix)]
#[test]
fn the_hooks_run_check_on_files_of_their_names() {
    let hooks = yaml(".pre-commit-hooks.yaml");
    for hook in hooks.as_vec().unwrap() {
        let files = regex::Regex::new(hook["files"].as_str().unwrap()).unwrap();
        assert!(files.is_match("a/model.pth") && files.is_match("b.safetensors") && !files.is_match("a.pth.txt"));
        let words: Vec<&str> = hook["entry"].as_str().unwrap().split(' ').collect();
        assert!(["rust", "system"].contains(&hook["language"].as_str().unwrap()) && words[0] == "ckpt");
        let check = |file: &str| crate::driver::run(&format!("{} readme/{file}", words[1..].join(" "))).status;
        assert_eq!((check("model.pth"), check("full.pth"), check("download.pth")), (0, 1, 1));
    }
}

#[test]
fn the_release_builds_what_the_scripts_build() {
    let workflow = yaml(".github/workflows/release.yml");
    let steps = workflow["jobs"]["packages"]["steps"].as_vec().unwrap();
    let scripts: Vec<&str> = steps.iter().filter_map(|step| step["run"].as_str()).collect();
    for script in ["packaging/build.sh", "packaging/try.sh"] {
        assert!(Path::new(env!("CARGO_MANIFEST_DIR")).join(script).is_file());
        assert!(scripts.iter().any(|run| run.contains(script)), "{script}");
    }
    for job in workflow["jobs"].as_hash().unwrap().values() {
        assert!(job["timeout-minutes"].as_i64().is_some() && job["runs-on"].as_str().is_some());
    }
}
