//! `ckpt check` of directories: files that lie beside the checkpoint, and files of other steps.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // helpers of tests are tests

use std::fs;
use std::path::Path;

use crate::driver::{Dir, Run, run, testdata};

const SYSTEM: &[u8] = b"\x80\x02cposix\nsystem\nX\x07\x00\x00\x00echo hi\x85R.";

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
        match entry.path().is_dir() {
            true => copy(&entry.path(), &to.join(entry.file_name())),
            false => fs::write(to.join(entry.file_name()), fs::read(entry.path()).unwrap()).unwrap(),
        }
    }
}

fn all(run: &Run) -> String {
    format!("{}{}", String::from_utf8_lossy(&run.stdout), run.stderr)
}

#[test]
fn pickles_beside_a_checkpoint_are_looked_at() {
    for (kind, name) in [
        ("ranks/fsdp2", "extra.pt"),
        ("ranks/fsdp2", "optimizer_state.pt"),
        ("ranks/fsdp2", "sub/x.pt"),
        ("ranks/megatron_tp", "x.pt"),
        ("ranks/megatron_tp", "iter_0000100/mp_rank_00/x.pt"),
        ("deepspeed/zero2_bf16", "x.pt"),
        ("deepspeed/zero2_bf16", "global_step3/x.pt"),
        ("layouts/sharded_tied", "rng_state.pth"),
        ("layouts/dcp_mesh", "x.pt"),
    ] {
        let dir = Dir::new();
        let at = dir.path("c");
        copy(&testdata(kind), Path::new(&at));
        let before = run(&format!("check {at} --fail-on danger"));
        assert_eq!(before.status, 0, "{kind}: {}", all(&before));
        fs::create_dir_all(Path::new(&at).join(name).parent().unwrap()).unwrap();
        fs::write(Path::new(&at).join(name), SYSTEM).unwrap();
        let told = run(&format!("check {at}"));
        let file = name.rsplit('/').next().unwrap();
        assert!(told.status == 1 && all(&told).contains(file), "{kind} {name}: {}", all(&told));
        assert!(all(&told).contains("posix.system('echo hi')"), "{kind} {name}: {}", all(&told));
        // and once
        let told = run(&format!("check --json {at}")).json();
        let findings = told["findings"].as_array().unwrap();
        let dangers = findings.iter().filter(|finding| finding["code"] == "global-dangerous").count();
        assert_eq!(dangers, 1, "{kind} {name}: {told}");
    }
}

#[test]
fn pickles_beside_the_only_file_with_weights_are_looked_at() {
    let dir = Dir::new();
    let at = dir.path("hf");
    fs::create_dir(&at).unwrap();
    let weights = testdata("torch-2.15-py311/cnn_state.pt");
    run(&format!("convert {} {at}/model.safetensors", weights.display())).exits(0);
    fs::write(Path::new(&at).join("config.json"), "{}").unwrap();
    run(&format!("check {at}")).exits(0);
    fs::write(Path::new(&at).join("training_args.bin"), SYSTEM).unwrap();
    let told = run(&format!("check {at}")).exits(1);
    assert!(told.text().contains("training_args.bin"), "{}", told.text());
}

#[test]
fn the_file_of_one_rank_says_that_it_is_one() {
    for (file, says) in [
        ("ranks/fsdp2/model_world_size_4_rank_1.pt", true),
        ("ranks/fsdp1_sharded/RANK1", true),
        ("torch-2.15-py311/cnn_state.pt", false),
    ] {
        let path = match file.strip_suffix("RANK1") {
            Some(dir) => {
                let names = fs::read_dir(testdata(dir)).unwrap().map(|entry| entry.unwrap().path());
                names.into_iter().find(|path| path.to_str().unwrap().contains("rank_1")).unwrap()
            }
            None => testdata(file),
        };
        // a ShardedTensor is no tensor for digest
        for command in if file.contains("sharded") { &["ls"][..] } else { &["ls", "digest"] } {
            let told = run(&format!("{command} {}", path.display())).exits(0);
            assert_eq!(all(&told).contains("not the whole tensors"), says, "{command} {file}: {}", all(&told));
        }
    }
}

#[test]
fn meshes_of_more_ranks_than_there_are_files_are_told() {
    let dir = Dir::new();
    let at = dir.path("c");
    fs::create_dir(&at).unwrap();
    // one of two groups of replicas has every element
    for rank in 0..2 {
        let file = testdata(&format!("ranks/hsdp/model_world_size_4_rank_{rank}.pt"));
        fs::copy(file, Path::new(&at).join(format!("model_rank_{rank}.pt"))).unwrap();
    }
    let told = run(&format!("check {at}"));
    assert!(told.status == 1 && all(&told).contains("rank-missing"), "{}", all(&told));
    assert!(run(&format!("ls {at}")).exits(0).stderr.contains("of 4 ranks"));
}

#[test]
fn ranks_of_two_steps_are_refused() {
    let dir = Dir::new();
    let at = dir.path("c");
    copy(&testdata("ranks/fsdp2"), Path::new(&at));
    let names = || fs::read_dir(&at).unwrap().map(|entry| entry.unwrap().path().display().to_string());
    let models: Vec<String> = names().filter(|name| name.contains("model_world")).collect();
    for (number, file) in models.iter().enumerate() {
        run(&format!("edit {file} --in-place --set step={}", u8::from(number == 1))).exits(0);
    }
    let refused = run(&format!("ls {at}")).exits(2);
    assert!(refused.stderr.contains("of step "), "{}", refused.stderr);
    let told = run(&format!("check {at}")).exits(1);
    assert!(told.text().contains("of step "), "{}", told.text());
    for file in &models {
        run(&format!("edit {file} --in-place --set step=1")).exits(0);
    }
    run(&format!("check {at}")).exits(0);
}

#[test]
fn optimizers_of_another_step_than_the_module_are_told() {
    for kind in ["zero2_bf16", "zero3_bf16", "zero1_fp32"] {
        let dir = Dir::new();
        let at = dir.path("c");
        copy(&testdata(&format!("deepspeed/{kind}")), Path::new(&at));
        assert!(!run(&format!("ls {at}")).exits(0).stderr.contains("two checkpoints"), "{kind}");
        let tag = fs::read_to_string(Path::new(&at).join("latest")).unwrap();
        let files = Path::new(&at).join(tag.trim());
        for file in fs::read_dir(&files).unwrap().map(|entry| entry.unwrap().path()) {
            if file.to_str().unwrap().ends_with("model_states.pt") {
                run(&format!("edit {} --in-place --set global_steps=77", file.display())).exits(0);
            }
        }
        let told = run(&format!("check {at}"));
        assert!(told.status == 1 && all(&told).contains("step 77"), "{kind}: {}", all(&told));
        let listed = run(&format!("ls {at}")).exits(0);
        assert!(listed.stderr.contains("step 77") || listed.text().contains("step 77"), "{kind}: {}", all(&listed));
        let digest = run(&format!("digest {at}")).exits(0);
        assert!(digest.stderr.contains("step 77"), "{kind}: {}", digest.stderr);
    }
}
