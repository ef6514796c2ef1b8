//! `ckpt convert`, driven as a user would.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

use crate::driver::Dir;

fn command(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ckpt"));
    command.current_dir(env!("CARGO_MANIFEST_DIR")).args(args);
    command
}

fn run(args: &[&str]) -> Output {
    crate::driver::schemas::output(&mut command(args))
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
    lines(&tensors(path))
}

/// The same of an exported program, whose constants outside the state dict stay behind.
fn kept(path: &str) -> Vec<String> {
    lines(&tensors(path).into_iter().filter(|t| t["in_state_dict"] != false).collect::<Vec<_>>())
}

fn lines(tensors: &[Value]) -> Vec<String> {
    let line = |t: &Value| format!("{} {} {} {}", t["name"], t["dtype"], t["shape"], t["sha256"]);
    let mut lines: Vec<String> = tensors.iter().map(line).collect();
    lines.sort();
    lines
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
}

/// A legacy file of one storage of 1000 floats, 0 1 2 …, and tensors that look at it: offset, size.
fn windows(path: &str, views: &[(u16, u8)]) {
    let text = |text: &str| [&b"X"[..], &u32::try_from(text.len()).unwrap().to_le_bytes(), text.as_bytes()].concat();
    let mut head = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.\x80\x02M\xe9\x03.\x80\x02}.\x80\x02}".to_vec();
    for (i, (offset, size)) in views.iter().enumerate() {
        head.extend(
            [text(&format!("t{i}")), b"ctorch._utils\n_rebuild_tensor_v2\n((".to_vec(), text("storage")].concat(),
        );
        head.extend([b"ctorch\nFloatStorage\n".to_vec(), text("0"), text("cpu"), b"M\xe8\x03NtQM".to_vec()].concat());
        head.extend(offset.to_le_bytes());
        head.extend([b'K', *size, 0x85, b'K', 1, 0x85, 0x89, b'N', b't', b'R', b's']);
    }
    head.extend([b".\x80\x02]".to_vec(), text("0"), b"a.".to_vec(), 1000_u64.to_le_bytes().to_vec()].concat());
    (0..1000_u16).for_each(|i| head.extend(f32::from(i).to_le_bytes()));
    fs::write(path, head).unwrap();
}

/// Two tensors of an exported program look at one weight as different types, which no storage of torch can be.
#[test]
fn one_storage_of_two_types() {
    use std::io::{Read, Write};
    let dir = Dir::new();
    let (source, out) = (dir.path("two_types.pt2"), dir.path("out.pt"));
    let mut archive = zip::ZipArchive::new(fs::File::open("testdata/layouts/tied.pt2").unwrap()).unwrap();
    let mut writer = zip::ZipWriter::new(fs::File::create(&source).unwrap());
    let options = zip::write::SimpleFileOptions::default().compression_method(zip::CompressionMethod::Stored);
    for index in 0..archive.len() {
        let mut member = archive.by_index(index).unwrap();
        let mut bytes = Vec::new();
        member.read_to_end(&mut bytes).unwrap();
        let name = member.name().unwrap().into_owned();
        if name.ends_with("weights_config.json") {
            // float32 becomes float16, for the first of those that share
            bytes = String::from_utf8(bytes).unwrap().replacen("\"dtype\": 7", "\"dtype\": 6", 1).into_bytes();
        }
        writer.start_file(name, options).unwrap();
        writer.write_all(&bytes).unwrap();
    }
    writer.finish().unwrap();
    ok(&["convert", "-q", &source, &out]);
    let line = |tensor: &Value| [&tensor["name"], &tensor["dtype"], &tensor["sha256"]].map(Value::to_string).join(" ");
    let lines = |path: &str| tensors(path).iter().map(line).collect::<Vec<_>>();
    // constants are no weights
    assert_eq!(lines(&out), lines(&source)[..5]);
    assert_ne!(tensors(&source)[0]["dtype"], tensors(&source)[1]["dtype"]);
}

