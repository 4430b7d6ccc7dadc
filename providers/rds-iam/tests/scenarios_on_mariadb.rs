//! needs: mariadb, pam
//!
//! Tokens on a MariaDB that checks them through PAM, as RDS does.

mod common;
#[path = "scenarios/mariadb.rs"]
mod mariadb;
mod scenarios;

use claviger_servers::MariaDb;

#[tokio::test(flavor = "multi_thread")]
async fn a_token_kept_for_ever_fails_when_a_connection_opens_late() {
    scenarios::a_token_kept_for_ever_fails_when_a_connection_opens_late::<MariaDb>().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn twenty_token_lives_without_a_failure() {
    scenarios::twenty_token_lives_without_a_failure::<MariaDb>().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_that_die_before_their_tokens() {
    scenarios::sessions_that_die_before_their_tokens::<MariaDb>().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_is_refused_for_five_seconds() {
    scenarios::everything_is_refused_for_five_seconds::<MariaDb>().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_signature_serves_all() {
    scenarios::one_signature_serves_all::<MariaDb>().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_is_behind() {
    scenarios::a_clock_that_is_behind::<MariaDb>().await;
}
