//! Names on the command line, in every command that takes some: an exact name, a node of the tree, a glob, and above all
//! one that is not there. The files and what is in them: `testdata/generate_selection.py`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use crate::driver::{Dir, Run, ckpt, run_with, testdata};
use ckpt::checkpoint::{Entry, Located};
use ckpt::limits::Limits;
use serde_json::{Value, json};

const TRAIN: &str = "selection/train.pt";
const FLAT: &str = "selection/flat.pt";
const ODD: &str = "selection/odd.pt";
const FOLDS: &str = "selection/folds.pt";
const TUPLE: &str = "selection/tuple.pt";
const SHARED: &str = "selection/shared.pt";
const MODULE: &str = "torch-2.15-py311/cnn_full.pth";

/// What a block of the model holds.
const BLOCK: [&str; 7] = [
    "attn.weight",
    "attn.bias",
    "norm.weight",
    "norm.bias",
    "norm.running_mean",
    "norm.running_var",
    "norm.num_batches_tracked",
];

fn run(args: &[&str]) -> Run {
    run_with(ckpt().args(args), b"")
}

#[track_caller]
fn lines(args: &[&str]) -> Vec<String> {
    run(args).exits(0).lines().into_iter().map(str::to_owned).collect()
}

/// One line of error, nothing on standard output.
#[track_caller]
fn refused(args: &[&str]) -> String {
    let run = run(args).exits(2);
    assert_eq!((run.stderr.lines().count(), run.stdout.len()), (1, 0), "{args:?}: {}", run.stderr);
    assert!(run.stderr.starts_with("ckpt: "), "{}", run.stderr);
    run.stderr
}

fn under(prefix: &str, names: &[&str]) -> Vec<String> {
    names.iter().map(|name| format!("{prefix}{name}")).collect()
}

fn set(names: Vec<String>) -> BTreeSet<String> {
    names.into_iter().collect()
}

/// The names in a file that was written, `__metadata__` left aside.
#[track_caller]
fn names_in(file: &Path) -> BTreeSet<String> {
    let names = lines(&["ls", "--names", file.to_str().unwrap()]);
    names.into_iter().filter(|name| !name.starts_with("__metadata__")).collect()
}

impl Dir {
    /// Converts, and gives the names in the result.
    #[track_caller]
    fn convert(&self, input: &str, name: &str, options: &[&str]) -> BTreeSet<String> {
        let output = self.path(name);
        run(&[&["convert", "--force", input, &output], options].concat()).exits(0);
        names_in(Path::new(&output))
    }
}

