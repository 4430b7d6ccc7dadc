//! Findings about TLS: the server's certificate, its names and its authority.

mod certificates;
mod uncompleted;

use std::time::{Duration, SystemTime};

use claviger_config::{Engine, TlsMode};
use rustls::CertificateError;

use super::certificate::{Certificate, day};
use super::verification::Verification;
use crate::finding::{Finding, Step, one_line};

pub(super) use uncompleted::{alert_finding, client_files_finding, error_finding, failed_finding};

/// Time before the expiry of a certificate from which it is reported.
const SOON: Duration = Duration::from_secs(14 * 24 * 3_600);

/// What is known when TLS is judged.
pub(super) struct TlsFacts<'f> {
    pub(super) host: &'f str,
    pub(super) mode: TlsMode,
    pub(super) version: &'f str,
    /// The server's certificate, then those that it sent beside it.
    pub(super) chain: &'f [Certificate],
    pub(super) verdict: &'f Verification,
    /// Whether the driver verifies every server with TLS, whatever the mode.
    pub(super) always_verifies: bool,
    /// The authorities of `ca_file`.
    pub(super) authorities: &'f [Certificate],
    pub(super) now: SystemTime,
}

/// Returns the finding for a connection without TLS.
pub(super) fn plain_finding(mode: TlsMode) -> Finding {
    match mode {
        TlsMode::Disable => Finding::ok(Step::Tls, "off (ssl_mode = \"disable\")"),
        TlsMode::Prefer => Finding::note(
            Step::Tls,
            "no_tls",
            "the server has no TLS, and ssl_mode = \"prefer\" connects without it",
        ),
        _ => Finding::problem(Step::Tls, "server_without_tls", "the server has no TLS").with_next(
            "enable TLS at the server (`ssl = on`), or check that `host` and `port` are the \
                 server's and not those of a pooler without TLS; Redis without TLS has redis://",
        ),
    }
}

/// Returns the finding for a Unix socket. A file that requires TLS there is invalid.
pub(super) fn socket_finding() -> Finding {
    Finding::ok(Step::Tls, "none over a Unix socket")
}

/// Returns the finding for a response that is not one of the pool's kind of server.
pub(super) fn other_protocol_finding(step: Step, reason: &str) -> Finding {
    Finding::problem(step, "other_protocol", one_line(reason))
        .with_next("set `kind`, `host` and `port` to those of the same server")
}

/// Returns the finding for a server that responds only with TLS, where the pool does not begin with
/// it.
pub(super) fn expected_finding(engine: Engine) -> Finding {
    let problem = |detail| Finding::problem(Step::Tls, "server_expects_tls", detail);
    if engine == Engine::Redis {
        return problem(
            "the server accepts only TLS at this port, and the pool connects without it",
        )
        .with_next(
            "set ssl_mode = \"verify-full\" and `ca_file`; a URL with rediss:// is the same",
        );
    }
    problem(
        "the server at this port speaks TLS from the first byte; the pool's driver requests TLS in \
         the protocol of the database",
    )
    .with_next("set `port` to that of the database: this one may be that of HTTPS or of Redis")
    .with_next(
        "or let the load balancer or proxy in between, which ends TLS, forward TCP unchanged",
    )
}

/// Returns the finding for a completed handshake.
pub(super) fn tls_finding(facts: &TlsFacts<'_>) -> Finding {
    let Some(server) = facts.chain.first() else {
        return failed_finding("the server sent no certificate");
    };
    let is_verified =
        facts.always_verifies || matches!(facts.mode, TlsMode::VerifyCa | TlsMode::VerifyFull);
    // The name of the host does not count for `verify-ca`.
    let counts_name = facts.always_verifies || facts.mode != TlsMode::VerifyCa;
    let of_certificate = [
        facts
            .verdict
            .time
            .as_ref()
            .err()
            .map(|error| of_time(facts, server, error)),
        facts
            .verdict
            .authority
            .as_ref()
            .err()
            .map(|error| of_authority(facts, server, error)),
    ];
    let of_name = facts
        .verdict
        .name
        .as_ref()
        .err()
        .map(|_| of_name(facts, server));
    let (counted, uncounted) = match counts_name {
        true => (of_name, None),
        false => (None, of_name),
    };
    let problems: Vec<_> = of_certificate
        .into_iter()
        .flatten()
        .chain(counted)
        .collect();
    match (together(problems), uncounted) {
        (None, None) => accepted(facts, server),
        (Some(problem), _) if is_verified => problem,
        (problem, name) => {
            let reason = problem.or(name).map(|reason| reason.detail);
            Finding::note(
                Step::Tls,
                "not_verified",
                format!(
                    "{}; this ssl_mode does not verify it: {}",
                    facts.version,
                    reason.unwrap_or_default()
                ),
            )
            .with_next("set ssl_mode = \"verify-full\" and `ca_file`")
        }
    }
}

