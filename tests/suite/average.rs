//! `ckpt average` against torch's own means (testdata/generate_average.py).
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::fs;
use std::path::Path;

use crate::driver::{Run, ckpt, run, run_with, testdata, zip_of};

fn average(arguments: &str, output: &Path) -> Run {
    let words = arguments.split_whitespace();
    let folder = testdata("average");
    run_with(ckpt().current_dir(folder).arg("average").args(words).arg("-o").arg(output), b"")
}

/// Nothing but the inputs and what was asked for is there.
fn is_untouched(dir: &Path) -> bool {
    fs::read_dir(dir).unwrap().next().is_none()
}

fn refused(arguments: &str, output: &str) -> String {
    let dir = tempfile::tempdir().unwrap();
    let run = average(arguments, &dir.path().join(output)).exits(2);
    assert_eq!(run.stderr.lines().count(), 1, "{}", run.stderr);
    assert!(is_untouched(dir.path()), "{arguments}");
    run.stderr
}

fn same(a: &Path, b: &str) {
    let b = testdata("average").join(b);
    let run = run_with(ckpt().args(["diff", "--bitwise"]).arg(a).arg(&b), b"");
    assert_eq!(run.status, 0, "{} {}: {}{}", a.display(), b.display(), run.text(), run.stderr);
}

const RUNS: &str = "run_0.pt run_1.pt run_2.pt";

#[test]
fn whole_checkpoints_as_torch_averages_them() {
    let dir = tempfile::tempdir().unwrap();
    for (arguments, wanted) in
        [("", "run_mean.pt"), ("--weights 0.5,0.3,0.2", "run_weighted.pt"), ("--ema 0.9", "run_ema.pt")]
    {
        let out = dir.path().join(wanted);
        let run = average(&format!("{RUNS} {arguments}"), &out).exits(0);
        assert!(run.stderr.contains("run_2.pt: taken from this input, not averaged: bn.num_batches_tracked, mask"));
        // the optimizer, the epoch, devices, strides
        same(&out, wanted);
        // torch writes as many storages: what shares memory goes on sharing it
        let storages = |file: &Path| {
            let run = run_with(ckpt().args(["ls", "--json"]).arg(file), b"").exits(0);
            let tensors = run.json()["tensors"].as_array().unwrap().clone();
            let shared = tensors.iter().map(|tensor| (tensor["name"].clone(), tensor["shared_with"].clone()));
            shared.collect::<Vec<_>>()
        };
        assert_eq!(storages(&out), storages(&testdata("average").join(wanted)));
    }
}

#[test]
fn from_two_to_ten_inputs() {
    let dir = tempfile::tempdir().unwrap();
    for count in [2, 3, 10] {
        let inputs: Vec<String> = (0..count).map(|number| format!("state_{number}.safetensors")).collect();
        for extension in ["safetensors", "pt", "npz"] {
            let out = dir.path().join(format!("{count}.{extension}"));
            average(&inputs.join(" "), &out).exits(0);
            same(&out, &format!("state_mean_of_{count}.safetensors"));
        }
    }
}

#[test]
fn any_container_and_the_last_one_stays() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("mean.pt");
    average("state_0.safetensors state_1.pt state_2_legacy.pth", &out).exits(0);
    let run = run_with(ckpt().args(["extract", "--json"]).arg(&out).arg("epoch"), b"").exits(0);
    assert_eq!(run.json()["value"], 2);
    let weights = dir.path().join("weights.safetensors");
    run_with(ckpt().args(["convert", "-q"]).args([&out, &weights]), b"").exits(0);
    same(&weights, "state_mean_of_3.safetensors");
    // as shards, from standard input, to standard output
    let shards = dir.path().join("shards");
    let split = ckpt()
        .current_dir(testdata("average"))
        .args(["convert", "-q", "--max-shard-size", "64"])
        .arg("state_1.pt")
        .arg(&shards)
        .args(["--to", "safetensors"])
        .output()
        .unwrap();
    assert!(split.status.success());
    let bytes = fs::read(testdata("average/state_2.safetensors")).unwrap();
    let mut command = ckpt();
    command.current_dir(testdata("average")).args(["average", "-q", "state_0.safetensors"]).arg(&shards).args([
        "-",
        "-o",
        "-",
        "--to",
        "safetensors",
    ]);
    let piped = run_with(&mut command, &bytes).exits(0);
    fs::write(&weights, &piped.stdout).unwrap();
    same(&weights, "state_mean_of_3.safetensors");
}

