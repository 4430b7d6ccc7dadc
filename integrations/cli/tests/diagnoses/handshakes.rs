//! Handshakes of TLS that end with an error.

use std::fs;

use claviger_servers::Postgres;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    date_time_ymd,
};

use crate::certificates::{authority, authority_of, client, replace};
use crate::common::{Diagnosis, SECRET, Setup, pool};

/// Splits the first value of DER: its content, and what follows it.
fn value(der: &[u8]) -> (&[u8], &[u8]) {
    let (start, length) = match der[1] {
        0x82 => (4, usize::from(der[2]) << 8 | usize::from(der[3])),
        0x81 => (3, usize::from(der[2])),
        length => (2, usize::from(length)),
    };
    (&der[start..start + length], &der[start + length..])
}

fn sequence(content: &[u8]) -> Vec<u8> {
    let length = u16::try_from(content.len()).expect("short").to_be_bytes();
    let head = match length {
        [0, low] if low < 0x80 => vec![0x30, low],
        [0, low] => vec![0x30, 0x81, low],
        [high, low] => vec![0x30, 0x82, high, low],
    };
    [head, content.to_vec()].concat()
}

/// Returns the certificate as one of version 1. Its signature is no longer valid, which nobody
/// examines before the version.
fn as_version_1(der: &[u8]) -> String {
    let (certificate, _) = value(der);
    let (signed, signature) = value(certificate);
    let (_, without_version) = value(signed);
    let body = [sequence(without_version), signature.to_vec()].concat();
    let encoded = base64(&sequence(&body));
    format!("-----BEGIN CERTIFICATE-----\n{encoded}-----END CERTIFICATE-----\n")
}

fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for (number, chunk) in bytes.chunks(3).enumerate() {
        let bits = (0..3).fold(0_usize, |bits, at| {
            bits << 8 | usize::from(*chunk.get(at).unwrap_or(&0))
        });
        for at in 0..4 {
            match at <= chunk.len() {
                true => text.push(char::from(DIGITS[bits >> (18 - 6 * at) & 63])),
                false => text.push('='),
            }
        }
        if number % 16 == 15 {
            text.push('\n');
        }
    }
    text + "\n"
}

/// Repeats a diagnosis until the server has reloaded its certificate.
fn until(changed: impl Fn(&Diagnosis) -> bool, diagnose: impl Fn() -> Diagnosis) -> Diagnosis {
    let mut attempts = (0..300).map(|_| diagnose());
    attempts.find(|attempt| changed(attempt)).expect("reloaded")
}

/// As in the manual of PostgreSQL: `openssl req -new -x509`, `openssl x509 -req`.
#[test]
fn certificates_that_libpq_accepts_and_rustls_does_not_are_named() {
    let server = Postgres::builder().tls().start().expect("a server");
    server.create_role("app", SECRET).expect("a role");
    let setup = Setup::new();
    let (pem, issuer) = authority_of("test authority", KeyPair::generate().expect("a key"), 2090);
    let by_authority = format!("ca_file = \"{}\"", setup.write("ca.pem", &pem));
    let params = |name: &str| {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.not_after = date_time_ymd(2090, 1, 1);
        params
    };
    let key = KeyPair::generate().expect("a key");
    let diagnose = |name: &str, settings: &str| {
        let is_new = |diagnosis: &Diagnosis| diagnosis.finding("tls").to_string().contains(name);
        let more = format!("database = \"postgres\"\n{settings}");
        let config = pool(&setup, server.port(), &more);
        until(is_new, || setup.doctor(&config, &[]))
    };
    let unverified = "ssl_mode = \"prefer\"";

    let mut own = params("self-signed");
    own.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let own = own.self_signed(&key).expect("signed").pem();
    replace(&server, &own, &key.serialize_pem());
    let by_itself = format!("ca_file = \"{}\"", setup.write("own.pem", &own));
    for settings in [&by_itself, &by_authority] {
        let diagnosis = diagnose("self-signed", settings);
        diagnosis.assert_cause("tls", "certificate_is_an_authority");
        let finding = diagnosis.finding("tls").to_string();
        assert!(
            finding.contains("subjectAltName = IP:127.0.0.1"),
            "{finding}"
        );
    }
    diagnose("self-signed", unverified).assert_fine();

    let nameless = params("nameless").signed_by(&key, &issuer).expect("signed");
    replace(&server, &nameless.pem(), &key.serialize_pem());
    let nameless = diagnose("nameless", &by_authority);
    nameless.assert_cause("tls", "certificate_without_names");

    let mut of_client = CertificateParams::new(["127.0.0.1".to_owned()]).expect("a name");
    of_client
        .distinguished_name
        .push(DnType::CommonName, "of a client");
    of_client.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    let of_client = of_client.signed_by(&key, &issuer).expect("signed");
    replace(&server, &of_client.pem(), &key.serialize_pem());
    let of_client = diagnose("of a client", &by_authority);
    of_client.assert_cause("tls", "invalid_certificate");

    let old = params("old").signed_by(&key, &issuer).expect("signed");
    replace(&server, &as_version_1(old.der()), &key.serialize_pem());
    for settings in [&by_authority, unverified] {
        let old = diagnose("CN=old", settings);
        old.assert_cause("tls", "certificate_too_old");
        assert_eq!(old.logins(), (0, 0));
    }
}

#[test]
fn versions_ciphers_and_certificates_that_end_the_handshake_are_named() {
    let setup = Setup::new();
    let start = |settings: &[(&str, &str)]| {
        let mut server = Postgres::builder()
            .tls()
            .hba("hostssl all app 127.0.0.1/32 scram-sha-256 clientcert=verify-ca");
        for (name, value) in settings {
            server = server.setting(*name, *value);
        }
        let server = server.start().expect("a server");
        server.create_role("app", SECRET).expect("a role");
        server
    };
    let diagnose = |server: &Postgres, client: &str| {
        let ca_file = server.ca_file().expect("it has TLS").display();
        let more = format!("database = \"postgres\"\nca_file = \"{ca_file}\"\n{client}");
        setup.doctor(&pool(&setup, server.port(), &more), &[])
    };
    let old = [
        ("ssl_min_protocol_version", "TLSv1"),
        ("ssl_max_protocol_version", "TLSv1.1"),
    ];
    diagnose(&start(&old), "").assert_cause("tls", "server_tls_too_old");
    let tls_1_2 = ("ssl_max_protocol_version", "TLSv1.2");
    // The server has no RSA key, which these need.
    let ciphers = [tls_1_2, ("ssl_ciphers", "AES128-SHA")];
    diagnose(&start(&ciphers), "").assert_cause("tls", "no_common_tls_parameters");

    let folder = Setup::new();
    let (known, issuer) = authority();
    let known = folder.write("clients.pem", &known);
    let server = start(&[tls_1_2, ("ssl_ca_file", &known)]);
    diagnose(&server, &client(&setup, &issuer, "anybody", 2090)).assert_fine();
    let (_, unknown) = authority();
    let unknown = diagnose(&server, &client(&setup, &unknown, "anybody", 2090));
    unknown.assert_cause("tls", "client_certificate_rejected");
    let right = client(&setup, &issuer, "anybody", 2090);
    let other = KeyPair::generate().expect("a key").serialize_pem();
    setup.write("client.key", &other);
    let mismatch = diagnose(&server, &right);
    mismatch.assert_cause("tls", "client_key_of_another_certificate");
    fs::remove_file(setup.path("client.key")).expect("removed");
    let missing = diagnose(&server, &right);
    missing.assert_cause("tls", "unreadable_client_certificate");
}
