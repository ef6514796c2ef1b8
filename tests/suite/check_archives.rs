//! `ckpt check` on archives: what stands beside the checkpoints in them, and what hides between their members.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // helpers of tests are tests

use std::fs;
use std::io::Write as _;

use base64::Engine as _;

use crate::driver::{Dir, Run, run, testdata, zip_of};

/// `posix.system("echo hi")`, protocol 2.
const SYSTEM: &[u8] = b"\x80\x02cposix\nsystem\nX\x07\x00\x00\x00echo hi\x85R.";

fn weights() -> Vec<u8> {
    fs::read(testdata("directory_flips/two.pt")).unwrap()
}

fn stored(members: &[(&str, &[u8])]) -> Vec<u8> {
    zip_of(members, zip::CompressionMethod::Stored)
}

/// A tar of members of these kinds.
fn tar_of(members: &[(u8, &str, &[u8])]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (kind, name, bytes) in members {
        let mut header = tar::Header::new_gnu();
        header.set_path(name).unwrap();
        header.set_entry_type(tar::EntryType::new(*kind));
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        header.set_cksum();
        builder.append(&header, *bytes).unwrap();
    }
    builder.into_inner().unwrap()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut writer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    writer.write_all(bytes).unwrap();
    writer.finish().unwrap()
}

fn told(command: &str, name: &str, bytes: &[u8]) -> Run {
    let dir = Dir::new();
    fs::write(dir.path(name), bytes).unwrap();
    run(&format!("{command} {}", dir.path(name)))
}

fn check(name: &str, bytes: &[u8], status: i32, words: &[&str]) {
    let told = told("check", name, bytes);
    let text = format!("{}{}", String::from_utf8_lossy(&told.stdout), told.stderr);
    assert_eq!(told.status, status, "{name}: {text}");
    words.iter().for_each(|word| assert!(text.contains(word), "{name}: {word}: {text}"));
}

#[test]
fn pickles_in_the_json_of_stable_baselines3_are_read() {
    let data = |key: &str, pickle: &[u8]| {
        let encoded = base64::engine::general_purpose::STANDARD.encode(pickle);
        format!("{{\"policy_class\": {{\":type:\": \"x\", \"{key}\": \"{encoded}\"}}, \"n\": NaN}}")
    };
    let archive = |text: &str| stored(&[("data", text.as_bytes()), ("policy.pth", &weights())]);
    for key in [":serialized:", "\\u003aserialized:"] {
        let text = data(key, SYSTEM).replace("NaN", "1");
        check("sb3.zip", &archive(&text), 1, &["posix.system('echo hi')", "policy_class"]);
        check("sb3.tar.gz", &gzip(&tar_of(&[(b'0', "data", text.as_bytes())])), 1, &["posix.system('echo hi')"]);
        check("data", text.as_bytes(), 1, &["posix.system('echo hi')"]);
    }
    check("sb3.zip", &archive(&data(":serialized:", SYSTEM)), 1, &["posix.system('echo hi')"]);
    check("sb3.zip", &archive(&data(":serialized:", b"\x80\x05}.")), 0, &[]);
    check("sb3.zip", &archive("{\"a\": {\":serialized:\": \"A\"}}"), 1, &["base64"]);
    check("sb3.zip", &archive("{\"learning_rate\": 0.1}"), 0, &[]);
}

#[test]
fn tar_members_of_every_kind_are_read_or_named() {
    let weights = weights();
    for kind in *b"0\x007AZDM" {
        check("a.tar", &tar_of(&[(b'0', "m.pth", &weights), (kind, "e.pkl", SYSTEM)]), 1, &["e.pkl", "posix.system"]);
    }
    let sparse = tar_of(&[(b'0', "m.pth", &weights), (b'S', "e.pkl", SYSTEM)]);
    check("sparse.tar", &sparse, 2, &["e.pkl", "sparse"]);
    check("outer.tar.gz", &gzip(&tar_of(&[(b'0', "m.pth", &weights), (b'0', "in.tar", &sparse)])), 2, &["e.pkl"]);
    for bytes in [&sparse, &tar_of(&[(b'S', "e.pkl", SYSTEM)])] {
        let listed = told("ls", "sparse.tar", bytes);
        let text = format!("{}{}", listed.text(), listed.stderr);
        assert!(listed.status == 2 && text.contains("e.pkl") && text.contains("sparse"), "{} {text}", listed.status);
    }
}

