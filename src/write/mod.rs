//! One encoder a format, and how output gets to the disk: whole or not at all.

pub mod atomic;
pub mod csv;
mod interrupt;
pub mod json;
pub mod numerals;
pub mod png;
