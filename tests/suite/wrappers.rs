//! Tensors that keep their elements elsewhere or in another form: device tensors with a type of their own, wrapper
//! subclasses, nested and packed tensors, quantized modules, and Python's own classes. The truth is torch's
//! (`testdata/generate_wrappers.py`).
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::collections::BTreeMap;

use crate::driver::{Run, names_of, testdata};
use serde_json::Value;

fn ckpt<S: AsRef<std::ffi::OsStr>>(args: impl IntoIterator<Item = S>) -> Run {
    crate::driver::run_with(crate::driver::ckpt().args(args), b"")
}

fn expected() -> Value {
    serde_json::from_slice(&std::fs::read(testdata("wrappers/expected.json")).unwrap()).unwrap()
}

fn file(name: &str) -> String {
    testdata(&format!("wrappers/{name}")).display().to_string()
}

fn list(path: &str) -> Value {
    ckpt(["ls", "--json", "--hash", path]).exits(0).json()
}

/// dtype, shape and sha256 of each tensor.
fn facts(listing: &Value) -> BTreeMap<String, Value> {
    let rows = listing["tensors"].as_array().unwrap();
    let facts = |row: &Value| Value::Array(vec![row["dtype"].clone(), row["shape"].clone(), row["sha256"].clone()]);
    rows.iter().map(|row| (row["name"].as_str().unwrap().to_owned(), facts(row))).collect()
}

fn wanted(file: &str) -> BTreeMap<String, Value> {
    serde_json::from_value(expected()[file].clone()).unwrap()
}

#[test]
fn device_tensors_have_the_type_that_they_are_called_with() {
    let path = file("device.pt");
    assert_eq!(facts(&list(&path)), wanted("device.pt"));
    let dir = tempfile::tempdir().unwrap();
    for (options, dtype) in
        [(vec![], "bfloat16"), (vec!["--device", "cpu"], "bfloat16"), (vec!["--state-dict"], "bfloat16")]
    {
        let out = dir.path().join("out.pt").display().to_string();
        let args = ["convert", "--force", "--root", ".", &path, &out];
        ckpt(args.into_iter().chain(options)).exits(0);
        let listing = list(&out);
        assert_eq!(facts(&listing), wanted("device.pt"));
        assert_eq!(listing["tensors"][0]["dtype"], dtype);
    }
    let out = dir.path().join("out.safetensors").display().to_string();
    ckpt(["convert", "--root", ".", &path, &out]).exits(0);
    assert_eq!(facts(&list(&out)), wanted("device.pt"));
    ckpt(["diff", "-q", "--ignore", "device", &path, &out]).exits(0);
    let half = dir.path().join("half.pt").display().to_string();
    ckpt(["convert", "--dtype", "float16", &path, &half]).exits(0);
    assert_eq!(facts(&list(&half))["cast"][0], "float16");
    assert_eq!(facts(&list(&half))["cast"][2], wanted("device.pt")["half"][2]);
}

#[test]
fn elements_that_share_a_byte() {
    let path = file("packed.pt");
    assert_eq!(facts(&list(&path)), wanted("packed.pt"));
    let sizes: Vec<u64> =
        list(&path)["tensors"].as_array().unwrap().iter().map(|row| row["bytes"].as_u64().unwrap()).collect();
    assert_eq!(sizes, [12, 8, 6, 4]);
    let dir = tempfile::tempdir().unwrap();
    for to in ["torch", "torch-legacy"] {
        let out = dir.path().join(format!("{to}.pt")).display().to_string();
        ckpt(["convert", "--to", to, &path, &out]).exits(0);
        assert_eq!(facts(&list(&out)), wanted("packed.pt"));
    }
    // the integers one by one, in the shape of the tensor
    let stored = ckpt(["extract", "--json", &path, "quint4x2_6"]).exits(0).json();
    let rows = stored["value"]["int_repr"].as_array().unwrap();
    assert_eq!((rows.len(), rows[0].as_array().unwrap().len()), (4, 6));
    assert!(rows.iter().flat_map(|row| row.as_array().unwrap()).all(|element| element.as_u64().unwrap() < 16));
}

