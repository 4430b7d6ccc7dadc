//! Judges TLS: the server's certificate, its names and its authority.

use std::time::{Duration, SystemTime};

use claviger_config::TlsMode;
use rustls::CertificateError;

use super::certificate::{Certificate, day};
use crate::finding::{Finding, Step, one_line};

/// Time before the expiry of a certificate from which it is reported.
const SOON: Duration = Duration::from_secs(14 * 24 * 3_600);

/// What is known when TLS is judged.
pub(super) struct TlsFacts<'f> {
    pub(super) host: &'f str,
    pub(super) mode: TlsMode,
    pub(super) version: &'f str,
    /// The server's certificate, then those that it sent beside it.
    pub(super) chain: &'f [Certificate],
    pub(super) verdict: &'f Result<(), rustls::Error>,
    /// The authorities of `ca_file`.
    pub(super) authorities: &'f [Certificate],
    pub(super) now: SystemTime,
}

/// Judges a connection without TLS.
pub(super) fn plain_finding(mode: TlsMode, server_has_tls: Option<bool>) -> Finding {
    match mode {
        TlsMode::Disable => Finding::ok(Step::Tls, "off (ssl_mode = \"disable\")"),
        TlsMode::Prefer if server_has_tls == Some(false) => Finding::note(
            Step::Tls,
            "no_tls",
            "the server has no TLS, and ssl_mode = \"prefer\" connects without it",
        ),
        _ => Finding::problem(Step::Tls, "server_without_tls", "the server has no TLS").with_next(
            "enable TLS at the server (`ssl = on`), or check that `host` and `port` are the \
                 server's and not those of a pooler without TLS",
        ),
    }
}

/// Judges a handshake that was not completed.
pub(super) fn failed_finding(reason: &str) -> Finding {
    Finding::problem(
        Step::Tls,
        "handshake_failed",
        format!("the handshake failed: {}", one_line(reason)),
    )
    .with_next("check that `host` and `port` are those of the database, and its TLS settings")
}

/// Judges a completed handshake.
pub(super) fn tls_finding(facts: &TlsFacts<'_>) -> Finding {
    let Some(server) = facts.chain.first() else {
        return failed_finding("the server sent no certificate");
    };
    let is_enforced = match facts.mode {
        TlsMode::VerifyFull => true,
        // The name of the host does not count.
        TlsMode::VerifyCa => !matches!(facts.verdict, Err(error) if is_name(error)),
        _ => false,
    };
    match facts.verdict {
        Ok(()) => accepted(facts, server),
        Err(error) if is_enforced => rejected(facts, server, error),
        Err(error) => {
            let reason = rejected(facts, server, error);
            Finding::note(
                Step::Tls,
                "not_verified",
                format!(
                    "{}; this ssl_mode does not verify it: {}",
                    facts.version, reason.detail
                ),
            )
            .with_next("set ssl_mode = \"verify-full\" and `ca_file`")
        }
    }
}

