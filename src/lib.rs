//! ckpt
pub mod checkpoint;
pub mod cli;
pub mod commands;
pub mod container;
pub mod data;
pub mod dtype;
pub mod error;
pub mod layout;
pub mod limits;
pub mod pickle;
pub mod progress;
pub mod render;
pub mod report;
pub mod source;
pub mod write;