#[test]
fn code_beside_a_checkpoint_is_told() {
    let weights = weights();
    for (name, bytes, status, word) in [
        ("lib/op.so", &b"\x7fELF"[..], 1, "danger"),
        ("lib/op.bin", b"\x7fELF\x02\x01", 1, "danger"),
        ("code/inference.py", b"import os", 1, "warning"),
        ("m.pyc", b"\x00\x00", 1, "warning"),
        ("README.md", b"# text", 0, "ok"),
        ("h.yaml", b"x: !!python/object/apply:os.system [id]\n", 1, "danger"),
        ("h.yaml", b"x: !<tag:yaml.org,2002:python/object/apply:os.system> [id]\n", 1, "danger"),
        ("h.yaml", b"x: !!python/object:my.Class {}\n", 1, "warning"),
        ("h.yaml", b"x: !!python/tuple [1]\ny: !new:speechbrain.nnet.linear.Linear\n", 0, "ok"),
        ("h.yaml", b"x: !apply:os.system [id]\n", 1, "danger"),
        ("model_config.yaml", b"tokenizer:\n  _target_: os.system\n", 1, "danger"),
        ("model_config.json", b"{\"_target_\": \"os.system\"}", 1, "danger"),
        ("model_config.yaml", b"tokenizer:\n  _target_: nemo.core.Tokenizer\n", 0, "ok"),
    ] {
        check("a.zip", &stored(&[("m.pth", &weights), (name, bytes)]), status, &[word]);
        let tar = tar_of(&[(b'0', "m.pth", &weights), (b'0', name, bytes)]);
        check("a.tar.gz", &gzip(&tar), status, &[word]);
    }
}

#[test]
fn what_is_appended_to_an_archive_or_twice_in_it_is_told() {
    let weights = weights();
    let zip = stored(&[("m.pth", &weights)]);
    let tar = tar_of(&[(b'0', "m.pth", &weights)]);
    check("a.zip", &[&zip[..], b"garbage"].concat(), 1, &["trailing-data", "7 bytes"]);
    check("a.tar", &[&tar[..], b"garbage"].concat(), 1, &["trailing-data", "7 bytes"]);
    check("a.tar.gz", &gzip(&[&tar[..], b"garbage"].concat()), 1, &["trailing-data"]);
    check("a.tar", &[&tar[..], &tar_of(&[(b'0', "e.pkl", SYSTEM)])].concat(), 1, &["trailing-data", "posix.system"]);
    check("a.tar", &[&tar[..], &[0; 4096]].concat(), 0, &[]);
    check("a.tar", &tar_of(&[(b'0', "m.pth", &weights), (b'0', "m.pth", &weights)]), 1, &["member-duplicate"]);
}

#[test]
fn what_no_command_opens_is_no_checkpoint_for_check() {
    let weights = weights();
    for (name, bytes) in [
        ("lead.zip", [b"#!/bin/sh\nexit\n", &stored(&[("m.pth", &weights)])[..]].concat()),
        ("head.pt", [b"some text before\n", &weights[..]].concat()),
    ] {
        let [listed, checked] = ["ls", "check"].map(|command| told(command, name, &bytes));
        assert_eq!((listed.status, checked.status), (2, 2), "{name}: {} {}", listed.stderr, checked.text());
        assert!(checked.stderr.contains("not a checkpoint"), "{}", checked.stderr);
    }
    // what runs something is told, whatever it hides in
    check("lead.zip", &[b"#!/bin/sh\nexit\n", &stored(&[("e.pkl", SYSTEM)])[..]].concat(), 1, &["posix.system"]);
}

#[test]
fn compressions_that_are_not_expanded_are_named() {
    let mut bytes = stored(&[("m.pth", &weights())]);
    // the method, in the local header and in the directory
    let directory = memchr::memmem::rfind(&bytes, b"PK\x01\x02").unwrap();
    for (method, name) in [(12, "bzip2"), (14, "LZMA")] {
        (bytes[8], bytes[directory + 10]) = (method, method);
        let listed = told("ls", "a.zip", &bytes).exits(2);
        assert!(listed.stderr.contains("m.pth") && listed.stderr.contains(name), "{}", listed.stderr);
    }
}
