//! `ckpt extract` as a user runs it. What is printed is compared with what torch printed.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // helpers of tests are tests

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

use crate::driver::schemas;

fn testdata(name: &str) -> String {
    format!("{}/testdata/{name}", env!("CARGO_MANIFEST_DIR"))
}

fn ckpt(args: &[&str]) -> Output {
    schemas::output(Command::new(env!("CARGO_BIN_EXE_ckpt")).arg("extract").args(args))
}

/// What a run that succeeds in silence writes to standard output.
fn stdout(args: &[&str]) -> String {
    let output = ckpt(args);
    assert_eq!(String::from_utf8_lossy(&output.stderr), "", "{args:?}");
    assert!(output.status.success(), "{args:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// The status and the error line of a run that fails without a word on standard output.
fn refused(args: &[&str]) -> (i32, String) {
    let output = ckpt(args);
    assert_eq!(String::from_utf8_lossy(&output.stdout), "", "{args:?}");
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(error.starts_with("ckpt: ") || error.starts_with("error: "), "{error}");
    (output.status.code().unwrap(), error)
}

fn expected_prints() -> BTreeMap<String, BTreeMap<String, String>> {
    serde_json::from_slice(&std::fs::read(testdata("prints/expected.json")).unwrap()).unwrap()
}

#[test]
fn tensors_are_printed_as_torch_prints_them() {
    let expected = expected_prints();
    assert!(expected.len() >= 100);
    let tensors = testdata("prints/tensors.pt");
    let mut wrong = Vec::new();
    for (name, prints) in &expected {
        for (kind, want) in prints {
            let full: &[&str] = if kind == "full" { &["--full"] } else { &[] };
            let got = ckpt(&[&[tensors.as_str(), name], full].concat());
            let text = String::from_utf8_lossy(&got.stdout).into_owned() + &String::from_utf8_lossy(&got.stderr);
            if text != *want {
                wrong.push(format!("{name} {kind}\n--- torch\n{want}--- ckpt\n{text}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), expected.len(), wrong.join("\n"));
}

/// A directory of its own for each test, removed at the end.
fn scratch() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}

fn path(dir: &tempfile::TempDir, name: &str) -> String {
    dir.path().join(name).display().to_string()
}

const CHECKPOINT: &str = "torch-2.15-py311/checkpoint.tar";

#[test]
fn values() {
    let file = testdata(CHECKPOINT);
    assert_eq!(stdout(&[&file, "epoch"]), "96\n");
    let printed = |args: &[&str]| -> Value { serde_json::from_str(&stdout(args)).unwrap() };
    let wanted = serde_json::json!({"schema": "ckpt.value/1", "file": file, "name": "epoch", "value": 96});
    assert_eq!(printed(&[&file, "epoch", "--json"]), wanted);
    let betas = "optimizer_state_dict.param_groups.0.betas";
    assert_eq!(stdout(&[&file, betas]), "(0.5, 0.999)\n");
    let found = printed(&[&file, betas, "--format", "json"]);
    assert_eq!((&found["name"], &found["value"]), (&betas.into(), &serde_json::json!([0.5, 0.999])));
    let found = printed(&[&file, "--root", "optimizer_state_dict", "param_groups.0.betas", "--json"]);
    assert_eq!((&found["name"], &found["value"]), (&betas.into(), &serde_json::json!([0.5, 0.999])));
    assert_eq!(stdout(&[&file, "--root", "optimizer_state_dict", "param_groups.0.eps"]), "1e-08\n");
    let dir = scratch();
    let json = path(&dir, "betas.json");
    assert_eq!(stdout(&[&file, betas, "-o", &json]), "");
    assert_eq!(std::fs::read_to_string(&json).unwrap(), "[0.5,0.999]\n");
}

#[test]
fn strings_come_raw() {
    let file = testdata("frameworks/lightning.ckpt");
    let version = stdout(&[&file, "pytorch-lightning_version"]);
    assert!(version.starts_with(|c: char| c.is_ascii_digit()) && version.ends_with('\n'), "{version}");
    let found: Value = serde_json::from_str(&stdout(&[&file, "pytorch-lightning_version", "--json"])).unwrap();
    assert_eq!(found["value"], version.trim());
}

#[test]
fn several_are_printed_with_their_names() {
    let tensors = testdata("prints/tensors.pt");
    let expected = expected_prints();
    let both = stdout(&[&tensors, "scalar", "only_*"]);
    let print = |name: &str| format!("{name}:\n{}", expected[name]["print"]);
    assert_eq!(both, print("only_nan") + &print("only_nonfinite") + &print("scalar"));
    let json = stdout(&[&tensors, "scalar", "only_nonfinite", "--json"]);
    let wanted = r#""name":"","value":{"only_nonfinite":["-Infinity","NaN",0.0],"scalar":3.5}}"#;
    assert!(json.ends_with(&format!("{wanted}\n")), "{json}");
    // a glob stands for several even when it matches one
    assert_eq!(stdout(&[&tensors, "scala?"]), print("scalar"));
    assert_eq!(stdout(&[&tensors, "--include", "scalar_i*", "--include", "scalar_b*"]).matches("tensor(").count(), 2);
    assert_eq!(stdout(&[&tensors, "scalar_*", "--exclude", "*[!t]"]), print("scalar_int"));
}

#[test]
fn no_such_name_is_an_error() {
    let file = testdata(CHECKPOINT);
    let (status, error) = refused(&[&file, "epoc"]);
    assert_eq!(status, 2);
    assert!(error.contains("no element named `epoc`; did you mean `epoch`?"), "{error}");
    let (status, error) = refused(&[&file, "model_state_dict.features.0.wieght", "-o", "/nowhere/x.npy"]);
    assert_eq!(status, 2);
    assert!(error.contains("features.0.weight"), "{error}");
    assert_eq!(refused(&[&file, "--root", "optimiser_state_dict"]).0, 2);
    let (status, error) = refused(&[&file, "epoch", "--exclude", "*"]);
    assert_eq!((status, error.contains("no names left after --include/--exclude")), (2, true));
    let (status, error) = refused(&[&file, "zzz*zzz"]);
    assert_eq!((status, error.contains("did you mean")), (2, false));
}

#[test]
fn names_that_are_ambiguous() {
    // the keys "1" and 1 in one dict
    let (status, error) = refused(&[&testdata("more/keys.pt"), "1"]);
    assert_eq!(status, 2);
    assert!(error.contains("`1` is ambiguous: 1 [\"1\"] or 1 [1]"), "{error}");
}

#[derive(serde::Deserialize)]
struct Array {
    name: String,
    slice: Option<String>,
    dtype: Option<String>,
    file: String,
}

fn arrays() -> Vec<Array> {
    serde_json::from_slice(&std::fs::read(testdata("prints/numpy.json")).unwrap()).unwrap()
}

#[test]
fn npy_is_what_numpy_saves() {
    let tensors = testdata("prints/tensors.pt");
    let dir = scratch();
    let npy = path(&dir, "out.npy");
    let arrays = arrays();
    assert!(arrays.len() > 30);
    for array in arrays {
        let mut args = vec![tensors.as_str(), &array.name, "-o", &npy, "--force"];
        args.extend(array.slice.iter().flat_map(|slice| ["--slice", slice]));
        args.extend(array.dtype.iter().flat_map(|dtype| ["--dtype", dtype]));
        assert_eq!(stdout(&args), "");
        let want = std::fs::read(testdata(&format!("prints/{}", array.file))).unwrap();
        assert!(std::fs::read(&npy).unwrap() == want, "{args:?}");
    }
}

fn members(zip: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut archive = zip::ZipArchive::new(std::fs::File::open(zip).unwrap()).unwrap();
    let mut found = BTreeMap::new();
    for index in 0..archive.len() {
        let mut member = archive.by_index(index).unwrap();
        let mut bytes = Vec::new();
        std::io::Read::read_to_end(&mut member, &mut bytes).unwrap();
        found.insert(member.name().unwrap().into_owned(), bytes);
    }
    found
}

#[test]
fn npz_holds_an_npy_for_each() {
    let tensors = testdata("prints/tensors.pt");
    let dir = scratch();
    let npz = path(&dir, "out.npz");
    let plain: Vec<Array> = arrays().into_iter().filter(|a| a.slice.is_none() && a.dtype.is_none()).collect();
    let mut args = vec![tensors.as_str(), "-o", &npz];
    args.extend(plain.iter().map(|array| array.name.as_str()));
    assert_eq!(stdout(&args), "");
    let found = members(Path::new(&npz));
    assert_eq!(found.len(), plain.len());
    for array in plain {
        let want = std::fs::read(testdata(&format!("prints/{}", array.file))).unwrap();
        assert!(found[&format!("{}.npy", array.name)] == want, "{}", array.name);
    }
}

#[test]
fn numpy_loads_what_was_written() {
    let numpy = Command::new("python3").args(["-c", "import numpy"]).output();
    if !numpy.is_ok_and(|output| output.status.success()) {
        return;
    }
    let dir = scratch();
    let (npz, npy) = (path(&dir, "out.npz"), path(&dir, "out.npy"));
    let tensors = testdata("prints/tensors.pt");
    stdout(&[&tensors, "float64", "complex64", "coo", "quantized_channels", "-o", &npz]);
    stdout(&[&tensors, "transposed", "-o", &npy]);
    let script = "
import sys, numpy as np
z = np.load(sys.argv[1])
assert sorted(z.files) == ['complex64', 'coo.indices', 'coo.size', 'coo.values', 'float64',
    'quantized_channels.axis', 'quantized_channels.int_repr', 'quantized_channels.scale',
    'quantized_channels.zero_point'], z.files
assert np.array_equal(z['float64'], [[0, 0, 1, -1.5], [.125, 100.25, -3, .0625]])
dense = np.zeros(z['coo.size']); dense[tuple(z['coo.indices'])] = z['coo.values']
assert np.array_equal(dense, [[0, 1.5], [0, 0], [2, 0]])
assert z['quantized_channels.int_repr'].dtype == np.int8 and z['quantized_channels.axis'] == 0
assert np.array_equal(z['quantized_channels.scale'], [.1, .2, .3])
assert np.array_equal(np.load(sys.argv[2]), np.arange(12.).reshape(3, 4).T)
";
    let output = Command::new("python3").args(["-c", script, &npz, &npy]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn raw_bytes_are_the_oracles_elements() {
    for file in [
        "torch-2.15-py311/dtypes.pt",
        "torch-2.15-py311/conj.pt",
        "torch-2.15-py311/cnn_state.pt",
        "torch-1.5-py36/views.pt",
        "frameworks/dtypes.safetensors",
    ] {
        let dir = scratch();
        let out = path(&dir, "out");
        let report = stdout(&[&testdata(file), "-o", &out, "--to", "bin", "--json", "-q"]);
        let report: Value = serde_json::from_str(&report).unwrap();
        let files: BTreeMap<&str, &str> = report["written"]
            .as_array()
            .unwrap()
            .iter()
            .map(|written| (written["name"].as_str().unwrap(), written["file"].as_str().unwrap()))
            .collect();
        let oracle: Value = serde_json::from_slice(&std::fs::read(testdata(&format!("{file}.json"))).unwrap()).unwrap();
        let mut seen = 0;
        for tensor in oracle["tensors"].as_array().unwrap() {
            let elements = tensor["path"].as_array().unwrap();
            let name: Vec<String> =
                elements.iter().map(|e| e.as_str().map_or_else(|| e.to_string(), str::to_owned)).collect();
            let Some(stored) = files.get(name.join(".").as_str()) else { continue };
            let bytes = std::fs::read(Path::new(&out).join(stored)).unwrap();
            assert_eq!(hex(&bytes), tensor["sha256"].as_str().unwrap(), "{file} {name:?}");
            seen += 1;
        }
        assert!(seen > 0, "{file}");
    }
}

fn hex(bytes: &[u8]) -> String {
    use sha2::Digest;
    ckpt::data::hash::hex(&sha2::Sha256::digest(bytes))
}

#[test]
fn csv_and_json() {
    let tensors = testdata("prints/tensors.pt");
    let to = |name: &str, form: &str| stdout(&[&tensors, name, "-o", "-", "--to", form]);
    assert_eq!(to("float64", "csv"), "0.0,-0.0,1.0,-1.5\n0.125,100.25,-3.0,0.0625\n");
    assert_eq!(to("int64_extremes", "csv"), "-9223372036854775808\n0\n9223372036854775807\n");
    assert_eq!(to("uint64_extreme", "json"), "[18446744073709551615,0]\n");
    assert_eq!(to("bool", "json"), "[[true,false],[false,true]]\n");
    assert_eq!(to("coo", "json"), "{\"indices\":[[0,2],[1,0]],\"values\":[1.5,2.0],\"size\":[3,2]}\n");
    let found = stdout(&[&tensors, "float64", "--json", "--slice", "1,:2"]);
    assert!(found.ends_with("\"name\":\"float64\",\"value\":[0.125,100.25]}\n"), "{found}");
}

#[test]
fn slices_of_what_is_printed() {
    let tensors = testdata("prints/tensors.pt");
    assert_eq!(stdout(&[&tensors, "transposed", "--slice", "-1"]), "tensor([ 3.,  7., 11.])\n");
    assert_eq!(stdout(&[&tensors, "transposed", "--slice", "::-3,1"]), "tensor([7., 4.])\n");
    assert_eq!(
        stdout(&[&tensors, "bfloat16", "--slice", "0", "--dtype", "float32"]),
        "tensor([ 0.0000, -0.0000,  1.0000, -1.5000])\n"
    );
    for (slice, why) in
        [("7", "index 7 is out of bounds"), ("0,0,0", "3 indexes for a tensor of 2"), ("a", "no integer")]
    {
        let (status, error) = refused(&[&tensors, "transposed", "--slice", slice]);
        assert_eq!(status, 2);
        assert!(error.contains(why), "{error}");
    }
    for (name, why) in [("coo", "sparse"), ("quantized_channels", "per-channel"), ("meta", "meta")] {
        let (status, error) = refused(&[&tensors, name, "--slice", "0"]);
        assert!(status == 2 && error.contains(why), "{error}");
    }
}

fn decode(png: &str) -> (png::OutputInfo, Vec<u8>) {
    let file = std::io::BufReader::new(std::fs::File::open(png).unwrap());
    let mut reader = png::Decoder::new(file).read_info().unwrap();
    let mut pixels = vec![0; reader.output_buffer_size().unwrap()];
    let info = reader.next_frame(&mut pixels).unwrap();
    pixels.truncate(info.buffer_size());
    (info, pixels)
}

#[test]
fn pictures() {
    let tensors = testdata("prints/tensors.pt");
    let dir = scratch();
    let png = path(&dir, "out.png");
    let draw = |args: &[&str]| {
        stdout(&[&[tensors.as_str(), "-o", &png, "--force"], args].concat());
        decode(&png)
    };
    // 0 to 11, transposed
    let (info, pixels) = draw(&["transposed"]);
    assert_eq!((info.width, info.height, info.color_type), (3, 4, png::ColorType::Grayscale));
    assert_eq!(pixels[..6], [0, 93, 185, 23, 116, 209]);
    let (info, pixels) = draw(&["transposed", "--scale", "3"]);
    assert_eq!((info.width, info.height), (9, 12));
    assert_eq!(pixels[..6], [0, 0, 0, 93, 93, 93]);
    assert_eq!(draw(&["transposed", "--range", "4,8"]).1[..3], [0, 0, 255]);
    let (info, pixels) = draw(&["transposed", "--diverging"]);
    assert_eq!((info.color_type, &pixels[..3]), (png::ColorType::Rgb, &[247, 247, 247][..]));
    assert_eq!(draw(&["transposed", "--diverging", "--range", "-1,0"]).1[..3], [178, 24, 43]);
    // 4 x 3 x 3 x 3: four tiles in colours
    let (info, _) = draw(&["four_dims"]);
    assert_eq!((info.width, info.height, info.color_type), (7, 7, png::ColorType::Rgb));
    let (info, _) = draw(&["four_dims", "--diverging"]);
    assert_eq!((info.width, info.height), (11, 15));
    for (name, why) in [
        ("five_dims", "5 dimensions"),
        ("whole", "1 dimensions"),
        ("complex_scientific", "real numbers"),
        ("empty_2d", "empty"),
    ] {
        let (status, error) = refused(&[&tensors, name, "-o", &png, "--force"]);
        assert!(status == 2 && error.contains(why), "{error}");
    }
    for option in [&["--scale", "2"][..], &["--diverging"], &["--range", "0,1"]] {
        let (status, error) =
            refused(&[&[tensors.as_str(), "transposed", "-o", &path(&dir, "x.npy")], option].concat());
        assert!(status == 2 && error.contains("pictures"), "{error}");
    }
    for range in ["1", "2,1", "a,b", "nan,1"] {
        assert_eq!(refused(&[&tensors, "transposed", "-o", &png, "--range", range]).0, 2);
    }
}

/// Names of tensors with what makes them equal, and which of them share a storage.
fn listing(args: &[&str]) -> (Vec<Value>, usize) {
    let output = schemas::output(Command::new(env!("CARGO_BIN_EXE_ckpt")).args(["ls", "--json", "--hash"]).args(args));
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let listing: Value = serde_json::from_slice(&output.stdout).unwrap();
    let mut storages = std::collections::HashMap::new();
    let mut rows = Vec::new();
    for tensor in listing["tensors"].as_array().unwrap() {
        let count = storages.len();
        let storage = *storages.entry(tensor["storage"].clone()).or_insert(count);
        let fields = ["name", "path", "kind", "dtype", "shape", "stride", "storage_offset", "requires_grad", "sha256"];
        rows.push(Value::from_iter(fields.iter().map(|field| tensor[field].clone()).chain([Value::from(storage)])));
    }
    let values = listing["values"].as_array().unwrap();
    rows.extend(values.iter().map(|value| serde_json::json!([value["path"], value["type"], value["repr"]])));
    (rows, storages.len())
}

#[test]
fn a_subtree_keeps_its_objects_and_loses_unused_storages() {
    let dir = scratch();
    let pt = path(&dir, "out.pt");
    for (file, root) in [
        (CHECKPOINT, "optimizer_state_dict"),
        (CHECKPOINT, "model_state_dict"),
        ("torch-2.15-py311/checkpoint.legacy.tar", "optimizer_state_dict"),
        ("torch-1.5-py36/everything.pt", "."),
        ("torch-2.15-py311/everything.pt", "."),
        ("torch-2.15-py311/tied_full.pth", "."),
        ("torch-1.5-py36/views.pt", "."),
        ("frameworks/lightning.ckpt", "state_dict"),
    ] {
        let file = testdata(file);
        stdout(&[&file, "--root", root, "-o", &pt, "--force", "-q"]);
        let (want, storages) = listing(&[&file, "--root", root]);
        let (got, _) = listing(&[&pt]);
        assert_eq!(got, want, "{file} {root}");
        let stored = members(Path::new(&pt)).into_keys().filter(|name| name.contains("/data/")).count();
        assert!(stored <= storages, "{file} {root}: {stored} storages for {storages}");
    }
}

#[test]
fn chosen_objects_into_torchs_format() {
    let dir = scratch();
    let (pt, file) = (path(&dir, "out.pt"), testdata(CHECKPOINT));
    // one object alone, whatever it is
    stdout(&[&file, "epoch", "-o", &pt]);
    assert_eq!(stdout(&[&pt]), "96\n");
    stdout(&[&file, "optimizer_state_dict.param_groups", "-o", &pt, "--force"]);
    assert_eq!(stdout(&[&pt, "0.lr"]), "0.001\n");
    // several become a dict
    stdout(&[&file, "epoch", "*features.0.*", "-o", &pt, "--force"]);
    let (rows, _) = listing(&[&pt]);
    let names: Vec<&Value> = rows.iter().map(|row| &row[0]).collect();
    let weight = "model_state_dict.features.0.weight";
    assert!(names.contains(&&Value::from(weight)) && names.contains(&&serde_json::json!(["epoch"])), "{names:?}");
    // parts and casts
    let tensors = testdata("prints/tensors.pt");
    stdout(&[&tensors, "transposed", "--slice", "::-1", "--dtype", "float16", "-o", &pt, "--force"]);
    let want = "tensor([[ 3.,  7., 11.],\n        [ 2.,  6., 10.],\n        [ 1.,  5.,  9.],\n        [ 0.,  4.,  8.]], dtype=torch.float16)\n";
    assert_eq!(stdout(&[&pt]), want);
    stdout(&[&tensors, "four_dims", "--dtype", "bfloat16", "-o", &pt, "--force"]);
    assert!(stdout(&[&pt]).contains("dtype=torch.bfloat16"));
    // a view takes along only what it sees of its storage
    stdout(&[&tensors, "view", "-o", &pt, "--force"]);
    assert_eq!(stdout(&[&pt]), expected_prints()["view"]["print"]);
    let bytes: usize =
        members(Path::new(&pt)).iter().filter(|(name, _)| name.contains("/data/")).map(|m| m.1.len()).sum();
    assert_eq!(bytes, 28 * 4);
}

#[test]
fn safetensors_by_name() {
    let dir = scratch();
    let out = path(&dir, "out.safetensors");
    let output = ckpt(&[&testdata(CHECKPOINT), "epoch", "model_state_dict.*", "-o", &out]);
    assert!(output.status.success());
    assert!(String::from_utf8(output.stderr).unwrap().ends_with("left out: epoch\n"));
    let (got, _) = listing(&[&out]);
    let (want, _) = listing(&[&testdata(CHECKPOINT), "--include", "model_state_dict.*"]);
    let facts = |rows: &[Value]| {
        let mut facts: Vec<String> = rows.iter().map(|r| format!("{} {} {} {}", r[0], r[3], r[4], r[8])).collect();
        facts.sort();
        facts
    };
    assert_eq!(facts(&got), facts(&want));
    let quiet = ckpt(&[&testdata(CHECKPOINT), "epoch", "model_state_dict.*", "-o", &out, "--force", "--quiet"]);
    assert_eq!((quiet.status.code(), quiet.stderr.len()), (Some(0), 0));
}

#[test]
fn a_file_for_each_in_a_directory() {
    let dir = scratch();
    let out = path(&dir, "out");
    let report = stdout(&[&testdata(CHECKPOINT), "epoch", "model_state_dict.features.*", "-o", &out, "--json"]);
    let report: Value = serde_json::from_str(&report).unwrap();
    assert_eq!(report["schema"], "ckpt.extract/1");
    assert_eq!(report["format"], "npy");
    let mut listed: Vec<PathBuf> = std::fs::read_dir(&out).unwrap().map(|entry| entry.unwrap().path()).collect();
    listed.sort();
    let written = report["written"].as_array().unwrap();
    assert_eq!(listed.len(), written.len());
    assert!(listed.contains(&Path::new(&out).join("model_state_dict.features.0.weight.npy")));
    assert_eq!(std::fs::read_to_string(Path::new(&out).join("epoch.json")).unwrap(), "96\n");
    let bytes: u64 = listed.iter().map(|file| file.metadata().unwrap().len()).sum();
    assert_eq!(report["bytes"], bytes);
    // nothing is replaced, and nothing new appears, unless --force says so
    std::fs::remove_file(Path::new(&out).join("epoch.json")).unwrap();
    let again = [&testdata(CHECKPOINT), "epoch", "model_state_dict.features.*", "-o", &out];
    let (status, error) = refused(&again);
    assert!(status == 2 && error.contains("--force"), "{error}");
    assert!(!Path::new(&out).join("epoch.json").exists());
    assert_eq!(stdout(&[&again[..], &["--force"]].concat()), "");
    assert!(Path::new(&out).join("epoch.json").exists());
    // no trace of the files that were written beside
    assert!(std::fs::read_dir(dir.path()).unwrap().all(|entry| entry.unwrap().file_name() == "out"));
}

#[cfg(unix)]
#[test]
fn nothing_is_written_outside_the_directory() {
    let dir = scratch();
    let out = path(&dir, "out");
    std::fs::create_dir(&out).unwrap();
    let outside = path(&dir, "outside.npy");
    std::fs::write(&outside, "mine").unwrap();
    std::os::unix::fs::symlink(&outside, Path::new(&out).join("scalar.npy")).unwrap();
    let (status, error) = refused(&[&testdata("prints/tensors.pt"), "scalar", "-o", &out, "--force"]);
    assert!(status == 2 && error.contains("link"), "{error}");
    assert_eq!(std::fs::read_to_string(&outside).unwrap(), "mine");
}

#[test]
fn refusals() {
    let dir = scratch();
    let (tensors, file) = (testdata("prints/tensors.pt"), testdata(CHECKPOINT));
    let out = |name: &str| path(&dir, name);
    std::fs::write(out("there.npy"), "mine").unwrap();
    let cases: &[(&[&str], &str)] = &[
        (&[&tensors, "scalar", "-o", &out("there.npy")], "--force"),
        (&[&tensors, "scalar", "-o", &out("no/such/x.npy")], "does not exist"),
        (&[&tensors, "bfloat16", "-o", &out("x.npy")], "--dtype float32"),
        (&[&tensors, "float8_e5m2", "-o", &out("x.npz")], "--dtype float32"),
        (&[&tensors, "complex32", "-o", &out("x.npy")], "NumPy has no complex32"),
        (&[&tensors, "complex128", "-o", &out("x.safetensors")], "safetensors cannot hold complex128"),
        (&[&tensors, "coo", "-o", &out("x.npy")], ".npz"),
        (&[&tensors, "qint8", "-o", &out("x.csv")], "NAME.int_repr"),
        (&[&tensors, "scalar", "scalar_int", "-o", &out("x.npy")], "2 tensors do not fit into .npy"),
        (&[&tensors, "three_dims", "-o", &out("x.csv")], "3 dimensions"),
        (&[&tensors, "meta", "-o", &out("x.npy")], "meta tensor has no data"),
        (&[&file, "epoch", "-o", &out("x.npy")], "epoch is not a tensor"),
        (&[&file, "epoch", "-o", &out("x.npz")], "epoch is not a tensor"),
        (&[&tensors, "scalar", "-o", &out("x.docx")], "extension .docx"),
        (&[&tensors, "scalar", "-o", "-"], "--to"),
        (&[&tensors, "scalar", "-o", "-", "--to", "npy", "--json"], "--json"),
        (&[&tensors, "scalar", "-o", &out("dir/"), "--to", "npz"], "one file per tensor"),
        (&[&tensors, "int64", "--dtype", "float32"], "only floating-point tensors"),
        (&[&tensors, "float32", "--dtype", "int64"], "float16, bfloat16, float32, float64"),
        (&[&tensors, "scalar", "--force"], "--output"),
        (&[&tensors, "scalar", "--full", "-o", &out("x.npy")], "cannot be used with"),
        (&[&tensors, "["], "glob"),
        (&[&out("nowhere.pt"), "x"], "No such file"),
    ];
    for (args, why) in cases {
        let (status, error) = refused(args);
        assert_eq!(status, 2, "{args:?} {error}");
        assert!(error.contains(why), "{args:?} {error}");
    }
    assert_eq!(std::fs::read_to_string(out("there.npy")).unwrap(), "mine");
    let left: Vec<_> = std::fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["there.npy"]);
    assert_eq!(stdout(&[&tensors, "scalar", "-o", &out("there.npy"), "--force"]), "");
    assert_ne!(std::fs::read(out("there.npy")).unwrap(), b"mine");
}

#[test]
fn bounds_and_overflows() {
    let tensors = testdata("prints/tensors.pt");
    // 1400 elements in a storage of two
    let (status, error) = refused(&[&tensors, "expanded", "--full", "--max-read-bytes", "100"]);
    assert!(status == 2 && error.contains("--max-read-bytes"), "{error}");
    let dir = scratch();
    for (form, name) in [("npy", "out.npy"), ("pt", "out.pt"), ("csv", "out.csv")] {
        let output = ckpt(&[&tensors, "whole_large", "--dtype", "float16", "-o", &path(&dir, name)]);
        let note = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success() && note.contains("2 values overflowed float16"), "{form}: {note}");
    }
}

#[test]
fn standard_input_and_output() {
    let file = std::fs::File::open(testdata(CHECKPOINT)).unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_ckpt")).args(["extract", "-", "epoch"]).stdin(file).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), "96\n");
    let piped = ckpt(&[&testdata("prints/tensors.pt"), "uint16", "-o", "-", "--to", "bin"]).stdout;
    assert_eq!(piped, [0, 0, 1, 0, 200, 0, 7, 0, 30, 0, 255, 0]);
    let npz = ckpt(&[&testdata("prints/tensors.pt"), "uint16", "scalar", "-o", "-", "--to", "npz"]).stdout;
    let dir = scratch();
    std::fs::write(path(&dir, "piped.npz"), npz).unwrap();
    assert_eq!(members(&dir.path().join("piped.npz")).len(), 2);
}

#[cfg(unix)]
#[test]
fn a_closed_pipe_ends_quietly() {
    let tensors = testdata("prints/tensors.pt");
    for args in [
        &["--full"][..],
        &["--json"],
        &["-o", "-", "--to", "npz", "-q", "matrix_*"],
        &["-o", "-", "--to", "csv", "row_1000"],
    ] {
        let mut child = Command::new(env!("CARGO_BIN_EXE_ckpt"))
            .args(["extract", &tensors, "--exclude", "*float8*", "--exclude", "bfloat16", "--exclude", "meta*"])
            .args(args)
            .stdout(std::process::Stdio::piped())
            .stderr(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        drop(child.stdout.take());
        let output = child.wait_with_output().unwrap();
        assert_eq!((output.status.code(), String::from_utf8_lossy(&output.stderr).as_ref()), (Some(0), ""), "{args:?}");
    }
}

/// Dicts, lists, tuples, objects and names with dots, as the object nests them.
#[test]
fn json_nests_as_the_object_does() {
    let printed = |args: &[&str]| -> Value { serde_json::from_str(&stdout(args)).unwrap() };
    let file = testdata(CHECKPOINT);
    let whole = printed(&[&file, "--json", "--exclude", "model_state_dict*"]);
    assert_eq!((&whole["file"], &whole["name"]), (&file.clone().into(), &"".into()));
    let group = &whole["value"]["optimizer_state_dict"]["param_groups"];
    assert_eq!(group[0]["betas"], serde_json::json!([0.5, 0.999]));
    assert_eq!(group[0]["params"][1], 1, "{group}");
    // integer keys are no indexes
    assert!(whole["value"]["optimizer_state_dict"]["state"]["0"]["exp_avg"].is_array());
    // a name of a state dict is one key, whatever dots it has
    let model = printed(&[&file, "--json", "--root", "model_state_dict", "features.0.*"]);
    assert_eq!(model["name"], "model_state_dict");
    assert_eq!(model["value"]["features.0.weight"].as_array().map(Vec::len), Some(4));
}

/// {"meta": {2: {"k": 1}, "2": {"k": 2}}, "list": [{"x": 1}, 2], "pair": (1, {"y": 2, "z": []}), "n": None}
const NESTED: &[u8] = b"\x80\x02}q\x00(X\x04\x00\x00\x00metaq\x01}q\x02(K\x02}q\x03X\x01\x00\x00\x00kq\x04K\x01sX\x01\x00\x00\x002q\x05}q\x06h\x04K\x02suX\x04\x00\x00\x00listq\x07]q\x08(}q\x09X\x01\x00\x00\x00xq\x0aK\x01sK\x02eX\x04\x00\x00\x00pairq\x0bK\x01}q\x0c(X\x01\x00\x00\x00yq\x0dK\x02X\x01\x00\x00\x00zq\x0e]q\x0fu\x86q\x10X\x01\x00\x00\x00nq\x11Nu.";

#[test]
fn json_of_parts_and_of_keys_that_look_alike() {
    let dir = scratch();
    let file = path(&dir, "nested.pkl");
    std::fs::write(&file, NESTED).unwrap();
    let value = |args: &[&str]| -> Value {
        let printed: Value = serde_json::from_str(&stdout(&[&[file.as_str(), "--json"], args].concat())).unwrap();
        printed["value"].clone()
    };
    let whole = r#"{"meta": {"2": {"k": 1}, "'2'": {"k": 2}}, "list": [{"x": 1}, 2], "pair": [1, {"y": 2, "z": []}], "n": null}"#;
    assert_eq!(value(&[]), serde_json::from_str::<Value>(whole).unwrap());
    assert_eq!(value(&["n"]), Value::Null);
    // of a list of which a part is chosen the indexes stay
    assert_eq!(value(&["list.1", "pair.1.y"]), serde_json::json!({"list": {"1": 2}, "pair": {"1": {"y": 2}}}));
    assert_eq!(value(&["--root", "pair"]), serde_json::json!([1, {"y": 2, "z": []}]));
    let out = path(&dir, "out.json");
    assert_eq!(stdout(&[&file, "list", "pair", "-o", &out]), "");
    assert_eq!(std::fs::read_to_string(&out).unwrap(), "{\"list\":[{\"x\":1},2],\"pair\":[1,{\"y\":2,\"z\":[]}]}\n");
}
