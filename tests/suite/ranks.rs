//! Checkpoints that several processes saved, a file each: what torch says of whole ones, and what is refused.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)] // helpers of tests are tests

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;
use tempfile::TempDir;

fn testdata(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/ranks").join(name)
}

fn ckpt(args: &[&str], path: &Path) -> Output {
    let (command, args) = args.split_first().unwrap();
    crate::driver::schemas::output(Command::new(env!("CARGO_BIN_EXE_ckpt")).arg(command).arg(path).args(args))
}

fn said(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

fn json(args: &[&str], path: &Path) -> Value {
    let output = ckpt(&[&["ls", "--json"], args].concat(), path);
    assert_eq!(output.status.code(), Some(0), "{path:?}: {}", said(&output));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Name to dtype, shape, sha256.
fn tensors(doc: &Value) -> BTreeMap<String, (Value, Value, Value)> {
    let rows = doc["tensors"].as_array().unwrap().iter();
    let row = |row: &Value| (row["dtype"].clone(), row["shape"].clone(), row["sha256"].clone());
    rows.map(|found| (found["name"].as_str().unwrap().to_owned(), row(found))).collect()
}

fn oracle(name: &str) -> BTreeMap<String, (Value, Value, Value)> {
    let doc: Value = serde_json::from_slice(&fs::read(testdata(&format!("{name}.whole.json"))).unwrap()).unwrap();
    let row = |row: &Value| (row["dtype"].clone(), row["shape"].clone(), row["sha256"].clone());
    doc["tensors"].as_object().unwrap().iter().map(|(name, found)| (name.clone(), row(found))).collect()
}

fn copied(name: &str) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    copy(&testdata(name), dir.path());
    dir
}

fn copy(from: &Path, to: &Path) {
    for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            fs::create_dir(&target).unwrap();
            copy(&entry.path(), &target);
        } else {
            fs::write(target, fs::read(entry.path()).unwrap()).unwrap();
        }
    }
}

/// The one line on standard error of an input that is refused.
fn refusal(path: &Path) -> String {
    let output = ckpt(&["ls"], path);
    let text = said(&output);
    assert_eq!((output.status.code(), output.stdout.len()), (Some(2), 0), "{path:?}: {text}");
    assert_eq!(text.lines().count(), 1, "{text}");
    text
}

const MESHES: &[&str] =
    &["fsdp2", "hsdp", "fsdp_tp", "older", "placements", "fsdp1_sharded", "fsdp1_local", "fsdp1_mesh"];

const TENSOR_PARALLEL: &[(&str, &str)] = &[
    ("llama2", "ranks"),
    ("llama3", "ranks"),
    ("llama_grouped", "ranks"),
    ("megatron_tp", "megatron"),
    ("megatron_gated", "megatron"),
    ("megatron_virtual", "megatron"),
];

#[test]
fn what_torch_says() {
    for name in MESHES {
        let doc = json(&["--hash"], &testdata(name));
        assert_eq!(doc["container"], "ranks", "{name}");
        assert_eq!(tensors(&doc), oracle(name), "{name}");
    }
}

/// FSDP's ShardedTensor is pickled with a class inside of it.
#[test]
fn what_ranks_save_is_safe_and_sound() {
    for name in MESHES.iter().chain(TENSOR_PARALLEL.iter().map(|(name, _)| name)) {
        let output = ckpt(&["check"], &testdata(name));
        assert_eq!(output.status.code(), Some(0), "{name}: {}", String::from_utf8_lossy(&output.stdout));
        let output = ckpt(&["ls"], &testdata(name));
        assert!(!said(&output).contains("dangerous"), "{name}: {}", said(&output));
    }
}

#[test]
fn what_one_process_has() {
    for (name, container) in TENSOR_PARALLEL {
        let doc = json(&["--hash"], &testdata(name));
        assert_eq!(doc["container"], *container, "{name}");
        assert_eq!(tensors(&doc), oracle(name), "{name}");
    }
    // the iteration itself is the same checkpoint
    let doc = json(&["--hash"], &testdata("megatron_gated/iter_0000100"));
    assert_eq!(tensors(&doc), oracle("megatron_gated"));
}

