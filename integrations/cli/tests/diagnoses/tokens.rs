//! IAM tokens on a server that verifies them as RDS does.

use claviger_servers::{Postgres, Redis};

use crate::common::{SECRET, Setup, admin_url};

fn pool(server: &Postgres, more: &str) -> String {
    let ca = server.ca_file().expect("it has TLS").display().to_string();
    format!(
        "[aws]\nendpoint_url = \"http://127.0.0.1:1\"\n[pools.orders]\nhost = \"127.0.0.1\"\n\
         port = {}\ndatabase = \"postgres\"\naws_iam_auth = true\nregion = \"eu-west-1\"\n\
         ca_file = \"{ca}\"\n{more}\n",
        server.port()
    )
}

#[test]
fn roles_tokens_and_lifetimes_that_do_not_fit_are_named() {
    let server = Postgres::builder().tokens().start().expect("a server");
    server.create_token_role("app").expect("a role");
    server.create_role("plain", "unused").expect("a role");
    let setup = Setup::new();
    let right = pool(&server, "user = \"app\"");
    let fine = setup.doctor(&right, &[]);
    fine.assert_fine();
    let token = fine.finding("token")["detail"]
        .as_str()
        .unwrap_or_default()
        .to_owned();
    assert!(
        token.starts_with("user app, region eu-west-1, signed"),
        "{token}"
    );
    assert_eq!(fine.finding("permission")["cause"], "permission_unknown");
    assert!(fine.report.to_string().contains("clock_not_compared"));
    assert_eq!(fine.finding("clock")["outcome"], "ok");

    let long = right.clone() + "connection_max_lifetime = \"30m\"\n";
    setup
        .doctor(&long, &[])
        .assert_cause("lifetime", "lifetime_over_token");

    let admin = admin_url(&server);
    for (user, by_admin) in [("plain", "not_in_rds_iam"), ("missing", "no_such_role")] {
        let config = pool(&server, &format!("user = \"{user}\""));
        let alone = setup.doctor(&config, &[]);
        alone.assert_cause("login", "not_in_rds_iam");
        assert_eq!(alone.logins(), (1, 1));
        let statement = alone.finding("login")["statements"][1]
            .as_str()
            .unwrap_or_default();
        assert_eq!(statement, format!("GRANT rds_iam TO \"{user}\""));
        let with_admin = setup.doctor(&config, &["--admin-url", &admin]);
        with_admin.assert_cause("role", by_admin);
    }

    server.token_checks().reject_all(true).expect("set");
    let rejected = setup.doctor(&right, &["--admin-url", &admin]);
    rejected.assert_cause("login", "token_rejected");
    assert_eq!(rejected.finding("role")["cause"], "role_is_right");
}

/// STS cannot be reached, so the clock of the database alone shows it.
#[test]
fn the_database_s_clock_shows_that_a_late_clock_causes_the_rejection() {
    let server = Postgres::builder().tokens().start().expect("a server");
    server.create_token_role("app").expect("a role");
    let setup = Setup::new().with_clock(-20 * 60);
    let config = pool(&server, "user = \"app\"");
    let alone = setup.doctor(&config, &[]);
    alone.assert_cause("login", "token_rejected");
    let admin = setup.doctor(&config, &["--admin-url", &admin_url(&server)]);
    admin.assert_cause("clock", "clock_skew");
    let detail = admin.finding("clock")["detail"].to_string();
    assert!(detail.contains("behind the database"), "{detail}");
}

#[test]
fn a_token_for_another_region_than_the_host_s_is_named_before_any_login() {
    let setup = Setup::new();
    let config = "[pools.orders]\nhost = \"orders.c1a2b3.eu-west-1.rds.amazonaws.com\"\n\
                  user = \"app\"\naws_iam_auth = true\nregion = \"eu-central-1\"\n";
    let diagnosis = setup.doctor(config, &[]);
    diagnosis.assert_cause("settings", "wrong_region");
    let finding = diagnosis.finding("settings").to_string();
    assert!(
        finding.contains("eu-central-1") && finding.contains("eu-west-1"),
        "{finding}"
    );
    assert_eq!(diagnosis.logins(), (0, 0));
    // Without any, nothing but the file can be corrected.
    let missing = config.replace(".c1a2b3.eu-west-1.rds.amazonaws.com", ".internal");
    let missing = missing.replace("region = \"eu-central-1\"\n", "");
    let missing = setup.doctor(&missing, &[]);
    missing.assert_cause("settings", "region_missing");
    let next = missing.finding("settings")["next"][0].to_string();
    assert!(next.contains("set `region`"), "{next}");
}

#[test]
fn an_expired_token_of_a_file_is_named_before_the_login() {
    let server = Postgres::builder().tokens().start().expect("a server");
    let setup = Setup::new();
    let token = format!(
        "127.0.0.1:{}/?Action=connect&DBUser=app&X-Amz-Credential=AKIDEXAMPLE%2F20200101%2F\
         eu-west-1%2Frds-db%2Faws4_request&X-Amz-Date=20200101T000000Z&X-Amz-Expires=900\
         &X-Amz-Signature=00",
        server.port()
    );
    setup.write("token", &token);
    let ca = server.ca_file().expect("it has TLS").display().to_string();
    let config = format!(
        "[pools.orders]\nhost = \"127.0.0.1\"\nport = {}\nprovider = \"tokens\"\nca_file = \"{ca}\"\n\
         [providers.tokens]\nkind = \"file\"\nformat = \"password\"\nuser = \"app\"\ntoken = true\n\
         path = \"{}\"\n",
        server.port(),
        setup.path("token").display()
    );
    let diagnosis = setup.doctor(&config, &[]);
    diagnosis.assert_cause("token", "token_expired");
    assert_eq!(diagnosis.logins(), (0, 0));
}

