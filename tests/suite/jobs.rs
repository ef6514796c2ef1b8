//! Jobs in many parts: lists of files, shards of them, and shards of one conversion that several processes write.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // helpers of tests are tests

use std::fs;

use crate::driver::{Dir, Run, ckpt, run_with, testdata};

fn here(dir: &Dir, words: &[&str]) -> Run {
    run_with(ckpt().args(words).current_dir(dir.path("")), b"")
}

/// A tree of seven checkpoints, and two files that are none.
fn tree() -> Dir {
    let dir = Dir::new();
    fs::create_dir_all(dir.path("m/sub")).unwrap();
    for (name, file) in [
        ("m/a.pt", "digest/state.pt"),
        ("m/b.pth", "digest/half.pt"),
        ("m/c.safetensors", "digest/state.safetensors"),
        ("m/d.npz", "digest/state.npz"),
        ("m/sub/e.pt", "digest/one_bit.pt"),
        ("m/sub/f.pt", "digest/renamed.pt"),
        ("m/z.pt", "digest/tied.pt"),
    ] {
        fs::copy(testdata(file), dir.path(name)).unwrap();
    }
    fs::write(dir.path("m/README"), "none").unwrap();
    fs::write(dir.path("m/sub/log.txt"), "none").unwrap();
    dir
}

/// The files that a run's JSON is of.
fn files(run: &Run) -> Vec<String> {
    let file =
        |line: &&str| serde_json::from_str::<serde_json::Value>(line).unwrap()["file"].as_str().unwrap().to_owned();
    run.lines().iter().map(file).collect()
}

const COMMANDS: &[&[&str]] =
    &[&["check", "-R", "--fail-on", "danger", "--json"], &["digest", "-R", "--json"], &["ls", "-R", "--json"]];

#[test]
fn shards_of_a_tree_are_disjoint_and_complete() {
    let dir = tree();
    for command in COMMANDS {
        let whole = here(&dir, &[*command, &["m"]].concat()).exits(0);
        assert_eq!(files(&whole).len(), 7);
        for count in [1, 3, 7, 20] {
            let mut all: Vec<&str> = Vec::new();
            let runs: Vec<Run> = (1..=count)
                .map(|index| here(&dir, &[*command, &["--shard", &format!("{index}/{count}"), "m"]].concat()).exits(0))
                .collect();
            runs.iter().for_each(|run| all.extend(run.lines()));
            all.sort_unstable();
            let mut wanted = whole.lines();
            wanted.sort_unstable();
            assert_eq!(all, wanted, "{command:?} {count}");
            assert!(runs.iter().all(|run| run.lines().len() <= 9_usize.div_ceil(count)), "{command:?} {count}");
        }
    }
    // what else lies beside each checkpoint does not bring them all to one job
    let models = Dir::new();
    for name in ["a", "b", "c", "d"] {
        fs::create_dir_all(models.path(&format!("m/{name}"))).unwrap();
        fs::copy(testdata("digest/state.pt"), models.path(&format!("m/{name}/model.pt"))).unwrap();
        fs::write(models.path(&format!("m/{name}/config.txt")), "none").unwrap();
    }
    let half = here(&models, &["digest", "-R", "-q", "--shard", "1/2", "m"]).exits(0);
    assert_eq!(half.lines().len(), 2, "{}", half.text());

    // without --recursive too, in the order of the paths, each once
    let second = here(&dir, &["digest", "-q", "--shard", "2/2", "m/z.pt", "m/a.pt", "m/b.pth", "m/a.pt"]).exits(0);
    assert!(second.lines().len() == 1 && second.text().ends_with("  m/b.pth\n"), "{}", second.text());
    for (shard, why) in [("0/8", "counted from 1: 1/8 to 8/8"), ("9/8", "no job 9 of 8"), ("x", "use I/N")] {
        for command in ["digest", "check", "ls"] {
            let refused = here(&dir, &[command, "-R", "--shard", shard, "m"]).exits(2);
            assert!(refused.stderr.contains(why), "{}", refused.stderr);
        }
    }
    // nothing at all is an error in every job
    fs::create_dir(dir.path("empty")).unwrap();
    for command in COMMANDS {
        here(&dir, &[*command, &["--shard", "2/3", "empty"]].concat()).exits(2);
    }
}

