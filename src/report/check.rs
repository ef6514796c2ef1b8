//! What `ckpt check` found in one input: the JSON schema `ckpt.check/1`.

use std::io::{self, Write};

use crate::checkpoint::Container;
use crate::message::Note;
use crate::render::{Cell, Column, Document, Fit, Report, Style, Table, json};
use crate::report::figures::counted;
use crate::safety::examine::{Examined, SortedGlobal};
use crate::safety::finding::{Finding, Severity};
use crate::safety::globals::Status;
use crate::safety::weights_only::Verdict;

/// One input. Fields stand in the order of the JSON.
#[derive(Debug, Clone, serde::Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Check {
    /// Always [`Check::SCHEMA`].
    pub schema: &'static str,
    /// The input as given.
    pub file: String,
    /// Its bytes in base64, where it is no Unicode.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub file_bytes: Option<String>,
    /// The container, where it could be told.
    pub container: Option<&'static str>,
    /// The worst finding: `ok` when there is none above `info`.
    pub verdict: &'static str,
    /// Whether `torch.load(weights_only=True)` opens it; null for what torch.load is not for (directories).
    pub weights_only: Option<Verdict>,
    /// Every global that its pickles name, the worst first.
    pub globals: Vec<GlobalRow>,
    /// What there is to say, the worst first.
    pub findings: Vec<Finding>,
    /// What there is to know besides.
    #[serde(skip)]
    pub notes: Vec<Note>,
}

/// One global.
#[derive(Debug, Clone, serde::Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct GlobalRow {
    /// Module and qualified name.
    pub name: String,
    /// `known`, `unknown` or `dangerous`.
    pub status: &'static str,
    /// How many objects calls of it make, and how often it is only named.
    pub uses: u64,
    /// How: `called`, `built` (called, and its objects are given a state), `named`.
    pub how: &'static str,
    /// Whether the caller vouches for it (`--allow`); not in the JSON when nobody does.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub allowed: bool,
}

impl From<SortedGlobal> for GlobalRow {
    fn from(global: SortedGlobal) -> Self {
        GlobalRow {
            name: global.name,
            status: status_name(global.status),
            uses: global.used.called + global.used.named,
            how: match (global.used.called, global.used.built) {
                (0, _) => "named",
                (_, 0) => "called",
                _ => "built",
            },
            allowed: global.allowed,
        }
    }
}

/// The name of a status.
fn status_name(status: Status) -> &'static str {
    match status {
        Status::Known => "known",
        Status::Unknown => "unknown",
        Status::Dangerous(_) => "dangerous",
    }
}

/// The verdict that findings come to.
fn verdict(findings: &[Finding]) -> &'static str {
    match findings.iter().map(|finding| finding.severity).max() {
        None | Some(Severity::Info) => "ok",
        Some(severity) => severity.name(),
    }
}

impl Check {
    /// The name of the JSON schema.
    pub(crate) const SCHEMA: &'static str = "ckpt.check/1";

    /// Of what was found in the input that is called so.
    pub(crate) fn new(file: String, examined: Examined) -> Self {
        Check {
            schema: Check::SCHEMA,
            file,
            file_bytes: None,
            container: examined.container.map(Container::name).or(examined.archive),
            verdict: verdict(&examined.findings),
            weights_only: examined.weights_only,
            globals: examined.globals.into_iter().map(GlobalRow::from).collect(),
            findings: examined.findings,
            notes: Vec::new(),
        }
    }

    /// Whether a finding is at least this severe.
    pub(crate) fn has(&self, severity: Severity) -> bool {
        self.findings.iter().any(|finding| finding.severity >= severity)
    }

    fn heading(&self) -> Cell<'_> {
        let container = self.container.map_or(String::new(), |container| format!(" ({container})"));
        Cell::new(format!("{}{container}: {}", self.file, self.verdict), style(self.verdict))
    }

    /// The verdict, the file, the worst finding and how many more there are.
    fn line(&self) -> String {
        let mut told = self.findings.iter().filter(|finding| finding.severity > Severity::Info);
        let mut line = format!("{:<8}{}", self.verdict, self.file);
        if let Some(first) = told.next() {
            let place = first.place.as_ref().map_or(String::new(), |place| format!("{place}: "));
            line.push_str(&format!(": {place}{}", first.message));
        }
        match told.count() {
            0 => line,
            more => format!("{line} (and {more} more)"),
        }
    }

    fn weights_only_line(&self) -> Option<String> {
        let verdict = self.weights_only.as_ref()?;
        let torch = verdict.torch;
        Some(match verdict.opens {
            true => format!("torch {torch} opens it with weights_only=True"),
            false => {
                let reasons = verdict.reasons.iter().map(|reason| match reason.kind {
                    kind @ ("global" | "opcode") => format!("{kind} {}", reason.detail),
                    _ => reason.detail.clone(),
                });
                let shown: Vec<String> = reasons.take(MAX_REASONS).collect();
                let more = verdict.reasons.len().saturating_sub(MAX_REASONS);
                let rest = if more > 0 { format!("; and {more} more") } else { String::new() };
                format!("torch {torch} does not open it with weights_only=True: {}{rest}", shown.join("; "))
            }
        })
    }
}