#[test]
fn a_converted_directory_is_one_file() {
    for name in MESHES {
        let dir = tempfile::tempdir().unwrap();
        for file in ["out.pt", "out.safetensors"] {
            let out = dir.path().join(file);
            let args = ["convert", "-o", out.to_str().unwrap()];
            let output = ckpt(&args, &testdata(name));
            assert_eq!(output.status.code(), Some(0), "{name}: {}", said(&output));
            let found = tensors(&json(&["--hash"], &out));
            let strip =
                |name: &String| name.strip_prefix("model.").filter(|_| file.ends_with('s')).unwrap_or(name).to_owned();
            let wanted: BTreeMap<_, _> = oracle(name).iter().map(|(name, row)| (strip(name), row.clone())).collect();
            assert_eq!(found, wanted, "{name} as {file}");
        }
    }
}

#[test]
fn what_the_ranks_tied_stays_tied() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("out.pt");
    let output = ckpt(&["convert", "-o", out.to_str().unwrap()], &testdata("fsdp2"));
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    let doc = json(&[], &out);
    let row = doc["tensors"].as_array().unwrap().iter().find(|row| row["name"] == "head.weight").unwrap();
    assert_eq!(row["shares_with"], serde_json::json!(["embed.weight"]));
}

#[test]
fn files_beside_the_model_have_a_name() {
    let output = ckpt(&["ls"], &testdata("fsdp2"));
    let text = said(&output);
    assert!(
        text.contains("optim_world_size_4_rank_*.pt") && text.contains("extra_state_world_size_4_rank_*.pt"),
        "{text}"
    );
    let optim = testdata("fsdp2").join("optim_world_size_4_rank_*.pt");
    assert_eq!(tensors(&json(&["--hash"], &optim)), oracle("fsdp2_optim"));
    // every rank has its own random numbers: they are listed, and never taken for one
    let extra = testdata("fsdp2").join("extra_state_world_size_4_rank_*.pt");
    assert_eq!(json(&[], &extra)["tensors"][0]["name"], "rng.cpu");
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("out.pt");
    let output = ckpt(&["convert", "-o", out.to_str().unwrap()], &extra);
    assert!(output.status.code() == Some(2) && !out.exists());
    let text = said(&output);
    assert!(
        text.contains("rng.cpu") && text.contains("rank_0.pt and extra_state_world_size_4_rank_1.pt should"),
        "{text}"
    );
    // one of the files is one of the files
    assert_eq!(json(&[], &testdata("fsdp2").join("model_world_size_4_rank_0.pt"))["container"], "zip");
    let none = refusal(&testdata("fsdp2").join("nothing_rank_*.pt"));
    assert!(none.contains("No such file"), "{none}");
}

#[test]
fn sums_are_refused_by_name() {
    let output = ckpt(&["convert", "-o", "/dev/null/x.pt"], &testdata("partial"));
    assert_eq!(output.status.code(), Some(2));
    let doc = json(&[], &testdata("partial"));
    let problem = doc["tensors"][0]["problem"].as_str().unwrap();
    assert!(problem.contains("Partial") && problem.contains("sum"), "{problem}");
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("out.pt");
    let output = ckpt(&["convert", "-o", out.to_str().unwrap()], &testdata("partial"));
    let text = said(&output);
    assert!(output.status.code() == Some(2) && !out.exists() && text.contains("Partial"), "{text}");
    let output = ckpt(&["convert", "--drop", "sum", "-o", out.to_str().unwrap()], &testdata("partial"));
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
}

#[test]
fn a_rank_is_missing() {
    let dir = copied("hsdp");
    fs::remove_file(dir.path().join("model_world_size_4_rank_2.pt")).unwrap();
    let text = refusal(dir.path());
    assert!(text.contains("a rank is missing: model_world_size_4_rank_2.pt"), "{text}");
    // names that do not say how many there were
    let dir = tempfile::tempdir().unwrap();
    for rank in [0, 1, 2] {
        let from = testdata("placements").join(format!("model_world_size_4_rank_{rank}.pt"));
        fs::copy(from, dir.path().join(format!("a_rank{rank}.pt"))).unwrap();
    }
    let problem = json(&[], dir.path())["tensors"][0]["problem"].as_str().unwrap().to_owned();
    assert!(problem.contains("its chunks hold"), "{problem}");
    fs::rename(dir.path().join("a_rank1.pt"), dir.path().join("a_rank3.pt")).unwrap();
    assert!(refusal(dir.path()).contains("a rank is missing: a_rank1.pt"));
}