/// What a tensor is expanded to matters to those who read it: its storage is copied all the same.
#[test]
fn expanded_tensors() {
    let dir = Dir::new();
    let out = dir.path("out.pt");
    ok(&["convert", "testdata/hostile/tensor_petabytes.pt", &out]);
    let listed = run(&["ls", "--json", &out]);
    let listed: Value = serde_json::from_slice(&listed.stdout).unwrap();
    assert_eq!(listed["tensors"][0]["shape"], serde_json::json!([1_u64 << 50]));
    let said = refused(&["convert", "testdata/hostile/tensor_petabytes.pt", &dir.path("out.safetensors")]);
    assert!(said.contains("--max-read-bytes"), "{said}");
}

#[test]
fn compaction_keeps_what_each_group_of_views_uses() {
    let dir = Dir::new();
    let (source, whole, out) = (dir.path("in.pt"), dir.path("whole.pt"), dir.path("out.pt"));
    // two that overlap, one of them twice; one alone; one of nothing
    windows(&source, &[(10, 20), (20, 30), (20, 30), (900, 5), (500, 0)]);
    ok(&["convert", "-q", &source, &whole]);
    for (to, path) in [("torch", &out), ("torch-legacy", &dir.path("legacy.pt"))] {
        ok(&["convert", "-q", &source, path, "--compact", "--to", to]);
        assert_eq!(contents(path), contents(&source));
        let facts = |path: &str| {
            let of = |t: &Value| (t["storage"].as_str().unwrap().to_owned(), t["storage_offset"].as_u64().unwrap());
            tensors(path).iter().map(of).collect::<Vec<_>>()
        };
        assert_eq!(facts(&whole).iter().map(|view| view.1).collect::<Vec<_>>(), [10, 20, 20, 900, 500]);
        let views = facts(path);
        assert_eq!(views.iter().map(|view| view.1).collect::<Vec<_>>(), [0, 10, 10, 0, 0]);
        assert!(views[0].0 == views[1].0 && views[1].0 == views[2].0 && views[2].0 != views[3].0, "{views:?}");
        assert_eq!(list(path)["totals"]["storage_bytes"], (40 + 5) * 4);
    }
    assert_eq!(list(&whole)["totals"]["storage_bytes"], 4000);
    ok(&["convert", "-q", "--force", &input("views.pt"), &out, "--compact"]);
    assert_eq!(contents(&out), contents(&input("views.pt")));
}

/// The elements of one tensor, written little-endian by `--to safetensors`.
fn cast(values: &[f32], to: &str) -> Vec<u8> {
    let dir = Dir::new();
    let (a, b) = (dir.path("a.safetensors"), dir.path("b.safetensors"));
    let mut bytes = Vec::new();
    values.iter().for_each(|x| bytes.extend(x.to_le_bytes()));
    let header =
        format!("{{\"x\":{{\"dtype\":\"F32\",\"shape\":[{}],\"data_offsets\":[0,{}]}}}}", values.len(), bytes.len());
    fs::write(&a, [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), &bytes].concat()).unwrap();
    ok(&["convert", "-q", &a, &b, "--dtype", to]);
    let written = fs::read(&b).unwrap();
    safetensors::SafeTensors::deserialize(&written).unwrap().tensor("x").unwrap().data().to_vec()
}

