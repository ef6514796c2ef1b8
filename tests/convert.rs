//! `ckpt convert`, driven as a user would.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;
use tempfile::TempDir;

fn command(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ckpt"));
    command.current_dir(env!("CARGO_MANIFEST_DIR")).args(args);
    command
}

fn run(args: &[&str]) -> Output {
    command(args).output().unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[track_caller]
fn ok(args: &[&str]) -> String {
    let output = run(args);
    assert_eq!(output.status.code(), Some(0), "{args:?}: {}", stderr(&output));
    stderr(&output)
}

/// One line on standard error, exit status 2, nothing on standard output.
#[track_caller]
fn refused(args: &[&str]) -> String {
    let output = run(args);
    let text = stderr(&output);
    assert_eq!((output.status.code(), text.lines().count()), (Some(2), 1), "{args:?}: {text}");
    assert!(output.stdout.is_empty());
    text
}

fn list(path: &str) -> Value {
    let output = run(&["ls", "--json", "--hash", path]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    serde_json::from_slice(&output.stdout).unwrap()
}

fn tensors(path: &str) -> Vec<Value> {
    list(path)["tensors"].as_array().unwrap().clone()
}

fn names(path: &str) -> Vec<String> {
    tensors(path).iter().map(|t| t["name"].as_str().unwrap().to_owned()).collect()
}

/// What must survive: names, types, shapes, elements.
fn contents(path: &str) -> Vec<String> {
    let line = |t: &Value| format!("{} {} {} {}", t["name"], t["dtype"], t["shape"], t["sha256"]);
    let mut lines: Vec<String> = tensors(path).iter().map(line).collect();
    lines.sort();
    lines
}

struct Dir(TempDir);

impl Dir {
    fn new() -> Self {
        Dir(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> String {
        self.0.path().join(name).to_str().unwrap().to_owned()
    }

    fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(self.0.path()).unwrap();
        let mut names: Vec<String> = entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }
}

fn input(name: &str) -> String {
    format!("testdata/torch-2.15-py311/{name}")
}

#[test]
fn there_and_back_keeps_every_tensor() {
    let dir = Dir::new();
    for name in ["cnn_state.pt", "tied_state.pth", "dtypes.pt", "views.pt", "checkpoint.tar", "everything.pt"] {
        let (a, b, c) = (dir.path("a.pt"), dir.path("b.pt"), dir.path("c.pt"));
        ok(&["convert", "-q", "--force", &input(name), &a, "--to", "torch-legacy"]);
        ok(&["convert", "-q", "--force", &a, &b]);
        ok(&["convert", "-q", "--force", &b, &c]);
        for path in [&a, &b, &c] {
            assert_eq!(contents(path), contents(&input(name)), "{name}");
        }
        assert_eq!(list(&a)["container"], "legacy");
        assert_eq!(fs::read(&b).unwrap(), fs::read(&c).unwrap(), "a second conversion changes nothing");
    }
}

#[test]
fn the_pickle_of_a_state_dict_comes_out_as_torch_wrote_it() {
    let dir = Dir::new();
    let out = dir.path("out.pt");
    ok(&["convert", &input("cnn_state.pt"), &out]);
    let pickle = |path: &str| {
        let bytes = fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap();
        let end = bytes.windows(4).position(|w| w == b"PK\x07\x08").unwrap();
        bytes[64..end].escape_ascii().to_string()
    };
    assert_eq!(pickle(&out), pickle(&input("cnn_state.pt")));
}

#[test]
fn safetensors_as_the_library_writes_them() {
    let dir = Dir::new();
    let out = dir.path("out.safetensors");
    ok(&["convert", &input("cnn_state.pt"), &out]);
    assert_eq!(contents(&out), contents(&input("cnn_state.pt")));
    let bytes = fs::read(&out).unwrap();
    let parsed = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let metadata = Some([("format".to_owned(), "pt".to_owned())].into());
    assert!(safetensors::serialize(parsed.tensors(), metadata).unwrap() == bytes);
}

#[test]
fn modules_become_state_dicts() {
    let dir = Dir::new();
    let (state, arrays, script) = (dir.path("state.pt"), dir.path("a.safetensors"), dir.path("script.pt"));
    ok(&["convert", "-q", "--state-dict", &input("cnn_full.pth"), &state]);
    ok(&["convert", "-q", &input("cnn_full.pth"), &arrays]);
    assert_eq!(names(&state), names(&input("cnn_state.pt")));
    assert_eq!(contents(&state), contents(&arrays));
    assert!(tensors(&state).iter().all(|t| t["requires_grad"] == false && t["kind"] == "tensor"));
    assert_ne!(names(&input("cnn_full.pth")), Vec::<String>::new());
    ok(&["convert", "-q", &input("scripted.pt"), &script]);
    assert_eq!(list(&script)["container"], "zip");
}

#[test]
fn what_is_left_out_is_named_and_saved() {
    let dir = Dir::new();
    let (out, values) = (dir.path("out.safetensors"), dir.path("values.json"));
    let said = ok(&["convert", &input("checkpoint.tar"), &out, "--save-values", &values]);
    assert!(said.contains("left out: ") && said.contains("optimizer_state_dict (") && said.contains("epoch"), "{said}");
    let saved: Value = serde_json::from_slice(&fs::read(&values).unwrap()).unwrap();
    assert!(saved["epoch"].is_i64(), "{saved}");
    assert!(ok(&["convert", "-q", "--force", &input("checkpoint.tar"), &out]).is_empty());
    // without the tensor on top there are two models to choose from
    let several = dir.path("several.pt");
    ok(&["convert", "-q", &input("multi_model.pt"), &several, "--drop", "best", "--drop", "loss"]);
    let said = refused(&["convert", &several, &dir.path("multi.safetensors")]);
    assert!(said.contains("--root "), "{said}");
}

#[test]
fn names_are_chosen() {
    let dir = Dir::new();
    let of = |extra: &[&str]| {
        let (out, source) = (dir.path("out.pt"), input("checkpoint.tar"));
        ok(&[&["convert", "-q", "--force", &source, &out], extra].concat());
        names(&out)
    };
    let all = of(&[]);
    let dropped = of(&["--drop", "optimizer_state_dict"]);
    let wanted: Vec<&String> = all.iter().filter(|name| !name.starts_with("optimizer")).collect();
    assert_eq!(dropped.iter().collect::<Vec<_>>(), wanted);
    let root = of(&["--root", "model_state_dict"]);
    let biases = of(&["--root", "model_state_dict", "--include", "*.bias"]);
    let others = of(&["--root", "model_state_dict", "--exclude", "*.bias"]);
    assert!(!biases.is_empty() && biases.iter().all(|name| name.ends_with(".bias")));
    assert_eq!(biases.len() + others.len(), root.len());
    assert!(
        refused(&["convert", &input("checkpoint.tar"), &dir.path("x.pt"), "--drop", "nothing"]).contains("nothing")
    );
}

#[test]
fn casts_devices_and_compaction() {
    let dir = Dir::new();
    let out = dir.path("out.pt");
    ok(&["convert", "-q", &input("cnn_state.pt"), &out, "--dtype", "bfloat16"]);
    for (before, after) in tensors(&input("cnn_state.pt")).iter().zip(tensors(&out)) {
        let want = if before["dtype"] == "float32" { "bfloat16" } else { before["dtype"].as_str().unwrap() };
        assert_eq!(after["dtype"], want);
    }
    ok(&["convert", "-q", "--force", &input("located_cuda0.pth"), &out, "--device", "cpu"]);
    assert!(tensors(&out).iter().all(|tensor| tensor["device"] == "cpu"));
    ok(&["convert", "-q", "--force", &input("views.pt"), &out, "--compact"]);
    assert_eq!(contents(&out), contents(&input("views.pt")));
    let bytes = |path: &str| list(path)["totals"]["storage_bytes"].as_u64().unwrap();
    assert!(bytes(&out) <= bytes(&input("views.pt")));
}

#[test]
fn overflows_are_told() {
    let dir = Dir::new();
    let (a, b) = (dir.path("a.safetensors"), dir.path("b.safetensors"));
    let header = br#"{"x":{"dtype":"F32","shape":[3],"data_offsets":[0,12]}}"#;
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend(header);
    [1e30_f32, 1.0, -7e4].iter().for_each(|x| bytes.extend(x.to_le_bytes()));
    fs::write(&a, bytes).unwrap();
    assert!(ok(&["convert", &a, &b, "--dtype", "float16"]).contains("2 values became infinite"));
    assert!(fs::read(&b).unwrap().ends_with(&[0x00, 0x7c, 0x00, 0x3c, 0x00, 0xfc]));
}

#[test]
fn shared_tensors_where_nothing_can_be_shared() {
    let dir = Dir::new();
    let (out, tied) = (dir.path("out.safetensors"), input("tied_state.pth"));
    assert!(ok(&["convert", &tied, &out]).contains("share memory"));
    let all = names(&out).len();
    assert!(refused(&["convert", "--force", &tied, &out, "--shared", "error"]).contains("share memory"));
    assert!(ok(&["convert", "--force", &tied, &out, "--shared", "drop"]).contains("aliases"));
    assert!(names(&out).len() < all);
}

#[test]
fn npz_and_back() {
    let dir = Dir::new();
    let (npz, back) = (dir.path("out.npz"), dir.path("back.pt"));
    ok(&["convert", "-q", &input("cnn_state.pt"), &npz]);
    ok(&["convert", "-q", &npz, &back]);
    assert_eq!(contents(&back), contents(&input("cnn_state.pt")));
    assert!(refused(&["convert", &input("dtypes.pt"), &dir.path("no.npz")]).contains("npz has no"));
    assert_eq!(dir.names(), ["back.pt", "out.npz"]);
}

#[test]
fn shards_with_their_index() {
    let dir = Dir::new();
    for (to, index) in [("safetensors", "model.safetensors.index.json"), ("torch", "pytorch_model.bin.index.json")] {
        let (out, source) = (dir.path(to), input("cnn_state.pt"));
        ok(&["convert", "-q", &source, &out, "--to", to, "--max-shard-size", "1KB"]);
        let index: Value = serde_json::from_slice(&fs::read(format!("{out}/{index}")).unwrap()).unwrap();
        let map = index["weight_map"].as_object().unwrap();
        let files: std::collections::BTreeSet<_> = map.values().map(|file| file.as_str().unwrap()).collect();
        assert!(files.len() > 1);
        let mut seen: Vec<String> = files.iter().flat_map(|file| names(&format!("{out}/{file}"))).collect();
        seen.sort();
        let mut wanted: Vec<String> = map.keys().cloned().collect();
        wanted.sort();
        assert_eq!(seen, wanted);
        assert!(refused(&["convert", &source, &out, "--to", to, "--max-shard-size", "1KB"]).contains("--force"));
    }
}

#[test]
fn targets_that_are_refused() {
    let dir = Dir::new();
    let (out, source) = (dir.path("out.pt"), input("one_layer_state.pth"));
    ok(&["convert", &source, &out]);
    assert!(refused(&["convert", &source, &out]).contains("--force"));
    assert!(refused(&["convert", &out, &out]).contains("the input itself"));
    ok(&["convert", &out, &out, "--force"]);
    assert_eq!(contents(&out), contents(&source));
    assert!(refused(&["convert", &source, &dir.path("no/out.pt")]).contains("does not exist"));
    assert!(refused(&["convert", &source, &dir.path("out.xyz")]).contains("--to"));
    assert_eq!(dir.names(), ["out.pt"]);
}

#[test]
fn through_pipes() {
    let source = input("cnn_state.pt");
    let dir = Dir::new();
    let out = dir.path("out.safetensors");
    let stdin = fs::File::open(Path::new(env!("CARGO_MANIFEST_DIR")).join(&source)).unwrap();
    let output = command(&["convert", "-", "-", "--to", "safetensors"]).stdin(stdin).output().unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    ok(&["convert", &source, &out]);
    assert!(output.stdout == fs::read(&out).unwrap());
}

#[test]
fn the_report() {
    let dir = Dir::new();
    let out = dir.path("out.safetensors");
    let output = run(&["convert", "--json", &input("checkpoint.tar"), &out]);
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&report["schema"], &report["to"]), (&"ckpt.convert/1".into(), &"safetensors".into()));
    assert_eq!(report["files"][0]["bytes"], fs::metadata(&out).unwrap().len());
    assert!(report["left_out"].as_array().unwrap().iter().any(|left| left["name"] == "epoch"));
}

/// A sparse legacy file of one float32 tensor.
#[cfg(unix)]
fn legacy_hole(path: &str, elements: u64) {
    let long = |value: u64| [&b"\x8a\x06"[..], &value.to_le_bytes()[..6]].concat();
    let mut head = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.\x80\x02M\xe9\x03.\x80\x02}.".to_vec();
    head.extend(b"\x80\x02}X\x01\x00\x00\x00wctorch._utils\n_rebuild_tensor_v2\n((X\x07\x00\x00\x00storage");
    head.extend(b"ctorch\nFloatStorage\nX\x01\x00\x00\x000X\x03\x00\x00\x00cpu");
    head.extend([&long(elements)[..], b"NtQK\x00", &long(elements), b"\x85K\x01\x85\x89NtRs."].concat());
    head.extend(b"\x80\x02]X\x01\x00\x00\x000a.");
    head.extend(elements.to_le_bytes());
    fs::write(path, &head).unwrap();
    fs::OpenOptions::new().write(true).open(path).unwrap().set_len(head.len() as u64 + elements * 4).unwrap();
}

