//! What bad input gets: a clear error on one line, exit 2, nothing else, in little time. testdata/hostile/expected.json
//! says what to make of each file there; what would be large is made here.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // helpers of tests are tests

use std::io::Write;
use std::path::{Path, PathBuf};

use crate::driver::{Run, ckpt, run_with, testdata};
use serde_json::Value;

/// How many files `expected.json` speaks of.
const EXPECTED: usize = 239;

#[test]
fn every_hostile_file_gets_what_it_deserves() {
    let expected = std::fs::read(testdata("hostile/expected.json")).expect("expected.json");
    let expected: Value = serde_json::from_slice(&expected).expect("JSON");
    let expected: Vec<(&String, &Value)> = expected.as_object().expect("an object").iter().collect();
    assert_eq!(expected.len(), EXPECTED);
    crate::driver::for_each(&expected, |(file, wanted)| {
        let file = format!("hostile/{file}");
        for options in [&["--json"][..], &["--json", "--hash"], &["--stats"], &["--tree"], &["--names"]] {
            let run = run_with(ckpt().arg("ls").args(options).arg(&file), b"");
            let result = check(&run, wanted, options);
            result.map_err(|why| format!("{file}: {options:?}: {why}: {}", run.stderr))?;
            // what cannot be opened is refused before any option matters
            if run.status == 2 && run.stdout.is_empty() {
                break;
            }
        }
        Ok(())
    });
}

/// The other commands, one or the other for each file, in a gigabyte of addresses and never for long.
#[cfg(unix)]
#[test]
fn every_command_survives_every_hostile_file() {
    let expected: Value =
        serde_json::from_slice(&std::fs::read(testdata("hostile/expected.json")).expect("a file")).expect("JSON");
    let dir = folder();
    let sound = testdata("torch-2.15-py311/cnn_state.pt");
    let sound = sound.to_str().expect("a path");
    let files: Vec<(usize, &String)> = expected.as_object().expect("an object").keys().enumerate().collect();
    crate::driver::for_each(&files, |(number, file)| {
        let (file, out) = (format!("hostile/{file}"), dir.path().join(number.to_string()));
        let out = out.to_str().expect("a path");
        let merged = [format!("a={file}"), format!("b={sound}")];
        let commands = [
            vec!["check", "--numerics", &file],
            vec!["convert", &file, out, "--to", "torch"],
            vec!["convert", &file, out, "--to", "torch-legacy"],
            vec!["convert", &file, out, "--to", "safetensors"],
            vec!["convert", &file, out, "--to", "npz"],
            vec!["diff", &file, sound],
            vec!["strip-prefix", "--anywhere", "a", &file, "-o", out],
            vec!["average", &file, &file, "-o", out, "--to", "torch"],
            vec!["merge", &merged[0], &merged[1], "-o", out, "--to", "torch"],
            vec!["merge", &file, sound, "-o", out, "--to", "safetensors", "--on-conflict", "last"],
        ];
        // a bomb goes off everywhere
        let chosen =
            commands.iter().enumerate().filter(|(at, _)| file.contains("bomb") || number % commands.len() == *at);
        for (_, arguments) in chosen {
            let mut command = std::process::Command::new("sh");
            command.current_dir(testdata("")).args(["-c", "ulimit -v 1048576; exec \"$@\"", "sh"]);
            let run = run_with(command.arg(env!("CARGO_BIN_EXE_ckpt")).args(arguments), b"");
            well_said(&run).map_err(|why| format!("{arguments:?}: {why}"))?;
            let silent = run.stderr.is_empty() && run.stdout.is_empty();
            if !matches!(run.status, 0..=2) || run.status != 0 && silent {
                return Err(format!("{arguments:?}: exit {}: {}", run.status, run.stderr));
            }
            // what is written can be read again
            if run.status == 0 && Path::new(out).exists() {
                let back = ls(Path::new(out));
                // a list of lists of lists converts, and is too large to be listed before and after
                if back.status != 0 && ls(Path::new(&file)).status == 0 {
                    return Err(format!("{arguments:?}: what was written is refused: {}", back.stderr));
                }
                std::fs::remove_file(out).map_err(|e| e.to_string())?;
            }
        }
        Ok(())
    });
}

