//! The person at the terminal: the two output streams, progress bars, and how settings and errors are worded there.

pub(crate) mod progress_bar;
pub(crate) mod streams;
pub(crate) mod wording;
