//! Groups of options that several commands share, and what they come to: inputs and limits, lists of files, names, where
//! a result goes and in which form.

pub(crate) mod destination;
pub(crate) mod files;
pub(crate) mod in_order;
pub(crate) mod input;
pub(crate) mod list;
pub(crate) mod names;
pub(crate) mod output;
pub(crate) mod values;
