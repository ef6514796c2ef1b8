//! What each kind of finding means, and what to do about it: the rules of a SARIF log.

use crate::safety::finding::Severity::{self, Danger, Error, Info, Warning};

/// One kind of finding.
#[derive(Debug)]
pub(super) struct Rule {
    /// The finding's code.
    pub code: &'static str,
    /// The usual severity.
    pub severity: Severity,
    /// What is so, in one line.
    pub short: &'static str,
    /// What it means, and what to do.
    pub help: &'static str,
}

const fn rule(code: &'static str, severity: Severity, short: &'static str, help: &'static str) -> Rule {
    Rule { code, severity, short, help }
}

/// In the order of their codes.
pub(super) const RULES: &[Rule] = &[
    rule(
        "bytes-shared",
        Error,
        "Tensors of a checkpoint in several files overlap",
        "The index gives the same bytes to two tensors. Ask whoever wrote the files for a new copy.",
    ),
    rule(
        "bytes-unnamed",
        Warning,
        "A file of a checkpoint has bytes that its index does not name",
        "What lies there is never loaded. It may hide something, or be left from an earlier save.",
    ),
    rule(
        "call-of-result",
        Warning,
        "A pickle calls what another call returned",
        "Nobody can tell what is called without running it. Treat the file as a program from its author.",
    ),
    rule(
        "chunk-invalid",
        Error,
        "A chunk of a distributed checkpoint cannot be decoded",
        "The chunk is damaged or truncated. Copy the file again.",
    ),
    rule(
        "config-function",
        Danger,
        "A settings file names a dangerous function",
        "Hydra, HyperPyYAML and the like call what their settings name. Do not build the model from this file.",
    ),
    rule(
        "crc-mismatch",
        Error,
        "The bytes of a member do not match its checksum",
        "The file was damaged in storage or transfer. Copy it again; `ckpt repair` saves the tensors that are whole.",
    ),
    rule(
        "crc-unused",
        Info,
        "The archive has no checksums",
        "Checksums were turned off when the file was saved, so that damage to its tensors cannot be seen.",
    ),
    rule(
        "dtype-unknown",
        Error,
        "A tensor has a dtype that safetensors does not have",
        "No library loads the file. Copy it again.",
    ),
    rule(
        "file-unnamed",
        Warning,
        "A file beside the others is not part of the checkpoint",
        "It looks like a part, and the index does not name it. Remove it, or restore the index it belongs to.",
    ),
    rule(
        "global-after-break",
        Danger,
        "A dangerous call stands behind the place where the pickle breaks",
        "Python runs what stands before a break, and some loaders go on. Do not load the file.",
    ),
    rule(
        "global-allowed",
        Info,
        "The caller allows this global",
        "It is in the list of allowed globals. Keep the list under review.",
    ),
    rule(
        "global-changed",
        Danger,
        "A pickle changes a class or a function itself",
        "Loading the file changes the program that loads it. Do not load it.",
    ),
    rule(
        "global-computed",
        Danger,
        "A pickle computes the name of what it calls",
        "No honest pickle hides what it calls. Do not load the file.",
    ),
    rule(
        "global-dangerous",
        Danger,
        "Loading the file runs code, or opens, loads or removes something",
        "The message names the call with its arguments. Do not load the file; tell whoever published it.",
    ),
    rule(
        "global-extension",
        Warning,
        "A pickle uses a number of copyreg's extension registry",
        "What the number stands for depends on the program that loads the file, so that nobody can check it.",
    ),
    rule(
        "global-unknown",
        Warning,
        "A pickle names a class or function that ckpt does not know",
        "Loading the file runs its code. Review it and allow it by its exact name, or reduce the file to a \
state dict with `ckpt convert`.",
    ),
    rule(
        "keras-function",
        Danger,
        "A Keras configuration names a function that is called when the model is loaded",
        "Load it with safe mode only, or not at all.",
    ),
    rule(
        "keras-lambda",
        Danger,
        "A Keras Lambda layer holds Python code",
        "The code runs when the model is loaded or used. Ask for a model without Lambda layers.",
    ),
    rule(
        "key-unhashable",
        Error,
        "A pickle uses a list, dict or set as a key",
        "Python cannot load it. No pickler writes such a file.",
    ),
    rule(
        "limit",
        Error,
        "The file is larger than a limit allows",
        "What lies beyond the limit was not looked at. Raise the limit only for files that you trust.",
    ),
    rule(
        "link-escapes",
        Warning,
        "A link in the archive leads out of it",
        "Unpacking it may write or read elsewhere. Unpack with a tool that refuses such links.",
    ),
    rule(
        "malformed",
        Error,
        "The file breaks the rules of its format",
        "It is damaged, or was made by hand. `ckpt repair` saves what is whole.",
    ),
    rule(
        "member-duplicate",
        Error,
        "The archive has two members of one name that differ",
        "Readers disagree on which one counts. Do not load the file.",
    ),
    rule(
        "member-unreadable",
        Error,
        "A member of the archive cannot be read",
        "It is damaged, encrypted or compressed in a way that torch does not write. Copy the file again.",
    ),
    rule(
        "member-unreferenced",
        Info,
        "The archive has members that no tensor uses",
        "They take space. `ckpt convert FILE smaller.pt` leaves them out.",
    ),
    rule(
        "memory-bomb",
        Danger,
        "Loading the file asks for more memory than there is, or never ends",
        "The file is made to stop the program that loads it. Do not load it.",
    ),
    rule(
        "name-escapes",
        Danger,
        "The name of a member leads out of the archive",
        "Unpacking it would write elsewhere on the disk. Do not unpack it.",
    ),
    rule(
        "native-code",
        Danger,
        "The archive holds a shared library",
        "A loader may run it. Load it only when you trust who built it.",
    ),
    rule(
        "nested-computed",
        Danger,
        "A pickle computes another pickle and loads it",
        "What is loaded cannot be read without running the file. Do not load it.",
    ),
    rule(
        "nested-too-deep",
        Danger,
        "Archives and pickles nest too deep to look inside",
        "What lies below was not looked at. No honest checkpoint nests so deep.",
    ),
    rule(
        "not-checked",
        Info,
        "Something beside the checkpoint was not looked at",
        "Run `ckpt check -R` on the directory.",
    ),
    rule(
        "not-expanded",
        Warning,
        "A member is compressed in a way that is not expanded here",
        "What it holds was not looked at. Check it after you expanded it.",
    ),
    rule(
        "numerics-inf",
        Warning,
        "A tensor holds infinite numbers",
        "Training diverged, or a cast overflowed. Use an earlier checkpoint, or cast to a wider type.",
    ),
    rule("numerics-nan", Warning, "A tensor holds NaN", "Training diverged. Use an earlier checkpoint."),
    rule(
        "numerics-subnormal",
        Info,
        "A tensor holds subnormal numbers",
        "They are close to zero and slow on some processors.",
    ),
    rule(
        "numerics-unread",
        Warning,
        "A tensor's numbers were not looked at",
        "Reading them costs more than a limit allows. Raise the limit only for files that you trust.",
    ),
    rule("numerics-zero", Info, "Every element of a tensor is zero", "It may never have been trained or loaded."),
    rule(
        "pickle-broken",
        Error,
        "A pickle breaks half-way",
        "The file is truncated or damaged. Python runs what stands before the break.",
    ),
    rule("pickle-endless", Warning, "A list or dict holds itself", "Programs that walk it may never end."),
    rule(
        "pickle-expands",
        Warning,
        "A small pickle stands for a huge object",
        "Programs that walk it may never end. No pickler writes so many references to shared parts.",
    ),
    rule(
        "pickle-hidden",
        Warning,
        "A member holds a pickle where none belongs",
        "Some loaders read it. Look at what it names.",
    ),
    rule(
        "pickle-odd",
        Warning,
        "A pickle was written by hand",
        "No pickler writes such opcodes. It may be an attempt to mislead scanners.",
    ),
    rule(
        "python-code",
        Danger,
        "The archive holds Python code",
        "Loading the archive runs it. Review it as you would review a program.",
    ),
    rule(
        "rank-missing",
        Warning,
        "There are fewer files than the tensors speak of ranks",
        "Look for the missing rank's file: what it holds may be missing from the checkpoint.",
    ),
    rule(
        "ranks-differ",
        Error,
        "Ranks differ in what they must share",
        "The files are of different steps or runs, or one is damaged. Copy them again from one step.",
    ),
    rule(
        "script-files",
        Danger,
        "TorchScript code touches files",
        "Running the model reads or writes files. Do not load it.",
    ),
    rule(
        "size-stated",
        Warning,
        "The index states another size than its files have",
        "The index is of another version of the checkpoint, or was changed by hand.",
    ),
    rule(
        "sparse-invalid",
        Error,
        "A sparse tensor breaks its own rules",
        "Its indexes lie outside its shape or are out of order. Using it may read memory that is not the tensor's.",
    ),
    rule(
        "step-other",
        Warning,
        "The optimizer is at another step than the weights",
        "The files may be of two checkpoints. Compare their dates, and save or copy the checkpoint again.",
    ),
    rule(
        "storage-missing",
        Error,
        "The storage of a tensor is missing",
        "The file was cut or changed. `ckpt repair` saves the tensors that are there.",
    ),
    rule(
        "storage-retyped",
        Warning,
        "A storage is used with another type than it states",
        "Most loaders accept it. Convert the file to have it written anew.",
    ),
    rule(
        "storage-short",
        Error,
        "A storage is shorter than it states",
        "The file was truncated. `ckpt repair` saves the tensors that are whole.",
    ),
    rule(
        "storage-size",
        Warning,
        "A storage is longer than it states",
        "What lies behind its end is never loaded. It may hide something.",
    ),
    rule(
        "template",
        Warning,
        "The file holds a Jinja template",
        "Programs that chat with the model render it. Read it before you use it, and render it in a sandbox.",
    ),
    rule(
        "template-reaches",
        Danger,
        "A Jinja template reaches for more than messages",
        "Rendering it may run code. Do not use the file.",
    ),
    rule(
        "tensor-invalid",
        Error,
        "torch cannot make a tensor of what the pickle gives",
        "The file does not load. Copy it again.",
    ),
    rule(
        "tensor-outside",
        Error,
        "A tensor lies outside its storage",
        "torch refuses it. The file was changed by hand or is damaged.",
    ),
    rule(
        "tensor-unnamed",
        Warning,
        "A tensor of a file is not in the index",
        "It is never loaded. The index is of another version of the checkpoint.",
    ),
    rule(
        "tensor-unreadable",
        Error,
        "A tensor's elements cannot be read",
        "The message says why. Copy the file again.",
    ),
    rule(
        "too-many-pickles",
        Error,
        "The archive holds more pickles than are looked at",
        "What lies beyond the limit was not looked at.",
    ),
    rule(
        "too-much-work",
        Danger,
        "The same bytes can be read in too many ways",
        "What is left was not looked at. No honest file is made so.",
    ),
    rule(
        "trailing-data",
        Warning,
        "Bytes follow the end of the checkpoint",
        "They are never loaded. They may hide something, or be left from a transfer; `ckpt repair` removes them.",
    ),
    rule("truncated", Error, "The file ends too early", "Copy it again; `ckpt repair` saves what is whole."),
    rule(
        "unreadable",
        Error,
        "The file cannot be read as what it is",
        "It is damaged or truncated. `ckpt repair` saves what is whole.",
    ),
    rule("unsupported", Error, "The file uses something that is not read here", "What it holds was not looked at."),
    rule(
        "weights-only",
        Error,
        "torch.load(weights_only=True) does not open the file",
        "`ckpt convert` can write a file that it opens: a state dict, or the whole object in a safe form.",
    ),
    rule(
        "yaml-object",
        Danger,
        "A YAML file builds Python objects",
        "An unsafe loader imports and calls what it names. Load it with `yaml.safe_load` only.",
    ),
    rule(
        "zip-ambiguous",
        Error,
        "Two readers of the zip find different members",
        "What torch loads is not what other tools show. Do not load the file.",
    ),
    rule(
        "zip-directory",
        Error,
        "torch refuses the archive's directory",
        "The archive's records contradict each other, or speak of several disks; `ckpt repair` writes it again.",
    ),
    rule(
        "zip-end-record",
        Error,
        "The last end record does not lead to the archive's directory",
        "Neither torch nor zipfile opens the file; `ckpt repair` writes it again.",
    ),
];

