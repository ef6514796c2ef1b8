//! The command that takes a prefix off names for good.

use std::path::Path;

use crate::checkpoint::edit::rules::Step;
use crate::report::diff::StripPrefix;
use crate::report::shell::quoted;

/// Names that are tried for the output of a proposed command, until one is free.
const MAX_OUTPUTS: usize = 20;

/// The command; `None` where none does it, and for names that a person cannot type.
pub(crate) fn command(found: &StripPrefix) -> Option<String> {
    let anywhere = match &found.step {
        Some(Step::StripPrefix(_)) => "",
        Some(Step::StripAnywhere(_)) => " --anywhere",
        _ => return None,
    };
    // a name that begins with a dash is an option
    let file = if found.file.starts_with('-') { format!("./{}", found.file) } else { found.file.clone() };
    let path = Path::new(&file);
    let stem = path.file_stem()?.to_string_lossy();
    let extension = path.extension().filter(|_| !path.is_dir());
    let extension = extension.map(|extension| format!(".{}", extension.to_string_lossy())).unwrap_or_default();
    let stem = if path.is_dir() { path.file_name()?.to_string_lossy() } else { stem };
    let mut outputs = (1..=MAX_OUTPUTS).map(|number| match number {
        1 => path.with_file_name(format!("{stem}.stripped{extension}")),
        _ => path.with_file_name(format!("{stem}.stripped-{number}{extension}")),
    });
    let output = outputs.find(|output| !output.exists())?;
    let words = [&found.prefix, &*file, &*output.to_string_lossy()];
    let cannot_be_typed = |word: &str| word.chars().any(|c| c.is_control() || c == char::REPLACEMENT_CHARACTER);
    if found.prefix.starts_with('-') || words.into_iter().any(cannot_be_typed) {
        return None;
    }
    let [prefix, file, output] = words.map(quoted);
    Some(format!("ckpt strip-prefix {prefix}{anywhere} {file} -o {output}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_proposed_that_can_be_typed() {
        let strip = |prefix: &str, anywhere: bool, file: &str| {
            let step = if anywhere { Step::StripAnywhere } else { Step::StripPrefix };
            let (file, step) = (file.to_owned(), Some(step(prefix.to_owned())));
            command(&StripPrefix { file, prefix: prefix.to_owned(), step, command: None })
        };
        let found = strip("module.", false, "f.pt");
        assert_eq!(found.as_deref(), Some("ckpt strip-prefix module. f.pt -o f.stripped.pt"));
        let found = strip("_orig_mod.", true, "a b.pt");
        assert_eq!(found.as_deref(), Some("ckpt strip-prefix _orig_mod. --anywhere 'a b.pt' -o 'a b.stripped.pt'"));
        let found = strip("module.", false, "-f.pt");
        assert_eq!(found.as_deref(), Some("ckpt strip-prefix module. ./-f.pt -o ./-f.stripped.pt"));
        assert_eq!((strip("-module.", false, "f.pt"), strip("a\nb.", false, "f.pt")), (None, None));
        let found = StripPrefix { file: "f.pt".into(), prefix: "module.".into(), step: None, command: None };
        assert_eq!(command(&found), None);
    }
}
