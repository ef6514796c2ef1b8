//! Checkpoints of DeepSpeed: what its own `zero_to_fp32` makes of real ones, and what to make of damaged ones.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)] // helpers of tests are tests

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::driver::{Dir, ckpt, run_with, testdata};

/// Whose stage 1 leaves out frozen parameters in DeepSpeed's merging: they are in the module alone.
const FROZEN: [&str; 2] = ["second.scale", "second.fc.weight"];

/// Those that are converted: one of each kind.
const CONVERTED: [&str; 4] = ["zero1_fp32", "zero2_bf16", "zero2_fp16", "zero3_without_frozen"];

fn expected() -> BTreeMap<String, Vec<Value>> {
    serde_json::from_slice(&fs::read(testdata("deepspeed/expected.json")).unwrap()).unwrap()
}

fn run(args: &[&str]) -> crate::driver::Run {
    run_with(ckpt().args(args), b"")
}

/// A copy of a checkpoint, and the directory with its files.
fn copied(name: &str) -> (Dir, PathBuf) {
    let dir = Dir::new();
    let to = PathBuf::from(dir.path(name));
    copy(&testdata(&format!("deepspeed/{name}")), &to);
    let files = to.join(fs::read_to_string(to.join("latest")).unwrap());
    (dir, files)
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
        let target = to.join(entry.file_name());
        match entry.path().is_dir() {
            true => copy(&entry.path(), &target),
            false => assert!(fs::copy(entry.path(), target).unwrap() > 0),
        }
    }
}

/// What `ls` says of a directory that is refused, by its one line.
fn refusal(path: &Path) -> String {
    let run = run(&["ls", path.to_str().unwrap()]).exits(2);
    assert_eq!((run.stdout.len(), run.stderr.lines().count()), (0, 1), "{}", run.stderr);
    // whatever else is done with it is refused as well
    let out = path.with_extension("out.safetensors");
    let converted = run_with(ckpt().args(["convert".as_ref(), path.as_os_str(), out.as_os_str()]), b"").exits(2);
    assert!(!out.exists() && converted.stdout.is_empty());
    run.stderr
}

fn facts(row: &Value) -> (&Value, &Value, &Value) {
    (&row["dtype"], &row["shape"], &row["sha256"])
}

#[test]
fn what_zero_to_fp32_says() {
    let all = expected();
    assert!(all.len() >= 11, "{}", all.len());
    for (name, wanted) in all {
        let listed = run(&["ls", "--json", "--hash", &format!("deepspeed/{name}")]).exits(0).json();
        assert_eq!((&listed["container"], &listed["byte_order"]), (&"deepspeed".into(), &"little".into()), "{name}");
        let rows = listed["tensors"].as_array().unwrap();
        let mut found: Vec<&Value> = rows.iter().filter(|row| row["path"][0] == "module").collect();
        assert_eq!(found.len() + usize::from(name == "zero0_fp32"), rows.len(), "{name}");
        if name.starts_with("zero1") {
            let at = found.len() - FROZEN.len();
            let frozen: Vec<&str> = found.split_off(at).iter().map(|row| row["path"][1].as_str().unwrap()).collect();
            assert_eq!(frozen, FROZEN, "{name}");
        }
        let names =
            |rows: &[&Value], key: &dyn Fn(&Value) -> Value| rows.iter().map(|row| key(row)).collect::<Vec<_>>();
        assert_eq!(
            names(&found, &|row| row["path"][1].clone()),
            wanted.iter().map(|row| row["name"].clone()).collect::<Vec<_>>(),
            "{name}"
        );
        for (row, wanted) in found.iter().zip(&wanted) {
            assert_eq!(facts(row), facts(wanted), "{name}: {row}");
            assert_eq!(row["problem"], Value::Null, "{name}: {row}");
        }
        let values: HashMap<&str, &Value> = listed["values"]
            .as_array()
            .unwrap()
            .iter()
            .map(|row| (row["name"].as_str().unwrap(), &row["value"]))
            .collect();
        assert_eq!((values["global_steps"], values["epoch"]), (&2.into(), &3.into()), "{name}");
        assert_eq!(values.contains_key("param_shapes"), name == "zero0_fp32");
    }
}

