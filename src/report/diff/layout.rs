//! A difference for people: a section for each kind, what they add up to at the end.

use std::io::{self, Write};

use super::{Aspect, Changed, Diff, Facts, OneSided};
use crate::message::{Message, Setting};
use crate::render::{Block, Cell, Column, Document, Fit, Report, Style, Table, json};
use crate::report::figures::{count, counted, shape, significant};
use crate::report::ls::shown_name;

impl Report for Diff {
    fn document(&self) -> Document<'_> {
        let mut document = Document::default();
        match (self.summary_only, self.is_load) {
            (true, _) => {}
            (false, true) => self.load(&mut document),
            (false, false) if self.differences() == 0 => {}
            (false, false) => self.sections(&mut document),
        }
        let style = if self.equal { Style::Good } else { Style::Strong };
        document.gap();
        let line = Cell::new(if self.is_load { self.load_summary() } else { self.summary() }, style);
        if self.summary_only {
            document.line(line)
        } else {
            document.prose(line)
        }
        document
    }

    fn write_json(&self, out: &mut dyn Write) -> io::Result<()> {
        json::write(self, out)
    }
}

/// Which numbers a column shows.
type Figure = fn(&Changed) -> String;

impl Diff {
    fn sections<'a>(&'a self, document: &mut Document<'a>) {
        let one_sided = |of: &'a [OneSided]| {
            let columns = vec![
                Column::left("name").fit(Fit::LineAbove),
                Column::left("type"),
                Column::left("shape or value").fit(Fit::Wrap),
            ];
            let row = |one: &'a OneSided| {
                let [kind, rest] = &one.shown;
                vec![Cell::from(shown_name(&one.name)), Cell::new(kind, Style::Dim), Cell::from(rest)]
            };
            Table { columns, rows: of.iter().map(row).collect() }
        };
        section(document, format!("only in {} (A)", self.a), one_sided(&self.only_a), self.counts.only_a);
        section(document, format!("only in {} (B)", self.b), one_sided(&self.only_b), self.counts.only_b);
        let [facts, elements] = self.counts.shown;
        section(document, "changed".into(), self.facts_table(), facts);
        section(document, "values differ".into(), self.values_table(), elements);
        section(document, "other values changed".into(), self.other_values_table(), self.counts.values);
        section(document, "renamed, the same elements".into(), self.renamed_table(), self.counts.renamed);
        self.prefix(document);
    }

    /// Shapes, dtypes and so on: one row for each thing that changed.
    fn facts_table(&self) -> Table<'_> {
        let columns = vec![
            Column::left("name").fit(Fit::LineAbove),
            Column::left("what"),
            Column::left("A"),
            Column::left(""),
            Column::left("B"),
        ];
        let mut rows = Vec::new();
        for changed in &self.changed {
            let mut name = shown_name(&changed.name);
            for aspect in changed.what.iter().filter(|aspect| **aspect != Aspect::Values) {
                let [a, b] = [&changed.a, &changed.b].map(|facts| Cell::from(aspect.of(facts)));
                rows.push(vec![Cell::from(name), Cell::new(aspect.name(), Style::Dim), a, ARROW.into(), b]);
                name = "";
            }
        }
        Table { columns, rows }
    }

    fn values_table(&self) -> Table<'_> {
        const FIGURES: &[(&str, Figure)] = &[
            ("max |a-b|", |c| c.numbers.max_abs.map(significant).unwrap_or_default()),
            ("mean |a-b|", |c| c.numbers.mean_abs.map(significant).unwrap_or_default()),
            ("max rel", |c| c.numbers.max_rel.map(significant).unwrap_or_default()),
            ("cosine", |c| c.numbers.cosine.map(cosine).unwrap_or_default()),
            ("differing", Changed::differing),
        ];
        let mut columns = vec![Column::left("name").fit(Fit::LineAbove)];
        columns.extend(FIGURES.iter().map(|(title, _)| Column::right(title)));
        let rows = self.changed.iter().filter(|changed| changed.differs_in_elements()).map(|changed| {
            let mut cells = vec![Cell::from(shown_name(&changed.name))];
            cells.extend(FIGURES.iter().map(|(_, figure)| Cell::from(figure(changed))));
            cells
        });
        Table { columns, rows: rows.collect() }
    }

    fn other_values_table(&self) -> Table<'_> {
        let columns = vec![Column::left("").fit(Fit::LineAbove), Column::left("").fit(Fit::Wrap)];
        let rows = self.values.iter().map(|change| {
            let [a, b] = &change.shown;
            vec![Cell::from(shown_name(&change.name)), Cell::from(format!("{a} {ARROW} {b}"))]
        });
        Table { columns, rows: rows.collect() }
    }

    fn renamed_table(&self) -> Table<'_> {
        let columns = vec![Column::left("").fit(Fit::LineAbove), Column::left("").fit(Fit::LineBelow)];
        let rows = self.renamed.iter().map(|renamed| {
            vec![Cell::from(shown_name(&renamed.a)), Cell::from(format!("{ARROW} {}", shown_name(&renamed.b)))]
        });
        Table { columns, rows: rows.collect() }
    }

    /// What to do about a prefix.
    fn prefix<'a>(&'a self, document: &mut Document<'a>) {
        let Some(found) = &self.strip_prefix else { return };
        document.gap();
        let what = format!("the names in {} have the prefix {:?}", found.file, found.prefix);
        match &found.command {
            Some(command) => {
                document.prose(format!("{what}; to remove it:"));
                document.line(format!("    {command}"));
            }
            None => {
                let message = Message::from(format!("{what}: ")).setting(Setting::StripPrefix);
                document.message(message.text(format!(" {} compares without it", found.prefix)));
            }
        }
    }

    /// All there is in one line.
    fn summary(&self) -> String {
        let data = if self.structure_only { " (data not compared)" } else { "" };
        let mut equal = counted(self.same, "tensor");
        if self.same_values > 0 {
            equal = format!("{equal}, {}", counted(self.same_values, "value"));
        }
        if self.equal {
            return format!("equal: {equal}{data}");
        }
        let counts = &self.counts;
        let mut parts = Vec::new();
        let mut add = |n: u64, text: String| {
            if n > 0 {
                parts.push(text);
            }
        };
        add(counts.only_a, format!("{} only in A", count(counts.only_a)));
        add(counts.only_b, format!("{} only in B", count(counts.only_b)));
        add(counts.changed, format!("{} changed{}", counted(counts.changed, "tensor"), self.largest()));
        add(counts.values, format!("{} changed", counted(counts.values, "other value")));
        add(counts.renamed, format!("{} renamed", counted(counts.renamed, "tensor")));
        let unread = self.problems.len() as u64;
        add(unread, format!("{} could not be compared", count(unread)));
        let verdict = if self.differences() > 0 { "different" } else { "not known to be equal" };
        format!("{verdict}: {}; equal: {equal}{data}", parts.join(", "))
    }

    /// The largest difference of all, for the summary.
    fn largest(&self) -> String {
        let largest = self.changed.iter().filter_map(|changed| changed.numbers.max_abs);
        let larger = |most: f64, x: f64| if most.is_nan() || x.is_nan() { f64::NAN } else { most.max(x) };
        let largest = largest.fold(None, |most: Option<f64>, x| Some(most.map_or(x, |most| larger(most, x))));
        largest.filter(|x| *x != 0.0).map_or(String::new(), |x| format!(" (max |a-b| {})", significant(x)))
    }

    fn load<'a>(&'a self, document: &mut Document<'a>) {
        let keys = |document: &mut Document<'a>, title: &'static str, of: &'a [OneSided], total: u64| {
            if total > 0 {
                document.gap();
                document.line(Cell::new(title, Style::Strong));
                of.iter().for_each(|one| document.line(format!("    \"{}\"", one.name)));
                more(document, total - of.len() as u64);
            }
        };
        keys(document, "Missing key(s) in state_dict:", &self.only_b, self.counts.only_b);
        keys(document, "Unexpected key(s) in state_dict:", &self.only_a, self.counts.only_a);
        if !self.changed.is_empty() || !self.values.is_empty() {
            document.gap();
            for value in &self.values {
                document.prose(format!(
                    "While copying the parameter named \"{}\", expected torch.Tensor or Tensor-like object from checkpoint but \
                     received {}",
                    value.name, value.shown[0]
                ));
            }
            more(document, self.counts.values - self.values.len() as u64);
            for changed in &self.changed {
                let [a, b] = [&changed.a, &changed.b].map(|facts| shape(&facts.shape));
                document.prose(format!(
                    "size mismatch for {}: copying a param with shape torch.Size({a}) from checkpoint, the shape in current \
                     model is torch.Size({b}).",
                    changed.name
                ));
            }
            more(document, self.counts.changed - self.changed.len() as u64);
        }
        self.prefix(document);
    }

    fn load_summary(&self) -> String {
        if self.equal {
            return format!("<All keys matched successfully>, {}", counted(self.same, "tensor"));
        }
        let counts = &self.counts;
        let would = format!("load_state_dict of {} into {} (strict=False)", self.a, self.b);
        let said = format!("{} missing, {} unexpected", count(counts.only_b), count(counts.only_a));
        let loaded = counted(self.same, "tensor");
        match counts.changed + counts.values {
            0 => format!("{would}: {loaded} loaded, {said}"),
            n if counts.values == 0 => {
                format!("{would} fails: {} mismatched in size, {said}, {loaded} alike", count(n))
            }
            n => format!("{would} fails: {} mismatched, {said}, {loaded} alike", count(n)),
        }
    }
}