#[test]
fn ranks_of_other_worlds() {
    let dir = copied("hsdp");
    fs::copy(
        testdata("fsdp1_mesh").join("model_world_size_2_rank_0.pt"),
        dir.path().join("model_world_size_2_rank_0.pt"),
    )
    .unwrap();
    let text = refusal(dir.path());
    assert!(text.contains("different world sizes") && text.contains("model_world_size_2_rank_*.pt"), "{text}");
    // a file of another world under this one's name
    let dir = copied("fsdp1_mesh");
    let other = testdata("hsdp").join("model_world_size_4_rank_1.pt");
    fs::copy(other, dir.path().join("model_world_size_2_rank_1.pt")).unwrap();
    let doc = json(&[], dir.path());
    let problem = doc["tensors"][0]["problem"].as_str().unwrap();
    assert!(problem.contains("on a mesh of [2] in") && problem.contains("of [2, 2] in"), "{problem}");
    let out = dir.path().join("out.pt");
    let output = ckpt(&["convert", "-o", out.to_str().unwrap()], dir.path());
    assert!(output.status.code() == Some(2) && !out.exists());
}

#[test]
fn files_that_changed_places() {
    let dir = copied("fsdp2");
    let name = |rank: u32| dir.path().join(format!("model_world_size_4_rank_{rank}.pt"));
    fs::copy(name(1), name(2)).unwrap();
    let text = refusal(dir.path());
    assert!(text.contains("rank_2.pt was saved as model_world_size_4_rank_1.pt"), "{text}");
    // without a name in the archive, by what the tensors say
    let text = fs::read(name(1)).unwrap();
    let mut bytes = text.clone();
    let (old, new) = (b"model_world_size_4_rank_1", b"model_world_size_4_rank_9");
    let places: Vec<usize> = (0..bytes.len()).filter(|at| bytes[*at..].starts_with(old)).collect();
    places.iter().for_each(|at| bytes[*at..*at + new.len()].copy_from_slice(new));
    fs::write(name(2), bytes).unwrap();
    let text = refusal(dir.path());
    assert!(text.contains("model_world_size_4_rank_2.pt holds what rank 1 saved"), "{text}");
}

/// Files without placements say little of whose they are.
#[test]
fn tensor_parallel_files_that_changed_places() {
    let dir = copied("llama2");
    fs::copy(dir.path().join("consolidated.00.pth"), dir.path().join("consolidated.01.pth")).unwrap();
    let text = refusal(dir.path());
    assert!(text.contains("consolidated.01.pth was saved as consolidated.00.pth"), "{text}");
    for (name, first, second) in
        [("megatron_tp", "mp_rank_00", "mp_rank_01"), ("megatron_gated", "mp_rank_00_000", "mp_rank_00_001")]
    {
        let dir = copied(name);
        let file = |rank: &str| dir.path().join(format!("iter_0000100/{rank}/model_optim_rng.pt"));
        let (a, b) = (fs::read(file(first)).unwrap(), fs::read(file(second)).unwrap());
        fs::write(file(first), &b).unwrap();
        let text = refusal(dir.path());
        assert!(text.contains("is a copy of"), "{name}: {text}");
        fs::write(file(second), &a).unwrap();
        let text = refusal(dir.path());
        assert!(text.contains("files of ranks have changed places"), "{name}: {text}");
    }
}

#[test]
fn a_file_that_is_cut_off() {
    let dir = copied("fsdp_tp");
    let path = dir.path().join("model_world_size_4_rank_3.pt");
    let bytes = fs::read(&path).unwrap();
    fs::write(&path, &bytes[..bytes.len() / 2]).unwrap();
    let text = refusal(dir.path());
    assert!(text.contains("model_world_size_4_rank_3.pt:"), "{text}");
    let output = ckpt(&["check"], dir.path());
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
}

