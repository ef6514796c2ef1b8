//! Directories of torch.distributed.checkpoint and Hugging Face folders: what is in them, and what their files say that is
//! not so (`testdata/directories`).
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)] // helpers of tests are tests

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::driver::{Dir, ckpt, run, run_with, testdata};
use serde_json::{Value, json};

fn copy(from: &str, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(testdata(from)).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}

/// `ckpt ARGS` of a copy of a directory that was changed: the run, and what `check` finds as `(code, severity, message)`.
fn changed(of: &str, change: &dyn Fn(&Path)) -> (String, Vec<(String, String, String)>) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("dir");
    copy(of, &path);
    change(&path);
    let listed = run_with(ckpt().arg("ls").arg(&path), b"");
    let checked = run_with(ckpt().args(["check", "--json"]).arg(&path), b"");
    let found: Value = serde_json::from_slice(checked.stdout.as_slice()).unwrap_or_default();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let findings = found["findings"].as_array().into_iter().flatten();
    let findings = findings.map(|finding| {
        let message = format!("{}: {}", text(&finding["where"]), text(&finding["message"]));
        (text(&finding["code"]), text(&finding["severity"]), message)
    });
    (listed.stderr, findings.collect())
}

fn with_index(name: &str) -> impl Fn(&Path) {
    let index = testdata("directories").join(format!("{name}.metadata"));
    move |dir| assert!(fs::copy(&index, dir.join(".metadata")).is_ok())
}

#[test]
fn compressed_chunks_are_read() {
    let dir = Dir::new();
    for input in ["dcp", "dcp_zstd"] {
        run(&format!("diff directories/{input} directories/dcp.pt")).exits(0);
        let out = dir.path("out.pt");
        run(&format!("convert --force directories/{input} {out}")).exits(0);
        run(&format!("diff {out} directories/dcp.pt")).exits(0);
        run(&format!("check directories/{input}")).exits(0);
    }
    let printed = run("extract directories/dcp_zstd model.v").exits(0);
    assert_eq!(printed.stdout, run("extract directories/dcp.pt model.v").exits(0).stdout);
    run("diff --root-b model --root-a model directories/dcp_safetensors directories/dcp.pt").exits(0);
}

/// Each byte of the compressed chunks, changed: the same tensors or an error, never others.
#[test]
fn damage_to_compressed_chunks_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("dir");
    copy("directories/dcp_zstd", &path);
    let file = path.join("__0_0.distcp");
    let whole = fs::read(&file).unwrap();
    let want = run("ls --json --hash directories/dcp_zstd").exits(0).json()["tensors"].clone();
    let mut told = 0;
    for at in (0..whole.len()).step_by(23) {
        let mut bytes = whole.clone();
        bytes[at] ^= 0x10;
        fs::write(&file, &bytes).unwrap();
        let found = run_with(ckpt().args(["ls", "--json", "--hash"]).arg(&path), b"");
        if found.status == 0 {
            assert_eq!(found.json()["tensors"], want, "byte {at}");
        } else {
            assert_eq!(found.status, 2, "byte {at}");
            told += 1;
        }
    }
    assert!(told > 20, "{told}");
}

#[test]
fn what_an_index_says_and_is_not_so() {
    for (index, code, severity, part) in [
        ("undescribed", "tensor-unnamed", "warning", "for list.2"),
        ("unnamed", "bytes-unnamed", "warning", "nothing of the 1577 bytes"),
        ("twice", "bytes-shared", "warning", "epoch and list.0 lie over each other"),
        ("gap", "tensor-outside", "error", "hold 30 of 60"),
        ("overlap", "tensor-outside", "error", "overlap"),
        ("dtype", "chunk-invalid", "error", "float32 of shape [2], not int32"),
        ("shape", "chunk-invalid", "error", "shape [7], not bfloat16 of shape [1, 7]"),
        ("unknown_extension", "unsupported", "error", "stream.rot13/1"),
    ] {
        let (_, found) = changed("directories/dcp", &with_index(index));
        let is_it = |(a, b, message): &(String, String, String)| a == code && b == severity && message.contains(part);
        assert!(found.iter().any(is_it), "{index}: {found:?}");
    }
    let (said, found) = changed("directories/dcp_safetensors", &with_index("safetensors_unnamed"));
    assert!(found.iter().any(|(code, _, what)| code == "tensor-unnamed" && what.contains("model.n")), "{found:?}");
    assert!(said.contains("left aside") && said.contains("model.n"), "{said}");
    let (said, found) = changed("directories/dcp", &|dir| {
        fs::copy(dir.join("__0_0.distcp"), dir.join("__7_0.distcp")).unwrap();
    });
    assert!(found.iter().any(|(code, _, what)| code == "file-unnamed" && what.contains("__7_0.distcp")), "{found:?}");
    assert!(said.contains("left aside") && said.contains("__7_0.distcp"), "{said}");
    let (_, found) = changed("directories/dcp", &|dir| {
        let file = dir.join("__1_0.distcp");
        fs::write(&file, [fs::read(&file).unwrap(), vec![7; 100]].concat()).unwrap();
    });
    assert!(found.iter().any(|(code, _, what)| code == "bytes-unnamed" && what.contains("100 bytes")), "{found:?}");
    for whole in ["dcp", "dcp_zstd", "dcp_safetensors"] {
        assert_eq!(changed(&format!("directories/{whole}"), &|_| ()).1, [], "{whole}");
    }
}

