//! Reports to text.