#[test]
fn casts_round_to_nearest_even() {
    // exact, ties both ways, one ulp beside them, subnormal, smallest, overflow, signed zero
    let mut values =
        vec![1.0_f32, -2.5, 0.0, -0.0, 65504.0, 65519.996, 65520.0, 3.4e38, f32::INFINITY, -1e-45, 6e-8, 2.9e-8];
    for tie in [0x3f80_8000_u32, 0x3f81_8000, 0x3f80_1000, 0x3f80_3000, 0x7f7f_8000, 0x0000_8000, 0x3300_0000] {
        values.extend([tie - 1, tie, tie + 1].map(f32::from_bits));
    }
    values.extend((0..4000_u32).map(|i| f32::from_bits(i.wrapping_mul(2_654_435_761))).filter(|x| !x.is_nan()));
    let half: Vec<u8> = values.iter().flat_map(|x| half::f16::from_f32(*x).to_le_bytes()).collect();
    let brain: Vec<u8> = values.iter().flat_map(|x| half::bf16::from_f32(*x).to_le_bytes()).collect();
    let double: Vec<u8> = values.iter().flat_map(|x| f64::from(*x).to_le_bytes()).collect();
    assert!(cast(&values, "float16") == half);
    assert!(cast(&values, "bfloat16") == brain);
    assert!(cast(&values, "float64") == double);
    // `torch.tensor([1.00390625, 1.01171875]).bfloat16()` and `torch.tensor([1.00048828125, 1.00146484375]).half()`
    assert_eq!(cast(&[1.0 + 1.0 / 256.0, 1.0 + 3.0 / 256.0], "bfloat16"), [0x80, 0x3f, 0x82, 0x3f]);
    assert_eq!(cast(&[1.0 + 1.0 / 2048.0, 1.0 + 3.0 / 2048.0], "float16"), [0x00, 0x3c, 0x02, 0x3c]);
}

/// A safetensors file of one-dimensional tensors: name, type, bytes of an element, bytes.
fn safetensors_file(path: &str, tensors: &[(&str, &str, usize, Vec<u8>)]) {
    let (mut entries, mut data) = (Vec::new(), Vec::new());
    for (name, dtype, size, bytes) in tensors {
        let (count, begin, end) = (bytes.len() / size, data.len(), data.len() + bytes.len());
        entries.push(format!("{name:?}:{{\"dtype\":{dtype:?},\"shape\":[{count}],\"data_offsets\":[{begin},{end}]}}"));
        data.extend(bytes);
    }
    let header = format!("{{{}}}", entries.join(","));
    fs::write(path, [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), &data].concat()).unwrap();
}

#[test]
fn everything_floating_becomes_float32() {
    let dir = Dir::new();
    let (a, b) = (dir.path("a.safetensors"), dir.path("b.safetensors"));
    let flat = |elements: &[&[u8]]| elements.concat();
    // ties to even, one ulp beside one, more than the largest, less than the smallest
    let ulp = f64::from(f32::EPSILON);
    let doubles = [1.0 + ulp / 2.0, 1.0 + 1.5 * ulp, 1.0 + 0.6 * ulp, 1e300, -1e-300, f64::NEG_INFINITY];
    let singles = [1.0, 1.0 + 2.0 * f32::EPSILON, 1.0 + f32::EPSILON, f32::INFINITY, -0.0, f32::NEG_INFINITY];
    let (tiny, ints) = (0x0001_u16.to_le_bytes(), [1, 2, 3, 0x7f]);
    safetensors_file(
        &a,
        &[
            ("double", "F64", 8, doubles.iter().flat_map(|x| x.to_le_bytes()).collect()),
            ("half", "F16", 2, flat(&[&0x3c01_u16.to_le_bytes(), &0xfbff_u16.to_le_bytes(), &tiny])),
            ("brain", "BF16", 2, flat(&[&0x3f81_u16.to_le_bytes(), &0xff7f_u16.to_le_bytes()])),
            ("int", "I32", 4, ints.to_vec()),
        ],
    );
    assert!(
        ok(&["convert", &a, &b, "--dtype", "float32"])
            .contains("1 value of double overflowed float32 and became infinite")
    );
    let written = fs::read(&b).unwrap();
    let back = safetensors::SafeTensors::deserialize(&written).unwrap();
    let of = |name: &str| back.tensor(name).unwrap();
    let float = |values: &[f32]| values.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<u8>>();
    assert_eq!(of("double").data(), float(&singles));
    // 2^-24 is float16's smallest
    assert_eq!(of("half").data(), float(&[1.0 + 1.0 / 1024.0, -65504.0, 1.0 / 16_777_216.0]));
    assert_eq!(of("brain").data(), float(&[1.0 + 1.0 / 128.0, f32::from_bits(0xff7f_0000)]));
    assert_eq!((of("int").data(), of("int").dtype()), (&ints[..], safetensors::Dtype::I32));
    assert!(["double", "half", "brain"].iter().all(|name| of(name).dtype() == safetensors::Dtype::F32));
}

