//! The URL of a pool: its parts, and the parameters of its query.
//!
//! URLs are copied from clients of many kinds. A parameter is a setting of the pool, or is passed to
//! the driver, or has no effect here, or is rejected with what to give instead.

use crate::nearest::suggestion;
use crate::resolved_pool::Engine;
use crate::schema::{PoolKind, SslMode};
use crate::url_text::{RAW_SEPARATOR, decoded, parse};

/// Root certificates of the platform, in the language of libpq.
pub(crate) const SYSTEM: &str = "system";

/// The settings that a URL contains.
#[derive(Clone, Default)]
pub(crate) struct UrlSettings {
    pub(crate) kind: Option<PoolKind>,
    pub(crate) host: Option<String>,
    pub(crate) port: Option<u16>,
    pub(crate) user: Option<String>,
    pub(crate) password: Option<String>,
    pub(crate) database: Option<String>,
    pub(crate) ssl_mode: Option<SslMode>,
    pub(crate) ca_file: Option<String>,
    pub(crate) client_certificate_file: Option<String>,
    pub(crate) client_key_file: Option<String>,
    /// Whether the scheme requires TLS: `rediss` or `valkeys`.
    pub(crate) has_tls_scheme: bool,
    /// Parameters for the driver.
    pub(crate) parameters: Vec<(String, String)>,
}

impl UrlSettings {
    /// Parses the URL of a pool of this kind; without one, the scheme determines it.
    ///
    /// # Errors
    /// What is wrong, and what to give instead. The message contains no value of the URL.
    pub(crate) fn parse(text: &str, kind: Option<PoolKind>) -> Result<Self, String> {
        let url = parse(text)?;
        let by_scheme = match url.scheme() {
            "postgres" | "postgresql" => PoolKind::Postgres,
            "mysql" | "mariadb" => PoolKind::Mysql,
            "redis" | "rediss" | "valkey" | "valkeys" => PoolKind::Redis,
            _ => {
                let advice =
                    "has an unknown scheme; give postgres://, mysql://, redis:// or rediss://";
                return Err(advice.to_owned());
            }
        };
        let kind = kind.unwrap_or(by_scheme);
        if by_scheme.engine() != kind.engine() {
            return Err("has a scheme of another kind of pool; change the scheme or `kind`".into());
        }
        let whole = |text: &str| {
            decoded(text).ok_or("has a percent-encoded part that is not UTF-8; encode UTF-8")
        };
        let part = |text: &str| Some(whole(text)).filter(|text| text != &Ok(String::new()));
        let mut settings = Self {
            kind: Some(by_scheme),
            host: url.host_str().and_then(part).transpose()?,
            port: url.port(),
            user: part(url.username()).transpose()?,
            password: url.password().map(whole).transpose()?,
            database: part(url.path().trim_matches('/')).transpose()?,
            has_tls_scheme: matches!(url.scheme(), "rediss" | "valkeys"),
            ..Self::default()
        };
        for (key, value) in url.query_pairs() {
            settings.parameter(kind, &key, value.into_owned())?;
        }
        Ok(settings)
    }

    fn parameter(&mut self, kind: PoolKind, key: &str, value: String) -> Result<(), String> {
        let engine = kind.engine();
        match (engine, key) {
            (Engine::Redis, _) => {
                return Err("has a parameter; remove it, and give keys of the pool".to_owned());
            }
            (_, "sslmode" | "ssl-mode") => {
                self.ssl_mode = Some(ssl_mode(engine, &value)?);
                return Ok(());
            }
            (Engine::Postgres, "sslrootcert" | "ssl-root-cert" | "ssl-ca")
            | (Engine::Mysql, "sslca" | "ssl-ca") => {
                if value != SYSTEM {
                    self.ca_file = Some(value);
                } else if self.ssl_mode.is_none() {
                    self.ssl_mode = Some(SslMode::VerifyFull);
                }
                return Ok(());
            }
            (_, "sslcert" | "ssl-cert") => {
                self.client_certificate_file = Some(value);
                return Ok(());
            }
            (_, "sslkey" | "ssl-key") => {
                self.client_key_file = Some(value);
                return Ok(());
            }
            (Engine::Postgres, "host") => {
                self.host = Some(value);
                return Ok(());
            }
            (Engine::Postgres, "port") => {
                let port = value.parse::<u16>().ok();
                self.port = Some(port.ok_or("has a `port` that is no number; give one")?);
                return Ok(());
            }
            (Engine::Postgres, "dbname") => {
                self.database = Some(value);
                return Ok(());
            }
            (Engine::Postgres, "user") => {
                self.user = Some(value);
                return Ok(());
            }
            _ => {}
        }
        let known = passed_on(kind);
        if known.contains(&key) || (kind == PoolKind::Postgres && key.starts_with("options[")) {
            self.parameters.push((key.to_owned(), value));
            return Ok(());
        }
        if has_no_effect(engine, key, &value) {
            return Ok(());
        }
        if value.contains('@') {
            // More likely the rest of a password that has a `?`.
            return Err(RAW_SEPARATOR.to_owned());
        }
        Err(match advice(engine, key) {
            Some(advice) => format!("has the parameter `{key}`; {advice}"),
            None => format!("has an unknown parameter; {}", suggestion(key, known)),
        })
    }
}