#[test]
fn lists_of_files() {
    let dir = tree();
    fs::write(dir.path("LIST"), "m/z.pt\n\nm/sub\nm/a.pt\n").unwrap();
    fs::write(dir.path("LIST0"), b"m/z.pt\0m/a.pt").unwrap();
    let stdin = |words: &[&str], bytes: &[u8]| run_with(ckpt().args(words).current_dir(dir.path("")), bytes);
    for command in COMMANDS {
        let with = |more: &[&'static str]| [*command, more].concat();
        let wanted = ["m/z.pt", "m/sub/e.pt", "m/sub/f.pt", "m/a.pt"];
        assert_eq!(files(&here(&dir, &with(&["--files-from", "LIST"])).exits(0)), wanted, "{command:?}");
        assert_eq!(files(&stdin(&with(&["--files-from", "-"]), b"m/z.pt\nm/sub\nm/a.pt").exits(0)), wanted);
        let nul = here(&dir, &with(&["--files-from", "LIST0", "--null"])).exits(0);
        assert_eq!(files(&nul), ["m/z.pt", "m/a.pt"]);
        assert_eq!(files(&stdin(&with(&["-0", "--files-from", "-"]), b"m/z.pt\0m/a.pt\0").exits(0)), files(&nul));
        let both = here(&dir, &with(&["m/b.pth", "--files-from", "LIST0", "-0"])).exits(0);
        assert_eq!(files(&both), ["m/b.pth", "m/z.pt", "m/a.pt"]);
        let shard = here(&dir, &with(&["--files-from", "LIST", "--shard", "2/2"])).exits(0);
        assert_eq!(files(&shard), ["m/z.pt", "m/sub/e.pt"], "of a.pt, e.pt, f.pt, z.pt; then log.txt");
        // what is not there is an error, and keeps nobody else from being looked at
        let gone = stdin(&with(&["--files-from", "-"]), b"m/z.pt\nm/gone.pt\nm/a.pt\n").exits(2);
        assert_eq!(files(&gone), ["m/z.pt", "m/gone.pt", "m/a.pt"]);
        assert!(gone.stderr.contains("m/gone.pt: ") && gone.text().contains("ckpt.error/1"));
        for (words, bytes, why) in [
            (&["--files-from", "none"][..], &b""[..], "none: "),
            (&["--files-from", "-"], b"\n", "names no files"),
            (&["--files-from", "-"], b"m/a.pt\0", "--null reads"),
            (&["--files-from", "-", "-"], b"m/a.pt\n", "is the list of files"),
            (&["-0", "m/a.pt"], b"", "--files-from"),
            (&[], b"", "INPUT"),
        ] {
            let refused = stdin(&with(words), bytes).exits(2);
            assert!(refused.stderr.contains(why), "{command:?} {words:?}: {}", refused.stderr);
        }
    }
    // not recursive: a directory is a checkpoint or an error
    here(&dir, &["digest", "--files-from", "LIST"]).exits(2);
    here(&dir, &["check", "--files-from", "LIST"]).exits(2);
}

/// What lies in a folder, with its bytes.
fn contents(dir: &str) -> Vec<(String, Vec<u8>)> {
    let entries = fs::read_dir(dir).unwrap().map(Result::unwrap);
    let mut all: Vec<_> =
        entries.map(|entry| (entry.file_name().into_string().unwrap(), fs::read(entry.path()).unwrap())).collect();
    all.sort();
    all
}

fn convert<'a>(input: &'a str, out: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    [&["convert", input, out, "--max-shard-size", "120"], more].concat()
}

/// Numbers that look random and are the same in every run.
fn shuffled(count: usize, seed: u64) -> Vec<usize> {
    let mut order: Vec<usize> = (1..=count).collect();
    let mut state = seed.wrapping_mul(2) + 1;
    for at in (1..count).rev() {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        order.swap(at, (state >> 33) as usize % (at + 1));
    }
    order
}