/// A token of Entra ID is valid for an hour, which its text does not contain.
#[test]
fn the_limit_of_15_minutes_applies_only_to_iam_tokens() {
    let server = Postgres::builder().tls().start().expect("a server");
    server.create_role("app", SECRET).expect("a role");
    let setup = Setup::new();
    let ca = server.ca_file().expect("it has TLS").display().to_string();
    let config = format!(
        "[pools.orders]\nhost = \"127.0.0.1\"\nport = {}\ndatabase = \"postgres\"\n\
         provider = \"tokens\"\nca_file = \"{ca}\"\nconnection_max_lifetime = \"30m\"\n\
         [providers.tokens]\nkind = \"file\"\nformat = \"password\"\nuser = \"app\"\n\
         token = true\npath = \"{}\"\n",
        server.port(),
        setup.path("password").display()
    );
    let check = setup.run(&config, &["check"]);
    assert_eq!(check.code, Some(0), "{}", check.stderr);
    let fine = setup.doctor(&config, &[]);
    fine.assert_fine();
    assert_eq!(fine.finding("token")["cause"], "not_an_iam_token");
    assert!(fine.finding("lifetime").is_null(), "{:#}", fine.report);
}

#[test]
fn a_token_is_not_sent_without_verified_tls() {
    let server = Postgres::builder().tokens().start().expect("a server");
    let setup = Setup::new();
    setup.write("token", "db.internal/?Action=connect&DBUser=app");
    let config = format!(
        "[pools.orders]\nhost = \"127.0.0.1\"\nport = {}\nprovider = \"tokens\"\n\
         ssl_mode = \"require\"\n[providers.tokens]\nkind = \"file\"\nformat = \"password\"\n\
         user = \"app\"\ntoken = true\npath = \"{}\"\n",
        server.port(),
        setup.path("token").display()
    );
    let diagnosis = setup.doctor(&config, &[]);
    diagnosis.assert_cause("token", "token_without_verified_tls");
    assert_eq!(diagnosis.logins(), (0, 0));
    // Redis without TLS; nothing but a connection is examined.
    let redis = Redis::start().expect("a server");
    let config = config
        .replace("\"require\"", "\"disable\"\nkind = \"redis\"")
        .replace(&server.port().to_string(), &redis.port().to_string());
    let diagnosis = setup.doctor(&config, &[]);
    diagnosis.assert_cause("token", "token_without_verified_tls");
    assert_eq!(diagnosis.logins(), (0, 0));
}

#[test]
fn a_command_logs_in_with_a_token_and_gets_none_without_verified_tls() {
    let server = Postgres::builder().tokens().start().expect("a server");
    server.create_token_role("app").expect("a role");
    let setup = Setup::new();
    let select = "SELECT 'user ' || current_user";
    let exec = ["exec", "--", "psql", "-Atc", select];
    let config = pool(&server, "user = \"app\"");
    let run = setup.run(&config, &exec);
    assert_eq!(run.code, Some(0), "{}", run.stderr);
    assert_eq!(run.stdout.trim(), "user app");
    let by_url = "psql \"$DATABASE_URL\" -Atc \"SELECT 'user ' || current_user\"";
    let run = setup.run(&config, &["exec", "--", "sh", "-c", by_url]);
    assert_eq!(run.stdout.trim(), "user app", "{}", run.stderr);

    let ca = config.lines().find(|line| line.starts_with("ca_file"));
    for mode in ["disable", "prefer", "require"] {
        let mode = format!("ssl_mode = \"{mode}\"");
        let config = config.replace(ca.expect("a line"), &mode);
        let run = setup.run(&config, &["exec", "--", "echo", "started"]);
        assert_eq!(run.code, Some(125), "{mode}: {}", run.stdout);
        assert_eq!(run.stdout, "", "{mode}");
        assert!(run.stderr.contains("verify-full"), "{}", run.stderr);
        // Without a command and a login, the file alone shows it.
        let check = setup.run(&config, &["check"]);
        assert_eq!(check.code, Some(1), "{mode}: {}", check.stdout);
        let problem = "pools.orders.ssl_mode: does not verify the server";
        assert!(check.stderr.contains(problem), "{}", check.stderr);
    }
}

/// The token is right for a tunnel; the server rejects it.
#[test]
fn a_rejected_token_of_another_host_is_named_as_such_first() {
    let server = Postgres::builder().tokens().start().expect("a server");
    server.create_token_role("app").expect("a role");
    server.token_checks().reject_all(true).expect("set");
    let setup = Setup::new();
    let config = pool(&server, "provider = \"tokens\"").replace(
        "aws_iam_auth = true\nregion = \"eu-west-1\"\n",
        "connection_max_lifetime = \"14m\"\n",
    ) + "[providers.tokens]\nkind = \"rds-iam\"\nhost = \"orders.internal\"\n\
         port = 5432\nuser = \"app\"\nregion = \"eu-west-1\"\n";
    let diagnosis = setup.doctor(&config, &[]);
    assert_eq!(diagnosis.finding("token")["cause"], "token_of_another_host");
    let order = ["for host orders.internal", "rds-db:connect"];
    diagnosis.assert_next("login", "token_rejected", &order);
}
