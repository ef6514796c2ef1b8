//! What `ckpt rename` and `ckpt strip-prefix` take for names, and what they refuse: forgotten dots, steps and rows that find
//! nothing, keys that belong to somebody else. testdata/generate_renames.py says which keys are names.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // helpers of tests are tests

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use crate::driver::{Run, ckpt, run_with, testdata};
use serde_json::{Value, json};

fn in_renames(command: &str, args: &[&str]) -> Run {
    run_with(ckpt().current_dir(testdata("renames")).arg(command).args(args), b"")
}

fn rename(args: &[&str]) -> Run {
    in_renames("rename", args)
}

fn strip(args: &[&str]) -> Run {
    in_renames("strip-prefix", args)
}

fn diff(args: &[&str]) -> Run {
    in_renames("diff", args)
}

fn expected() -> BTreeMap<String, BTreeMap<String, BTreeSet<String>>> {
    serde_json::from_slice(&fs::read(testdata("renames/expected.json")).unwrap()).unwrap()
}

/// The keys that a report says have changed, by the mapping that has them.
fn renamed(report: &Value) -> BTreeMap<String, BTreeSet<String>> {
    let mut found: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for row in report["renamed"].as_array().unwrap() {
        let text = |key: &str| row[key].as_str().unwrap().to_owned();
        found.entry(text("in")).or_default().insert(text("old"));
    }
    found
}

#[test]
fn only_names_of_state_dicts_change() {
    let expected = expected();
    assert!(expected.len() > 15);
    for (file, wanted) in expected {
        for how in [["--add-prefix", "net."], ["--regex", "s/^/net./"], ["--regex", "s/$/_/"]] {
            let run = rename(&[&[file.as_str(), "--dry-run", "--json"], &how[..]].concat());
            match run.status {
                0 => assert_eq!(renamed(&run.json()), wanted, "{file}"),
                // modules pickled whole, and what has no state dict at all
                1 | 2 => assert!(wanted.is_empty(), "{file}: {}", run.stderr),
                _ => panic!("{file}: {}", run.stderr),
            }
        }
    }
}

