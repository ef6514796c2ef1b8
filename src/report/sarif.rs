//! What `ckpt check` found in all inputs, as one run of SARIF 2.1.0: the format in which code scanning services and editors
//! take findings.

mod rules;

use std::fmt::Write as _;
use std::io::{self, Write};
use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use self::rules::{RULES, Rule};
use crate::render::{Document, Report, json};
use crate::report::check::Check;
use crate::report::refusal::Refusal;
use crate::safety::finding::{Finding, Severity};

/// Whether there is a rule for findings of this code.
pub fn has_rule(code: &str) -> bool {
    rules::index_of(code).is_some()
}

/// All findings of a run.
#[derive(Debug, Default)]
pub(crate) struct Log {
    artifacts: Vec<Value>,
    results: Vec<Value>,
    /// Inputs that could not be read.
    notifications: Vec<Value>,
}

impl Log {
    /// Adds what was found in one input.
    pub(crate) fn add(&mut self, check: &Check) {
        let file = File::of(&check.file, check.file_bytes.as_deref());
        self.artifacts.push(json!({
            "location": file.location(),
            "roles": ["analysisTarget"],
            "properties": {"verdict": check.verdict, "container": check.container},
        }));
        let results = check.findings.iter().map(|finding| result(&file, finding));
        self.results.extend(results);
    }

    /// Adds an input that could not be read.
    pub(crate) fn refuse(&mut self, refusal: &Refusal) {
        let file = File::of(&refusal.file, refusal.file_bytes.as_deref());
        self.notifications.push(json!({
            "level": "error",
            "descriptor": {"id": refusal.kind},
            "message": {"text": refusal.message},
            "locations": [file.place(refusal.member.as_deref())],
        }));
    }
}

impl Report for Log {
    /// Nothing: this is for programs.
    fn document(&self) -> Document<'_> {
        Document::default()
    }

    fn write_json(&self, out: &mut dyn Write) -> io::Result<()> {
        let rules: Vec<Value> = RULES.iter().map(descriptor).collect();
        let log = json!({
            "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
            "version": "2.1.0",
            "runs": [{
                "tool": {"driver": {"name": "ckpt", "semanticVersion": env!("CARGO_PKG_VERSION"), "rules": rules}},
                "invocations": [{
                    "executionSuccessful": self.notifications.is_empty(),
                    "toolExecutionNotifications": self.notifications,
                }],
                "artifacts": self.artifacts,
                "results": self.results,
            }],
        });
        json::write(&log, out)
    }
}

/// A rule as SARIF describes it; services sort by `security-severity`, of 10.
fn descriptor(rule: &Rule) -> Value {
    let score = match rule.severity {
        Severity::Danger => "9.0",
        Severity::Error => "6.0",
        Severity::Warning => "4.0",
        Severity::Info => "1.0",
    };
    json!({
        "id": rule.code,
        "shortDescription": {"text": format!("{}.", rule.short)},
        "fullDescription": {"text": format!("{}. {}", rule.short, rule.help)},
        "help": {"text": rule.help},
        "defaultConfiguration": {"level": level(rule.severity)},
        "properties": {"security-severity": score, "tags": ["security"]},
    })
}

fn level(severity: Severity) -> &'static str {
    match severity {
        Severity::Danger | Severity::Error => "error",
        Severity::Warning => "warning",
        Severity::Info => "note",
    }
}

fn result(file: &File, finding: &Finding) -> Value {
    let place = finding.place.as_deref();
    let text = place.map_or_else(|| finding.message.clone(), |place| format!("{place}: {}", finding.message));
    let mut result = json!({
        "ruleId": finding.code,
        "level": level(finding.severity),
        "message": {"text": text},
        "locations": [file.place(place)],
        "partialFingerprints": {"ckpt/v1": file.fingerprint(finding)},
        "properties": {"severity": finding.severity.name()},
    });
    if let (Some(index), Some(fields)) = (rules::index_of(finding.code), result.as_object_mut()) {
        fields.insert("ruleIndex".to_owned(), index.into());
    }
    result
}

/// An input, as far as it is a file: a member of an archive lies in one.
struct File {
    /// None for standard input.
    uri: Option<String>,
    member: Option<String>,
}

impl File {
    fn of(shown: &str, bytes: Option<&str>) -> Self {
        let raw = bytes.and_then(|bytes| STANDARD.decode(bytes).ok()).unwrap_or_else(|| shown.as_bytes().to_vec());
        if raw == b"-" || raw.starts_with(b"-::") {
            let member = shown.strip_prefix("-::").map(str::to_owned);
            return File { uri: None, member };
        }
        // the first part that is a file is the archive
        let cuts = shown.match_indices("::").map(|(at, _)| at).filter(|_| bytes.is_none());
        let cut = cuts.into_iter().find(|at| shown.get(..*at).is_some_and(|file| Path::new(file).is_file()));
        match cut.and_then(|at| Some((shown.get(..at)?, shown.get(at + 2..)?))) {
            Some((file, member)) if !Path::new(shown).exists() => {
                File { uri: Some(uri(file.as_bytes())), member: Some(member.to_owned()) }
            }
            _ => File { uri: Some(uri(&raw)), member: None },
        }
    }

    fn location(&self) -> Value {
        match &self.uri {
            Some(uri) => json!({"uri": uri}),
            None => json!({"description": {"text": "standard input"}}),
        }
    }

    /// A place in it: the members that lead there, and what a finding says.
    fn place(&self, place: Option<&str>) -> Value {
        let mut location = json!({"physicalLocation": {"artifactLocation": self.location()}});
        let names: Vec<&str> = self.member.as_deref().into_iter().chain(place).collect();
        if let (false, Some(fields)) = (names.is_empty(), location.as_object_mut()) {
            fields.insert("logicalLocations".to_owned(), json!([{"fullyQualifiedName": names.join("::")}]));
        }
        location
    }

    /// The same for the same finding in the next run.
    fn fingerprint(&self, finding: &Finding) -> String {
        let member = self.member.as_deref().unwrap_or_default();
        let place = finding.place.as_deref().unwrap_or_default();
        let parts = [self.uri.as_deref().unwrap_or_default(), member, finding.code, place, &finding.message];
        let digest = Sha256::digest(parts.join("\0").as_bytes());
        digest.iter().take(16).fold(String::new(), |mut text, byte| {
            // writing into a string cannot fail
            let _ = write!(text, "{byte:02x}");
            text
        })
    }
}

/// A path as a URI: relative ones stay so.
fn uri(path: &[u8]) -> String {
    let mut uri = String::new();
    if path.starts_with(b"/") {
        uri.push_str("file://");
    }
    for byte in path {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'/' => uri.push(char::from(*byte)),
            b'\\' if cfg!(windows) => uri.push('/'),
            byte => _ = write!(uri, "%{byte:02X}"),
        }
    }
    uri
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_uris() {
        assert_eq!(uri(b"models/a b:c%.pt"), "models/a%20b%3Ac%25.pt");
        assert_eq!(uri("/tmp/é.pt".as_bytes()), "file:///tmp/%C3%A9.pt");
        assert_eq!(File::of("no\u{fffd}.pt", Some(&STANDARD.encode(b"no\xff.pt"))).uri.as_deref(), Some("no%FF.pt"));
        assert_eq!(File::of("-::a.pt", None).member.as_deref(), Some("a.pt"));
    }
}
