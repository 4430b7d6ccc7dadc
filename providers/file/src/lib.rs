#![doc = include_str!("../README.md")]

mod flaw;
mod login;
mod read;
mod revision;
mod shape;
mod watch;

pub use login::FileProvider;