#[test]
fn what_is_refused_names_the_prefix_that_was_meant() {
    let dir = tempfile::tempdir().unwrap();
    let output = dir.path().join("out.pt");
    let output = output.to_str().unwrap();
    let says = |run: Run, what: &str| {
        let run = run.exits(2);
        assert!(run.stderr.contains(what), "{what}: {}", run.stderr);
        assert_eq!(run.stderr.lines().count(), 1, "{}", run.stderr);
        assert!(!Path::new(output).exists());
    };
    let meant = "did you mean \"module.\"?";
    for prefix in ["module", "modul", "mod"] {
        says(strip(&[prefix, "wrapped.pt", "-o", output]), meant);
        says(rename(&["wrapped.pt", "--strip-prefix", prefix, "-o", output]), meant);
        says(rename(&["wrapped.pt", "--strip-prefix", prefix, "--if-present", "-o", output]), meant);
        says(diff(&["--strip-prefix", prefix, "wrapped.pt", "wrapped.pt"]), meant);
    }
    says(strip(&["module", "wrapped.pt", "--anywhere", "-o", output]), meant);
    says(strip(&["fc", "wrapped.pt", "--anywhere", "-o", output]), "did you mean \"fc.\"?");
    says(rename(&["wrapped.pt", "--add-prefix", "backbone", "-o", output]), "did you mean \"backbone.\"?");
    says(rename(&["plain.safetensors", "--add-prefix", "net", "-o", output]), "did you mean \"net.\"?");
    says(rename(&["wrapped.pt", "--regex", "s/^module//", "-o", output]), "becomes \".conv.weight\"");
    says(rename(&["wrapped.pt", "--regex", "s/conv//", "-o", output]), "becomes \"module..weight\"");
    let table = dir.path().join("map.json");
    fs::write(&table, r#"{"module.fc.weight": "fc..weight"}"#).unwrap();
    says(rename(&["wrapped.pt", "--map", table.to_str().unwrap(), "-o", output]), "becomes \"fc..weight\"");
    // and what is none of that
    for step in [
        ["--add-prefix", "my_"],
        ["--add-prefix", "net."],
        ["--strip-prefix", "module."],
        ["--strip-prefix", "module.bn.running_"],
        ["--regex", "s/^/backbone/"],
    ] {
        rename(&["wrapped.pt", step[0], step[1], "--dry-run"]).exits(0);
    }
    // a later step may take away what an earlier one left
    rename(&["wrapped.pt", "--regex", "s/^module//", "--regex", r"s/^\.//", "--dry-run"]).exits(0);
}

#[test]
fn names_that_had_an_empty_element_may_keep_it() {
    let new = |args: &[&str]| {
        let report = rename(&[&["empty_elements.pt", "--dry-run", "--json"], args].concat()).exits(0).json();
        report["renamed"]
            .as_array()
            .unwrap()
            .iter()
            .map(|row| row["new"].as_str().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(new(&["--add-prefix", "net."]), ["net..hidden", "net.a..b", "net.module.w"]);
    assert_eq!(new(&["--strip-prefix", "module."]), ["w"]);
    assert_eq!(new(&["--regex", r"s/hidden/h/"]), [".h"]);
}

#[test]
fn each_of_several_steps_has_to_find_something() {
    let dir = tempfile::tempdir().unwrap();
    let output = dir.path().join("out.pt");
    let output = output.to_str().unwrap();
    let steps = ["--strip-prefix", "module.", "--regex", r"s/^module\.fc/head/"];
    let run = rename(&[&["wrapped.pt", "-o", output], &steps[..]].concat()).exits(2);
    for part in [r"--regex 's/^module\.fc/head/'", "\"conv.weight\"", "\"module.fc.weight\"", "--if-present"] {
        assert!(run.stderr.contains(part), "{part}: {}", run.stderr);
    }
    assert_eq!(run.stderr.lines().count(), 1);
    assert!(!Path::new(output).exists());
    let lifted = rename(&[&["wrapped.pt", "--dry-run", "--json", "--if-present"], &steps[..]].concat()).exits(0);
    assert_eq!(lifted.json()["renamed"].as_array().unwrap().len(), 9);
    // in the other order both find something
    let steps = ["--regex", r"s/^module\.fc/module.head/", "--strip-prefix", "module."];
    rename(&[&["wrapped.pt", "--dry-run"], &steps[..]].concat()).exits(0);
    // the whole command finds nothing: no error, but the answer no
    rename(&["wrapped.pt", "--strip-prefix", "x.", "--regex", "s/y/z/", "-o", output]).exits(1);
    rename(&["wrapped.pt", "--strip-prefix", "x.", "--regex", "s/y/z/", "-o", output, "--if-present"]).exits(0);
    assert_eq!(fs::read(output).unwrap(), fs::read(testdata("renames/wrapped.pt")).unwrap());
}

#[test]
fn every_row_of_a_table_has_to_find_something() {
    let dir = tempfile::tempdir().unwrap();
    let (table, output) = (dir.path().join("map.tsv"), dir.path().join("out.pt"));
    let (table_path, output_path) = (table.to_str().unwrap(), output.to_str().unwrap());
    let run = |rows: &str, more: &[&str]| {
        fs::write(&table, rows).unwrap();
        rename(&[&["wrapped.pt", "--map", table_path, "-o", output_path], more].concat())
    };
    let typo = run("module.fc.weight\tw\nmodule.fc.bais\tb\n", &[]).exits(2);
    assert!(typo.stderr.contains("\"module.fc.bais\" (near: \"module.fc.bias\""), "{}", typo.stderr);
    assert!(!output.exists());
    let many: String = (0..1000).map(|row| format!("nothing.like.it.{row}\tx{row}\n")).collect();
    let run_many = run(&format!("module.fc.weight\tw\n{many}"), &[]).exits(2);
    assert!(run_many.stderr.contains("and 995 more") && run_many.stderr.len() < 1000, "{}", run_many.stderr);
    // a row that names a name and leaves it is no typo
    run("module.fc.weight\tw\nmodule.fc.bias\tmodule.fc.bias\n", &["--dry-run"]).exits(0);
    run("module.fc.weight\tw\nmodule.fc.bais\tb\n", &["--if-present"]).exits(0);
    let nothing = run("fc.weight\tw\n", &["--force"]).exits(1);
    assert!(nothing.stderr.contains("\"module.fc.weight\""), "{}", nothing.stderr);
}

#[test]
fn nothing_found_says_what_is_near() {
    for prefix in ["Module.", "modul.", "modules."] {
        let run = strip(&[prefix, "wrapped.pt", "--dry-run"]).exits(1);
        assert!(run.stderr.contains("9 names begin with `module.`"), "{}", run.stderr);
    }
    let other = rename(&["litllama.pt", "--strip-prefix", "model.modle.", "--dry-run"]).exits(1);
    assert!(other.stderr.contains("1 name begins with `model.model.`"), "{}", other.stderr);
    let none = rename(&["wrapped.pt", "--regex", "s/nowhere/x/", "--dry-run"]).exits(1);
    assert!(none.stderr.contains("\"module.conv.weight\""), "{}", none.stderr);
    let whole = strip(&["module.", "dp_module.pt", "--dry-run"]).exits(2);
    assert!(whole.stderr.contains("`ckpt convert --state-dict`"), "{}", whole.stderr);
}

#[test]
fn swapped_arguments_are_recognised() {
    let says = |args: &[&str], command: &str| {
        let run = strip(args).exits(2);
        assert!(run.stderr.contains(&format!("`{command}`")), "{}", run.stderr);
    };
    says(&["wrapped.pt", "module.", "-o", "a b.pt"], "ckpt strip-prefix module. wrapped.pt -o 'a b.pt'");
    says(&["wrapped.pt", "module.", "--in-place"], "ckpt strip-prefix module. wrapped.pt --in-place");
    says(&["wrapped.pt", "module."], "ckpt strip-prefix module. wrapped.pt -o OUTPUT");
    says(&["wrapped.pt"], "ckpt strip-prefix PREFIX wrapped.pt -o OUTPUT");
    // a file may be called as a prefix is
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("module."), "x").unwrap();
    fs::copy(testdata("renames/wrapped.pt"), dir.path().join("w.pt")).unwrap();
    let args = ["strip-prefix", "module.", "w.pt", "--dry-run"];
    run_with(ckpt().current_dir(dir.path()).args(args), b"").exits(0);
}

fn header(path: &Path) -> Value {
    let bytes = fs::read(path).unwrap();
    let len = usize::try_from(u64::from_le_bytes(*bytes.first_chunk().unwrap())).unwrap();
    serde_json::from_slice(&bytes[8..8 + len]).unwrap()
}

#[test]
fn aliases_follow_their_tensors() {
    let dir = tempfile::tempdir().unwrap();
    let output = dir.path().join("out.safetensors");
    let path = output.to_str().unwrap();
    rename(&["tied.safetensors", "--strip-prefix", "module.", "-o", path]).exits(0);
    let metadata = json!({"format": "pt", "note": "kept", "head.weight": "emb.weight"});
    assert_eq!(header(&output)["__metadata__"], metadata);
    safetensors::SafeTensors::deserialize(&fs::read(&output).unwrap()).unwrap();
    // what only looks like a name is none
    rename(&["plain.safetensors", "--strip-prefix", "module.", "--force", "-o", path]).exits(0);
    assert_eq!(header(&output)["__metadata__"], json!({"module.a": "a name of ours", "alias": "nothing"}));
    // the alias may not become another name
    let run = rename(&["tied.safetensors", "--regex", "s/head/emb/", "--force", "-o", path]).exits(2);
    assert!(run.stderr.contains("would both become module.emb.weight"), "{}", run.stderr);
    let run = rename(&["tied.safetensors", "--regex", r"s/(emb|head)/x/", "--force", "-o", path]).exits(2);
    assert!(run.stderr.contains("would both become module.x.weight"), "{}", run.stderr);
    // it is a name as any other
    let run = rename(&["tied.safetensors", "--regex", "s/head/top/", "--force", "--json", "-o", path]).exits(0);
    let row = json!([{"in": "", "old": "module.head.weight", "new": "module.top.weight"}]);
    assert_eq!(run.json()["renamed"], row);
    assert_eq!(header(&output)["__metadata__"]["module.top.weight"], "module.emb.weight");
}

#[test]
fn a_prefix_in_diff_is_taken_off_the_side_that_has_it() {
    for pair in [["litllama.pt", "llama.pt"], ["llama.pt", "litllama.pt"]] {
        let run = diff(&["--strip-prefix", "model.", pair[0], pair[1]]).exits(0);
        assert!(run.stderr.contains("litllama.pt: \"model.\" stripped from this file only"), "{}", run.stderr);
        diff(&["--load", "--strip-prefix", "model.", pair[0], pair[1]]).exits(0);
        diff(&["-q", "--strip-prefix", "model.", pair[0], pair[1]]).exits(0);
    }
    // both have it: the same file against itself
    diff(&["--strip-prefix", "model.", "litllama.pt", "litllama.pt"]).exits(0);
    let typo = diff(&["-q", "--strip-prefix", "modle.", "litllama.pt", "llama.pt"]).exits(2);
    assert!(typo.stderr.contains("did you mean \"model.\"?"), "{}", typo.stderr);
    let dir = tempfile::tempdir().unwrap();
    let table = dir.path().join("map.json");
    let both = dir.path().join("both.pt");
    fs::write(&table, r#"{"lm_head.weight": "layers.0.weight"}"#).unwrap();
    rename(&["llama.pt", "--map", table.to_str().unwrap(), "-o", both.to_str().unwrap()]).exits(0);
    let one = diff(&["--strip-prefix", "model.", both.to_str().unwrap(), "wrapped.pt"]).exits(2);
    assert!(one.stderr.contains("would both become layers.0.weight"), "{}", one.stderr);
}

#[test]
fn the_proposed_command_works() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    let awkward = "-it's a $model.pt";
    fs::copy(testdata("renames/wrapped.pt"), path(awkward)).unwrap();
    let strip_args = ["strip-prefix", "module."];
    run_with(ckpt().args(strip_args).arg(testdata("renames/wrapped.pt")).arg("-o").arg(path("plain.pt")), b"").exits(0);
    fs::write(path("-it's a $model.stripped.pt"), "taken").unwrap();
    let compare = |a: &str, b: &str| {
        let args = ["diff", "--json", "--", a, b];
        run_with(ckpt().current_dir(dir.path()).args(args), b"")
    };
    let report = compare(awkward, "plain.pt").exits(1).json();
    let command = report["strip_prefix"]["command"].as_str().unwrap();
    let rest = command.strip_prefix("ckpt ").unwrap();
    let script = format!("\"$0\" {rest}");
    let done = std::process::Command::new("sh")
        .args(["-c", &script, env!("CARGO_BIN_EXE_ckpt")])
        .current_dir(dir.path())
        .output()
        .unwrap();
    assert!(done.status.success(), "{command}: {}", String::from_utf8_lossy(&done.stderr));
    assert_eq!(compare("-it's a $model.stripped-2.pt", "plain.pt").exits(0).json()["equal"], true);
}

#[test]
fn tables_that_say_nothing_or_two_things_are_refused() {
    let dir = crate::driver::Dir::new();
    let (table, out) = (dir.path("map.json"), dir.path("out.pt"));
    for (text, why) in [
        ("", "has no names in it"),
        ("# nothing\n\n", "has no names in it"),
        ("{}", "has no names in it"),
        (r#"{"a": "b", "a": "c"}"#, "twice"),
    ] {
        std::fs::write(&table, text).unwrap();
        let arguments = ["rename", "digest/state.pt", "-o", &out, "--map", &table];
        let refused = crate::driver::run_with(crate::driver::ckpt().args(arguments), b"").exits(2);
        assert!(
            refused.stderr.starts_with(&format!("ckpt: {table}: ")) && refused.stderr.contains(why),
            "{}",
            refused.stderr
        );
        assert!(!std::path::Path::new(&out).exists());
    }
}
