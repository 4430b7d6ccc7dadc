//! Shared functions: the target of tokens, and providers on scripted credentials.

#![expect(clippy::expect_used, reason = "a failing helper fails the test")]
#![allow(
    dead_code,
    unused_imports,
    clippy::allow_attributes,
    reason = "no test file uses all of it"
)]

use std::time::Duration;

use claviger_rds_iam::RdsIam;

pub(crate) use claviger_aws_fixtures::{
    Chain, assume_role, fetch_again, first_lease, key, parameter, session, signed_at, start_moto,
    token, wall_time,
};

/// The endpoint that tokens are signed for.
pub(crate) const HOST: &str = "orders.c1a2b3.eu-west-1.rds.amazonaws.com";
/// The database user.
pub(crate) const USER: &str = "orders_app";

/// Returns a provider on this chain.
pub(crate) fn provider(chain: &Chain) -> RdsIam {
    RdsIam::new(&chain.config(None), HOST, 5432, USER).expect("the arguments are valid")
}

/// Returns a provider on this chain whose tokens have this lifetime.
pub(crate) fn provider_with_lifetime(chain: &Chain, lifetime: Duration) -> RdsIam {
    RdsIam::builder(&chain.config(None), HOST, 5432, USER)
        .with_lifetime(lifetime)
        .build()
        .expect("the arguments are valid")
}
