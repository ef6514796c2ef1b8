//! `ckpt rename`, option by option: each test fails when its option is ignored.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // helpers of tests are tests

use std::fs;
use std::path::Path;

use crate::driver::{Run, ckpt, run_with, testdata};
use serde_json::{Value, json};

const LAYER: &str = "torch-2.15-py311/one_layer_state.pth";
const SAFETENSORS: &str = "frameworks/cnn_state.safetensors";

fn rename(args: &[&str]) -> Run {
    run_with(ckpt().arg("rename").args(args), b"")
}

/// The new names of `LAYER` (`layer1.weight`, `layer1.bias`), by a dry run.
fn new_names(args: &[&str]) -> Vec<String> {
    let report = rename(&[&[LAYER, "--dry-run", "--json"], args].concat()).exits(0).json();
    let rows = report["renamed"].as_array().unwrap().iter();
    rows.map(|row| row["new"].as_str().unwrap().to_owned()).collect()
}

fn names(path: &Path) -> Vec<String> {
    let listed = run_with(ckpt().args(["ls", "--names", "--tensors"]).arg(path), b"").exits(0);
    listed.lines().into_iter().map(str::to_owned).collect()
}

#[test]
fn prefixes_patterns_and_tables() {
    let old = names(&testdata(LAYER));
    let [weight, bias] = old.as_slice() else { panic!("{old:?}") };
    let module = weight.strip_suffix(".weight").unwrap();
    assert_eq!(new_names(&["--add-prefix", "net."]), [format!("net.{weight}"), format!("net.{bias}")]);
    assert_eq!(new_names(&["--strip-prefix", &format!("{module}.")]), ["weight", "bias"]);
    assert_eq!(
        new_names(&["--regex", "s/^(.+)\\.(weight|bias)$/$2_of_$1/"]),
        [format!("weight_of_{module}"), format!("bias_of_{module}")]
    );
    assert_eq!(new_names(&["--regex", "s,WEIGHT,w,i"]), [format!("{module}.w")]);
    let dir = tempfile::tempdir().unwrap();
    let table = dir.path().join("names");
    fs::write(&table, format!("# old\tnew\n{weight}\tw\n")).unwrap();
    assert_eq!(new_names(&["--map", table.to_str().unwrap()]), ["w"]);
    let object = json!({bias: "b", weight: "w"}).to_string();
    let from_stdin = run_with(ckpt().args(["rename", LAYER, "--dry-run", "--map", "-"]), object.as_bytes()).exits(0);
    let last: Vec<&str> = from_stdin.lines().iter().map(|line| line.split_whitespace().last().unwrap()).collect();
    assert_eq!(last, ["w", "b"]);
}

#[test]
fn changes_are_made_in_the_order_of_the_command_line() {
    assert_eq!(
        new_names(&["--add-prefix", "a.", "--regex", "s/^a/b/", "--add-prefix", "c."])[0]
            .split('.')
            .take(2)
            .collect::<Vec<_>>(),
        ["c", "b"]
    );
    let other = ["--regex", "s/^a/b/", "--add-prefix", "a.", "--strip-prefix", "a.", "--add-prefix", "c."];
    // the first of them sees no such name
    let idle = rename(&[&[LAYER, "--dry-run"], &other[..]].concat()).exits(2);
    assert!(idle.stderr.contains("--regex 's/^a/b/' changes nothing"), "{}", idle.stderr);
    let other = new_names(&[&other[..], &["--if-present"]].concat());
    assert!(other[0].starts_with("c.") && !other[0].contains("b."), "{other:?}");
    let undone = rename(&[LAYER, "--add-prefix", "a.", "--strip-prefix", "a.", "--dry-run"]).exits(1);
    assert!(undone.stderr.contains("nothing to rename: the steps undo each other"), "{}", undone.stderr);
    rename(&[LAYER, "--add-prefix", "a.", "--strip-prefix", "a.", "--dry-run", "--if-present"]).exits(0);
}

#[test]
fn a_loss_beside_state_dicts_is_no_parameter() {
    let report =
        rename(&["torch-2.15-py311/multi_model.pt", "--add-prefix", "m.", "--dry-run", "--json"]).exits(0).json();
    let within = report["renamed"].as_array().unwrap().iter().map(|row| row["in"].as_str().unwrap());
    assert!(within.clone().all(|within| within.starts_with("model")), "{report}");
    // and a pattern that names it does not make it one
    let report = rename(&["torch-2.15-py311/multi_model.pt", "--regex", "s/^loss$/last_loss/", "--dry-run", "--json"]);
    assert_eq!(report.exits(1).json()["renamed"], json!([]));
}