/// Command lines in which `{}` is the argument and `OUT` an output.
const SELECTING: &[&[&str]] = &[
    &["ls", TRAIN, "--root", "{}"],
    &["ls", TRAIN, "--include", "{}"],
    &["ls", TRAIN, "--exclude", "{}"],
    &["ls", "--names", TRAIN, "--include", "epoch", "--include", "{}"],
    &["ls", "--tree", TRAIN, "--exclude", "epoch", "--exclude", "{}"],
    &["ls", "--json", TRAIN, "--root", "{}", "--include", "*"],
    &["ls", "-R", "selection", "--include", "{}"],
    &["ls", "-R", "selection", "--root", "{}"],
    &["diff", TRAIN, TRAIN, "--root-a", "{}"],
    &["diff", TRAIN, TRAIN, "--root-b", "{}"],
    &["diff", TRAIN, TRAIN, "--include", "{}"],
    &["diff", TRAIN, TRAIN, "--exclude", "{}"],
    &["diff", "-q", TRAIN, TRAIN, "--include", "model.*", "--include", "{}"],
    &["diff", "--load", TRAIN, TRAIN, "--exclude", "{}"],
    &["diff", "--structure", TRAIN, TRAIN, "--include", "{}"],
    &["convert", TRAIN, "OUT.pt", "--root", "{}"],
    &["convert", TRAIN, "OUT.pt", "--include", "{}"],
    &["convert", TRAIN, "OUT.pt", "--exclude", "{}"],
    &["convert", TRAIN, "OUT.pt", "--drop", "{}"],
    &["convert", TRAIN, "OUT.pt", "--drop", "optimizer", "--drop", "{}"],
    &["convert", TRAIN, "OUT.pt", "--state-dict", "--exclude", "{}"],
    &["convert", TRAIN, "OUT.safetensors", "--root", "{}"],
    &["convert", TRAIN, "OUT.safetensors", "--include", "{}"],
    &["convert", TRAIN, "OUT.safetensors", "--exclude", "{}"],
    &["convert", TRAIN, "OUT.safetensors", "--drop", "{}"],
    &["convert", TRAIN, "OUT", "--max-shard-size", "1KB", "--to", "safetensors", "--exclude", "{}"],
    &["extract", TRAIN, "{}"],
    &["extract", TRAIN, "{}", "-o", "OUT.npz"],
    &["extract", TRAIN, "epoch", "{}", "-o", "OUT.json"],
    &["extract", TRAIN, "-o", "OUT.pt", "--root", "{}"],
    &["extract", TRAIN, "-o", "OUT.pt", "--include", "{}"],
    &["extract", TRAIN, "-o", "OUT.pt", "--exclude", "{}"],
    &["extract", TRAIN, "model", "-o", "OUT", "--exclude", "{}"],
    &["rename", TRAIN, "-o", "OUT.pt", "--add-prefix", "x.", "--root", "{}"],
    &["rename", TRAIN, "-o", "OUT.pt", "--add-prefix", "x.", "--include", "{}"],
    &["rename", TRAIN, "-o", "OUT.pt", "--add-prefix", "x.", "--exclude", "{}"],
    &["rename", TRAIN, "--dry-run", "--add-prefix", "x.", "--include", "model.*", "--exclude", "{}"],
    &["strip-prefix", "blocks.", TRAIN, "-o", "OUT.pt", "--root", "{}"],
    &["strip-prefix", "blocks.", TRAIN, "-o", "OUT.pt", "--include", "{}"],
    &["strip-prefix", "blocks.", TRAIN, "-o", "OUT.pt", "--exclude", "{}"],
];

#[track_caller]
fn refused_everywhere(argument: &str, said: &str) {
    // a name of another file there
    let is_known = ["[", ""].contains(&argument);
    for words in SELECTING.iter().filter(|words| !is_known || !words.contains(&"-R")) {
        let out = Dir::new();
        let path = |word: &str| word.strip_prefix("OUT").map(|rest| out.path(&format!("out{rest}")));
        let args: Vec<String> = words
            .iter()
            .map(|word| if *word == "{}" { argument.to_owned() } else { path(word).unwrap_or((*word).to_owned()) })
            .collect();
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        let error = refused(&args);
        assert!(error.contains(said), "{args:?}: {error}");
        assert!(out.is_empty(), "{args:?}");
    }
}

#[test]
fn a_typo_is_an_error_that_proposes_names() {
    refused_everywhere("optimzier", "no element named `optimzier`");
    // relative to the model or not, it has that name
    refused_everywhere("head.wieght", "no element named `head.wieght`");
    for args in [
        &["ls", TRAIN, "--root", "optimzier"][..],
        &["ls", TRAIN, "--exclude", "optimzier"],
        &["diff", TRAIN, TRAIN, "--include", "Optimizer"],
        &["extract", TRAIN, "optimizers"],
        &["convert", TRAIN, "/tmp/never.pt", "--drop", "optimizer.stat"],
    ] {
        let error = refused(args);
        assert!(error.contains("did you mean `optimizer"), "{args:?}: {error}");
    }
    let error = refused(&["ls", TRAIN, "--include", "*.wieght"]);
    assert!(error.contains("nothing matches `*.wieght` (--include); did you mean `*.weight`?"), "{error}");
    let error = refused(&["convert", TRAIN, "/tmp/never.safetensors", "--drop", "blocs.0"]);
    assert!(error.contains("(--drop); did you mean `blocks.0`"), "{error}");
}

#[test]
fn globs_and_names_that_match_nothing() {
    refused_everywhere("zzz*", "nothing matches `zzz*`");
    refused_everywhere("[", "invalid glob \"[\"");
    refused_everywhere("{a", "invalid glob \"{a\"");
    refused_everywhere("", "no element named ``");
    refused_everywhere("Epoch", "no element named `Epoch`");
    // an element is not a part of a word, and has no dot behind it
    refused_everywhere("model.block", "no element named `model.block`");
    refused_everywhere("model.blocks.", "no element named `model.blocks.`");
}