#[test]
fn the_directory_with_the_files_is_the_same() {
    let (_dir, files) = copied("zero3_bf16");
    let path = files.to_str().unwrap();
    let (whole, inner) = (
        run(&["ls", "--json", "--hash", files.parent().unwrap().to_str().unwrap()]),
        run(&["ls", "--json", "--hash", path]),
    );
    let (whole, inner) = (whole.exits(0).json(), inner.exits(0).json());
    assert_eq!((&whole["tensors"], &whole["values"]), (&inner["tensors"], &inner["values"]));
    assert_eq!(run(&["diff", path, files.parent().unwrap().to_str().unwrap()]).exits(0).status, 0);
}

#[test]
fn converted_it_is_the_weights() {
    for (name, wanted) in expected().into_iter().filter(|(name, _)| CONVERTED.contains(&name.as_str())) {
        let dir = Dir::new();
        for file in ["out.safetensors", "out.npz", "out.pt", "shards"] {
            let out = dir.path(file);
            let input = format!("deepspeed/{name}");
            let mut words = vec!["convert", input.as_str(), out.as_str()];
            match file {
                // numpy has no bfloat16
                "out.npz" if name == "zero2_bf16" => continue,
                "out.safetensors" => words.extend(["--shared", "duplicate"]),
                "shards" => words.extend(["--max-shard-size", "600B", "--to", "safetensors", "--shared", "duplicate"]),
                _ => {}
            }
            let run_ = run(&words).exits(0);
            let read = run(&["ls", "--json", "--hash", &out]).exits(0).json();
            let rows: HashMap<&str, &Value> = read["tensors"]
                .as_array()
                .unwrap()
                .iter()
                .map(|row| (row["path"].as_array().unwrap().last().unwrap().as_str().unwrap(), row))
                .collect();
            for wanted in &wanted {
                let row =
                    rows.get(wanted["name"].as_str().unwrap()).unwrap_or_else(|| panic!("{name} {file} {wanted}"));
                assert_eq!((&row["dtype"], &row["sha256"]), (&wanted["dtype"], &wanted["sha256"]), "{name} {file}");
            }
            if file == "out.pt" {
                // what is tied stays so
                if let Some(tied) = wanted.iter().find(|row| row["is"].is_string()) {
                    let (one, other) = (tied["is"].as_str().unwrap(), tied["name"].as_str().unwrap());
                    assert!(rows[one]["storage"].is_string(), "{name}");
                    assert_eq!(rows[one]["storage"], rows[other]["storage"], "{name}");
                }
                let found = run(&["diff", &input, &out]).exits(0);
                assert!(found.text().contains("equal") || found.text().contains("same"), "{}", found.text());
            } else {
                assert!(run_.stderr.contains("weights: module"), "{}", run_.stderr);
            }
        }
    }
}

/// Puts other bytes where these are, every time; as many.
fn patch(file: &Path, old: &[u8], new: &[u8]) {
    assert_eq!(old.len(), new.len());
    let mut bytes = fs::read(file).unwrap();
    let places: Vec<usize> = (0..bytes.len() - old.len()).filter(|at| bytes[*at..].starts_with(old)).collect();
    assert!(!places.is_empty(), "{old:?} is not in {file:?}");
    places.into_iter().for_each(|at| bytes[at..at + new.len()].copy_from_slice(new));
    fs::write(file, bytes).unwrap();
}

/// The bytes of a pickle from `key` to the end of the number behind it.
fn number_behind(file: &Path, key: &str, value: u8) -> Vec<u8> {
    let bytes = fs::read(file).unwrap();
    let at = (0..bytes.len()).find(|at| bytes[*at..].starts_with(key.as_bytes())).unwrap();
    let end = (at..bytes.len()).find(|end| bytes[at..*end].ends_with(&[b'K', value])).unwrap();
    assert!(end - at < key.len() + 12, "{key}");
    bytes[at..end].to_vec()
}

