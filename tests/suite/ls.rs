//! `ckpt ls`, option by option: each test fails when its option is ignored. Numbers are torch's, names those of the
//! oracles; what tables look like stands in testdata/golden/.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // helpers of tests are tests

use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::Stdio;

use crate::driver::{ckpt, golden, names_of, run, run_with, testdata};
use serde_json::{Value, json};

const CHECKPOINT: &str = "torch-2.15-py311/checkpoint.tar";
const STATE: &str = "torch-2.15-py311/cnn_state.pt";
const MODULE: &str = "torch-2.15-py311/cnn_full.pth";

/// Names of the tensors of testdata/FILE, from its oracle.
fn oracle_names(file: &str) -> Vec<String> {
    let oracle: Value = serde_json::from_slice(&std::fs::read(testdata(&format!("{file}.json"))).unwrap()).unwrap();
    let name = |tensor: &Value| {
        let path = tensor["path"].as_array().unwrap().iter();
        path.map(|step| step.as_str().map_or(step.to_string(), str::to_owned)).collect::<Vec<_>>().join(".")
    };
    oracle["tensors"].as_array().unwrap().iter().map(name).collect()
}

/// A safetensors file of one float32 tensor `t`.
fn floats(values: &[f32]) -> Vec<u8> {
    let (count, bytes) = (values.len(), values.len() * 4);
    let header = format!(r#"{{"t":{{"dtype":"F32","shape":[{count}],"data_offsets":[0,{bytes}]}}}}"#);
    let mut file = (header.len() as u64).to_le_bytes().to_vec();
    file.extend(header.bytes());
    file.extend(values.iter().flat_map(|value| value.to_le_bytes()));
    file
}

/// torch's zip around `pickle`, deflated, with one storage of one float.
fn zipped(pickle: &[u8]) -> Vec<u8> {
    let mut zip = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    let options = zip::write::SimpleFileOptions::default().compression_method(zip::CompressionMethod::Deflated);
    for (name, bytes) in [("a/data.pkl", pickle), ("a/version", b"3\n"), ("a/data/0", &1.5f32.to_le_bytes())] {
        zip.start_file(name, options).unwrap();
        zip.write_all(bytes).unwrap();
    }
    zip.finish().unwrap().into_inner()
}

fn ls_of(bytes: &[u8], options: &str) -> crate::driver::Run {
    run_with(ckpt().args(["ls", "-"]).args(options.split_whitespace()), bytes)
}

/// The command as a person at a terminal of that width sees it, by util-linux's script(1).
#[cfg(target_os = "linux")]
fn at_a_terminal(columns: u32, words: &str, no_color: Option<&str>) -> String {
    let inner = format!("stty cols {columns} rows 24; exec '{}' {words}", env!("CARGO_BIN_EXE_ckpt"));
    let mut command = std::process::Command::new("script");
    command.args(["-qec", &inner, "/dev/null"]).current_dir(testdata("")).env("TERM", "xterm").env_remove("NO_COLOR");
    if let Some(value) = no_color {
        command.env("NO_COLOR", value);
    }
    run_with(&mut command, b"").exits(0).text().replace("\r\n", "\n")
}

#[test]
fn goldens() {
    for (name, words) in [
        ("state", "ls torch-2.15-py311/cnn_state.pt"),
        ("checkpoint", "ls torch-2.15-py311/checkpoint.tar"),
        ("everything", "ls torch-2.15-py311/everything.pt"),
        ("everything_json", "ls --json torch-2.15-py311/everything.pt"),
        ("module", "ls torch-2.15-py311/cnn_full.pth"),
        ("module_tree", "ls --tree torch-2.15-py311/cnn_full.pth"),
        ("module_tree_json", "ls --tree --json torch-2.15-py311/cnn_full.pth"),
        ("module_attributes", "ls more/module_attributes.pt"),
        ("quantized", "ls torch-2.15-py311/quantized.pt more/quantized_full.pt"),
        ("sparse", "ls torch-2.15-py311/sparse.pt torch-2.15-py311/sparse_csr.pt"),
        ("views", "ls torch-2.15-py311/views.pt"),
        ("views_json", "ls --json --hash torch-2.15-py311/views.pt"),
        ("dtypes_stats", "ls --stats more/every_dtype.pt"),
        ("numpy", "ls torch-2.15-py311/numpy_protocol4.pkl torch-2.15-py311/numpy_gzip.pkl.gz"),
        ("python2", "ls torch-1.0-py27/checkpoint.tar"),
        ("scripted", "ls torch-2.15-py311/scripted.pt more/scripted_rich.pt"),
        ("safetensors", "ls frameworks/dtypes.safetensors"),
        ("devices", "ls torch-2.15-py311/located_cuda1.pth more/complete_training.pt"),
        ("outside", "ls hostile/tensor_outside_storage.pt"),
        ("hostile_names", "ls hostile/tensor_names.pt"),
    ] {
        let run = run(words).exits(0);
        golden(&format!("{name}.txt"), run.text());
    }
}

#[cfg(target_os = "linux")]
#[test]
fn goldens_at_a_terminal() {
    for (name, columns, words) in [
        ("checkpoint_80", 80, "ls --color never torch-2.15-py311/checkpoint.tar"),
        ("views_60", 60, "ls --color never torch-2.15-py311/views.pt"),
        ("hash_80", 80, "ls --color never --hash torch-2.15-py311/cnn_state.pt"),
        ("stats_80", 80, "ls --color never --stats torch-2.15-py311/cnn_state.pt"),
        ("color_100", 100, "ls torch-2.15-py311/views.pt"),
    ] {
        let shown = at_a_terminal(columns, words, None);
        golden(&format!("{name}.txt"), &shown);
        if !name.starts_with("color") {
            let widest = shown.lines().map(|line| line.chars().count()).max().unwrap();
            assert!(widest <= columns as usize, "{name}: {widest} columns");
        }
    }
}

#[test]
fn into_a_pipe_names_are_never_cut() {
    let long = "a".repeat(500);
    let mut pickle = b"\x80\x02}X\xf4\x01\0\0".to_vec();
    pickle.extend(long.bytes());
    pickle.extend(b"K\x01s.");
    let run = ls_of(&pickle, "");
    assert!(run.exits(0).text().contains(&long));
}

#[test]
fn tree_and_depth() {
    let rows = |words: &str| -> Vec<String> {
        let run = run(words).exits(0);
        let lines = run.text().lines().skip(2).take_while(|line| !line.is_empty());
        lines.map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect()
    };
    let whole = rows(&format!("ls --tree {MODULE}"));
    assert!(whole.contains(&"8 408 9 1.63 KiB ├── features: Sequential".to_owned()), "{whole:#?}");
    assert!(whole.contains(&"108 432 B │ │ ├── weight: float32 [4, 3, 3, 3]".to_owned()), "{whole:#?}");
    let folded = rows(&format!("ls --tree --depth 1 {CHECKPOINT}"));
    assert_eq!(
        folded,
        [
            "tensors parameters buffers size module",
            "40 497 12 5.92 KiB .: dict",
            "13 497 12 2.00 KiB ├── model_state_dict",
            "27 0 3.92 KiB └── optimizer_state_dict"
        ]
    );
    assert_eq!(rows(&format!("ls --tree --depth 0 {CHECKPOINT}")).len(), 2);
    assert_eq!(rows(&format!("ls --tree --depth 2 {CHECKPOINT}")).len(), 4 + 3 + 1);
    let tree = run(&format!("ls --tree --depth 1 --json {CHECKPOINT}")).exits(0).json();
    assert_eq!((&tree["parameters"], &tree["children"][1]["tensors"]), (&json!(497), &json!(27)));
    assert!(run(&format!("ls --depth 1 {CHECKPOINT}")).exits(2).stderr.contains("--tree"));
}

#[test]
fn names() {
    let mut wanted = oracle_names(STATE);
    assert_eq!(run(&format!("ls --names {STATE}")).exits(0).lines(), wanted);
    let listed = run(&format!("ls --names --json {CHECKPOINT}")).exits(0).json();
    wanted = oracle_names(CHECKPOINT);
    let listed: Vec<&str> = listed["names"].as_array().unwrap().iter().map(|name| name.as_str().unwrap()).collect();
    assert_eq!(listed[..40], wanted);
    assert_eq!(listed[40], "epoch");
}

#[test]
fn tensors_or_values() {
    let both = run(&format!("ls --json {CHECKPOINT}")).exits(0).json();
    let tensors = run(&format!("ls --json --tensors {CHECKPOINT}")).exits(0).json();
    let values = run(&format!("ls --json --values {CHECKPOINT}")).exits(0).json();
    assert_eq!((&tensors["tensors"], &tensors["values"]), (&both["tensors"], &json!([])));
    assert_eq!((&values["tensors"], &values["values"]), (&json!([]), &both["values"]));
    assert_eq!(both["tensors"].as_array().unwrap().len(), 40);
    assert_eq!(
        values["values"][0],
        json!({"name": "epoch", "path": ["epoch"], "type": "int", "value": 96, "repr": "96"})
    );
    run(&format!("ls --tensors --values {CHECKPOINT}")).exits(2);
}

#[test]
fn sort_and_reverse() {
    let names = |options: &str| run(&format!("ls --json {options} {STATE}")).exits(0).tensor_names();
    let file = oracle_names(STATE);
    let reversed = |mut names: Vec<String>| {
        names.reverse();
        names
    };
    assert_eq!(names(""), file);
    assert_eq!(names("--sort file"), file);
    assert_eq!(names("-r"), reversed(file.clone()));
    let mut sorted = file.clone();
    sorted.sort();
    assert_ne!(sorted, file);
    assert_eq!(names("--sort name"), sorted);
    assert_eq!(names("--sort name --reverse"), reversed(sorted));
    let sizes = |options: &str| -> Vec<u64> {
        let got = run(&format!("ls --json {options} {STATE}")).exits(0).json();
        got["tensors"].as_array().unwrap().iter().map(|row| row["bytes"].as_u64().unwrap()).collect()
    };
    let mut largest_first = sizes("");
    largest_first.sort_by_key(|size| std::cmp::Reverse(*size));
    assert_eq!(sizes("--sort size"), largest_first);
    assert_eq!(names("--sort size")[..2], ["features.3.weight", "features.0.weight"]);
    assert_eq!(sizes("--sort size -r"), largest_first.into_iter().rev().collect::<Vec<_>>());
    assert!(run(&format!("ls --sort age {STATE}")).exits(2).stdout.is_empty());
}

/// min, max, mean, std as torch 2.15 computes them in float64.
#[test]
fn stats() {
    let got = run(&format!("ls --json --stats {STATE}")).exits(0).json();
    let stats =
        |name: &str| &got["tensors"].as_array().unwrap().iter().find(|row| row["name"] == name).unwrap()["stats"];
    let near = |found: &Value, wanted: f64| {
        let found = found.as_f64().unwrap();
        assert!((found - wanted).abs() <= 1e-12 * wanted.abs(), "{found} is not {wanted}");
    };
    for (name, min, max, mean, std) in [
        ("steps", 1.0, 4.0, 2.6666666666666665, 1.5275252316519465),
        ("features.0.weight", -0.1876322329044342, 0.1899944692850113, 0.0029631051497913345, 0.10502116230826895),
        ("features.0.bias", -0.1446104645729065, 0.04040060192346573, -0.07440790347754955, 0.07996380158821664),
    ] {
        let stats = stats(name);
        near(&stats["min"], min);
        near(&stats["max"], max);
        near(&stats["mean"], mean);
        near(&stats["std"], std);
        assert_eq!((&stats["zeros"], &stats["nan"], &stats["inf"]), (&json!(0), &json!(0), &json!(0)), "{name}");
    }
    assert!(stats("steps")["min"].is_u64(), "integers stay integers");
    assert_eq!(stats("features.1.num_batches_tracked")["zeros"], 1);
    assert_eq!(stats("features.1.num_batches_tracked")["std"], Value::Null, "one element has no deviation");

    let odd = floats(&[f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 0.0, -0.0, -2.0, 4.0]);
    let got = ls_of(&odd, "--json --stats").exits(0).json();
    let std = got["tensors"][0]["stats"]["std"].as_f64().unwrap();
    assert!((std - (19.0f64 / 3.0).sqrt()).abs() < 1e-12);
    assert_eq!(
        got["tensors"][0]["stats"],
        json!({"min": -2.0, "max": 4.0, "mean": 0.5, "std": std, "zeros": 2, "nan": 1, "inf": 2})
    );
    assert!(run(&format!("ls --json {STATE}")).exits(0).json()["tensors"][0].get("stats").is_none());
}

/// The digests themselves are compared with torch's in tests/conformance.rs.
#[test]
fn hash() {
    let got = run(&format!("ls --json --hash {STATE}")).exits(0).json();
    let digest = "0057aef4fe5ef616b042e0b2499380693a5dd10cce41444305b7a28e75980d69";
    assert_eq!(got["tensors"][0]["sha256"], digest);
    assert!(run(&format!("ls --hash {STATE}")).exits(0).text().contains(digest));
    assert!(run(&format!("ls --json {STATE}")).exits(0).json()["tensors"][0].get("sha256").is_none());
    // listed and marked, and the exit status says that it could not be hashed
    let file = "hostile/tensor_outside_storage.pt";
    assert!(run(&format!("ls --json {file}")).exits(0).json()["tensors"][0]["problem"].is_string());
    let hashed = run(&format!("ls --json --hash {file}")).exits(2);
    assert_eq!(hashed.json()["tensors"][0]["sha256"], Value::Null);
    assert!(hashed.stderr.starts_with(&format!("ckpt: {file}: w: ")), "{}", hashed.stderr);
}

#[test]
fn root() {
    let whole = run(&format!("ls --json {CHECKPOINT}")).exits(0).json();
    let below = run(&format!("ls --json --root model_state_dict {CHECKPOINT}")).exits(0).json();
    assert_eq!(names_of(&below["tensors"]), oracle_names(STATE));
    assert_eq!((&below["values"], &below["root_type"]), (&json!([]), &json!("OrderedDict")));
    assert_eq!(below["totals"]["tensors"], 13);
    let groups = run(&format!("ls --json --root optimizer_state_dict.param_groups.0 {CHECKPOINT}")).exits(0).json();
    assert_eq!(groups["values"][0]["name"], "lr");
    assert_eq!(run(&format!("ls --json --root . {CHECKPOINT}")).exits(0).json(), whole);
    let module = run(&format!("ls --json --root features.1 {MODULE}")).exits(0);
    assert_eq!(module.tensor_names(), ["weight", "bias", "running_mean", "running_var", "num_batches_tracked"]);
    assert_eq!(module.json()["root_type"], "BatchNorm2d");
    let one = run(&format!("ls --json --root model_state_dict.steps {CHECKPOINT}")).exits(0).json();
    assert_eq!((&one["tensors"][0]["name"], &one["tensors"][0]["path"]), (&json!(""), &json!([])));

    let missing = run(&format!("ls --root model {CHECKPOINT}")).exits(2);
    assert!(missing.stderr.starts_with(&format!("ckpt: {CHECKPOINT}: ")) && missing.stderr.contains("model"));
    assert!(missing.stdout.is_empty());
}

#[test]
fn an_ambiguous_root_shows_both_paths() {
    // {"a": {"b": {"x": 1}}, "a.b": {"x": 2}}
    let pickle = b"\x80\x02}(X\x01\0\0\0a}X\x01\0\0\0b}X\x01\0\0\0xK\x01ssX\x03\0\0\0a.b}X\x01\0\0\0xK\x02su.";
    assert_eq!(names_of(&ls_of(pickle, "--json").exits(0).json()["values"]), ["a.b.x", "a.b.x"]);
    let run = ls_of(pickle, "--root a.b").exits(2);
    assert!(run.stderr.contains(r#"["a", "b"]"#) && run.stderr.contains(r#"["a.b"]"#), "{}", run.stderr);
    assert!(run.stdout.is_empty());
}

#[test]
fn include_and_exclude() {
    let names = |options: &str| run(&format!("ls --names {options} {CHECKPOINT}")).exits(0).text().to_owned();
    let all = oracle_names(CHECKPOINT);
    let lines = |names: Vec<&String>| names.iter().map(|name| format!("{name}\n")).collect::<String>();
    let weights: Vec<&String> = all.iter().filter(|name| name.ends_with(".weight")).collect();
    assert_eq!(weights.len(), 5);
    assert_eq!(names("--include *.weight"), lines(weights), "* crosses dots");
    assert_eq!(names("--include epoch --include *.steps"), "model_state_dict.steps\nepoch\n");
    let kept = all.iter().filter(|name| !name.ends_with(".weight") && !name.starts_with("optimizer")).collect();
    assert_eq!(names("--tensors --exclude *.weight --exclude optimizer*"), lines(kept));
    assert_eq!(
        names("--include *.bias --exclude *classifier*"),
        "model_state_dict.features.0.bias\nmodel_state_dict.features.1.bias\n"
    );
    assert_eq!(names("--include *.?.bias --include *.[02].bias --exclude *features*").lines().count(), 2);
    // relative to the root
    assert_eq!(names("--root model_state_dict --include features.0.*"), "features.0.weight\nfeatures.0.bias\n");
    let totals = &run(&format!("ls --json --include epoch {CHECKPOINT}")).exits(0).json()["totals"];
    assert_eq!(totals["tensors"], 0);
    assert!(run(&format!("ls --include a[ {CHECKPOINT}")).exits(2).stderr.contains("a["));
}

#[test]
fn a_name_that_looks_like_a_glob_is_meant_exactly() {
    // {"w[0]": 1, "w0": 2, "x": 3}
    let pickle = b"\x80\x02}(X\x04\0\0\0w[0]K\x01X\x02\0\0\0w0K\x02X\x01\0\0\0xK\x03u.";
    assert_eq!(ls_of(pickle, "--names --include w[0]").exits(0).text(), "w[0]\n");
    assert_eq!(ls_of(pickle, "--names --exclude w[0]").exits(0).text(), "w0\nx\n");
    assert_eq!(ls_of(pickle, "--names --include w?").exits(0).text(), "w0\n");
}

#[test]
fn recursive() {
    let dir = tempfile::tempdir().unwrap();
    let copy = |from: &str, to: &str| {
        let to = dir.path().join(to);
        std::fs::create_dir_all(to.parent().unwrap()).unwrap();
        std::fs::copy(testdata(from), to).unwrap();
    };
    copy(STATE, "b/deep/er/state.anything");
    copy("frameworks/cnn_state.safetensors", "a.safetensors");
    copy("README.md", "b/README.md");
    copy("generate.py", "b/generate.py");
    std::fs::create_dir(dir.path().join("empty")).unwrap();
    let ls = |options: &[&str]| run_with(ckpt().arg("ls").args(options).arg(dir.path()), b"");
    let listed = ls(&["-R", "--json"]).exits(0);
    let files: Vec<Value> =
        listed.lines().iter().map(|line| serde_json::from_str::<Value>(line).unwrap()["file"].clone()).collect();
    let path = |name: &str| Value::from(dir.path().join(name).to_string_lossy());
    assert_eq!(files, [path("a.safetensors"), path("b/deep/er/state.anything")]);
    assert_eq!(listed.stderr, "", "what is no checkpoint is passed over");
    ls(&["--recursive", "--names"]).exits(0);
    assert!(ls(&[]).exits(2).stderr.contains("directory"));
    let nothing = run_with(ckpt().args(["ls", "-R"]).arg(dir.path().join("empty")), b"").exits(2);
    assert!(nothing.stderr.contains("no checkpoint") && nothing.stdout.is_empty());
    // a broken checkpoint is no other file
    copy("hostile/truncated_zip.pt", "c.pt");
    let broken = ls(&["-R", "--json"]).exits(2);
    assert_eq!((broken.lines().len(), broken.stderr.lines().count()), (3, 1));
    assert!(broken.stderr.contains("c.pt"));
}

#[test]
fn several_inputs() {
    let run = run(&format!("ls --json {STATE} missing.pt hostile/text.pt tar/one_layer_state.tar")).exits(2);
    let files: Vec<Value> =
        run.lines().iter().map(|line| serde_json::from_str::<Value>(line).unwrap()["file"].clone()).collect();
    assert_eq!(files, [STATE, "missing.pt", "hostile/text.pt", "tar/one_layer_state.tar"]);
    let said: Vec<&str> = run.stderr.lines().collect();
    assert_eq!(said.len(), 2);
    assert!(said[0].starts_with("ckpt: missing.pt: ") && said[1].starts_with("ckpt: hostile/text.pt: "), "{said:?}");
}

#[test]
fn standard_input() {
    for (file, container, compression) in [
        (STATE, "zip", Value::Null),
        ("torch-2.15-py311/cnn_state.legacy.pt", "legacy", Value::Null),
        ("torch-2.15-py311/numpy_gzip.pkl.gz", "pickle", json!("gzip")),
        ("more/joblib.pkl.xz", "pickle", json!("xz")),
        ("frameworks/cnn_state.safetensors", "safetensors", Value::Null),
    ] {
        let bytes = std::fs::read(testdata(file)).unwrap();
        let mut got = ls_of(&bytes, "--json --hash").exits(0).json();
        assert_eq!(
            (&got["file"], &got["container"], &got["compression"]),
            (&json!("-"), &json!(container), &compression)
        );
        assert_eq!(got["bytes"], bytes.len(), "{file}");
        got["file"] = json!(file);
        assert_eq!(got, run(&format!("ls --json --hash {file}")).exits(0).json());
    }
    assert!(ls_of(b"", "").exits(2).stderr.starts_with("ckpt: -: "));
}

#[test]
fn format() {
    let table = run(&format!("ls {STATE}")).exits(0);
    let json = run(&format!("ls --json {STATE}")).exits(0);
    assert_ne!(table.stdout, json.stdout);
    assert_eq!(run(&format!("ls --format json {STATE}")).exits(0).stdout, json.stdout);
    assert_eq!(run(&format!("ls --format table {STATE}")).exits(0).stdout, table.stdout);
    run(&format!("ls --format yaml {STATE}")).exits(2);
}

#[test]
fn color() {
    let plain = run(&format!("ls {STATE}")).exits(0);
    assert!(!plain.text().contains('\x1b'), "a pipe gets no colour");
    assert_eq!(run(&format!("ls --color auto {STATE}")).exits(0).stdout, plain.stdout);
    assert_eq!(run(&format!("ls --color never {STATE}")).exits(0).stdout, plain.stdout);
    assert!(run(&format!("ls --color always {STATE}")).exits(0).text().contains("\x1b["));
    run(&format!("ls --color sometimes {STATE}")).exits(2);
}

#[cfg(target_os = "linux")]
#[test]
fn color_at_a_terminal() {
    let words = format!("ls {STATE}");
    assert!(at_a_terminal(100, &words, None).contains("\x1b["));
    assert!(!at_a_terminal(100, &words, Some("1")).contains('\x1b'));
    assert!(at_a_terminal(100, &words, Some("")).contains("\x1b["), "an empty NO_COLOR is none");
    assert!(!at_a_terminal(100, &format!("{words} --color never"), None).contains('\x1b'));
    assert!(at_a_terminal(100, &format!("{words} --color always"), Some("1")).contains("\x1b["), "the option wins");
}

#[test]
fn quiet() {
    let file = "hostile/pickle_garbage_after.pkl";
    let noted = run(&format!("ls {file}")).exits(0);
    assert_eq!(noted.stderr, format!("ckpt: {file}: 9 bytes after the pickle (byte 14) are no pickle\n"));
    for option in ["-q", "--quiet"] {
        let quiet = run(&format!("ls {option} {file}")).exits(0);
        assert_eq!((quiet.stderr.as_str(), &quiet.stdout), ("", &noted.stdout));
    }
    assert_ne!(run("ls -q missing.pt").exits(2).stderr, "", "errors are no notes");
}

/// A limit refuses what goes beyond it, says which option raises it, and that option does.
#[test]
fn limits() {
    let refused = |run: crate::driver::Run, option: &str| {
        let run = run.exits(2);
        assert!(run.stdout.is_empty() && run.stderr.contains(option), "{option}: {}", run.stderr);
    };
    refused(run(&format!("ls --max-entries 10 {CHECKPOINT}")), "--max-entries");
    run(&format!("ls --max-entries 1000 {CHECKPOINT}")).exits(0);

    refused(run(&format!("ls --max-depth 1 {CHECKPOINT}")), "--max-depth");
    let mut deep = b"\x80\x02".to_vec();
    deep.extend([b']'; 1500]);
    deep.extend([b'a'; 1499]);
    deep.push(b'.');
    refused(ls_of(&deep, ""), "--max-depth");
    ls_of(&deep, "--max-depth 2000").exits(0);

    // 100,000 lists in a few hundred bytes, each counted while it waits on the stack too
    let mut many = b"\x80\x02(".to_vec();
    many.extend(vec![b']'; 100_000]);
    many.extend(b"l.");
    let many = zipped(&many);
    refused(ls_of(&many, "--max-objects 50000"), "--max-objects");
    ls_of(&many, "--names --max-objects 250000").exits(0);

    let gzip = "torch-2.15-py311/numpy_gzip.pkl.gz";
    refused(run(&format!("ls --max-expanded-bytes 100 {gzip}")), "--max-expanded-bytes");
    run(&format!("ls --max-expanded-bytes 100000 {gzip}")).exits(0);
    refused(ls_of(&std::fs::read(testdata(STATE)).unwrap(), "--max-expanded-bytes 100"), "--max-expanded-bytes");

    // 100 elements, all of them the one of a storage: 400 bytes out of 4
    let expanded = zipped(
        b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n((X\x07\0\0\0storagectorch\nFloatStorage\nX\x01\0\0\0\x30X\x03\0\0\0cpuK\x01tQ\
          K\0Kd\x85K\0\x85\x89ccollections\nOrderedDict\n)RtR.",
    );
    assert_eq!(ls_of(&expanded, "--json --hash").exits(0).json()["tensors"][0]["shape"], json!([100]));
    for option in ["--hash", "--stats"] {
        let run = ls_of(&expanded, &format!("{option} --json --max-read-bytes 399")).exits(2);
        assert!(run.stderr.contains("--max-read-bytes"), "{}", run.stderr);
        let problem = run.json()["tensors"][0]["problem"].clone();
        assert!(problem.as_str().is_some_and(|why| why.ends_with("--max-read-bytes allows more")), "{problem}");
    }
    ls_of(&expanded, "--hash --max-read-bytes 400").exits(0);
}

#[test]
fn a_closed_pipe_ends_quietly() {
    let mut command = ckpt();
    command.args(["ls", "--json"]).args([CHECKPOINT; 60]);
    assert!(run_with(&mut command, b"").exits(0).stdout.len() > 300_000, "more than a pipe holds");
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::with_capacity(512, child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert!(line.ends_with("}\n"));
    let ended = child.wait_with_output().unwrap();
    assert_eq!((ended.status.code(), String::from_utf8_lossy(&ended.stderr).as_ref()), (Some(0), ""));
}

#[test]
fn usage() {
    for words in
        ["", "ls", "ls --bogus x", "nonsense", "ls --max-entries many x", "ls --names --tree x", "ls --values --hash x"]
    {
        let run = run(words).exits(2);
        assert!(run.stdout.is_empty() && !run.stderr.is_empty(), "{words:?}");
    }
    for words in ["--help", "-h", "ls --help", "ls -h"] {
        let run = run(words).exits(0);
        assert!(run.text().contains("Usage:") && run.stderr.is_empty(), "{words:?}");
    }
    let version = run("--version").exits(0);
    assert_eq!(version.text(), format!("ckpt {}\n", env!("CARGO_PKG_VERSION")));
}

/// Whatever the size, a listing holds no data: files with holes, in less address space than their arrays need.
#[cfg(target_os = "linux")]
#[test]
fn large_files_list_in_little_memory() {
    let dir = tempfile::tempdir().unwrap();
    let with_hole = |name: &str, head: &[u8], hole: u64, tail: &[u8]| -> PathBuf {
        use std::os::unix::fs::FileExt;
        let path = dir.path().join(name);
        let file = std::fs::File::create(&path).unwrap();
        file.write_all_at(head, 0).unwrap();
        file.write_all_at(tail, head.len() as u64 + hole).unwrap();
        file.set_len(head.len() as u64 + hole + tail.len() as u64).unwrap();
        path
    };
    let length = 30u64 << 30;
    let header = format!(r#"{{"t":{{"dtype":"F32","shape":[{}],"data_offsets":[0,{length}]}}}}"#, length / 4);
    let head = [&(header.len() as u64).to_le_bytes(), header.as_bytes()].concat();
    // {"a": bytes of 30 GiB, "b": 1}
    let bytes = [&b"\x80\x04}(\x8c\x01a\x8e"[..], &length.to_le_bytes()].concat();
    for (file, listed) in [
        (with_hole("large.safetensors", &head, length, b""), "30.0 GiB"),
        (with_hole("large.pkl", &bytes, length, b"\x8c\x01bK\x01u."), "b     int"),
    ] {
        let mut command = std::process::Command::new("sh");
        // 1 GB of address space: threads and their allocators reserve much that they never touch
        command.args(["-c", "ulimit -v 1000000 && exec \"$0\" ls \"$1\"", env!("CARGO_BIN_EXE_ckpt")]).arg(&file);
        let run = run_with(&mut command, b"").exits(0);
        assert!(run.text().contains(listed), "{}", run.text());
    }
}