#[test]
fn big_endian_storages() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("mean.pt");
    for inputs in ["big_endian.pt big_endian.pt", "little_endian.pt big_endian.pt", "big_endian.pt little_endian.pt"] {
        average(&format!("{inputs} --force"), &out).exits(0);
        same(&out, "little_endian.pt");
    }
}

/// Whatever of the test data can be averaged with itself is what it was.
#[test]
fn the_mean_of_one_thing_is_that() {
    let mut files = Vec::new();
    for folder in ["torch-2.15-py311", "torch-1.6-py37", "torch-1.0-py27", "more", "weights", "average", "wrappers"] {
        files.extend(fs::read_dir(testdata(folder)).unwrap().map(|entry| entry.unwrap().path()));
    }
    let (mut averaged, dir) = (0, tempfile::tempdir().unwrap());
    for (number, file) in files.iter().enumerate() {
        let out = dir.path().join(format!("{number}.pt"));
        let run = run_with(ckpt().arg("average").args([file, file]).arg("-o").arg(&out), b"");
        if run.status == 2 {
            assert!(run.stderr.lines().count() == 1 && !out.exists(), "{}: {}", file.display(), run.stderr);
            continue;
        }
        averaged += 1;
        let diff =
            run_with(ckpt().args(["diff", "--bitwise", "--ignore", "device,requires_grad"]).args([file, &out]), b"");
        // bits of a NaN, and what TorchScript becomes, are another matter
        let is_equal = diff.status == 0 || run.stderr.contains("NaN") || run.stderr.contains("left out");
        assert!(is_equal, "{}: {}{}", file.display(), diff.text(), diff.stderr);
    }
    assert!(averaged > 40, "{averaged}");
}

#[test]
fn where_the_inputs_differ() {
    let said = refused("state_0.safetensors other.pt", "out.pt");
    let wanted = "ckpt: the weights do not agree: fc.weight: [3, 5] in other.pt, [3, 4] in state_0.safetensors; fc.bias: float32 in \
                  other.pt, float16 in state_0.safetensors; extra: in other.pt, not in state_0.safetensors; bn.steps: in \
                  state_0.safetensors, not in other.pt\n";
    assert_eq!(said, wanted);
    let said = refused("run_0.pt other.pt", "out.pt");
    assert!(said.contains("; and 15 more"), "{said}");
}

#[test]
fn what_is_tied_stays_tied() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("out.pt");
    for inputs in ["tied.pt tied.pt", "equal.pt tied.pt"] {
        average(&format!("{inputs} --force"), &out).exits(0);
        let json = run_with(ckpt().args(["ls", "--json"]).arg(&out), b"").exits(0).json();
        assert_eq!(
            json["tensors"][1]["shared_with"],
            json["tensors"][0]["shared_with"]
                .clone()
                .as_str()
                .map_or(json["tensors"][1]["shared_with"].clone(), Into::into)
        );
        assert!(json["tensors"][1].to_string().contains("a.weight"), "{json}");
    }
    // the other way round nothing is tied
    average("tied.pt equal.pt --force", &out).exits(0);
    let said = refused("untied.pt tied.pt", "out.pt");
    assert_eq!(said, "ckpt: untied.pt: a.weight and b.weight differ, and are one tensor in tied.pt\n");
}