#[test]
fn jobs_in_any_order_and_at_the_same_time_write_what_one_run_writes() {
    let inputs: &[(&str, &[&str])] = &[
        ("digest/state.pt", &["--to", "safetensors"]),
        ("digest/state.pt", &["--to", "torch"]),
        ("digest/checkpoint.tar", &["--to", "safetensors", "--dtype", "bf16", "--set-metadata", "a=b"]),
        ("digest/strided.pt", &["--to", "torch", "--dtype", "half"]),
        ("digest/dcp", &["--to", "torch"]),
        ("digest/module.pth", &["--to", "safetensors"]),
        ("digest/tied.pt", &["--to", "safetensors", "--shared", "drop"]),
        ("digest/tied.pt", &["--to", "torch"]),
        ("digest/state.npz", &["--to", "torch"]),
        ("digest/shards", &["--to", "safetensors"]),
        ("digest/state.pt.gz", &["--to", "safetensors", "--include", "conv"]),
        ("average/equal.pt", &["--to", "torch", "--compact"]),
    ];
    let mut rounds = 0;
    for (number, (input, options)) in inputs.iter().enumerate() {
        let dir = Dir::new();
        let (one, many) = (dir.path("one"), dir.path("many"));
        run_with(ckpt().args(convert(input, &one, options)), b"").exits(0);
        let wanted = contents(&one);
        for round in 0..2 {
            let jobs = [8, 3, 2, 1][(number + round) % 4];
            let _ = fs::remove_dir_all(&many);
            // several at the same time
            for group in shuffled(jobs, (number * 2 + round) as u64).chunks(4) {
                std::thread::scope(|scope| {
                    for job in group {
                        let (many, options) = (&many, &options);
                        scope.spawn(move || {
                            let shard = format!("{job}/{jobs}");
                            let arguments = convert(input, many, &[&options[..], &["--shard", &shard]].concat())
                                .into_iter()
                                .map(str::to_owned)
                                .collect::<Vec<_>>();
                            run_with(ckpt().args(&arguments), b"").exits(0);
                        });
                    }
                });
            }
            assert_eq!(contents(&many).len(), wanted.len() - 1, "all but the index");
            assert!(ckpt().args(["digest", &many]).output().unwrap().status.code() == Some(2), "no checkpoint yet");
            run_with(ckpt().args(convert(input, &many, &[&options[..], &["--index-only"]].concat())), b"").exits(0);
            assert!(contents(&many) == wanted, "{input} {options:?}");
            rounds += 1;
        }
    }
    assert!(rounds >= 20, "{rounds}");
}

#[test]
fn each_job_writes_its_shards_and_says_so() {
    let dir = Dir::new();
    let out = dir.path("out");
    let shard = |shard: &'static str| {
        let words = convert("digest/state.pt", &out, &["--to", "safetensors", "--shard", shard]);
        run_with(ckpt().args([&words[..], &["--json"]].concat()), b"")
    };
    let second = shard("2/3").exits(0).json();
    let files: Vec<&str> =
        second["files"].as_array().unwrap().iter().map(|file| file["file"].as_str().unwrap()).collect();
    let count = second["shards"].as_u64().unwrap();
    assert_eq!((&second["shard"], count), (&"2/3".into(), 3));
    assert_eq!(files, [format!("{out}/model-00002-of-00003.safetensors")]);
    assert_eq!(contents(&out).len(), 1);
    let tensors = |run: &Run| run.json()["tensors"].as_u64().unwrap();
    assert_eq!(
        tensors(&shard("1/3").exits(0)) + tensors(&shard("3/3").exits(0)) + second["tensors"].as_u64().unwrap(),
        9
    );
    // more jobs than shards: some have nothing to do
    let idle = shard("8/8").exits(0);
    assert!(idle.stderr.contains("no shard falls to 8/8: there are 3"), "{}", idle.stderr);
    assert!(idle.json()["files"].as_array().unwrap().is_empty());
    // what is there needs --force
    assert!(shard("2/3").exits(2).stderr.contains("exists already; --force replaces it"));
    for (words, why) in [
        ("--shard 0/3 --max-shard-size 1KB", "counted from 1: 1/3 to 3/3"),
        ("--shard 4/3 --max-shard-size 1KB", "no job 4 of 3"),
        ("--shard 1/3", "--max-shard-size"),
        ("--index-only", "--max-shard-size"),
        ("--shard 1/3 --index-only --max-shard-size 1KB", "--index-only"),
        ("--shard 1/3 --save-values x.json --max-shard-size 1KB", "--save-values"),
    ] {
        let words: Vec<&str> = words.split(' ').collect();
        let refused =
            run_with(ckpt().args([&["convert", "digest/state.pt", &out, "--to", "torch"], &words[..]].concat()), b"");
        assert!(refused.exits(2).stderr.contains(why), "{words:?}");
    }
}