#[test]
fn ranks_with_other_names() {
    let dir = copied("fsdp1_mesh");
    let path = dir.path().join("model_world_size_2_rank_1.pt");
    let renamed = dir.path().join("renamed");
    let output = ckpt(&["rename", "--regex", "s/^up/away/", "-o", renamed.to_str().unwrap()], &path);
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    fs::rename(renamed, path).unwrap();
    let text = refusal(dir.path());
    assert!(
        text.contains("rank_1.pt does not hold what model_world_size_2_rank_0.pt does: up.weight, up.bias"),
        "{text}"
    );
}

/// What `ckpt` says of the directory, and what it writes of it, which must be nothing.
fn no_conversion(args: &[&str], path: &Path) -> String {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("out.safetensors");
    let output = ckpt(&[&["convert", "-o", out.to_str().unwrap()], args].concat(), path);
    assert!(output.status.code() == Some(2) && !out.exists(), "{path:?}: {}", said(&output));
    said(&output)
}

/// One file of a directory, changed by a command that writes another.
fn changed(dir: &Path, file: &str, args: &[&str]) {
    let (path, new) = (dir.join(file), dir.join("new"));
    let output = ckpt(&[args, &["-o", new.to_str().unwrap()]].concat(), &path);
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    fs::rename(new, path).unwrap();
}

