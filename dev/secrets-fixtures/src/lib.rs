//! Test fixtures for AWS Secrets Manager: a moto server, its secrets and their administrator.

#![expect(clippy::expect_used, reason = "a failing fixture fails the test")]

mod fixture;
mod moto;
mod plain_service;
mod secret;
mod users;

pub use fixture::{SECRET, SecretsFixture, rotations, window};
pub use moto::{SECRET_ACCESS_KEY, SESSION_TOKEN, aws, start_moto};
pub use plain_service::{ConnectAttempt, FetchPolicy, PlainService};
pub use secret::{Secret, secret_text};
pub use users::Users;
