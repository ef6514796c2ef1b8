//! `old -> new`, one a line: what an edit shows of its changes.

use crate::render::{Align, Cell, Column, Document, Fit, Style, Table};

/// What was, and what is.
pub(crate) fn arrows<'a>(rows: impl Iterator<Item = (String, Cell<'a>)>) -> Document<'a> {
    let mut document = Document::default();
    let arrow = Column { align: Align::Left, ..Column::default() };
    document.table(Table {
        columns: vec![Column::left("").fit(Fit::LineAbove), arrow, Column::left("").fit(Fit::Over)],
        rows: rows.map(|(old, new)| vec![old.into(), Cell::new("->", Style::Dim), new]).collect(),
    });
    document
}
