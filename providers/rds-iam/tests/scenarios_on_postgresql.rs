//! needs: postgresql, pam, alone
//!
//! Tokens on a PostgreSQL that checks them through PAM, as RDS does.

mod common;
#[path = "scenarios/deadpool.rs"]
mod deadpool;
mod scenarios;

use claviger_servers::Postgres;

#[tokio::test(flavor = "multi_thread")]
async fn an_expired_token_fails_only_when_a_connection_opens() {
    scenarios::an_expired_token_fails_only_when_a_connection_opens::<Postgres>().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn twenty_token_lifetimes_pass_without_a_failure() {
    scenarios::twenty_token_lifetimes_pass_without_a_failure::<Postgres>().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn signing_sessions_that_expire_before_their_tokens_cause_no_failure() {
    scenarios::signing_sessions_that_expire_before_their_tokens_cause_no_failure::<Postgres>()
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn five_seconds_of_rejections_cost_few_logins() {
    scenarios::five_seconds_of_rejections_cost_few_logins::<Postgres>().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_signature_is_used_by_all_pools() {
    scenarios::one_signature_is_used_by_all_pools::<Postgres>().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_is_behind_causes_no_failure() {
    scenarios::a_clock_that_is_behind_causes_no_failure::<Postgres>().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_call_on_deadpool_fails_while_tokens_expire() {
    deadpool::no_call_fails_while_tokens_expire().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rejected_tokens_on_deadpool_cost_few_logins() {
    deadpool::rejected_tokens_cost_few_logins().await;
}
