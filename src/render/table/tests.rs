use super::*;
use crate::message::fields;
use crate::render::{Column, Document};

struct Fixed(fn() -> Document<'static>);

impl Report for Fixed {
    fn document(&self) -> Document<'_> {
        (self.0)()
    }

    fn write_json(&self, _: &mut dyn Write) -> io::Result<()> {
        Ok(())
    }
}

fn draw(document: fn() -> Document<'static>, width: Option<usize>, color: bool) -> String {
    let mut out = Vec::new();
    Text { width, color, voice: fields }.render(&Fixed(document), &mut out).unwrap();
    String::from_utf8(out).unwrap()
}

fn one_table(columns: Vec<Column>, rows: &[&[&'static str]]) -> Document<'static> {
    let rows = rows.iter().map(|row| row.iter().map(|text| Cell::from(*text)).collect()).collect();
    let mut document = Document::default();
    document.table(Table { columns, rows });
    document
}

fn named() -> Document<'static> {
    one_table(
        vec![
            Column::left("name").fit(Fit::LineAbove),
            Column::right("size"),
            Column::left("digest").fit(Fit::Shorten(4)),
            Column::left("remarks").fit(Fit::LineBelow),
        ],
        &[
            &["a", "1 B", "0123456789", ""],
            &["a.name.of.some.forty.columns.in.all.here", "10 B", "abcdefghij", "odd"],
            &["b", "2 B", "", "a remark that does not fit"],
        ],
    )
}

#[test]
fn a_pipe_gets_one_line_a_row() {
    assert_eq!(
        draw(named, None, false),
        "\
name                                      size  digest      remarks
a                                          1 B  0123456789
a.name.of.some.forty.columns.in.all.here  10 B  abcdefghij  odd
b                                          2 B              a remark that does not fit
"
    );
}

#[test]
fn a_terminal_gets_long_cells_on_their_own_lines() {
    assert_eq!(
        draw(named, Some(46), false),
        "\
name  size  digest  remarks
a      1 B  0123
a.name.of.some.forty.columns.in.all.here
      10 B  abcd    odd
b      2 B          a remark that does not fit
"
    );
    assert_eq!(
        draw(named, Some(45), false),
        "\
name  size  digest  remarks
a      1 B  0123
a.name.of.some.forty.columns.in.all.here
      10 B  abcd    odd
b      2 B
    a remark that does not fit
"
    );
}

#[test]
fn columns_that_do_not_fit_go_to_a_further_line() {
    let document = || {
        one_table(
            vec![
                Column::left("name").fit(Fit::LineAbove),
                Column::left("shape"),
                Column { breaks: true, ..Column::right("min") },
                Column::right("max"),
            ],
            &[&["weight", "[4, 3, 3, 3]", "-0.5", "0.25"], &["bias", "[4]", "-11", "1"]],
        )
    };
    assert_eq!(
        draw(document, Some(32), false),
        "\
name    shape          min   max
weight  [4, 3, 3, 3]  -0.5  0.25
bias    [4]            -11     1
"
    );
    assert_eq!(
        draw(document, Some(31), false),
        "\
name    shape
     min   max
weight  [4, 3, 3, 3]
    -0.5  0.25
bias    [4]
     -11     1
"
    );
}

#[test]
fn rows_in_colour_are_wrapped_as_well() {
    let document = || {
        let finding = Cell::from("two of the nine tensors are whole, the others are not");
        let mut document = Document::default();
        document.table(Table {
            columns: vec![Column::left("severity"), Column::left("finding").fit(Fit::Wrap)],
            rows: vec![vec![Cell::new("error", Style::Bad), finding]],
        });
        document
    };
    let drawn = draw(document, Some(40), true).replace("\x1b[31m", "").replace("\x1b[0m", "");
    let rows = drawn.split_once('\n').unwrap().1;
    assert_eq!(
        rows,
        "\
error     two of the nine tensors are
          whole, the others are not
"
    );
    assert_eq!(draw(document, Some(40), false).split_once('\n').unwrap().1, rows);
}

#[test]
fn long_texts_are_wrapped_at_a_terminal_only() {
    let document = || {
        one_table(
            vec![Column::left("name").fit(Fit::LineAbove), Column::left("value").fit(Fit::Wrap)],
            &[&["args", "Namespace(arch='resnet20', epochs=200, lr=0.1)"], &["a.long.name.of.31.columns.......", "3"]],
        )
    };
    assert_eq!(
        draw(document, Some(40), false),
        "\
name  value
args  Namespace(arch='resnet20',
      epochs=200, lr=0.1)
a.long.name.of.31.columns.......
      3
"
    );
    assert_eq!(
        draw(document, None, false),
        "\
name                              value
args                              Namespace(arch='resnet20', epochs=200, lr=0.1)
a.long.name.of.31.columns.......  3
"
    );
}

#[test]
fn a_monster_does_not_widen_its_column() {
    let text: &'static str = Box::leak("x".repeat(70_000).into_boxed_str());
    let document = move || {
        let columns = vec![Column::left("name").fit(Fit::LineAbove), Column::right("size")];
        let rows = [("short", "1 B"), (text, "22 B")];
        let rows = rows.map(|(name, size)| vec![Cell::from(name), Cell::from(size)]).into();
        let mut document = Document::default();
        document.table(Table { columns, rows });
        document
    };
    let mut out = Vec::new();
    struct Owned<F>(F);
    impl<F: Fn() -> Document<'static>> Report for Owned<F> {
        fn document(&self) -> Document<'_> {
            (self.0)()
        }
        fn write_json(&self, _: &mut dyn Write) -> io::Result<()> {
            Ok(())
        }
    }
    Text { width: None, color: false, voice: fields }.render(&Owned(document), &mut out).unwrap();
    let shown = String::from_utf8(out).unwrap();
    assert_eq!(shown, format!("name   size\nshort   1 B\n{text}  22 B\n"));
}

