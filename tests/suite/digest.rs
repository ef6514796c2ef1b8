//! `ckpt digest`: one digest for the same weights in whatever they lie, another one for others, none for what is damaged.
//! `testdata/digest/expected.json` has what Python makes of the same tensors.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // helpers of tests are tests

use std::collections::BTreeMap;
use std::fs;

use serde_json::Value;

use crate::driver::{Dir, Run, ckpt, run, run_with, testdata};

fn expected(kind: &str) -> BTreeMap<String, String> {
    let text = fs::read_to_string(testdata("digest/expected.json")).unwrap();
    let all: Value = serde_json::from_str(&text).unwrap();
    let of = all[kind].as_object().unwrap();
    of.iter().map(|(file, digest)| (file.clone(), digest.as_str().unwrap().to_owned())).collect()
}

fn wanted(file: &str) -> String {
    expected("weights")[file].clone()
}

fn args(args: &[&str]) -> Run {
    run_with(ckpt().args(args), b"")
}

fn one(file: &str) -> String {
    let run = args(&["digest", "-q", file]).exits(0);
    let (digest, name) = run.text().trim_end_matches('\n').split_once("  ").unwrap();
    assert_eq!(name, file);
    digest.to_owned()
}

#[test]
fn as_python_computes_it() {
    let expected = expected("weights");
    assert!(expected.len() > 20);
    for (file, digest) in &expected {
        assert_eq!(one(&format!("digest/{file}")), *digest, "{file}");
    }
    let distinct: std::collections::HashSet<&String> = expected.values().collect();
    assert_eq!(distinct.len(), 10, "the plain weights, five that differ in one thing, tied, odd, two quantized");
}

#[test]
fn all_takes_in_every_tensor_and_value() {
    for (file, digest) in expected("all") {
        let run = run(&format!("digest --all digest/{file}")).exits(0);
        assert_eq!(run.text(), format!("{digest}  digest/{file}\n"));
        assert_eq!(run.stderr, "", "nothing is left out");
    }
    let all = |file: &str| run(&format!("digest --all digest/{file}")).exits(0).text()[..64].to_owned();
    assert_ne!(all("checkpoint.tar"), all("state.pt"));
    assert_ne!(all("state.safetensors"), all("state.pt"), "__metadata__ counts");
}

#[test]
fn ten_lines_of_python_can_do_it_from_a_listing() {
    // as the help says it: records from `ls --json --hash`, sorted hashes
    use sha2::{Digest, Sha256};
    let sha256 = |text: &str| ckpt::data::hash::hex(&Sha256::digest(text.as_bytes()));
    for file in ["digest/state.pt", "digest/odd.pt", "digest/state.npz", "digest/shards"] {
        let listing = run(&format!("ls --json --hash {file}")).exits(0).json();
        let record = |row: &Value| {
            let shape: Vec<String> = row["shape"].as_array().unwrap().iter().map(ToString::to_string).collect();
            let [name, dtype, hash] = ["name", "dtype", "sha256"].map(|key| row[key].as_str().unwrap());
            sha256(&format!("tensor\n{hash}\n{dtype}\n{}\n{name}", shape.join(",")))
        };
        let mut records: Vec<String> = listing["tensors"].as_array().unwrap().iter().map(record).collect();
        records.sort();
        let text: String = std::iter::once("ckpt.digest/1".to_owned()).chain(records).map(|line| line + "\n").collect();
        assert_eq!(sha256(&text), one(file), "{file}");
    }
}

#[test]
fn what_counts_is_said() {
    let run = run("digest digest/checkpoint.tar digest/tied.safetensors").exits(0);
    for said in [
        "digest/checkpoint.tar: weights: model, 9 tensors",
        "not in the digest: epoch, optimizer",
        "digest/tied.safetensors: tensors by __metadata__",
    ] {
        assert!(run.stderr.contains(said), "{said}: {}", run.stderr);
    }
    assert_eq!(args(&["digest", "-q", "digest/checkpoint.tar"]).exits(0).stderr, "");
    let json = args(&["digest", "--json", "digest/checkpoint.tar"]).exits(0).json();
    assert_eq!((&json["schema"], &json["of"]), (&"ckpt.digest/1".into(), &"weights".into()));
    assert_eq!((&json["root"], &json["tensors"], &json["values"]), (&"model".into(), &9.into(), &0.into()));
    assert_eq!(json["digest"], wanted("checkpoint.tar"));
    assert_eq!(json["left_out"][0]["name"], "epoch");
    let json = args(&["digest", "--json", "--all", "digest/values.pt"]).exits(0).json();
    assert_eq!((&json["of"], &json["values"], &json["root"]), (&"all".into(), &11.into(), &".".into()));
}