/// A pickle in compressed data is looked at as any other.
#[test]
fn a_call_in_compressed_data_is_told() {
    let evil = b"\x80\x02cposix\nsystem\nX\x02\0\0\0ls\x85R.";
    let length = u8::try_from(evil.len()).unwrap();
    let frame = [&b"\x28\xb5\x2f\xfd\x20"[..], &[length, length << 3 | 1, length >> 5, 0], evil.as_slice()].concat();
    let (_, found) = changed("directories/dcp_zstd", &|dir| {
        let file = dir.join("__1_0.distcp");
        fs::write(&file, [fs::read(&file).unwrap(), frame.clone()].concat()).unwrap();
    });
    assert!(found.iter().any(|(code, ..)| code == "global-dangerous"), "{found:?}");
}

#[test]
fn what_lies_beside_an_index_is_named() {
    let meta = testdata("directories/meta.pt");
    let (said, _) = changed("directories/dcp", &|dir| assert!(fs::copy(&meta, dir.join("meta.pt")).is_ok()));
    assert!(said.contains("left aside: meta.pt") && said.contains("epoch, global_step"), "{said}");
    let said = run("ls directories/dcp_each").exits(2).stderr;
    assert!(said.contains("use_collectives=False") && said.contains("__0.metadata, 2 in all"), "{said}");
    // an optimizer without its groups is none of the weights
    let dir = Dir::new();
    let out = dir.path("out.safetensors");
    let said = run(&format!("convert directories/dcp {out}")).exits(0).stderr;
    assert!(said.contains("weights: model, 4 tensors") && said.contains("optimizer (2 tensors)"), "{said}");
}

const SHARDED: &str = "frameworks/hf_sharded_safetensors";
const INDEX: &str = "model.safetensors.index.json";

fn index_of(dir: &Path) -> Value {
    serde_json::from_slice(&fs::read(dir.join(INDEX)).unwrap()).unwrap()
}

#[test]
fn variants_of_an_index() {
    let listed = run("ls --json directories/hf_fp16").exits(0);
    assert_eq!(listed.tensor_names(), ["a.w", "b.w"]);
    run("ls directories/hf_fp16/model.safetensors.index.fp16.json").exits(0);
    run("check directories/hf_fp16").exits(0);
    // the plain one is taken, and the other one named
    let (said, found) = changed(SHARDED, &|dir| copy("directories/hf_fp16", dir));
    assert!(said.contains("left aside") && said.contains("index.fp16.json"), "{said}");
    assert_eq!(found, []);
    for (name, is_taken) in [
        ("model.safetensors", true),
        ("diffusion_pytorch_model.fp16.safetensors", true),
        ("model.fp16.safetensors", true),
        ("other.fp16.safetensors", false),
    ] {
        let dir = tempfile::tempdir().unwrap();
        fs::copy(testdata("frameworks/cnn_state.safetensors"), dir.path().join(name)).unwrap();
        let listed = run_with(ckpt().arg("ls").arg(dir.path()), b"");
        assert_eq!(listed.status == 0, is_taken, "{name}: {}", listed.stderr);
    }
    let (said, _) = changed(SHARDED, &|dir| drop(fs::write(dir.join("pytorch_model.bin.index.json"), b"{}")));
    assert!(said.contains("pytorch_model.bin.index.json beside it is left aside"), "{said}");
}