/// Returns the first problem, with what is wrong beside it.
fn together(problems: Vec<Finding>) -> Option<Finding> {
    problems.into_iter().reduce(|mut first, other| {
        first.detail += "; ";
        first.detail += &other.detail;
        first.next.extend(other.next);
        first
    })
}

fn accepted(facts: &TlsFacts<'_>, server: &Certificate) -> Finding {
    if facts.verdict.unexpired.is_err()
        && let Some(authority) = expired_authority(facts)
    {
        // It does not end the examination: the login shows more.
        return Finding::problem(
            Step::Tls,
            "expired_authority",
            format!(
                "the CA certificate {} expired on {}; rustls accepts it, libpq and OpenSSL do not",
                authority.subject,
                authority.expiry()
            ),
        )
        .with_next(
            "put the new CA certificate into `ca_file`, and install a certificate that it signed \
             on the server",
        );
    }
    let certificate = format!(
        "{}, {} expires on {}",
        facts.version,
        server.subject,
        server.expiry()
    );
    match server.not_after.duration_since(facts.now) {
        Ok(left) if left < SOON => {
            Finding::note(Step::Tls, "certificate_expires_soon", certificate)
                .with_next("renew the server's certificate")
        }
        _ => Finding::ok(Step::Tls, certificate),
    }
}

/// Returns the expired authority that issued one of the server's certificates, or else the first
/// expired one.
fn expired_authority<'f>(facts: &TlsFacts<'f>) -> Option<&'f Certificate> {
    let expired = || {
        let authorities = facts.authorities.iter();
        authorities.filter(|authority| authority.is_expired(facts.now))
    };
    let issued = |authority: &&Certificate| {
        let mut chain = facts.chain.iter();
        chain.any(|certificate| certificate.issuer == authority.subject)
    };
    expired().find(issued).or_else(|| expired().next())
}

fn of_time(facts: &TlsFacts<'_>, server: &Certificate, error: &rustls::Error) -> Finding {
    let expired = facts
        .chain
        .iter()
        .find(|certificate| certificate.is_expired(facts.now));
    if let Some(certificate) = expired {
        let which = if certificate == server {
            "the server's certificate"
        } else {
            "the CA certificate"
        };
        return Finding::problem(
            Step::Tls,
            "expired_certificate",
            format!(
                "{which} {} expired on {}",
                certificate.subject,
                certificate.expiry()
            ),
        )
        .with_next("renew it at the server, and reload the server");
    }
    let is_later = |certificate: &&Certificate| certificate.not_before > facts.now;
    match facts.chain.iter().find(is_later) {
        Some(certificate) => Finding::problem(
            Step::Tls,
            "certificate_not_valid_yet",
            format!(
                "{} is valid from {} on; this machine's clock shows {}",
                certificate.subject,
                day(certificate.not_before),
                day(facts.now)
            ),
        )
        .with_next("check this machine's clock"),
        None => failed_finding(&error.to_string()),
    }
}

fn of_name(facts: &TlsFacts<'_>, server: &Certificate) -> Finding {
    if server.names.is_empty() {
        return certificates::without_names(facts.host, server);
    }
    Finding::problem(
        Step::Tls,
        "certificate_of_another_host",
        format!(
            "the certificate is for {}, not for {}",
            server.names.join(", "),
            one_line(facts.host)
        ),
    )
    .with_next("set `host` to a name of the certificate, or renew it with this name")
}

fn of_authority(facts: &TlsFacts<'_>, server: &Certificate, error: &rustls::Error) -> Finding {
    match error {
        rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer) => {
            unknown(facts, server)
        }
        error => certificates::unusable(facts.chain, server, error),
    }
}

fn unknown(facts: &TlsFacts<'_>, server: &Certificate) -> Finding {
    let issuer = facts.chain.last().unwrap_or(server).issuer.clone();
    let detail = format!(
        "{} is signed by {issuer}, which is not trusted",
        server.subject
    );
    let problem = Finding::problem(Step::Tls, "unknown_authority", detail);
    let mut authorities = facts.authorities.iter();
    let all_expired = authorities.all(|authority| authority.is_expired(facts.now));
    let expired = expired_authority(facts).filter(|_| all_expired);
    match (facts.authorities.first(), expired) {
        (None, _) => problem.with_next("set `ca_file` to the PEM file of that CA certificate"),
        (Some(_), Some(expired)) => problem.with_next(format!(
            "replace `ca_file`: its CA certificate {} expired on {}",
            expired.subject,
            expired.expiry()
        )),
        (Some(first), None) => problem.with_next(format!(
            "add that CA certificate to `ca_file`, which has {}",
            first.subject
        )),
    }
}

#[cfg(test)]
mod tests;