#[test]
fn the_index_comes_last_and_only_over_what_it_names() {
    for (to, stem, extension) in [("safetensors", "model", "safetensors"), ("torch", "pytorch_model", "bin")] {
        let dir = Dir::new();
        let out = dir.path("out");
        let run = |input: &str, size: &str, more: &[&str]| {
            run_with(ckpt().args(["convert", input, &out, "--to", to, "--max-shard-size", size]).args(more), b"")
        };
        let index = format!("{out}/{stem}.{extension}.index.json");
        let file = |number: usize| format!("{out}/{stem}-{number:05}-of-00003.{extension}");
        let refused = |run: Run, why: &str| {
            let run = run.exits(2);
            assert!(run.stderr.contains(why), "{to} {why}: {}", run.stderr);
            assert!(!std::path::Path::new(&index).exists());
        };
        let (state, index_only) = ("digest/state.pt", &["--index-only"][..]);
        // nothing is there
        refused(run(state, "120", index_only), "3 of 3 shards are not there");
        for shard in ["1/3", "3/3"] {
            run(state, "120", &["--shard", shard]).exits(0);
        }
        refused(run(state, "120", index_only), &format!("1 of 3 shards is not there: {stem}-00002-of-00003"));
        // a job of another size
        run(state, "40", &["--shard", "2/3"]).exits(0);
        refused(run(state, "120", index_only), "is one of another number");
        for entry in fs::read_dir(&out).unwrap().map(Result::unwrap) {
            if !entry.file_name().to_str().unwrap().contains("-of-00003") {
                fs::remove_file(entry.path()).unwrap();
            }
        }
        // jobs of another input: names, shapes, dtypes, elements
        for other in ["digest/renamed.pt", "digest/reshaped.pt", "digest/exchanged.pt", "digest/one_bit.pt"] {
            for shard in ["1/3", "2/3", "3/3"] {
                run(other, "120", &["--shard", shard, "--force"]).exits(0);
            }
            refused(run(state, "120", index_only), "is not what this input and these options give");
        }
        for shard in ["1/3", "2/3", "3/3"] {
            run(state, "120", &["--shard", shard, "--force"]).exits(0);
        }
        // other options
        refused(run(state, "120", &["--index-only", "--dtype", "half"]), "");
        // cut off, too long, and a byte of the header
        let whole = fs::read(file(2)).unwrap();
        let mut longer = whole.clone();
        longer.push(0);
        let mut other = whole.clone();
        let at = whole.windows(6).position(|bytes| bytes == b"dtype\"" || bytes == b"_utils").unwrap();
        other[at] ^= 1;
        for bytes in [&whole[..whole.len() - 1], &longer, &other, b""] {
            fs::write(file(2), bytes).unwrap();
            refused(run(state, "120", index_only), "00002");
        }
        fs::write(file(2), &whole).unwrap();
        let done = run(state, "120", &["--index-only", "--json"]).exits(0);
        let files = done.json()["files"].clone();
        assert_eq!((files.as_array().unwrap().len(), &files[0]["file"]), (1, &index.clone().into()));
        run_with(ckpt().args(["diff", "-q", state, &out]), b"").exits(0);

        // an index makes a directory whole: it is neither replaced nor made untrue without being asked
        assert!(run(state, "120", index_only).exits(2).stderr.contains("exists already"));
        fs::remove_file(file(1)).unwrap();
        assert!(run(state, "120", &["--shard", "1/3"]).exits(2).stderr.contains("index.json: exists already"));
        assert!(std::path::Path::new(&index).exists() && !std::path::Path::new(&file(1)).exists());
        run(state, "120", &["--shard", "1/3", "--force"]).exits(0);
        assert!(
            !std::path::Path::new(&index).exists(),
            "another shard is there, and the index goes until all are looked at"
        );
        run(state, "120", index_only).exits(0);
        run(state, "120", &["--index-only", "--force"]).exits(0);
        run(state, "120", &["--shard", "8/8", "--force"]).exits(0);
        assert!(std::path::Path::new(&index).exists(), "who writes nothing makes nothing untrue");
        // values beside the weights go with the index
        let values = dir.path("values.json");
        run("digest/values.pt", "120", &["--index-only", "--force", "--save-values", &values]).exits(0);
        assert!(fs::read_to_string(&values).unwrap().contains("\"epoch\": 3"));
    }
}

#[test]
fn a_job_that_fails_leaves_nothing_half_written() {
    let dir = Dir::new();
    let (out, bad) = (dir.path("out"), dir.path("bad.pt"));
    let run = |words: &[&str]| run_with(ckpt().args(words), b"");
    run(&convert("digest/state.pt", &out, &["--to", "torch", "--shard", "1/3"])).exits(0);
    let before = contents(&out);
    // its storage is cut off
    let bytes = fs::read(testdata("digest/state.legacy.pth")).unwrap();
    fs::write(&bad, &bytes[..bytes.len() - 20]).unwrap();
    run(&convert(&bad, &out, &["--to", "torch", "--shard", "3/3"])).exits(2);
    assert_eq!(contents(&out), before);
    // what a kill left goes with the next run to the same shard, and no other's
    let [left, others] =
        ["2", "3"].map(|number| format!("{out}/.pytorch_model-0000{number}-of-00003.bin.ckpt-tmp-abcdef"));
    fs::write(&left, "half").unwrap();
    fs::write(&others, "half").unwrap();
    run(&convert("digest/state.pt", &out, &["--to", "torch", "--shard", "2/3"])).exits(0);
    assert_eq!(std::path::Path::new(&left).exists(), cfg!(not(unix)));
    assert!(std::path::Path::new(&others).exists());
}

