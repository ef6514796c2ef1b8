//! Inputs behind URLs, read from real servers on loopback: one in this binary ([`server`]), and with `cargo xtask remote`
//! nginx and an S3 server as well ([`others`]).
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // helpers of tests are tests

mod others;
mod server;

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use server::{Behaviour, Server};

use crate::driver::{Dir, Run, ckpt, run_with, testdata};

const FILE: &str = "torch-2.15-py311/checkpoint.tar";

/// The program without anything of this machine that says how to reach servers.
fn program() -> Command {
    let mut command = ckpt();
    for (name, _) in std::env::vars() {
        let upper = name.to_uppercase();
        if ["AWS_", "GOOGLE_", "AZURE_", "HF_", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"]
            .iter()
            .any(|start| upper.starts_with(start))
        {
            command.env_remove(name);
        }
    }
    command.env("NO_PROXY", "*").env("HOME", "/nonexistent");
    command
}

fn run(args: &[&str]) -> Run {
    run_with(program().args(args), b"")
}

/// A server of the files of testdata.
fn of_testdata(behaviour: Behaviour) -> Server {
    Server::start(&testdata(""), behaviour)
}

/// The same report but for the name of the file.
#[track_caller]
fn same(args: &[&str], url: &str, file: &str) {
    let there = run(&[args, &[url]].concat());
    let here = run(&[args, &[file]].concat());
    assert_eq!(there.stderr.replace(url, file), here.stderr, "{args:?}");
    assert_eq!(there.text().replace(url, file), here.text(), "{args:?}");
    assert_eq!(there.status, here.status, "{args:?}");
}

#[test]
fn every_command_reads_a_url() {
    let server = of_testdata(Behaviour::default());
    let (url, file, dir) = (server.url(FILE), testdata(FILE), Dir::new());
    let file = file.to_str().unwrap();
    for args in [
        &["ls"][..],
        &["ls", "--json", "--hash"],
        &["ls", "--tree"],
        &["check"],
        &["check", "--json"],
        &["digest"],
        &["diff", file],
        &["extract", "epoch"],
    ] {
        same(args, &url, file);
    }
    let outputs =
        [("a.safetensors", &["convert"][..]), ("b.pt", &["convert", "--state-dict"]), ("c.npz", &["convert"])];
    for (name, args) in outputs {
        let (there, here) = (dir.path(&format!("there-{name}")), dir.path(&format!("here-{name}")));
        run(&[args, &[&url, "-o", &there]].concat()).exits(0);
        run(&[args, &[file, "-o", &here]].concat()).exits(0);
        assert_eq!(fs::read(there).unwrap(), fs::read(here).unwrap(), "{name}");
    }
    let renamed = ["--regex", "s/^features/body/", "-o"];
    run(&[&["rename", &url][..], &renamed, &[&dir.path("r1.pt")]].concat()).exits(0);
    run(&[&["rename", file][..], &renamed, &[&dir.path("r2.pt")]].concat()).exits(0);
    assert_eq!(fs::read(dir.path("r1.pt")).unwrap(), fs::read(dir.path("r2.pt")).unwrap());
    run(&["edit", &url, "--set", "epoch=0", "-o", &dir.path("e.pt")]).exits(0);
    run(&["merge", &format!("a={url}"), &format!("b={file}"), "-o", &dir.path("m.pt")]).exits(0);
    run(&["average", &url, file, "-o", &dir.path("v.pt")]).exits(0);
}

#[test]
fn members_of_archives_and_lists() {
    let server = of_testdata(Behaviour::default());
    let dir = Dir::new();
    fs::copy(testdata(FILE), dir.path("inner.pt")).unwrap();
    let made = Command::new("tar").args(["-cf", &dir.path("a.tar"), "-C", &dir.path(""), "inner.pt"]).status();
    assert!(made.unwrap().success());
    let archives = Server::start(Path::new(&dir.path("")), Behaviour::default());
    same(
        &["ls", "--names"],
        &format!("{}::inner.pt", archives.url("a.tar")),
        &format!("{}::inner.pt", dir.path("a.tar")),
    );
    fs::write(dir.path("list"), format!("{}\n", server.url(FILE))).unwrap();
    let listed = run(&["ls", "--names", "--files-from", &dir.path("list")]).exits(0);
    assert!(listed.text().contains("model_state_dict.steps"), "{}", listed.text());
}

/// What the server is asked for: not more than the issue of reading remotely allows.
#[test]
fn few_requests_and_few_bytes() {
    let dir = Dir::new();
    let header: String = (0..3)
        .map(|n| {
            format!(
                "\"layer.{n}.weight\":{{\"dtype\":\"F32\",\"shape\":[2500,1000],\"data_offsets\":[{},{}]}},",
                n * 10_000_000,
                (n + 1) * 10_000_000
            )
        })
        .collect();
    safetensors(&dir.path("three.safetensors"), &format!("{{{}}}", header.trim_end_matches(',')), 30_000_000);
    run(&["convert", &dir.path("three.safetensors"), "-o", &dir.path("three.pt")]).exits(0);
    let many: String = (0..100_000)
        .map(|n| {
            format!(
                "\"model.layers.{n}.weight\":{{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[{},{}]}},",
                n * 4,
                n * 4 + 4
            )
        })
        .collect();
    safetensors(&dir.path("many.safetensors"), &format!("{{{}}}", many.trim_end_matches(',')), 400_000);
    let server = Server::start(Path::new(&dir.path("")), Behaviour::default());
    let count = |args: &[&str], name: &str| {
        let url = server.url(name);
        let args: Vec<&str> = args.iter().map(|arg| if *arg == "URL" { url.as_str() } else { *arg }).collect();
        run(&args).exits(0);
        let requests = server.requests();
        let ranges: Vec<_> = requests.iter().filter_map(|request| request.range.clone()).collect();
        (requests.len(), requests.iter().map(|request| request.sent).sum::<u64>(), ranges)
    };
    let (requests, bytes, log) = count(&["ls", "URL"], "three.pt");
    assert!(requests <= 4 && bytes <= 68 << 10, "{requests} requests, {bytes} bytes: {log:?}");
    let (requests, _, log) = count(&["ls", "--names", "URL"], "many.safetensors");
    assert!(requests <= 2, "{requests}: {log:?}");
    let (requests, bytes, log) = count(&["check", "--no-data", "URL"], "three.pt");
    assert!(requests <= 6 && bytes <= 200 << 10, "{requests} requests, {bytes} bytes: {log:?}");
    let out = dir.path("one.npy");
    let (requests, bytes, log) = count(&["extract", "URL", "layer.1.weight", "-o", &out], "three.pt");
    assert!(requests <= 6 && bytes <= 11_000_000, "{requests} requests, {bytes} bytes: {log:?}");
    let (requests, bytes, log) = count(&["ls", "--hash", "URL"], "three.pt");
    assert!(requests <= 16 && bytes <= 30_200_000, "{requests} requests, {bytes} bytes: {log:?}");
}

fn safetensors(path: &str, header: &str, data: usize) {
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend_from_slice(header.as_bytes());
    bytes.resize(bytes.len() + data, 1);
    fs::write(path, bytes).unwrap();
}

/// Every byte at which a connection may break, the first time.
#[test]
fn connections_that_break() {
    let file = testdata(FILE);
    let whole = run(&["ls", "--json", "--hash", file.to_str().unwrap()]).exits(0);
    let len = fs::metadata(&file).unwrap().len();
    for at in (0..len).step_by(usize::try_from(len / 40).unwrap()) {
        let server = of_testdata(Behaviour { cut: Some((at, 1)), ..Behaviour::default() });
        let read = run(&["ls", "--json", "--hash", &server.url(FILE)]).exits(0);
        assert_eq!(read.text().replace(&server.url(FILE), file.to_str().unwrap()), whole.text(), "cut at {at}");
    }
    let server = of_testdata(Behaviour { cut: Some((0, usize::MAX)), ..Behaviour::default() });
    let failed = run(&["ls", &server.url(FILE)]).exits(2);
    assert!(failed.stderr.contains("the connection broke"), "{}", failed.stderr);
}

#[test]
fn servers_that_are_busy() {
    for each in 2..5 {
        let server = of_testdata(Behaviour { busy_each: Some(each), ..Behaviour::default() });
        same(&["check", "--json"], &server.url(FILE), testdata(FILE).to_str().unwrap());
    }
    let server = of_testdata(Behaviour { busy_each: Some(1), ..Behaviour::default() });
    let failed = run(&["ls", &server.url(FILE)]).exits(2);
    assert!(failed.stderr.contains("the server has trouble (HTTP 503)"), "{}", failed.stderr);
}

#[test]
fn a_file_that_changes() {
    let dir = Dir::new();
    let data = vec![7_u8; 3_000_000];
    let header = "{\"a\":{\"dtype\":\"U8\",\"shape\":[3000000],\"data_offsets\":[0,3000000]}}";
    safetensors(&dir.path("x.safetensors"), header, data.len());
    let server = Server::start(Path::new(&dir.path("")), Behaviour { changes_after: Some(1), ..Behaviour::default() });
    let output = dir.path("out.pt");
    let failed = run(&["convert", &server.url("x.safetensors"), "-o", &output]).exits(2);
    assert!(failed.stderr.contains("the file changed while it was read"), "{}", failed.stderr);
    assert!(!Path::new(&output).exists());
}

#[test]
fn what_servers_refuse() {
    let said = |behaviour: Behaviour, url: &dyn Fn(&Server) -> String| {
        let server = of_testdata(behaviour);
        run(&["ls", &url(&server)]).exits(2).stderr
    };
    let file = |server: &Server| server.url(FILE);
    let status = |status: u16| Behaviour { status: Some(status), ..Behaviour::default() };
    for (behaviour, why) in [
        (status(401), "access denied (HTTP 401)"),
        (status(403), "access denied (HTTP 403)"),
        (status(404), "there is no such file (HTTP 404)"),
        (status(410), "there is no such file (HTTP 410)"),
        (status(418), "the server refuses (HTTP 418)"),
        (status(500), "the server has trouble (HTTP 500)"),
        (status(204), "not understood (HTTP 204)"),
        (Behaviour { gzip: true, ..Behaviour::default() }, "compressed (gzip)"),
        (Behaviour { wrong_part: true, ..Behaviour::default() }, "where 0 to 32768 were asked for"),
    ] {
        let said = said(behaviour, &file);
        assert!(said.contains(why) && !said.contains("secret") && said.lines().count() == 1, "{why}: {said}");
    }
    assert!(said(Behaviour::default(), &|server| server.url("nope.pt")).contains("nope.pt: there is no such file"));
    assert!(run(&["ls", "http://127.0.0.1:9/x.pt"]).exits(2).stderr.contains("cannot connect"));
    assert!(run(&["ls", "ftp://host/x.pt"]).exits(2).stderr.contains("cannot read from ftp://"));
}

/// A server without ranges is read whole, as standard input is.
#[test]
fn servers_without_ranges() {
    let server = of_testdata(Behaviour { whole: true, ..Behaviour::default() });
    same(&["ls", "--hash"], &server.url(FILE), testdata(FILE).to_str().unwrap());
    let refused = run(&["ls", "--max-transfer", "40KB", &server.url(FILE)]);
    assert_eq!(refused.status, 0, "{}", refused.stderr);
    let refused = run(&["ls", "--max-transfer", "10KB", &server.url(FILE)]).exits(2);
    assert!(refused.stderr.contains("--max-transfer allows more"), "{}", refused.stderr);
}

#[test]
fn no_more_than_may_be_transferred() {
    let server = of_testdata(Behaviour::default());
    let refused = run(&["ls", "--max-transfer", "10KB", &server.url(FILE)]).exits(2);
    assert!(
        refused.stderr.contains("10000 bytes that may be transferred (byte 10000); --max-transfer allows more"),
        "{}",
        refused.stderr
    );
    run(&["ls", "--max-transfer", "1MB", &server.url(FILE)]).exits(0);
}

/// Signed addresses end: the first is asked again, and nobody sees them.
#[test]
fn redirects_to_signed_addresses() {
    for times in 1..4 {
        let server = of_testdata(Behaviour { signed_for: Some(times), ..Behaviour::default() });
        same(&["ls", "--hash"], &server.url(FILE), testdata(FILE).to_str().unwrap());
    }
    let server = of_testdata(Behaviour { signed_for: Some(0), ..Behaviour::default() });
    let failed = run(&["ls", "--json", &server.url(FILE)]).exits(2);
    assert!(failed.stderr.contains("access denied (HTTP 403)"), "{}", failed.stderr);
    assert!(!failed.stderr.contains("signature=") && !failed.text().contains("signature="));
}

#[test]
fn secrets_stay_with_who_gave_them() {
    let server = of_testdata(Behaviour::default());
    let url = server.url(FILE).replace("http://", "http://me:geheim@") + "?X-Amz-Signature=geheim";
    for args in [&["ls"][..], &["ls", "--json"], &["check"], &["ls", "--nonsense"], &["extract", "nope"]] {
        let run = run(&[args, &[&url]].concat());
        assert!(
            !run.text().contains("geheim") && !run.stderr.contains("geheim"),
            "{args:?}: {}{}",
            run.text(),
            run.stderr
        );
    }
    let asked = server.requests();
    assert!(asked.iter().all(|request| request.authorization.as_deref() == Some("Basic bWU6Z2VoZWlt")), "{asked:?}");
    // two versions of one file are two files
    let (one, two) = (server.url(FILE) + "?v=1", server.url(FILE) + "?v=2");
    assert!(run(&["diff", "--json", &one, &two]).exits(0).text().contains("checkpoint.tar#2"));
}

#[test]
fn tokens_go_to_the_hub_only() {
    let dir = Dir::new();
    let place = Path::new(&dir.path("o/r/resolve/main/sub")).to_owned();
    fs::create_dir_all(&place).unwrap();
    fs::copy(testdata(FILE), place.join("c.pt")).unwrap();
    let server =
        Server::start(Path::new(&dir.path("")), Behaviour { token: Some("hf_geheim"), ..Behaviour::default() });
    let hub = |token: Option<&str>, address: &str| {
        let mut command = program();
        command.args(["ls", "--names", address]).env("HF_ENDPOINT", server.endpoint());
        token.map(|token| command.env("HF_TOKEN", token));
        run_with(&mut command, b"")
    };
    hub(Some("hf_geheim"), "hf://o/r/sub/c.pt").exits(0);
    let denied = hub(None, "hf://o/r/sub/c.pt").exits(2);
    assert!(denied.stderr.contains("HF_TOKEN"), "{}", denied.stderr);
    assert!(hub(Some("hf_geheim"), "hf://o").exits(2).stderr.contains("hf://owner/repo/path"));
    server.requests();
    run(&["ls", &server.url("o/r/resolve/main/sub/c.pt")]).exits(2);
    assert!(server.requests().iter().all(|request| request.authorization.is_none()));
}

/// The same program, told to find buckets at the server.
fn with_buckets(server: &Server, args: &[&str]) -> Run {
    let mut command = program();
    command.args(args).env("AWS_ENDPOINT_URL", server.endpoint());
    run_with(command.env("AWS_ACCESS_KEY_ID", "key").env("AWS_SECRET_ACCESS_KEY", "geheim"), b"")
}

#[test]
fn objects_in_buckets() {
    let server = of_testdata(Behaviour { bucket: true, ..Behaviour::default() });
    let file = testdata(FILE);
    let here = run(&["ls", "--hash", file.to_str().unwrap()]).exits(0);
    let url = format!("s3://bucket/{FILE}");
    let there = with_buckets(&server, &["ls", "--hash", &url]).exits(0);
    assert_eq!(there.text().replace(&url, file.to_str().unwrap()), here.text());
    let missing = with_buckets(&server, &["ls", "s3://bucket/nope.pt"]).exits(2);
    assert!(missing.stderr.contains("s3://bucket/nope.pt: there is no such object"), "{}", missing.stderr);
    let listed = with_buckets(&server, &["ls", "-R", "s3://bucket/torch-2.15-py311/"]);
    assert!(
        listed.text().contains("s3://bucket/torch-2.15-py311/checkpoint.tar"),
        "{}{}",
        listed.text(),
        listed.stderr
    );
}

/// A thousand shards below a prefix: one request each, not more than 32 at a time.
#[test]
fn shards_below_a_prefix() {
    let dir = Dir::new();
    fs::create_dir(dir.path("m")).unwrap();
    let count = 200;
    let name = |n: usize| format!("model-{:05}-of-{count:05}.safetensors", n + 1);
    let mut map = String::new();
    for n in 0..count {
        let header = format!("{{\"w{n}\":{{\"dtype\":\"U8\",\"shape\":[8],\"data_offsets\":[0,8]}}}}");
        safetensors(&dir.path(&format!("m/{}", name(n))), &header, 8);
        map.push_str(&format!("\"w{n}\":\"{}\",", name(n)));
    }
    let index = format!("{{\"metadata\":{{}},\"weight_map\":{{{}}}}}", map.trim_end_matches(','));
    fs::write(dir.path("m/model.safetensors.index.json"), index).unwrap();
    let behaviour = Behaviour { bucket: true, delay: Duration::from_millis(20), ..Behaviour::default() };
    let server = Server::start(Path::new(&dir.path("")), behaviour);
    let begun = Instant::now();
    let here = run(&["ls", "--names", &dir.path("m")]).exits(0);
    let there = with_buckets(&server, &["ls", "--names", "s3://bucket/m"]).exits(0);
    assert_eq!(there.text(), here.text());
    let asked = server.requests();
    assert!(
        asked.len() <= count + 4,
        "{}: {:?}",
        asked.len(),
        asked.iter().map(|r| &r.path).take(10).collect::<Vec<_>>()
    );
    assert!((16..=32).contains(&server.most()), "{} at a time", server.most());
    assert!(begun.elapsed() < Duration::from_secs(20));
    // and beside an index on a server of files
    let plain = Server::start(Path::new(&dir.path("")), Behaviour::default());
    let there = run(&["ls", "--names", &plain.url("m/model.safetensors.index.json")]).exits(0);
    assert_eq!(there.text(), here.text());
}

#[test]
fn nothing_is_written_behind_a_url() {
    let server = of_testdata(Behaviour::default());
    let (url, file) = (server.url(FILE), testdata(FILE));
    let file = file.to_str().unwrap();
    for args in [
        &["convert", file, "-o", "s3://bucket/x.pt"][..],
        &["convert", file, "https://host/x.pt"],
        &["strip-prefix", "features.", &url, "--in-place"],
        &["edit", &url, "--set", "epoch=0", "--in-place"],
    ] {
        let refused = run(args).exits(2);
        assert!(refused.stderr.contains("is an address"), "{args:?}: {}", refused.stderr);
    }
}