#[test]
fn a_nested_tensor_is_not_its_buffer() {
    let path = file("nested.pt");
    let listing = list(&path);
    let shapes: BTreeMap<String, Value> =
        facts(&listing).into_iter().map(|(name, facts)| (name, facts[1].clone())).collect();
    assert_eq!(shapes["ragged"], serde_json::json!([2, -1, 3]));
    assert_eq!(shapes["parameter"], serde_json::json!([2, 2, 3]));
    assert_eq!(shapes["jagged"], serde_json::json!([2, -1, 3]));
    assert_eq!(shapes["jagged._values"], serde_json::json!([6, 3]));
    assert_eq!(listing["tensors"][0]["layout"], "nested");
    assert!(listing["tensors"][0]["sha256"].is_null());
    let dir = tempfile::tempdir().unwrap();
    for (name, options) in [("o.safetensors", vec![]), ("o.npz", vec![]), ("o.pt", vec!["--to", "torch-legacy"])] {
        let out = dir.path().join(name);
        let args = ["convert".to_owned(), path.clone(), out.display().to_string()];
        let run = ckpt(args.into_iter().chain(options.into_iter().map(str::to_owned))).exits(2);
        assert!(run.stderr.contains("ragged"), "{}", run.stderr);
        assert!(!out.exists());
    }
    let out = dir.path().join("jagged.safetensors").display().to_string();
    ckpt(["convert", &path, &out, "--exclude", "ragged", "--exclude", "parameter"]).exits(0);
    let names = names_of(&list(&out)["tensors"]);
    assert!(names.contains(&"jagged._values".to_owned()) && !names.contains(&"jagged".to_owned()), "{names:?}");
}

#[test]
fn a_wrapper_is_written_as_its_parts() {
    let path = file("masked.pt");
    let parts = ["masked._masked_data", "masked._masked_mask"];
    assert_eq!(list(&path)["tensors"].as_array().unwrap().len(), 3);
    let dir = tempfile::tempdir().unwrap();
    for (name, option) in [("o.safetensors", "-q"), ("o.npz", "-q"), ("o.pt", "--state-dict")] {
        let out = dir.path().join(name).display().to_string();
        ckpt(["convert", option, &path, &out]).exits(0);
        let mut names = names_of(&list(&out)["tensors"]);
        names.sort();
        assert_eq!(names, parts);
    }
    let run = ckpt(["extract", &path, "masked"]).exits(2);
    assert!(
        run.stderr.contains("masked (MaskedTensor)") && run.stderr.contains("masked._masked_data"),
        "{}",
        run.stderr
    );
    // the outer tensor alone is compared by what it wraps
    let other = dir.path().join("other.pt").display().to_string();
    ckpt(["convert", &path, &other]).exits(0);
    ckpt(["diff", "-q", &path, &other]).exits(0);
    ckpt(["convert", "--force", "--dtype", "float16", &path, &other]).exits(2);
}

#[test]
fn quantized_modules_list_what_state_dict_gives() {
    for name in ["static", "dynamic", "dynamic_half", "recurrent", "embedding"] {
        let rows = |listing: &Value, kind: &str| -> Vec<String> {
            let rows = listing[kind].as_array().unwrap().iter().filter(|row| row["in_state_dict"] != false);
            let mut rows: Vec<_> =
                rows.map(|row| format!("{} {} {} {}", row["path"], row["dtype"], row["sha256"], row["repr"])).collect();
            if kind == "values" {
                rows.sort();
            }
            rows
        };
        let (module, state) = (list(&file(&format!("{name}.pt"))), list(&file(&format!("{name}_sd.pt"))));
        assert_eq!(rows(&module, "tensors"), rows(&state, "tensors"), "{name}");
        assert_eq!(rows(&module, "values"), rows(&state, "values"), "{name}");
        let dir = tempfile::tempdir().unwrap();
        let out = dir.path().join("out.pt").display().to_string();
        if name == "recurrent" {
            let run = ckpt(["convert", "--state-dict", &file("recurrent.pt"), &out]).exits(2);
            assert!(run.stderr.contains("lstm._all_weight_values.0.param"), "{}", run.stderr);
        } else {
            ckpt(["convert", "--state-dict", &file(&format!("{name}.pt")), &out]).exits(0);
            ckpt(["diff", &out, &file(&format!("{name}_sd.pt")), "--ignore", "requires_grad"]).exits(0);
            // what is a state dict already stays one
            ckpt(["convert", "--force", "--state-dict", &file(&format!("{name}_sd.pt")), &out]).exits(0);
            ckpt(["diff", &out, &file(&format!("{name}_sd.pt")), "--ignore", "requires_grad"]).exits(0);
        }
        let run = ckpt(["convert", "--to", "torch-legacy", &file(&format!("{name}.pt")), &out, "--force"]).exits(2);
        assert!(run.stderr.contains("packed parameters"), "{}", run.stderr);
    }
}

#[test]
fn meta_parameters_of_torchscript_have_no_storage() {
    let dir = tempfile::tempdir().unwrap();
    for to in ["torch", "torch-legacy"] {
        let out = dir.path().join(format!("{to}.pt")).display().to_string();
        ckpt(["convert", "--to", to, &file("meta_script.pt"), &out]).exits(0);
        let listing = ckpt(["ls", "--json", &out]).exits(0).json();
        assert_eq!(names_of(&listing["tensors"]), ["weight", "bias"]);
        for row in listing["tensors"].as_array().unwrap() {
            assert_eq!(
                (&row["device"], &row["storage"], &row["requires_grad"]),
                (&"meta".into(), &Value::Null, &false.into())
            );
        }
    }
}

