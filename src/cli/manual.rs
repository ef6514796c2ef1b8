//! The prose of the manual: what `--help` and the man pages say beyond the options. One text file a command, in sections
//! that begin with `# Title`: lines of a paragraph are one line, indented lines stay as they are.

use std::io::{self, Write};

use clap::Command;
use clap_mangen::Man;
use clap_mangen::roff::{Roff, roman};

use crate::options::input::default_limit;

const PAGES: &[(&str, &str)] = &[
    ("ckpt", include_str!("manual/ckpt.txt")),
    ("ls", include_str!("manual/ls.txt")),
    ("strip-prefix", include_str!("manual/strip-prefix.txt")),
    ("rename", include_str!("manual/rename.txt")),
    ("edit", include_str!("manual/edit.txt")),
    ("repair", include_str!("manual/repair.txt")),
    ("convert", include_str!("manual/convert.txt")),
    ("merge", include_str!("manual/merge.txt")),
    ("average", include_str!("manual/average.txt")),
    ("diff", include_str!("manual/diff.txt")),
    ("digest", include_str!("manual/digest.txt")),
    ("extract", include_str!("manual/extract.txt")),
    ("check", include_str!("manual/check.txt")),
    ("schema", include_str!("manual/schema.txt")),
    ("completions", include_str!("manual/completions.txt")),
    ("man", include_str!("manual/man.txt")),
];

/// What every `--help` and every man page has.
const EXIT_STATUS: &str = "  0  success: done, or the answer is yes
  1  the answer is no: files differ (diff, digest --check), problems found (check),
     nothing to rename (strip-prefix, rename), nothing to repair (repair)
  2  error: bad usage, an input that cannot be opened or understood, something
     named that is not there, refused, disk full";

/// The day of the latest release, from the first heading of the changelog that has one.
const RELEASED: [u8; 10] = first_date(include_bytes!("../../CHANGELOG.md"));

const fn first_date(mut text: &[u8]) -> [u8; 10] {
    let mut is_heading = false;
    while let [first, rest @ ..] = text {
        if let [b'\n', b'#', b'#', b' ', ..] = text {
            is_heading = true;
        } else if *first == b'\n' {
            is_heading = false;
        }
        if let [a, b, c, d, b'-', e, f, b'-', g, h, ..] = text
            && is_heading
            && a.is_ascii_digit()
            && h.is_ascii_digit()
        {
            return [*a, *b, *c, *d, b'-', *e, *f, b'-', *g, *h];
        }
        text = rest;
    }
    *b"unreleased"
}

/// A section of a command's page; empty where it has none.
fn section(command: &str, title: &str) -> &'static str {
    let text = PAGES.iter().find(|(name, _)| *name == command).map_or("", |(_, text)| text);
    let mut sections = text.split("# ").filter_map(|section| section.split_once('\n'));
    sections.find(|(name, _)| *name == title).map_or("", |(_, body)| body.trim_end())
}

/// The first example of a command.
pub(super) fn first_example(command: &str) -> &'static str {
    section(command, "Examples").lines().next().unwrap_or_default().trim()
}

/// A command with its prose, and the defaults that clap does not know.
pub(super) fn with_prose(command: Command) -> Command {
    let name = command.get_name().to_owned();
    let more = match name.as_str() {
        "ckpt" => {
            "Options, examples and exit statuses of a command: `ckpt help COMMAND` or `ckpt COMMAND --help`".to_owned()
        }
        name => format!("Defaults, examples and exit statuses: `ckpt {name} --help`"),
    };
    let notes = section(&name, "Notes");
    let notes = if notes.is_empty() { String::new() } else { format!("{notes}\n\n") };
    let examples = section(&name, "Examples");
    let command = command.mut_args(|option| match (default_limit(option.get_id().as_str()), option.get_help()) {
        (Some(default), Some(help)) => {
            let help = help.to_string();
            option.long_help(format!("{help}\n\n[default: {default}]"))
        }
        _ => option,
    });
    command.after_help(more).after_long_help(format!("{notes}Examples:\n{examples}\n\nExit status:\n{EXIT_STATUS}"))
}

