//! Makes the targets' first corpora from testdata: `cargo run --example seeds` in fuzz/.

use std::collections::hash_map::DefaultHasher;
use std::fs;
use std::hash::{Hash, Hasher};
use std::io::{Cursor, Read};
use std::path::{Path, PathBuf};

use ckpt_fuzz::SEPARATOR;

/// Larger files teach a fuzzer little and slow it down.
const MOST_BYTES: u64 = 64 << 10;

fn main() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let files = files(&root.join("../testdata"));
    let mut made = 0;
    let mut put = |target: &str, bytes: &[u8]| {
        let dir = root.join("corpus").join(target);
        let mut hasher = DefaultHasher::new();
        bytes.hash(&mut hasher);
        fs::create_dir_all(&dir).expect("a directory");
        fs::write(dir.join(format!("seed-{:016x}", hasher.finish())), bytes).expect("a file");
        made += 1;
    };
    let mut last: Vec<u8> = Vec::new();
    for file in files {
        let bytes = fs::read(&file).expect("testdata");
        for target in ["container", "check", "convert", "options", "repair", "strip_prefix"] {
            put(target, &bytes);
        }
        // neighbours in a directory are most alike
        put("diff", &[&last, SEPARATOR, &bytes].concat());
        last.clone_from(&bytes);
        if bytes.starts_with(b"PK") {
            let members = members(&bytes);
            for (name, content) in &members {
                if name.ends_with(".pkl") {
                    put("pickle", content);
                    put("pickle_in_zip", content);
                }
            }
            let parts: Vec<Vec<u8>> =
                members.into_iter().map(|(name, content)| [name.as_bytes(), b"\n", &content].concat()).collect();
            put("members", &parts.join(SEPARATOR));
        } else if !bytes.starts_with(b"\x1f\x8b") {
            put("pickle", &bytes);
            put("pickle_in_zip", &bytes);
        }
    }
    for text in [
        "module.\ns/^a(.*)/b$1/g\na\tb\x1fc\td\n*.weight\n\nmodel\nmodule.fc.weight\n model\nmodule.a.weight\na",
        "_orig_mod.\ns|x|y|i\n{\"a\": \"b\"}\n{a,b}?[c-d]\nx**\na.b\n a\n b\n_orig_mod.w\n../etc\n\u{202e}x\nCON\n",
    ] {
        put("names", text.as_bytes());
    }
    println!("{made} seeds in {}", root.join("corpus").display());
}

fn files(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut open = vec![dir.to_owned()];
    while let Some(dir) = open.pop() {
        for path in fs::read_dir(dir).expect("testdata").map(|entry| entry.expect("testdata").path()) {
            let described = path.extension().is_some_and(|e| e == "py" || e == "md");
            let large = path.metadata().is_ok_and(|meta| meta.len() > MOST_BYTES);
            match path.is_dir() {
                true => open.push(path),
                false if described || large || path.to_string_lossy().ends_with(".json") => {}
                false => found.push(path),
            }
        }
    }
    found.sort();
    found
}

/// The members of an archive that can be read.
fn members(bytes: &[u8]) -> Vec<(String, Vec<u8>)> {
    let Ok(mut zip) = zip::ZipArchive::new(Cursor::new(bytes)) else { return Vec::new() };
    let mut found = Vec::new();
    for index in 0..zip.len() {
        let Ok(member) = zip.by_index(index) else { continue };
        let Ok(name) = member.name().map(|name| name.into_owned()) else { continue };
        let mut content = Vec::new();
        if member.take(MOST_BYTES).read_to_end(&mut content).is_ok() {
            found.push((name, content));
        }
    }
    found
}
