#![doc = include_str!("../README.md")]

mod api;
mod auth;
mod bounded_file;
mod dynamic;
mod kv;
mod lifetime;
mod path;
mod session;
mod static_role;

pub use auth::{Auth, SecretId};
pub use dynamic::VaultDynamic;
pub use kv::{VaultKv, VaultKvBuilder};
pub use session::{TokenIdentity, VaultSession, VaultSessionBuilder};
pub use static_role::{VaultStatic, VaultStaticBuilder};