/// All man pages of a command line: file name and text.
pub(super) fn pages(mut command: Command) -> io::Result<Vec<(String, Vec<u8>)>> {
    command.build();
    let commands = command.get_subcommands().cloned();
    std::iter::once(command.clone()).chain(commands).map(page).collect()
}

fn page(command: Command) -> io::Result<(String, Vec<u8>)> {
    let name = command.get_name().to_owned();
    let is_main = name == "ckpt";
    let title = if is_main { name.clone() } else { format!("ckpt-{name}") };
    let mut text = Vec::new();
    let man = Man::new(command.display_name(title.clone()))
        .title(title.to_uppercase())
        .date(String::from_utf8_lossy(&RELEASED))
        .source(concat!("ckpt ", env!("CARGO_PKG_VERSION")))
        .manual("ckpt manual");
    man.render_title(&mut text)?;
    man.render_name_section(&mut text)?;
    man.render_synopsis_section(&mut text)?;
    man.render_description_section(&mut text)?;
    write_prose(section(&name, "Notes"), &mut text)?;
    let mut options = Vec::new();
    man.render_options_section(&mut options)?;
    // groups of options are parts of one section
    let options =
        String::from_utf8_lossy(&options).replace("\n.SH ", "\n.SS ").replace("\n.SS OPTIONS", "\n.SH OPTIONS");
    text.write_all(options.as_bytes())?;
    if is_main {
        man.render_subcommands_section(&mut text)?;
    }
    let see_also = see_also(&name);
    for (title, body) in [
        ("EXIT STATUS", EXIT_STATUS),
        ("EXAMPLES", section(&name, "Examples")),
        ("FILES", section(&name, "Files")),
        ("ENVIRONMENT", section(&name, "Environment")),
        ("SEE ALSO", &see_also),
    ] {
        if !body.is_empty() {
            Roff::new().control("SH", [title]).to_writer(&mut text)?;
            write_prose(body, &mut text)?;
        }
    }
    Ok((format!("{title}.1"), text))
}

/// The pages that a page leads to: a bare word is a command of ours, or as it stands where it has none.
fn see_also(command: &str) -> String {
    let is_ours = |word: &str| PAGES.iter().any(|(name, _)| *name == word);
    let words = section(command, "See also").split(", ");
    let pages = words.map(|word| if is_ours(word) { format!("ckpt-{word}(1)") } else { word.to_owned() });
    let main = (command != "ckpt").then(|| "ckpt(1)".to_owned());
    main.into_iter().chain(pages).collect::<Vec<_>>().join(", ")
}

/// Paragraphs as roff: those that are indented keep their lines.
fn write_prose(text: &str, out: &mut Vec<u8>) -> io::Result<()> {
    for paragraph in text.split("\n\n").filter(|paragraph| !paragraph.is_empty()) {
        let mut roff = Roff::new();
        roff.control("PP", []);
        let is_verbatim = paragraph.starts_with(' ');
        if is_verbatim {
            roff.control("RS", ["4"]).control("nf", []);
        }
        for line in paragraph.lines() {
            roff.text([roman(line.strip_prefix("  ").unwrap_or(line))]);
        }
        if is_verbatim {
            roff.control("fi", []).control("RE", []);
        }
        roff.to_writer(out)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_date_is_that_of_the_first_release() {
        assert_eq!(
            &first_date(
                b"# Changelog\n\n## Unreleased\n2020-01-01\n\n## 0.2.0 - 2026-11-27\n\n## 0.1.0 - 2026-11-01\n"
            ),
            b"2026-11-27"
        );
        assert_eq!(&first_date(b"# Changelog\n\n## Unreleased\n"), b"unreleased");
    }

    #[test]
    fn every_command_has_a_page_and_every_page_a_command() {
        let command = crate::cli::command();
        let mut commands: Vec<&str> = command.get_subcommands().map(Command::get_name).collect();
        commands.insert(0, "ckpt");
        let mut pages: Vec<&str> = PAGES.iter().map(|(name, _)| *name).collect();
        commands.sort_unstable();
        pages.sort_unstable();
        assert_eq!(commands, pages);
        for name in commands {
            for title in ["Examples", "Files", "See also"] {
                assert!(!section(name, title).is_empty(), "{name}: {title}");
            }
        }
    }
}
