//! A login to Redis or Valkey, over the connection that was examined before. It sends what the
//! pools send: `HELLO 3 AUTH`, `SELECT`, `PING`.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use claviger::Credentials;
use tokio::time::timeout;

use super::error::Advice;
use super::resp::{Value, command};
use super::{LoggedIn, LoginError, LoginFacts, ServerError, TIMEOUT, quote};
use crate::doctor::limits;
use crate::doctor::network::Stream;
use crate::finding::{Finding, Step};
use crate::place::Place;

const ADVICE: Advice = Advice {
    timed_out: "check the server's load",
    closed: "check the server's log: it ended the connection during the login",
    other: "check that host and port are those of Redis, and its log",
};

/// What a server showed during and after a login.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::doctor) struct Observed {
    /// Whether it runs commands without a login.
    pub(in crate::doctor) is_open: bool,
    /// `standalone`, `cluster` or `sentinel`.
    pub(in crate::doctor) mode: String,
    pub(in crate::doctor) is_replica: bool,
    /// Nodes of a cluster that serve keys. `None` if unknown.
    pub(in crate::doctor) shards: Option<u32>,
    /// Its clock. `None` if the user may not read it.
    pub(in crate::doctor) time: Option<SystemTime>,
}

/// Logs in once.
///
/// # Errors
/// The first word of the server's error and its text, or why there was no response.
pub(super) async fn log_in(
    stream: &mut dyn Stream,
    place: &Place,
    credentials: &Credentials,
) -> Result<LoggedIn, LoginError> {
    let mut has_responded = false;
    let exchange = exchange(stream, place, credentials, &mut has_responded);
    let observed = match timeout(TIMEOUT, exchange).await {
        Ok(observed) => observed,
        Err(_) => Err(LoginError::TimedOut),
    };
    match observed {
        Ok(observed) => Ok(LoggedIn::Redis(observed)),
        Err(error) if has_responded => Err(error),
        Err(error) => Err(error.without_response()),
    }
}

async fn exchange(
    stream: &mut dyn Stream,
    place: &Place,
    credentials: &Credentials,
    has_responded: &mut bool,
) -> Result<Observed, LoginError> {
    let mut send = async |words: &[&str]| {
        let response = command(stream, words).await;
        *has_responded |= response.is_ok();
        response.map_err(|error| LoginError::of_io(&error))
    };
    // Before the login.
    let is_open = match send(&["PING"]).await? {
        Value::Error(line) if line.starts_with("NOAUTH") => false,
        Value::Error(line) => return Err(of_line(&line)),
        _ => true,
    };
    let (user, password) = (credentials.user(), credentials.expose_password());
    let hello = accepted(send(&["HELLO", "3", "AUTH", user, password]).await?)?;
    if let Some(database) = place.database.as_deref().filter(|number| *number != "0") {
        accepted(send(&["SELECT", database]).await?)?;
    }
    accepted(send(&["PING"]).await?)?;
    let mode = hello.get("mode").unwrap_or_default().to_owned();
    let shards = match mode.as_str() {
        "cluster" => shards(&send(&["CLUSTER", "INFO"]).await?),
        _ => None,
    };
    let time = time(&send(&["TIME"]).await?);
    Ok(Observed {
        is_open,
        mode,
        is_replica: hello.get("role").is_some_and(|role| role != "master"),
        shards,
        time,
    })
}

fn accepted(response: Value) -> Result<Value, LoginError> {
    match response {
        Value::Error(line) => Err(of_line(&line)),
        value => Ok(value),
    }
}

fn shards(info: &Value) -> Option<u32> {
    let mut lines = info.text()?.lines();
    lines.find_map(|line| line.strip_prefix("cluster_size:")?.trim().parse().ok())
}

fn time(response: &Value) -> Option<SystemTime> {
    let Value::List(parts) = response else {
        return None;
    };
    let seconds = parts.first()?.text()?.parse().ok()?;
    UNIX_EPOCH.checked_add(Duration::from_secs(seconds))
}

fn of_line(line: &str) -> LoginError {
    let (code, message) = line.split_once(' ').unwrap_or((line, ""));
    LoginError::Server(ServerError::new(code, message))
}

/// Returns the finding for a failed login.
pub(super) fn failed_finding(facts: &LoginFacts<'_>, error: &LoginError) -> Finding {
    let error = match error.server(&ADVICE) {
        Ok(error) => error,
        Err(finding) => return finding,
    };
    let (code, message) = (error.code.as_str(), error.message.as_str());
    let problem = |cause| Finding::problem(Step::Login, cause, format!("{code} {message}"));
    let user = || format!("ACL GETUSER {}", quote(facts.user));
    let has = |text| message.contains(text);
    match code {
        "WRONGPASS" if facts.is_token => problem("token_rejected")
            .with_next("the identity lacks elasticache:Connect on the cache and on this user")
            .with_next("the token is for another cache, user or region, or the clocks differ")
            .with_next(format!(
                "the user {} does not exist, or its authentication is not IAM; its name and id \
                 must be the same",
                facts.user
            )),
        "WRONGPASS" | "NOAUTH" => problem("password_rejected")
            .with_next("the password is not the user's: compare backend and server")
            .with_next(format!("the user {} does not exist, or is off", facts.user))
            .with_statement(user()),
        "NOPERM" => problem("connect_not_granted")
            .with_next(
                "allow the user the commands of the service, with `ping` and `select`, which pools \
                 send",
            )
            .with_statement(user()),
        "DENIED" => problem("protected_mode").with_next(
            "the server accepts connections only from its own machine: give its users passwords, \
             and set `bind` and `protected-mode no`",
        ),
        "LOADING" | "MASTERDOWN" | "BUSY" | "TRYAGAIN" => problem("server_not_ready")
            .with_next("wait until the server has loaded its data, or see its log"),
        "CLUSTERDOWN" => problem("cluster_down")
            .with_next("restart the nodes whose slots are not served")
            .with_statement("CLUSTER INFO"),
        "NOPROTO" => no_hello(problem("server_too_old")),
        "ERR" if has("max number of clients") => problem("too_many_connections")
            .with_next("close idle clients, or raise maxclients")
            .with_statement("CLIENT LIST"),
        "ERR" if has("DB index") => problem("unknown_database")
            .with_next("set `database` to a number below the server's `databases` (16 by default)")
            .with_statement("CONFIG GET databases"),
        "ERR" if has("SELECT is not allowed in cluster mode") => problem("database_of_cluster")
            .with_next(
                "remove `database`: a cluster has database 0 alone; and set `kind = \
                 \"redis-cluster\"` if it has several nodes",
            ),
        "ERR" if message.starts_with("unknown command") && has("HELLO") => {
            no_hello(problem("server_too_old"))
        }
        "ERR" if message.starts_with("unknown command") => problem("auth_unavailable").with_next(
            "the server has no AUTH: enable it (rename-command), or connect to the server itself",
        ),
        "ERR" if has("without any password") => problem("server_without_password")
            .with_next("the server has no password: set one, or create the user"),
        _ => problem("login_failed").with_next("check the server's log for this message"),
    }
}

