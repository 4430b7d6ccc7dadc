//! Vault and OpenBao.

use std::net::TcpListener;
use std::process::Stdio;
use std::thread;
use std::time::Duration;

use claviger_servers::{InjectedFault, Postgres, Proxy};
use claviger_vault_fixtures::{Admin, ENGINE_PASSWORD, ENGINE_USER, Kind, Revocation};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;

use crate::common::Setup;

/// A Vault with a database engine, and a token of its policy.
pub(crate) struct Vault {
    pub(crate) admin: Admin,
    server: Postgres,
    pub(crate) setup: Setup,
}

impl Vault {
    pub(crate) fn start() -> Self {
        let server = Postgres::start().expect("a server");
        let sql = format!(
            "CREATE ROLE {ENGINE_USER} LOGIN CREATEROLE SUPERUSER PASSWORD '{ENGINE_PASSWORD}';
             CREATE ROLE app"
        );
        server.sql(&sql).expect("roles");
        server.create_database("orders", "app").expect("a database");
        let admin = Admin::start().expect("a Vault");
        admin
            .connect(Kind::PostgreSql, server.port())
            .expect("connected");
        admin
            .role(
                Kind::PostgreSql,
                "orders",
                600,
                3_600,
                Revocation::Terminating,
            )
            .expect("a role");
        admin.policy().expect("a policy");
        Self {
            admin,
            server,
            setup: Setup::new(),
        }
    }

    /// Writes a token with this policy to the file `token`.
    pub(crate) fn write_token(&self, policy: &str) {
        let body = json!({ "policies": [policy], "ttl": "1h" });
        let created = self
            .admin
            .write("auth/token/create", &body)
            .expect("a token");
        let token = created["auth"]["client_token"].as_str().expect("a token");
        self.setup.write("token", token);
    }

    pub(crate) fn config(&self, role: &str) -> String {
        format!(
            "[pools.orders]\nhost = \"127.0.0.1\"\nport = {}\ndatabase = \"orders\"\n\
             provider = \"orders\"\n[providers.orders]\nkind = \"vault-dynamic\"\n\
             role = \"{role}\"\n[vaults.main]\naddress = \"{}\"\n\
             auth = {{ kind = \"token\", token = \"file:{}\" }}\n",
            self.server.port(),
            self.admin.vault.address(),
            self.setup.path("token").display()
        )
    }

    pub(crate) fn leases(&self) -> usize {
        self.admin.leases("orders").expect("the leases").len()
    }
}

#[test]
fn a_vault_that_is_sealed_or_denies_is_named_and_leases_are_released() {
    let vault = Vault::start();
    vault.write_token("orders");
    let fine = vault.setup.doctor(&vault.config("orders"), &[]);
    fine.assert_fine();
    let target = fine.report["connections"][0]["target"].to_string();
    assert!(target.contains("@127.0.0.1"), "{target}");
    let rehearse = ["rehearse", "--json"];
    let next = vault.setup.report(&vault.config("orders"), &rehearse);
    next.assert_fine();
    assert_eq!(vault.leases(), 0, "what was fetched is released");

    let identity = fine.finding("identity")["detail"].to_string();
    for part in ["policies default, orders", "it expires in "] {
        assert!(identity.contains(part), "{identity}");
    }
    // A pool whose server has an invalid address does not end the examination of the others.
    let invalid = vault.config("orders")
        + "[pools.broken]\nhost = \"127.0.0.1\"\nprovider = \"broken\"\n\
           [providers.broken]\nkind = \"vault-kv\"\nvault = \"broken\"\npath = \"a\"\n\
           [vaults.broken]\naddress = \"127.0.0.1:8200\"\n\
           auth = { kind = \"kubernetes\", role = \"a\" }\n";
    let invalid = invalid.replace(
        "[providers.orders]\n",
        "[providers.orders]\nvault = \"main\"\n",
    );
    let apart = vault.setup.doctor(&invalid, &[]);
    let broken = &apart.report["connections"][0];
    assert_eq!(broken["pool"], "broken", "{:#}", apart.report);
    let detail = broken["findings"][0]["detail"].as_str().unwrap_or("");
    assert!(detail.contains("vaults.broken"), "{:#}", apart.report);
    let findings = apart.report["connections"][1]["findings"].as_array();
    let reached = findings.and_then(|findings| findings.last());
    assert_eq!(
        reached.map(|last| &last["outcome"]),
        Some(&"ok".into()),
        "{:#}",
        apart.report
    );
    vault.write_token("default");
    let denied = vault.setup.doctor(&vault.config("orders"), &[]);
    denied.assert_cause("permission", "permission_denied");
    let permission = denied.finding("permission").to_string();
    for part in ["policies default", "has deny", "database/creds/orders"] {
        assert!(permission.contains(part), "{permission}");
    }
    // A policy that permits everything shows what is missing.
    vault.write_token("root");
    let role = vault.setup.doctor(&vault.config("oders"), &[]);
    role.assert_cause("secret", "unknown_role");
    let mount = vault.config("orders").replace(
        "role = \"orders\"",
        "role = \"orders\"\nmount = \"databases\"",
    );
    let mount = vault.setup.doctor(&mount, &[]);
    mount.assert_cause("secret", "wrong_mount");
    let token = vault.setup.path("token");
    let token = std::fs::read_to_string(token).expect("a token");
    vault.admin.revoke_token(&token).expect("revoked");
    let invalid = vault.setup.doctor(&vault.config("orders"), &[]);
    invalid.assert_cause("identity", "vault_token_invalid");
    vault.setup.write("token", "\n");
    let empty = vault.setup.doctor(&vault.config("orders"), &[]);
    empty.assert_cause("identity", "vault_token_missing");
    vault.setup.write("token", &token);
    assert_eq!(vault.leases(), 0);
    vault.admin.vault.seal().expect("sealed");
    let sealed = vault.setup.doctor(&vault.config("orders"), &[]);
    sealed.assert_cause("permission", "vault_sealed");
}