/// Returns the parameters that are passed to the driver. sqlx logs the value of an unknown one.
fn passed_on(kind: PoolKind) -> &'static [&'static str] {
    match kind {
        PoolKind::Postgres => &["application_name", "options", "statement-cache-capacity"],
        PoolKind::DeadpoolPostgres | PoolKind::DieselPostgres | PoolKind::Bb8Postgres => &[
            "application_name",
            "channel_binding",
            "connect_timeout",
            "keepalives",
            "keepalives_idle",
            "keepalives_interval",
            "keepalives_retries",
            "options",
            "target_session_attrs",
            "tcp_user_timeout",
        ],
        PoolKind::Mysql => &[
            "charset",
            "collation",
            "statement-cache-capacity",
            "time-zone",
            "timezone",
        ],
        PoolKind::Redis
        | PoolKind::RedisManaged
        | PoolKind::RedisCluster
        | PoolKind::RedisExclusive => &[],
    }
}

/// Returns whether the value is what happens anyway.
fn has_no_effect(engine: Engine, key: &str, value: &str) -> bool {
    let allowed: &[&str] = match (engine, key) {
        (Engine::Postgres, "channel_binding" | "gssencmode") => &["disable", "prefer"],
        (Engine::Postgres, "target_session_attrs") => &["any"],
        (Engine::Postgres, "sslnegotiation") => &["postgres"],
        (Engine::Postgres, "sslsni") => &["1"],
        (Engine::Postgres, "client_encoding") => &["utf8", "UTF8", "auto"],
        _ => &[],
    };
    allowed.contains(&value)
}

/// Returns what to give in place of a parameter of libpq or of another client.
fn advice(engine: Engine, key: &str) -> Option<&'static str> {
    let advice = match (engine, key) {
        (_, "password") => "give the password by the key `password`",
        (Engine::Postgres, "channel_binding") => {
            "sqlx cannot require channel binding; remove it, and give `sslmode=verify-full`"
        }
        (Engine::Postgres, "hostaddr") => "give the address as the host",
        (Engine::Postgres, "gssencmode") => "GSS encryption is not supported; give `disable`",
        (Engine::Postgres, "sslnegotiation") => "give `postgres`, or remove it",
        (Engine::Postgres, "sslsni") => "the host is always sent; remove it",
        (Engine::Postgres, "client_encoding") => "the encoding is UTF-8; remove it",
        (Engine::Postgres, "target_session_attrs") => {
            "sqlx does not check it; give the writer's host"
        }
        (_, "connect_timeout" | "connection_timeout" | "pool_timeout") => {
            "give `acquire_timeout` as a key of the pool"
        }
        (
            Engine::Postgres,
            "keepalives"
            | "keepalives_idle"
            | "keepalives_interval"
            | "keepalives_count"
            | "keepalives_retries"
            | "tcp_user_timeout",
        ) => "the driver has no such setting; remove it",
        (_, "connection_limit" | "pool_size" | "max_connections") => {
            "give `max_connections` as a key of the pool"
        }
        (Engine::Postgres, "schema" | "currentSchema" | "search_path") => {
            "give `options=-c search_path=NAME`"
        }
        (Engine::Postgres, "pgbouncer" | "statement_cache_size") => {
            "give `statement-cache-capacity=0` for a pooler without prepared statements"
        }
        (Engine::Mysql, "socket") => "Unix sockets of MySQL are not supported; give a host",
        (_, "ssl" | "sslaccept" | "useSSL" | "tls") => "give `sslmode`",
        (
            Engine::Postgres,
            "passfile"
            | "service"
            | "sslcompression"
            | "sslcrl"
            | "sslpassword"
            | "krbsrvname"
            | "gsslib"
            | "require_auth"
            | "requiressl"
            | "replication"
            | "fallback_application_name",
        ) => "it is a parameter of libpq alone; remove it",
        _ => return None,
    };
    Some(advice)
}