fn no_hello(problem: Finding) -> Finding {
    problem.with_next(
        "the pools need RESP3: Redis 6 or Valkey; or a proxy in between does not forward HELLO",
    )
}

/// Returns the finding for a server that accepted the login. `kind` is that of the pool.
pub(in crate::doctor) fn observed_findings(kind: &str, observed: &Observed) -> Vec<Finding> {
    let mut findings = Vec::new();
    if observed.is_open {
        findings.push(
            Finding::note(
                Step::Login,
                "login_not_required",
                "the server runs commands without a login: its user `default` has no password",
            )
            .with_next("switch it off: ACL SETUSER default off"),
        );
    }
    let wants_cluster = kind == "redis-cluster";
    let problem = |cause, detail: &str| Finding::problem(Step::Role, cause, detail);
    findings.extend(match (observed.mode.as_str(), observed.shards) {
        ("sentinel", _) => Some(
            problem("sentinel", "the server is a Sentinel, which stores no keys")
                .with_next("set `host` and `port` to those of the primary (6379 by default)"),
        ),
        ("cluster", Some(shards)) if !wants_cluster && shards > 1 => {
            let detail = format!(
                "the server is one of {shards} nodes of a cluster: commands on other nodes' keys \
                 fail with MOVED"
            );
            let problem = problem("cluster_addressed_as_one_node", &detail);
            Some(problem.with_next("set `kind = \"redis-cluster\"`, and `nodes` beside `host`"))
        }
        ("cluster", None) if !wants_cluster => Some(
            Finding::note(
                Step::Role,
                "cluster_addressed_as_one_node",
                "the server is a node of a cluster; how many nodes it has could not be read",
            )
            .with_next("set `kind = \"redis-cluster\"` if there are several"),
        ),
        ("standalone", _) if wants_cluster => Some(
            problem("not_a_cluster", "the server is not a node of a cluster")
                .with_next("set `kind = \"redis\"`, or `host` to a node of the cluster"),
        ),
        ("standalone", _) if observed.is_replica => Some(limits::replica_finding()),
        _ => None,
    });
    findings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_error_has_its_cause() {
        for (line, cause) in [
            (
                "WRONGPASS invalid username-password pair",
                "password_rejected",
            ),
            ("NOAUTH Authentication required.", "password_rejected"),
            ("NOPERM this user has no permissions", "connect_not_granted"),
            (
                "DENIED Redis is running in protected mode",
                "protected_mode",
            ),
            ("ERR max number of clients reached", "too_many_connections"),
            ("ERR DB index is out of range", "unknown_database"),
            (
                "ERR SELECT is not allowed in cluster mode",
                "database_of_cluster",
            ),
            ("ERR unknown command 'AUTH'", "auth_unavailable"),
            ("ERR unknown command `HELLO`, with args", "server_too_old"),
            ("NOPROTO unsupported protocol version", "server_too_old"),
            ("LOADING", "server_not_ready"),
            ("ERR other", "login_failed"),
        ] {
            let facts = LoginFacts {
                user: "app",
                database: "0",
                is_token: false,
                has_tls: false,
                has_client_certificate: false,
                pooler: None,
                method: None,
            };
            let finding = failed_finding(&facts, &of_line(line));
            assert_eq!(finding.cause, Some(cause), "{line}");
        }
    }

    #[test]
    fn a_server_of_another_kind_than_the_pool_s_is_named() {
        let cause = |kind, mode: &str, shards| {
            let observed = Observed {
                mode: mode.to_owned(),
                shards,
                ..Observed::default()
            };
            let findings = observed_findings(kind, &observed);
            findings.first().and_then(|finding| finding.cause)
        };
        let one_node = Some("cluster_addressed_as_one_node");
        assert_eq!(cause("redis", "cluster", Some(3)), one_node);
        assert_eq!(cause("redis", "cluster", Some(1)), None);
        assert_eq!(cause("redis-cluster", "cluster", Some(3)), None);
        assert_eq!(
            cause("redis-cluster", "standalone", None),
            Some("not_a_cluster")
        );
        assert_eq!(cause("redis-managed", "sentinel", None), Some("sentinel"));
        assert_eq!(cause("redis", "standalone", None), None);
    }
}
