//! Errors of RDS Proxy itself. They show it also behind a name of one's own.
//!
//! The texts are those of AWS's page "Troubleshooting for RDS Proxy". They are in English alone.

use super::LoginFacts;
use crate::finding::{Finding, Step};

/// Returns the finding for a text. `None` if it is not one of RDS Proxy.
pub(super) fn finding(facts: &LoginFacts<'_>, message: &str) -> Option<Finding> {
    let has = |text: &str| message.contains(text);
    let problem = |cause, next: &str| {
        Finding::problem(Step::Login, cause, format!("RDS Proxy: {message}")).with_next(next)
    };
    Some(if has("RDS proxy has no credentials for the role") {
        problem(
            "no_credentials_at_proxy",
            "add a secret with this user and its password to the authentication of the proxy, also \
             for logins with tokens; the proxy's role needs secretsmanager:GetSecretValue on it",
        )
    } else if has("IAM authentication failed for") {
        problem(
            "token_rejected",
            "the identity lacks rds-db:connect on …:dbuser:prx-…/USER: for a proxy, the resource \
             is the proxy's (prx-…), not that of the instance",
        )
        .with_next("the token is for another host than the proxy's endpoint, or another region")
        .with_next("the session that signed it is expired, or the clocks differ by 15 min")
    } else if has("The password that was provided for the role") {
        let tokens = facts.is_token;
        problem(
            "password_rejected",
            if tokens {
                "the proxy accepts passwords for this user, no tokens: set IAM authentication of \
                 its secret to required, or remove `aws_iam_auth`"
            } else {
                "the password differs from that of the user's secret at the proxy: give both the \
                 same secret"
            },
        )
    } else if has("requires TLS connections") || has("allowed only with SSL connections") {
        problem(
            "tls_required",
            "set ssl_mode = \"verify-full\": the proxy requires TLS",
        )
    } else if has("RDS supports only IAM") {
        problem(
            "authentication_not_supported",
            "set the client password type of the proxy's secret to the one that the driver uses \
             (scram-sha-256)",
        )
    } else if has("Timed-out waiting to acquire database connection") {
        problem(
            "proxy_without_connection",
            "the proxy has no free connection to the database, or cannot log in there: see the \
             health of its targets, the secret's password, and MaxConnectionsPercent",
        )
    } else if has("connections to the proxy exceeded")
        || has("Rate of connection to proxy exceeded")
        || has("rate limit exceeded")
        || has("too many competing requests")
        || has("Number simultaneous connections exceeded")
    {
        problem(
            "too_many_connections",
            "lower `max_connections` of the pools at this proxy, and the rate of their logins",
        )
    } else if has("RDS Proxy currently doesn't support the option") {
        problem(
            "startup_parameter_rejected",
            "remove `options` from the URL of the pool",
        )
    } else {
        return None;
    })
}

/// Returns the database's own error, which the proxy forwards in a text.
pub(super) fn forwarded(message: &str) -> Option<&str> {
    message.strip_prefix("Request returned an error: ")
}

#[cfg(test)]
mod tests {
    #![expect(clippy::expect_used, reason = "a test fails by panicking")]

    use super::*;

    #[test]
    fn each_text_has_its_cause() {
        let judged = |is_token, message: &str| {
            let facts = LoginFacts {
                user: "app",
                database: "orders",
                is_token,
                has_tls: true,
                has_client_certificate: false,
                pooler: None,
                method: None,
            };
            finding(&facts, message)
        };
        for (message, cause, next) in [
            (
                "This RDS proxy has no credentials for the role app. Check the credentials for \
                 this role and try again.",
                "no_credentials_at_proxy",
                "add a secret",
            ),
            (
                "The IAM authentication failed for the role app. Check the IAM token for this role \
                 and try again.",
                "token_rejected",
                "prx-",
            ),
            (
                "The password that was provided for the role app is wrong.",
                "password_rejected",
                "no tokens",
            ),
            (
                "IAM authentication is allowed only with SSL connections.",
                "tls_required",
                "verify-full",
            ),
            (
                "This RDS Proxy requires TLS connections.",
                "tls_required",
                "verify-full",
            ),
            (
                "Timed-out waiting to acquire database connection.",
                "proxy_without_connection",
                "targets",
            ),
            (
                "The maximum number of client connections to the proxy exceeded 100.",
                "too_many_connections",
                "max_connections",
            ),
        ] {
            let finding = judged(true, message).expect("one of RDS Proxy");
            assert_eq!(finding.cause, Some(cause), "{message}");
            assert!(finding.next[0].contains(next), "{finding:?}");
        }
        assert_eq!(
            judged(true, "PAM authentication failed for user \"app\""),
            None
        );
        let forwarded = forwarded("Request returned an error: database \"x\" does not exist");
        assert_eq!(forwarded, Some("database \"x\" does not exist"));
    }
}