#[test]
fn cells_and_lines_are_escaped_and_measured_as_shown() {
    let document = || {
        let mut document =
            one_table(vec![Column::left(""), Column::left("")], &[&["a\x1b[2Jb", "x"], &["模型", "y"], &["\n", "z\n"]]);
        document.line("evil\r\u{202e}");
        document.prose("two\nlines");
        document
    };
    assert_eq!(
        draw(document, None, false),
        "\
a\\x1b[2Jb  x
模型       y
\\n         z\\n
evil\\r\\u{202e}
two\\nlines
"
    );
}

#[test]
fn columns_without_text_are_left_out_and_so_are_empty_tables() {
    let document = || one_table(vec![Column::left("a"), Column::left("b"), Column::left("c")], &[&["1", "", "3"]]);
    assert_eq!(draw(document, Some(80), false), "a  c\n1  3\n");
    assert_eq!(draw(|| one_table(vec![Column::left("a")], &[]), None, false), "");
}

#[test]
fn style_only_when_asked_and_never_on_blanks() {
    let document = || {
        let mut document = Document::default();
        let row = |name: &'static str, style| vec![Cell::new(name, style), Cell::from("1")];
        let rows = vec![row("dim", Style::Dim), row("broken", Style::Bad)];
        document.table(Table { columns: vec![Column::left("name"), Column::right("n")], rows });
        document.prose(Cell::new("sum", Style::Good));
        document
    };
    assert_eq!(draw(document, None, false), "name    n\ndim     1\nbroken  1\nsum\n");
    assert_eq!(
        draw(document, None, true),
        "\x1b[1mname\x1b[0m    \x1b[1mn\x1b[0m\n\x1b[2mdim\x1b[0m     1\n\x1b[31mbroken\x1b[0m  1\n\x1b[32msum\x1b[0m\n"
    );
}

#[test]
fn sentences_wrap_at_blanks() {
    let document = || {
        let mut document = Document::default();
        document.prose("one two three four");
        document
    };
    assert_eq!(draw(document, Some(13), false), "one two three\n    four\n");
    assert_eq!(draw(document, None, false), "one two three four\n");
}

#[test]
fn a_number_keeps_its_unit() {
    assert_eq!(wrap("a file of 2.17 MiB, whole", 14, 0), ["a file of", "2.17 MiB,", "whole"]);
    assert_eq!(
        wrap("(storages 44 B on disk) in B major", 12, 2),
        ["(storages", "  44 B on", "  disk) in B", "  major"]
    );
    assert_eq!(wrap("", 5, 0), [""]);
}