fn optimizer(files: &Path, rank: usize) -> PathBuf {
    let names = [
        format!("zero_pp_rank_{rank}_mp_rank_00_optim_states.pt"),
        format!("bf16_zero_pp_rank_{rank}_mp_rank_00_optim_states.pt"),
    ];
    names.iter().map(|name| files.join(name)).find(|path| path.exists()).unwrap()
}

#[test]
fn missing_files_are_named() {
    let cases: &[(&str, &str, &[&str])] = &[
        ("zero2_bf16", "bf16_zero_pp_rank_1_mp_rank_00_optim_states.pt", &["rank 1", "missing", "rank_2"]),
        ("zero2_bf16", "bf16_zero_pp_rank_3_mp_rank_00_optim_states.pt", &["4 ranks", "of 3", "missing"]),
        ("zero2_bf16", "mp_rank_00_model_states.pt", &["no *_model_states.pt"]),
        ("zero3_bf16", "zero_pp_rank_0_mp_rank_00_model_states.pt", &["rank 0", "missing"]),
        ("zero3_bf16", "zero_pp_rank_3_mp_rank_00_model_states.pt", &["zero_pp_rank_*_model_states.pt", "4 ranks"]),
        ("zero3_bf16", "bf16_zero_pp_rank_3_mp_rank_00_optim_states.pt", &["4 ranks", "of 3"]),
    ];
    for (name, file, words) in cases {
        let (_dir, files) = copied(name);
        fs::remove_file(files.join(file)).unwrap();
        let said = refusal(&files);
        assert!(words.iter().all(|word| said.contains(word)), "{name} {file}: {said}");
    }
    let (_dir, files) = copied("zero2_bf16");
    (0..4).for_each(|rank| fs::remove_file(optimizer(&files, rank)).unwrap());
    let said = refusal(&files);
    assert!(said.contains("no *_optim_states.pt"), "{said}");
}

#[test]
fn ranks_that_disagree_are_named() {
    // of another stage, of another number of ranks, of another rank
    let cases: &[(&str, usize, &str, usize, &[&str])] = &[
        ("zero2_fp16", 1, "zero1_fp32", 1, &["rank_1", "ZeRO stage 1", "of 2"]),
        ("zero2_bf16", 1, "zero2_without_frozen", 1, &["rank_1", "partition_count", "[2]", "[4, 4]"]),
        ("zero2_bf16", 1, "zero2_bf16", 2, &["rank_1", "was saved as", "rank_2"]),
        ("zero3_bf16", 1, "zero3_persistent", 1, &["rank_1", "groups of weights"]),
    ];
    for (name, rank, other, from, words) in cases {
        let ((_dir, files), (_other, others)) = (copied(name), copied(other));
        fs::copy(optimizer(&others, *from), optimizer(&files, *rank)).unwrap();
        let said = refusal(&files);
        assert!(words.iter().all(|word| said.contains(word)), "{name} {other}: {said}");
    }
    // of another rank, by what it says of its slices alone
    for (name, from, to) in [("zero2_bf16", 0, 3), ("zero2_bf16", 2, 0), ("zero2_bf16", 1, 2)] {
        let (_dir, files) = copied(name);
        let mut bytes = fs::read(optimizer(&files, from)).unwrap();
        let (old, new) = (format!("pp_rank_{from}_"), format!("pp_rank_{to}_"));
        let places: Vec<usize> = (0..bytes.len()).filter(|at| bytes[*at..].starts_with(old.as_bytes())).collect();
        places.iter().for_each(|at| bytes[*at..*at + new.len()].copy_from_slice(new.as_bytes()));
        fs::write(optimizer(&files, to), bytes).unwrap();
        let said = refusal(&files);
        assert!([&format!("rank_{to}_"), "has ", " elements"].iter().all(|word| said.contains(*word)), "{said}");
    }
    // of another step: by the module's files, and by the optimizers' numbers
    let (_dir, files) = copied("zero3_fp32");
    let file = files.join("zero_pp_rank_1_mp_rank_00_model_states.pt");
    let old = number_behind(&file, "global_steps", 2);
    patch(&file, &old, &[&old[..old.len() - 1], &[3]].concat());
    let said = refusal(&files);
    assert!(["rank_1", "global_steps is 3", "is 2"].iter().all(|word| said.contains(word)), "{said}");
    let (_dir, files) = copied("zero2_without_frozen");
    patch(&optimizer(&files, 1), &2f32.to_le_bytes(), &3f32.to_le_bytes());
    let said = refusal(&files);
    assert!(["rank_1", "step 3", "step 2"].iter().all(|word| said.contains(word)), "{said}");
    // a tensor of two sizes
    let (_dir, files) = copied("zero3_fp32");
    patch(&files.join("zero_pp_rank_1_mp_rank_00_model_states.pt"), b"K\x0bK\x05\x86", b"K\x0bK\x06\x86");
    let said = refusal(&files);
    assert!(["rank_1", "embed.weight", "[11, 6]", "[11, 5]"].iter().all(|word| said.contains(word)), "{said}");
    // more elements than there are
    for (name, file) in
        [("zero2_bf16", "mp_rank_00_model_states.pt"), ("zero3_fp32", "zero_pp_rank_0_mp_rank_00_model_states.pt")]
    {
        let (_dir, files) = copied(name);
        patch(&files.join(file), b"K\x0bK\x05\x86", b"K\x0bK\x09\x86");
        let said = refusal(&files);
        assert!(said.contains("elements") || said.contains("of shape"), "{said}");
    }
    // what all ranks say alike and is not so
    let (_dir, files) = copied("zero3_fp32");
    for rank in 0..2 {
        let old = number_behind(&optimizer(&files, rank), "partition_count", 2);
        patch(&optimizer(&files, rank), &old, &[&old[..old.len() - 1], &[3]].concat());
    }
    let said = refusal(&files);
    assert!(said.contains("of 3 ranks") && said.contains("of 2"), "{said}");
}

