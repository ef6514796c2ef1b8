//! The storages that were named so far, and how many bytes each has.

use std::collections::HashMap;

/// Says how many bytes the record of a key has, if there is one.
pub(super) type RecordBytes<'a> = &'a dyn Fn(&str) -> Option<u64>;

/// The storages that persistent ids name.
pub(super) struct Storages<'a> {
    /// Bytes of the record with this key, for an archive; a legacy stream has its storages at the end.
    pub(super) record: Option<RecordBytes<'a>>,
    /// By key: the first use decides.
    pub by_key: HashMap<Vec<u8>, Storage, foldhash::fast::RandomState>,
    pub(super) all: Vec<Bytes>,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Bytes {
    pub len: u64,
    /// A legacy stream's storages grow with the tensors made over them; records and views do not.
    pub grows: bool,
}

/// A storage that was named.
#[derive(Debug, Clone, Copy)]
pub(super) struct Storage {
    pub dtype: &'static str,
    pub place: usize,
}

impl<'a> Storages<'a> {
    pub(crate) fn new(record: Option<RecordBytes<'a>>) -> Self {
        Storages { record, by_key: HashMap::default(), all: Vec::new() }
    }

    pub(crate) fn bytes(&self, place: usize) -> u64 {
        self.all.get(place).map_or(0, |bytes| bytes.len)
    }

    pub(super) fn add(&mut self, len: u64, grows: bool) -> usize {
        self.all.push(Bytes { len, grows });
        self.all.len() - 1
    }
}
