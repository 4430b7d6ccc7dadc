#![doc = include_str!("../README.md")]

mod format;
mod provider;
mod read_error;
mod read_file;
mod revision;
mod watch;

pub use provider::FileProvider;
