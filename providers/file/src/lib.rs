#![doc = include_str!("../README.md")]

mod builder;
mod format;
mod provider;
mod read_error;
mod read_file;
mod revision;
mod watch;

pub use builder::FileProviderBuilder;
pub use format::FileFormat;
pub use provider::FileProvider;
