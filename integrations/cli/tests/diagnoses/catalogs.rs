//! What `--admin-url` adds: memberships, stored passwords, and the catalog of another server.

use claviger_servers::pgbouncer::Users;
use claviger_servers::{PgBouncer, Postgres};

use crate::common::{SECRET, Setup, admin_url, pool};

/// Returns the URL of a superuser.
fn superuser_url(server: &Postgres) -> String {
    let made = server.sql(&format!(
        "CREATE ROLE super LOGIN SUPERUSER PASSWORD '{SECRET}-of-super'"
    ));
    made.expect("a superuser");
    format!(
        "postgres://super:{SECRET}-of-super@127.0.0.1:{}/postgres",
        server.port()
    )
}

#[test]
fn the_catalog_of_another_server_is_a_note_behind_a_pooler() {
    let server = Postgres::start().expect("a server");
    server.create_role("app", SECRET).expect("a role");
    let other = Postgres::start().expect("another server");
    let setup = Setup::new();
    let users = Users::File(vec![("app".to_owned(), SECRET.to_owned())]);
    let pooler = PgBouncer::builder(users).start(&server).expect("a pooler");
    let config = pool(&setup, pooler.port(), "database = \"postgres\"");
    let own = setup.doctor(&config, &["--admin-url", &admin_url(&server)]);
    own.assert_fine();
    assert_eq!(own.finding("role")["outcome"], "ok", "{:#}", own.report);
    let unrelated = setup.doctor(&config, &["--admin-url", &admin_url(&other)]);
    unrelated.assert_fine();
    let role = unrelated.finding("role");
    assert_eq!(role["cause"], "catalog_of_another_server", "{role:#}");
    assert!(role["detail"].to_string().contains("the role app"));
    assert!(role.get("statements").is_none(), "{role:#}");
    // The same name there, and no right to the database.
    other.create_role("app", SECRET).expect("a role");
    let revoke = "REVOKE CONNECT ON DATABASE postgres FROM public";
    other.sql(revoke).expect("revoked");
    let admin = admin_url_again(&other);
    let unrelated = setup.doctor(&config, &["--admin-url", &admin]);
    unrelated.assert_fine();
}

/// Returns the URL of the administrator that exists, with the right to connect.
fn admin_url_again(server: &Postgres) -> String {
    let grant = "GRANT CONNECT ON DATABASE postgres TO auditor";
    server.sql(grant).expect("granted");
    format!(
        "postgres://auditor:{SECRET}-of-the-auditor@127.0.0.1:{}/postgres",
        server.port()
    )
}

/// A superuser counts as a member of every role, but not in pg_hba.conf.
#[test]
fn a_superuser_is_in_rds_iam_by_membership_alone() {
    let server = Postgres::builder().tokens().start().expect("a server");
    let sql = |sql: &str| drop(server.sql(sql).expect("it runs"));
    sql(&format!(
        "CREATE ROLE app LOGIN SUPERUSER PASSWORD '{SECRET}'"
    ));
    let setup = Setup::new();
    let admin = admin_url(&server);
    let password = pool(&setup, server.port(), "database = \"postgres\"");
    let fine = setup.doctor(&password, &["--admin-url", &admin]);
    fine.assert_fine();
    let detail = fine.finding("role")["detail"].to_string();
    assert!(!detail.contains("rds_iam"), "{detail}");

    let ca = server.ca_file().expect("it has TLS").display();
    let token = format!(
        "[aws]\nendpoint_url = \"http://127.0.0.1:1\"\n[pools.orders]\nhost = \"127.0.0.1\"\n\
         port = {}\ndatabase = \"postgres\"\nuser = \"app\"\naws_iam_auth = true\n\
         region = \"eu-west-1\"\nca_file = \"{ca}\"\n",
        server.port()
    );
    let missed = setup.doctor(&token, &["--admin-url", &admin]);
    missed.assert_cause("role", "not_in_rds_iam");

    // Members of a member are members.
    sql("CREATE ROLE between ROLE app; GRANT rds_iam TO between");
    let fine = setup.doctor(&token, &["--admin-url", &admin]);
    fine.assert_fine();
    let detail = fine.finding("role")["detail"].to_string();
    assert!(detail.contains("in rds_iam"), "{detail}");
    let rejected = setup.doctor(&password, &["--admin-url", &admin]);
    assert_eq!(
        rejected.finding("role")["cause"],
        "role_accepts_only_tokens",
        "{:#}",
        rejected.report
    );
}