#[test]
fn a_login_to_vault_that_is_rejected_is_named() {
    let vault = Vault::start();
    let app_role = json!({ "token_policies": ["orders"], "token_ttl": "1h" });
    let role_id = vault.admin.app_role(app_role).expect("an AppRole");
    let config = |secret_id: &str, more: &str| {
        vault.setup.write("secret-id", secret_id);
        let auth = format!(
            "auth = {{ kind = \"app-role\", role_id = \"{role_id}\", secret_id = \"file:{}\"{more} }}",
            vault.setup.path("secret-id").display()
        );
        let config = vault.config("orders");
        let (before, _) = config.split_once("auth = ").expect("its identity");
        format!("{before}{auth}\n")
    };
    let secret_id = vault.admin.secret_id().expect("a secret id");
    let fine = vault.setup.doctor(&config(&secret_id, ""), &[]);
    fine.assert_fine();
    let identity = fine.finding("identity")["detail"].to_string();
    assert!(identity.contains("approle"), "{identity}");
    assert_eq!(
        vault.admin.tokens().expect("the tokens").len(),
        1,
        "the root's"
    );
    let wrong = vault.setup.doctor(&config("wrong", ""), &[]);
    wrong.assert_cause("identity", "vault_login_rejected");
    let mount = vault
        .setup
        .doctor(&config(&secret_id, ", mount = \"nowhere\""), &[]);
    assert_eq!(mount.cause().0, "identity", "{:#}", mount.report);
}

#[test]
fn a_diagnosis_that_a_signal_ends_releases_its_lease() {
    let vault = Vault::start();
    vault.write_token("orders");
    // Connections to it are accepted by the kernel, and get no response.
    let silent = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = silent.local_addr().expect("an address").port();
    let mut config = vault.config("orders");
    let known = format!("port = {}\n", vault.server.port());
    config = config.replacen(&known, &format!("port = {port}\n"), 1);
    // Each pool waits 10 s for its handshake, with the same lease.
    let (pools, providers) = config.split_once("[providers").expect("a provider");
    let pools: String = (0..6)
        .map(|nth| pools.replace("pools.orders", &format!("pools.orders{nth}")))
        .collect();
    let config = format!("{pools}[providers{providers}");
    for signal in [Signal::INT, Signal::TERM] {
        let mut command = vault.setup.command(&config, &["doctor"]);
        let mut running = command.stdout(Stdio::null()).spawn().expect("it runs");
        let has_lease = (0..1_200).any(|_| {
            thread::sleep(Duration::from_millis(20));
            vault.leases() == 1
        });
        assert!(has_lease, "the lease is created before the handshake");
        let id = i32::try_from(running.id()).ok().and_then(Pid::from_raw);
        kill_process(id.expect("its id"), signal).expect("sent");
        let ended = running.wait().expect("it ends");
        assert_eq!(ended.code(), Some(128 + signal.as_raw()));
        assert_eq!(vault.leases(), 0, "the lease is released");
    }
}

#[test]
fn the_lease_of_a_command_is_renewed_while_it_runs_and_then_released() {
    let vault = Vault::start();
    vault.write_token("orders");
    let role = vault.admin.role(
        Kind::PostgreSql,
        "short",
        15,
        3_600,
        Revocation::Terminating,
    );
    role.expect("a role");
    // It runs until its input is closed.
    let mut command = vault
        .setup
        .command(&vault.config("short"), &["exec", "--", "cat"]);
    let running = command.stdin(Stdio::piped()).stdout(Stdio::null()).spawn();
    let mut running = running.expect("it runs");
    let leases = || vault.admin.leases("short").expect("the leases");
    let renewed = || {
        let lease = leases().pop()?;
        let looked_up = vault
            .admin
            .write("sys/leases/lookup", &json!({ "lease_id": lease }));
        let renewal = looked_up.ok()?["data"]["last_renewal"].clone();
        (!renewal.is_null()).then_some(lease)
    };
    // The lease would end after 15 s without a renewal.
    let lease = (0..1_200).find_map(|_| {
        thread::sleep(Duration::from_millis(50));
        renewed()
    });
    let lease = lease.expect("the lease is renewed");
    assert_eq!(leases(), [lease], "no other lease was created");
    drop(running.stdin.take());
    assert_eq!(running.wait().expect("it ends").code(), Some(0));
    assert_eq!(leases(), [""; 0]);
}