#[test]
fn safetensors_keep_data_and_metadata() {
    let dir = tempfile::tempdir().unwrap();
    let output = dir.path().join("out.safetensors");
    rename(&[SAFETENSORS, "--add-prefix", "net.", "-o", output.to_str().unwrap()]).exits(0);
    let (old, new) = (fs::read(testdata(SAFETENSORS)).unwrap(), fs::read(&output).unwrap());
    let parts = |file: &[u8]| -> (Value, Vec<u8>) {
        let len = usize::try_from(u64::from_le_bytes(*file.first_chunk().unwrap())).unwrap();
        assert_eq!((8 + len) % 8, 0, "the data is aligned");
        (serde_json::from_slice(&file[8..8 + len]).unwrap(), file[8 + len..].to_vec())
    };
    let ((old_header, old_data), (new_header, new_data)) = (parts(&old), parts(&new));
    assert!(old_data == new_data);
    let wanted = old_header.as_object().unwrap().iter().map(|(name, entry)| match name.as_str() {
        "__metadata__" => (name.clone(), entry.clone()),
        _ => (format!("net.{name}"), entry.clone()),
    });
    assert_eq!(new_header, Value::Object(wanted.collect()));
    assert!(new_header.get("__metadata__").is_some());
}

#[test]
fn numpy_archives_have_their_members_renamed() {
    let dir = tempfile::tempdir().unwrap();
    for file in ["more/arrays.npz", "more/arrays_compressed.npz"] {
        let output = dir.path().join("out.npz");
        rename(&[file, "--add-prefix", "net.", "--force", "-o", output.to_str().unwrap()]).exits(0);
        let open = |path: &Path| ::zip::ZipArchive::new(fs::File::open(path).unwrap()).unwrap();
        let (mut old, mut new) = (open(&testdata(file)), open(&output));
        assert_eq!(old.len(), new.len());
        for index in 0..old.len() {
            // reading checks the CRC
            let (mut was, mut is) = (Vec::new(), Vec::new());
            let (mut old, mut new) = (old.by_index(index).unwrap(), new.by_index(index).unwrap());
            std::io::copy(&mut old, &mut was).unwrap();
            std::io::copy(&mut new, &mut is).unwrap();
            assert!(was == is && new.compression() == old.compression());
            assert_eq!(new.name().unwrap(), format!("net.{}", old.name().unwrap()));
        }
    }
    let odd =
        rename(&["more/arrays.npz", "--add-prefix", "/", "-o", dir.path().join("odd.npz").to_str().unwrap()]).exits(2);
    assert!(odd.stderr.contains("leads out of the archive"), "{}", odd.stderr);
    assert!(!dir.path().join("odd.npz").exists());
}

#[test]
fn stored_zip_members_stay_aligned_and_keep_their_crcs() {
    let dir = tempfile::tempdir().unwrap();
    let output = dir.path().join("out.pt");
    for (file, prefix) in [(LAYER, "n."), (LAYER, "a.somewhat.longer.prefix."), ("more/zip_without_crc.pt", "n.")] {
        rename(&[file, "--add-prefix", prefix, "--force", "-o", output.to_str().unwrap()]).exits(0);
        let open = |path: &Path| ::zip::ZipArchive::new(fs::File::open(path).unwrap()).unwrap();
        let (old, new) = (open(&testdata(file)), open(&output));
        assert_eq!(old.len(), new.len(), "all members, those that say the layout too");
        for index in 0..old.len() {
            let (old, new) = (old.by_index_data(index).unwrap(), new.by_index_data(index).unwrap());
            assert_eq!(old.name().unwrap(), new.name().unwrap());
            if old.name().unwrap().contains("/data/") {
                assert_eq!(old.crc32(), new.crc32());
                assert_eq!(old.header_start() % 64, new.header_start() % 64);
            }
        }
    }
}

#[test]
fn what_is_refused() {
    let says = |args: &[&str], why: &str| {
        let run = rename(args).exits(2);
        assert!(run.stderr.contains(why), "{args:?}: {}", run.stderr);
    };
    says(&[LAYER, "--dry-run"], "nothing to change; use --add-prefix");
    says(&[LAYER, "--dry-run", "--add-prefix", ""], "--add-prefix is empty");
    says(&[LAYER, "--dry-run", "--regex", "s/(/x/"], "regular expression");
    says(&[LAYER, "--dry-run", "--regex", "s/.*/x/"], "would both become x");
    says(&[LAYER, "--dry-run", "--map", "nowhere.json"], "nowhere.json: No such file");
    says(&["-", "--dry-run", "--map", "-"], "both INPUT and the --map table");
    says(&[LAYER, "--add-prefix", "x.", "--in-place", "-o", "x"], "cannot be used with");
    says(&[LAYER, "--add-prefix", "x.", "-o", "no/such/dir/x"], "does not exist");
}

