//! Checkpoints of several files or members: what torch says of real ones, and what to make of broken ones.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)] // helpers of tests are tests

use std::collections::HashMap;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use ckpt::layout::Layout;
use ckpt::limits::Limits;
use ckpt::progress::Silent;
use serde_json::Value;
use tempfile::TempDir;

fn testdata(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata").join(name)
}

fn ls(args: &[&str], path: &Path) -> Output {
    crate::driver::schemas::output(Command::new(env!("CARGO_BIN_EXE_ckpt")).arg("ls").args(args).arg(path))
}

fn json(args: &[&str], path: &Path) -> Value {
    let output = ls(&[&["--json"], args].concat(), path);
    assert!(!output.stdout.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// The one line on standard error of an input that is refused.
fn refusal(path: &Path) -> String {
    let output = ls(&[], path);
    assert_eq!((output.status.code(), output.stdout.len()), (Some(2), 0), "{path:?}");
    let text = String::from_utf8(output.stderr).unwrap();
    assert_eq!(text.lines().count(), 1, "{text}");
    text
}

fn tensors(doc: &Value) -> HashMap<String, Value> {
    let rows = doc["tensors"].as_array().unwrap().iter();
    rows.map(|row| (row["name"].as_str().unwrap().to_owned(), row.clone())).collect()
}

fn problem(doc: &Value, name: &str) -> String {
    let row = tensors(doc).remove(name).unwrap_or_else(|| panic!("no {name} in {doc}"));
    row["problem"].as_str().unwrap_or_default().to_owned()
}

fn copied(name: &str) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    for entry in fs::read_dir(testdata(name)).unwrap().map(Result::unwrap) {
        fs::write(dir.path().join(entry.file_name()), fs::read(entry.path()).unwrap()).unwrap();
    }
    dir
}

const REAL: &[(&str, &str)] = &[
    ("frameworks/dcp_single", "dcp"),
    ("frameworks/dcp_sharded", "dcp"),
    ("frameworks/hf_sharded_bin", "sharded"),
    ("frameworks/hf_sharded_safetensors", "sharded"),
    ("frameworks/exported.pt2", "pt2"),
    ("layouts/dcp_mesh", "dcp"),
    ("layouts/sharded_tied", "sharded"),
    ("layouts/tied.pt2", "pt2"),
    ("layouts/two_models.pt2", "pt2"),
];

#[test]
fn what_torch_says() {
    for (name, container) in REAL {
        let oracle: Value = serde_json::from_slice(&fs::read(testdata(&format!("{name}.json"))).unwrap()).unwrap();
        let output = ls(&["--json", "--hash"], &testdata(name));
        assert_eq!((output.status.code(), output.stderr.len()), (Some(0), 0), "{name}");
        let doc: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(doc["container"], *container, "{name}");
        let rows: Vec<&Value> =
            doc["tensors"].as_array().unwrap().iter().filter(|row| row["in_state_dict"] == true).collect();
        let wanted = oracle["tensors"].as_array().unwrap();
        assert_eq!(
            rows.iter().map(|row| &row["path"]).collect::<Vec<_>>(),
            wanted.iter().map(|tensor| &tensor["path"]).collect::<Vec<_>>(),
            "{name}"
        );
        for (row, tensor) in rows.iter().zip(wanted) {
            for key in ["dtype", "shape", "stride", "device", "sha256"] {
                assert_eq!(row[key], tensor[key], "{name}: {} {key}", row["name"]);
            }
            assert_eq!(row["storage_offset"], tensor["offset"], "{name}: {}", row["name"]);
            if tensor["class"] == "Parameter" {
                assert_eq!((&row["kind"], &row["requires_grad"]), (&"parameter".into(), &tensor["requires_grad"]));
            }
            assert!(*container == "pt2" || row["storage"].is_null(), "{name}: {row}");
        }
        let values: Vec<(&Value, &Value, &Value)> =
            doc["values"].as_array().unwrap().iter().map(|v| (&v["path"], &v["type"], &v["repr"])).collect();
        for leaf in oracle["leaves"].as_array().unwrap() {
            assert!(values.contains(&(&leaf["path"], &leaf["type"], &leaf["repr"])), "{name}: {leaf}");
        }
        let outside = oracle["outside_state_dict"].as_object().cloned().unwrap_or_default();
        for (key, sha256) in &outside {
            let row = tensors(&doc).remove(key).unwrap();
            assert_eq!((&row["in_state_dict"], &row["sha256"]), (&false.into(), sha256), "{name}: {key}");
        }
    }
}

#[test]
fn sharing_survives_shards_and_export() {
    for (name, one, other) in
        [("layouts/sharded_tied", "x.weight", "y.weight"), ("layouts/tied.pt2", "a.weight", "b.weight")]
    {
        let rows = tensors(&json(&[], &testdata(name)));
        assert_eq!(rows[one]["shares_with"], serde_json::json!([other]), "{name}");
    }
}

#[test]
fn an_index_and_its_directory_are_the_same() {
    let dir = testdata("frameworks/hf_sharded_safetensors");
    let index = dir.join("model.safetensors.index.json");
    let (mut whole, mut named) = (json(&["--hash"], &dir), json(&["--hash"], &index));
    assert_eq!(whole["bytes"], 880 + 880 + 492);
    assert_eq!(whole["values"][0]["path"], serde_json::json!(["__metadata__", "format"]));
    for doc in [&mut whole, &mut named] {
        doc["file"] = Value::Null;
    }
    assert_eq!(whole, named);
    // beside what belongs to no shard, the directory has more bytes
    let dir = copied("frameworks/hf_sharded_safetensors");
    fs::write(dir.path().join("README.md"), [b'x'; 100]).unwrap();
    assert_eq!(json(&[], dir.path())["bytes"], 880 + 880 + 492 + 100);
    // an index that comes without its place has no shards
    let mut child = Command::new(env!("CARGO_BIN_EXE_ckpt"))
        .args(["ls", "-"])
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(&fs::read(index).unwrap()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("name the index file itself"));
}

#[test]
fn a_broken_shard_spoils_its_own_tensors_only() {
    type Spoil = fn(&Path);
    let spoil: [(&str, Spoil); 4] = [
        ("is missing", |shard| fs::remove_file(shard).unwrap()),
        ("Git LFS pointer", |shard| {
            fs::write(shard, "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 5\n").unwrap()
        }),
        ("not a regular file", |shard| {
            fs::remove_file(shard).unwrap();
            fs::create_dir(shard).unwrap();
        }),
        ("does not hold it", |shard| {
            fs::copy(testdata("frameworks/cnn_state.safetensors"), shard).unwrap();
        }),
    ];
    for (word, spoil) in spoil {
        let dir = copied("frameworks/hf_sharded_bin");
        spoil(&dir.path().join("pytorch_model-00002-of-00002.bin"));
        assert_eq!(ls(&[], dir.path()).status.code(), Some(0), "{word}");
        assert_eq!(ls(&["--hash"], dir.path()).status.code(), Some(2), "{word}");
        let doc = json(&["--hash"], dir.path());
        let good = tensors(&json(&["--hash"], &testdata("frameworks/hf_sharded_bin")));
        assert_eq!(doc["tensors"].as_array().unwrap().len(), 8);
        for name in ["h.0.weight", "h.1.bias"] {
            assert_eq!(tensors(&doc)[name], good[name], "{word}");
        }
        let said = problem(&doc, "h.2.weight");
        assert!(said.contains(word) && said.contains("pytorch_model-00002-of-00002.bin"), "{said}");
        assert!(tensors(&doc)["h.3.bias"]["sha256"].is_null());
    }
}

#[test]
fn what_no_index_names_is_noted() {
    let dir = copied("frameworks/hf_sharded_bin");
    let index = dir.path().join("pytorch_model.bin.index.json");
    let text = fs::read_to_string(&index).unwrap();
    let line = "\n    \"h.0.bias\": \"pytorch_model-00001-of-00002.bin\",";
    fs::write(&index, text.replace(line, "")).unwrap();
    let output = ls(&["--names"], dir.path());
    assert_eq!(String::from_utf8_lossy(&output.stdout).lines().count(), 7);
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("pytorch_model-00001-of-00002.bin") && said.contains("h.0.bias"), "{said}");
    assert!(ls(&["-q"], dir.path()).stderr.is_empty());
}

