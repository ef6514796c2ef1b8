//! Every bound on what a hostile file can make us do, in one place, with its unit in its name.

pub mod tensor_parallel;

use tensor_parallel::TensorParallel;

/// Bounds on memory, disk and time. [`Limits::default`] suits files that real programs wrote.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Objects that one file's pickles may make, whatever it inflates to (`--max-objects`), elements of containers and
    /// entries of the unpickler's stack and memo included, over what the file's size explains: see
    /// [`Limits::objects_for`].
    pub max_objects: u64,
    /// Objects that each byte of the file explains.
    pub objects_per_byte: u64,
    /// How deep names and containers may nest (`--max-depth`).
    pub max_depth: usize,
    /// Tensors and values one file may list, and objects looked at for that (`--max-entries`).
    pub max_entries: u64,
    /// Bytes that compressed input or standard input may take on disk once expanded (`--max-expanded-bytes`).
    pub max_expanded_bytes: u64,
    /// How many times larger than its compressed form a stream may become before `min_expanded_bytes` stops mattering.
    pub max_expansion_ratio: u64,
    /// Compressed data may always expand to this much, whatever the ratio.
    pub min_expanded_bytes: u64,
    /// Whether a person has set `max_expanded_bytes`: then what it allows is allowed of any compression.
    pub is_expansion_chosen: bool,
    /// Bytes of a JSON header (safetensors, indexes).
    pub max_header_bytes: u64,
    /// Bytes that all strings together may take which a renaming writes into a pickle.
    pub max_new_name_bytes: u64,
    /// Members one archive may have.
    pub max_members: u64,
    /// Bytes of elements that will be read of one tensor that is larger than its storage, and of all tensors together
    /// beyond what their storages explain (`--max-read-bytes`).
    pub max_read_bytes: u64,
    /// Bytes that the process may transfer from addresses, all inputs together (`--max-transfer`).
    pub max_transfer: u64,
    /// Opcodes that a search for pickles may read in one file, whatever its size.
    pub max_scan_steps: u64,
    /// How many more for each byte of the file: what is read twice and more is bounded.
    pub scan_steps_per_byte: u64,
    /// Names listed in `shares_with`.
    pub max_shared_names: usize,
    /// Characters of a value's `repr`.
    pub max_repr_chars: usize,
    /// No bound, but what else whoever opens a checkpoint knows of it: how its tensors are cut among ranks.
    pub tensor_parallel: TensorParallel,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            max_objects: 1 << 18,
            objects_per_byte: 2,
            max_depth: 1000,
            max_entries: 1_000_000,
            max_expanded_bytes: 1 << 40,
            max_expansion_ratio: 256,
            min_expanded_bytes: 128 << 20,
            is_expansion_chosen: false,
            max_header_bytes: 100 << 20,
            max_new_name_bytes: 256 << 20,
            max_members: 4_000_000,
            max_read_bytes: 256 << 20,
            max_transfer: u64::MAX,
            max_scan_steps: 32 << 20,
            scan_steps_per_byte: 8,
            max_shared_names: 100,
            max_repr_chars: 200,
            tensor_parallel: TensorParallel::default(),
        }
    }
}

impl Limits {
    /// How many objects the pickles of a file of `disk_bytes` on disk may make: linear in what was really stored, so
    /// that a deflate bomb runs into it and an honest file never does.
    pub fn objects_for(&self, disk_bytes: u64) -> u64 {
        self.max_objects.saturating_add(disk_bytes.saturating_mul(self.objects_per_byte))
    }

    /// The bounds on what `disk_bytes` of compressed data expanded to: those of the compressed data, as its expanded bytes
    /// explain nothing.
    #[must_use]
    pub(crate) fn of_expanded(&self, disk_bytes: u64) -> Self {
        let (max_objects, max_expanded_bytes) = (self.objects_for(disk_bytes), self.expanded_for(disk_bytes));
        let max_scan_steps = self.scan_steps_for(disk_bytes);
        let (objects_per_byte, scan_steps_per_byte) = (0, 0);
        Limits {
            max_objects,
            objects_per_byte,
            max_expanded_bytes,
            max_scan_steps,
            scan_steps_per_byte,
            ..self.clone()
        }
    }

    /// How many opcodes a search for pickles may read in a file of `disk_bytes`.
    pub(crate) fn scan_steps_for(&self, disk_bytes: u64) -> u64 {
        self.max_scan_steps.saturating_add(disk_bytes.saturating_mul(self.scan_steps_per_byte))
    }

    /// The bounds on checkpoint number `count` (from 1) of an archive, of `disk_bytes` in it: what none of its bytes explain
    /// becomes less with each, so that many small ones cost little more than one.
    #[must_use]
    pub(crate) fn of_one_of_many(&self, count: u64, disk_bytes: u64) -> Self {
        let each = |most: u64, free: u64| most.saturating_mul(free) / count.max(free);
        let objects = each(self.max_objects, 1).saturating_add(disk_bytes.saturating_mul(2));
        Limits {
            max_objects: objects.min(self.max_objects),
            min_expanded_bytes: match self.is_expansion_chosen {
                true => self.min_expanded_bytes,
                false => each(self.min_expanded_bytes, 1),
            },
            max_scan_steps: each(self.max_scan_steps, 1).saturating_add(disk_bytes.saturating_mul(64).min(4 << 20)),
            ..self.clone()
        }
    }

    /// How many bytes the checkpoints of an archive of `disk_bytes` may expand to in all.
    pub(crate) fn expanded_in_all_for(&self, disk_bytes: u64) -> u64 {
        let most = self.expanded_for(disk_bytes);
        if self.is_expansion_chosen {
            return most;
        }
        disk_bytes.saturating_mul(self.max_expansion_ratio / 4).saturating_add(self.min_expanded_bytes / 2).min(most)
    }

    /// How many tensors and values may be listed, and objects looked at for that, of a graph that holds so many objects
    /// and elements: few more, as what is shared is listed wherever it is used.
    pub(crate) fn entries_for(&self, held: u64) -> u64 {
        self.unexplained_entries().saturating_add(held.saturating_mul(4)).min(self.max_entries)
    }

    /// How many may be listed whatever the graph holds.
    pub(crate) fn unexplained_entries(&self) -> u64 {
        self.max_entries / 16
    }

    /// How many bytes `compressed_bytes` of compressed data may expand to.
    pub(crate) fn expanded_for(&self, compressed_bytes: u64) -> u64 {
        compressed_bytes
            .saturating_mul(self.max_expansion_ratio)
            .max(self.min_expanded_bytes)
            .min(self.max_expanded_bytes)
    }

    /// The same of data of which a byte costs as much time as `cost` bytes of deflate, so that no small file takes long.
    pub(crate) fn expanded_at_cost(&self, compressed_bytes: u64, cost: u64) -> u64 {
        if self.is_expansion_chosen {
            return self.expanded_for(compressed_bytes);
        }
        // the first bytes are less dear: an honest small file may be all zeros
        (compressed_bytes.saturating_mul(self.max_expansion_ratio) / cost.max(1))
            .max(self.min_expanded_bytes / cost.clamp(1, 4))
            .min(self.max_expanded_bytes)
    }
}
