//! One fetch of the credentials: the permission for it, and the shape of what it returns.

use std::time::Duration;

use claviger::error::{ProviderError, ProviderErrorKind as Kind};
use claviger::lease::Timestamp;
use claviger::provider::{FetchRequest, Fetched};
use claviger::{Credentials, Lease, Provider as _};
use claviger_config::{AnyProvider, Backend};
use tokio::time::timeout;

use crate::finding::{Finding, Step, one_line};
use crate::secret::HIDDEN;

/// Longest time of a fetch, as the supervisor's default.
const TIMEOUT: Duration = Duration::from_secs(30);

/// The credentials that are examined.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Examined {
    /// Those that a service which starts now would use.
    Current,
    /// Those that the next rotation would use: new ones, or the backend's pending ones. The current
    /// ones if there are no others.
    Next,
}

/// Fetches a lease. The caller releases it.
///
/// # Errors
/// The provider's error, or a timeout.
///
/// # Cancel safety
/// A lease that the backend creates meanwhile expires by itself.
pub(crate) async fn fetch(
    provider: &AnyProvider,
    examined: Examined,
) -> Result<Lease<Credentials>, ProviderError> {
    let request = FetchRequest::first();
    let fetched = async {
        match examined {
            Examined::Current => provider.fetch(request).await,
            Examined::Next => provider.rehearse(request).await,
        }
    };
    match timeout(TIMEOUT, fetched).await {
        Ok(Ok(Fetched::New(lease))) => Ok(lease),
        Ok(Ok(_)) => Err(ProviderError::new(
            Kind::Other,
            "the provider returned no lease",
        )),
        Ok(Err(error)) => Err(error),
        Err(_) => Err(ProviderError::new(
            Kind::TimedOut,
            "the backend did not respond within 30 s",
        )),
    }
}

/// Releases a lease and closes its provider.
///
/// # Cancel safety
/// When the future is dropped, the lease expires by itself.
pub(crate) async fn release(provider: &AnyProvider, lease: Option<Lease<Credentials>>) {
    let ended = async {
        if let Some(lease) = lease {
            // What cannot be released expires; the diagnosis is the same.
            let _ = provider.release(lease).await;
        }
        provider.close().await;
    };
    let _ = timeout(TIMEOUT, ended).await;
}

/// Returns the finding for a failed fetch.
pub(super) fn failed_finding(error: &ProviderError) -> Finding {
    let (step, cause) = match error.kind() {
        Kind::Denied => (Step::Permission, "permission_denied"),
        Kind::NotFound => (Step::Secret, "secret_not_found"),
        Kind::Malformed => (Step::Secret, "malformed_secret"),
        Kind::Misconfigured => (Step::Settings, "provider_misconfigured"),
        Kind::TimedOut => (Step::Permission, "backend_timed_out"),
        Kind::Throttled => (Step::Permission, "backend_throttles"),
        _ => (Step::Permission, "backend_unavailable"),
    };
    #[cfg(feature = "vault")]
    let (step, cause) = super::vault::cause(error.message()).unwrap_or((step, cause));
    let detail = one_line(error.problem());
    Finding::problem(step, cause, detail).with_next(one_line(error.action()))
}

/// Returns the user's name, or `***` if it is the password as well.
pub(super) fn shown_user(credentials: &Credentials) -> String {
    shown(credentials, credentials.user())
}

/// Returns a name, or `***` if it is the password as well.
pub(super) fn shown(credentials: &Credentials, name: &str) -> String {
    if name == credentials.expose_password() {
        HIDDEN.to_owned()
    } else {
        name.to_owned()
    }
}

fn is_password(credentials: &Credentials) -> bool {
    credentials.user() == credentials.expose_password()
}

/// Describes a successful fetch: the permission, then the credentials without their secret. `user`
/// is that of the settings.
pub(super) fn fetched_findings(
    backend: &Backend,
    user: Option<&str>,
    lease: &Lease<Credentials>,
    now: Timestamp,
) -> Vec<Finding> {
    let permission = match backend {
        Backend::RdsIam { .. } | Backend::ElasticacheIam { .. } => Finding::note(
            Step::Permission,
            "permission_unknown",
            "signing needs none; rds-db:connect is not checked, the login shows it",
        ),
        Backend::SecretsManager { secret } => {
            Finding::ok(Step::Permission, format!("{} was read", one_line(secret)))
        }
        Backend::Vault { path, auth, .. } => Finding::ok(
            Step::Permission,
            format!("{} was read (auth {auth})", one_line(path)),
        ),
        Backend::File { path } => {
            Finding::ok(Step::Permission, format!("{} was read", path.display()))
        }
        _ => Finding::ok(
            Step::Permission,
            "none needed, the credentials never change",
        ),
    };
    let mut findings = vec![permission];
    findings.extend(secret_findings(user, lease, now));
    findings
}

