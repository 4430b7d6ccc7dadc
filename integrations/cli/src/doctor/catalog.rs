//! What only the catalog of PostgreSQL shows: read by an administrator.

mod password;

use std::time::{Duration, SystemTime};

use claviger::Credentials;
use percent_encoding::percent_decode_str;
use sqlx::postgres::PgConnectOptions;
use sqlx::{ConnectOptions as _, Connection as _, PgConnection, Row as _};
use tokio::time::timeout;

use super::login::quote;
use crate::finding::{Finding, Outcome, Step, one_line};
use crate::secret::Secret;
pub(super) use password::{password_finding, read_password};

/// Longest time of the administrator's login, and of its statement.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Reads the role $1 and the database $2. `pg_has_role` is true for every superuser, and
/// pg_hba.conf counts memberships alone.
const ROLE: &str = "
    SELECT r.oid IS NOT NULL AS is_role,
           coalesce(r.rolcanlogin, false) AS can_login,
           coalesce(r.rolvaliduntil < now(), false) AS is_expired,
           i.oid IS NOT NULL AS has_rds_iam,
           EXISTS (WITH RECURSIVE roles(id) AS (
                       SELECT roleid FROM pg_auth_members WHERE member = r.oid
                       UNION
                       SELECT roleid FROM pg_auth_members JOIN roles ON member = id)
                   SELECT FROM roles WHERE id = i.oid) AS in_rds_iam,
           d.oid IS NOT NULL AS is_database,
           coalesce(d.datallowconn, false) AS is_open,
           coalesce(has_database_privilege(r.oid, d.oid, 'CONNECT'), false) AS can_connect,
           (extract(epoch FROM clock_timestamp()) * 1000)::bigint AS time
    FROM (SELECT 1) AS one
    LEFT JOIN pg_roles r ON r.rolname = $1
    LEFT JOIN pg_roles i ON i.rolname = 'rds_iam'
    LEFT JOIN pg_database d ON d.datname = $2";

/// What the catalog has about a role and a database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct RoleFacts {
    pub(super) is_role: bool,
    pub(super) can_login: bool,
    pub(super) is_expired: bool,
    /// Whether the server has the role `rds_iam`.
    pub(super) has_rds_iam: bool,
    pub(super) in_rds_iam: bool,
    pub(super) is_database: bool,
    pub(super) is_open: bool,
    pub(super) can_connect: bool,
    /// The server's clock.
    pub(super) time: SystemTime,
}

/// How an administrator logs in.
pub(crate) struct AdminUrl {
    options: PgConnectOptions,
    secret: Secret,
}

impl AdminUrl {
    /// Returns host and port.
    pub(super) fn server(&self) -> (&str, u16) {
        (self.options.get_host(), self.options.get_port())
    }
}

/// Parses the URL of an administrator.
///
/// # Errors
/// The URL is invalid. The message contains no part of it.
pub(crate) fn parse_url(url: &str) -> Result<AdminUrl, String> {
    let advice = "give one such as postgres://admin@db.internal:5432/postgres";
    claviger_config::check_url(url).map_err(|problem| format!("--admin-url {problem}"))?;
    let parsed = url::Url::parse(url)
        .map_err(|error| format!("--admin-url is not a URL ({error}); {advice}"))?;
    if !matches!(parsed.scheme(), "postgres" | "postgresql") {
        return Err(format!("--admin-url is not of PostgreSQL; {advice}"));
    }
    // sqlx's message may contain a part of the URL.
    let options = url
        .parse()
        .map_err(|_| format!("--admin-url has an invalid part; {advice}"))?;
    let mut parameters = parsed.query_pairs();
    let of_query = parameters.find_map(|(key, value)| (key == "password").then_some(value));
    let password = percent_decode_str(parsed.password().unwrap_or_default());
    let password = of_query.unwrap_or_else(|| password.decode_utf8_lossy());
    let secret = Secret::of(&Credentials::new(parsed.username(), password));
    Ok(AdminUrl { options, secret })
}

/// Logs in as administrator.
///
/// # Errors
/// The message of the server or driver, without the password.
pub(super) async fn log_in(url: &AdminUrl) -> Result<PgConnection, String> {
    match timeout(TIMEOUT, url.options.connect()).await {
        Ok(Ok(admin)) => Ok(admin),
        Ok(Err(error)) => Err(one_line(&url.secret.hide(&error.to_string()))),
        Err(_) => Err("no login within 10 s".to_owned()),
    }
}

