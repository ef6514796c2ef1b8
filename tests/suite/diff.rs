//! `ckpt diff`, option by option: each test fails when its option is ignored. Numbers are numpy's (testdata/diff).

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)] // helpers of tests are tests

use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::{Value, json};

struct Run {
    status: i32,
    out: String,
    err: String,
}

impl Run {
    fn exits(self, status: i32) -> Self {
        assert_eq!(self.status, status, "stdout: {}\nstderr: {}", self.out, self.err);
        self
    }

    fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap_or_else(|e| panic!("{e}: {}", self.out))
    }

    fn names(&self, list: &str) -> Vec<String> {
        let name = |row: &Value| row.as_str().or(row["name"].as_str()).unwrap().to_owned();
        self.json()[list].as_array().unwrap().iter().map(name).collect()
    }
}

fn testdata(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata").join(path)
}

fn diff_with(words: &str, paths: &[&Path], stdin: &[u8]) -> Run {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ckpt"));
    command.arg("diff").args(words.split_whitespace()).args(paths).current_dir(testdata("diff"));
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    // a child that does not read closes the pipe
    let _ = child.stdin.take().unwrap().write_all(stdin);
    let output = child.wait_with_output().unwrap();
    crate::driver::schemas::hold(&command, output.status.code(), &output.stdout);
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Run { status: output.status.code().unwrap_or(-1), out: text(output.stdout), err: text(output.stderr) }
}

/// `ckpt diff WORDS`, in `testdata/diff`.
fn diff(words: &str) -> Run {
    diff_with(words, &[], b"")
}