#[test]
fn another_container_by_the_name_of_the_output() {
    let dir = tempfile::tempdir().unwrap();
    let output = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    let old = names(&testdata(LAYER));
    let wanted: Vec<String> = old.iter().map(|name| format!("n.{name}")).collect();
    let container = |path: &str| {
        run_with(ckpt().args(["ls", "--json", path]), b"").exits(0).json()["container"].as_str().unwrap().to_owned()
    };
    for (file, kind) in [("x.safetensors", "safetensors"), ("x.npz", "npz"), ("x.pt", "zip"), ("x", "zip")] {
        rename(&[LAYER, "--add-prefix", "n.", "-o", &output(file)]).exits(0);
        assert_eq!(container(&output(file)), kind);
        let mut found = names(Path::new(&output(file)));
        found.sort_by_key(|name| wanted.iter().position(|wanted| wanted == name));
        assert_eq!(found, wanted, "{file}");
    }
    // a legacy stream stays one, safetensors become torch's zip
    let legacy = "torch-2.15-py311/one_layer_state.legacy.pth";
    rename(&[legacy, "--add-prefix", "n.", "-o", &output("l.pth")]).exits(0);
    assert_eq!(container(&output("l.pth")), "legacy");
    rename(&[&output("x.safetensors"), "--strip-prefix", "n.", "-o", &output("y.pt")]).exits(0);
    assert_eq!(container(&output("y.pt")), "zip");
    let mut found = names(Path::new(&output("y.pt")));
    found.sort_by_key(|name| old.iter().position(|old| old == name));
    assert_eq!(found, old);
}

#[test]
fn shards_stay_shards_and_get_a_new_index() {
    for (folder, index) in [
        ("frameworks/hf_sharded_bin", "pytorch_model.bin.index.json"),
        ("frameworks/hf_sharded_safetensors", "model.safetensors.index.json"),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let output = dir.path().join("out");
        let shown = output.to_str().unwrap();
        let report = rename(&[folder, "--add-prefix", "net.", "--json", "-o", shown]).exits(0).json();
        let read = |path: &Path| -> Value { serde_json::from_slice(&fs::read(path).unwrap()).unwrap() };
        let (was, is) = (read(&testdata(folder).join(index)), read(&output.join(index)));
        let (was_map, is_map) = (was["weight_map"].as_object().unwrap(), is["weight_map"].as_object().unwrap());
        assert_eq!(report["renamed"].as_array().unwrap().len(), was_map.len());
        assert_eq!((was_map.len(), &was["metadata"]), (is_map.len(), &is["metadata"]));
        assert!(was_map.iter().all(|(name, shard)| is_map[&format!("net.{name}")] == *shard), "{is}");
        // read together, it is the same checkpoint with other names
        let facts = |path: &Path| {
            let listed = run_with(ckpt().args(["ls", "--json", "--hash"]).arg(path), b"").exits(0).json();
            let rows = listed["tensors"].as_array().unwrap().clone().into_iter();
            rows.map(|row| (row["name"].as_str().unwrap().to_owned(), row["sha256"].clone()))
                .collect::<std::collections::BTreeMap<_, _>>()
        };
        let wanted = facts(&testdata(folder)).into_iter().map(|(name, digest)| (format!("net.{name}"), digest));
        assert_eq!(facts(&output), wanted.collect());
        let again = rename(&[folder, "--add-prefix", "net.", "-o", shown]).exits(2);
        assert!(again.stderr.contains("--force"), "{}", again.stderr);
        rename(&[folder, "--add-prefix", "net.", "-o", shown, "--force"]).exits(0);
        assert!(rename(&[folder, "--add-prefix", "x.", "--in-place"]).exits(2).stderr.contains("several files"));
        // merged where the name says so
        let merged = dir.path().join("merged.safetensors");
        rename(&[folder, "--add-prefix", "net.", "-o", merged.to_str().unwrap()]).exits(0);
        assert_eq!(facts(&merged), facts(&output));
    }
}

/// A new checksum over a pickle that is not what its old one says would hide that.
#[test]
fn a_pickle_whose_checksum_is_wrong_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let (input, output) = (dir.path().join("in.pt"), dir.path().join("out.pt"));
    let mut bytes = fs::read(testdata("torch-2.15-py311/cnn_state.pt")).unwrap();
    let place = b"features.0.bias";
    let at = bytes.windows(place.len()).position(|window| window == place).unwrap();
    bytes[at + place.len() - 1] ^= 1;
    fs::write(&input, &bytes).unwrap();
    let [from, to] = [&input, &output].map(|path| path.to_str().unwrap());
    for args in [vec!["-o", to], vec!["--in-place"]] {
        let run = rename(&[vec![from, "--add-prefix", "n."], args].concat()).exits(2);
        assert!(run.stderr.contains("data.pkl") && run.stderr.contains("checksum does not match"), "{}", run.stderr);
        assert!(!output.exists() && fs::read(&input).unwrap() == bytes);
    }
}
