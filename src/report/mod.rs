//! What a command found, as plain serde types (the JSON schemas), each also laid out as a [`Document`].

pub mod ls;
