//! Documents as text for people. comfy-table draws the rows; which columns share a line of a row, and what gets a line
//! of its own, is planned here, because names are never cut or broken.
//!
//! All columns of a table are measured once, then rows are drawn in small batches of the same widths: comfy-table keeps
//! several copies of what it draws.

use std::borrow::Cow;
use std::io::{self, Write};

use comfy_table::{Attribute, CellAlignment, ColumnConstraint, TableStyle, Width};
use unicode_width::UnicodeWidthStr;

use super::escape::escape;
use super::{Align, Block, Cell, Column, Fit, Renderer, Report, Style, Table};
use crate::message::Voice;

/// Writes reports for people.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Text {
    /// Columns of the terminal; `None` into a pipe or a file, where each row stays on one line whatever its width.
    pub width: Option<usize>,
    /// With terminal escapes for style.
    pub color: bool,
    /// How its readers call settings.
    pub voice: Voice,
}

// blanks between columns
const GAP: usize = 2;
// how far lines that continue a row stand in
const INDENT: usize = 4;
// what must be left for names before other columns move to a further line
const MIN_NAME: usize = 24;
// what must be left for a wrapped column before it moves to a further line
const MIN_WRAP: usize = 30;
// into a pipe, a wider cell does not widen its column
const MAX_PIPE_COLUMN: usize = 400;
// rows that comfy-table draws at once
const BATCH: usize = 256;

impl Renderer for Text {
    fn render(&self, report: &dyn Report, out: &mut dyn Write) -> io::Result<()> {
        for block in report.document().blocks {
            match block {
                Block::Gap => writeln!(out)?,
                Block::Line(cell) => writeln!(out, "{}", self.styled(&escape(&cell.text), cell.style))?,
                Block::Prose(cell) => self.prose(&cell, out)?,
                Block::Message(message) => self.prose(&message.spoken(self.voice).into(), out)?,
                Block::Table(table) => self.table(&table, out)?,
            }
        }
        Ok(())
    }
}

impl Text {
    fn styled<'a>(&self, text: &'a str, style: Style) -> Cow<'a, str> {
        let code = match style {
            Style::Plain => return Cow::Borrowed(text),
            Style::Strong => 1,
            Style::Dim => 2,
            Style::Bad => 31,
            Style::Good => 32,
        };
        if self.color && !text.is_empty() { format!("\x1b[{code}m{text}\x1b[0m").into() } else { text.into() }
    }

    fn prose(&self, cell: &Cell<'_>, out: &mut dyn Write) -> io::Result<()> {
        for line in wrap(&escape(&cell.text), self.width.unwrap_or(usize::MAX), INDENT) {
            writeln!(out, "{}", self.styled(&line, cell.style))?;
        }
        Ok(())
    }

    fn table(&self, table: &Table<'_>, out: &mut dyn Write) -> io::Result<()> {
        let titles: Vec<_> = table.columns.iter().map(|column| Cell::new(column.title, Style::Strong)).collect();
        let plan = Grid::new(table, self.width);
        let mut pen = Pen { text: *self, plan: &plan, out, lane: 0, batch: Vec::new() };
        if titles.iter().any(|title| !title.text.is_empty()) {
            pen.row(&titles, true)?;
        }
        for row in &table.rows {
            pen.row(row, false)?;
        }
        pen.flush()
    }
}

/// One column as it will be drawn.
struct Slot {
    index: usize,
    title_width: usize,
    width: usize,
    align: Align,
    fit: Fit,
    breaks: bool,
    shorten: Option<usize>,
}

