//! The rooms of `src/` and what each may touch, as `src/lib.rs` has it: held by reading the sources.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // helpers of tests are tests

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// From top to bottom: a room uses those below it, never one above or beside it.
const ROOMS: &[&str] = &[
    "main",
    "cli",
    "commands",
    "operations",
    "report",
    "write",
    "render",
    "safety",
    "layout",
    "checkpoint",
    "data",
    "container",
    "pickle",
    "dtype",
    "source",
    "progress",
    "limits",
    "error",
    "message",
];
/// Rooms that may name flags and use what only the program needs.
const OF_THE_PROGRAM: &[&str] = &["main", "cli", "commands"];
/// What only the program needs.
const PROGRAM_CRATES: &[&str] =
    &["anyhow", "clap", "clap_complete", "clap_mangen", "comfy_table", "indicatif", "terminal_size"];

/// Each source file with its text, without comments and without what only its tests hold.
fn sources() -> BTreeMap<PathBuf, String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found = BTreeMap::new();
    let mut open = vec![root.clone()];
    while let Some(dir) = open.pop() {
        for entry in std::fs::read_dir(dir).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                open.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = std::fs::read_to_string(&path).expect("a source file");
                let code = text.split("#[cfg(test)]\nmod tests").next().expect("a first part");
                let code: Vec<&str> = code.lines().filter(|line| !line.trim_start().starts_with("//")).collect();
                found.insert(path.strip_prefix(&root).expect("below src").to_owned(), code.join("\n"));
            }
        }
    }
    assert!(found.len() > 100, "the sources are where they are looked for");
    found
}

fn room_of(file: &Path) -> String {
    let first = file.iter().next().expect("a name").to_string_lossy();
    first.trim_end_matches(".rs").to_owned()
}

/// The names behind `crate::`, those of a group too.
fn rooms_used(code: &str) -> BTreeSet<String> {
    let word = |text: &str| text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect::<String>();
    let mut found = BTreeSet::new();
    for after in code.split("crate::").skip(1) {
        match after.strip_prefix('{') {
            Some(group) => {
                let group = group.split('}').next().expect("a group");
                found.extend(group.split(',').map(|part| word(part.trim())).filter(|part| !part.is_empty()));
            }
            None => drop(found.insert(word(after))),
        }
    }
    found
}

#[test]
fn arrows_point_down_only() {
    let place = |room: &str| ROOMS.iter().position(|known| *known == room);
    let mut wrong = Vec::new();
    for (file, code) in sources() {
        let room = room_of(&file);
        if room == "lib" {
            continue;
        }
        let at = place(&room).unwrap_or_else(|| panic!("{}: a room without a place in ROOMS", file.display()));
        for used in rooms_used(&code) {
            if used != room && place(&used).is_some_and(|below| below <= at) {
                wrong.push(format!("{}: uses {used}", file.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_library_knows_no_command_line() {
    let is_word = |text: &str| text.starts_with(|first: char| first.is_ascii_lowercase());
    let mut wrong = Vec::new();
    for (file, code) in sources() {
        let room = room_of(&file);
        let is_renderer = file == Path::new("render/table.rs") || file.starts_with("render/table");
        if OF_THE_PROGRAM.contains(&room.as_str()) || is_renderer {
            continue;
        }
        for name in PROGRAM_CRATES {
            if code.contains(&format!("{name}::")) {
                wrong.push(format!("{}: uses {name}", file.display()));
            }
        }
        // a string that names a flag
        let flags = code.lines().filter(|line| {
            line.split('"').skip(1).step_by(2).any(|text| format!(" {text}").split(" --").skip(1).any(is_word))
        });
        wrong.extend(flags.map(|line| format!("{}: {}", file.display(), line.trim())));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
