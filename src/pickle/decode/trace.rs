//! What a decoder tells of its opcodes to somebody who watches.

/// Hears of the opcodes that make and repeat strings, for what the graph does not keep: where they lie.
pub trait Trace {
    /// The opcode `code` lies from byte `at` to before byte `end` of its stream.
    fn opcode(&mut self, code: u8, at: u64, end: u64, does: Does);

    /// The opcode `code` from byte `at` to before byte `end`, with what lies inline behind it, is done: so many objects
    /// and marks are on the stack now.
    fn step(&mut self, _code: u8, _at: u64, _end: u64, _depth: usize) {}
}

/// What an opcode does, as far as a [`Trace`] wants to know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Does {
    /// Pushes a string that it holds.
    Push,
    /// Pushes what the memo has at `index`.
    Get {
        /// The place in the memo.
        index: u64,
    },
    /// Pushes once more what the opcode at `pushed_at` had pushed.
    Repeat {
        /// Where that opcode lies.
        pushed_at: u64,
    },
    /// Puts what the opcode at `pushed_at` had pushed into the memo.
    Put {
        /// The place in the memo.
        index: u64,
        /// Where that opcode lies.
        pushed_at: u64,
    },
    /// Begins a frame of `len` bytes, which start at the opcode's end.
    Frame {
        /// Bytes.
        len: u64,
    },
    /// Is followed by a whole other pickle, with a memo of its own, up to the next [`Does::Leave`].
    Enter,
    /// Ends it.
    Leave,
}
