//! Certificates: of the server, and of the authorities in a file.

use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use crate::finding::one_line;

/// The parts of a certificate that a person needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Certificate {
    pub(super) subject: String,
    pub(super) issuer: String,
    pub(super) not_before: SystemTime,
    pub(super) not_after: SystemTime,
    /// Version of X.509. rustls reads version 3 alone.
    pub(super) version: u32,
    /// Whether it is an authority's.
    pub(super) is_authority: bool,
    /// Host names and addresses that the certificate is valid for.
    pub(super) names: Vec<String>,
}

impl Certificate {
    /// Parses a certificate; `None` if it is none.
    pub(super) fn parse(der: &CertificateDer<'_>) -> Option<Self> {
        let (_, certificate) = X509Certificate::from_der(der).ok()?;
        let names = certificate
            .subject_alternative_name()
            .ok()
            .flatten()
            .map(|names| names.value.general_names.iter().filter_map(name).collect());
        Some(Self {
            subject: one_line(&certificate.subject().to_string()),
            issuer: one_line(&certificate.issuer().to_string()),
            not_before: time(certificate.validity().not_before.timestamp()),
            not_after: time(certificate.validity().not_after.timestamp()),
            version: certificate.version().0 + 1,
            is_authority: certificate.is_ca(),
            names: names.unwrap_or_default(),
        })
    }

    /// Returns whether the certificate is expired.
    pub(super) fn is_expired(&self, now: SystemTime) -> bool {
        self.not_after < now
    }

    /// Returns the day of the expiry.
    pub(super) fn expiry(&self) -> String {
        day(self.not_after)
    }
}

/// Returns which authorities of a file are of use at this time: those that are neither expired
/// nor issued by authorities of the file that are of no use. OpenSSL follows issuers to the last.
pub(super) fn unexpired(authorities: &[Certificate], now: SystemTime) -> Vec<bool> {
    let of_use = authorities
        .iter()
        .map(|authority| !authority.is_expired(now));
    let mut of_use: Vec<bool> = of_use.collect();
    loop {
        let has_issuer = |authority: &Certificate| {
            let issuers = authorities.iter().zip(&of_use);
            let mut issuers = issuers
                .filter(|(issuer, _)| issuer.subject == authority.issuer)
                .peekable();
            issuers.peek().is_none() || issuers.any(|(_, of_use)| *of_use)
        };
        let next: Vec<bool> = authorities
            .iter()
            .zip(&of_use)
            .map(|(authority, of_use)| *of_use && has_issuer(authority))
            .collect();
        if next == of_use {
            return of_use;
        }
        of_use = next;
    }
}

/// Reads the authorities of a PEM file.
///
/// # Errors
/// The file cannot be read, or contains no certificate.
pub(super) fn read_authorities(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let read = CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| format!("{}: {error}", path.display()))?;
    if read.is_empty() {
        return Err(format!("{} contains no certificate", path.display()));
    }
    Ok(read)
}

fn name(name: &GeneralName<'_>) -> Option<String> {
    match name {
        GeneralName::DNSName(name) => Some(one_line(name)),
        GeneralName::IPAddress(bytes) => match *bytes {
            &[a, b, c, d] => Some(std::net::Ipv4Addr::new(a, b, c, d).to_string()),
            bytes => {
                let bytes: [u8; 16] = bytes.try_into().ok()?;
                Some(std::net::Ipv6Addr::from(bytes).to_string())
            }
        },
        _ => None,
    }
}

fn time(timestamp: i64) -> SystemTime {
    match u64::try_from(timestamp) {
        Ok(seconds) => UNIX_EPOCH + Duration::from_secs(seconds),
        Err(_) => UNIX_EPOCH,
    }
}

/// Returns the day in the form 2026-11-30.
pub(super) fn day(time: SystemTime) -> String {
    // Certificates may end in the year 9999, the last one that the format has.
    let last = UNIX_EPOCH + Duration::from_secs(253_402_300_799);
    let text = humantime::format_rfc3339_seconds(time.min(last)).to_string();
    text.split('T').next().unwrap_or_default().to_owned()
}
