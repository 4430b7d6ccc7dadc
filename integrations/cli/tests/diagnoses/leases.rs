//! The lifetime of leases.

use claviger_vault_fixtures::{Kind, Revocation};

use crate::vaults::Vault;

#[test]
fn a_lease_that_a_slow_fetch_outlasts_is_named() {
    let vault = Vault::start();
    vault.write_token("orders");
    let doctor = |seconds, role| {
        let kind = Kind::PostgreSql;
        let made = vault
            .admin
            .role(kind, role, seconds, 3_600, Revocation::Terminating);
        made.expect("a role");
        vault.setup.doctor(&vault.config(role), &[])
    };
    let short = doctor(20, "seconds");
    short.assert_cause("lifetime", "lease_too_short");
    let next = short.finding("lifetime")["next"][0].to_string();
    assert!(next.contains("default_ttl"), "{next}");
    let fine = doctor(3_000, "minutes");
    fine.assert_fine();
    assert_eq!(fine.finding("lifetime"), &serde_json::Value::Null);
}
