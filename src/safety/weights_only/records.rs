//! The members of a zip archive as torch finds them: without regard to case, the first of several
//! (`caffe2/serialize/inline_container.cc`, whose miniz folds ASCII letters), and the small ones that it reads.

use std::cell::RefCell;
use std::collections::HashMap;

use super::literals;
use crate::container::zip::{Member, Zip};
use crate::error::Result;
use crate::source::read_vec;

/// Bytes of a small member that are looked at.
const MAX_BYTES: u64 = 1 << 10;

type Rule = (&'static str, fn(&[u8]) -> bool, &'static str);

/// Small members that torch reads where they are there, and what it takes (`torch/serialization.py`, `_load`;
/// `PyTorchStreamReader::init`).
pub(super) const TEXTS: &[Rule] = &[
    (".format_version", |_| true, ""),
    (".data/serialization_id", |_| true, ""),
    (".storage_alignment", literals::is_int, "a number"),
    ("byteorder", |text| matches!(text, b"little" | b"big"), "`little` or `big`"),
];

pub(super) struct Records<'z> {
    pub zip: &'z Zip,
    /// By name in lower case; empty where all names are.
    folded: HashMap<String, &'z Member>,
    /// Of the name in hand.
    path: RefCell<String>,
}

impl<'z> Records<'z> {
    pub(crate) fn of(zip: &'z Zip) -> Self {
        let mut folded = HashMap::new();
        if zip.members.iter().any(|member| member.name.bytes().any(|byte| byte.is_ascii_uppercase())) {
            for member in &zip.members {
                folded.entry(member.name.to_ascii_lowercase()).or_insert(member);
            }
        }
        Records { zip, folded, path: RefCell::default() }
    }

    /// The member of this name in the top folder.
    pub(crate) fn find(&self, name: &str) -> Option<&'z Member> {
        self.find_in("", name)
    }

    /// The member that holds the storage of this key.
    pub(crate) fn storage(&self, key: &str) -> Option<&'z Member> {
        self.find_in("data/", key)
    }

    fn find_in(&self, folder: &str, name: &str) -> Option<&'z Member> {
        // one text for all of them: there are as many as there are tensors
        let mut path = self.path.take();
        path.clear();
        let top = self.zip.top();
        let slash = if top.is_empty() { "" } else { "/" };
        path.extend([top, slash, folder, name]);
        path.make_ascii_lowercase();
        let found = if self.folded.is_empty() { self.zip.find(&path) } else { self.folded.get(&path).copied() };
        self.path.replace(path);
        found
    }

    /// The first bytes of a small member.
    pub(crate) fn bytes(&self, name: &str) -> Result<Option<Vec<u8>>> {
        let Some(member) = self.find(name) else { return Ok(None) };
        let source = self.zip.member_source(member)?;
        read_vec(source.as_ref(), 0, source.len().min(MAX_BYTES)).map(Some)
    }
}