fn accepted(facts: &TlsFacts<'_>, server: &Certificate) -> Finding {
    let expired_authority = facts
        .authorities
        .iter()
        .find(|authority| authority.is_expired(facts.now));
    let issued_by = |authority: &Certificate| {
        facts
            .chain
            .iter()
            .any(|certificate| certificate.issuer == authority.subject)
    };
    if let Some(authority) = expired_authority
        && issued_by(authority)
    {
        return Finding::note(
            Step::Tls,
            "expired_authority",
            format!(
                "the authority {} expired on {}; rustls accepts it, libpq and OpenSSL do not",
                authority.subject,
                authority.expiry()
            ),
        )
        .with_next(
            "install the new authority in `ca_file`, and a certificate by it on the server",
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

fn rejected(facts: &TlsFacts<'_>, server: &Certificate, error: &rustls::Error) -> Finding {
    let expired = facts
        .chain
        .iter()
        .find(|certificate| certificate.is_expired(facts.now));
    if let Some(certificate) = expired {
        let which = if certificate == server {
            "the server's certificate"
        } else {
            "the authority"
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
    if is_name(error) {
        return Finding::problem(
            Step::Tls,
            "certificate_of_another_host",
            format!(
                "the certificate is for {}, not for {}",
                names(server),
                one_line(facts.host)
            ),
        )
        .with_next("set `host` to a name of the certificate, or renew it with this name");
    }
    match error {
        rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer) => {
            unknown(facts, server)
        }
        rustls::Error::InvalidCertificate(
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. },
        ) => Finding::problem(
            Step::Tls,
            "certificate_not_valid_yet",
            format!(
                "{} is valid from {} on; this machine's clock shows {}",
                server.subject,
                day(server.not_before),
                day(facts.now)
            ),
        )
        .with_next("check this machine's clock"),
        error => failed_finding(&error.to_string()),
    }
}

fn unknown(facts: &TlsFacts<'_>, server: &Certificate) -> Finding {
    let issuer = facts.chain.last().unwrap_or(server).issuer.clone();
    let detail = format!(
        "{} is signed by {issuer}, which is not trusted",
        server.subject
    );
    let problem = Finding::problem(Step::Tls, "unknown_authority", detail);
    let expired = facts
        .authorities
        .iter()
        .find(|authority| authority.is_expired(facts.now));
    match (facts.authorities.first(), expired) {
        (None, _) => problem.with_next("set `ca_file` to the PEM file of that authority"),
        (Some(_), Some(expired)) => problem.with_next(format!(
            "replace `ca_file`: its authority {} expired on {}",
            expired.subject,
            expired.expiry()
        )),
        (Some(first), None) => problem.with_next(format!(
            "add that authority to `ca_file`, which has {}",
            first.subject
        )),
    }
}

fn is_name(error: &rustls::Error) -> bool {
    matches!(
        error,
        rustls::Error::InvalidCertificate(
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. }
        )
    )
}

fn names(certificate: &Certificate) -> String {
    match certificate.names.as_slice() {
        [] => certificate.subject.clone(),
        names => names.join(", "),
    }
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::*;

    const DAY: Duration = Duration::from_secs(24 * 3_600);

    fn now() -> SystemTime {
        UNIX_EPOCH + 20_000 * DAY
    }

    fn certificate(subject: &str, issuer: &str, not_after: SystemTime) -> Certificate {
        Certificate {
            subject: subject.into(),
            issuer: issuer.into(),
            not_before: UNIX_EPOCH,
            not_after,
            names: vec!["db.internal".into()],
        }
    }

    fn judge(
        mode: TlsMode,
        chain: &[Certificate],
        authorities: &[Certificate],
        verdict: Result<(), CertificateError>,
    ) -> Finding {
        tls_finding(&TlsFacts {
            host: "db",
            mode,
            version: "TLSv1_3",
            chain,
            verdict: &verdict.map_err(rustls::Error::from),
            authorities,
            now: now(),
        })
    }

    #[test]
    fn expired_certificates_are_named_with_their_day() {
        let server = certificate("CN=db", "CN=ca", now() - DAY);
        let chain = [server, certificate("CN=ca", "CN=root", now() + 90 * DAY)];
        let expired = Err(CertificateError::Expired);
        let finding = judge(TlsMode::VerifyFull, &chain, &[], expired);
        assert_eq!(finding.cause, Some("expired_certificate"));
        assert!(finding.detail.contains("the server's certificate CN=db"));
        assert!(finding.detail.contains("2024-10-03"), "{finding:?}");
        let chain = [
            certificate("CN=db", "CN=ca", now() + 90 * DAY),
            certificate("CN=ca", "CN=root", now() - DAY),
        ];
        let expired = Err(CertificateError::Expired);
        let finding = judge(TlsMode::VerifyFull, &chain, &[], expired);
        assert!(
            finding.detail.starts_with("the authority CN=ca"),
            "{finding:?}"
        );
    }

    #[test]
    fn an_expired_authority_of_the_file_is_reported_although_rustls_accepts_it() {
        let chain = [certificate("CN=db", "CN=ca", now() + 90 * DAY)];
        let authority = certificate("CN=ca", "CN=ca", now() - DAY);
        let other = certificate("CN=other", "CN=other", now() - DAY);
        let found = |authority: &Certificate| {
            judge(
                TlsMode::VerifyFull,
                &chain,
                std::slice::from_ref(authority),
                Ok(()),
            )
            .cause
        };
        assert_eq!(found(&authority), Some("expired_authority"));
        assert_eq!(found(&other), None);
        let unknown = Err(CertificateError::UnknownIssuer);
        let finding = judge(TlsMode::VerifyFull, &chain, &[other], unknown);
        assert_eq!(finding.cause, Some("unknown_authority"));
        assert!(
            finding.next[0].contains("CN=other expired on"),
            "{finding:?}"
        );
    }

    #[test]
    fn the_name_counts_for_verify_full_alone() {
        let chain = [certificate("CN=db", "CN=ca", now() + 90 * DAY)];
        let wrong = || Err(CertificateError::NotValidForName);
        let found = |mode| judge(mode, &chain, &[], wrong()).cause;
        assert_eq!(
            found(TlsMode::VerifyFull),
            Some("certificate_of_another_host")
        );
        assert_eq!(found(TlsMode::VerifyCa), Some("not_verified"));
        assert_eq!(found(TlsMode::Require), Some("not_verified"));
    }

    #[test]
    fn a_certificate_that_expires_soon_is_a_note() {
        let found = |left| {
            let chain = [certificate("CN=db", "CN=ca", now() + left)];
            judge(TlsMode::VerifyFull, &chain, &[], Ok(())).cause
        };
        assert_eq!(found(DAY), Some("certificate_expires_soon"));
        assert_eq!(found(60 * DAY), None);
    }

    #[test]
    fn a_server_without_tls_is_a_problem_unless_the_mode_allows_it() {
        let cause = |mode| plain_finding(mode, Some(false)).cause;
        assert_eq!(cause(TlsMode::Disable), None);
        assert_eq!(cause(TlsMode::Prefer), Some("no_tls"));
        assert_eq!(cause(TlsMode::Require), Some("server_without_tls"));
    }
}