#[test]
fn every_missing_argument_is_named() {
    let error = refused(&["ls", TRAIN, "--include", "epochs", "--include", "epoch", "--exclude", "*.wieght"]);
    assert!(error.contains("`epochs` (--include)") && error.contains("`*.wieght` (--exclude)"), "{error}");
}

#[test]
fn a_node_of_the_tree_is_a_name() {
    let blocks = |at: usize| under(&format!("model.blocks.{at}."), &BLOCK);
    let of_flat = under("blocks.0.", &BLOCK);
    let relative = under("", &BLOCK);
    assert_eq!(lines(&["ls", "--names", FLAT, "--root", "blocks.0"]), relative);
    assert_eq!(lines(&["ls", "--names", FLAT, "--include", "blocks.0"]), of_flat);
    assert_eq!(lines(&["ls", "--names", TRAIN, "--root", "model.blocks.0"]), relative);
    assert_eq!(lines(&["ls", "--names", TRAIN, "--include", "model.blocks.1"]), blocks(1));
    let rest = lines(&["ls", "--names", "--tensors", TRAIN, "--exclude", "model.blocks", "--exclude", "optimizer"]);
    assert_eq!(rest, ["model.head.weight", "model.head.bias"]);
    let listing = run(&["ls", "--json", FLAT, "--root", "blocks.0.norm"]).exits(0).json();
    assert_eq!((&listing["root_type"], &listing["totals"]["tensors"]), (&Value::Null, &json!(5)));
    assert_eq!(listing["tensors"][0]["path"], json!(["weight"]));
    assert_eq!(lines(&["ls", "--names", TRAIN, "--root", "optimizer.param_groups.0", "--include", "lr"]), ["lr"]);
    assert_eq!(lines(&["ls", "--names", MODULE, "--root", "features.0"]), ["weight", "bias"]);
    assert_eq!(lines(&["ls", "--names", MODULE, "--root", "features.0.bias"]), ["."]);
    assert_eq!(lines(&["ls", "--names", TRAIN, "--root", "epoch"]), ["."]);

    let out = Dir::new();
    for to in ["n.pt", "n.safetensors", "n.npz"] {
        assert_eq!(out.convert(FLAT, to, &["--root", "blocks.0"]), set(relative.clone()), "{to}");
        assert_eq!(out.convert(FLAT, to, &["--include", "blocks.0"]), set(of_flat.clone()), "{to}");
        assert_eq!(out.convert(TRAIN, to, &["--root", "model.blocks.1"]), set(relative.clone()), "{to}");
        let rest = ["head.weight".to_owned(), "head.bias".to_owned()];
        for option in ["--exclude", "--drop"] {
            assert_eq!(out.convert(FLAT, to, &[option, "blocks"]), rest.clone().into(), "{to} {option}");
        }
    }
    let extract = |args: &[&str]| {
        let output = out.path("x.safetensors");
        run(&[&["extract", FLAT, "-o", &output, "--force"], args].concat()).exits(0);
        names_in(Path::new(&output))
    };
    assert_eq!(extract(&["blocks.0"]), set(relative.clone()));
    assert_eq!(extract(&["--root", "blocks.0"]), set(relative.clone()));
    assert_eq!(extract(&["--root", "blocks.0", "attn"]), set(under("", &["weight", "bias"])));
    assert_eq!(extract(&["blocks.0", "head"]), set([of_flat.clone(), under("head.", &["weight", "bias"])].concat()));
    assert_eq!(
        extract(&["blocks", "--exclude", "1", "--exclude", "*.norm.*"]),
        set(under("0.attn.", &["weight", "bias"]))
    );
    assert_eq!(extract(&["--include", "head"]), set(under("head.", &["weight", "bias"])));

    let same = run(&["diff", FLAT, TRAIN, "--root-a", "blocks.1", "--root-b", "model.blocks.1"]).exits(0);
    assert_eq!(same.text(), "equal: 7 tensors\n");
    run(&["diff", "-q", FLAT, TRAIN, "--root-a", "blocks.0", "--root-b", "model.blocks.1"]).exits(1);
    let included = run(&["diff", FLAT, TRAIN, "--root-b", "model", "--include", "blocks.0"]).exits(0);
    assert_eq!(included.text(), "equal: 7 tensors\n");
}

