//! The lines of the input are a prefix, a substitution, a table, globs, and names of tensors: rules are read and
//! applied, names matched, escaped and made into file names; then a checkpoint of those names is listed, searched and
//! renamed.
#![no_main]

use ckpt::checkpoint::Checkpoint;
use ckpt::checkpoint::edit::rules::{Rules, Step, parse_substitution, parse_table};
use ckpt::operations::extract::file_names::FileNames;
use ckpt::operations::select::Select;
use ckpt::container::zip::check_name;
use ckpt::limits::Limits;
use ckpt::progress::Silent;
use ckpt::render::escape::escape;
use ckpt_fuzz::{bounded, in_memory};

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let text = String::from_utf8_lossy(data);
    bounded(|| run(&text));
});

fn run(text: &str) {
    let mut lines = text.split('\n');
    let mut next = || lines.next().unwrap_or_default();
    let (prefix, substitution, table) = (next().to_owned(), next(), next().replace('\x1f', "\n"));
    let (include, exclude, root) = (next().to_owned(), next().to_owned(), next().to_owned());
    let names: Vec<&str> = lines.collect();
    let mut steps =
        vec![Step::AddPrefix(prefix.clone()), Step::StripPrefix(prefix.clone()), Step::StripAnywhere(prefix.clone())];
    steps.extend(parse_substitution(substitution).ok());
    steps.extend(parse_table(&table).ok());
    let rules = Rules(steps);
    let mut chosen = Select::default();
    (chosen.root, chosen.include, chosen.exclude) = (Some(root), vec![include], vec![exclude]);
    let mut files = FileNames::default();
    for name in &names {
        let renamed = rules.rename(name.as_bytes());
        assert!(std::str::from_utf8(&renamed).is_ok());
        rules.rename_module(name.as_bytes());
        let shown = escape(name);
        assert!(!shown.chars().any(char::is_control));
        assert_eq!(escape(&shown), shown);
        let file = files.make(name, ".npy");
        assert!(!file.contains(['/', '\\', '\0']) && !file.starts_with('.') && file.len() <= 255);
        let _ = check_name(name);
    }
    let bytes = pickle(&names);
    let source = in_memory::memory(bytes.clone());
    let checkpoint = Checkpoint::open(source.clone(), &Limits::default(), &Silent).expect("a sound pickle");
    let _ = in_memory::list_and_hash(source.clone());
    let _ = in_memory::strip_and_reread(&bytes, &prefix);
    let Ok(root) = chosen.find_root(&checkpoint) else { return };
    let filter = checkpoint.names(&root).map(|names| chosen.filter(&names.entries));
    let takes = |name: &str| matches!(&filter, Ok(Ok(filter)) if filter.takes(name));
    let _ = checkpoint.plan_renames(&root, &rules, Some(&takes));
}

/// A state dict of empty arrays; a name with a blank first is a dict that holds the ones after it.
fn pickle(names: &[&str]) -> Vec<u8> {
    let mut out = b"\x80\x02}".to_vec();
    let mut depth = 0;
    let key = |out: &mut Vec<u8>, name: &str| {
        out.push(b'X');
        out.extend(u32::try_from(name.len()).expect("a small input").to_le_bytes());
        out.extend(name.as_bytes());
    };
    for name in names {
        match name.strip_prefix(' ') {
            Some(name) if depth < 20 => {
                key(&mut out, name);
                out.push(b'}');
                depth += 1;
            }
            _ => {
                key(&mut out, name);
                out.extend(b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\0\x85U\x01b\x87R(K\x01K\0\x85");
                out.extend(b"cnumpy\ndtype\nX\x02\0\0\0f4K\0K\x01\x87R(K\x03X\x01\0\0\0<NNNJ\xff\xff\xff\xffJ\xff\xff");
                out.extend(b"\xff\xffK\0tb\x89U\0tbs");
            }
        }
    }
    out.extend(std::iter::repeat_n(b's', depth));
    out.push(b'.');
    out
}