#[test]
fn nested_classes_have_their_own_name() {
    let listing = ckpt(["ls", "--json", "--root", "config", &file("nested_class.pt")]).exits(0).json();
    assert_eq!((&listing["root_type"], names_of(&listing["values"])), (&"Config".into(), vec!["lr".to_owned()]));
}

#[test]
fn python_objects_print_as_python_shows_them() {
    let expected = expected();
    for (name, repr) in expected["python"].as_object().unwrap() {
        for protocol in [2, 4] {
            let printed = ckpt(["extract", &file(&format!("python{protocol}.pkl")), name]).exits(0);
            // older protocols do not keep `fold`
            let repr = repr.as_str().unwrap();
            let repr = if protocol == 2 { repr.replace(", fold=1", "") } else { repr.to_owned() };
            assert_eq!(printed.text(), format!("{repr}\n"), "{name} of protocol {protocol}");
        }
    }
}

#[test]
fn files_of_torch_that_are_values_list_what_they_hold() {
    let wanted = wanted("embedded.pt");
    for file_name in ["embedded.pt", "embedded2.pkl", "embedded4.pkl"] {
        let listing = list(&file(file_name));
        let found = facts(&listing);
        let wanted: BTreeMap<_, _> = wanted
            .iter()
            .filter(|(name, _)| file_name.ends_with(".pt") || *name != "w")
            .map(|(k, v)| (k.clone(), v.clone()))
            .collect();
        assert_eq!(found, wanted, "{file_name}");
        let names = names_of(&listing["values"]);
        for name in ["bytes", "bytes.n", "legacy", "array", "bare", "odd"] {
            assert!(names.contains(&name.to_owned()), "{name} in {names:?}");
        }
    }
    let path = file("embedded.pt");
    let dir = tempfile::tempdir().unwrap();
    for to in ["torch", "torch-legacy"] {
        let out = dir.path().join(format!("{to}.pt")).display().to_string();
        ckpt(["convert", "--to", to, &path, &out]).exits(0);
        ckpt(["diff", "-q", &path, &out]).exits(0);
    }
    let out = dir.path().join("out.safetensors").display().to_string();
    let run = ckpt(["convert", &path, &out]).exits(0);
    assert_eq!(names_of(&list(&out)["tensors"]), ["w"]);
    assert!(run.stderr.contains("bytes") && !run.stderr.contains("bytes.a"), "{}", run.stderr);
}

#[test]
fn meta_storages_move_to_no_device() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name).display().to_string();
    let script = std::fs::read(file("meta_script.pt")).unwrap();
    // the same as a zip of torch.save's: without constants it is no TorchScript
    let (old, new) = (b"constants.pkl", b"constantz.pkl");
    let mut plain = script.clone();
    let places: Vec<usize> = (0..plain.len() - old.len()).filter(|at| plain[*at..].starts_with(old)).collect();
    assert_eq!(places.len(), 2);
    places.iter().for_each(|at| plain[*at..*at + new.len()].copy_from_slice(new));
    std::fs::write(at("plain.pt"), plain).unwrap();
    for input in [file("meta_script.pt"), at("plain.pt")] {
        for options in [&["--device", "cpu"][..], &["--device", "cpu", "--state-dict", "--root", "."]] {
            ckpt(["convert", "--force", &input, &at("out.pt")].iter().chain(options)).exits(0);
            let rows = list(&at("out.pt"))["tensors"].clone();
            let rows = rows.as_array().unwrap();
            assert!(!rows.is_empty() && rows.iter().all(|row| row["device"] == "meta" && row["problem"].is_null()));
        }
    }
}

/// Two elements of an embedding lie in a byte: torch opens its state dict, and what `--safe` makes of the module.
#[test]
fn packed_elements_reach_as_far_as_their_bytes() {
    let state = file("embedding_sd.pt");
    let verdict = ckpt(["check", "--json", &state]).exits(0).json();
    assert_eq!(verdict["weights_only"]["opens"], true, "{verdict}");
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("out.pt").display().to_string();
    for input in [state, file("embedding.pt")] {
        ckpt(["convert", "--safe", "--force", &input, &out]).exits(0);
        assert_eq!(ckpt(["check", "--json", &out]).exits(0).json()["weights_only"]["opens"], true);
    }
    // a column more is half a byte too much
    let bytes = std::fs::read(file("embedding_sd.pt")).unwrap();
    let at = bytes.windows(5).position(|window| window == b"K\x06K\x04\x86").unwrap();
    let mut wide = bytes;
    wide[at + 3] = 5;
    std::fs::write(&out, wide).unwrap();
    let said = ckpt(["check", "--json", "--fail-on", "danger", &out]).exits(0).json();
    assert!(said["weights_only"].to_string().contains("reaches byte 13 of a storage of 12"), "{said}");
}