#[test]
fn damaged_files_are_named() {
    for (name, file) in [
        ("zero2_fp16", "zero_pp_rank_1_mp_rank_00_optim_states.pt"),
        ("zero2_fp16", "mp_rank_00_model_states.pt"),
        ("zero3_fp32", "zero_pp_rank_1_mp_rank_00_model_states.pt"),
    ] {
        let (_dir, files) = copied(name);
        let path = files.join(file);
        let bytes = fs::read(&path).unwrap();
        fs::write(&path, &bytes[..bytes.len() / 2]).unwrap();
        let said = refusal(&files);
        assert!(said.contains(file), "{said}");
        let checked = run(&["check", files.to_str().unwrap()]).exits(1);
        assert!(checked.text().contains(file), "{}", checked.text());
        fs::write(&path, b"").unwrap();
        assert!(refusal(&files).contains(file));
    }
    // bits that changed are seen by whoever reads them
    let (dir, files) = copied("zero3_fp32");
    let file = optimizer(&files, 1);
    let bytes = fs::read(&file).unwrap();
    run(&["extract", files.to_str().unwrap(), "module.first.fc.weight", "-o", &dir.path("w.bin")]).exits(0);
    let weight = fs::read(dir.path("w.bin")).unwrap();
    let part = &weight[weight.len() - 16..];
    let at = (0..bytes.len()).find(|at| bytes[*at..].starts_with(part)).unwrap();
    let mut damaged = bytes.clone();
    damaged[at] ^= 1;
    fs::write(&file, damaged).unwrap();
    let checked = run(&["check", files.to_str().unwrap()]).exits(1);
    assert!(checked.text().contains("CRC-32") && checked.text().contains("zero_pp_rank_1"), "{}", checked.text());
    let converted = run(&["convert", files.to_str().unwrap(), &dir.path("out.safetensors")]);
    assert!(
        converted.stderr.contains("checksum") && converted.stderr.contains("zero_pp_rank_1"),
        "{}",
        converted.stderr
    );
}

