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
