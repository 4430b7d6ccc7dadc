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
    let mut authority = CertificateParams::default();
    authority
        .distinguished_name
        .push(DnType::CommonName, "test authority");
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    authority.not_before = date_time_ymd(2000, 1, 1);
    authority.not_after = date_time_ymd(case.authority, 1, 1);
    let authority_key = KeyPair::generate().expect("a key");
    let pem = authority.self_signed(&authority_key).expect("signed").pem();
    let issuer = Issuer::new(authority, authority_key);

    let mut params = CertificateParams::new([case.host.to_owned()]).expect("a name");
    params
        .distinguished_name
        .push(DnType::CommonName, "test server");
    params.not_before = date_time_ymd(2000, 1, 1);
    params.not_after = date_time_ymd(case.server, 1, 1);
    let key = KeyPair::generate().expect("a key");
    let certificate = params.signed_by(&key, &issuer).expect("signed");
    // In place, so that owner and mode remain.
    let folder = server.socket_dir();
    fs::write(folder.join("server.pem"), certificate.pem()).expect("written");
    fs::write(folder.join("server.key"), key.serialize_pem()).expect("written");
    server.sql("SELECT pg_reload_conf()").expect("reloaded");
    pem
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