#[test]
fn names_choose() {
    let of = |words: &str| run(&format!("digest -q {words}")).exits(0).text()[..64].to_owned();
    let plain = wanted("state.pt");
    assert_eq!(of("--root model digest/checkpoint.tar"), plain);
    assert_eq!(of("--exclude optimizer digest/checkpoint.tar"), plain, "a name outside of the weights may be left out");
    assert_ne!(of("--include head digest/state.pt"), plain);
    assert_eq!(of("--include head digest/state.pt"), of("--exclude conv --exclude norm digest/state.npz"));
    assert_ne!(of("--root head digest/state.pt"), of("--include head digest/state.pt"), "names are below the root");
    assert_eq!(of("--all --root model digest/checkpoint.tar"), plain);
    for (words, why) in [
        ("--include nothing digest/state.pt", "no tensors left after --include/--exclude"),
        ("--exclude nothing digest/state.pt", "`nothing`"),
        ("--root modle digest/checkpoint.tar", "model"),
        ("torch-2.15-py311/multi_model.pt", "--root modelA_state_dict"),
    ] {
        let run = run(&format!("digest {words}")).exits(2);
        assert!(run.stderr.contains(why), "{words}: {}", run.stderr);
    }
    // one match in one file is enough
    let run = run("digest -q --exclude tail digest/state.pt digest/renamed.pt").exits(0);
    assert!(run.text().starts_with(&plain), "{}", run.text());
    assert_ne!(&run.lines()[1][..64], wanted("renamed.pt"));
}

#[test]
fn no_digest_of_what_is_damaged_or_has_no_elements() {
    let dir = Dir::new();
    let bad = dir.path("bad.pt");
    // one byte of a storage: the checksum tells
    let mut bytes = fs::read(testdata("digest/state.pt")).unwrap();
    let weight = bytes.len() / 2;
    let place =
        (weight..bytes.len()).find(|at| bytes[*at] == 0x3f || bytes[*at] == 0x3e || bytes[*at] == 0xbe).unwrap();
    bytes[place] ^= 1;
    fs::write(&bad, &bytes).unwrap();
    let run = args(&["digest", &bad, "digest/state.pt"]).exits(2);
    assert!(run.stderr.contains("checksum does not match"), "{}", run.stderr);
    assert_eq!(run.text(), format!("{}  digest/state.pt\n", wanted("state.pt")), "the other is not kept from it");

    // cut off
    let legacy = fs::read(testdata("digest/state.legacy.pth")).unwrap();
    fs::write(&bad, &legacy[..legacy.len() - 3]).unwrap();
    assert_eq!(args(&["digest", &bad]).exits(2).text(), "");
    let safetensors = fs::read(testdata("digest/state.safetensors")).unwrap();
    fs::write(&bad, &safetensors[..safetensors.len() - 3]).unwrap();
    assert_eq!(args(&["digest", &bad]).exits(2).text(), "");

    // an archive's checksum of the whole file
    let mut zip = crate::driver::zip_of(&[("m.safetensors", &safetensors)], zip::CompressionMethod::Stored);
    let at = zip.windows(9).position(|bytes| bytes == b"conv.bias").unwrap();
    let data = zip[at..].windows(4).position(|bytes| bytes == b"\"}}}" || bytes == b"]}  ").unwrap_or(400) + at + 60;
    zip[data] ^= 1;
    let archive = dir.path("a.zip");
    fs::write(&archive, &zip).unwrap();
    for arguments in [
        vec!["digest".to_owned(), format!("{archive}::m.safetensors")],
        vec!["digest".into(), "-R".into(), archive.clone()],
    ] {
        let run = run_with(ckpt().args(&arguments), b"").exits(2);
        assert!(run.text().is_empty() && run.stderr.contains("CRC-32"), "{arguments:?}: {} {}", run.text(), run.stderr);
    }

    for (file, why) in [
        ("torch-2.15-py311/meta.pt", "a meta tensor has no data; --exclude leaves it out"),
        ("torch-2.15-py311/sparse.pt", "a sparse_coo tensor has no digest"),
        ("../README.md", "text"),
        ("digest/nothing.pt", "No such file"),
    ] {
        let run = args(&["digest", file]).exits(2);
        assert!(run.text().is_empty() && run.stderr.contains(why), "{file}: {}", run.stderr);
    }
    let run = args(&["digest", "--json", "digest/nothing.pt"]).exits(2);
    assert_eq!(run.json()["schema"], "ckpt.error/1");
}

