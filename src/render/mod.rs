//! Reports to text. A renderer takes finished data and writes it; it knows [`Document`]s, never commands.

pub mod escape;
pub(crate) mod json;
#[cfg(feature = "cli")]
pub(crate) mod table;
pub(crate) mod tensor_print;

use std::borrow::Cow;
use std::io::{self, Write};

use crate::message::Message;

/// What a command found: it can be laid out for people and written for programs.
pub(crate) trait Report {
    /// The layout for people.
    fn document(&self) -> Document<'_>;

    /// Writes one compact JSON value, without a newline. Types with serde's `Serialize` pass on [`json::write`].
    fn write_json(&self, out: &mut dyn Write) -> io::Result<()>;
}

/// One way to write reports; a new output format is one more of these.
pub(crate) trait Renderer {
    /// Writes `report` whole, in many small writes: give it a buffered `out`, and flush that.
    fn render(&self, report: &dyn Report, out: &mut dyn Write) -> io::Result<()>;
}

/// Blocks from top to bottom. Texts are raw: the renderer escapes what is hostile.
#[derive(Debug, Default)]
pub(crate) struct Document<'a> {
    /// From top to bottom.
    pub blocks: Vec<Block<'a>>,
}

/// One part of a document.
#[derive(Debug)]
pub(crate) enum Block<'a> {
    /// A line as it is, however long.
    Line(Cell<'a>),
    /// A sentence, wrapped at blanks where the width is known.
    Prose(Cell<'a>),
    /// A sentence that names settings: the renderer knows what its readers call them.
    Message(Message),
    /// Columns and rows; nothing at all when there are no rows.
    Table(Table<'a>),
    /// An empty line.
    Gap,
}

/// Rows under common columns.
#[derive(Debug, Default)]
pub(crate) struct Table<'a> {
    /// From left to right.
    pub columns: Vec<Column>,
    /// Each with as many cells as there are columns.
    pub rows: Vec<Vec<Cell<'a>>>,
}

/// One column of a [`Table`].
#[derive(Debug, Clone, Default)]
pub(crate) struct Column {
    /// Its title; a table whose titles are all empty has no header line.
    pub title: &'static str,
    /// On which side the blanks go.
    pub align: Align,
    /// What may happen to cells that do not fit a terminal. Into a pipe they always stay as they are.
    pub fit: Fit,
    /// When not all columns fit a terminal, this one begins a further line of each row.
    pub breaks: bool,
}

/// On which side of its column a cell stands.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Align {
    /// Text.
    #[default]
    Left,
    /// Numbers.
    Right,
}

/// How a column gives way when a row is wider than the terminal.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Fit {
    /// Not at all; such columns move to a further line of each row when there are too many.
    #[default]
    Whole,
    /// Names, in the first column: a cell that does not fit gets a line of its own, uncut, above the rest of its row.
    LineAbove,
    /// Remarks, in the last column: a cell that does not fit gets a line of its own, uncut, below.
    LineBelow,
    /// Trees, in the last column: a cell that does not fit goes over the edge, uncut.
    Over,
    /// Long texts, in the last column: wrapped inside the column.
    Wrap,
    /// Digests: only so many characters are shown when the table is too wide.
    Shorten(usize),
}

/// A text with a style.
#[derive(Debug, Clone, Default)]
pub(crate) struct Cell<'a> {
    /// Raw text of any origin.
    pub text: Cow<'a, str>,
    /// How it looks in colour.
    pub style: Style,
}

/// What a text is, for output in colour.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Style {
    /// Nothing special.
    #[default]
    Plain,
    /// Titles.
    Strong,
    /// What may be skipped when reading.
    Dim,
    /// What is wrong.
    Bad,
    /// What is new or right.
    Good,
}

impl<'a> Cell<'a> {
    /// A text in a style.
    pub(crate) fn new(text: impl Into<Cow<'a, str>>, style: Style) -> Self {
        Cell { text: text.into(), style }
    }
}

impl<'a, T: Into<Cow<'a, str>>> From<T> for Cell<'a> {
    fn from(text: T) -> Self {
        Cell::new(text, Style::Plain)
    }
}

impl Column {
    /// A column of text that never gives way.
    pub(crate) fn left(title: &'static str) -> Self {
        Column { title, ..Column::default() }
    }

    /// A column of numbers.
    pub(crate) fn right(title: &'static str) -> Self {
        Column { title, align: Align::Right, ..Column::default() }
    }

    /// The same column, giving way as said.
    #[must_use]
    pub(crate) fn fit(mut self, fit: Fit) -> Self {
        self.fit = fit;
        self
    }
}

impl<'a> Document<'a> {
    /// Adds a line that is never wrapped.
    pub(crate) fn line(&mut self, cell: impl Into<Cell<'a>>) {
        self.blocks.push(Block::Line(cell.into()));
    }

    /// Adds a sentence.
    pub(crate) fn prose(&mut self, cell: impl Into<Cell<'a>>) {
        self.blocks.push(Block::Prose(cell.into()));
    }

    /// Adds a sentence that names settings.
    pub(crate) fn message(&mut self, message: Message) {
        self.blocks.push(Block::Message(message));
    }

    /// Adds a table, with a gap above it when something stands there; nothing when it has no rows.
    pub(crate) fn table(&mut self, table: Table<'a>) {
        if !table.rows.is_empty() {
            self.gap();
            self.blocks.push(Block::Table(table));
        }
    }

    /// Adds an empty line, except at the top.
    pub(crate) fn gap(&mut self) {
        if !self.blocks.is_empty() {
            self.blocks.push(Block::Gap);
        }
    }
}