/// As the README and `examples/` have it.
#[cfg(unix)]
#[test]
fn xargs_runs_jobs_in_parallel() {
    let dir = tree();
    let (one, many) = (dir.path("one"), dir.path("many"));
    run_with(ckpt().args(convert("digest/state.pt", &one, &["--to", "safetensors"])), b"").exits(0);
    let program = env!("CARGO_BIN_EXE_ckpt");
    let sh = |script: &str| {
        let mut command = std::process::Command::new("sh");
        command.args(["-euc", script]).current_dir(testdata("")).env("CKPT", program).env("OUT", &many);
        run_with(&mut command, b"")
    };
    sh("seq 8 | xargs -P 4 -I{} \"$CKPT\" convert --shard {}/8 --max-shard-size 120 digest/state.pt \"$OUT\" --to safetensors
        \"$CKPT\" convert --index-only --max-shard-size 120 digest/state.pt \"$OUT\" --to safetensors")
    .exits(0);
    assert!(contents(&one) == contents(&many));
    let tree = dir.path("m");
    let whole = here(&dir, &["digest", "-R", &tree]).exits(0);
    let mut wanted = whole.lines();
    wanted.sort_unstable();
    for script in [
        "seq 3 | xargs -P 3 -I{} sh -c '\"$CKPT\" digest -q -R --shard {}/3 \"$TREE\" > \"$TREE\"/../list.{}'; cat \"$TREE\"/../list.*",
        "find \"$TREE\" -type f \\( -name '*.p*' -o -name '*.safetensors' -o -name '*.npz' \\) -print0 | xargs -0 -P 3 -n 2 \"$CKPT\" digest -q",
    ] {
        let mut command = std::process::Command::new("sh");
        command.args(["-euc", script]).env("CKPT", program).env("TREE", &tree);
        let run = run_with(&mut command, b"").exits(0);
        let mut lines = run.lines();
        lines.sort_unstable();
        assert_eq!(lines, wanted, "{script}");
    }
}

/// A queue that runs the tasks of an array at the same time, last ones first, and what depends on them after them.
#[cfg(unix)]
const SBATCH: &str = r#"#!/bin/bash
set -eu
for word in "$@"; do
    case "$word" in
        --array=1-*) count=${word#--array=1-} ;;
        --dependency=afterok:*) [ "${word##*:}" = 4711 ] && after=1 ;;
    esac
done
if [ -n "${after:-}" ]; then
    exec bash -c "${@: -1}"
fi
shift 2
for task in $(seq "$count" -1 1); do
    SLURM_ARRAY_TASK_ID=$task SLURM_ARRAY_TASK_COUNT=$count bash "$@" >&2 &
    tasks="${tasks:-} $!"
done
for task in $tasks; do wait "$task"; done
echo 4711
"#;

#[cfg(unix)]
#[test]
fn an_array_of_slurm_writes_what_one_run_writes() {
    use std::os::unix::fs::PermissionsExt;
    let dir = Dir::new();
    let (one, many) = (dir.path("one"), dir.path("ma ny"));
    run_with(ckpt().args(convert("digest/state.pt", &one, &["--to", "torch"])), b"").exits(0);
    fs::create_dir(dir.path("bin")).unwrap();
    let sbatch = dir.path("bin/sbatch");
    fs::write(&sbatch, SBATCH).unwrap();
    fs::set_permissions(&sbatch, fs::Permissions::from_mode(0o755)).unwrap();
    let path = format!("{}:{}", dir.path("bin"), std::env::var("PATH").unwrap());
    let script = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/slurm_convert.sh");
    let mut command = std::process::Command::new("bash");
    command.arg(script).args(["digest/state.pt", &many, "--max-shard-size", "120", "--to", "torch"]);
    command.current_dir(testdata("")).env("PATH", path).env("CKPT", env!("CARGO_BIN_EXE_ckpt")).env("JOBS", "5");
    let run = run_with(&mut command, b"").exits(0);
    assert!(contents(&one) == contents(&many), "{}", run.stderr);
}
