//! Handshakes that were not completed.

use rustls::{AlertDescription, PeerIncompatible};

use super::{certificates, other_protocol_finding};
use crate::doctor::certificate::Certificate;
use crate::doctor::handshake::ClientFiles;
use crate::finding::{Finding, Step, one_line};

/// Returns the finding for a handshake without a reason that is known.
pub(in crate::doctor) fn failed_finding(reason: &str) -> Finding {
    Finding::problem(
        Step::Tls,
        "handshake_failed",
        format!("the handshake failed: {}", one_line(reason)),
    )
    .with_next("check that `host` and `port` are those of the database, and its TLS settings")
}

/// Returns the finding for the error of a handshake. `chain` has the certificates that the server
/// sent before it.
pub(in crate::doctor) fn error_finding(
    error: &rustls::Error,
    chain: &[Certificate],
    has_client_certificate: bool,
) -> Finding {
    match error {
        rustls::Error::AlertReceived(alert) => alert_finding(*alert, has_client_certificate),
        rustls::Error::PeerIncompatible(PeerIncompatible::ServerDoesNotSupportTls12Or13) => {
            too_old()
        }
        rustls::Error::PeerIncompatible(reason) => {
            nothing_in_common(&format!("{reason:?}"), has_client_certificate)
        }
        rustls::Error::InvalidMessage(_) => {
            other_protocol_finding(Step::Tls, "the server does not respond with TLS")
        }
        rustls::Error::InvalidCertificate(_) => match chain.first() {
            Some(server) => certificates::unusable(chain, server, error),
            None => failed_finding(&error.to_string()),
        },
        error => failed_finding(&error.to_string()),
    }
}

/// Returns the finding for the end of TLS by the server, during the handshake or after it.
pub(in crate::doctor) fn alert_finding(
    alert: AlertDescription,
    has_client_certificate: bool,
) -> Finding {
    match alert {
        // An authority with the name of the known one and another key.
        AlertDescription::DecryptError if has_client_certificate => client_rejected(alert),
        AlertDescription::BadCertificate
        | AlertDescription::UnsupportedCertificate
        | AlertDescription::CertificateRevoked
        | AlertDescription::CertificateExpired
        | AlertDescription::CertificateUnknown
        | AlertDescription::UnknownCA
        | AlertDescription::AccessDenied
        | AlertDescription::CertificateRequired => client_rejected(alert),
        AlertDescription::ProtocolVersion => too_old(),
        AlertDescription::HandshakeFailure | AlertDescription::InsufficientSecurity => {
            nothing_in_common(&format!("{alert:?}"), has_client_certificate)
        }
        alert => failed_finding(&format!("the server ended TLS: {alert:?}")),
    }
}

fn client_rejected(alert: AlertDescription) -> Finding {
    Finding::problem(
        Step::Tls,
        "client_certificate_rejected",
        format!("the server ended TLS: {alert:?}"),
    )
    .with_next(
        "set `client_certificate_file` and `client_key_file`, or renew them: the server requires a \
         certificate that is valid, by an authority that it knows",
    )
}

fn too_old() -> Finding {
    Finding::problem(
        Step::Tls,
        "server_tls_too_old",
        "the server has TLS 1.1 or older alone; the pools need TLS 1.2 or 1.3",
    )
    .with_next(
        "allow TLS 1.2 at the server: `ssl_max_protocol_version` of PostgreSQL, `tls_version` of \
         MySQL, `tls-protocols` of Redis",
    )
}

fn nothing_in_common(reason: &str, has_client_certificate: bool) -> Finding {
    let finding = Finding::problem(
        Step::Tls,
        "no_common_tls_parameters",
        format!("server and client have no parameters of TLS in common: {reason}"),
    )
    .with_next(
        "allow at the server TLS 1.3, or ciphers of TLS 1.2 with ECDHE and AES-GCM or ChaCha20 \
         (`ssl_ciphers`)",
    );
    if has_client_certificate {
        return finding;
    }
    finding.with_next(
        "or set `client_certificate_file`: a server with TLS 1.2 that requires a certificate ends \
         the handshake in the same way",
    )
}

/// Returns the finding for files of the client's certificate and key that cannot be used.
pub(in crate::doctor) fn client_files_finding(files: &ClientFiles) -> Finding {
    match files {
        ClientFiles::Unreadable(reason) => Finding::problem(
            Step::Tls,
            "unreadable_client_certificate",
            format!(
                "the client's certificate or key cannot be used: {}",
                one_line(reason)
            ),
        )
        .with_next(
            "set `client_certificate_file` and `client_key_file` to PEM files that this user can \
             read: a certificate of X.509 version 3, and its key without a passphrase",
        ),
        ClientFiles::Mismatch => Finding::problem(
            Step::Tls,
            "client_key_of_another_certificate",
            "the key of `client_key_file` is not that of `client_certificate_file`",
        )
        .with_next("set both to files of the same certificate; a renewal replaces both"),
    }
}