#[test]
fn shapes_that_no_reader_would_take_are_not_written() {
    let dir = Dir::new();
    let out = dir.path("out.safetensors");
    let said = refused(&["convert", "testdata/hostile/tensor_huge_empty.pt", &out]);
    assert!(said.contains("overflows"), "{said}");
    assert!(dir.names().is_empty());
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
    assert!(
        ok(&["convert", &a, &b, "--dtype", "float16"]).contains("2 values of x overflowed float16 and became infinite")
    );
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
fn arrays_that_joblib_left_in_the_stream() {
    let dir = Dir::new();
    let source = "testdata/more/joblib.pkl";
    for to in ["torch", "torch-legacy"] {
        let out = dir.path(to);
        ok(&["convert", "-q", source, &out, "--to", to]);
        assert_eq!(contents(&out), contents(source));
        let report = |path: &str| list(path)["values"].clone();
        assert_eq!(report(&out), report(source), "object arrays are values");
    }
}

#[test]
fn arrays_without_elements() {
    let dir = Dir::new();
    // protocol 2 writes no bytes as `bytes()`
    let (source, out, arrays) = (dir.path("in.pkl"), dir.path("out.pt"), dir.path("out.safetensors"));
    let mut pickle = b"\x80\x02}X\x01\x00\x00\x00ecnumpy.core.multiarray\n_reconstruct\n".to_vec();
    pickle.extend(b"cnumpy\nndarray\nK\x00\x85c_codecs\nencode\nX\x01\x00\x00\x00bX\x06\x00\x00\x00latin1\x86R\x87R");
    pickle.extend(b"(K\x01K\x00K\x03\x86cnumpy\ndtype\nX\x02\x00\x00\x00f4K\x00K\x01\x87R");
    pickle.extend(b"(K\x03X\x01\x00\x00\x00<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb");
    pickle.extend(b"\x89c__builtin__\nbytes\n)Rtbs.");
    fs::write(&source, pickle).unwrap();
    for out in [&out, &arrays] {
        ok(&["convert", "-q", &source, out]);
        assert_eq!(contents(out), contents(&source));
        assert_eq!((&tensors(out)[0]["shape"], &tensors(out)[0]["bytes"]), (&serde_json::json!([0, 3]), &0.into()));
    }
}

#[test]
fn every_layout_is_an_input() {
    let dir = Dir::new();
    let layouts = ["layouts/sharded_tied", "layouts/dcp_mesh", "layouts/tied.pt2", "frameworks/exported.pt2"];
    for (i, source) in layouts.iter().enumerate() {
        let source = format!("testdata/{source}");
        for to in ["torch", "torch-legacy", "safetensors"] {
            let out = dir.path(&format!("{i}.{to}"));
            ok(&["convert", "-q", &source, &out, "--to", to]);
            let (mut wanted, got) = (kept(&source), contents(&out));
            if to == "safetensors" && source.ends_with("dcp_mesh") {
                // the weights without the optimizer beside them
                let model = wanted.iter().filter_map(|line| line.strip_prefix("\"model."));
                wanted = model.map(|line| format!("\"{line}")).collect();
            }
            assert!(!wanted.is_empty() && got == wanted, "{source} to {to}: not {wanted:?}: {got:?}");
        }
    }
    let (models, out) = ("testdata/layouts/two_models.pt2", dir.path("models.pt"));
    assert!(refused(&["convert", models, &dir.path("no.safetensors")]).contains("--root encoder"));
    ok(&["convert", "-q", models, &out, "--to", "torch-legacy"]);
    assert_eq!(contents(&out), kept(models));
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
fn what_no_reader_would_take_back_is_not_written() {
    let dir = Dir::new();
    for (file, to, why) in [
        ("safetensors_from_overflow.pt", "safetensors", "overflows"),
        ("safetensors_from_overflow.pt", "npz", "overflows"),
        ("nul_in_name.pt", "npz", "NUL"),
    ] {
        let source = format!("testdata/hostile/{file}");
        assert!(refused(&["convert", &source, &dir.path("out"), "--to", to]).contains(why), "{file}");
    }
    assert!(dir.names().is_empty());
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
    // copied, where the length alone is too much, and written block by block
    for options in ["", "--dtype float64"] {
        let script = format!("trap '' XFSZ; ulimit -f 1000; exec {program} convert --force {options} {source} {out}");
        let output = Command::new("sh").args(["-c", &script]).output().unwrap();
        assert_eq!((output.status.code(), stderr(&output).lines().count()), (Some(2), 1), "{}", stderr(&output));
        assert!(stderr(&output).contains("out.pt"), "{}", stderr(&output));
        assert_eq!(fs::read(&out).unwrap(), b"old");
    }
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
    // a cast reads and writes holes too, which takes a while
    for (signal, leftover) in [("INT", 0), ("TERM", 0), ("KILL", 1)] {
        let mut child = command(&["convert", "--force", "--dtype", "bfloat16", &source, &out]).spawn().unwrap();
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

/// Puts an element into the tensor of [`legacy_hole`].
#[cfg(unix)]
fn mark(path: &str, elements: u64, index: u64, value: f32) {
    use std::os::unix::fs::FileExt;
    let file = fs::OpenOptions::new().write(true).open(path).unwrap();
    let start = file.metadata().unwrap().len() - elements * 4;
    file.write_all_at(&value.to_le_bytes(), start + index * 4).unwrap();
}

#[cfg(target_os = "linux")]
#[test]
fn holes_take_no_room_and_sums_are_right() {
    use std::os::unix::fs::MetadataExt;
    let dir = Dir::new();
    let (source, zip, back) = (dir.path("in.pt"), dir.path("zip.pt"), dir.path("back.safetensors"));
    let elements = 8 << 20;
    legacy_hole(&source, elements);
    mark(&source, elements, 5 << 20, 1.5);
    ok(&["convert", &source, &zip]);
    ok(&["convert", &zip, &back]);
    for path in [&zip, &back] {
        assert_eq!(contents(path), contents(&source));
        let meta = fs::metadata(path).unwrap();
        assert!(meta.len() > elements * 4 && meta.blocks() * 512 < 1 << 20, "{path}: {} blocks", meta.blocks());
    }
    // which reads everything and compares the CRC
    let mut archive = zip::ZipArchive::new(fs::File::open(&zip).unwrap()).unwrap();
    let copied = std::io::copy(&mut archive.by_name("archive/data/0").unwrap(), &mut std::io::sink());
    assert_eq!(copied.unwrap(), elements * 4);
}

/// Sizes and places of more than 32 bits; sparse, so that it costs nothing where holes stay holes.
#[cfg(target_os = "linux")]
#[test]
fn past_four_gibibytes() {
    let dir = Dir::new();
    let (source, zip, back) = (dir.path("in.pt"), dir.path("zip.pt"), dir.path("back.safetensors"));
    let (legacy, again) = (dir.path("legacy.pt"), dir.path("again.pt"));
    let elements = (1 << 30) + 7;
    legacy_hole(&source, elements);
    mark(&source, elements, 0, 1.5);
    mark(&source, elements, elements - 1, -2.5);
    ok(&["convert", &source, &zip]);
    ok(&["convert", &zip, &back]);
    ok(&["convert", "--to", "torch-legacy", &back, &legacy]);
    ok(&["convert", &back, &again]);
    for path in [&source, &zip, &back, &legacy, &again] {
        let output = run(&["ls", "--json", path]);
        let listed: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(listed["tensors"][0]["bytes"], elements * 4, "{}", stderr(&output));
        for (slice, want) in [("0:2", "tensor([1.5000, 0.0000])"), ("-2:", "tensor([ 0.0000, -2.5000])")] {
            let output = run(&["extract", path, "w", "--slice", slice]);
            assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), want, "{path}: {}", stderr(&output));
        }
    }
    // what lies behind the large member is found too
    let archive = zip::ZipArchive::new(fs::File::open(&zip).unwrap()).unwrap();
    assert_eq!(archive.file_names().count(), 4);
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
