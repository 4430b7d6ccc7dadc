#![doc = include_str!("../README.md")]

mod explain;
mod identity;
mod lifetime;
mod rejections;
mod request;
mod settings;
mod signer;
mod tokens;

pub use explain::explain;
pub use request::ConnectRequest;
pub use settings::{RegionSettings, check_user, misconfigured};
pub use tokens::Tokens;
