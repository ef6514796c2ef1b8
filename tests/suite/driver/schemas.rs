//! Every line of JSON that a test's run prints is what its schema says, and has no field that the schema does not name.

use std::collections::HashMap;
use std::process::{Command, Output};
use std::sync::LazyLock;

use ckpt::report::schema::ALL;
use jsonschema::Validator;
use serde_json::Value;

/// By the name of the schema.
static VALIDATORS: LazyLock<HashMap<&str, Validator>> = LazyLock::new(|| {
    let strict = |text: &str| {
        let mut schema: Value = serde_json::from_str(text).expect("a schema is JSON");
        close(&mut schema);
        jsonschema::validator_for(&schema).expect("a schema")
    };
    ALL.iter().map(|schema| (schema.name, strict(schema.text))).collect()
});

/// Forbids fields that an object of a schema does not name: the files allow new ones, a test does not.
fn close(schema: &mut Value) {
    match schema {
        Value::Object(fields) => {
            fields.values_mut().for_each(close);
            if fields.contains_key("properties") && !fields.contains_key("additionalProperties") {
                fields.insert("additionalProperties".to_owned(), false.into());
            }
        }
        Value::Array(items) => items.iter_mut().for_each(close),
        _ => {}
    }
}

/// What is wrong with a line.
fn fault(line: &str) -> Option<String> {
    let value: Value = match serde_json::from_str(line) {
        Ok(value) => value,
        Err(e) => return Some(format!("no JSON: {e}")),
    };
    let Some(name) = value["schema"].as_str() else { return Some("no `schema`".to_owned()) };
    let Some(validator) = VALIDATORS.get(name) else { return Some(format!("no schema is called {name}")) };
    if let Err(e) = validator.validate(&value) {
        return Some(format!("{name}: {e} at {}", e.instance_path()));
    }
    // every kind of finding has a rule in SARIF
    let findings = value["findings"].as_array().into_iter().flatten();
    let mut codes = findings.filter_map(|finding| finding["code"].as_str());
    codes.find(|code| !ckpt::report::sarif::has_rule(code)).map(|code| format!("no rule for the finding {code}"))
}

/// Fails when a command that was to print JSON printed something else. A line that a trouble cut short is followed by the
/// line that says so.
#[track_caller]
pub fn hold(command: &Command, status: Option<i32>, stdout: &[u8]) {
    let args: Vec<&str> = command.get_args().filter_map(|arg| arg.to_str()).collect();
    if !args.contains(&"--json") && !args.windows(2).any(|pair| pair == ["--format", "json"]) {
        return;
    }
    let text = std::str::from_utf8(stdout).expect("UTF-8");
    let lines: Vec<&str> = text.lines().collect();
    for (number, line) in lines.iter().enumerate() {
        let is_cut = status == Some(2) && lines.get(number + 1).is_some_and(|next| next.contains("ckpt.error/1"));
        if let Some(wrong) = fault(line).filter(|_| !(is_cut && args.contains(&"extract"))) {
            panic!("{args:?}: {wrong}\n{}", line.chars().take(2000).collect::<String>());
        }
    }
}

/// Runs a command to its end; its JSON is looked at.
#[track_caller]
pub fn output(command: &mut Command) -> Output {
    let output = command.output().expect("the binary runs");
    hold(command, output.status.code(), &output.stdout);
    output
}

#[test]
fn what_no_schema_says_is_found() {
    let refusal = |more: &str| {
        format!(r#"{{"schema":"ckpt.error/1","file":"a","kind":"io","message":"b","member":null,"offset":1{more}}}"#)
    };
    assert_eq!(fault(&refusal("")), None);
    for (line, wanted) in [
        (refusal(r#","extra":1"#), "extra"),
        (refusal("").replace("\"offset\":1", "\"offset\":\"1\""), "offset"),
        (refusal("").replace(r#""kind":"io","#, ""), "kind"),
        (refusal("").replace("error/1", "error/2"), "no schema is called"),
        ("[]".to_owned(), "no `schema`"),
        ("{".to_owned(), "no JSON"),
    ] {
        let found = fault(&line).expect("a fault");
        assert!(found.contains(wanted), "{line}: {found}");
    }
}