#[test]
fn standard_input_archives_and_directories() {
    let bytes = fs::read(testdata("digest/state.pt")).unwrap();
    let stdin = run_with(ckpt().args(["digest", "-"]), &bytes).exits(0);
    assert_eq!(stdin.text(), format!("{}  -\n", wanted("state.pt")));
    let dir = Dir::new();
    let archive = dir.path("a.zip");
    let method = zip::CompressionMethod::Deflated;
    fs::write(&archive, crate::driver::zip_of(&[("x/state.pt", &bytes), ("b.txt", b"text")], method)).unwrap();
    fs::write(dir.path("README"), "no checkpoint").unwrap();
    let alone = args(&["digest", &archive]).exits(2);
    assert!(alone.stderr.contains("x/state.pt"), "{}", alone.stderr);
    let below = run_with(ckpt().args(["digest", "-R", "."]).current_dir(dir.path("")), b"").exits(0);
    assert_eq!(below.text(), format!("{}  ./a.zip::x/state.pt\n", wanted("state.pt")));
    assert!(below.stderr.contains("1 file left aside"), "{}", below.stderr);
    // what is called like a checkpoint and is none
    fs::write(dir.path("broken.pt"), "no checkpoint").unwrap();
    let below = run_with(ckpt().args(["digest", "-R", "."]).current_dir(dir.path("")), b"").exits(2);
    assert_eq!(below.lines().len(), 1);
    assert!(below.stderr.contains("broken.pt"));
    let nothing = Dir::new();
    fs::write(nothing.path("README"), "no checkpoint").unwrap();
    assert!(args(&["digest", "-R", &nothing.path("")]).exits(2).stderr.contains("no checkpoints in this directory"));
}

