//! A listing for people: a line about the file, the tensors, the values, a summary.

use std::io::{self, Write};

use super::{Listing, Stats, TensorRow, shown_name};
use crate::render::{Cell, Column, Document, Fit, Report, Style, Table, json};
use crate::report::figures::{count, counted, number, shape, significant, size};
use crate::report::names;

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

/// The bare names of a listing, one per line (`--names`); as JSON `ckpt.names/1`.
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
        names::write(&self.0.file, self.0.file_bytes.as_deref(), self.all(), out)
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
        facts.extend(self.era.clone().filter(|era| !era.eq_ignore_ascii_case(self.container)));
        // the container is not named twice
        let pickle = if self.container == "pickle" { "" } else { "pickle " };
        facts.extend(self.pickle_protocol.map(|protocol| format!("{pickle}protocol {protocol}")));
        facts.extend(self.byte_order.filter(|order| *order == "big").map(|_| "big-endian".to_owned()));
        facts.extend(self.root_type.clone());
        facts.push(size(self.bytes));
        facts.extend(device.filter(|device| *device != "cpu").map(|device| format!("all on {device}")));
        format!("{}: {}", without_temporary(&self.file), facts.join(", "))
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
                Cell::new(row.dtype.as_ref(), dtype_style),
                Cell::from(shape(&row.shape)),
                Cell::from(size(row.bytes)),
            ];
            if with_device {
                cells.push(Cell::from(row.device.as_deref().unwrap_or("")));
            }
            if with_stats {
                cells.extend(stats_cells(row.stats.as_ref().and_then(Option::as_deref)));
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
        let columns =
            vec![Column::left("name").fit(Fit::LineAbove), Column::left("type"), Column::left("value").fit(Fit::Wrap)];
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
        let mut line = counted(totals.tensors, "tensor");
        if totals.tensors > 0 {
            let stored = size(totals.disk_bytes.unwrap_or(totals.storage_bytes));
            line = format!("{line}, {}", counted(totals.parameters, "parameter"));
            if totals.buffers > 0 {
                line = format!("{line}, {}", counted(totals.buffers, "buffer"));
            }
            line = format!("{line}, {} (storages {stored} on disk)", size(totals.tensor_bytes));
        }
        if !self.values.is_empty() {
            line = format!("{line}, {}", counted(self.values.len() as u64, "value"));
        }
        document.prose(Cell::new(line, Style::Strong));

        if let Some(digest) = &self.digest {
            document.line(format!("weights digest: {digest}"));
        }
        let sharing = self.tensors.iter().filter(|row| row.shares_with.others() > 0).count() as u64;
        if sharing > 0 {
            let spared = totals.tensor_bytes.saturating_sub(totals.storage_bytes);
            let spared = if spared > 0 { format!(" ({} saved)", size(spared)) } else { String::new() };
            document.prose(format!("{} share storage{spared}", counted(sharing, "tensor")));
        }
        let broken = self.tensors.iter().filter(|row| row.problem.is_some()).count() as u64;
        if broken > 0 {
            let text = format!("{} cannot be trusted; see the remarks", counted(broken, "tensor"));
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

/// The name of a file without the directory that git makes for it to be shown (`textconv`), another one each time.
pub(in crate::report) fn without_temporary(file: &str) -> &str {
    match file.rsplit_once('/') {
        Some((dir, name)) if dir.rsplit('/').next().is_some_and(|dir| dir.starts_with("git-blob-")) => name,
        _ => file,
    }
}

#[cfg(test)]
mod tests {
    use super::super::sample;
    use super::*;
    use crate::message::fields;
    use crate::render::Renderer;
    use crate::render::table::Text;

    fn draw(report: &dyn Report, width: Option<usize>) -> String {
        let mut out = Vec::new();
        Text { width, color: false, voice: fields }.render(report, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    const WIDE: &str = "\
v1.ckpt: zip, torch 1.6 or newer, pickle protocol 2, dict, 50.0 KiB

name                                                                  dtype    shape               size  remarks
state_dict.model.diffusion_model.input_blocks.1.0.in_layers.0.weight  float32  [320]           1.25 KiB
state_dict.model.diffusion_model.out.2.weight                         float32  [4, 320, 3, 3]  45.0 KiB
state_dict.wte                                                        float32  [10, 4]            160 B  shares storage with state_dict.head
state_dict.head                                                       float32  [10, 4]            160 B  shares storage with state_dict.wte
state_dict.ids                                                        int64    [1, 77]            616 B

name            type  value
epoch           int   96
evil\\n\\u{202e}  str   'x'

5 tensors, 11,880 parameters, 77 buffers, 47.2 KiB (storages 47.0 KiB on disk), 2 values
2 tensors share storage (160 B saved)
";

    #[test]
    fn on_a_wide_terminal_and_into_a_pipe() {
        assert_eq!(draw(&sample::listing(), Some(200)), WIDE);
        assert_eq!(draw(&sample::listing(), None), WIDE);
    }

    #[test]
    fn on_80_columns_names_stay_whole() {
        assert_eq!(
            draw(&sample::listing(), Some(80)),
            "\
v1.ckpt: zip, torch 1.6 or newer, pickle protocol 2, dict, 50.0 KiB

name                                           dtype    shape               size
state_dict.model.diffusion_model.input_blocks.1.0.in_layers.0.weight
                                               float32  [320]           1.25 KiB
state_dict.model.diffusion_model.out.2.weight  float32  [4, 320, 3, 3]  45.0 KiB
state_dict.wte                                 float32  [10, 4]            160 B
    shares storage with state_dict.head
state_dict.head                                float32  [10, 4]            160 B
    shares storage with state_dict.wte
state_dict.ids                                 int64    [1, 77]            616 B

name            type  value
epoch           int   96
evil\\n\\u{202e}  str   'x'

5 tensors, 11,880 parameters, 77 buffers, 47.2 KiB (storages 47.0 KiB on disk),
    2 values
2 tensors share storage (160 B saved)
"
        );
    }

    #[test]
    fn at_every_width_names_are_whole_and_other_lines_fit() {
        let mut listing = sample::listing();
        for row in &mut listing.tensors {
            row.stats = Some(Some(Box::new(Stats { mean: Some(1.0 / 3.0), zeros: 123, ..Stats::default() })));
            row.sha256 = Some(Some("0123456789abcdef".repeat(4)));
        }
        for width in 40..=220 {
            let text = draw(&listing, Some(width));
            for row in &listing.tensors {
                let is_named = |line: &str| line.split(' ').any(|word| word == row.name);
                assert!(text.lines().any(is_named), "{width}: {} in\n{text}", row.name);
            }
            for line in text.lines().filter(|line| line.chars().count() > width) {
                let is_alone = listing.tensors.iter().any(|row| row.name == line);
                assert!(is_alone || line.starts_with("    shares storage with"), "{width}: {line} in\n{text}");
            }
        }
    }

    #[test]
    fn devices_are_said_once_or_in_a_column() {
        let mut listing = sample::listing();
        listing.tensors.iter_mut().for_each(|row| row.device = Some("cuda:0".into()));
        let same = draw(&listing, None);
        assert!(
            same.starts_with("v1.ckpt: zip, torch 1.6 or newer, pickle protocol 2, dict, 50.0 KiB, all on cuda:0\n")
        );
        assert_eq!(same.matches("cuda").count(), 1);
        listing.tensors[0].device = Some("cpu".into());
        let mixed = draw(&listing, None);
        assert_eq!((mixed.matches("cuda:0").count(), mixed.matches(" device ").count()), (4, 1));
    }

    #[test]
    fn digests_are_whole_in_a_pipe_and_short_where_there_is_no_room() {
        let digest = "8652a7d2c3ba26f1a494142c25b567d362d7d6ede8292cf6aaeef22944a24354";
        let mut listing = sample::listing();
        listing.tensors[0].sha256 = Some(Some(digest.into()));
        for row in &mut listing.tensors[1..] {
            row.sha256 = Some(None);
        }
        let of = |width| draw(&listing, width);
        assert!(of(None).contains(digest) && of(Some(200)).contains(digest));
        let narrow = of(Some(139));
        assert!(narrow.contains(" 8652a7d2c3ba26f1\n"), "{narrow}");
    }

    #[test]
    fn stats_in_four_digits() {
        let mut listing = sample::listing();
        listing.values.clear();
        listing.tensors.truncate(1);
        listing.tensors[0].name = "bias".into();
        listing.tensors[0].stats = Some(Some(Box::new(Stats {
            min: serde_json::Number::from_f64(-0.123456),
            max: Some(12.into()),
            mean: Some(f64::NAN),
            std: None,
            zeros: 1000,
            nan: 0,
            inf: 2,
        })));
        let lines: Vec<_> = draw(&listing, Some(80)).lines().map(str::to_owned).collect();
        assert_eq!(lines[2], "name  dtype    shape      size      min  max  mean  zeros  Inf");
        assert_eq!(lines[3], "bias  float32  [320]  1.25 KiB  -0.1235   12   NaN  1,000    2");
    }

    #[test]
    fn a_problem_is_said_in_the_row_and_at_the_end() {
        let mut listing = sample::listing();
        listing.tensors[1].problem = Some("member data/1 is missing".into());
        let text = draw(&listing, None);
        assert!(text.contains("45.0 KiB  member data/1 is missing\n"), "{text}");
        assert!(text.ends_with("\n1 tensor cannot be trusted; see the remarks\n"), "{text}");
    }

    #[test]
    fn names_alone() {
        let mut listing = sample::listing();
        listing.tensors.truncate(1);
        listing.tensors[0].name = String::new();
        assert_eq!(draw(&Names(&listing), Some(20)), ".\nepoch\nevil\\n\\u{202e}\n");
    }
}
