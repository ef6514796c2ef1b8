//! A listing for people: a line about the file, the tensors, the values, a summary.

use std::io::{self, Write};

use super::{Listing, Stats, TensorRow, shown_name};
use crate::render::{Cell, Column, Document, Fit, Report, Style, Table, json};
use crate::report::figures::{count, counted, number, shape, significant, size};

// hexadecimal digits of a digest that a narrow terminal shows
const SHORT_DIGEST: usize = 16;

impl Report for Listing {
    fn document(&self) -> Document<'_> {
        let mut document = Document::default();
        let device = self.common_device();
        document.prose(self.heading(device));
        document.table(self.tensor_table(device.is_none()));
        document.table(self.value_table());
        document.gap();
        self.summary(&mut document);
        document
    }

    fn write_json(&self, out: &mut dyn Write) -> io::Result<()> {
        json::write(self, out)
    }
}

/// The bare names of a listing, one per line (`--names`); as JSON an array.
#[derive(Debug)]
pub struct Names<'a>(pub &'a Listing);

impl Names<'_> {
    fn all(&self) -> impl Iterator<Item = &str> {
        let tensors = self.0.tensors.iter().map(|row| row.name.as_str());
        tensors.chain(self.0.values.iter().map(|row| row.name.as_str()))
    }
}

impl Report for Names<'_> {
    fn document(&self) -> Document<'_> {
        let mut document = Document::default();
        self.all().for_each(|name| document.line(shown_name(name)));
        document
    }

    fn write_json(&self, out: &mut dyn Write) -> io::Result<()> {
        json::write(&self.all().collect::<Vec<_>>(), out)
    }
}

impl Listing {
    /// The device of all tensors, where they have the same one and it says something: not `cpu`.
    fn common_device(&self) -> Option<&str> {
        let mut devices = self.tensors.iter().map(|row| row.device.as_deref().unwrap_or("cpu"));
        let first = devices.next().unwrap_or("cpu");
        devices.all(|device| device == first).then_some(first)
    }

    /// What the file is, in one line; `device` when all tensors are on one.
    pub(crate) fn heading(&self, device: Option<&str>) -> String {
        let mut facts = vec![self.container.to_owned()];
        facts.extend(self.compression.map(|how| format!("{how} compressed")));
        facts.extend(self.era.clone());
        facts.extend(self.pickle_protocol.map(|protocol| format!("pickle protocol {protocol}")));
        facts.extend(self.byte_order.filter(|order| *order == "big").map(|_| "big-endian".to_owned()));
        facts.extend(self.root_type.clone());
        facts.push(size(self.bytes));
        facts.extend(device.filter(|device| *device != "cpu").map(|device| format!("all on {device}")));
        format!("{}: {}", self.file, facts.join(", "))
    }

    fn tensor_table(&self, with_device: bool) -> Table<'_> {
        let with_stats = self.tensors.iter().any(|row| row.stats.is_some());
        let with_hash = self.tensors.iter().any(|row| row.sha256.is_some());
        let mut columns = vec![
            Column::left("name").fit(Fit::LineAbove),
            Column::left("dtype"),
            Column::left("shape"),
            Column::right("size"),
        ];
        if with_device {
            columns.push(Column::left("device"));
        }
        if with_stats {
            columns.push(Column { breaks: true, ..Column::right("min") });
            columns.extend(["max", "mean", "std", "zeros", "NaN", "Inf"].map(Column::right));
        }
        if with_hash {
            columns.push(Column::left("sha256").fit(Fit::Shorten(SHORT_DIGEST)));
        }
        columns.push(Column::left("remarks").fit(Fit::LineBelow));

        let one_dtype = self.tensors.windows(2).all(|pair| matches!(pair, [a, b] if a.dtype == b.dtype));
        let dtype_style = if one_dtype { Style::Dim } else { Style::Plain };
        let rows = self.tensors.iter().map(|row| {
            let mut cells = vec![
                Cell::from(shown_name(&row.name)),
                Cell::new(&row.dtype, dtype_style),
                Cell::from(shape(&row.shape)),
                Cell::from(size(row.bytes)),
            ];
            if with_device {
                cells.push(Cell::from(row.device.as_deref().unwrap_or("")));
            }
            if with_stats {
                cells.extend(stats_cells(row.stats.as_ref().and_then(Option::as_ref)));
            }
            if with_hash {
                cells.push(Cell::new(row.sha256.as_ref().and_then(Option::as_deref).unwrap_or(""), Style::Dim));
            }
            let style = if row.problem.is_some() { Style::Bad } else { Style::Dim };
            cells.push(Cell::new(row.remarks(), style));
            cells
        });
        Table { columns, rows: rows.collect() }
    }

    fn value_table(&self) -> Table<'_> {
        let columns = vec![
            Column::left("name").fit(Fit::LineAbove),
            Column::left("type"),
            Column::left("value").fit(Fit::Wrap),
        ];
        let rows = self.values.iter().map(|row| {
            vec![
                Cell::from(shown_name(&row.name)),
                Cell::new(row.class.as_str(), Style::Dim),
                Cell::from(row.repr.as_str()),
            ]
        });
        Table { columns, rows: rows.collect() }
    }

    /// Tensors, parameters, bytes, values; then what is shared and what is wrong.
    pub(crate) fn summary<'a>(&'a self, document: &mut Document<'a>) {
        let totals = &self.totals;
        let stored = size(totals.disk_bytes.unwrap_or(totals.storage_bytes));
        let mut line = format!(
            "{}, {}, {} (storages {stored} on disk)",
            counted(totals.tensors, "tensor"),
            counted(totals.parameters, "parameter"),
            size(totals.tensor_bytes),
        );
        if !self.values.is_empty() {
            line = format!("{line}, {}", counted(self.values.len() as u64, "value"));
        }
        document.prose(Cell::new(line, Style::Strong));

        let sharing = self.tensors.iter().filter(|row| row.shares_with.others() > 0).count() as u64;
        if sharing > 0 {
            let spared = totals.tensor_bytes.saturating_sub(totals.storage_bytes);
            let spared = if spared > 0 { format!(", which spares {}", size(spared)) } else { String::new() };
            document.prose(format!("{} share storage with others{spared}", counted(sharing, "tensor")));
        }
        let broken = self.tensors.iter().filter(|row| row.problem.is_some()).count() as u64;
        if broken > 0 {
            let text = format!("{} cannot be trusted, see the remarks", counted(broken, "tensor"));
            document.prose(Cell::new(text, Style::Bad));
        }
    }
}

fn stats_cells(stats: Option<&Stats>) -> [Cell<'static>; 7] {
    let Some(stats) = stats else { return Default::default() };
    // most tensors have none: a blank lets those that do stand out
    let odd = |n: u64| Cell::new(if n > 0 { count(n) } else { String::new() }, Style::Bad);
    [
        Cell::from(stats.min.as_ref().map(number).unwrap_or_default()),
        Cell::from(stats.max.as_ref().map(number).unwrap_or_default()),
        Cell::from(stats.mean.map(significant).unwrap_or_default()),
        Cell::from(stats.std.map(significant).unwrap_or_default()),
        Cell::from(count(stats.zeros)),
        odd(stats.nan),
        odd(stats.inf),
    ]
}

impl TensorRow {
    /// `float32 [4, 3, 3, 3]`.
    pub(crate) fn elements_in_words(&self) -> String {
        format!("{} {}", self.dtype, shape(&self.shape))
    }
}
