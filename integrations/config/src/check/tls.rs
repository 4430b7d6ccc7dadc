//! Checks of TLS: modes that the driver or the socket does not have, and files without effect.

use crate::error::Problem;
use crate::resolved_pool::{Engine, ModeOrigin, ResolvedPool};
use crate::schema::{PoolKind, SslMode};

/// Checks the mode of TLS, the authorities, and the client's certificate.
pub(super) fn check_tls(pool: &ResolvedPool, problems: &mut Vec<Problem>) {
    let mut problem =
        |key: &str, message: String| problems.push(Problem::new(pool.key(key), message));
    match (pool.client_certificate_file(), pool.client_key_file()) {
        (Some(_), None) => problem(
            "client_key_file",
            "is missing; a certificate needs its key".into(),
        ),
        (None, Some(_)) => {
            problem(
                "client_certificate_file",
                "is missing; a key needs its certificate".into(),
            );
        }
        _ => {}
    }
    if pool.is_socket() {
        return check_socket(pool, problems);
    }
    let verifies = matches!(
        pool.ssl_mode(),
        Some(SslMode::VerifyCa | SslMode::VerifyFull)
    );
    if pool.given_ca_file().is_some() && !verifies {
        problem(
            "ca_file",
            "has no effect with this `ssl_mode`; give `verify-full`".into(),
        );
    }
    check_certificate(pool, &mut problem);
    check_mode(pool, problems);
}

/// Checks that nothing requests TLS of a Unix socket. Drivers would request it, and fail.
fn check_socket(pool: &ResolvedPool, problems: &mut Vec<Problem>) {
    let settings = &pool.settings;
    let needs_tls = |mode| !matches!(mode, Some(SslMode::Disable | SslMode::Prefer) | None);
    for (key, is_given) in [
        ("ssl_mode", needs_tls(pool.given_ssl_mode())),
        ("ca_file", pool.given_ca_file().is_some()),
        (
            "client_certificate_file",
            pool.given_client_certificate_file().is_some(),
        ),
    ] {
        let is_of_key = match key {
            "ssl_mode" => settings.ssl_mode.is_some(),
            "ca_file" => settings.ca_file.is_some(),
            _ => settings.client_certificate_file.is_some(),
        };
        if is_given {
            let (key, what) = match is_of_key {
                true => (key, "is for TLS".to_owned()),
                false => ("url", format!("has a parameter for TLS, as `{key}`")),
            };
            let message = format!("{what}, which a Unix socket does not have; remove it");
            problems.push(Problem::new(pool.key(key), message));
        }
    }
}

/// Checks that the driver sends the client's certificate.
fn check_certificate(pool: &ResolvedPool, problem: &mut impl FnMut(&str, String)) {
    if pool.given_client_certificate_file().is_none() {
        return;
    }
    let (key, what) = match pool.settings.client_certificate_file {
        Some(_) => ("client_certificate_file", "has no effect"),
        None => ("url", "has `sslcert`, which has no effect"),
    };
    let kind = pool.kind;
    let has_no_tls = match pool.ssl_mode() {
        // A variable that switches TLS off, as on a developer's machine, contradicts no file.
        Some(mode) => {
            let is_given = !matches!(pool.ssl_mode_origin(), ModeOrigin::Environment(_));
            is_given && mode == SslMode::Disable
        }
        None => kind.engine() == Engine::Redis && !pool.has_tls_scheme(),
    };
    if !kind.sends_certificates() {
        let kind = kind.as_str();
        problem(key, format!("{what} on a pool of kind `{kind}`; remove it"));
    } else if has_no_tls {
        let advice = match kind.engine() {
            Engine::Redis => "`ssl_mode = \"verify-full\"`, or a URL of rediss://",
            _ => "another `ssl_mode`",
        };
        problem(key, format!("{what} without TLS; give {advice}"));
    }
}

/// Checks that the driver has the mode.
fn check_mode(pool: &ResolvedPool, problems: &mut Vec<Problem>) {
    let advice = pool.ssl_mode().and_then(|mode| instead_of(pool.kind, mode));
    let Some(advice) = advice else {
        return;
    };
    let by = |kind: &str| format!("is not supported by {kind}; give {advice}");
    let problem = match pool.ssl_mode_origin() {
        ModeOrigin::Key => Problem::new(pool.key("ssl_mode"), by("this kind")),
        ModeOrigin::Url => {
            let message = format!("has an `sslmode` that {}", by("this kind"));
            Problem::new(pool.key("url"), message)
        }
        ModeOrigin::Environment(variable) => {
            let kind = format!("pools of kind `{}`", pool.kind.as_str());
            Problem::new(variable, by(&kind))
        }
    };
    // A variable concerns each pool.
    if !problems.contains(&problem) {
        problems.push(problem);
    }
}

/// Returns the modes to give in place of one that the kind does not have.
fn instead_of(kind: PoolKind, mode: SslMode) -> Option<&'static str> {
    let is_sqlx = matches!(kind, PoolKind::Postgres | PoolKind::Mysql);
    match (kind.engine(), mode) {
        _ if is_sqlx => None,
        (Engine::Redis, SslMode::Prefer | SslMode::Require | SslMode::VerifyCa) => {
            Some("`disable` or `verify-full`")
        }
        (Engine::Postgres, SslMode::Require | SslMode::VerifyCa) => {
            Some("`disable`, `prefer` or `verify-full`")
        }
        _ => None,
    }
}
