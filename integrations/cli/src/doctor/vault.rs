//! The identity in use at Vault, and its permission.

use std::time::Duration;

use claviger::error::ProviderError;
use claviger_config::{Backend, Connection};
use claviger_vault::{TokenIdentity, VaultSession};

use crate::finding::{Finding, Step, one_line};

/// What Vault reports after a fetch.
pub(super) struct Reported {
    identity: Result<TokenIdentity, ProviderError>,
    /// After a failed fetch: what the token may do at the path.
    capabilities: Option<Vec<String>>,
}

/// Requests the identity, and after a failed fetch the capabilities.
///
/// # Cancel safety
/// Dropping the future is safe.
pub(super) async fn report(
    session: &VaultSession,
    connection: &Connection,
    failed: bool,
) -> Reported {
    let identity = session.identity().await;
    let mut capabilities = None;
    if let (true, Ok(_), Backend::Vault { path, .. }) = (failed, &identity, connection.backend()) {
        capabilities = session.capabilities(path).await.ok();
    }
    Reported {
        identity,
        capabilities,
    }
}

/// Describes the identity. `None` if the error of the fetch is more exact.
pub(super) fn identity_finding(reported: &Reported, failed: bool) -> Option<Finding> {
    let identity = match &reported.identity {
        Ok(identity) => identity,
        Err(_) if failed => return None,
        Err(error) => {
            let detail = one_line(error.problem());
            let finding = Finding::note(Step::Identity, "identity_unknown", detail);
            return Some(finding.with_next(one_line(error.action())));
        }
    };
    let expiry = match identity.remaining {
        None => "without an expiry".to_owned(),
        Some(left) => {
            let left = humantime::format_duration(Duration::from_secs(left.as_secs()));
            format!("it expires in {left}")
        }
    };
    Some(Finding::ok(
        Step::Identity,
        format!("{}; {expiry}", subject(identity)),
    ))
}

fn subject(identity: &TokenIdentity) -> String {
    let policies = identity.policies.join(", ");
    one_line(&format!(
        "token \"{}\" with policies {policies}",
        identity.display_name
    ))
}

/// Explains a denied fetch by the capabilities of the token. `None` if they permit it.
pub(super) fn denied_finding(reported: &Reported, connection: &Connection) -> Option<Finding> {
    let Backend::Vault { path, .. } = connection.backend() else {
        return None;
    };
    let (identity, capabilities) = match (&reported.identity, &reported.capabilities) {
        (Ok(identity), Some(capabilities)) => (identity, capabilities),
        _ => return None,
    };
    let may_read = |name: &String| matches!(name.as_str(), "read" | "root");
    if capabilities.iter().any(may_read) {
        return None;
    }
    let detail = format!(
        "the {} may not read {}: it has {}",
        subject(identity),
        one_line(path),
        one_line(&capabilities.join(", "))
    );
    let policy = format!(
        "add to a policy of the token: path \"{}\" {{ capabilities = [\"read\"] }}",
        one_line(path)
    );
    Some(
        Finding::problem(Step::Permission, "permission_denied", detail)
            .with_next(policy)
            .with_next("or correct mount and name: the policies may permit another path"),
    )
}

/// Returns step and cause of an error of Vault's provider, by its text.
pub(super) fn cause(message: &str) -> Option<(Step, &'static str)> {
    let has = |text: &str| message.contains(text);
    let is_of_login = has("auth method is mounted") || has("lookup-self");
    Some(if has("Vault is sealed") {
        (Step::Permission, "vault_sealed")
    } else if has(": there is no namespace ") || (is_of_login && has("or there is no namespace ")) {
        // After a login in the namespace, it exists.
        (Step::Identity, "wrong_namespace")
    } else if has("does not allow this role") {
        (Step::Permission, "role_not_allowed")
    } else if has("lacks a permission in the database") {
        (Step::Permission, "engine_not_permitted")
    } else if has("database of the engine's connection does not exist") {
        (Step::Secret, "engine_database_missing")
    } else if has("rejects a statement of the role") || has("name what does not exist in the") {
        (Step::Secret, "statement_rejected")
    } else if has("rejects the login of the engine's user") {
        (Step::Secret, "engine_login_rejected")
    } else if has("there is no such role") {
        (Step::Secret, "unknown_role")
    } else if has("nothing is mounted there") {
        (Step::Secret, "wrong_mount")
    } else if has("no auth method is mounted there") {
        (Step::Identity, "wrong_auth_mount")
    } else if has("the token is invalid") || has("the token in the file is invalid") {
        (Step::Identity, "vault_token_invalid")
    } else if has(": the file is empty") || has(": the file does not exist") {
        (Step::Identity, "vault_token_missing")
    } else if has("the login is rejected")
        || has("AppRole rejects")
        || has("rejects the service account")
    {
        (Step::Identity, "vault_login_rejected")
    } else if has("Vault cannot be reached") {
        (Step::Permission, "vault_unreachable")
    } else if has("the server does not speak TLS") || has("the server requires TLS") {
        (Step::Permission, "wrong_scheme_of_vault")
    } else if has("Vault's certificate has expired") || has("Vault's certificate is not valid yet")
    {
        (Step::Permission, "vault_certificate_expired")
    } else if has("Vault's certificate is for another host") {
        (Step::Permission, "vault_certificate_of_another_host")
    } else if has("Vault's certificate is not trusted") {
        (Step::Permission, "vault_certificate_not_trusted")
    } else if has("Vault cannot connect to the database") || has("the database behind Vault") {
        (Step::Secret, "database_of_vault_unreachable")
    } else {
        return None;
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_error_of_vault_has_its_step_and_cause() {
        for (message, expected) in [
            (
                "http://v, database/creds/x: Vault is sealed; unseal it",
                (Step::Permission, "vault_sealed"),
            ),
            (
                "http://v, database/creds/x: there is no such role; check its name",
                (Step::Secret, "unknown_role"),
            ),
            (
                "http://v, login at auth/k8s: no auth method is mounted there; check the mount",
                (Step::Identity, "wrong_auth_mount"),
            ),
            (
                "http://v, login at auth/approle: there is no namespace \"team\"; set it",
                (Step::Identity, "wrong_namespace"),
            ),
            (
                "http://v, auth/token/lookup-self: there is nothing at this path, or there is no \
                 namespace \"team\"; check",
                (Step::Identity, "wrong_namespace"),
            ),
            (
                "http://v, databse/creds/x: nothing is mounted there, or there is no namespace \
                 \"team\"; check",
                (Step::Secret, "wrong_mount"),
            ),
            (
                "http://v, database/creds/x: the database of the engine's connection does not exist; \
                 create it",
                (Step::Secret, "engine_database_missing"),
            ),
            (
                "http://v, database/creds/x: the database rejects a statement of the role; correct",
                (Step::Secret, "statement_rejected"),
            ),
            (
                "http://v, database/creds/x: the server does not speak TLS; set an address",
                (Step::Permission, "wrong_scheme_of_vault"),
            ),
            (
                "http://v, auth/token/lookup-self: the token is invalid; configure another",
                (Step::Identity, "vault_token_invalid"),
            ),
        ] {
            assert_eq!(cause(message), Some(expected), "{message}");
        }
        assert_eq!(cause("a; b"), None);
    }
}
