//! `ckpt schema` prints the schemas of the reports.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // helpers of tests are tests

use ckpt::report::schema::ALL;

use crate::driver::run;

#[test]
fn each_is_printed_by_its_name() {
    let names = run("schema").exits(0);
    assert_eq!(names.lines(), ALL.iter().map(|schema| schema.name).collect::<Vec<_>>());
    for name in names.lines() {
        let printed = run(&format!("schema {name}")).exits(0);
        let schema: serde_json::Value = serde_json::from_str(printed.text()).unwrap();
        assert_eq!(schema["properties"]["schema"]["const"], name);
        assert_eq!(schema["$schema"], "https://json-schema.org/draft/2020-12/schema");
        jsonschema::meta::validate(&schema).unwrap();
    }
    assert_eq!(run("schema ls").exits(0).stdout, run("schema ckpt.ls/1").exits(0).stdout);
}

#[test]
fn a_schema_that_there_is_not() {
    let refused = run("schema ckpt.ls/9").exits(2);
    assert!(refused.stdout.is_empty() && refused.stderr.contains("ckpt.ls/1, ckpt.ls-archive/1"), "{}", refused.stderr);
}