#[test]
fn lists_are_verified() {
    let dir = Dir::new();
    let list = dir.path("LIST");
    let here = |words: &[&str]| run_with(ckpt().args(words), b"");
    let made = args(&["digest", "-q", "digest/state.pt", "digest/state.npz", "digest/one_bit.pt"]).exits(0);
    fs::write(&list, &made.stdout).unwrap();
    let good = here(&["digest", "--check", &list]).exits(0);
    assert_eq!(good.text(), "digest/state.pt: OK\ndigest/state.npz: OK\ndigest/one_bit.pt: OK\n");
    assert_eq!(good.stderr, "");
    assert_eq!(here(&["digest", "--check", &list, "--quiet"]).exits(0).text(), "");
    assert_eq!(run_with(ckpt().args(["digest", "-c", "-"]), &made.stdout).exits(0).lines().len(), 3);
    assert_eq!(here(&["digest", "-c", &list, &list]).exits(0).lines().len(), 6, "several lists");

    // another digest: the answer is no
    let text = made.text().replacen(&made.text()[..64], &wanted("half.pt"), 1);
    fs::write(&list, &text).unwrap();
    let bad = here(&["digest", "--check", &list]).exits(1);
    assert_eq!(bad.lines()[0], "digest/state.pt: FAILED");
    assert!(bad.stderr.contains("1 digest did not match"), "{}", bad.stderr);
    assert_eq!(here(&["digest", "--check", &list, "--quiet"]).exits(1).text(), "digest/state.pt: FAILED\n");
    let json = here(&["digest", "--check", &list, "--json"]).exits(1);
    let rows: Vec<Value> = json.lines().iter().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!((&rows[0]["matches"], &rows[0]["expected"]), (&false.into(), &wanted("half.pt").into()));
    assert_eq!((&rows[0]["digest"], &rows[1]["matches"]), (&wanted("state.pt").into(), &true.into()));

    // a file that is not there, and one that is damaged
    let cut = dir.path("cut.pt");
    fs::write(&cut, &fs::read(testdata("digest/state.pt")).unwrap()[..3000]).unwrap();
    let plain = wanted("state.pt");
    fs::write(&list, format!("{plain}  gone.pt\n{plain}  {cut}\n{plain}  digest/state.pt\n")).unwrap();
    let gone = here(&["digest", "--check", &list]).exits(2);
    assert_eq!(gone.text(), format!("gone.pt: FAILED open or read\n{cut}: FAILED open or read\ndigest/state.pt: OK\n"));
    assert!(gone.stderr.contains("2 listed files could not be read"), "{}", gone.stderr);
    let ignored = here(&["digest", "--check", &list, "--ignore-missing"]).exits(2);
    assert!(!ignored.text().contains("gone.pt") && ignored.text().contains("cut.pt: FAILED open or read"));
    fs::write(&list, format!("{plain}  gone.pt\n")).unwrap();
    let nothing = here(&["digest", "--check", &list, "--ignore-missing"]).exits(2);
    assert!(nothing.stderr.contains("no file was verified"), "{}", nothing.stderr);

    // lines that are none
    fs::write(&list, format!("# a comment\n\nxyz\n{} *digest/state.pt\r\n", plain.to_uppercase())).unwrap();
    let odd = here(&["digest", "--check", &list]).exits(0);
    assert_eq!(odd.text(), "digest/state.pt: OK\n");
    assert!(odd.stderr.contains("line 3 is not a digest") && odd.stderr.contains("1 line is improperly formatted"));
    here(&["digest", "--check", &list, "--strict"]).exits(2);
    fs::write(&list, "xyz\n").unwrap();
    assert!(here(&["digest", "--check", &list]).exits(2).stderr.contains("no line of a digest and a name"));
    assert!(here(&["digest", "--check", &dir.path("none")]).exits(2).stderr.contains("none: "));

    // with the options that the list was made with
    let of_head = args(&["digest", "-q", "--include", "head", "digest/state.pt"]).exits(0);
    fs::write(&list, &of_head.stdout).unwrap();
    here(&["digest", "--check", &list]).exits(1);
    here(&["digest", "--check", &list, "--include", "head"]).exits(0);
    let of_all = args(&["digest", "--all", "digest/values.pt"]).exits(0);
    fs::write(&list, &of_all.stdout).unwrap();
    here(&["digest", "--check", &list]).exits(1);
    here(&["digest", "--check", &list, "--all"]).exits(0);
    for words in [
        "digest --check x y.pt -R",
        "digest --check x --shard 1/2",
        "digest --strict x",
        "digest --ignore-missing x",
        "digest",
    ] {
        run(words).exits(2);
    }
}

#[cfg(unix)]
#[test]
fn odd_names_of_files_come_back_from_a_list() {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;
    let dir = Dir::new();
    let names =
        [&b"a b.pt"[..], b"back\\slash.pt", b"line\nend.pt", b"\xff.pt", b"\x1b[31m.pt", "\u{202e}tp.pt".as_bytes()];
    for name in names {
        fs::copy(testdata("digest/state.pt"), std::path::Path::new(&dir.path("")).join(OsStr::from_bytes(name)))
            .unwrap();
    }
    let here = |words: &[&str]| run_with(ckpt().args(words).current_dir(dir.path("")), b"");
    let made = here(&["digest", "-R", "."]).exits(0);
    assert_eq!(made.lines().len(), names.len(), "a line each");
    assert!(!made.text().contains(['\x1b', '\u{202e}']));
    fs::write(dir.path("LIST"), &made.stdout).unwrap();
    let verified = here(&["digest", "--check", "LIST"]).exits(0);
    assert!(verified.lines().iter().all(|line| line.ends_with(": OK")), "{}", verified.text());
    assert_eq!(verified.lines().len(), names.len());
}