fn check(run: &Run, wanted: &Value, options: &[&str]) -> Result<(), String> {
    let data = options.contains(&"--hash") || options.contains(&"--stats");
    let exit = wanted.get("exit_hash").filter(|_| data).unwrap_or(&wanted["exit"]);
    let exits = exit.as_array().map_or(std::slice::from_ref(exit), Vec::as_slice);
    if !exits.iter().any(|exit| *exit == run.status) {
        return Err(format!("exit {}, not {exit}", run.status));
    }
    let stderr = run.stderr.to_lowercase();
    for word in wanted["stderr_contains"].as_array().expect("words") {
        if !stderr.contains(&word.as_str().expect("a word").to_lowercase()) {
            return Err(format!("the error does not say {word}"));
        }
    }
    for raw in wanted["stdout_lacks"].as_array().into_iter().flatten() {
        let raw = raw.as_str().expect("characters");
        if run.text().contains(raw) {
            return Err(format!("{raw:?} is written raw"));
        }
    }
    if run.status == 0 && run.stdout.is_empty() && !options.contains(&"--names") {
        return Err("nothing is listed, and exit 0".to_owned());
    }
    well_said(run)?;
    let refusal = refusal_line(run);
    let listed_with_problems = data && !run.stdout.is_empty() && run.status == 2 && !refusal;
    if listed_with_problems && options.contains(&"--json") {
        let tensors = run.json()["tensors"].as_array().cloned().unwrap_or_default();
        let (bad, good): (Vec<_>, Vec<_>) = tensors.iter().partition(|tensor| !tensor["problem"].is_null());
        if bad.is_empty() || bad.iter().any(|tensor| !tensor["sha256"].is_null()) {
            return Err("exit 2 after a listing without a tensor that has a problem and no sha256".to_owned());
        }
        let strided = good.iter().filter(|tensor| tensor["layout"] == "strided" && tensor["device"] != "meta");
        if let Some(tensor) = strided.into_iter().find(|tensor| tensor["sha256"].is_null()) {
            return Err(format!("{} has neither problem nor sha256", tensor["name"]));
        }
    } else if run.status == 2 && !listed_with_problems {
        let is_told = if options.contains(&"--json") { refusal } else { run.stdout.is_empty() };
        if !is_told || run.stderr.lines().count() != 1 {
            return Err("a refusal is one line on standard error, and with --json one of its own".to_owned());
        }
    }
    Ok(())
}

/// Whether standard output holds nothing but the line for an input that cannot be read.
fn refusal_line(run: &Run) -> bool {
    run.text().lines().count() == 1
        && serde_json::from_str::<Value>(run.text()).is_ok_and(|line| line["schema"] == "ckpt.error/1")
}

/// Whatever is said has our name before it and is no longer than a line that people read.
fn well_said(run: &Run) -> Result<(), String> {
    for line in run.stderr.lines() {
        if !line.starts_with("ckpt: ") || line.len() > 2000 || line.chars().any(char::is_control) {
            return Err(format!("this is no message: {line:?}"));
        }
    }
    Ok(())
}

/// Exit 2, one line that names the file and says `words`, nothing on standard output.
fn refused(run: &Run, file: &str, words: &[&str]) {
    assert_eq!(run.status, 2, "{file}: {}\n{}", run.stderr, String::from_utf8_lossy(&run.stdout));
    assert_eq!(run.stderr.lines().count(), 1, "{file}: {}", run.stderr);
    assert!(run.stderr.starts_with(&format!("ckpt: {file}: ")), "{file}: {}", run.stderr);
    assert!(run.stdout.is_empty(), "{file}: {}", String::from_utf8_lossy(&run.stdout));
    for word in words {
        assert!(run.stderr.contains(word), "{file}: no {word:?} in {}", run.stderr);
    }
    well_said(run).expect("a message");
}

fn ls(file: &Path) -> Run {
    run_with(ckpt().arg("ls").arg(file), b"")
}

/// A folder for this test's files.
fn folder() -> tempfile::TempDir {
    tempfile::tempdir().expect("a folder")
}

fn written(dir: &tempfile::TempDir, name: &str, bytes: &[u8]) -> PathBuf {
    let path = dir.path().join(name);
    std::fs::write(&path, bytes).expect("a file");
    path
}

#[test]
fn a_million_levels_of_nesting() {
    let dir = folder();
    let million = 1_000_000;
    let nested = |open: &[u8], close: &[u8]| {
        let mut bytes = b"\x80\x04".to_vec();
        bytes.extend(open.repeat(million));
        bytes.extend(b"N");
        bytes.extend(close.repeat(million));
        bytes.push(b'.');
        bytes
    };
    let files = [
        ("tuples", nested(b"", b"\x85")),
        ("lists", nested(b"]", b"a")),
        ("dicts", nested(b"}K\x01", b"s")),
        ("lists of marks", nested(b"(", b"l")),
        ("states", nested(b"cm\nC\n)\x81", b"b")),
        ("calls", nested(b"cm\nC\n", b"\x85R")),
    ];
    crate::driver::for_each(&files, |(name, bytes)| {
        let file = written(&dir, name, bytes);
        refused(&ls(&file), &file.to_string_lossy(), &["--max-depth"]);
        Ok(())
    });
    // an id of an id is a value with a long repr, and no name goes through it
    let file = written(&dir, "persistent ids", &nested(b"", b"Q"));
    assert!(ls(&file).exits(0).text().contains("<persistent <persistent"));
}