/// A user's name that is the password is a note if it is in the settings, as in a setup for
/// development. One that is in the secret alone can be that of a wrong key. A login would write the
/// password to the server's log, so that is a problem.
fn user_is_password(user: Option<&str>, credentials: &Credentials) -> Finding {
    let detail = "user and password are the same text, which is not shown";
    if user == Some(credentials.user()) {
        return Finding::note(Step::Secret, "user_is_password", detail)
            .with_next("give the user a password of its own, unless this is for development");
    }
    Finding::problem(Step::Secret, "user_is_password", detail).with_next(
        "set `user_key` to the key of the user's name, or give the user a password of its own: \
         servers log the names of users",
    )
}

fn secret_findings(user: Option<&str>, lease: &Lease<Credentials>, now: Timestamp) -> Vec<Finding> {
    let credentials = lease.secret();
    let mut findings = Vec::new();
    if is_password(credentials) {
        let finding = user_is_password(user, credentials);
        if finding.is_problem() {
            return vec![finding];
        }
        findings.push(finding);
    }
    let what = if credentials.is_token() {
        "token"
    } else {
        "password"
    };
    let expiry = match lease.expiry().remaining(now) {
        None => "it does not expire".to_owned(),
        Some(left) => {
            let left = humantime::format_duration(Duration::from_secs(left.as_secs()));
            format!("it expires in {left}")
        }
    };
    let user = one_line(&shown_user(credentials));
    let secret = Finding::ok(Step::Secret, format!("a {what} of user {user}; {expiry}"));
    findings.push(secret);
    let password = credentials.expose_password();
    if password.trim() == password && !password.contains(['\r', '\n']) {
        return findings;
    }
    let note = Finding::note(
        Step::Secret,
        "password_has_white_space",
        format!("the {what} has white space at an end, or a line break"),
    );
    let next = "if the database's password has none, remove it from the backend's text";
    findings.push(note.with_next(next));
    findings
}

#[cfg(test)]
mod tests {
    use claviger::Revision;

    use super::*;

    #[test]
    fn the_kind_of_the_error_names_the_step() {
        for (kind, message, step, cause) in [
            (Kind::Denied, "a; b", Step::Permission, "permission_denied"),
            (Kind::NotFound, "a; b", Step::Secret, "secret_not_found"),
            (Kind::Malformed, "a; b", Step::Secret, "malformed_secret"),
            (
                Kind::Unavailable,
                "a; b",
                Step::Permission,
                "backend_unavailable",
            ),
            (
                Kind::Misconfigured,
                "a; b",
                Step::Settings,
                "provider_misconfigured",
            ),
        ] {
            let finding = failed_finding(&ProviderError::new(kind, message));
            assert_eq!((finding.step, finding.cause), (step, Some(cause)));
            assert_eq!(finding.next, ["b"]);
        }
    }

    #[test]
    fn an_error_without_advice_of_its_own_has_that_of_its_kind() {
        for kind in Kind::ALL {
            let finding = failed_finding(&ProviderError::new(*kind, "it does not work"));
            assert_eq!(finding.detail, "it does not work");
            assert_eq!(finding.next, [kind.advice().action], "{kind:?}");
        }
    }

    #[test]
    fn a_fetched_secret_is_described_without_its_text() {
        let lease = Lease::new(Credentials::new("app", "kestrel"), Revision::new("1"));
        let backend = Backend::File {
            path: "/run/password".into(),
        };
        let findings = fetched_findings(&backend, None, &lease, Timestamp::now());
        assert_eq!(findings[0].detail, "/run/password was read");
        assert_eq!(
            findings[1].detail,
            "a password of user app; it does not expire"
        );
    }

    #[test]
    fn a_password_as_the_user_s_name_is_not_shown() {
        let credentials = Credentials::new("kestrel", "kestrel");
        assert_eq!(shown_user(&credentials), "***");
        let lease = Lease::new(credentials, Revision::new("1"));
        let findings = secret_findings(None, &lease, Timestamp::now());
        assert_eq!(findings[0].cause, Some("user_is_password"));
        assert!(findings[0].is_problem());
        assert!(!format!("{findings:?}").contains("kestrel"));
        let of_settings = secret_findings(Some("kestrel"), &lease, Timestamp::now());
        assert_eq!(of_settings[0].cause, Some("user_is_password"));
        assert!(!of_settings[0].is_problem());
        assert!(!format!("{of_settings:?}").contains("kestrel"));
    }

    #[test]
    fn white_space_around_a_password_is_noted() {
        for (password, is_noted) in [
            ("kestrel\n", true),
            (" kestrel", true),
            ("kes\ntrel", true),
            ("kes trel", false),
        ] {
            let lease = Lease::new(Credentials::new("app", password), Revision::new("1"));
            let findings = secret_findings(None, &lease, Timestamp::now());
            let cause = findings.last().and_then(|finding| finding.cause);
            let expected = is_noted.then_some("password_has_white_space");
            assert_eq!(cause, expected, "{password:?}");
        }
    }
}
