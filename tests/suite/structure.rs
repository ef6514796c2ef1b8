//! The rooms of `src/` and what each may touch, as `src/lib.rs` has it: held by reading the sources.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)] // helpers of tests are tests

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// From top to bottom: a room uses those below it, never one above or beside it.
const ROOMS: &[&str] = &[
    "main",
    "cli",
    "commands",
    "options",
    "terminal",
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
const OF_THE_PROGRAM: &[&str] = &["main", "cli", "commands", "options", "terminal"];
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

/// The paths of a `use`, without its groups: `a::{b, c::d}` is `a::b` and `a::c::d`.
fn paths_of(import: &str) -> Vec<String> {
    let Some((before, group)) = import.split_once('{') else { return vec![import.trim().to_owned()] };
    let (mut parts, mut depth) = (vec![String::new()], 0);
    for c in group.trim_end().strip_suffix('}').expect("a group").chars() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                parts.push(String::new());
                continue;
            }
            _ => {}
        }
        parts.last_mut().expect("a part").push(c);
    }
    let parts = parts.iter().map(|part| part.trim()).filter(|part| !part.is_empty());
    parts.flat_map(|part| paths_of(&format!("{}{part}", before.trim()))).collect()
}

/// The modules that each module imports from, but for those that it is a part of and its own parts.
fn imports() -> BTreeMap<String, BTreeSet<String>> {
    let name = |file: &Path| file.with_extension("").to_string_lossy().replace('/', "::").replace("::mod", "");
    let sources: BTreeMap<String, String> = sources().into_iter().map(|(file, code)| (name(&file), code)).collect();
    let module = |path: &str| {
        let ends = path.match_indices("::").map(|(at, _)| at).chain([path.len()]);
        let known = ends.filter_map(|end| path.get(..end)).filter(|path| sources.contains_key(*path));
        known.last().map(str::to_owned)
    };
    let is_part = |a: &str, b: &str| a == b || a.starts_with(&format!("{b}::"));
    let imported = |(file, code): (&String, &String)| {
        let begins = |line: &str| {
            let rest = line.strip_prefix("pub").unwrap_or(line).trim_start();
            let rest = rest.strip_prefix('(').and_then(|rest| Some(rest.split_once(')')?.1)).unwrap_or(rest);
            rest.trim_start().starts_with("use ")
        };
        let starts = code.match_indices('\n').map(|(at, _)| at + 1).chain([0]);
        let uses = starts.filter_map(|at| code.get(at..)).filter(|rest| begins(rest));
        let uses = uses.filter_map(|rest| rest.split_once("use ")?.1.split_once(';'));
        let paths = uses.flat_map(|(import, _)| paths_of(import)).filter_map(|path| {
            let ups = path.matches("super::").count();
            let own: Vec<&str> = file.split("::").collect();
            match path.strip_prefix("crate::") {
                Some(path) => Some(path.to_owned()),
                None if ups == 0 => None,
                None => {
                    let above = own.get(..own.len().checked_sub(ups)?)?.join("::");
                    Some(format!("{above}::{}", path.replace("super::", "")))
                }
            }
        });
        let found = paths.filter_map(|path| module(&path));
        found.filter(|other| !is_part(file, other) && !is_part(other, file)).collect()
    };
    sources.iter().map(|source| (source.0.clone(), imported(source))).collect()
}

#[test]
fn files_import_each_other_in_no_circle() {
    let mut left = imports();
    assert!(left.values().map(BTreeSet::len).sum::<usize>() > 1000, "imports are found");
    // what imports nothing that is left is in no circle
    loop {
        let free: Vec<String> = left.iter().filter(|(_, used)| used.is_empty()).map(|(file, _)| file.clone()).collect();
        if free.is_empty() {
            break;
        }
        for file in free {
            left.remove(&file);
            left.values_mut().for_each(|used| used.retain(|other| *other != file));
        }
    }
    assert!(left.is_empty(), "in a circle, or above one: {left:?}");
}