#[test]
fn indexes_that_are_refused() {
    let cases: &[(&str, &[&str])] = &[
        (r#"{"weight_map": {"w": "../model.bin"}}"#, &["../model.bin", "not a file in its directory"]),
        (r#"{"weight_map": {"w": "/etc/passwd"}}"#, &["/etc/passwd"]),
        (r#"{"weight_map": {"w": ""}}"#, &["not a file in its directory"]),
        (r#"{"weight_map": {"w": "none.bin"}}"#, &["none.bin", "is missing"]),
        (r#"{"weight_map": {"w": "model.bin.index.json"}}"#, &["index of shards"]),
        (r#"{"weight_map": {"w": "a.bin", "w": "b.bin"}}"#, &["twice"]),
        (r#"{"weight_map": {"w": 3}}"#, &["bad index of shards", "byte"]),
        (r#"{"weight_map": {"w": "a.bin""#, &["bad index of shards", "byte"]),
        (r#"{"weight_map": {"w": "scripted.pt"}}"#, &["scripted.pt", "torchscript"]),
    ];
    for (text, words) in cases {
        let dir = tempfile::tempdir().unwrap();
        fs::copy(testdata("torch-1.5-py36/scripted.pt"), dir.path().join("scripted.pt")).unwrap();
        let index = dir.path().join("model.bin.index.json");
        fs::write(&index, text).unwrap();
        for path in [dir.path(), &index] {
            let said = refusal(path);
            assert!(words.iter().all(|word| said.contains(word)), "{text}: {said}");
        }
    }
}

#[test]
fn directories_that_are_no_checkpoint() {
    let files: &[(&[&str], &[&str])] = &[
        (&[], &[".metadata", "*.index.json", "-R"]),
        (&["a.safetensors.index.json", "b.bin.index.json"], &["a.safetensors.index.json", "b.bin.index.json"]),
        (&["__0_0.distcp"], &["without the .metadata"]),
        (&["mp_rank_00_model_states.pt"], &["mp_rank_00_model_states.pt"]),
        (&["zero_to_fp32.py"], &["DeepSpeed"]),
    ];
    for (names, words) in files {
        let dir = tempfile::tempdir().unwrap();
        names.iter().for_each(|name| fs::write(dir.path().join(name), "{}").unwrap());
        let said = refusal(dir.path());
        assert!(words.iter().all(|word| said.contains(word)), "{said}");
    }
}

#[test]
fn recursion_lists_a_directory_once() {
    let output = ls(&["-R", "--json"], &testdata("frameworks"));
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    let mut listed: Vec<(String, String)> = Vec::new();
    for line in text.lines() {
        let doc: Value = serde_json::from_str(line).unwrap();
        let file = Path::new(doc["file"].as_str().unwrap());
        let name = file.strip_prefix(testdata("frameworks")).unwrap().display().to_string();
        listed.push((name, doc["container"].as_str().unwrap().to_owned()));
    }
    let inside: Vec<_> = listed.iter().filter(|(name, _)| name.contains("dcp") || name.contains("sharded")).collect();
    let wanted = ["dcp_sharded", "dcp_single", "hf_sharded_bin", "hf_sharded_safetensors"];
    assert_eq!(inside.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), wanted);
    assert!(listed.contains(&("lightning.ckpt".into(), "zip".into())));
    // other checkpoints beside shards are listed, and so are two indexes in one directory
    let dir = copied("frameworks/hf_sharded_bin");
    fs::copy(testdata("frameworks/lightning.ckpt"), dir.path().join("last.ckpt")).unwrap();
    for entry in fs::read_dir(testdata("frameworks/hf_sharded_safetensors")).unwrap().map(Result::unwrap) {
        fs::copy(entry.path(), dir.path().join(entry.file_name())).unwrap();
    }
    let output = ls(&["-R", "--json"], dir.path());
    let text = String::from_utf8(output.stdout).unwrap();
    let names: Vec<String> = text
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap()["file"].as_str().unwrap().to_owned())
        .map(|file| Path::new(&file).file_name().unwrap().to_string_lossy().into_owned())
        .collect();
    assert_eq!(names, ["last.ckpt", "model.safetensors.index.json", "pytorch_model.bin.index.json"]);
}

// DCP, broken in every way that its index allows.

/// A pickle in the making, protocol 2.
struct Pickle;

impl Pickle {
    fn text(value: &str) -> Vec<u8> {
        [b"X", &u32::try_from(value.len()).unwrap().to_le_bytes()[..], value.as_bytes()].concat()
    }

    fn int(value: i64) -> Vec<u8> {
        [b"\x8a\x08", &value.to_le_bytes()[..]].concat()
    }

    fn tuple(items: &[Vec<u8>]) -> Vec<u8> {
        [b"(", &items.concat()[..], b"t"].concat()
    }

    fn size(extents: &[i64]) -> Vec<u8> {
        let items: Vec<Vec<u8>> = extents.iter().map(|extent| Self::int(*extent)).collect();
        [b"ctorch\nSize\n", &Self::tuple(&items)[..], b"\x85R"].concat()
    }

    fn list(items: &[Vec<u8>]) -> Vec<u8> {
        [b"](", &items.concat()[..], b"e"].concat()
    }

    fn dict(items: &[(Vec<u8>, Vec<u8>)]) -> Vec<u8> {
        let items: Vec<u8> = items.iter().flat_map(|(key, value)| [key.as_slice(), value].concat()).collect();
        [b"}(", &items[..], b"u"].concat()
    }

    fn object(class: &str, state: &[u8]) -> Vec<u8> {
        [b"ctorch.distributed.checkpoint.metadata\n", class.as_bytes(), b"\n)\x81", state, b"b"].concat()
    }

    fn with(class: &str, attributes: &[(&str, Vec<u8>)]) -> Vec<u8> {
        let items: Vec<_> = attributes.iter().map(|(name, value)| (Self::text(name), value.clone())).collect();
        Self::object(class, &Self::dict(&items))
    }
}

/// File, first byte, bytes.
type At = (String, i64, i64);

/// A tensor `t` in a DCP directory: its chunks, and where the index says each lies.
struct Described {
    dtype: &'static str,
    size: Vec<i64>,
    /// Offset, size, place.
    chunks: Vec<(Vec<i64>, Vec<i64>, Option<At>)>,
    encoded: bool,
    /// Where `planner_data` puts the tensor.
    path: Vec<Vec<u8>>,
}

/// `bare_tensor.pt`: five float32.
const FIVE: i64 = 1605;

fn place(file: &str) -> Option<At> {
    Some((file.to_owned(), 0, FIVE))
}

impl Default for Described {
    fn default() -> Self {
        Described {
            dtype: "float32",
            size: vec![10],
            chunks: vec![(vec![0], vec![5], place("a.distcp")), (vec![5], vec![5], place("b.distcp"))],
            encoded: false,
            path: vec![Pickle::text("t")],
        }
    }
}

impl Described {
    fn write(&self) -> TempDir {
        let dir = tempfile::tempdir().unwrap();
        for name in ["a.distcp", "b.distcp"] {
            fs::copy(testdata("torch-2.15-py311/bare_tensor.pt"), dir.path().join(name)).unwrap();
        }
        let dtype = format!("ctorch\n{}\n", self.dtype).into_bytes();
        let strided = b"ctorch.serialization\n_get_layout\nX\x0d\0\0\0torch.strided\x85R".to_vec();
        let state = Pickle::tuple(&[dtype, strided, b"\x89".to_vec(), b"N".to_vec(), b"\x89".to_vec()]);
        let sizes = |(offsets, sizes, _): &(Vec<i64>, Vec<i64>, _)| {
            Pickle::with("ChunkStorageMetadata", &[("offsets", Pickle::size(offsets)), ("sizes", Pickle::size(sizes))])
        };
        let tensor = Pickle::with(
            "TensorStorageMetadata",
            &[
                ("properties", Pickle::object("TensorProperties", &state)),
                ("size", Pickle::size(&self.size)),
                ("chunks", Pickle::list(&self.chunks.iter().map(sizes).collect::<Vec<_>>())),
            ],
        );
        let mut stored = Vec::new();
        for (offsets, _, place) in &self.chunks {
            let Some((file, offset, length)) = place else { continue };
            let key = [("fqn", Pickle::text("t")), ("offset", Pickle::size(offsets))];
            let mut value = vec![
                ("relative_path", Pickle::text(file)),
                ("offset", Pickle::int(*offset)),
                ("length", Pickle::int(*length)),
            ];
            if self.encoded {
                value.push(("transform_descriptors", Pickle::list(&[Pickle::text("zstd")])));
            }
            stored.push((Pickle::with("MetadataIndex", &key), Pickle::with("_StorageInfo", &value)));
        }
        let bytes = Pickle::with("BytesStorageMetadata", &[]);
        let described = [(Pickle::text("t"), tensor), (Pickle::text("epoch"), bytes)];
        let paths = [
            (Pickle::text("t"), Pickle::tuple(&self.path)),
            (Pickle::text("epoch"), Pickle::tuple(&[Pickle::text("epoch")])),
        ];
        let index = Pickle::with(
            "Metadata",
            &[
                ("state_dict_metadata", Pickle::dict(&described)),
                ("planner_data", Pickle::dict(&paths)),
                ("storage_data", Pickle::dict(&stored)),
            ],
        );
        fs::write(dir.path().join(".metadata"), [b"\x80\x02", &index[..], b"."].concat()).unwrap();
        dir
    }
}

#[test]
fn chunks_are_put_together() {
    // five numbers twice, as torch's oracle of the one has them
    let dir = Described::default().write();
    let output = ls(&["--json", "--hash"], dir.path());
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    let doc: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(tensors(&doc)["t"]["shape"], serde_json::json!([10]));
    assert!(tensors(&doc)["t"]["sha256"].is_string());
    // what is no tensor and lies nowhere is said to be left out
    assert!(String::from_utf8_lossy(&output.stderr).contains("epoch is left out"));
    // in one chunk it is torch's own hash; and legacy streams are read as well
    let one = Described { size: vec![5], chunks: vec![(vec![0], vec![5], place("a.distcp"))], ..Described::default() };
    let dir = one.write();
    let five = "8cda276b10077c84e34c734450be4cc48385d75054a76b5f40e4c42e7259267c";
    assert_eq!(tensors(&json(&["--hash"], dir.path()))["t"]["sha256"], five);
    let legacy = fs::read(testdata("torch-1.5-py36/bare_tensor.pt")).unwrap();
    fs::write(dir.path().join("a.distcp"), [legacy, vec![0; 2000]].concat()).unwrap();
    assert_eq!(tensors(&json(&["--hash"], dir.path()))["t"]["sha256"], five);
}

#[test]
fn chunks_that_are_wrong() {
    let a = || place("a.distcp");
    let chunk = |offset: i64, size: i64, place| (vec![offset], vec![size], place);
    let with = |chunks| Described { chunks, ..Described::default() };
    let cases = [
        (with(vec![chunk(0, 5, a())]), "hold 5 of 10 elements"),
        (with(vec![chunk(0, 5, a()), chunk(4, 5, a())]), "overlap and leave gaps"),
        (with(vec![chunk(0, 5, a()), chunk(0, 5, a())]), "overlap and leave gaps"),
        (with(vec![chunk(0, 5, a()), chunk(5, 5, a()), chunk(5, 5, a())]), "overlap"),
        (with(vec![chunk(0, 5, a()), chunk(7, 5, a())]), "outside its shape"),
        (with(vec![chunk(0, 5, a()), chunk(i64::MAX, 5, a())]), "outside its shape"),
        (with(vec![chunk(0, 5, a()), chunk(5, 5, None)]), "does not say where"),
        (with(vec![chunk(0, 5, a()), chunk(5, 5, place("c.distcp"))]), "c.distcp: is missing"),
        (with(vec![chunk(0, 5, a()), chunk(5, 5, Some(("b.distcp".into(), 1, FIVE)))]), "ends early"),
        (with(vec![chunk(0, 5, a()), chunk(5, 5, Some(("b.distcp".into(), 0, 19)))]), "too few"),
        (with(vec![]), "hold 0 of 10 elements"),
        (Described { size: vec![i64::MAX, i64::MAX], chunks: vec![], ..Described::default() }, "64 bits"),
        (Described { size: vec![1 << 40], chunks: vec![chunk(0, 1 << 40, a())], ..Described::default() }, "too few"),
        (Described { size: vec![-1], ..Described::default() }, "negative"),
        (Described { size: vec![], ..Described::default() }, "outside its shape"),
        (Described { dtype: "float4_of_tomorrow", ..Described::default() }, "not known"),
    ];
    for (described, word) in cases {
        let dir = described.write();
        let doc = json(&[], dir.path());
        let said = problem(&doc, "t");
        assert!(said.contains(word), "{word}: {said}");
        assert_eq!(ls(&["--hash"], dir.path()).status.code(), Some(2), "{word}");
        assert!(tensors(&json(&["--hash"], dir.path()))["t"]["sha256"].is_null());
    }
}

#[test]
fn chunks_that_only_reading_finds_wrong() {
    let other = Described { dtype: "int32", ..Described::default() };
    let shape = Described {
        size: vec![2, 5],
        chunks: vec![(vec![0, 0], vec![1, 5], place("a.distcp")), (vec![1, 0], vec![1, 5], place("b.distcp"))],
        ..Described::default()
    };
    for (described, word) in
        [(other, "a chunk is float32 of shape [5], not int32"), (shape, "not float32 of shape [1, 5]")]
    {
        let dir = described.write();
        assert_eq!(ls(&[], dir.path()).status.code(), Some(0));
        let output = ls(&["--json", "--hash"], dir.path());
        assert_eq!(output.status.code(), Some(2));
        let said = problem(&serde_json::from_slice(&output.stdout).unwrap(), "t");
        assert!(said.contains(word) && said.contains("a.distcp"), "{said}");
    }
    // a chunk that is no torch.save file
    let dir = Described::default().write();
    fs::copy(testdata("frameworks/exported.pt2"), dir.path().join("b.distcp")).unwrap();
    let said = problem(&json(&["--hash"], dir.path()), "t");
    assert!(said.contains("b.distcp"), "{said}");
}

#[test]
fn indexes_of_dcp_that_are_refused() {
    let outside = |file: &str| Described { chunks: vec![(vec![0], vec![10], place(file))], ..Described::default() };
    let epoch = Pickle::text("epoch");
    let cases = [
        (outside("../a.distcp"), "not a file in its directory"),
        (outside("/a.distcp"), "not a file in its directory"),
        (Described { encoded: true, ..Described::default() }, "encoded"),
        (Described { path: vec![Pickle::tuple(&[])], ..Described::default() }, "text and numbers"),
        (Described { path: vec![epoch; 1001], ..Described::default() }, "--max-depth"),
    ];
    for (described, word) in cases {
        let said = refusal(described.write().path());
        assert!(said.contains(word), "{word}: {said}");
    }
    let dir = tempfile::tempdir().unwrap();
    for (bytes, word) in [(&b"\x80\x02}."[..], "no index of torch.distributed.checkpoint"), (b"", "without STOP")] {
        fs::write(dir.path().join(".metadata"), bytes).unwrap();
        let said = refusal(dir.path());
        assert!(said.contains(word), "{said}");
    }
}

#[test]
fn any_damage_to_an_index_is_an_answer_or_an_error() {
    for name in ["layouts/dcp_mesh", "frameworks/dcp_sharded"] {
        let dir = copied(name);
        let index = dir.path().join(".metadata");
        let good = fs::read(&index).unwrap();
        let try_one = |bytes: &[u8]| {
            fs::write(&index, bytes).unwrap();
            let limits = Limits::default();
            let opened = Layout::of(dir.path(), &limits).and_then(|layout| layout.open(&limits, &Silent));
            if let Ok(checkpoint) = opened {
                let _ = checkpoint.names(&checkpoint.top());
            }
        };
        for place in (0..good.len()).step_by(19) {
            try_one(&good[..place]);
            for change in [0x01, 0x80, 0xff] {
                let mut bad = good.clone();
                bad[place] ^= change;
                try_one(&bad);
            }
        }
    }
}

// torch.export

/// What torch does: other ways to find the start are misled by the zip inside.
const KNOWN_START: zip::read::Config = zip::read::Config { archive_offset: zip::read::ArchiveOffset::Known(0) };

/// A copy of `exported.pt2` with members replaced or, without bytes, taken out.
fn exported_with(changes: &[(&str, Option<Vec<u8>>)]) -> tempfile::NamedTempFile {
    let file = fs::File::open(testdata("frameworks/exported.pt2")).unwrap();
    let mut from = zip::ZipArchive::with_config(KNOWN_START, file).unwrap();
    let mut to = tempfile::NamedTempFile::new().unwrap();
    let mut writer = zip::ZipWriter::new(to.as_file_mut());
    for index in 0..from.len() {
        let mut member = from.by_index(index).unwrap();
        let name = member.name().unwrap().into_owned();
        let mut bytes = Vec::new();
        std::io::Read::read_to_end(&mut member, &mut bytes).unwrap();
        match changes.iter().find(|(changed, _)| name.ends_with(changed)) {
            Some((_, None)) => continue,
            Some((_, Some(other))) => bytes.clone_from(other),
            None => {}
        }
        writer.start_file(name, zip::write::SimpleFileOptions::default()).unwrap();
        writer.write_all(&bytes).unwrap();
    }
    writer.finish().unwrap();
    to
}

fn config(weight: &str) -> Option<Vec<u8>> {
    Some(format!("{{\"config\": {{\"fc.weight\": {weight}}}}}").into_bytes())
}

fn weight(dtype: u32, size: &str, layout: u32) -> String {
    format!(
        r#"{{"path_name": "weight_0", "is_param": false, "use_pickle": false, "tensor_meta": {{"dtype": {dtype},
        "sizes": [{size}], "requires_grad": false, "device": {{"type": "cuda", "index": 1}}, "strides": [{{"as_int": 1}}],
        "storage_offset": {{"as_int": 0}}, "layout": {layout}}}}}"#
    )
}

#[test]
fn what_an_exported_archive_may_say() {
    const CONFIG: &str = "model_weights_config.json";
    // a tensor subclass is a torch.save file
    let pickled = r#"{"path_name": "weight_0", "is_param": true, "use_pickle": true, "tensor_meta": null}"#;
    let saved = fs::read(testdata("torch-2.15-py311/bare_tensor.pt")).unwrap();
    let file = exported_with(&[(CONFIG, config(pickled)), ("weights/weight_0", Some(saved.clone()))]);
    let doc = json(&["--hash"], file.path());
    let five = "8cda276b10077c84e34c734450be4cc48385d75054a76b5f40e4c42e7259267c";
    assert_eq!(tensors(&doc)["fc.weight"]["sha256"], five);
    // a size with a symbol has the value that it was traced with
    let hint = r#"{"as_expr": {"expr_str": "s0", "hint": {"as_int": 2}}}"#;
    let file = exported_with(&[(CONFIG, config(&weight(13, hint, 7)))]);
    let row = tensors(&json(&["--hash"], file.path())).remove("fc.weight").unwrap();
    assert_eq!(
        (&row["dtype"], &row["shape"], &row["device"]),
        (&"bfloat16".into(), &serde_json::json!([2]), &"cuda:1".into())
    );
    assert!(row["sha256"].is_string() && row["problem"].is_null());

    let one = r#"{"as_int": 1}"#;
    for (changes, word) in [
        (vec![("weights/weight_0", None)], "weight_0, is missing"),
        (vec![("weights/weight_0", Some(Vec::new()))], "which has 0"),
        (vec![(CONFIG, config(&weight(7, r#"{"as_int": 2}"#, 7)))], "reaches element 1"),
        (vec![(CONFIG, config(&weight(7, r#"{"as_int": -2}"#, 7)))], "negative"),
        (vec![(CONFIG, config(&weight(7, r#"{"as_expr": {"expr_str": "s0", "hint": null}}"#, 7)))], "expression"),
        (vec![(CONFIG, config(&weight(7, one, 1)))], "layout"),
    ] {
        let file = exported_with(&changes);
        let said = problem(&json(&[], file.path()), "fc.weight");
        assert!(said.contains(word), "{word}: {said}");
        assert_eq!(ls(&["--hash"], file.path()).status.code(), Some(2), "{word}");
    }
    for (changes, word) in [
        (vec![(CONFIG, None)], "without weights"),
        (vec![(CONFIG, Some(b"{\"config\"".to_vec()))], CONFIG),
        (vec![(CONFIG, config(r#"{"path_name": "weight_0", "is_param": true, "use_pickle": false}"#))], "fc.weight"),
        (vec![(CONFIG, config(pickled)), ("weights/weight_0", Some(b"no pickle".to_vec()))], "weight_0"),
    ] {
        let said = refusal(exported_with(&changes).path());
        assert!(said.contains(word), "{word}: {said}");
    }
}