/// The place of the rule of a code.
pub(super) fn index_of(code: &str) -> Option<usize> {
    RULES.binary_search_by(|rule| rule.code.cmp(code)).ok()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::Path;

    use super::*;

    /// Every source file below a folder of `src/`.
    fn texts(folder: &Path, found: &mut Vec<String>) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                texts(&path, found);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.push(std::fs::read_to_string(path).unwrap());
            }
        }
    }

    #[test]
    fn every_code_has_a_rule_and_every_rule_a_code() {
        let mut sources = Vec::new();
        for folder in ["safety", "operations", "layout"] {
            texts(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src").join(folder), &mut sources);
        }
        let told = regex::Regex::new(r#"(?s)(?:Severity::\w+,|\bcode:)\s*"([a-z-]+)""#).unwrap();
        let all = sources.concat();
        let codes: BTreeSet<&str> = told.captures_iter(&all).map(|found| found.get(1).unwrap().as_str()).collect();
        assert!(codes.len() > 40, "{codes:?}");
        for code in codes {
            assert!(index_of(code).is_some(), "{code}: no rule");
        }
        for rule in RULES {
            assert!(all.contains(&format!("\"{}\"", rule.code)), "{}: no finding has this code", rule.code);
            assert!(rule.help.ends_with('.') && !rule.short.ends_with('.'), "{}", rule.code);
        }
        assert!(RULES.is_sorted_by_key(|rule| rule.code));
    }
}
