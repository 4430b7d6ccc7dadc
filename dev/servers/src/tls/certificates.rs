//! A certificate authority, the server's certificate, and an unrelated authority.

use std::path::Path;

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};

use super::{Authorities, CERTIFICATE_FILE, KEY_FILE};
use crate::account::{Account, write_for};
use crate::error::{StartError, io};
use crate::ports::HOST;

/// Creates them and writes them to the server's folder. The authorities' keys are discarded, so
/// that nothing else can be signed.
pub(super) fn write(folder: &Path, account: Option<Account>) -> Result<Authorities, StartError> {
    let (own, issuer) = create_authority("claviger test authority")?;
    let (unrelated, _) = create_authority("claviger unrelated authority")?;
    let (certificate, key) = server_certificate(&issuer)?;

    let files = Authorities {
        own: folder.join("ca.pem"),
        unrelated: folder.join("unrelated-ca.pem"),
    };
    for (file, pem) in [
        (&files.own, own),
        (&files.unrelated, unrelated),
        (&folder.join(CERTIFICATE_FILE), certificate),
        (&folder.join(KEY_FILE), key),
    ] {
        // PostgreSQL rejects a key that others can read.
        write_for(account, file, &pem).map_err(io("write a certificate"))?;
    }
    Ok(files)
}

fn create_authority(name: &str) -> Result<(String, Issuer<'static, KeyPair>), StartError> {
    let key = KeyPair::generate().map_err(StartError::Certificate)?;
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let certificate = params.self_signed(&key).map_err(StartError::Certificate)?;
    Ok((certificate.pem(), Issuer::new(params, key)))
}

fn server_certificate(issuer: &Issuer<'_, KeyPair>) -> Result<(String, String), StartError> {
    let key = KeyPair::generate().map_err(StartError::Certificate)?;
    let mut params = CertificateParams::new(["localhost".to_owned(), HOST.to_owned()])
        .map_err(StartError::Certificate)?;
    params
        .distinguished_name
        .push(DnType::CommonName, "claviger test server");
    params.use_authority_key_identifier_extension = true;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    // The nodes of a cluster are clients of each other.
    params.extended_key_usages = vec![
        ExtendedKeyUsagePurpose::ServerAuth,
        ExtendedKeyUsagePurpose::ClientAuth,
    ];
    let certificate = params
        .signed_by(&key, issuer)
        .map_err(StartError::Certificate)?;
    Ok((certificate.pem(), key.serialize_pem()))
}
