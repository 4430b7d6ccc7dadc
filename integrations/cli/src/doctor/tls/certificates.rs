//! Certificates that no authority, name or day makes acceptable to rustls.

use std::net::IpAddr;

use crate::doctor::certificate::Certificate;
use crate::finding::{Finding, Step, one_line};

/// Returns the finding for a certificate that is not accepted by itself.
pub(super) fn unusable(
    chain: &[Certificate],
    server: &Certificate,
    error: &rustls::Error,
) -> Finding {
    let old = chain.iter().find(|certificate| certificate.version < 3);
    if let Some(old) = old {
        return Finding::problem(
            Step::Tls,
            "certificate_too_old",
            format!(
                "{} is a certificate of X.509 version {}; rustls reads version 3 alone",
                old.subject, old.version
            ),
        )
        .with_next(
            "issue it anew with extensions, such as subjectAltName: they make it version 3 \
             (openssl x509 -req -extfile FILE)",
        );
    }
    if server.is_authority {
        return Finding::problem(
            Step::Tls,
            "certificate_is_an_authority",
            format!(
                "the server's certificate {} is a CA certificate (CA:TRUE); libpq accepts it, \
                 rustls does not",
                server.subject
            ),
        )
        .with_next(
            "let this CA issue another certificate for the server, with basicConstraints \
             CA:FALSE and a subjectAltName, and set `ca_file` to the CA certificate",
        );
    }
    Finding::problem(
        Step::Tls,
        "invalid_certificate",
        one_line(&format!("{} is not accepted: {error}", server.subject)),
    )
    .with_next(
        "issue it anew for a server: extendedKeyUsage serverAuth, a signature with SHA-256, an RSA \
         key of 2048 bits or more",
    )
}

/// Returns the finding for a certificate that has no name at all, but in its subject.
pub(super) fn without_names(host: &str, server: &Certificate) -> Finding {
    let kind = match host.parse::<IpAddr>() {
        Ok(_) => "IP",
        Err(_) => "DNS",
    };
    Finding::problem(
        Step::Tls,
        "certificate_without_names",
        format!(
            "the certificate {} has no subjectAltName; the name in its subject (CN) does not count",
            server.subject
        ),
    )
    .with_next(format!(
        "renew it with subjectAltName = {kind}:{}",
        one_line(host)
    ))
}