#[test]
fn lists_of_lists_that_double_fifty_times() {
    let dir = folder();
    // each level holds the one before twice: 2^50 leaves
    let mut bytes = b"\x80\x04]K\x01a\x94".to_vec();
    for level in 1..50u8 {
        bytes.extend([b'0', b']', b'(', b'h', level - 1, b'h', level - 1, b'e', 0x94]);
    }
    bytes.push(b'.');
    let file = written(&dir, "laughs.pkl", &bytes);
    refused(&ls(&file), &file.to_string_lossy(), &["--max-entries"]);
}

/// Cut anywhere, a file is refused with a message, or what is still whole is listed and the rest marked.
#[test]
fn files_cut_at_several_places() {
    let cut = [
        ("torch-2.15-py311/checkpoint.tar", true),
        ("torch-2.15-py311/scripted.pt", true),
        ("torch-2.15-py311/checkpoint.legacy.tar", false),
        ("torch-1.0-py27/cnn_full.pth", false),
        ("torch-2.15-py311/everything.legacy.pt", false),
        ("tar/one_layer_state.tar", false),
        ("torch-2.15-py311/numpy_protocol0.pkl", true),
        ("torch-2.15-py311/numpy_protocol5.pkl", true),
        ("torch-2.15-py311/tensors_protocol4.pkl", true),
        ("torch-2.15-py311/numpy_gzip.pkl.gz", true),
        ("frameworks/cnn_state.safetensors", true),
        ("more/arrays.npz", true),
        ("more/array_v1.npy", true),
        ("more/joblib.pkl", true),
        ("more/joblib.pkl.xz", true),
        ("more/joblib.pkl.bz2", true),
    ];
    let dir = folder();
    crate::driver::for_each(&cut, |(name, always)| {
        let mut whole = std::fs::read(testdata(name)).expect("test data");
        if name.ends_with("_state.tar") {
            // without the blocks of zeros at the end a tar is still whole
            whole.truncate(whole.iter().rposition(|byte| *byte != 0).expect("a tar") + 1);
        }
        let mut places: Vec<usize> = (1..16).map(|sixteenth| whole.len() * sixteenth / 16).collect();
        places.extend([1, 2, 9, whole.len() - 1]);
        for place in places {
            let file = written(&dir, &format!("{}.{place}", name.replace('/', ".")), &whole[..place]);
            let run = run_with(ckpt().args(["ls", "--json", "--hash"]).arg(&file), b"");
            let shown = file.to_string_lossy();
            well_said(&run).map_err(|why| format!("{shown}: {why}"))?;
            if run.status != 2 {
                return Err(format!("{shown}: exit {}: {}", run.status, run.stderr));
            }
            let refusal = refusal_line(&run);
            if *always && (!refusal || run.stderr.lines().count() != 1) {
                return Err(format!("{shown}: {}{}", run.stderr, run.text()));
            }
            if !refusal {
                let tensors = run.json()["tensors"].as_array().cloned().unwrap_or_default();
                if tensors.iter().all(|tensor| tensor["problem"].is_null()) {
                    return Err(format!("{shown}: listed without a problem: {}", run.text()));
                }
            }
        }
        Ok(())
    });
}

#[test]
fn what_is_no_file() {
    let dir = folder();
    let missing = dir.path().join("missing.pt");
    refused(&ls(&missing), &missing.to_string_lossy(), &["No such file"]);
    refused(&ls(dir.path()), &dir.path().to_string_lossy(), &["directory"]);
    let null = Path::new("/dev/null");
    if null.exists() {
        refused(&ls(null), "/dev/null", &[]);
    }
}

#[cfg(unix)]
#[test]
fn a_named_pipe_is_refused_without_waiting_for_a_writer() {
    let dir = folder();
    let pipe = dir.path().join("pipe");
    let made = std::process::Command::new("mkfifo").arg(&pipe).status();
    if made.is_ok_and(|status| status.success()) {
        refused(&ls(&pipe), &pipe.to_string_lossy(), &[]);
    }
}

