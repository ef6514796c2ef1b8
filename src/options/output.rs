//! Standard output and standard error: who gets a table, who gets JSON, when there is colour.

use std::fmt::Display;
use std::io::{self, IsTerminal, Write};
use std::path::Path;

use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Args, ValueEnum};

use crate::error::{Error, ErrorKind};
use crate::operations::Note;
use crate::render::json::{self, Json};
use crate::render::table::Text;
use crate::render::{Renderer, Report};
use crate::report::file_bytes::file_bytes;
use crate::report::refusal::Refusal;
use crate::terminal::streams::{STDIN, say, stdout};
use crate::terminal::wording::{flag, worded};
use crate::write::atomic::is_stdout;

/// How results are written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// Human-readable.
    #[default]
    Table,
    /// One JSON object per input, one per line.
    Json,
    /// One SARIF 2.1.0 log of all inputs.
    Sarif,
}

/// The formats that every command has.
fn formats() -> impl TypedValueParser<Value = Format> {
    let names = [Format::Table, Format::Json].iter().filter_map(Format::to_possible_value);
    PossibleValuesParser::new(names).try_map(|name| Format::from_str(&name, false))
}

/// When to use terminal escapes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Color {
    /// When standard output is a terminal and NO_COLOR is not set.
    #[default]
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

/// Options of every command that prints a report.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Output")]
pub(crate) struct OutputArgs {
    /// Format of the report
    #[arg(long, default_value = "table", value_parser = formats(), value_name = "FORMAT")]
    pub format: Format,
    /// Same as --format json
    #[arg(long)]
    pub json: bool,
    /// When to use colour
    #[arg(long, value_enum, default_value_t, value_name = "WHEN")]
    pub color: Color,
    /// Suppress notes and progress on standard error
    #[arg(short, long)]
    pub quiet: bool,
}

impl OutputArgs {
    /// Whether the result is to be JSON.
    pub(crate) fn wants_json(&self) -> bool {
        self.json || self.format == Format::Json
    }

    /// Whether all findings are to be one SARIF log.
    pub(crate) fn wants_sarif(&self) -> bool {
        self.format == Format::Sarif
    }

    /// Whether the result is for people.
    pub(crate) fn wants_table(&self) -> bool {
        !self.wants_json() && !self.wants_sarif()
    }

    fn renderer(&self) -> Box<dyn Renderer> {
        if !self.wants_table() {
            return Box::new(Json);
        }
        let terminal = io::stdout().is_terminal();
        let no_color = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let color = match self.color {
            Color::Always => true,
            Color::Never => false,
            Color::Auto => terminal && !no_color && std::env::var_os("TERM").is_none_or(|term| term != "dumb"),
        };
        let width = terminal.then(|| terminal_size::terminal_size_of(io::stdout()).map_or(80, |(width, _)| width.0));
        Box::new(Text { width: width.map(usize::from), color, voice: flag })
    }

    /// Writes a report to standard output.
    pub(crate) fn print(&self, report: &dyn Report) -> io::Result<()> {
        let mut out = stdout();
        self.renderer().render(report, &mut out)?;
        out.flush()
    }

    /// Prints what is made only for programs, while it is written.
    pub(crate) fn print_json(&self, value: &impl serde::Serialize) -> io::Result<()> {
        let mut out = stdout();
        json::write(value, &mut out)?;
        out.write_all(b"\n")?;
        out.flush()
    }

    /// Notes on standard error, unless a person wants quiet.
    pub(crate) fn notes(&self, notes: &[Note]) {
        notes.iter().for_each(|note| self.note(&note.file, note.message.spoken(flag)));
    }

    /// What was done: its notes, and with `--json` the report.
    pub(crate) fn done(&self, notes: &[Note], report: &dyn Report) -> io::Result<()> {
        self.notes(notes);
        if self.wants_json() { self.print(report) } else { Ok(()) }
    }

    /// Fails where standard output would get both the JSON report and what is written.
    pub(crate) fn keep_apart(&self, output: &Path) -> anyhow::Result<()> {
        if is_stdout(output) && self.wants_json() {
            anyhow::bail!("--json and OUTPUT `-` both write to standard output; name a file");
        }
        Ok(())
    }

    /// A line for people on standard error, unless they want quiet.
    pub(crate) fn note(&self, file: &str, note: impl Display) {
        if !self.quiet {
            say(format_args!("{file}: {note}"));
        }
    }

    /// Says on standard error why an input cannot be read, and with `--json` on standard output too.
    pub(crate) fn refuse(&self, file: &Path, e: &anyhow::Error) -> io::Result<()> {
        say(worded(e));
        self.refused(file, e)
    }

    /// With `--json`, the line for an input that cannot be read; it is said on standard error elsewhere.
    pub(crate) fn refused(&self, file: &Path, e: &anyhow::Error) -> io::Result<()> {
        if self.wants_json() { self.print(&refusal(file, e)) } else { Ok(()) }
    }

    /// The same for the error that a command ends with, when it is about an input: one that could not be opened, or
    /// `input`, the only one there is.
    pub(crate) fn ended_with(&self, input: Option<&Path>, e: &anyhow::Error) -> io::Result<()> {
        let ours = || e.chain().find_map(|cause| cause.downcast_ref::<Error>());
        // what was asked for and cannot be done is no fault of the input, nor is what is wrong with the output
        if ours().is_some_and(|ours| ours.kind() == ErrorKind::Refused || ours.output().is_some()) {
            return Ok(());
        }
        if let Some(file) = ours().and_then(Error::input) {
            return self.refused(Path::new(file), e);
        }
        let Some(input) = input else { return Ok(()) };
        let about = e.to_string();
        let is_about_input = about == input.display().to_string()
            || about == STDIN
            || e.downcast_ref::<Error>().is_some_and(|e| e.output().is_none() && e.kind() != ErrorKind::Refused);
        let is_ours = e.chain().any(|cause| cause.is::<crate::error::Error>() || cause.is::<io::Error>());
        if is_about_input && is_ours { self.refused(input, e) } else { Ok(()) }
    }
}

/// Why an input cannot be read, for programs.
pub(crate) fn refusal(file: &Path, e: &anyhow::Error) -> Refusal {
    Refusal { file_bytes: file_bytes(file), ..Refusal::new(&file.display().to_string(), e.chain(), flag) }
}