/// Returns the mode by its name in PostgreSQL, or in MySQL.
///
/// # Errors
/// What to give instead.
pub(crate) fn ssl_mode(engine: Engine, name: &str) -> Result<SslMode, &'static str> {
    let of_mysql = name.to_ascii_uppercase();
    Ok(match (engine, of_mysql.as_str(), name) {
        (Engine::Mysql, "DISABLED", _) | (_, _, "disable") => SslMode::Disable,
        // Neither verifies the server, and both accept one without TLS.
        (Engine::Mysql, "PREFERRED", _) | (_, _, "prefer" | "allow") => SslMode::Prefer,
        (Engine::Mysql, "REQUIRED", _) | (_, _, "require") => SslMode::Require,
        (Engine::Mysql, "VERIFY_CA", _) | (_, _, "verify-ca") => SslMode::VerifyCa,
        (Engine::Mysql, "VERIFY_IDENTITY", _) | (_, _, "verify-full") => SslMode::VerifyFull,
        _ => {
            return Err(
                "has an unknown sslmode; give `disable`, `prefer`, `require`, `verify-ca` or \
                 `verify-full`",
            );
        }
    })
}

#[cfg(test)]
#[expect(clippy::expect_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    fn parse(url: &str) -> UrlSettings {
        UrlSettings::parse(url, None).expect(url)
    }

    #[test]
    fn what_clients_write_is_accepted() {
        let url = parse(
            "postgresql://app:p%40@db:6543/orders?sslmode=verify-full&sslrootcert=/ca.pem\
             &sslcert=/c.pem&sslkey=/k.pem&channel_binding=prefer&options=-c%20a=b\
             &application_name=api&options[b]=c&target_session_attrs=any",
        );
        assert_eq!(url.password.as_deref(), Some("p@"));
        assert_eq!(url.ssl_mode, Some(SslMode::VerifyFull));
        assert_eq!(url.ca_file.as_deref(), Some("/ca.pem"));
        assert_eq!(url.client_key_file.as_deref(), Some("/k.pem"));
        let keys: Vec<_> = url.parameters.iter().map(|(key, _)| key.as_str()).collect();
        assert_eq!(keys, ["options", "application_name", "options[b]"]);

        let system = parse("postgres://db/orders?sslrootcert=system");
        assert_eq!(
            (system.ca_file, system.ssl_mode),
            (None, Some(SslMode::VerifyFull))
        );
        let socket = parse("postgres:///orders?host=/run/postgresql&user=app&dbname=b&port=1");
        assert_eq!(socket.host.as_deref(), Some("/run/postgresql"));
        assert_eq!(socket.database.as_deref(), Some("b"));
        let mysql = parse("mysql://app@db/orders?ssl-mode=VERIFY_IDENTITY&ssl-ca=/ca.pem");
        assert_eq!(mysql.ssl_mode, Some(SslMode::VerifyFull));
        assert_eq!(mysql.ca_file.as_deref(), Some("/ca.pem"));
        assert!(parse("rediss://cache").has_tls_scheme);
    }

    #[test]
    fn what_cannot_be_done_is_rejected_with_what_to_give() {
        for (url, word) in [
            ("postgres//s3cret", "not a URL"),
            ("http://s3cret", "postgres://"),
            ("jdbc:postgresql://s3cret/orders", "scheme"),
            (
                "postgres://db/o?channel_binding=require",
                "sslmode=verify-full",
            ),
            ("postgres://db/o?password=s3cret", "key `password`"),
            ("postgres://db/o?sslmode=s3cret", "verify-full"),
            ("postgres://db/o?connect_timeout=3", "acquire_timeout"),
            ("postgres://db/o?schema=s3cret", "search_path"),
            ("postgres://db/o?pgbouncer=true", "statement-cache-capacity"),
            ("postgres://db/o?target_session_attrs=read-write", "writer"),
            (
                "postgres://db/o?aplication_name=s3cret",
                "`application_name`",
            ),
            ("mysql://db/o?useSSL=true", "`sslmode`"),
            ("mysql://db/o?charst=s3cret", "`charset`"),
            ("redis://cache?protocol=resp3", "parameter"),
            ("postgres://app:12?s3=cret@db/o", "percent-encode"),
            ("postgres://app:s3cret%E9@db/o", "UTF-8"),
        ] {
            let error = UrlSettings::parse(url, None).err().unwrap_or_default();
            assert!(
                error.contains(word) && error.contains(';'),
                "{url}: {error}"
            );
            assert!(!error.contains("s3cret"), "{error}");
        }
        let other = UrlSettings::parse("postgres://db", Some(PoolKind::Mysql));
        assert!(other.err().unwrap_or_default().contains("kind"));
    }
}