#[test]
fn renames_below_a_node_of_the_tree() {
    let renamed = |args: &[&str]| {
        let rows = run(&[&["rename", "--dry-run", "--json"], args].concat()).exits(0).json()["renamed"].clone();
        rows.as_array()
            .unwrap()
            .iter()
            .map(|row| format!("{} {}", row["old"].as_str().unwrap(), row["new"].as_str().unwrap()))
            .collect::<Vec<_>>()
    };
    let to_x = |blocks: &str| BLOCK.map(|name| format!("{blocks}.{name} {blocks}.x.{name}")).to_vec();
    assert_eq!(renamed(&[FLAT, "--root", "blocks.0", "--add-prefix", "x."]), to_x("blocks.0"));
    assert_eq!(renamed(&[TRAIN, "--root", "model.blocks.1", "--add-prefix", "x."]), to_x("blocks.1"));
    let attn = ["blocks.0.attn.weight blocks.0.att.weight", "blocks.0.attn.bias blocks.0.att.bias"];
    assert_eq!(renamed(&[FLAT, "--include", "blocks.0", "--regex", "s/attn/att/"]), attn);
    assert_eq!(renamed(&[FLAT, "--root", "blocks.0", "--exclude", "attn.bias", "--regex", "s/attn/att/"]), attn[..1]);
    let out = Dir::new();
    let output = out.path("renamed.pt");
    run(&["strip-prefix", "attn.", FLAT, "--root", "blocks.0", "-o", &output]).exits(0);
    let names = names_in(Path::new(&output));
    assert!(names.contains("blocks.0.weight") && names.contains("blocks.1.attn.weight"), "{names:?}");
    assert_eq!(names.len(), 16);
}

#[test]
fn an_exact_name_comes_before_a_glob() {
    assert_eq!(lines(&["ls", "--names", ODD, "--include", "w[0]"]), ["w[0]"]);
    assert_eq!(lines(&["ls", "--names", ODD, "--include", "w[0-9]"]), ["w0"]);
    assert_eq!(lines(&["ls", "--names", ODD, "--include", "a*"]), ["a*"]);
    assert_eq!(lines(&["ls", "--names", ODD, "--include", "a?"]), ["a*", "ab"]);
    assert_eq!(lines(&["ls", "--names", ODD, "--include", "["]), ["["]);
    assert_eq!(lines(&["ls", "--names", ODD, "--include", ""]), ["."]);
    assert_eq!(lines(&["ls", "--names", ODD, "--include", "7"]), ["7"]);
    let kept = lines(&["ls", "--names", ODD, "--exclude", "a*", "--exclude", "w[0]"]);
    assert!(kept.contains(&"ab".to_owned()) && kept.contains(&"w0".to_owned()) && kept.len() == 13, "{kept:?}");
    for name in ["w[0]", "a*", "[", "", "7", "-dash", "it's"] {
        let root = format!("--root={name}");
        assert_eq!(lines(&["ls", "--names", ODD, &root]), ["."], "{name}");
        let value = run(&["extract", ODD, "--", name]).exits(0);
        assert!(value.text().starts_with("tensor(["), "{name}: {}", value.text());
        let out = Dir::new();
        let include = format!("--include={name}");
        let want = if name.is_empty() { "." } else { name };
        assert_eq!(out.convert(ODD, "x.pt", &[&include]), set(vec![want.to_owned()]), "{name}");
        let names = out.convert(ODD, "y.pt", &[&format!("--drop={name}")]);
        assert!(!names.contains(want) && names.len() == 13, "{name}: {names:?}");
        let compared = run(&["diff", ODD, ODD, &include]).exits(0);
        assert_eq!(compared.text(), "equal: 1 tensor\n", "{name}");
    }
    assert_eq!(run(&["extract", ODD, "w[0]"]).exits(0).text(), "tensor([1., 1.])\n");
}