#[test]
fn a_stored_password_that_no_login_can_use_is_named_by_a_superuser() {
    let server = Postgres::start().expect("a server");
    let sql = |sql: &str| drop(server.sql(sql).expect("it runs"));
    sql("CREATE ROLE bare LOGIN");
    sql(&format!(
        "SET password_encryption = 'md5'; CREATE ROLE old LOGIN PASSWORD '{SECRET}'"
    ));
    sql(&format!(
        "CREATE ROLE other LOGIN PASSWORD '{SECRET}-other'"
    ));
    let setup = Setup::new();
    let (admin, ordinary) = (superuser_url(&server), admin_url(&server));
    for (user, cause, statement) in [
        (
            "bare",
            "role_without_password",
            "ALTER ROLE \"bare\" PASSWORD '…'",
        ),
        (
            "old",
            "password_stored_as_md5",
            "ALTER ROLE \"old\" PASSWORD '…'",
        ),
    ] {
        let more = format!("user = \"{user}\"\ndatabase = \"postgres\"");
        let config = pool(&setup, server.port(), &more);
        let named = setup.doctor(&config, &["--admin-url", &admin]);
        named.assert_cause("role", cause);
        assert_eq!(named.finding("role")["statements"][0], statement);
        assert!(named.finding("login").get("next").is_none());
        // Others may not read it: the remaining causes are listed.
        let listed = setup.doctor(&config, &["--admin-url", &ordinary]);
        listed.assert_cause("login", "password_rejected");
        let role = listed.finding("role");
        assert_eq!(role["cause"], "role_is_right", "{role:#}");
        assert!(
            role["next"][1].to_string().contains("superuser"),
            "{role:#}"
        );
    }
    let more = "user = \"other\"\ndatabase = \"postgres\"";
    let wrong = setup.doctor(&pool(&setup, server.port(), more), &["--admin-url", &admin]);
    wrong.assert_cause("login", "password_rejected");
    assert_eq!(wrong.finding("role")["cause"], "role_is_right");
}

/// The pooler's settings decide which database and role a login gets.
#[test]
fn the_catalog_does_not_replace_the_cause_behind_a_pooler() {
    let server = Postgres::start().expect("a server");
    server.create_role("app", SECRET).expect("a role");
    let setup = Setup::new();
    let users = Users::File(vec![("app".to_owned(), SECRET.to_owned())]);
    let pooler = PgBouncer::builder(users).start(&server).expect("a pooler");
    let config = pool(&setup, pooler.port(), "database = \"absent\"");
    let alone = setup.doctor(&config, &[]);
    alone.assert_cause("login", "unknown_database");
    let admin = setup.doctor(&config, &["--admin-url", &admin_url(&server)]);
    admin.assert_cause("login", "unknown_database");
    assert_eq!(admin.next("login"), alone.next("login"));
    let role = admin.finding("role");
    assert_eq!(role["outcome"], "note", "{role:#}");
    assert_eq!(role["cause"], "catalog_behind_pooler", "{role:#}");
    assert!(role["detail"].to_string().contains("absent"), "{role:#}");
    assert!(role.get("statements").is_none(), "{role:#}");
}

/// It logs in with the secrets given to it, so that what the role accepts is no cause.
#[test]
fn the_catalog_behind_rds_proxy_is_not_read() {
    let server = Postgres::start().expect("a server");
    let setup = Setup::new().with_resolver();
    let config = pool(&setup, server.port(), "database = \"postgres\"");
    let host = "orders.proxy-c1a2b3.eu-west-1.rds.amazonaws.com";
    let config = config.replace("host = \"127.0.0.1\"", &format!("host = \"{host}\""));
    let rejected = setup.doctor(&config, &["--admin-url", &admin_url(&server)]);
    rejected.assert_cause("login", "password_rejected");
    assert_eq!(rejected.finding("pooler")["cause"], "rds_proxy");
    assert!(rejected.finding("role").is_null(), "{:#}", rejected.report);
}

/// PostgreSQL reads VALID UNTIL, and RDS the membership, only for some methods of pg_hba.conf.
#[test]
fn a_role_that_logs_in_is_no_problem_whatever_the_catalog_shows() {
    let access = "host all app 127.0.0.1/32 trust";
    let server = Postgres::builder().hba(access).start().expect("a server");
    let sql = |sql: &str| drop(server.sql(sql).expect("it runs"));
    sql(&format!(
        "CREATE ROLE app LOGIN PASSWORD '{SECRET}' VALID UNTIL '2020-01-01'"
    ));
    let setup = Setup::new();
    let config = pool(&setup, server.port(), "database = \"postgres\"");
    let admin = admin_url(&server);
    let role = |cause: &str| {
        let works = setup.doctor(&config, &["--admin-url", &admin]);
        works.assert_fine();
        let role = works.finding("role");
        assert_eq!(role["outcome"], "note", "{role:#}");
        assert_eq!(role["cause"], cause, "{role:#}");
        assert!(role.get("statements").is_none(), "{role:#}");
    };
    role("role_expired");
    sql("ALTER ROLE app VALID UNTIL 'infinity'; CREATE ROLE rds_iam ROLE app");
    role("role_accepts_only_tokens");
}