#[test]
fn the_lease_of_a_command_is_released_at_its_end() {
    let vault = Vault::start();
    vault.write_token("orders");
    let config = vault.config("orders");
    let select = "SELECT 'user ' || current_user";
    let run = vault
        .setup
        .run(&config, &["exec", "--", "psql", "-Atc", select]);
    assert_eq!(run.code, Some(0), "{}", run.stderr);
    assert!(run.stdout.starts_with("user v-"), "{}", run.stdout);
    assert_eq!(vault.leases(), 0);
    let sql = "SELECT count(*) FROM pg_roles WHERE rolname LIKE 'v-%'";
    assert_eq!(vault.server.sql(sql).expect("counted"), "0");
}

/// Vault creates the lease after the signal.
#[test]
fn a_signal_while_credentials_are_fetched_leaves_no_lease() {
    let vault = Vault::start();
    vault.write_token("orders");
    let address = vault.admin.vault.address();
    let proxy = Proxy::start(&address).expect("a proxy");
    let credentials = "/v1/database/creds/orders";
    proxy.fault_on(credentials, InjectedFault::Delay(Duration::from_secs(3)));
    let config = vault.config("orders").replace(&address, &proxy.endpoint());
    let arguments = ["exec", "--", "echo", "started"];
    let mut command = vault.setup.command(&config, &arguments);
    let running = command.stdout(Stdio::piped()).spawn().expect("it runs");
    let is_fetching = (0..1_200).any(|_| {
        thread::sleep(Duration::from_millis(20));
        proxy.requests(credentials) == 1
    });
    assert!(is_fetching, "the credentials are requested");
    let id = i32::try_from(running.id()).ok().and_then(Pid::from_raw);
    kill_process(id.expect("its id"), Signal::TERM).expect("sent");
    let ended = running.wait_with_output().expect("it ends");
    assert_eq!(ended.status.code(), Some(128 + Signal::TERM.as_raw()));
    assert_eq!(ended.stdout, b"", "the command was not started");
    let released = proxy.requests("/v1/sys/leases/revoke");
    assert_eq!(released, 1, "the lease is created, and then released");
    assert_eq!(vault.leases(), 0);
}

#[test]
fn the_engine_s_errors_are_named_by_what_is_wrong_with_it() {
    let vault = Vault::start();
    vault.write_token("orders");
    let diagnose = || vault.setup.doctor(&vault.config("orders"), &[]);
    let write = |path: &str, body| {
        vault.admin.write(path, &body).expect("written");
    };
    let role = |sql: &str| {
        let body = json!({ "db_name": "orders", "creation_statements": [sql] });
        write("database/roles/orders", body);
    };
    role("CREATE ROL \"{{name}}\"");
    diagnose().assert_next("secret", "statement_rejected", &["the role's statements"]);
    role("CREATE ROLE \"{{name}}\" LOGIN PASSWORD '{{password}}'");
    let sql = format!("ALTER ROLE {ENGINE_USER} NOSUPERUSER NOCREATEROLE");
    vault.server.sql(&sql).expect("altered");
    diagnose().assert_next(
        "permission",
        "engine_not_permitted",
        &["grant it CREATEROLE"],
    );
    let others = json!({ "allowed_roles": ["others"], "verify_connection": false });
    write("database/config/orders", others);
    diagnose().assert_next("permission", "role_not_allowed", &["`allowed_roles`"]);
}

#[test]
fn a_wrong_namespace_scheme_or_way_to_vault_is_named() {
    let vault = Vault::start();
    vault.write_token("orders");
    let with = |more: &str| vault.config("orders") + more + "\n";
    let namespace = vault.setup.doctor(&with("namespace = \"absent\""), &[]);
    namespace.assert_next("identity", "wrong_namespace", &["\"namespace\""]);
    let address = vault.admin.vault.address();
    let to = |other: &str| with("timeout = \"1s\"").replace(&address, other);
    let https = vault
        .setup
        .doctor(&to(&address.replace("http", "https")), &[]);
    https.assert_next(
        "permission",
        "wrong_scheme_of_vault",
        &["begins with http:"],
    );
    // It accepts connections and sends nothing, as behind some firewalls.
    let silent = TcpListener::bind("127.0.0.1:0").expect("a port");
    let at = silent.local_addr().expect("an address");
    let dropping = vault.setup.doctor(&to(&format!("http://{at}")), &[]);
    dropping.assert_next("permission", "backend_timed_out", &["firewall"]);
}