#[test]
fn convert_writes_nothing_of_other_weights() {
    let dir = Dir::new();
    let out = dir.path("out.safetensors");
    let convert = |input: &str, more: &[&str]| args(&[&["convert", input, &out], more].concat());
    let (plain, upper) = (wanted("state.pt"), wanted("state.pt").to_uppercase());
    let other = convert("digest/one_bit.pt", &["--expect-digest", &plain]).exits(2);
    let said = format!("the digest of its weights is {}, not {plain}", wanted("one_bit.pt"));
    assert!(other.stderr.contains(&said) && other.stderr.contains("(--expect-digest)"), "{}", other.stderr);
    assert!(dir.is_empty());
    for input in ["digest/state.pt", "digest/checkpoint.tar", "digest/module.pth", "digest/dcp"] {
        convert(input, &["--expect-digest", &upper, "--force"]).exits(0);
        assert_eq!(one(&out), plain);
    }
    convert("digest/tied.safetensors", &["--expect-digest", &wanted("tied.pt"), "--force"]).exits(0);
    let to_torch = dir.path("whole.pt");
    let whole = ["convert", "digest/checkpoint.tar", &to_torch, "--expect-digest", &plain];
    args(&whole).exits(0);
    // of the same selection
    let head = args(&["digest", "-q", "--include", "head", "digest/state.pt"]).exits(0).text()[..64].to_owned();
    convert("digest/state.pt", &["--include", "head", "--expect-digest", &head, "--force"]).exits(0);
    convert("digest/state.pt", &["--include", "head", "--expect-digest", &plain, "--force"]).exits(2);
    // what is damaged has none
    let bytes = fs::read(testdata("digest/state.pt")).unwrap();
    let mut damaged = bytes.clone();
    let place = (bytes.len() / 2..bytes.len()).find(|at| [0x3e, 0x3f, 0xbe].contains(&bytes[*at])).unwrap();
    damaged[place] ^= 1;
    let bad = dir.path("bad.pt");
    fs::write(&bad, damaged).unwrap();
    let refused = convert(&bad, &["--expect-digest", &plain, "--force"]).exits(2);
    assert!(refused.stderr.contains("checksum does not match"), "{}", refused.stderr);
    for bad in ["", "xyz", &plain[1..], &format!("{}g", &plain[1..])] {
        assert!(
            convert("digest/state.pt", &["--expect-digest", bad]).exits(2).stderr.contains("64 hexadecimal digits")
        );
    }
}

#[test]
fn a_listing_with_hashes_shows_it() {
    for (file, digest) in expected("weights") {
        let file = format!("digest/{file}");
        let json = args(&["ls", "--json", "--hash", &file]).exits(0).json();
        assert_eq!(json["digest"], digest, "{file}");
    }
    let footer = format!("weights digest: {}\n", wanted("state.pt"));
    let table = args(&["ls", "--hash", "digest/checkpoint.tar"]).exits(0);
    assert!(table.text().contains(&footer), "{}", table.text());
    let below = args(&["ls", "--hash", "--root", "model", "digest/checkpoint.tar"]).exits(0);
    assert!(below.text().contains(&footer), "{}", below.text());
    for words in [
        "ls digest/state.pt",
        "ls --hash --include head digest/state.pt",
        "ls --hash torch-2.15-py311/multi_model.pt",
        "ls --hash torch-2.15-py311/sparse.pt",
    ] {
        assert!(!run(words).exits(0).text().contains("weights digest"), "{words}");
    }
    let bytes = fs::read(testdata("digest/state.pt")).unwrap();
    let mut damaged = bytes.clone();
    let place = (bytes.len() / 2..bytes.len()).find(|at| [0x3e, 0x3f, 0xbe].contains(&bytes[*at])).unwrap();
    damaged[place] ^= 1;
    let dir = Dir::new();
    fs::write(dir.path("bad.pt"), damaged).unwrap();
    let run = args(&["ls", "--hash", &dir.path("bad.pt")]).exits(0);
    assert!(
        !run.text().contains("weights digest") && run.stderr.contains("no digest of the weights"),
        "{}",
        run.stderr
    );
}

