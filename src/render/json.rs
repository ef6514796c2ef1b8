//! JSON: one report is one compact object on one line.

use std::io::{self, Write};

use serde::Serialize;

use super::{Renderer, Report};

/// Writes reports for programs.
#[derive(Debug, Clone, Copy)]
pub struct Json;

impl Renderer for Json {
    fn render(&self, report: &dyn Report, out: &mut dyn Write) -> io::Result<()> {
        report.write_json(out)?;
        out.write_all(b"\n")
    }
}

/// Writes `value` compactly; what [`Report::write_json`] does for most reports.
pub fn write<T: Serialize + ?Sized>(value: &T, out: &mut dyn Write) -> io::Result<()> {
    serde_json::to_writer(out, value).map_err(io::Error::from)
}