#[test]
fn left_over_files_are_named() {
    let cases: &[(&str, &str, &str, &[&str])] = &[
        (
            "zero2_fp16",
            "zero2_round_robin",
            "zero_pp_rank_2_mp_rank_00_optim_states.pt",
            &["rank_2", "partition_count"],
        ),
        ("zero2_fp16", "zero2_bf16", "bf16_zero_pp_rank_0_mp_rank_00_optim_states.pt", &["both of rank 0"]),
        ("zero2_fp16", "zero3_fp32", "zero_pp_rank_0_mp_rank_00_model_states.pt", &["zero_pp_rank_0", "no part"]),
        ("zero3_fp32", "zero2_fp16", "mp_rank_00_model_states.pt", &["mp_rank_00", "no part"]),
        (
            "zero3_fp32",
            "zero3_persistent",
            "zero_pp_rank_2_mp_rank_00_model_states.pt",
            &["model_states.pt", "2 ranks"],
        ),
    ];
    for (name, other, file, words) in cases {
        let ((_dir, files), (_other, others)) = (copied(name), copied(other));
        fs::copy(others.join(file), files.join(file)).unwrap();
        let said = refusal(&files);
        assert!(words.iter().all(|word| said.contains(word)), "{name} {other}: {said}");
    }
    for (file, word) in [
        ("mp_rank_01_model_states.pt", "tensor-parallel"),
        ("layer_00-model_00-model_states.pt", "pipeline-parallel"),
        ("layer_0_expert_0_mp_rank_00_model_states.pt", "expert-parallel"),
        ("backup_mp_rank_00_model_states.pt", "of no rank"),
    ] {
        let (_dir, files) = copied("zero2_fp16");
        fs::copy(files.join("mp_rank_00_model_states.pt"), files.join(file)).unwrap();
        let said = refusal(&files);
        assert!(said.contains(word) && said.contains(file), "{said}");
        // each file is looked at all the same
        let checked = run(&["check", files.to_str().unwrap()]).exits(1);
        assert!(checked.text().contains("torch._utils._rebuild_tensor_v2"), "{}", checked.text());
    }
}

#[test]
fn latest_leads_somewhere() {
    for (text, words) in [
        ("global_step9", &["global_step9", "is not there", "global_step2"][..]),
        ("../x", &["../x"]),
        ("", &["latest"]),
    ] {
        let (_dir, files) = copied("zero2_fp16");
        let top = files.parent().unwrap();
        fs::write(top.join("latest"), text).unwrap();
        let said = refusal(top);
        assert!(words.iter().all(|word| said.contains(word)), "{said}");
    }
    let (_dir, files) = copied("zero2_fp16");
    let top = files.parent().unwrap();
    fs::write(top.join("latest"), "global_step2\n").unwrap();
    run(&["ls", top.to_str().unwrap()]).exits(0);
    fs::remove_file(top.join("latest")).unwrap();
    let said = refusal(top);
    assert!(said.contains("no file latest") && said.contains("global_step2"), "{said}");
    // a folder of Hugging Face's is what its own weights are
    fs::write(top.join("latest"), "global_step2").unwrap();
    fs::copy(testdata("frameworks/cnn_state.safetensors"), top.join("model.safetensors")).unwrap();
    let listed = run(&["ls", "--json", top.to_str().unwrap()]).exits(0);
    assert_eq!(listed.json()["container"], "safetensors");
    assert!(listed.stderr.contains("global_step2 beside it"), "{}", listed.stderr);
}

#[test]
fn recursion_lists_each_directory_once() {
    let listed = run(&["ls", "-R", "--json", "deepspeed"]).exits(0);
    let files: Vec<Value> = listed.lines().iter().map(|line| serde_json::from_str(line).unwrap()).collect();
    let names: Vec<&str> = files.iter().map(|file| file["file"].as_str().unwrap()).collect();
    let wanted: Vec<String> = expected().keys().map(|name| format!("deepspeed/{name}/global_step2")).collect();
    assert_eq!(names, wanted);
    // where the model itself was split, the files are listed one by one
    let (_dir, files) = copied("zero2_fp16");
    fs::copy(files.join("mp_rank_00_model_states.pt"), files.join("mp_rank_01_model_states.pt")).unwrap();
    let listed = run(&["ls", "-R", "--json", files.to_str().unwrap()]).exits(0);
    assert_eq!(listed.lines().len(), 4);
}