#[test]
fn two_things_of_one_name_are_ambiguous() {
    let out = Dir::new();
    let output = out.path("x.pt");
    for args in [
        &["ls", ODD, "--root", "twice.b"][..],
        &["ls", ODD, "--include", "twice.b"],
        &["ls", ODD, "--exclude", "twice.b"],
        &["diff", ODD, ODD, "--include", "twice.b"],
        &["diff", ODD, ODD, "--root-a", "twice.b", "--root-b", "7"],
        &["convert", ODD, &output, "--drop", "twice.b"],
        &["extract", ODD, "twice.b"],
        &["rename", ODD, "--dry-run", "--add-prefix", "x.", "--include", "twice.b"],
    ] {
        let error = refused(args);
        assert!(error.contains(r#"["twice", "b"]"#) && error.contains(r#"["twice.b"]"#), "{args:?}: {error}");
        assert!(out.is_empty());
    }
    // a node is everything that begins with its name, wherever that lies
    assert_eq!(lines(&["ls", "--names", ODD, "--root", "node.in"]), ["side.x", "z"]);
    assert_eq!(lines(&["ls", "--names", ODD, "--root", "node"]), ["in.side.x", "y", "in.z"]);
    assert_eq!(lines(&["ls", "--names", ODD, "--include", "node.in"]), ["node.in.side.x", "node.in.z"]);
}

#[test]
fn a_glob_for_one_place() {
    assert_eq!(lines(&["ls", "--names", TRAIN, "--root", "*.param_groups.?", "--include", "l?"]), ["lr"]);
    assert_eq!(lines(&["ls", "--names", TRAIN, "--root", "mod*"]).len(), 16);
    let error = refused(&["ls", "--names", TRAIN, "--root", "model.blocks.?"]);
    assert!(error.contains("ambiguous") && error.contains("blocks.0") && error.contains("blocks.1"), "{error}");
}

#[test]
fn exclude_takes_values_and_what_it_empties() {
    let out = Dir::new();
    let model = lines(&["ls", "--names", TRAIN, "--include", "model"]);
    for options in [
        &["--exclude", "optimizer*", "--exclude", "epoch", "--exclude", "args"][..],
        &["--exclude", "optimizer.*", "--drop", "epoch", "--drop", "args*"],
        &["--drop", "optimizer", "--exclude", "args.lr", "--exclude", "args.data.root", "--exclude", "epoch"],
        &["--include", "model.*"],
        &["--include", "model"],
        &["--include", "*", "--exclude", "optimizer", "--exclude", "args", "--exclude", "epoch"],
    ] {
        assert_eq!(out.convert(TRAIN, "x.pt", options), set(model.clone()), "{options:?}");
        assert_eq!(out.convert(TRAIN, "y.legacy", &[options, &["--to", "torch-legacy"]].concat()), set(model.clone()));
    }
    // the containers are gone from the pickle, not only from the listing
    let pickle = std::fs::read(out.path("x.pt")).unwrap();
    for gone in ["optimizer", "param_groups", "epoch", "args"] {
        assert!(!pickle.windows(gone.len()).any(|bytes| bytes == gone.as_bytes()), "{gone}");
    }
    let report =
        run(&["convert", "--json", TRAIN, &out.path("z.pt"), "--include", "model.head", "--include", "args.lr"]);
    let left_out = report.exits(0).json()["left_out"].clone();
    let rows: Vec<&Value> = left_out.as_array().unwrap().iter().collect();
    let named = |name: &str| rows.iter().find(|row| row["name"] == name).map(|row| row["tensors"].clone());
    assert_eq!(named("optimizer"), Some(json!(12)));
    assert_eq!((named("epoch"), named("args.data"), named("args")), (Some(Value::Null), Some(Value::Null), None));
    assert_eq!(named("model.blocks.0.attn.bias"), Some(Value::Null));
    // below a root, names in the report are those of the file
    let report =
        run(&["convert", "--json", TRAIN, &out.path("r.pt"), "--root", "args", "--exclude", "lr"]).exits(0).json();
    let left_out = crate::driver::names_of(&report["left_out"]);
    assert_eq!(left_out, ["model", "optimizer", "epoch", "args.lr"]);
}

#[test]
fn elements_of_lists_keep_their_indexes() {
    let out = Dir::new();
    let of = |input: &str, options: &[&str]| {
        let output = out.path("list.pt");
        run(&[&["convert", "--force", input, &output], options].concat()).exits(0);
        run(&["ls", "--json", &output]).exits(0).json()
    };
    let tensors = |listing: &Value| crate::driver::names_of(&listing["tensors"]).join(" ");
    let values = |listing: &Value| {
        let rows = listing["values"].as_array().unwrap().iter();
        rows.map(|row| format!("{}={}", row["name"].as_str().unwrap(), row["repr"].as_str().unwrap()))
            .collect::<Vec<_>>()
            .join(" ")
    };
    let facts = |listing: Value| (tensors(&listing), values(&listing));
    let want = |tensors: &str, values: &str| (tensors.to_owned(), values.to_owned());
    assert_eq!(facts(of(FOLDS, &["--exclude", "1.*"])), want("0.w 0.b 2.w 2.b", "1=None"));
    assert_eq!(facts(of(FOLDS, &["--drop", "2"])), want("0.w 0.b 1.w 1.b", ""));
    assert_eq!(facts(of(FOLDS, &["--include", "1"])), want("1.w 1.b", "0=None"));
    assert_eq!(facts(of(FOLDS, &["--exclude", "*.b"])), want("0.w 1.w 2.w", ""));
    assert_eq!(facts(of(TUPLE, &["--exclude", "1"])), want("0.w 0.b 2.0 2.1 2.2", "1=None"));
    assert_eq!(facts(of(TUPLE, &["--exclude", "2.0"])), want("0.w 0.b 2.1 2.2", "1=5 2.0=None"));
    assert_eq!(facts(of(TUPLE, &["--include", "0"])), want("0.w 0.b", "1=None 2=None"));
}

#[test]
fn what_is_one_object_is_not_left_out_under_one_name_only() {
    let out = Dir::new();
    let output = out.path("x.pt");
    let error = refused(&["convert", SHARED, &output, "--exclude", "model.b"]);
    assert!(error.contains("model is one object with another name") && out.is_empty(), "{error}");
    assert_eq!(out.convert(SHARED, "x.pt", &["--exclude", "*.b"]).len(), 3);
    assert_eq!(out.convert(SHARED, "x.pt", &["--exclude", "ema"]), set(under("", &["model.w", "model.b", "step"])));
    let error = refused(&["convert", MODULE, &out.path("m.pt"), "--exclude", "features.0"]);
    assert!(error.contains("part of a module"), "{error}");
    let state_dict = out.convert(MODULE, "m.pt", &["--exclude", "features.0", "--state-dict"]);
    assert!(!state_dict.is_empty() && !state_dict.iter().any(|name| name.starts_with("features.0.")), "{state_dict:?}");
}

#[test]
fn an_empty_choice_is_an_error() {
    let out = Dir::new();
    let (pt, st) = (out.path("x.pt"), out.path("x.safetensors"));
    let names = "no names left after --include/--exclude";
    for (args, said) in [
        (&["ls", TRAIN, "--include", "epoch", "--exclude", "epoch"][..], names),
        (&["ls", TRAIN, "--exclude", "*"], names),
        (&["ls", "-R", "selection", "--include", "epoch", "--exclude", "epoch"], names),
        (&["ls", TRAIN, "--tensors", "--include", "epoch"], "no tensors left"),
        (&["ls", TRAIN, "--values", "--include", "model"], "no values left"),
        (&["diff", TRAIN, TRAIN, "--include", "model", "--exclude", "model.*"], names),
        (&["diff", "-q", TRAIN, TRAIN, "--exclude", "*"], names),
        (&["diff", "--load", TRAIN, TRAIN, "--include", "epoch"], names),
        (&["diff", TRAIN, FLAT, "--load", "--root-a", "args", "--root-b", "blocks.0", "--include", "lr"], names),
        (&["diff", "-q", "--load", TRAIN, TRAIN, "--root-a", "args", "--root-b", "args"], "nothing to compare"),
        (&["convert", TRAIN, &pt, "--exclude", "*"], names),
        (&["convert", TRAIN, &pt, "--include", "epoch", "--drop", "epoch"], "after --include/--exclude/--drop"),
        (&["convert", TRAIN, &st, "--include", "epoch"], "no tensors left after --include/--exclude"),
        (&["convert", TRAIN, &st, "--exclude", "model.*"], "no tensors left after --include/--exclude"),
        (&["extract", TRAIN, "epoch", "--exclude", "epoch"], names),
        (&["extract", TRAIN, "-o", &pt, "--exclude", "*"], names),
    ] {
        let error = refused(args);
        assert!(error.contains(said), "{args:?}: {error}");
        assert!(out.is_empty(), "{args:?}");
    }
    // nothing was chosen by name here
    run(&["ls", FLAT, "--values"]).exits(0);
    run(&["diff", TRAIN, TRAIN, "--root-a", "args", "--root-b", "args"]).exits(0);
}

#[test]
fn one_match_in_one_of_several_inputs_is_enough() {
    let only = run(&["ls", "--names", FLAT, TRAIN, "--include", "epoch"]).exits(0);
    assert_eq!(only.text(), "epoch\n");
    assert!(only.stderr.contains(FLAT), "{}", only.stderr);
    let rooted = run(&["ls", "--names", FLAT, TRAIN, "--root", "model", "--include", "head.bias"]).exits(0);
    assert_eq!(rooted.text(), "head.bias\n");
    // nothing is shown when one of the arguments is nowhere
    let nowhere = run(&["ls", FLAT, TRAIN, "--include", "*.bias", "--include", "epohc"]).exits(2);
    assert!(nowhere.stdout.is_empty() && nowhere.stderr.contains("did you mean `epoch`?"), "{}", nowhere.stderr);
    let found = lines(&["ls", "-R", "--json", "selection", "--include", "epoch"]);
    assert_eq!(found.len(), 1);
    assert!(found[0].contains("train.pt"), "{}", found[0]);
    let table = run(&["ls", "-R", "selection", "--include", "epoch", "--include", "head"]).exits(0);
    assert_eq!(table.text().matches(": zip").count(), 2, "{}", table.text());
    assert!(table.stderr.is_empty(), "{}", table.stderr);
    // on one side of a comparison
    let one_side = run(&["diff", FLAT, TRAIN, "--include", "epoch"]).exits(1);
    assert!(one_side.text().contains("epoch"));
    run(&["diff", FLAT, TRAIN, "--include", "head"]).exits(1);
}

#[test]
fn names_of_the_file_or_of_the_weights_that_were_found_in_it() {
    let out = Dir::new();
    let all = out.convert(TRAIN, "all.safetensors", &[]);
    assert_eq!(all.len(), 16);
    // what is left out anyhow may be excluded by its name
    let same =
        out.convert(TRAIN, "x.safetensors", &["--exclude", "optimizer*", "--exclude", "epoch", "--drop", "args"]);
    assert_eq!(same, all);
    let block = set(under("blocks.0.", &BLOCK));
    for name in ["blocks.0", "model.blocks.0", "blocks.0.*", "model.blocks.0.*"] {
        assert_eq!(out.convert(TRAIN, "x.safetensors", &["--include", name]), block, "{name}");
        let others = out.convert(TRAIN, "x.safetensors", &["--drop", name]);
        assert_eq!((others.len(), others.is_disjoint(&block)), (9, true), "{name}");
    }
    // with a root that was named, names begin there
    refused(&["convert", TRAIN, &out.path("y.safetensors"), "--root", "model", "--include", "model.blocks.0"]);
    let compared = run(&["diff", &out.path("all.safetensors"), TRAIN, "--exclude", "optimizer", "--exclude", "epoch"]);
    assert_eq!(compared.exits(0).text(), "equal: 16 tensors\n");
    let compared =
        run(&["diff", FLAT, FLAT, "--strip-prefix", "blocks.", "--include", "0", "--exclude", "blocks.0.attn"]);
    assert_eq!(compared.exits(0).text(), "equal: 5 tensors\n");
}

#[test]
fn if_present_lets_names_pass_that_are_not_there() {
    let out = Dir::new();
    let input = std::fs::read(testdata(FLAT)).unwrap();
    for option in [["--root", "nowhere"], ["--include", "nowhere"]] {
        let output = out.path("same.pt");
        let words = ["rename", FLAT, "--add-prefix", "x.", "--if-present", "--force", "-o", &output];
        run(&[&words[..], &option].concat()).exits(0);
        assert_eq!(std::fs::read(&output).unwrap(), input, "{option:?}");
    }
}

#[test]
fn byte_strings_and_other_keys_are_names() {
    // {b'module': {b'w': 1}, (1, 2): 3, 1: 4, True: 5} as Python 2 and 3 pickle it
    let pickle = b"\x80\x02}(U\x06module}U\x01wK\x01sK\x01K\x02\x86K\x03K\x05K\x04\x88K\x05u.";
    let names = |args: &[&str]| {
        let run = run_with(ckpt().args(["ls", "--names"]).args(args).arg("-"), pickle).exits(0);
        run.text().lines().map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(names(&["--root", "module"]), ["w"]);
    assert_eq!(names(&["--include", "module"]), ["module.w"]);
    assert_eq!(names(&["--include", "(1, 2)", "--include", "True"]), ["(1, 2)", "True"]);
    assert_eq!(names(&["--exclude", "(1, 2)", "--exclude", "module.*", "--exclude", "5"]), ["True"]);
}

#[test]
fn a_part_of_a_state_dict_keeps_the_versions_of_its_modules() {
    let out = Dir::new();
    for (name, options) in [("a.pt", &["--root", "blocks.1"][..]), ("b.pt", &["--root", "blocks.1", "--state-dict"])] {
        out.convert(FLAT, name, options);
        let checkpoint = ckpt::open(out.path(name));
        let checkpoint = checkpoint.unwrap().checkpoint;
        let objects = checkpoint.objects();
        let metadata = objects.attribute(checkpoint.root, "_metadata").unwrap();
        let modules = objects.items(metadata).unwrap();
        let modules: Vec<String> = modules
            .iter()
            .map(|module| format!("{}: {}", checkpoint.graph.str(module.key).unwrap(), objects.repr(module.value, 50)))
            .collect();
        // as torch reads it: `_metadata` of the block's own state_dict()
        assert_eq!(modules, [": {'version': 1}", "attn: {'version': 1}", "norm: {'version': 2}"], "{name}");
    }
}

/// Files and directories of the test data that can be opened.
fn checkpoints() -> Vec<PathBuf> {
    let limits = Limits::default();
    let folders = std::fs::read_dir(testdata("")).unwrap().map(|entry| entry.unwrap().path());
    let folders = folders.filter(|folder| folder.is_dir() && !folder.ends_with("hostile"));
    folders.flat_map(|folder| ckpt::layout::below(&folder, &limits)).map(|below| below.path).collect()
}

#[test]
fn every_node_of_every_tree_is_a_name() {
    let nodes_tried = std::sync::atomic::AtomicUsize::new(0);
    crate::driver::for_each(&checkpoints(), |path| {
        let Ok(input) = ckpt::open(path) else { return Ok(()) };
        let checkpoint = &input.checkpoint;
        let Ok(names) = checkpoint.names(&checkpoint.top()) else { return Ok(()) };
        let names: Vec<String> = names.entries.iter().map(Entry::name).collect();
        let below = |node: &str| {
            let inside = format!("{node}.");
            names.iter().filter_map(move |name| name.strip_prefix(&inside).map(str::to_owned)).collect::<Vec<_>>()
        };
        let mut nodes = BTreeSet::new();
        for name in &names {
            nodes.extend(name.match_indices('.').map(|(at, _)| &name[..at]));
        }
        let nodes: Vec<&&str> = nodes.iter().filter(|node| !names.iter().any(|name| name == **node)).collect();
        for node in nodes.iter().step_by(nodes.len() / 16 + 1) {
            let place = match checkpoint.place(&checkpoint.top(), node) {
                Ok(Located::Of(place)) => place,
                Ok(Located::Ambiguous(..)) => continue,
                other => return Err(format!("{}: {node}: {other:?}", path.display())),
            };
            nodes_tried.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            let found = checkpoint.names(&place).map_err(|e| e.to_string())?.entries;
            let found: BTreeSet<String> = found.iter().map(Entry::name).collect();
            if let Some(lost) = below(node).into_iter().find(|name| !found.contains(name)) {
                return Err(format!("{}: {lost} is not below {node}", path.display()));
            }
            // and nothing from elsewhere; an object may have more than its module lists
            if place.stem.is_some() && found.len() > below(node).len() {
                return Err(format!("{}: too much below {node}: {found:?}", path.display()));
            }
        }
        Ok(())
    });
    assert!(nodes_tried.into_inner() > 1000);
}