#[test]
fn wrong_files_are_named_for_what_they_are() {
    let dir = folder();
    for (name, bytes, word) in [
        ("html", &b"<!DOCTYPE html>\n<html><body>404</body></html>"[..], "HTML"),
        ("lfs", b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n", "Git LFS"),
        ("empty", b"", "empty"),
        ("png", b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", "PNG"),
        ("elf", b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0\x03\0\x3e\0", "not a checkpoint"),
    ] {
        let file = written(&dir, name, bytes);
        refused(&ls(&file), &file.to_string_lossy(), &[word]);
    }
}

/// torch 2.15 gives every class its own look at the bytes; what is written from there holds the same.
#[test]
fn a_storage_that_two_classes_name_is_one_of_each() {
    let dir = folder();
    for (name, ends) in [("tensor_same_key_two_types", true), ("legacy_two_types", true), ("legacy_two_sizes", false)] {
        let file = testdata(&format!("hostile/{name}.pt"));
        let tensors =
            |file: &Path| run_with(ckpt().args(["ls", "--hash", "--json"]).arg(file), b"").json()["tensors"].clone();
        let listed = tensors(&file);
        let of = |row: usize, key: &str| listed[row][key].as_str().map(str::to_owned);
        assert_eq!([of(0, "dtype"), of(1, "dtype")], [Some("float32".into()), Some("float64".into())], "{name}");
        // in a legacy stream the second gets nothing where its size is another
        assert_eq!(of(1, "sha256") == of(0, "sha256"), ends, "{name}");
        assert_eq!(of(1, "problem").is_some_and(|problem| problem.contains("two sizes")), !ends, "{name}");
        for to in ["torch", "torch-legacy"].into_iter().filter(|_| ends) {
            let out = dir.path().join("out");
            run_with(ckpt().args(["convert", "-q", "--force", "--to", to]).args([&file, &out]), b"").exits(0);
            let written = tensors(&out);
            for row in 0..2 {
                assert_eq!(written[row]["sha256"].as_str().map(str::to_owned), of(row, "sha256"), "{name} to {to}");
            }
        }
    }
}

/// What takes minutes when work is done for each use and not for each thing.
#[test]
fn a_quarter_of_a_megabyte_of_uses() {
    let dir = folder();
    let most = 1 << 18;
    let fill = |head: &[u8], unit: &[u8]| [b"\x80\x02", head, b"(", &unit.repeat(most / unit.len()), b"l."].concat();
    let inner = [&b"\x80\x02("[..], &b"]".repeat(8000), b"l."].concat();
    let bytes = [b"B", &u32::try_from(inner.len()).expect("a length").to_le_bytes()[..], &inner, b"\x85q\x01"].concat();
    let files = [
        ("calls", fill(b"ca\nB\nq\0", b"h\0)R")),
        ("objects", fill(b"ca\nB\nq\0", b"h\0)\x81}b")),
        (
            "globals",
            [b"(".to_vec(), (0..30_000).flat_map(|i| format!("ca\n{i}\n").into_bytes()).collect(), b"l.".to_vec()]
                .concat(),
        ),
        ("one string in many calls", fill(&[b"ca\nB\nq\0", &bytes[..]].concat(), b"h\0h\x01R")),
        (
            "one stream in many calls",
            fill(&[b"ctorch.storage\n_load_from_bytes\nq\0", &bytes[..]].concat(), b"h\0h\x01R"),
        ),
    ];
    crate::driver::for_each(&files, |(name, bytes)| {
        let file = written(&dir, name, bytes);
        for arguments in [&["ls", "--json", "--hash"][..], &["check", "--json", "--numerics"]] {
            let run = run_with(ckpt().args(arguments).arg(&file), b"");
            well_said(&run).map_err(|why| format!("{name}: {why}"))?;
        }
        Ok(())
    });
}

/// A pickle in a deflated member may not make more objects than its compressed size allows.
#[test]
fn a_deflate_bomb_of_opcodes_in_little_memory() {
    let dir = folder();
    let path = dir.path().join("bomb.pt");
    let mut zip = zip::ZipWriter::new(std::fs::File::create(&path).expect("a file"));
    let options = zip::write::SimpleFileOptions::default().compression_method(zip::CompressionMethod::Deflated);
    zip.start_file("archive/data.pkl", options).expect("a member");
    zip.write_all(b"\x80\x02(").expect("a member");
    for _ in 0..64 {
        zip.write_all(&vec![b']'; 1 << 20]).expect("a member");
    }
    zip.write_all(b"l.").expect("a member");
    zip.start_file("archive/version", options).expect("a member");
    zip.write_all(b"3\n").expect("a member");
    zip.finish().expect("a zip");
    refused(&ls(&path), &path.to_string_lossy(), &["--max-"]);
}