#[test]
fn what_an_index_of_shards_says_and_is_not_so() {
    let index = |change: &dyn Fn(&mut Value)| {
        changed(SHARDED, &|dir| {
            let mut index = index_of(dir);
            change(&mut index);
            fs::write(dir.join(INDEX), index.to_string()).unwrap();
        })
    };
    let has = |found: &[(String, String, String)], code: &str, part: &str| {
        found.iter().any(|(a, severity, what)| a == code && severity == "warning" && what.contains(part))
    };
    assert_eq!(index(&|_| ()).1, []);
    let (_, found) = index(&|index| index["metadata"]["total_size"] = json!(123));
    assert!(has(&found, "size-stated", "have 123 bytes in all (total_size); they have"), "{found:?}");
    let (_, found) = index(&|index| drop(index["metadata"].as_object_mut().unwrap().remove("total_size")));
    assert_eq!(found, []);
    let (said, found) = index(&|index| {
        let map = index["weight_map"].as_object_mut().unwrap();
        let first = map.keys().next().unwrap().clone();
        map.remove(&first);
        index["metadata"] = json!({});
    });
    assert!(has(&found, "tensor-unnamed", "which the index does not name"), "{found:?}");
    assert!(said.contains("left aside in"), "{said}");
    let (said, found) = changed(SHARDED, &|dir| {
        let shard =
            index_of(dir)["weight_map"].as_object().unwrap().values().next().unwrap().as_str().unwrap().to_owned();
        fs::copy(dir.join(shard), dir.join("model-00009-of-00009.safetensors")).unwrap();
    });
    assert!(has(&found, "file-unnamed", "model-00009-of-00009.safetensors"), "{found:?}");
    assert!(said.contains("left aside, as the index does not name it: model-00009"), "{said}");
    let (said, _) = changed(SHARDED, &|dir| fs::remove_file(dir.join(INDEX)).unwrap());
    assert!(said.contains("shards") && said.contains("no index"), "{said}");
}

/// Writes a safetensors file of tensors of one number each.
fn safetensors(path: &Path, names: &[String]) {
    let entry = |(at, name): (usize, &String)| {
        (name.clone(), json!({"dtype": "F32", "shape": [1], "data_offsets": [4 * at, 4 * at + 4]}))
    };
    let header = serde_json::Value::Object(names.iter().enumerate().map(entry).collect()).to_string();
    let data: Vec<u8> = names.iter().flat_map(|name| (name.len() as f32).to_le_bytes()).collect();
    fs::write(path, [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), &data].concat()).unwrap();
}

/// More shards than the process may have files open.
#[cfg(unix)]
#[test]
fn more_files_than_may_be_open() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("dir");
    fs::create_dir(&path).unwrap();
    let mut map = serde_json::Map::new();
    for shard in 0..200 {
        let file = format!("model-{:05}-of-00200.safetensors", shard + 1);
        let names: Vec<String> = (0..3).map(|number| format!("layer{shard}.{number}")).collect();
        safetensors(&path.join(&file), &names);
        map.extend(names.into_iter().map(|name| (name, json!(file))));
    }
    fs::write(path.join(INDEX), json!({"metadata": {"total_size": 2400}, "weight_map": map}).to_string()).unwrap();
    let limited = |words: &str| {
        let shell = format!("ulimit -n 40; \"$0\" {words}");
        let mut command = Command::new("sh");
        command.arg("-c").arg(shell).arg(env!("CARGO_BIN_EXE_ckpt")).current_dir(dir.path());
        command.output().unwrap()
    };
    for words in
        ["ls --hash dir", "check dir", "convert dir out.safetensors", "diff dir out.safetensors", "diff dir dir"]
    {
        let output = limited(words);
        assert!(output.status.success(), "{words}: {}", String::from_utf8_lossy(&output.stderr));
    }
}

/// What an input's size explains is no reason to refuse it: here names that are long beside what they name.
#[test]
fn many_names_of_a_few_bytes() {
    let dir = tempfile::tempdir().unwrap();
    let names: Vec<String> = (0..20_000)
        .map(|number| format!("model.layers.{}.mlp.experts.{number}.{}", number / 100, "w".repeat(150)))
        .collect();
    let path = dir.path().join("m.safetensors");
    safetensors(&path, &names);
    run_with(ckpt().args(["diff", "-q"]).arg(&path).arg(&path), b"").exits(0);
}
