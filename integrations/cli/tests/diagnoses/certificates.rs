//! Certificates of PostgreSQL.

use std::fs;

use claviger_servers::Postgres;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, date_time_ymd};

use crate::common::{Diagnosis, SECRET, Setup, pool};

/// Years in which an authority and its certificate expire, and the host of the certificate.
struct Case {
    authority: i32,
    server: i32,
    host: &'static str,
}

/// Gives the server a certificate and returns the PEM text of its authority.
fn install(server: &Postgres, case: &Case) -> String {
    let key = KeyPair::generate().expect("a key");
    let (pem, issuer) = authority_of("test authority", key, case.authority);
    issue(server, &issuer, case.host, case.server);
    pem
}

/// Gives the server a certificate by this authority. The server reloads it in its own time.
fn issue(server: &Postgres, issuer: &Issuer<'_, KeyPair>, host: &str, expires: i32) {
    let mut params = CertificateParams::new([host.to_owned()]).expect("a name");
    params
        .distinguished_name
        .push(DnType::CommonName, "test server");
    params.not_before = date_time_ymd(2000, 1, 1);
    params.not_after = date_time_ymd(expires, 1, 1);
    let key = KeyPair::generate().expect("a key");
    let certificate = params.signed_by(&key, issuer).expect("signed");
    replace(server, &certificate.pem(), &key.serialize_pem());
}

fn diagnose(setup: &Setup, server: &Postgres, ca_file: &str) -> Diagnosis {
    let more = format!("database = \"postgres\"\nca_file = \"{ca_file}\"");
    setup.doctor(&pool(setup, server.port(), &more), &[])
}

#[test]
fn expired_certificates_other_hosts_and_other_authorities_are_named() {
    let server = Postgres::builder().tls().start().expect("a server");
    server.create_role("app", SECRET).expect("a role");
    let setup = Setup::new();
    let own = server.ca_file().expect("it has TLS").display().to_string();
    diagnose(&setup, &server, &own).assert_fine();

    let unrelated = server.unrelated_ca_file().expect("it has TLS");
    let unknown = diagnose(&setup, &server, &unrelated.display().to_string());
    unknown.assert_cause("tls", "unknown_authority");
    let missing = diagnose(&setup, &server, "/nonexistent/ca.pem");
    missing.assert_cause("tls", "unreadable_ca_file");

    for (case, outcome, cause, word) in [
        (
            Case {
                authority: 2090,
                server: 2001,
                host: "127.0.0.1",
            },
            "problem",
            "expired_certificate",
            "test server expired on 2001-01-01",
        ),
        (
            Case {
                authority: 2090,
                server: 2090,
                host: "db.example.com",
            },
            "problem",
            "certificate_of_another_host",
            "the certificate is for db.example.com, not for 127.0.0.1",
        ),
        (
            Case {
                authority: 2090,
                server: 2001,
                host: "db.example.com",
            },
            "problem",
            "expired_certificate",
            "on 2001-01-01; the certificate is for db.example.com, not for 127.0.0.1",
        ),
        (
            Case {
                authority: 2001,
                server: 2090,
                host: "127.0.0.1",
            },
            "problem",
            "expired_authority",
            "test authority expired on 2001-01-01",
        ),
    ] {
        let ca_file = setup.write("ca.pem", &install(&server, &case));
        // The server reloads in its own time.
        let diagnosis = loop {
            let diagnosis = diagnose(&setup, &server, &ca_file);
            if diagnosis.finding("tls")["cause"] != "unknown_authority" {
                break diagnosis;
            }
        };
        let finding = diagnosis.finding("tls");
        assert_eq!(finding["cause"], cause, "{:#}", diagnosis.report);
        assert_eq!(finding["outcome"], outcome, "{:#}", diagnosis.report);
        assert!(finding["detail"].to_string().contains(word), "{finding:#}");
        // rustls accepts an expired authority.
        let logins = u64::from(cause == "expired_authority");
        assert_eq!(diagnosis.logins(), (logins, 0), "no login after a problem");
    }
}

/// Creates an authority of this name and key that expires in this year.
pub(crate) fn authority_of(
    name: &str,
    key: KeyPair,
    expires: i32,
) -> (String, Issuer<'static, KeyPair>) {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.not_before = date_time_ymd(2000, 1, 1);
    params.not_after = date_time_ymd(expires, 1, 1);
    let pem = params.self_signed(&key).expect("signed").pem();
    (pem, Issuer::new(params, key))
}

/// Gives the server a certificate of this text and key. It reloads in its own time.
pub(crate) fn replace(server: &Postgres, certificate: &str, key: &str) {
    // In place, so that owner and mode remain.
    let folder = server.socket_dir();
    fs::write(folder.join("server.pem"), certificate).expect("written");
    fs::write(folder.join("server.key"), key).expect("written");
    server.sql("SELECT pg_reload_conf()").expect("reloaded");
}