const ARROW: &str = "->";

/// A title with a table below it; nothing when there are no rows. `total` counts the rows that are not shown too.
fn section<'a>(document: &mut Document<'a>, title: String, table: Table<'a>, total: u64) {
    if table.rows.is_empty() {
        return;
    }
    document.gap();
    document.line(Cell::new(format!("{title}: {}", count(total)), Style::Strong));
    let shown = table.rows.iter().filter(|row| row.first().is_some_and(|cell| !cell.text.is_empty())).count() as u64;
    document.blocks.push(Block::Table(table));
    more(document, total.saturating_sub(shown));
}

fn more(document: &mut Document<'_>, hidden: u64) {
    if hidden > 0 {
        document.line(Cell::new(format!("… {} more", count(hidden)), Style::Dim));
    }
}

/// Cosines are close to 1: more digits than other numbers have.
fn cosine(x: f64) -> String {
    let text = format!("{x:.7}");
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}

impl Changed {
    fn differing(&self) -> String {
        match (self.numbers.differing, self.numbers.total) {
            (Some(n), Some(total)) if n == total => format!("all {}", count(total)),
            (Some(n), Some(total)) => format!("{} of {}", count(n), count(total)),
            _ => "yes".into(),
        }
    }
}

impl Aspect {
    fn name(self) -> &'static str {
        match self {
            Aspect::Shape => "shape",
            Aspect::Dtype => "dtype",
            Aspect::Device => "device",
            Aspect::RequiresGrad => "requires_grad",
            Aspect::Layout => "layout",
            Aspect::Quantizer => "quantizer",
            Aspect::Values => "values",
        }
    }

    /// What one side says about it.
    fn of(self, facts: &Facts) -> String {
        let python = |value: bool| if value { "True" } else { "False" };
        match self {
            Aspect::Shape => shape(&facts.shape),
            Aspect::Dtype => facts.dtype.clone(),
            Aspect::Device => facts.device.clone().unwrap_or_default(),
            Aspect::RequiresGrad => facts.requires_grad.map(python).unwrap_or_default().to_owned(),
            Aspect::Layout => facts.layout.to_owned(),
            Aspect::Quantizer => facts.quantizer.clone().unwrap_or_else(|| "none".into()),
            Aspect::Values => String::new(),
        }
    }
}