/// Writes a safetensors file with the one float32 tensor `t`.
fn floats(dir: &Path, name: &str, values: &[f32]) -> PathBuf {
    let (count, bytes) = (values.len(), values.len() * 4);
    let header = format!(r#"{{"t":{{"dtype":"F32","shape":[{count}],"data_offsets":[0,{bytes}]}}}}"#);
    let mut file = (header.len() as u64).to_le_bytes().to_vec();
    file.extend(header.bytes());
    file.extend(values.iter().flat_map(|value| value.to_le_bytes()));
    let path = dir.join(name);
    std::fs::write(&path, file).unwrap();
    path
}

/// The exit status for two tensors of floats.
fn of_floats(words: &str, a: &[f32], b: &[f32]) -> Run {
    let dir = tempfile::tempdir().unwrap();
    let (a, b) = (floats(dir.path(), "a", a), floats(dir.path(), "b", b));
    diff_with(words, &[&a, &b], b"")
}

#[test]
fn numbers_are_numpys() {
    let run = diff("--json numbers_a.pt numbers_b.pt").exits(1);
    let report = run.json();
    let oracle: Value = serde_json::from_slice(&std::fs::read(testdata("diff/numbers.json")).unwrap()).unwrap();
    let oracle = oracle.as_object().unwrap();
    let changed = report["changed"].as_array().unwrap();
    assert_eq!(report["same"].as_u64().unwrap() + changed.len() as u64, oracle.len() as u64);
    assert_eq!(report["schema"], "ckpt.diff/1");
    for found in changed {
        let name = found["name"].as_str().unwrap();
        let want = &oracle[name];
        let has_new_nan = found["nan"] != 0;
        for field in ["max_abs", "mean_abs", "max_rel", "cosine", "differing", "total"] {
            // numpy was asked for the elements that are numbers
            let is_nan = has_new_nan && !["differing", "total"].contains(&field);
            let (got, want) = (&found[field], if is_nan { &Value::Null } else { &want[field] });
            let close = match (got.as_f64(), want.as_f64()) {
                // terms of a cosine cancel: it is exact to the last digits of 1
                (Some(got), Some(want)) if field == "cosine" => (got - want).abs() <= 1e-12,
                (Some(got), Some(want)) => (got - want).abs() <= 1e-12 * want.abs(),
                (got, want) => got == want,
            };
            assert!(close, "{name} {field}: {got}, numpy has {want}");
        }
        let what: Vec<&str> = found["what"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
        assert_eq!(what.contains(&"dtype"), name.contains(".as."), "{name}: {what:?}");
        assert_eq!(what.contains(&"values"), want["differing"] != 0, "{name}: {what:?}");
    }
}

#[test]
fn equal_files_and_silence() {
    let run = diff("run_a.ckpt run_a.ckpt").exits(0);
    assert_eq!((run.out.as_str(), run.err.as_str()), ("equal: 7 tensors, 19 values\n", ""));
    let run = diff("-q run_a.ckpt run_a.ckpt").exits(0);
    assert_eq!((run.out + &run.err).as_str(), "");
    let run = diff("-q run_a.ckpt run_b.ckpt").exits(1);
    assert_eq!((run.out + &run.err).as_str(), "");
    assert_eq!(diff("--json run_a.ckpt run_a.ckpt").exits(0).json()["equal"], true);
}

#[test]
fn the_whole_report() {
    let report = diff("--json run_a.ckpt run_b.ckpt").exits(1).json();
    assert_eq!(report["a"], "run_a.ckpt");
    assert_eq!(report["equal"], false);
    assert_eq!(report["only_a"], json!(["model.new.weight"]));
    assert_eq!(report["only_b"], json!(["model.old.weight", "args.extra"]));
    let what: Vec<Value> =
        report["changed"].as_array().unwrap().iter().map(|c| json!([c["name"], c["what"][0], c["what"][1]])).collect();
    let want = json!([
        ["model.fc.weight", "values", null],
        ["model.head.weight", "shape", null],
        ["model.fc.bias", "requires_grad", null],
        ["model.head.bias", "dtype", null],
    ]);
    assert_eq!(json!(what), want);
    let fc = &report["changed"][0];
    assert_eq!((&fc["max_abs"], &fc["differing"], &fc["total"]), (&json!(0.5), &json!(1), &json!(12)));
    let head = &report["changed"][1];
    assert_eq!(
        (&head["a"]["shape"], &head["b"]["shape"], &head["max_abs"]),
        (&json!([4, 3]), &json!([5, 3]), &Value::Null)
    );
    assert_eq!(
        (&report["changed"][2]["a"]["device"], &report["changed"][2]["b"]["requires_grad"]),
        (&json!("cpu"), &json!(true))
    );
    assert_eq!(report["changed"][3]["b"]["dtype"], "float64");
    let values = report["values"].as_array().unwrap();
    let of = |name: &str| values.iter().find(|v| v["name"] == name).map(|v| (v["a"].clone(), v["b"].clone()));
    assert_eq!(of("epoch"), Some((json!(3), json!(5))));
    assert_eq!(of("loss"), Some((json!(0.25), json!(0.2500001))));
    assert_eq!(of("nothing"), Some((json!(null), json!(0))));
    assert_eq!(of("betas"), Some((json!("(0.9, 0.999)"), json!("[0.9, 0.999]"))));
    assert_eq!(of("big"), Some((json!("1180591620717411303424"), json!("1180591620717411303425"))));
    assert_eq!(of("args.seed"), Some((json!(1), json!(2))));
    assert_eq!(of("done"), Some((json!(false), json!(0))));
    assert!(of("blob").is_some() && of("storage").is_some() && of("note").is_some());
    assert_eq!((values.len(), report["renamed"].as_array().unwrap().len()), (11, 0));
    // best is NaN; steps, exp_avg; tags, dtype, scalar, size, args.lr, optimizer
    assert_eq!((&report["same"], &report["same_values"]), (&json!(2), &json!(8)));
}

#[test]
fn the_report_for_people() {
    let text = diff("run_a.ckpt run_b.ckpt").exits(1).out;
    let lines: Vec<&str> = text.lines().map(str::trim_end).collect();
    for line in [
        "only in run_a.ckpt (A): 1",
        "only in run_b.ckpt (B): 2",
        "model.head.weight  shape          [4, 3]   ->  [5, 3]",
        "model.fc.bias      requires_grad  False    ->  True",
        "model.fc.weight        0.5     0.04167   0.6581  0.9799753    1 of 12",
        "epoch      3 -> 5",
        "name       'run' -> 'other'",
    ] {
        assert!(lines.contains(&line), "{line:?} in\n{text}");
    }
    assert!(text.contains("xxxoldyyy") && text.contains("xxxnewyyy") && !text.contains(&"x".repeat(20)), "{text}");
    let end = "different: 1 only in A, 2 only in B, 4 tensors changed (max |a-b| 0.5), 11 other values changed; equal: 2 tensors, 8 values";
    assert_eq!(lines.last(), Some(&end));
    let line = diff("-s run_a.ckpt run_b.ckpt").exits(1).out;
    assert_eq!(line, format!("{end}\n"));
}

#[test]
fn what_is_ignored_does_not_count() {
    let bases = "--include model.fc.bias run_a.ckpt run_b.ckpt";
    diff(bases).exits(1);
    diff(&format!("--ignore requires_grad {bases}")).exits(0);
    let bases = "--include model.head.bias run_a.ckpt run_b.ckpt";
    diff(&format!("--ignore requires_grad,device {bases}")).exits(1);
    diff(&format!("--ignore device,dtype {bases}")).exits(0);
    let devices = "../torch-2.15-py311/located_cuda0.pth ../torch-2.15-py311/located_cuda1.pth";
    let run = diff(&format!("--json {devices}")).exits(1);
    assert_eq!(run.json()["changed"][0]["what"], json!(["device"]));
    diff(&format!("-q {devices}")).exits(1);
    diff(&format!("--ignore device {devices}")).exits(0);
    diff("--include model.fc.weight --include epoch run_a.ckpt run_b.ckpt").exits(1);
    let run = diff("--ignore values --include model.fc.weight --include epoch run_a.ckpt run_b.ckpt").exits(0);
    assert_eq!(run.out, "equal: 1 tensor, 1 value (data not compared)\n");
    diff("--ignore colour run_a.ckpt run_b.ckpt").exits(2);
}

#[test]
fn structure_reads_no_data() {
    let run = diff("--structure --include model.fc.weight run_a.ckpt run_b.ckpt").exits(0);
    assert_eq!(run.out, "equal: 1 tensor (data not compared)\n");
    diff("--structure --include epoch run_a.ckpt run_b.ckpt").exits(1);
    diff("--structure --include model.head.weight run_a.ckpt run_b.ckpt").exits(1);
}

#[test]
fn tolerances_are_allcloses() {
    let (a, b) = ([1.0, 100.0, 0.0], [1.5, 101.0, 1e-9]);
    let differing =
        |words: &str| of_floats(&format!("--json {words}"), &a, &b).json()["changed"][0]["differing"].clone();
    // numpy: (abs(a - b) > atol + rtol * abs(b)).sum()
    assert_eq!(differing(""), 3);
    assert_eq!(differing("--rtol 0.01"), 2);
    assert_eq!(differing("--rtol 0.01 --atol 1e-8"), 1);
    assert_eq!(differing("--atol 0.5"), 1);
    of_floats("--atol 1", &a, &b).exits(0);
    diff("--include loss run_a.ckpt run_b.ckpt").exits(1);
    diff("--include loss --rtol 1e-5 run_a.ckpt run_b.ckpt").exits(0);
    for bad in ["--rtol -1", "--atol nan", "--rtol x"] {
        diff(&format!("{bad} run_a.ckpt run_b.ckpt")).exits(2);
    }
}

#[test]
fn nans_zeros_and_bits() {
    let nan = f32::NAN;
    let other_nan = f32::from_bits(nan.to_bits() | 1);
    of_floats("", &[nan, 0.0], &[other_nan, -0.0]).exits(0);
    of_floats("--nan-differs", &[nan, 0.0], &[nan, 0.0]).exits(1);
    of_floats("--nan-differs", &[1.0, 0.0], &[1.0, -0.0]).exits(0);
    of_floats("--bitwise", &[1.0, 0.0], &[1.0, -0.0]).exits(1);
    of_floats("--bitwise", &[nan], &[other_nan]).exits(1);
    of_floats("--bitwise", &[nan], &[nan]).exits(0);
    diff("--include best run_a.ckpt run_b.ckpt").exits(0);
    diff("--include best --nan-differs run_a.ckpt run_b.ckpt").exits(1);
    diff("--bitwise --rtol 1 run_a.ckpt run_b.ckpt").exits(2);
}

#[test]
fn weights_against_a_checkpoint() {
    for weights in ["run_a.safetensors", "run_a.npz"] {
        for words in [format!("{weights} run_a.ckpt"), format!("run_a.ckpt {weights}"), format!("run_a.npz {weights}")]
        {
            let run = diff(&words).exits(0);
            assert_eq!(run.out, "equal: 6 tensors\n", "{words}");
            assert_eq!(run.err.contains("ckpt: run_a.ckpt: weights: model, 6 tensors\n"), words.contains("ckpt"));
        }
        // requires_grad and other values are nothing that these formats could hold
        let run = diff(&format!("--json {weights} run_b.ckpt")).exits(1);
        let mut changed = run.names("changed");
        changed.sort();
        assert_eq!(changed, ["fc.weight", "head.bias", "head.weight"]);
        assert_eq!((run.names("only_a"), run.names("only_b")), (vec!["new.weight".into()], vec!["old.weight".into()]));
        assert_eq!(run.json()["values"], json!([]));
    }
    let run = diff("run_a.safetensors two_models.pt").exits(2);
    assert!(run.err.contains("; choose --root-b "), "{}", run.err);
}

#[test]
fn roots_prefixes_and_globs_align() {
    diff("plain.pt run_a.ckpt").exits(1);
    assert_eq!(diff("--root-b model plain.pt run_a.ckpt").exits(0).out, "equal: 6 tensors\n");
    assert_eq!(diff("--root-a model run_a.ckpt plain.pt").exits(0).out, "equal: 6 tensors\n");
    assert_eq!(diff("--strip-prefix module. wrapped.pt plain.pt").exits(0).out, "equal: 6 tensors\n");
    assert_eq!(diff("--strip-prefix module. plain.pt wrapped.pt").exits(0).out, "equal: 6 tensors\n");
    assert_eq!(diff("--include *.bias --include *bias plain.pt plain.pt").exits(0).out, "equal: 2 tensors\n");
    assert_eq!(diff("--exclude *bias plain.pt plain.pt").exits(0).out, "equal: 4 tensors\n");
    // globs see the aligned names
    let words = "--strip-prefix module. --include fc.* plain.pt wrapped.pt";
    assert_eq!(diff(words).exits(0).out, "equal: 2 tensors\n");
    let run = diff("--root-a nowhere run_a.ckpt plain.pt").exits(2);
    assert!(run.err.starts_with("ckpt: run_a.ckpt: "), "{}", run.err);
}

#[test]
fn renames_are_found_by_content() {
    let run = diff("--json wrapped.pt plain.pt").exits(1);
    let report = run.json();
    let names = ["fc.weight", "head.weight", "new.weight", "fc.bias", "head.bias", "steps"];
    // fc.bias and head.bias are both zeros: the prefix decides
    let want: Vec<Value> = names.iter().map(|name| json!({"a": format!("module.{name}"), "b": name})).collect();
    assert_eq!(report["renamed"], json!(want));
    assert_eq!((&report["only_a"], &report["only_b"]), (&json!([]), &json!([])));
    let command = "ckpt strip-prefix module. wrapped.pt -o wrapped.stripped.pt";
    assert_eq!(report["strip_prefix"]["command"], command);
    let text = diff("plain.pt wrapped.pt").exits(1).out;
    assert!(text.contains(&format!("\n    {command}\n")), "{text}");
    // other names, other values: no rename; the names alone still hint at the prefix
    let run = diff("--root-b model --json wrapped.pt run_b.ckpt").exits(1);
    assert_eq!(
        run.json()["renamed"],
        json!([{"a": "module.fc.bias", "b": "fc.bias"}, {"a": "module.steps", "b": "steps"}])
    );
    let text = diff("--structure wrapped.pt plain.pt").exits(1).out;
    assert!(text.contains("--strip-prefix module. compares without it"), "{text}");
}

#[test]
fn a_name_twice_is_paired_by_its_path() {
    assert_eq!(diff("duplicates.pt duplicates_swapped.pt").exits(0).out, "equal: 2 tensors\n");
}

#[test]
fn the_order_of_sets_is_no_difference() {
    assert_eq!(diff("sets.pkl sets_again.pkl").exits(0).out, "equal: 0 tensors, 1 value\n");
}

#[test]
fn sorting_and_the_top() {
    let by = |words: &str| diff(&format!("--json {words} numbers_a.pt numbers_b.pt")).exits(1);
    let (file, change) = (by("").names("changed"), by("--sort change").names("changed"));
    assert_eq!(file[0], "float64");
    assert_ne!(file, change);
    let rel = |row: &Value| row["max_rel"].as_f64().unwrap_or(f64::INFINITY);
    let report = by("--sort change").json();
    let sizes: Vec<f64> = report["changed"].as_array().unwrap().iter().map(rel).collect();
    assert!(sizes.windows(2).all(|pair| pair[0] >= pair[1]), "{sizes:?}");
    let top = by("--sort change --top 2");
    assert_eq!(top.names("changed"), change[..2]);
    assert_eq!(top.json()["counts"]["changed"], json!(change.len()));
    let text = diff("--top 1 run_a.ckpt run_b.ckpt").exits(1).out;
    assert!(text.contains("other values changed: 11\nepoch  3 -> 5\n… 10 more\n"), "{text}");
    let first = diff("--json --sort change --top 1 run_a.ckpt run_b.ckpt").exits(1);
    assert_eq!(first.names("changed"), ["model.head.weight"]);
}

#[test]
fn loading_is_worded_as_torch_does() {
    let text = diff("--load --root-a model run_a.ckpt --root-b model run_b.ckpt").exits(1).out;
    let want = "\
Missing key(s) in state_dict:
    \"old.weight\"

Unexpected key(s) in state_dict:
    \"new.weight\"

size mismatch for head.weight: copying a param with shape torch.Size([4, 3]) from checkpoint, the shape in current model is torch.Size([5, 3]).

load_state_dict of run_a.ckpt into run_b.ckpt (strict=False) fails: 1 mismatched in size, 1 missing, 1 unexpected, 4 tensors alike
";
    assert_eq!(text, want);
    // elements, dtypes and values do not keep anything from being loaded, and the weights are found
    let text = diff("--load --exclude *head.weight --exclude *new* --exclude *old* run_a.ckpt run_b.ckpt").exits(0).out;
    assert_eq!(text, "<All keys matched successfully>, 4 tensors\n");
}

#[test]
fn one_side_that_cannot_be_read_is_named() {
    let page = "../hostile/page.pth";
    for words in [format!("run_a.ckpt {page}"), format!("{page} run_a.ckpt"), format!("-q {page} run_a.ckpt")] {
        let run = diff(&words).exits(2);
        assert!(run.err.starts_with(&format!("ckpt: {page}: ")) && run.err.lines().count() == 1, "{}", run.err);
        assert_eq!(run.out, "");
    }
    let run = diff(&format!("{page} missing.pt")).exits(2);
    assert!(run.err.contains(&format!("ckpt: {page}: ")) && run.err.contains("ckpt: missing.pt: "), "{}", run.err);
    diff("- -").exits(2);
}

#[test]
fn standard_input_is_a_side() {
    let bytes = std::fs::read(testdata("diff/plain.pt")).unwrap();
    assert_eq!(diff_with("- plain.pt", &[], &bytes).exits(0).out, "equal: 6 tensors\n");
    assert_eq!(diff_with("--json wrapped.pt -", &[], &bytes).exits(1).json()["b"], "-");
}

/// A copy of a zip, without the members that are not wanted, and with one bit of a member's data turned.
fn zip_copy(from: &Path, keep: impl Fn(&str) -> bool, flip: Option<(&str, usize, u8)>) -> Vec<u8> {
    let mut zip = zip::ZipArchive::new(std::fs::File::open(from).unwrap()).unwrap();
    let mut out = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    let options = zip::write::SimpleFileOptions::default().compression_method(zip::CompressionMethod::Stored);
    for index in 0..zip.len() {
        let mut member = zip.by_index(index).unwrap();
        let name = member.name().unwrap().into_owned();
        let mut bytes = Vec::new();
        member.read_to_end(&mut bytes).unwrap();
        if let Some((_, at, bit)) = flip.filter(|(wanted, _, _)| name.ends_with(wanted)) {
            let at = at % bytes.len();
            bytes[at] ^= 1 << bit;
        }
        if keep(&name) {
            out.start_file(name, options).unwrap();
            out.write_all(&bytes).unwrap();
        }
    }
    out.finish().unwrap().into_inner()
}

#[test]
fn a_tensor_without_data_is_named_and_the_rest_reported() {
    let dir = tempfile::tempdir().unwrap();
    let broken = dir.path().join("broken.ckpt");
    std::fs::write(&broken, zip_copy(&testdata("diff/run_a.ckpt"), |name| !name.ends_with("data/1"), None)).unwrap();
    let run = diff_with("--json run_b.ckpt", &[&broken], b"").exits(2);
    assert!(run.err.contains(&format!("ckpt: {}: model.head.weight: ", broken.display())), "{}", run.err);
    assert_eq!(run.json()["problems"][0]["name"], "model.head.weight");
    assert!(run.names("changed").contains(&"model.fc.weight".into()));
    // quietly, or against itself: still no answer
    diff_with("-q run_a.ckpt", &[&broken], b"").exits(2);
    let run = diff_with("", &[&broken, &broken], b"").exits(2);
    assert!(
        run.out.ends_with("not known to be equal: 1 could not be compared; equal: 6 tensors, 19 values\n"),
        "{}",
        run.out
    );
    // nobody asked for the data
    diff_with("--structure run_a.ckpt", &[&broken], b"").exits(0);
}

/// A zip with one float32 tensor of 100 elements in a storage of `stored` elements, `stride` apart.
fn hundred(path: &Path, stored: u8, stride: u8) {
    let mut pickle = b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n((X\x07\0\0\0storagectorch\nFloatStorage\n".to_vec();
    pickle.extend(b"X\x01\0\0\x000X\x03\0\0\0cpuK");
    pickle.extend([stored]);
    pickle.extend(b"tQK\0Kd\x85K");
    pickle.extend([stride]);
    pickle.extend(b"\x85\x89ccollections\nOrderedDict\n)RtR.");
    let mut out = zip::ZipWriter::new(std::fs::File::create(path).unwrap());
    let options = zip::write::SimpleFileOptions::default().compression_method(zip::CompressionMethod::Stored);
    let storage = vec![0; usize::from(stored) * 4];
    for (name, bytes) in [("a/data.pkl", &pickle[..]), ("a/version", b"3\n"), ("a/data/0", &storage)] {
        out.start_file(name, options).unwrap();
        out.write_all(bytes).unwrap();
    }
    out.finish().unwrap();
}

#[test]
fn a_problem_says_which_flag_allows_more() {
    let dir = tempfile::tempdir().unwrap();
    let [expanded, dense] = ["expanded.pt", "dense.pt"].map(|name| dir.path().join(name));
    // 400 bytes of elements out of 4, and 400 as they are
    hundred(&expanded, 1, 0);
    hundred(&dense, 100, 1);
    let advice = "; --max-read-bytes allows more";
    let run = diff_with("--json --max-read-bytes 399", &[&expanded, &dense], b"").exits(2);
    assert!(run.err.ends_with(&format!("{advice}\n")), "{}", run.err);
    let report = run.json();
    assert!(report["problems"][0]["problem"].as_str().unwrap().ends_with(advice), "{report}");
    let run = diff_with("-q --max-read-bytes 399", &[&expanded, &dense], b"").exits(2);
    assert!(run.err.ends_with(&format!("{advice}\n")), "{}", run.err);
    diff_with("-q --max-read-bytes 400", &[&expanded, &dense], b"").exits(0);
}

#[test]
fn one_bit_anywhere_is_found_in_its_tensor_only() {
    let file = testdata("torch-2.15-py311/cnn_state.pt");
    let oracle: Value =
        serde_json::from_slice(&std::fs::read(testdata("torch-2.15-py311/cnn_state.pt.json")).unwrap()).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let flipped = dir.path().join("flipped.pt");
    for (key, tensor) in oracle["tensors"].as_array().unwrap().iter().enumerate() {
        // torch numbers storages as it meets them; bits of the mantissa, so that no zero only changes its sign
        for (at, bit) in [(0, 0), (1 << 20, 6), (4 * 17 + 2, 3)] {
            let at = at - at % 4 + at % 3;
            std::fs::write(&flipped, zip_copy(&file, |_| true, Some((&format!("/data/{key}"), at, bit)))).unwrap();
            let run = diff_with("--json", &[&file, &flipped], b"").exits(1);
            let path: Vec<&str> = tensor["path"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
            assert_eq!(run.names("changed"), [path.join(".")]);
            assert_eq!(run.json()["changed"][0]["differing"], 1);
            diff_with("-q", &[&file, &flipped], b"").exits(1);
        }
    }
}

#[test]
fn every_fixture_is_equal_to_itself() {
    let mut compared = 0;
    for folder in ["torch-1.0-py27", "torch-1.5-py36", "torch-2.15-py311", "frameworks", "tar"] {
        for entry in std::fs::read_dir(testdata(folder)).unwrap() {
            let path = entry.unwrap().path();
            let is_oracle = path.extension().is_some_and(|extension| extension == "json" || extension == "py");
            if is_oracle || !path.is_file() || path.extension().is_some_and(|extension| extension == "pt2") {
                continue;
            }
            diff_with("-q", &[&path, &path], b"").exits(0);
            compared += 1;
        }
    }
    assert!(compared > 100, "{compared}");
}

#[test]
fn a_module_and_its_state_dict_are_equal() {
    let folder = "../torch-1.5-py36";
    let run = diff(&format!("--json {folder}/one_layer_full.pkl {folder}/one_layer_state.pth")).exits(0);
    assert_eq!(run.json()["same"], 2);
    diff(&format!("-q {folder}/one_layer_state.pth {folder}/one_layer_full.pkl")).exits(0);
}

#[test]
fn containers_of_one_object_are_equal() {
    for stem in ["cnn_state", "everything", "views", "quantized", "sparse", "conj", "cnn_full"] {
        let extension = if stem == "cnn_full" { "pth" } else { "pt" };
        let folder = "../torch-2.15-py311";
        diff(&format!("{folder}/{stem}.{extension} {folder}/{stem}.legacy.{extension}")).exits(0);
    }
}

#[test]
fn what_was_converted_is_equal() {
    let dir = tempfile::tempdir().unwrap();
    let inputs = [
        "diff/run_a.ckpt",
        "torch-2.15-py311/cnn_full.pth",
        "torch-2.15-py311/checkpoint.legacy.tar",
        "torch-2.15-py311/checkpoint.tar",
        "torch-2.15-py311/scripted.pt",
        "torch-2.15-py311/untyped_storage.pt",
        "torch-2.15-py311/views.pt",
        "torch-2.15-py311/tied_full.pth",
        "torch-2.15-py311/tensors_protocol2.pkl",
        "frameworks/cnn_state.safetensors",
        "frameworks/hf_sharded_bin",
        "frameworks/dcp_single",
        "tar/views.tar",
    ];
    for input in inputs.map(testdata) {
        for format in ["torch", "torch-legacy", "safetensors", "npz"] {
            let output = dir.path().join(format);
            let mut convert = Command::new(env!("CARGO_BIN_EXE_ckpt"));
            let done =
                convert.args(["convert", "--force", "-q", "--to", format]).args([&input, &output]).output().unwrap();
            assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
            let run = diff_with("", &[&input, &output], b"").exits(0);
            assert!(run.out.starts_with("equal: ") && !run.out.starts_with("equal: 0"), "{}", run.out);
        }
    }
}