#[cfg(unix)]
#[test]
fn a_full_disk_leaves_the_old_target() {
    let dir = Dir::new();
    let (source, out) = (dir.path("in.pt"), dir.path("out.pt"));
    legacy_hole(&source, 4 << 20);
    fs::write(&out, "old").unwrap();
    let program = env!("CARGO_BIN_EXE_ckpt");
    let script = format!("trap '' XFSZ; ulimit -f 1000; exec {program} convert --force {source} {out}");
    let output = Command::new("sh").args(["-c", &script]).output().unwrap();
    assert_eq!((output.status.code(), stderr(&output).lines().count()), (Some(2), 1), "{}", stderr(&output));
    assert_eq!(fs::read(&out).unwrap(), b"old");
    assert_eq!(dir.names(), ["in.pt", "out.pt"]);
}

#[cfg(unix)]
#[test]
fn interrupted_in_the_middle() {
    use std::os::unix::process::ExitStatusExt;
    let dir = Dir::new();
    let (source, out) = (dir.path("in.pt"), dir.path("out.pt"));
    legacy_hole(&source, 200 << 20);
    fs::write(&out, "old").unwrap();
    for (signal, leftover) in [("INT", 0), ("TERM", 0), ("KILL", 1)] {
        let mut child = command(&["convert", "--force", &source, &out]).spawn().unwrap();
        let begun = || dir.names().iter().any(|name| name.starts_with(".out.pt.ckpt-tmp-"));
        while !begun() && child.try_wait().unwrap().is_none() {
            std::thread::sleep(std::time::Duration::from_millis(2));
        }
        Command::new("kill").args([format!("-{signal}"), child.id().to_string()]).status().unwrap();
        let status = child.wait().unwrap();
        assert!(status.signal().is_some(), "{signal}: {status:?}");
        assert_eq!(fs::read(&out).unwrap(), b"old");
        assert_eq!(dir.names().len(), 2 + leftover, "{signal}: {:?}", dir.names());
    }
}

