//! Directories that shards are written to: what lies there already, and what an interruption leaves.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // helpers of tests are tests

use std::fs;
use std::path::Path;

use crate::driver::{Dir, Run, ckpt, run_with};

const STATE: &str = "digest/state.pt";

fn convert(input: &str, out: &str, more: &str) -> Run {
    run_with(ckpt().args(["convert", input, out, "--max-shard-size"]).args(more.split(' ')), b"")
}

fn refused(run: Run, why: &str) {
    let run = run.exits(2);
    assert!(run.stderr.contains(why), "{}", run.stderr);
}

fn names(dir: &str) -> Vec<String> {
    let mut names: Vec<String> =
        fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// What a run writes is what the directory is read as.
#[test]
fn what_would_be_read_instead_is_refused() {
    let dir = Dir::new();
    let out = dir.path("out");
    convert(STATE, &out, "120 --to safetensors").exits(0);
    let before = names(&out);
    for more in ["", " --force", " --shard 1/2", " --shard 1/2 --force"] {
        let run = convert("digest/reshaped.pt", &out, &format!("120 --to torch{more}"));
        refused(run, "holds model.safetensors.index.json, which would be read instead of the new shards");
    }
    assert_eq!(names(&out), before);
    // the other way round safetensors come first
    let out = dir.path("torch");
    convert(STATE, &out, "120 --to torch").exits(0);
    convert("digest/reshaped.pt", &out, "120 --to safetensors").exits(0);
    run_with(ckpt().args(["diff", "-q", "digest/reshaped.pt", &out]), b"").exits(0);
    let out = dir.path("one");
    fs::create_dir(&out).unwrap();
    run_with(ckpt().args(["convert", STATE, &format!("{out}/model.safetensors")]), b"").exits(0);
    refused(convert(STATE, &out, "120 --to safetensors --force"), "holds model.safetensors, which");
    let out = dir.path("several");
    fs::create_dir(&out).unwrap();
    fs::write(format!("{out}/another.bin.index.json"), "{}").unwrap();
    refused(convert(STATE, &out, "120 --to safetensors --force"), "holds another.bin.index.json, which");
    // shards that are renamed come with the index they had
    convert(STATE, &dir.path("bin"), "120 --to torch").exits(0);
    convert(STATE, &dir.path("safe"), "120 --to safetensors").exits(0);
    let rename = ["rename", &dir.path("bin"), "-o", &dir.path("safe"), "--add-prefix", "x.", "--force"];
    refused(run_with(ckpt().args(rename), b""), "holds model.safetensors.index.json, which");
}

#[test]
fn shards_of_an_older_cut_go() {
    for to in ["safetensors", "torch"] {
        let dir = Dir::new();
        let (out, other) = (dir.path("out"), dir.path("other"));
        convert(STATE, &out, &format!("40 --to {to}")).exits(0);
        convert(STATE, &other, &format!("120 --to {to}")).exits(0);
        assert!(names(&out).len() > names(&other).len());
        fs::write(format!("{out}/notes-00001-of-00002.txt"), "not ours").unwrap();
        let again = format!("120 --to {to}");
        refused(convert(STATE, &out, &again), "of another number: ");
        let done = convert(STATE, &out, &format!("{again} --force")).exits(0);
        assert!(done.stderr.contains("removed, as the new index does not name them: "), "{}", done.stderr);
        fs::remove_file(format!("{out}/notes-00001-of-00002.txt")).unwrap();
        assert_eq!(names(&out), names(&other));
        // renamed shards too
        convert(STATE, &dir.path("third"), &format!("40 --to {to}")).exits(0);
        let rename = ["rename", &other, "-o", &dir.path("third"), "--add-prefix", "x."];
        refused(run_with(ckpt().args(rename), b""), "of another number: ");
        run_with(ckpt().args(rename).arg("--force"), b"").exits(0);
        assert_eq!(names(&dir.path("third")), names(&other));
        // a shard that is the input is left alone
        convert(STATE, &dir.path("fourth"), &format!("40 --to {to}")).exits(0);
        let shard = names(&dir.path("fourth")).into_iter().find(|name| name.contains("00001-of")).unwrap();
        let shard = format!("{}/{shard}", dir.path("fourth"));
        refused(convert(&shard, &dir.path("fourth"), &format!("20 --to {to} --force")), "is called like a shard");
        assert!(Path::new(&shard).exists());
    }
}

/// Other jobs read the input while one writes its shards.
#[test]
fn jobs_do_not_replace_their_input() {
    for (to, index) in [("safetensors", "model.safetensors.index.json"), ("torch", "pytorch_model.bin.index.json")] {
        let dir = Dir::new();
        let out = dir.path("out");
        convert(STATE, &out, &format!("120 --to {to}")).exits(0);
        let before: Vec<Vec<u8>> = names(&out).iter().map(|name| fs::read(format!("{out}/{name}")).unwrap()).collect();
        for input in [out.clone(), format!("{out}/."), format!("{out}/{index}")] {
            for more in ["", " --force"] {
                let run = convert(&input, &out, &format!("60 --dtype half --to {to} --shard 1/2{more}"));
                refused(run, "is the input, which every job with --shard reads");
            }
        }
        let after: Vec<Vec<u8>> = names(&out).iter().map(|name| fs::read(format!("{out}/{name}")).unwrap()).collect();
        assert!(before == after);
        // one run alone replaces its input
        convert(&out, &out, &format!("60 --to {to} --force")).exits(0);
        run_with(ckpt().args(["diff", "-q", STATE, &out]), b"").exits(0);
    }
}

#[test]
fn standard_output_is_no_directory() {
    let dir = Dir::new();
    for more in ["", " --shard 1/2", " --index-only", " --force"] {
        let mut command = ckpt();
        command.current_dir(dir.path("")).args(["convert", "--to", "safetensors", "--max-shard-size"]);
        let state = crate::driver::testdata(STATE);
        let run = run_with(command.args(format!("120{more}").split(' ')).arg(state).arg("-"), b"");
        refused(run, "cannot write several files to standard output");
        assert!(dir.is_empty());
    }
}
