//! The scenery of the tests with AWS Secrets Manager: a store of their own, and the secrets in it
//! as their administrator sees them.

#![expect(
    clippy::expect_used,
    reason = "scenery of tests: what fails here fails the test"
)]

mod fixture;
mod naive;
mod secret;
mod store;
mod users;

pub use fixture::{SECRET, SecretsFixture, rotations, window};
pub use naive::{Connect, Habit, Naive};
pub use secret::{Secret, login};
pub use store::{SECRET_ACCESS_KEY, SESSION_TOKEN, aws, moto};
pub use users::Users;