#[test]
fn every_format_that_is_written_has_the_digest_of_its_input() {
    let dir = Dir::new();
    let targets: &[(&str, &[&str])] = &[
        ("a.safetensors", &[]),
        ("dropped.safetensors", &["--shared", "drop"]),
        ("a.npz", &[]),
        ("whole.pt", &[]),
        ("state.pt", &["--state-dict"]),
        ("compact.pt", &["--compact"]),
        ("safe.pt", &["--safe"]),
        ("legacy.pth", &["--to", "torch-legacy"]),
        ("shards", &["--to", "safetensors", "--max-shard-size", "64"]),
        ("torch_shards", &["--to", "torch", "--max-shard-size", "64"]),
    ];
    let inputs = [
        "checkpoint.tar",
        "module.pth",
        "scripted.pt",
        "tied.pt",
        "strided.pt",
        "dcp",
        "big_endian.npz",
        "odd.pt",
        "quantized.pt",
    ];
    let mut same = 0;
    for file in inputs.map(|file| format!("digest/{file}")).into_iter().chain(["diff/numbers_a.pt".to_owned()]) {
        let digest = one(&file);
        for (target, options) in targets {
            let output = dir.path(target);
            let _ = fs::remove_dir_all(&output);
            let run = args(&[&["convert", "-q", &file, &output, "--force"], *options].concat());
            // what a format cannot hold is refused, and `--safe` is not for programs
            assert!(run.status == 0 || run.status == 2 && !run.stderr.is_empty());
            if run.status == 0 {
                assert_eq!(one(&output), digest, "{file} {target}");
                same += 1;
            }
        }
    }
    assert!(same > 80, "{same}");
}

/// A set of tuples of tuples: each level is in the next twice, so that its repr doubles.
#[test]
fn values_that_would_be_endless_have_no_digest() {
    let nested = |levels: usize| {
        let mut pickle = b"\x80\x04}X\x01\0\0\0s\x8f(K\x01\x85".to_vec();
        pickle.extend(b"2\x86".repeat(levels));
        pickle.extend(b"\x90s.");
        pickle
    };
    for levels in [19, 40] {
        let run = run_with(ckpt().args(["digest", "--all", "-"]), &nested(levels)).exits(2);
        assert!(run.text().is_empty() && run.stderr.contains("s: too much to be shown whole"), "{}", run.stderr);
        run_with(ckpt().args(["ls", "-"]), &nested(levels)).exits(0);
    }
    run_with(ckpt().args(["digest", "--all", "-"]), &nested(5)).exits(0);
}

/// The order of words that `sha256sum` takes, and what is no list.
#[test]
fn lists_are_given_as_to_sha256sum() {
    let dir = Dir::new();
    let list = dir.path("list");
    let line = run("digest -q digest/state.pt").exits(0);
    fs::write(&list, line.text()).unwrap();
    for words in
        [&["-c", "--strict", &list][..], &["--strict", "-c", &list], &["-c", &list, "--strict"], &["-c", "--", &list]]
    {
        assert_eq!(args(&[&["digest"], words].concat()).exits(0).text(), "digest/state.pt: OK\n", "{words:?}");
    }
    let from_stdin = run_with(ckpt().args(["digest", "-c"]), line.text().as_bytes()).exits(0);
    assert_eq!(from_stdin.text(), "digest/state.pt: OK\n");
    for (words, why) in [
        (&["--strict", "digest/state.pt"][..], "--strict is for --check"),
        (&["--ignore-missing", "digest/state.pt"], "--ignore-missing is for --check"),
        (&["-0", "-c", &list], "--null is for --files-from"),
    ] {
        assert!(args(&[&["digest"], words].concat()).exits(2).stderr.contains(why), "{words:?}");
    }
    // every line has its record
    fs::write(&list, format!("bad\n{}", line.text())).unwrap();
    let run = args(&["digest", "--json", "-c", &list]).exits(0);
    let records: Vec<serde_json::Value> = run.lines().iter().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!((&records[0]["schema"], &records[0]["file"]), (&"ckpt.error/1".into(), &list.clone().into()));
    assert!(records[0]["message"].as_str().unwrap().contains("line 1 is not a digest and a name"));
    assert_eq!((records.len(), &records[1]["matches"]), (2, &true.into()));
    fs::write(&list, "").unwrap();
    let empty = args(&["digest", "-c", &list]).exits(2);
    assert_eq!(empty.stderr, format!("ckpt: {list}: has no line of a digest and a name\n"));
}
