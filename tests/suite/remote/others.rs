//! The same with servers that others wrote: nginx, and an S3 server. `cargo xtask remote` starts them.

use crate::driver::{run_with, testdata};

use super::{FILE, program, run, same};

/// The address that a variable names.
fn address(variable: &str) -> String {
    std::env::var(variable).unwrap_or_else(|_| panic!("{variable} is not set: run `cargo xtask remote`"))
}

#[test]
#[ignore = "needs nginx"]
fn remote_nginx() {
    let (base, file) = (address("CKPT_NGINX"), testdata(FILE));
    let file = file.to_str().unwrap();
    for place in ["plain", "whole", "signed"] {
        same(&["ls", "--json", "--hash"], &format!("{base}/{place}/{FILE}"), file);
        same(&["check"], &format!("{base}/{place}/{FILE}"), file);
    }
    let refused = run(&["ls", &format!("{base}/gzip/{FILE}")]).exits(2);
    assert!(refused.stderr.contains("compressed (gzip)"), "{}", refused.stderr);
    let refused = run(&["ls", &format!("{base}/plain/nope.pt")]).exits(2);
    assert!(refused.stderr.contains("(HTTP 404)"), "{}", refused.stderr);
}

/// A signature that ends while the file is open is asked for again.
#[test]
#[ignore = "needs nginx"]
fn remote_signatures_end() {
    let url = format!("{}/signed/large.safetensors", address("CKPT_NGINX"));
    let checkpoint = ckpt::open(url).unwrap();
    std::thread::sleep(std::time::Duration::from_secs(4));
    let bytes: Vec<u8> = checkpoint.tensor("w").unwrap().read().unwrap();
    assert!(bytes.len() == 4_000_000 && bytes.iter().zip((0..250).cycle()).all(|(found, byte)| *found == byte));
}

#[test]
#[ignore = "needs an S3 server"]
fn remote_s3() {
    let endpoint = address("CKPT_S3");
    let run = |args: &[&str]| {
        let mut command = program();
        command.args(args).env("AWS_ENDPOINT_URL", &endpoint).env("AWS_REGION", "us-east-1");
        run_with(command.env("AWS_ACCESS_KEY_ID", "key").env("AWS_SECRET_ACCESS_KEY", "secret"), b"")
    };
    let file = testdata(FILE);
    let file = file.to_str().unwrap();
    let url = format!("s3://bucket/{FILE}");
    for args in [&["ls", "--json", "--hash"][..], &["check"], &["digest"]] {
        let (there, here) = (run(&[args, &[&url]].concat()), run(&[args, &[file]].concat()));
        assert_eq!(there.text().replace(&url, file), here.text());
        assert_eq!(there.status, here.status);
    }
    let listed = run(&["ls", "-R", "s3://bucket/torch-2.15-py311"]);
    assert!(listed.text().contains(&url), "{}{}", listed.text(), listed.stderr);
    assert!(run(&["ls", "s3://bucket/nope.pt"]).exits(2).stderr.contains("there is no such object"));
    assert!(run(&["ls", "s3://nowhere/nope.pt"]).exits(2).stderr.contains("there is no such"));
}