#[test]
fn seventy_thousand_members() {
    let dir = Dir::new();
    let (source, out) = (dir.path("in.safetensors"), dir.path("out.pt"));
    let entry = |i: u32| format!("\"t{i}\":{{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[{i},{}]}}", i + 1);
    let header = format!("{{{}}}", (0..70_000).map(entry).collect::<Vec<_>>().join(","));
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend(header.as_bytes());
    bytes.extend((0..70_000_u32).map(|i| i.to_le_bytes()[0]));
    fs::write(&source, bytes).unwrap();
    ok(&["convert", &source, &out]);
    let output = run(&["ls", "--names", &out]);
    assert_eq!(String::from_utf8_lossy(&output.stdout).lines().count(), 70_000, "{}", stderr(&output));
}

#[cfg(unix)]
#[test]
#[ignore = "writes 9 GB"]
fn past_four_gibibytes() {
    let dir = Dir::new();
    let (source, zip, back) = (dir.path("in.pt"), dir.path("zip.pt"), dir.path("back.safetensors"));
    legacy_hole(&source, (1 << 30) + 7);
    ok(&["convert", &source, &zip]);
    ok(&["convert", &zip, &back]);
    assert_eq!(tensors(&zip)[0]["bytes"], ((1_u64 << 30) + 7) * 4);
    assert_eq!(contents(&zip), contents(&back));
}

/// Opens everything that is written with a real torch.
#[test]
#[ignore = "needs a Python with torch, named by CKPT_TORCH_PYTHON"]
fn torch_agrees() {
    let python = std::env::var_os("CKPT_TORCH_PYTHON").map_or_else(|| PathBuf::from("python3"), PathBuf::from);
    let mut command = Command::new(python);
    command.current_dir(env!("CARGO_MANIFEST_DIR")).args(["tests/interop.py", env!("CARGO_BIN_EXE_ckpt"), "testdata"]);
    assert!(command.status().unwrap().success());
}