/// Reads what the catalog has about a role and a database.
///
/// # Errors
/// The message of the server or driver.
pub(super) async fn read(
    admin: &mut PgConnection,
    user: &str,
    database: &str,
) -> Result<RoleFacts, String> {
    let query = sqlx::query(ROLE).bind(user).bind(database);
    let row = match timeout(TIMEOUT, query.fetch_one(admin)).await {
        Ok(row) => row.map_err(|error| one_line(&error.to_string()))?,
        Err(_) => return Err("no response within 10 s".to_owned()),
    };
    let flag = |name: &str| {
        row.try_get(name)
            .map_err(|error| one_line(&error.to_string()))
    };
    let time = row.try_get("time").ok().and_then(super::limits::time);
    Ok(RoleFacts {
        is_role: flag("is_role")?,
        can_login: flag("can_login")?,
        is_expired: flag("is_expired")?,
        has_rds_iam: flag("has_rds_iam")?,
        in_rds_iam: flag("in_rds_iam")?,
        is_database: flag("is_database")?,
        is_open: flag("is_open")?,
        can_connect: flag("can_connect")?,
        time: time.ok_or("the server's clock is before 1970")?,
    })
}

/// Closes the administrator's connection.
pub(super) async fn close(admin: PgConnection) {
    let _ = timeout(TIMEOUT, admin.close()).await;
}

/// Returns the finding for a role. `failure` is the cause of its failed login.
pub(super) fn role_finding(
    facts: &RoleFacts,
    user: &str,
    database: &str,
    is_token: bool,
    failure: Option<&str>,
) -> Finding {
    let (user, database) = (one_line(user), one_line(database));
    let identifier = |name: &str| format!("\"{}\"", name.replace('"', "\"\""));
    let (role, in_sql) = (identifier(&user), identifier(&database));
    let problem = |cause, detail: String| Finding::problem(Step::Role, cause, detail);
    if !facts.is_role {
        return problem("no_such_role", format!("the role {user} does not exist"))
            .with_next("create it, or correct the user of the pool or of the secret")
            .with_statement(format!("CREATE ROLE {role} LOGIN"));
    }
    if !facts.can_login {
        return problem("role_may_not_log_in", format!("the role {user} is NOLOGIN"))
            .with_next("allow it to log in, or use another role")
            .with_statement(format!("ALTER ROLE {role} LOGIN"));
    }
    if is_token && !facts.in_rds_iam {
        let detail = if facts.has_rds_iam {
            format!("the role {user} is not a member of rds_iam, so no token is accepted")
        } else {
            "the server has no role rds_iam: it accepts no tokens".to_owned()
        };
        return problem("not_in_rds_iam", detail)
            .with_next("grant it, and enable IAM authentication at the instance")
            .with_statement(format!("GRANT rds_iam TO {role}"));
    }
    if !is_token && facts.in_rds_iam {
        return problem(
            "role_accepts_only_tokens",
            format!("the role {user} is a member of rds_iam: it accepts tokens, no password"),
        )
        .with_next("set `aws_iam_auth = true`, or revoke the membership")
        .with_statement(format!("REVOKE rds_iam FROM {role}"));
    }
    if facts.is_expired && !is_token {
        return problem(
            "role_expired",
            format!("the password of role {user} is expired (VALID UNTIL)"),
        )
        .with_next("rotate the password, or set a later VALID UNTIL")
        .with_statement(format!("ALTER ROLE {role} VALID UNTIL 'infinity'"));
    }
    if !facts.is_database {
        return problem(
            "unknown_database",
            format!("the database {database} does not exist"),
        )
        .with_next("set `database` to an existing one, or create it")
        .with_statement("SELECT datname FROM pg_database ORDER BY 1");
    }
    if !facts.is_open {
        return problem(
            "database_closed",
            format!("the database {database} does not allow connections"),
        )
        .with_next("allow them")
        .with_statement(format!("ALTER DATABASE {in_sql} ALLOW_CONNECTIONS true"));
    }
    if !facts.can_connect {
        return problem(
            "connect_not_granted",
            format!("the role {user} lacks CONNECT on the database {database}"),
        )
        .with_next("grant it")
        .with_statement(format!("GRANT CONNECT ON DATABASE {in_sql} TO {role}"));
    }
    let membership = if facts.in_rds_iam { ", in rds_iam" } else { "" };
    let detail = format!("{user} exists, may log in, may connect to {database}{membership}");
    let Some(failure) = failure else {
        return Finding::ok(Step::Role, detail);
    };
    let finding = Finding {
        outcome: Outcome::Note,
        cause: Some("role_is_right"),
        ..Finding::ok(Step::Role, detail)
    };
    match failure {
        "token_rejected" | "not_in_rds_iam" => {
            finding.with_next("so the token itself was rejected: see the causes above")
        }
        "password_rejected" if !is_token => finding
            .with_next(format!(
                "so the password of the backend is not that of the role {}",
                quote(&user)
            ))
            .with_next("or it is stored so that no login can use it, which a superuser sees"),
        _ => finding.with_next("so the catalog does not explain the login: see the causes above"),
    }
}

/// Reports that the catalog is that of another server than the pool's.
pub(super) fn other_server_finding(url: &AdminUrl) -> Finding {
    let (host, port) = url.server();
    let detail = format!(
        "--admin-url is of another server: {}:{port}",
        one_line(host)
    );
    Finding::note(Step::Role, "catalog_of_another_server", detail)
        .with_next("examine this pool alone, with the URL of its own server's administrator")
}