const MAX_REASONS: usize = 8;

fn style(verdict: &str) -> Style {
    match verdict {
        "ok" => Style::Good,
        "info" | "known" => Style::Plain,
        _ => Style::Bad,
    }
}

impl Report for Check {
    fn document(&self) -> Document<'_> {
        let mut document = Document::default();
        document.prose(self.heading());
        if let Some(line) = self.weights_only_line() {
            document.prose(line);
        }
        document.table(Table {
            columns: vec![Column::left("severity"), Column::left("code"), Column::left("finding").fit(Fit::Wrap)],
            rows: self
                .findings
                .iter()
                .map(|finding| {
                    let place = finding.place.as_ref().map_or(String::new(), |place| format!("{place}: "));
                    vec![
                        Cell::new(finding.severity.name(), style(finding.severity.name())),
                        Cell::from(finding.code),
                        Cell::from(format!("{place}{}", finding.message)),
                    ]
                })
                .collect(),
        });
        document.table(Table {
            columns: vec![
                Column::left("global").fit(Fit::LineAbove),
                Column::left("status"),
                Column::right("uses"),
                Column::left("how"),
            ],
            rows: self.global_rows(),
        });
        document
    }

    fn write_json(&self, out: &mut dyn Write) -> io::Result<()> {
        json::write(self, out)
    }
}

/// Known classes of TorchScript's own module that are told one by one.
const MAX_SCRIPTED: usize = 6;
/// The module of the classes that a TorchScript archive brings.
const SCRIPTED: &str = "__torch__.";

impl Check {
    /// The globals; many classes of a TorchScript archive are one row.
    fn global_rows(&self) -> Vec<Vec<Cell<'_>>> {
        let is_scripted = |row: &&GlobalRow| row.status == "known" && !row.allowed && row.name.starts_with(SCRIPTED);
        let scripted: Vec<&GlobalRow> = self.globals.iter().filter(is_scripted).collect();
        let mut rows = Vec::new();
        let mut is_folded = false;
        for row in &self.globals {
            let (name, uses) = match scripted.len() > MAX_SCRIPTED && is_scripted(&row) {
                true if is_folded => continue,
                true => {
                    is_folded = true;
                    let uses = scripted.iter().fold(0u64, |sum, row| sum.saturating_add(row.uses));
                    (Cell::from(format!("{SCRIPTED}* ({} classes)", scripted.len())), uses)
                }
                false => (Cell::from(row.name.as_str()), row.uses),
            };
            let status = match row.allowed {
                true => Cell::from("allowed"),
                false => Cell::new(row.status, style(row.status)),
            };
            rows.push(vec![name, status, Cell::from(uses.to_string()), Cell::from(row.how)]);
        }
        rows
    }
}

/// Inputs, at least one, each on one line; as JSON the whole of each.
#[derive(Debug, Default)]
pub(crate) struct Lines(pub Vec<Check>);

impl Report for Lines {
    fn document(&self) -> Document<'_> {
        let mut document = Document::default();
        for check in &self.0 {
            document.line(Cell::new(check.line(), style(check.verdict)));
        }
        document
    }

    fn write_json(&self, out: &mut dyn Write) -> io::Result<()> {
        for (number, check) in self.0.iter().enumerate() {
            if number > 0 {
                out.write_all(b"\n")?;
            }
            json::write(check, out)?;
        }
        Ok(())
    }
}

/// How many inputs came to which verdict; nothing in JSON.
#[derive(Debug, Clone, Copy, Default)]
pub struct Summary {
    /// Without findings above `info`.
    pub ok: u64,
    /// With each worst finding.
    pub warning: u64,
    /// The same.
    pub error: u64,
    /// The same.
    pub danger: u64,
    /// Inputs that could not be read.
    pub unreadable: u64,
    /// Files below directories that are no checkpoints.
    pub left_aside: u64,
}

impl Summary {
    /// Counts one input.
    pub(crate) fn add(&mut self, verdict: &str) {
        let count = match verdict {
            "ok" => &mut self.ok,
            "warning" => &mut self.warning,
            "error" => &mut self.error,
            _ => &mut self.danger,
        };
        *count += 1;
    }
}

impl Report for Summary {
    fn document(&self) -> Document<'_> {
        let mut document = Document::default();
        let all = self.ok + self.warning + self.error + self.danger;
        let mut more = String::new();
        if self.unreadable > 0 {
            more.push_str(&format!("; {} could not be read", counted(self.unreadable, "input")));
        }
        if self.left_aside > 0 {
            more.push_str(&format!("; {} left aside", counted(self.left_aside, "other file")));
        }
        document.line(format!(
            "{}: {} ok, {} with warnings, {} with errors, {} dangerous{more}",
            counted(all, "file"),
            self.ok,
            self.warning,
            self.error,
            self.danger
        ));
        document
    }

    fn write_json(&self, _out: &mut dyn Write) -> io::Result<()> {
        Ok(())
    }
}

/// An empty line between two reports; nothing in JSON.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Blank;

impl Report for Blank {
    fn document(&self) -> Document<'_> {
        let mut document = Document::default();
        document.line("");
        document
    }

    fn write_json(&self, _out: &mut dyn Write) -> io::Result<()> {
        Ok(())
    }
}