#[test]
fn rules_of_whoever_opens_it() {
    let dir = copied("llama3");
    let rules = dir.path().join("rules");
    // another name that no table knows
    for rank in 0..4 {
        changed(dir.path(), &format!("consolidated.0{rank}.pth"), &["rename", "--regex", "s/feed_forward.w1/mlp.x/"]);
    }
    let text = no_conversion(&[], dir.path());
    assert!(text.contains("layers.0.mlp.x.weight") && text.contains("should hold the same and do not"), "{text}");
    fs::write(&rules, "# ours\n*.mlp.x.weight 0\n").unwrap();
    let found = tensors(&json(&["--hash", "--tp-rule", rules.to_str().unwrap()], dir.path()));
    let wanted: Vec<_> = oracle("llama3").into_values().map(|row| row.2.to_string()).collect();
    let mut found: Vec<_> = found.into_values().map(|row| row.2.to_string()).collect();
    let mut wanted: Vec<_> = wanted;
    found.sort();
    wanted.sort();
    assert_eq!(found, wanted);
    // a rule comes before the table
    fs::write(&rules, r#"{"*.mlp.x.weight": 0, "*.wo.weight": "replicate", "none": 1}"#).unwrap();
    let text = no_conversion(&["--tp-rule", rules.to_str().unwrap()], dir.path());
    assert!(text.contains("attention.wo.weight") && text.contains("should hold the same"), "{text}");
    let output = ckpt(&["ls", "--tp-rule", rules.to_str().unwrap()], dir.path());
    assert!(said(&output).contains("rules that match no tensor: none"), "{}", said(&output));
    fs::write(&rules, "nothing 0").unwrap();
    let text = no_conversion(&["--tp-rule", rules.to_str().unwrap()], dir.path());
    assert!(text.contains("--tp-rule holds no rule that matches"), "{text}");
    for (rule, why) in [("*.wq.weight 5", "no dimension 5"), ("*.wq.weight 0/3", "not 3 blocks")] {
        fs::write(&rules, rule).unwrap();
        let output = ckpt(&["ls", "--json", "--tp-rule", rules.to_str().unwrap()], dir.path());
        let doc: Value = serde_json::from_slice(&output.stdout).unwrap();
        let problems: Vec<&str> =
            doc["tensors"].as_array().unwrap().iter().filter_map(|row| row["problem"].as_str()).collect();
        assert!(problems.iter().any(|problem| problem.contains(why)), "{problems:?}");
    }
    fs::write(&rules, "*.wq.weight first").unwrap();
    let output = ckpt(&["ls", "--tp-rule", rules.to_str().unwrap()], dir.path());
    let text = said(&output);
    assert!(output.status.code() == Some(2) && text.contains("line 1") && text.contains("replicate"), "{text}");
}

#[test]
fn a_gated_matrix_is_not_one_after_the_other() {
    let dir = tempfile::tempdir().unwrap();
    let rules = dir.path().join("rules");
    fs::write(&rules, "*.mlp.linear_fc1.weight 0").unwrap();
    let found = tensors(&json(&["--hash", "--tp-rule", rules.to_str().unwrap()], &testdata("megatron_gated")));
    let wanted = oracle("megatron_gated");
    let other: Vec<&String> = wanted.keys().filter(|name| wanted[*name] != found[*name]).collect();
    assert_eq!(other.len(), 4, "{other:?}");
    assert!(other.iter().all(|name| name.ends_with("mlp.linear_fc1.weight")), "{other:?}");
}

#[test]
fn llamas_that_are_not_whole() {
    let dir = copied("llama3");
    fs::remove_file(dir.path().join("consolidated.03.pth")).unwrap();
    let text = refusal(dir.path());
    assert!(text.contains("3 ranks with 2 rows each of layers.0.attention.wq.weight, which should have 8"), "{text}");
    fs::remove_file(dir.path().join("consolidated.01.pth")).unwrap();
    assert!(refusal(dir.path()).contains("a rank is missing: consolidated.01.pth"));
    // every rank has the whole: nothing is put one after the other
    let dir = tempfile::tempdir().unwrap();
    let one = tempfile::tempdir().unwrap();
    let whole = one.path().join("whole.pth");
    let output = ckpt(&["convert", "-o", whole.to_str().unwrap()], &testdata("llama2"));
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    for rank in [0, 1] {
        fs::copy(&whole, dir.path().join(format!("consolidated.0{rank}.pth"))).unwrap();
    }
    assert_eq!(tensors(&json(&["--hash"], dir.path())), oracle("llama2"));
    // heads of keys and values that no params.json counts
    let dir = copied("llama_grouped");
    fs::remove_file(dir.path().join("params.json")).unwrap();
    assert!(no_conversion(&[], dir.path()).contains("no params.json says how many heads"));
    let params = r#"{"dim": 8, "n_heads": 4, "n_kv_heads": 1}"#;
    fs::write(dir.path().join("params.json"), params).unwrap();
    assert!(no_conversion(&[], dir.path()).contains("ranks that share a head are not put together"));
}

#[test]
fn megatrons_that_are_not_whole() {
    let file = |rank: &str| format!("iter_0000100/{rank}/model_optim_rng.pt");
    let dir = copied("megatron_gated");
    fs::remove_dir_all(dir.path().join("iter_0000100/mp_rank_00_001")).unwrap();
    assert!(refusal(dir.path()).contains("a rank is missing: mp_rank_00_001"));
    fs::remove_dir_all(dir.path().join("iter_0000100/mp_rank_01_001")).unwrap();
    let text = refusal(dir.path());
    assert!(text.contains("is of 2 pipeline-parallel ranks, and 1 are here"), "{text}");

    let dir = copied("megatron_tp");
    changed(dir.path(), &file("mp_rank_01"), &["edit", "--set", "iteration=200"]);
    let text = refusal(dir.path());
    assert!(
        text.contains("mp_rank_01/model_optim_rng.pt is of iteration 200 and mp_rank_00/model_optim_rng.pt of 100"),
        "{text}"
    );

    let dir = copied("megatron_tp");
    changed(
        dir.path(),
        &file("mp_rank_01"),
        &["convert", "--to", "torch", "--drop", "model.decoder.layers.1.mlp.linear_fc1.bias"],
    );
    let text = refusal(dir.path());
    assert!(
        text.contains("mp_rank_01/model_optim_rng.pt does not hold what")
            && text.contains("layers.1.mlp.linear_fc1.bias"),
        "{text}"
    );

    let dir = copied("megatron_virtual");
    fs::write(dir.path().join("latest_checkpointed_iteration.txt"), "200\n").unwrap();
    assert!(refusal(dir.path()).contains("names iter_0000200, which is missing"));
    fs::write(dir.path().join("latest_checkpointed_iteration.txt"), "soon").unwrap();
    assert!(refusal(dir.path()).contains("names no iteration"));
    fs::remove_file(dir.path().join("latest_checkpointed_iteration.txt")).unwrap();
    assert_eq!(json(&[], &dir.path().join("iter_0000100"))["container"], "megatron");
    fs::rename(dir.path().join("iter_0000100/mp_rank_00_001"), dir.path().join("iter_0000100/mp_rank_00_001_000"))
        .unwrap();
    assert!(refusal(&dir.path().join("iter_0000100")).contains("expert parallelism"));

    let dir = copied("megatron_gated");
    let path = dir.path().join(file("mp_rank_01_001"));
    let bytes = fs::read(&path).unwrap();
    fs::write(&path, &bytes[..bytes.len() - 100]).unwrap();
    assert!(refusal(dir.path()).contains("mp_rank_01_001/model_optim_rng.pt"));
}

#[test]
fn what_must_be_the_same_is_not() {
    let dir = copied("megatron_tp");
    let file = dir.path().join("iter_0000100/mp_rank_01/model_optim_rng.pt");
    let other = dir.path().join("one.npy");
    let name = "model.decoder.final_layernorm.weight";
    let output =
        ckpt(&["extract", "model.decoder.layers.0.input_layernorm.bias", "-o", other.to_str().unwrap()], &file);
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    changed(
        dir.path(),
        "iter_0000100/mp_rank_01/model_optim_rng.pt",
        &["edit", "--set-tensor", &format!("{name}={}", other.display())],
    );
    let text = no_conversion(&[], dir.path());
    assert!(text.matches(name).count() == 1 && text.contains("should hold the same and do not"), "{text}");
    // each command names the tensor, once
    let original = testdata("megatron_tp");
    for args in [&["ls", "--hash"][..], &["digest"], &["diff", original.to_str().unwrap()]] {
        let text = said(&ckpt(args, dir.path()));
        let line = text.lines().find(|line| line.contains("should hold the same")).unwrap_or_default();
        assert_eq!(line.matches(name).count(), 1, "{args:?}: {text}");
    }
    // a listing reads no data, and says nothing of it
    assert_eq!(json(&[], dir.path())["container"], "megatron");
    let output = ckpt(&["ls", "--hash"], dir.path());
    assert!(output.status.code() == Some(2) && said(&output).contains(name), "{}", said(&output));
}

#[test]
fn below_a_directory_each_is_found_once() {
    let output = ckpt(&["ls", "-R", "--json"], &testdata(""));
    let text = String::from_utf8(output.stdout).unwrap();
    let docs: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let containers: Vec<&str> = docs.iter().map(|doc| doc["container"].as_str().unwrap()).collect();
    assert_eq!(containers.iter().filter(|container| **container == "megatron").count(), 3);
    assert!(containers.iter().all(|container| ["ranks", "megatron"].contains(container)), "{containers:?}");
    assert!(docs.iter().any(|doc| doc["file"].as_str().unwrap().ends_with("optim_world_size_4_rank_*.pt")));
}

#[test]
fn checks_look_into_every_file() {
    for name in ["fsdp2", "megatron_gated", "llama3"] {
        let output = ckpt(&["check", "--json"], &testdata(name));
        let doc: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(doc["verdict"], "ok", "{name}: {doc}");
    }
    let dir = copied("megatron_gated");
    let path = dir.path().join("iter_0000100/mp_rank_01_001/model_optim_rng.pt");
    let mut bytes = fs::read(&path).unwrap();
    // the data of a member begins at a multiple of 64
    let name = bytes.windows(7).position(|window| window == b"/data/0").unwrap();
    let at = (name + 11).next_multiple_of(64);
    bytes[at] ^= 255;
    fs::write(&path, bytes).unwrap();
    let output = ckpt(&["check"], dir.path());
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.code() == Some(1) && text.contains("mp_rank_01_001"), "{text}");
}