#[test]
fn what_is_said_besides() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("out.pt");
    let run = average("state_3.safetensors not_finite.pt --json", &out).exits(0);
    assert!(run.stderr.contains("ckpt: not_finite.pt: NaN or infinite: 2 values in fc.weight\n"), "{}", run.stderr);
    let json = run.json();
    assert_eq!(json["schema"], "ckpt.average/1");
    assert_eq!(json["not_finite"].to_string(), r#"[{"file":"not_finite.pt","name":"fc.weight","values":2}]"#);
    assert_eq!((&json["averaged"], &json["method"]), (&2.into(), &"mean".into()));
    assert_eq!(json["shares"].to_string(), "[0.5,0.5]");
    assert_eq!(json["from_last"].to_string(), r#"["bn.steps"]"#);
    let run = average("shared.pt shared.pt --force --ema 0.75", &out).exits(0);
    assert!(run.stderr.contains("averaged too, as they share memory with weights: log.kept.0"), "{}", run.stderr);
    // a scale goes with the integers that it scales
    let run = average("packed.pt packed.pt --force --json", &out).exits(0);
    assert_eq!(run.json()["from_last"].to_string(), r#"["fc.weight","fc.weight_scale"]"#);
}

#[test]
fn bad_input_is_one_line_and_nothing_is_written() {
    for (arguments, output, wanted) in [
        ("run_0.pt", "out.pt", "give at least two inputs to average"),
        ("run_0.pt nothing.pt", "out.pt", "nothing.pt: No such file"),
        (
            "integers.pt integers.pt",
            "out.pt",
            "integers.pt: holds no weights that can be averaged: no floating tensors",
        ),
        ("float8.pt float8.pt", "out.pt", "float8.pt: w.weight: float8_e4m3fn tensors cannot be averaged"),
        ("run_0.pt run_1.pt", "out.safetensors", "run_1.pt: complex128.weight: safetensors has no complex128"),
        ("run_0.pt run_1.pt", "out.xyz", "cannot tell the output format"),
        ("run_0.pt run_1.pt --weights 1", "out.pt", "--weights gives 1 number for 2 inputs"),
        ("run_0.pt run_1.pt --weights 0,0", "out.pt", "--weights takes numbers that are not negative, and not all 0"),
        ("run_0.pt run_1.pt --weights 2,-1", "out.pt", "--weights takes numbers"),
        ("run_0.pt run_1.pt --weights nan,1", "out.pt", "--weights takes numbers"),
        ("run_0.pt run_1.pt --weights a,1", "out.pt", "invalid"),
        ("run_0.pt run_1.pt --ema 1.5", "out.pt", "--ema takes a decay from 0 to 1"),
        ("run_0.pt run_1.pt --ema -0.1", "out.pt", "--ema takes a decay from 0 to 1"),
        ("run_0.pt run_1.pt --ema 0.5 --weights 1,1", "out.pt", "--ema"),
        ("run_0.pt run_1.pt --root nope", "out.pt", "no element named `nope`"),
    ] {
        let said = refused(arguments, output);
        assert!(said.contains(wanted), "{arguments}: {said}");
    }
}

#[test]
fn outputs_that_are_there() {
    let dir = tempfile::tempdir().unwrap();
    let (a, b) = (dir.path().join("a.pt"), dir.path().join("b.pt"));
    fs::copy(testdata("average/state_1.pt"), &a).unwrap();
    fs::copy(testdata("average/not_finite.pt"), &b).unwrap();
    let go = |more: &[&str]| run_with(ckpt().arg("average").args([&a, &b]).arg("-o").arg(&a).args(more), b"");
    let said = go(&[]).exits(2).stderr;
    assert!(said.contains("is the input itself; --force replaces it"), "{said}");
    assert_eq!(fs::read(&a).unwrap(), fs::read(testdata("average/state_1.pt")).unwrap());
    go(&["--force"]).exits(0);
    assert_ne!(fs::read(&a).unwrap(), fs::read(testdata("average/state_1.pt")).unwrap());
}

/// A directory of torch.distributed's, a member of an archive, safetensors, npz, a legacy file.
#[test]
fn inputs_of_every_kind_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let npz = dir.path().join("state_3.npz");
    run_with(ckpt().args(["convert", "-q"]).arg(testdata("average/state_3.safetensors")).arg(&npz), b"").exits(0);
    let wanted = dir.path().join("wanted.safetensors");
    average("state_0.safetensors state_1.safetensors state_2.safetensors state_3.safetensors", &wanted).exits(0);
    let out = dir.path().join("out.safetensors");
    let kinds = ["state_0_dcp", "state_1.tar.gz::weights/state_1.pt", "state_2_legacy.pth", npz.to_str().unwrap()];
    for first in 0..kinds.len() {
        let inputs: Vec<&str> = (0..kinds.len()).map(|i| kinds[(first + i) % kinds.len()]).collect();
        average(&format!("{} --force", inputs.join(" ")), &out).exits(0);
        // integers are the last one's
        let diff = run_with(ckpt().args(["diff", "--bitwise", "--exclude", "bn.steps"]).args([&out, &wanted]), b"");
        assert_eq!(diff.status, 0, "{inputs:?}: {}{}", diff.text(), diff.stderr);
    }
}

/// `bytes` with one bit changed `after` bytes behind the last that spells `name`.
fn flipped(bytes: &[u8], name: &[u8], after: usize) -> Vec<u8> {
    let mut changed = bytes.to_vec();
    let at = bytes.windows(name.len()).position(|window| window == name).unwrap() + name.len() + after;
    changed[at] ^= 1;
    changed
}

#[test]
fn a_damaged_input() {
    let dir = tempfile::tempdir().unwrap();
    let whole = fs::read(testdata("average/run_0.pt")).unwrap();
    let bad = dir.path().join("bad.pt");
    let out = dir.path().join("out.pt");
    let refused = |inputs: &[&Path]| {
        let run = run_with(ckpt().arg("average").args(inputs).arg("-o").arg(&out), b"").exits(2);
        assert!(run.stderr.lines().count() == 1 && run.stderr.contains("bad"), "{}", run.stderr);
        assert!(!out.exists());
        // nor does any of it go down a pipe
        let piped = run_with(ckpt().args(["average", "-o", "-", "--to", "torch"]).args(inputs), b"").exits(2);
        assert!(piped.stdout.is_empty() && piped.stderr == run.stderr, "{}", piped.stderr);
        run.stderr
    };
    let good = testdata("average/run_1.pt");
    // storages begin at multiples of 64 bytes
    let start = |key: &str| {
        let name = whole.windows(key.len()).position(|window| window == key.as_bytes()).unwrap();
        (name + key.len() + 4).next_multiple_of(64)
    };
    let at = |place: usize| {
        let mut flipped = whole.clone();
        flipped[place] ^= 1;
        flipped
    };
    let cut = whole[..whole.len() / 2].to_vec();
    let storages = run_with(ckpt().args(["ls", "--json"]).arg(testdata("average/run_0.pt")), b"").exits(0).json();
    let key = |name: &str| {
        let tensors = storages["tensors"].as_array().unwrap();
        let found = tensors.iter().find(|tensor| tensor["name"] == format!("model.{name}").as_str()).unwrap();
        format!("/data/{}", found["storage"].as_str().unwrap())
    };
    let mismatch = "checksum does not match";
    for (bytes, wanted, name) in [
        (at(start("/data/0") + 5), mismatch, "float32.weight"),
        // between the columns that the weight has, which nobody reads
        (at(start(&key("gapped")) + 1), mismatch, "gapped"),
        (at(start(&key("bn.num_batches_tracked"))), mismatch, "num_batches_tracked"),
        (cut, "", ""),
    ] {
        fs::write(&bad, bytes).unwrap();
        for order in [[bad.as_path(), good.as_path()], [good.as_path(), bad.as_path()]] {
            let said = refused(&order);
            assert!(said.contains(wanted) && said.contains(name), "{said}");
        }
    }
    // what is not weights is written as it is, and named
    fs::write(&bad, at(start("/data/17") + 2)).unwrap();
    let run = run_with(ckpt().args(["average", "--json"]).args([&good, &bad]).arg("-o").arg(&out), b"").exits(0);
    let doubtful = &run.json()["doubtful"];
    assert!(doubtful[0]["name"].as_str().unwrap().starts_with("optimizer.state.0."), "{doubtful}");
    assert!(run.stderr.contains(mismatch), "{}", run.stderr);
    fs::remove_file(&out).unwrap();
}

#[test]
fn damage_in_arrays_chunks_and_deflated_members() {
    let dir = tempfile::tempdir().unwrap();
    let (good, out) = (testdata("average/state_1.pt"), dir.path().join("out.pt"));
    let npz = dir.path().join("bad.npz");
    run_with(ckpt().args(["convert", "-q"]).arg(&good).arg(&npz), b"").exits(0);
    let bytes = fs::read(&npz).unwrap();
    fs::write(&npz, flipped(&bytes, b"(3, 4), }", 60)).unwrap();
    let dcp = dir.path().join("bad_dcp");
    fs::create_dir(&dcp).unwrap();
    let chunk = "__0_0.distcp";
    fs::copy(testdata("average/state_0_dcp/.metadata"), dcp.join(".metadata")).unwrap();
    let bytes = fs::read(testdata("average/state_0_dcp").join(chunk)).unwrap();
    let tensor = fs::read(testdata("average/state_0.safetensors")).unwrap();
    // the weight's own bytes, found by what they are
    let place = bytes.windows(20).position(|window| tensor.windows(20).any(|own| own == window)).unwrap();
    let mut changed = bytes.clone();
    changed[place] ^= 1;
    fs::write(dcp.join(chunk), changed).unwrap();
    let zip = fs::read(&good).unwrap();
    let mut archive = zip::ZipArchive::new(std::io::Cursor::new(zip.clone())).unwrap();
    let members: Vec<(String, Vec<u8>)> = (0..archive.len())
        .map(|index| {
            let mut member = archive.by_index(index).unwrap();
            let mut content = Vec::new();
            std::io::Read::read_to_end(&mut member, &mut content).unwrap();
            (member.name().unwrap().into_owned(), content)
        })
        .collect();
    let parts: Vec<(&str, &[u8])> = members.iter().map(|(name, content)| (name.as_str(), content.as_slice())).collect();
    let mut deflated = zip_of(&parts, zip::CompressionMethod::Deflated);
    let opened = dir.path().join("deflated.pt");
    fs::write(&opened, &deflated).unwrap();
    run_with(ckpt().args(["average", "-q"]).args([&good, &opened]).arg("-o").arg(&out), b"").exits(0);
    fs::remove_file(&out).unwrap();
    // another sum where the directory has it
    let name = deflated.windows(6).rposition(|window| window == b"data/0").unwrap();
    let central = deflated[..name].windows(4).rposition(|window| window == b"PK\x01\x02").unwrap();
    deflated[central + 16] ^= 1;
    let bad_zip = dir.path().join("bad.pt");
    fs::write(&bad_zip, &deflated).unwrap();
    for bad in [npz, dcp, bad_zip] {
        for order in [[&bad, &good], [&good, &bad]] {
            let run = run_with(ckpt().arg("average").args(order).arg("-o").arg(&out), b"").exits(2);
            assert!(run.stderr.lines().count() == 1 && run.stderr.contains("bad"), "{}", run.stderr);
            assert!(run.stderr.contains("checksum does not match"), "{}", run.stderr);
            assert!(!out.exists());
        }
    }
}

#[test]
fn help_says_what_weights_mean() {
    let help = run("average --help").exits(0);
    let text = help.text().split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(text.contains("divided by their sum") && text.contains("DECAY * average + (1 - DECAY) * input"), "{text}");
}

#[test]
fn which_weights_are_averaged_is_said() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("out.pt");
    let run = average("--json run_0.pt run_1.pt", &out).exits(0);
    assert_eq!(run.json()["weights"], "model");
    assert!(run.stderr.contains("run_1.pt: weights: model, "), "{}", run.stderr);
    let whole = average("--json tied.pt tied.pt", &dir.path().join("whole.pt")).exits(0);
    assert!(!whole.stderr.contains("weights: "), "{}", whole.stderr);
}

#[test]
fn only_the_ratios_of_weights_count() {
    let dir = tempfile::tempdir().unwrap();
    let (large, small) = (dir.path().join("large.pt"), dir.path().join("small.pt"));
    average("run_0.pt run_1.pt --weights 1e308,1e308", &large).exits(0);
    average("run_0.pt run_1.pt --weights 1,1", &small).exits(0);
    run_with(ckpt().args(["diff", "-q"]).args([&large, &small]), b"").exits(0);
}
