use std::time::UNIX_EPOCH;

use super::*;
use crate::doctor::certificate::unexpired;

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
        version: 3,
        is_authority: false,
        names: vec!["db.internal".into()],
    }
}

fn judge(
    mode: TlsMode,
    chain: &[Certificate],
    authorities: &[Certificate],
    errors: &[CertificateError],
) -> Finding {
    tls_finding(&TlsFacts {
        host: "db",
        mode,
        version: "TLSv1_3",
        chain,
        verdict: &verdict(errors),
        always_verifies: false,
        authorities,
        now: now(),
    })
}

fn verdict(errors: &[CertificateError]) -> Verification {
    let result = |error| match errors.contains(&error) {
        true => Err(error.into()),
        false => Ok(()),
    };
    Verification {
        time: result(CertificateError::Expired),
        authority: result(CertificateError::UnknownIssuer),
        unexpired: Ok(()),
        name: result(CertificateError::NotValidForName),
    }
}

#[test]
fn expired_certificates_are_named_with_their_day() {
    let server = certificate("CN=db", "CN=ca", now() - DAY);
    let chain = [server, certificate("CN=ca", "CN=root", now() + 90 * DAY)];
    let finding = judge(
        TlsMode::VerifyFull,
        &chain,
        &[],
        &[CertificateError::Expired],
    );
    assert_eq!(finding.cause, Some("expired_certificate"));
    assert!(finding.detail.contains("the server's certificate CN=db"));
    assert!(finding.detail.contains("2024-10-03"), "{finding:?}");
    let chain = [
        certificate("CN=db", "CN=ca", now() + 90 * DAY),
        certificate("CN=ca", "CN=root", now() - DAY),
    ];
    let finding = judge(
        TlsMode::VerifyFull,
        &chain,
        &[],
        &[CertificateError::Expired],
    );
    assert!(
        finding.detail.starts_with("the CA certificate CN=ca"),
        "{finding:?}"
    );
}

#[test]
fn an_expired_authority_of_the_file_is_reported_although_rustls_accepts_it() {
    let chain = [certificate("CN=db", "CN=ca", now() + 90 * DAY)];
    let authority = certificate("CN=ca", "CN=ca", now() - DAY);
    let other = certificate("CN=other", "CN=other", now() - DAY);
    let found = |authorities: &[Certificate], unexpired| {
        tls_finding(&TlsFacts {
            host: "db",
            mode: TlsMode::VerifyFull,
            version: "TLSv1_3",
            chain: &chain,
            verdict: &Verification {
                unexpired,
                ..verdict(&[])
            },
            always_verifies: false,
            authorities,
            now: now(),
        })
    };
    let needed = || Err(CertificateError::UnknownIssuer.into());
    let finding = found(&[other.clone(), authority.clone()], needed());
    assert_eq!(finding.cause, Some("expired_authority"));
    assert!(finding.detail.contains("CN=ca expired"), "{finding:?}");
    assert_eq!(found(&[other.clone(), authority], Ok(())).cause, None);
    let unknown = [CertificateError::UnknownIssuer];
    let finding = judge(TlsMode::VerifyFull, &chain, &[other], &unknown);
    assert_eq!(finding.cause, Some("unknown_authority"));
    assert!(
        finding.next[0].contains("CN=other expired on"),
        "{finding:?}"
    );
}

#[test]
fn an_authority_whose_issuers_are_all_expired_is_of_no_use() {
    let (past, later) = (now() - DAY, now() + DAY);
    let of_use = |authorities: &[Certificate]| unexpired(authorities, now());
    let root = |not_after| certificate("CN=root", "CN=root", not_after);
    let below = || certificate("CN=below", "CN=root", later);
    assert_eq!(of_use(&[below(), root(past)]), [false, false]);
    assert_eq!(
        of_use(&[below(), root(past), root(later)]),
        [true, false, true]
    );
    // Its issuer is not in the file.
    assert_eq!(of_use(&[below()]), [true]);
    let lowest = certificate("CN=lowest", "CN=below", later);
    assert_eq!(of_use(&[lowest, below(), root(past)]), [false; 3]);
    // Each issued the other.
    let (one, other) = (("CN=1", "CN=2"), ("CN=2", "CN=1"));
    let pair = [one, other].map(|(subject, issuer)| certificate(subject, issuer, later));
    assert_eq!(of_use(&pair), [true, true]);
}

#[test]
fn the_name_counts_for_verify_full_alone() {
    let chain = [certificate("CN=db", "CN=ca", now() + 90 * DAY)];
    let wrong = [CertificateError::NotValidForName];
    let found = |mode| judge(mode, &chain, &[], &wrong).cause;
    assert_eq!(
        found(TlsMode::VerifyFull),
        Some("certificate_of_another_host")
    );
    assert_eq!(found(TlsMode::VerifyCa), Some("not_verified"));
    assert_eq!(found(TlsMode::Require), Some("not_verified"));
}

#[test]
fn no_error_of_a_certificate_hides_another() {
    let chain = [certificate("CN=db", "CN=ca", now() - DAY)];
    let errors = [
        CertificateError::Expired,
        CertificateError::UnknownIssuer,
        CertificateError::NotValidForName,
    ];
    let finding = judge(TlsMode::VerifyFull, &chain, &[], &errors);
    assert_eq!(finding.cause, Some("expired_certificate"));
    for part in [
        "expired on",
        "signed by CN=ca",
        "for db.internal, not for db",
    ] {
        assert!(finding.detail.contains(part), "{finding:?}");
    }
    assert_eq!(finding.next.len(), 3);
    let finding = judge(TlsMode::VerifyCa, &chain, &[], &errors);
    assert!(!finding.detail.contains("not for db"), "{finding:?}");
}

#[test]
fn a_driver_that_always_verifies_rejects_in_each_mode() {
    let chain = [certificate("CN=db", "CN=ca", now() + 90 * DAY)];
    for error in [
        CertificateError::UnknownIssuer,
        CertificateError::NotValidForName,
    ] {
        let finding = tls_finding(&TlsFacts {
            host: "db",
            mode: TlsMode::Prefer,
            version: "TLSv1_3",
            chain: &chain,
            verdict: &verdict(std::slice::from_ref(&error)),
            always_verifies: true,
            authorities: &[],
            now: now(),
        });
        assert!(finding.is_problem(), "{error:?}: {finding:?}");
    }
}

#[test]
fn a_certificate_that_expires_soon_is_a_note() {
    let found = |left| {
        let chain = [certificate("CN=db", "CN=ca", now() + left)];
        judge(TlsMode::VerifyFull, &chain, &[], &[]).cause
    };
    assert_eq!(found(DAY), Some("certificate_expires_soon"));
    assert_eq!(found(60 * DAY), None);
}

#[test]
fn a_server_without_tls_is_a_problem_unless_the_mode_allows_it() {
    let cause = |mode| plain_finding(mode).cause;
    assert_eq!(cause(TlsMode::Disable), None);
    assert_eq!(cause(TlsMode::Prefer), Some("no_tls"));
    assert_eq!(cause(TlsMode::Require), Some("server_without_tls"));
}