/// Reports that the catalog contradicts a login that has worked: behind a pooler, whose address
/// shows no server.
pub(super) fn contradicting_finding(url: &AdminUrl, problem: &Finding) -> Finding {
    let (host, port) = url.server();
    let detail = format!(
        "{}:{port} of --admin-url contradicts the login, which has worked: {}",
        one_line(host),
        problem.detail
    );
    Finding::note(Step::Role, "catalog_of_another_server", detail)
        .with_next("give the administrator's URL of the server behind the pooler")
        .with_next(
            "or the pooler logs in as another user, or to another database: see its settings",
        )
}

/// Reports a problem in the catalog that did not prevent the login. PostgreSQL reads VALID UNTIL
/// and stored passwords only for some methods of pg_hba.conf.
pub(super) fn harmless_finding(problem: &Finding) -> Finding {
    let detail = format!("{}; this login works all the same", problem.detail);
    let cause = problem.cause.unwrap_or_default();
    Finding::note(Step::Role, cause, detail)
        .with_next("see which method the entry of pg_hba.conf for this login has")
}

/// Reports a problem in the catalog after a failed login behind a pooler. The pooler's settings
/// decide on role and database, so only its own error is the cause.
pub(super) fn behind_pooler_finding(url: &AdminUrl, problem: &Finding) -> Finding {
    let (host, port) = url.server();
    let detail = format!(
        "{}:{port} of --admin-url: {}; the pooler may use another role or database",
        one_line(host),
        problem.detail
    );
    Finding::note(Step::Role, "catalog_behind_pooler", detail)
        .with_next("see the causes above, and the settings of the pooler")
}

/// Reports that the catalog could not be read.
pub(super) fn unread_finding(reason: &str) -> Finding {
    Finding::note(
        Step::Role,
        "catalog_not_read",
        format!("--admin-url: {reason}"),
    )
    .with_next("check the administrator's URL and password")
}

#[cfg(test)]
mod tests {
    #![expect(clippy::expect_used, reason = "a test fails by panicking")]

    use super::*;

    fn facts() -> RoleFacts {
        RoleFacts {
            is_role: true,
            can_login: true,
            is_expired: false,
            has_rds_iam: true,
            in_rds_iam: false,
            is_database: true,
            is_open: true,
            can_connect: true,
            time: SystemTime::UNIX_EPOCH,
        }
    }

    fn cause(facts: RoleFacts, is_token: bool) -> Option<&'static str> {
        role_finding(&facts, "app", "orders", is_token, None).cause
    }

    #[test]
    fn each_fact_of_the_catalog_has_its_cause() {
        let none = RoleFacts {
            is_role: false,
            ..facts()
        };
        assert_eq!(cause(none, false), Some("no_such_role"));
        let nologin = RoleFacts {
            can_login: false,
            ..facts()
        };
        assert_eq!(cause(nologin, false), Some("role_may_not_log_in"));
        assert_eq!(cause(facts(), true), Some("not_in_rds_iam"));
        let member = RoleFacts {
            in_rds_iam: true,
            ..facts()
        };
        assert_eq!(
            cause(member.clone(), false),
            Some("role_accepts_only_tokens")
        );
        assert_eq!(cause(member, true), None);
        let expired = RoleFacts {
            is_expired: true,
            ..facts()
        };
        assert_eq!(cause(expired, false), Some("role_expired"));
        let elsewhere = RoleFacts {
            is_database: false,
            ..facts()
        };
        assert_eq!(cause(elsewhere, false), Some("unknown_database"));
        let revoked = RoleFacts {
            can_connect: false,
            ..facts()
        };
        assert_eq!(cause(revoked, false), Some("connect_not_granted"));
        assert_eq!(cause(facts(), false), None);
    }

    #[test]
    fn a_right_role_after_a_rejected_password_leaves_the_password() {
        let after = |failure| role_finding(&facts(), "app", "orders", false, Some(failure));
        let finding = after("password_rejected");
        assert!(finding.next[0].contains("the password"), "{finding:?}");
        assert!(!finding.is_problem(), "the login is the problem");
        // The password was accepted.
        let finding = after("unknown_database");
        assert_eq!(finding.cause, Some("role_is_right"));
        assert!(!finding.next[0].contains("the password"), "{finding:?}");
    }

    #[test]
    fn an_invalid_url_is_not_printed() {
        for url in [
            "postgres://a:kestrel@db:port/",
            "kestrel",
            "http://a:kestrel@db/",
            "postgres://a:p@kestrel#word@db/",
            "postgres://a:p@kestrel/word@db/",
        ] {
            let error = parse_url(url).err().expect("it is invalid");
            assert!(
                !error.contains("kestrel") && error.contains("--admin-url"),
                "{error}"
            );
        }
        for url in [
            "postgres://admin:kest%72el@db/postgres",
            "postgres://admin@db/postgres?password=kestrel",
        ] {
            let url = parse_url(url).expect("it is valid");
            assert_eq!(url.secret.hide("no kestrel"), "no ***");
        }
    }
}