impl Slot {
    fn text<'a>(&self, row: &'a [Cell<'_>]) -> Cow<'a, str> {
        let text = self.whole_text(row);
        match self.shorten.and_then(|most| text.char_indices().nth(most)) {
            Some((end, _)) => Cow::Owned(text.chars().take(end).collect()),
            None => text,
        }
    }

    fn whole_text<'a>(&self, row: &'a [Cell<'_>]) -> Cow<'a, str> {
        row.get(self.index).map_or(Cow::Borrowed(""), |cell| escape(&cell.text))
    }

    // the widest cell of the column that is not wider than `limit`
    fn widest(&self, rows: &[Vec<Cell<'_>>], limit: usize) -> usize {
        rows.iter().map(|row| self.text(row).width()).filter(|width| *width <= limit).max().unwrap_or(0)
    }

    fn style(&self, row: &[Cell<'_>]) -> Style {
        row.get(self.index).map_or(Style::Plain, |cell| cell.style)
    }
}

/// Columns that share one line of each row.
struct Lane {
    indent: usize,
    slots: Vec<Slot>,
}

impl Lane {
    fn used(&self) -> usize {
        self.indent + self.slots.iter().map(|slot| slot.width + GAP).sum::<usize>()
    }

    // the first column becomes as wide as its widest cell that fits beside the others
    fn shrink_names(&mut self, width: usize, table: &Table<'_>) {
        let used = self.used().saturating_sub(GAP);
        if let Some(slot) = self.slots.first_mut().filter(|slot| used > width && slot.fit == Fit::LineAbove) {
            let room = slot.width.saturating_sub(used - width);
            slot.width = slot.widest(&table.rows, room).max(slot.title_width);
        }
    }
}

/// How the rows of one table are laid out.
struct Grid {
    lanes: Vec<Lane>,
    width: Option<usize>,
}

impl Grid {
    /// Measures every cell. Columns without any text are left out.
    fn new(table: &Table<'_>, width: Option<usize>) -> Self {
        let mut slots = Vec::new();
        for (index, column) in table.columns.iter().enumerate() {
            let &Column { title, align, fit, breaks } = column;
            let mut slot = Slot { index, title_width: title.width(), width: 0, align, fit, breaks, shorten: None };
            let limit = match width {
                None => MAX_PIPE_COLUMN,
                Some(_) if matches!(fit, Fit::Wrap | Fit::Shorten(_)) => usize::MAX,
                Some(width) => width,
            };
            slot.width = slot.widest(&table.rows, limit);
            if slot.width > 0 || table.rows.iter().any(|row| !slot.text(row).is_empty()) {
                slot.width = slot.width.max(slot.title_width).max(1);
                slots.push(slot);
            }
        }
        let mut plan = Grid { lanes: Vec::new(), width };
        match width {
            None => plan.lanes.push(Lane { indent: 0, slots }),
            Some(width) => plan.fold(slots, width, table),
        }
        plan
    }

    fn fold(&mut self, mut slots: Vec<Slot>, width: usize, table: &Table<'_>) {
        let last = slots.pop_if(|slot| matches!(slot.fit, Fit::LineBelow | Fit::Over | Fit::Wrap));
        let total = |slots: &[Slot]| slots.iter().map(|slot| slot.width + GAP).sum::<usize>();
        if total(&slots) > width + GAP {
            for slot in &mut slots {
                if let Fit::Shorten(most) = slot.fit {
                    slot.shorten = Some(most);
                    slot.width = slot.width.min(most).max(slot.title_width);
                }
            }
        }
        let spare = |slot: &Slot| if slot.fit == Fit::LineAbove { slot.width.saturating_sub(MIN_NAME) } else { 0 };
        let mut spared = slots.first().map_or(0, spare);
        let folds = total(&slots) > width + GAP + spared;
        let mut lane = Lane { indent: 0, slots: Vec::new() };
        for slot in slots {
            let is_full = folds && slot.breaks || lane.used() + slot.width > width + spared;
            if is_full && !lane.slots.is_empty() {
                lane.shrink_names(width, table);
                self.lanes.push(std::mem::replace(&mut lane, Lane { indent: INDENT, slots: Vec::new() }));
                spared = 0;
            }
            lane.slots.push(slot);
        }
        // names come first: what is left after them decides which remarks stay in the row; but values want some room
        let wanted =
            last.as_ref().filter(|slot| slot.fit == Fit::Wrap).map_or(0, |slot| slot.width.min(MIN_WRAP) + GAP);
        lane.shrink_names(width.saturating_sub(wanted), table);
        if let Some(mut slot) = last {
            if lane.used() + wanted > width + GAP {
                self.lanes.push(std::mem::replace(&mut lane, Lane { indent: INDENT, slots: Vec::new() }));
            }
            let room = width.saturating_sub(lane.used());
            slot.width = match slot.fit {
                Fit::Wrap => slot.width.min(room).max(1),
                _ => slot.widest(&table.rows, room).max(slot.title_width.min(room)),
            };
            lane.slots.push(slot);
        }
        self.lanes.push(lane);
    }
}

/// Draws rows as planned.
struct Pen<'a> {
    text: Text,
    plan: &'a Grid,
    out: &'a mut dyn Write,
    // of the batch
    lane: usize,
    batch: Vec<Vec<comfy_table::Cell>>,
}

impl Pen<'_> {
    fn row(&mut self, row: &[Cell<'_>], is_title: bool) -> io::Result<()> {
        let plan = self.plan;
        for (number, lane) in plan.lanes.iter().enumerate() {
            let text = |slot: &Slot| if is_title { slot.whole_text(row) } else { slot.text(row) };
            let mut texts: Vec<_> = lane.slots.iter().map(|slot| (slot, text(slot), slot.style(row))).collect();
            let mut below = None;
            for (slot, text, style) in &mut texts {
                if plan.width.is_none() || text.width() <= slot.width {
                    continue;
                }
                match slot.fit {
                    Fit::LineAbove => {
                        let line = std::mem::take(text);
                        self.flush()?;
                        writeln!(self.out, "{}", self.text.styled(&line, *style))?;
                    }
                    Fit::LineBelow => below = Some((std::mem::take(text), *style)),
                    _ => {}
                }
            }
            let may_wrap = |slot: &Slot| slot.fit == Fit::Wrap && plan.width.is_some();
            if texts.iter().all(|(_, text, _)| text.is_empty()) {
                // nothing is left for this line
            } else if texts.iter().any(|(slot, text, style)| {
                // comfy-table's colours heed NO_COLOR even when colour was asked for
                let is_colourful = self.text.color && matches!(style, Style::Bad | Style::Good);
                !may_wrap(slot) && (text.width() > slot.width || is_colourful)
            }) {
                self.flush()?;
                self.row_by_hand(lane, &texts)?;
            } else {
                if self.lane != number || self.batch.len() >= BATCH {
                    self.flush()?;
                }
                self.lane = number;
                self.batch.push(texts.into_iter().map(|(slot, text, style)| self.cell(slot, text, style)).collect());
            }
            if let Some((line, style)) = below.filter(|_| !is_title) {
                self.flush()?;
                writeln!(self.out, "{:INDENT$}{}", "", self.text.styled(&line, style))?;
            }
        }
        Ok(())
    }

    // a row as comfy-table would draw it, but a cell wider than its column stays whole, unless it may wrap: what follows
    // moves to the right
    fn row_by_hand(&mut self, lane: &Lane, texts: &[(&Slot, Cow<'_, str>, Style)]) -> io::Result<()> {
        let mut line = " ".repeat(lane.indent);
        let mut owed = 0;
        let mut further = Vec::new();
        for (slot, text, style) in texts {
            let mut text = Cow::Borrowed(text.as_ref());
            if slot.fit == Fit::Wrap && self.plan.width.is_some() && text.width() > slot.width {
                let mut lines = wrap(&text, slot.width, 0).into_iter();
                text = Cow::Owned(lines.next().unwrap_or_default());
                further = lines.map(|text| (lane.used() - slot.width - GAP, text, *style)).collect();
            }
            let pad = slot.width.saturating_sub(text.width());
            let before = if slot.align == Align::Right { pad } else { 0 };
            if !text.is_empty() {
                line.extend(std::iter::repeat_n(' ', owed + before));
                line.push_str(&self.text.styled(&text, *style));
                owed = 0;
            }
            owed += GAP + if text.is_empty() { pad } else { pad - before };
        }
        writeln!(self.out, "{line}")?;
        for (indent, text, style) in further {
            writeln!(self.out, "{:indent$}{}", "", self.text.styled(&text, style))?;
        }
        Ok(())
    }

    fn cell(&self, slot: &Slot, text: Cow<'_, str>, style: Style) -> comfy_table::Cell {
        let is_empty = text.is_empty();
        let mut cell = comfy_table::Cell::new_owned(text.into_owned());
        if slot.align == Align::Right {
            cell = cell.set_alignment(CellAlignment::Right);
        }
        match style {
            _ if is_empty || !self.text.color => cell,
            Style::Strong => cell.add_attribute(Attribute::Bold),
            Style::Dim => cell.add_attribute(Attribute::Dim),
            Style::Plain | Style::Bad | Style::Good => cell,
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        let Some(lane) = self.plan.lanes.get(self.lane).filter(|_| !self.batch.is_empty()) else { return Ok(()) };
        let mut table = comfy_table::Table::new();
        table.load_style(TableStyle::new()).force_no_tty().add_rows(self.batch.drain(..));
        if self.text.color {
            table.enforce_styling().style_text_only();
        }
        for (number, (column, slot)) in table.column_iter_mut().zip(&lane.slots).enumerate() {
            let padding = (if number == 0 { lane.indent } else { 0 }, GAP);
            let narrow = |n: usize| u16::try_from(n).unwrap_or(u16::MAX);
            column.set_padding((narrow(padding.0), narrow(padding.1)));
            let width = Width::Fixed(narrow(slot.width + padding.0 + padding.1));
            column.set_constraint(ColumnConstraint::Absolute(width));
        }
        for line in table.lines() {
            writeln!(self.out, "{}", line.trim_end_matches(' '))?;
        }
        Ok(())
    }
}

/// Units of sizes, which stay on the line of their number.
const UNITS: &[&str] = &["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];

/// What stands between blanks, a number and its unit as one.
fn words(text: &str) -> Vec<&str> {
    let mut words: Vec<(usize, usize)> = Vec::new();
    let mut at = 0;
    for word in text.split(' ') {
        let end = at + word.len();
        let is_unit = UNITS.contains(&word.trim_end_matches([',', ';', ':', '.', ')']));
        let follows_number = at > 0 && text.as_bytes().get(at.wrapping_sub(2)).is_some_and(u8::is_ascii_digit);
        match words.last_mut().filter(|_| is_unit && follows_number) {
            Some(last) => last.1 = end,
            None => words.push((at, end)),
        }
        at = end + 1;
    }
    words.into_iter().filter_map(|(from, to)| text.get(from..to)).collect()
}

// at blanks only; what follows the first line stands in by `indent`
fn wrap(text: &str, width: usize, indent: usize) -> Vec<String> {
    let mut lines = Vec::new();
    let mut line = String::new();
    for word in words(text) {
        if !line.is_empty() && line.width() + 1 + word.width() > width {
            lines.push(std::mem::replace(&mut line, " ".repeat(indent)));
        } else if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(word);
    }
    lines.push(line);
    lines
}

#[cfg(test)]
mod tests;