#[test]
fn of_several_authorities_those_count_that_issued_the_certificate() {
    let server = Postgres::builder().tls().start().expect("a server");
    server.create_role("app", SECRET).expect("a role");
    let setup = Setup::new();
    let key = KeyPair::generate().expect("a key");
    let key = || KeyPair::from_pem(&key.serialize_pem()).expect("a key");
    let unrelated = KeyPair::generate().expect("a key");
    let (unrelated, _) = authority_of("unrelated authority", unrelated, 2001);
    let (expired, _) = authority_of("test authority", key(), 2001);
    let (renewed, issuer) = authority_of("test authority", key(), 2090);
    issue(&server, &issuer, "127.0.0.1", 2090);
    let by_psql = |ca_file: &str| {
        let more = format!("database = \"postgres\"\nca_file = \"{ca_file}\"");
        let arguments = ["exec", "--", "psql", "-Atc", "SELECT 'verified'"];
        setup
            .run(&pool(&setup, server.port(), &more), &arguments)
            .stdout
    };
    for (authorities, cause, word) in [
        (
            [&unrelated, &expired],
            "expired_authority",
            "test authority",
        ),
        ([&expired, &expired], "expired_authority", "test authority"),
        ([&expired, &renewed], "", ""),
        ([&renewed, &unrelated], "", ""),
    ] {
        let ca_file = setup.write("ca.pem", &authorities.map(String::as_str).concat());
        let mut attempts = (0..300).map(|_| diagnose(&setup, &server, &ca_file));
        let is_new = |attempt: &Diagnosis| attempt.finding("tls")["cause"] != "unknown_authority";
        let diagnosis = attempts.find(is_new).expect("a new certificate");
        let tls = diagnosis.finding("tls");
        assert_eq!(tls["cause"].as_str().unwrap_or(""), cause, "{tls:#}");
        assert!(tls["detail"].to_string().contains(word), "{tls:#}");
        let is_verified = by_psql(&ca_file) == "verified\n";
        assert_eq!(is_verified, cause.is_empty(), "{tls:#}");
    }
}

/// The drivers differ: sqlx accepts any certificate with `prefer`, tokio-postgres verifies it.
#[test]
fn a_certificate_is_judged_as_the_driver_of_the_pool_does() {
    let server = Postgres::builder().tls().start().expect("a server");
    server.create_role("app", SECRET).expect("a role");
    let setup = Setup::new();
    let config = |kind: &str, more: &str| {
        let more = format!("database = \"postgres\"\nkind = \"{kind}\"\n{more}");
        setup.doctor(&pool(&setup, server.port(), &more), &[])
    };
    let own = server.ca_file().expect("it has TLS").display().to_string();
    for kind in ["deadpool-postgres", "bb8-postgres", "diesel-postgres"] {
        let unverified = config(kind, "ssl_mode = \"prefer\"");
        unverified.assert_cause("tls", "unknown_authority");
        assert_eq!(unverified.logins(), (0, 0));
        let verified = config(kind, &format!("ca_file = \"{own}\""));
        verified.assert_fine();
        assert_eq!(verified.finding("capacity")["outcome"], "ok");
        assert_eq!(verified.logins(), (1, 0));
    }
    let sqlx = config("postgres", "ssl_mode = \"prefer\"");
    sqlx.assert_fine();
    assert_eq!(sqlx.finding("tls")["cause"], "not_verified");
}

/// Writes a client's certificate by an authority, and returns the settings for it.
pub(crate) fn client(
    setup: &Setup,
    authority: &Issuer<'_, KeyPair>,
    name: &str,
    expires: i32,
) -> String {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.not_before = date_time_ymd(2000, 1, 1);
    params.not_after = date_time_ymd(expires, 1, 1);
    let key = KeyPair::generate().expect("a key");
    let certificate = params.signed_by(&key, authority).expect("signed").pem();
    format!(
        "client_certificate_file = \"{}\"\nclient_key_file = \"{}\"",
        setup.write("client.pem", &certificate),
        setup.write("client.key", &key.serialize_pem())
    )
}

pub(crate) fn authority() -> (String, Issuer<'static, KeyPair>) {
    let key = KeyPair::generate().expect("a key");
    authority_of("client authority", key, 2090)
}

#[test]
fn certificates_of_clients_that_do_not_fit_are_named() {
    let server = Postgres::builder()
        .tls()
        .hba("hostssl all app 127.0.0.1/32 scram-sha-256 clientcert=verify-ca")
        .hba("hostssl all by_name 127.0.0.1/32 cert")
        .hba("hostssl all by_ident 127.0.0.1/32 ident")
        .start()
        .expect("a server");
    server.create_role("app", SECRET).expect("a role");
    server.create_role("by_name", SECRET).expect("a role");
    server.create_role("by_ident", SECRET).expect("a role");
    let (pem, known) = authority();
    let file = server.socket_dir().join("clients.pem");
    fs::write(&file, pem).expect("written");
    let sql = format!("ALTER SYSTEM SET ssl_ca_file = '{}'", file.display());
    server.sql(&sql).expect("set");
    server.sql("SELECT pg_reload_conf()").expect("reloaded");
    let setup = Setup::new();
    let own = server.ca_file().expect("it has TLS").display().to_string();
    let diagnose = |user: &str, client: &str| {
        let more =
            format!("user = \"{user}\"\ndatabase = \"postgres\"\nca_file = \"{own}\"\n{client}");
        setup.doctor(&pool(&setup, server.port(), &more), &[])
    };
    // The server reloads in its own time.
    let certificate = client(&setup, &known, "anybody", 2090);
    let mut attempts = (0..300).map(|_| diagnose("app", &certificate));
    let right = attempts.find(|attempt| attempt.run.code == Some(0));
    let right = right.expect("the server knows the authority");
    right.assert_fine();
    diagnose("by_name", &client(&setup, &known, "by_name", 2090)).assert_fine();
    let rejected = "client_certificate_rejected";
    diagnose("app", "").assert_cause("login", rejected);
    let other = diagnose("by_name", &client(&setup, &known, "another", 2090));
    other.assert_cause("login", rejected);
    for client in ["", &client(&setup, &known, "by_ident", 2090)] {
        let by_ident = diagnose("by_ident", client);
        by_ident.assert_cause("login", "password_not_requested");
    }
    let (_, unknown) = authority();
    let unknown = diagnose("app", &client(&setup, &unknown, "anybody", 2090));
    unknown.assert_cause("tls", rejected);
    let expired = diagnose("app", &client(&setup, &known, "anybody", 2001));
    expired.assert_cause("tls", rejected);
}
