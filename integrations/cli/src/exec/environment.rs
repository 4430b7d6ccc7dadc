//! The variables of a command, as the clients of each server read them.

use std::fmt::Write as _;

use claviger::Credentials;
use claviger_config::{Connection, Engine, TlsMode};
use percent_encoding::utf8_percent_encode;

use crate::place::Place;
use crate::secret::ENCODED;

/// Variables by which libpq would use another server, database, password or session setting.
const OF_LIBPQ: [&str; 8] = [
    "PGDATABASE",
    "PGHOSTADDR",
    "PGOPTIONS",
    "PGPASSFILE",
    "PGREQUIREAUTH",
    "PGSERVICE",
    "PGSERVICEFILE",
    "PGTARGETSESSIONATTRS",
];

/// User of Redis who needs no name.
const DEFAULT_USER: &str = "default";

/// Returns whether a client of this engine could connect elsewhere, or otherwise, by an inherited
/// variable of this name. The command does not inherit it.
pub(super) fn leads_elsewhere(engine: Engine, name: &str) -> bool {
    match engine {
        Engine::Postgres => OF_LIBPQ.contains(&name) || name.starts_with("PGSSL"),
        Engine::Mysql => name.starts_with("MYSQL_") || name == "LIBMYSQL_ENABLE_CLEARTEXT_PLUGIN",
        Engine::Redis => name == "REDISCLI_AUTH",
        _ => false,
    }
}

/// Server and settings of a connection.
struct Target {
    engine: Engine,
    host: String,
    port: u16,
    database: Option<String>,
    mode: TlsMode,
    ca_file: Option<String>,
    client_certificate: Option<(String, String)>,
}

/// Returns the variables for a connection with these credentials.
pub(super) fn variables(
    connection: &Connection,
    credentials: &Credentials,
) -> Vec<(&'static str, String)> {
    let path = |path: &std::path::Path| path.to_string_lossy().into_owned();
    let place = Place::of(connection).with_endpoint_of(credentials);
    let target = Target {
        engine: connection.engine(),
        host: place.host,
        port: place.port,
        database: place.database,
        mode: connection.tls_mode(),
        ca_file: connection
            .ca_file()
            .map(path)
            .or_else(|| platform_ca_file(connection)),
        client_certificate: connection
            .client_certificate()
            .map(|(certificate, key)| (path(certificate), path(key))),
    };
    of_target(&target, credentials)
}

/// Returns the platform's authorities for a client of libpq that verifies the server. Without a
/// file, libpq reads one in the home directory. `sslrootcert=system` needs libpq 16, and sqlx takes
/// it for a file.
fn platform_ca_file(connection: &Connection) -> Option<String> {
    let is_verified = matches!(
        connection.tls_mode(),
        TlsMode::VerifyCa | TlsMode::VerifyFull
    );
    if connection.engine() != Engine::Postgres || !is_verified {
        return None;
    }
    let file = openssl_probe::probe().cert_file?;
    Some(file.to_string_lossy().into_owned())
}

fn of_target(target: &Target, credentials: &Credentials) -> Vec<(&'static str, String)> {
    let user = credentials.user().to_owned();
    let password = credentials.expose_password().to_owned();
    let (host, port) = (target.host.clone(), target.port.to_string());
    let mut variables = Vec::new();
    match target.engine {
        Engine::Mysql => {
            // The clients take `localhost` for a Unix socket, and ignore the port.
            let host = if host == "localhost" {
                "127.0.0.1".to_owned()
            } else {
                host
            };
            variables.extend([
                ("MYSQL_HOST", host),
                ("MYSQL_TCP_PORT", port),
                ("MYSQL_USER", user),
                (mysql_secret(credentials), password),
                ("DATABASE_URL", url(target, credentials)),
            ]);
            if let Some(database) = &target.database {
                variables.push(("MYSQL_DATABASE", database.clone()));
            }
        }
        Engine::Redis => {
            variables.push(("REDIS_URL", url(target, credentials)));
            // redis-cli sends it as the password of the default user, even without TLS.
            let is_default = matches!(credentials.user(), "" | DEFAULT_USER);
            if is_default && !credentials.is_token() {
                variables.push(("REDISCLI_AUTH", password));
            }
        }
        _ => {
            variables.extend([
                ("PGHOST", host),
                ("PGPORT", port),
                ("PGUSER", user),
                ("PGPASSWORD", password),
                ("PGSSLMODE", postgres_mode(target.mode).to_owned()),
                ("DATABASE_URL", url(target, credentials)),
            ]);
            if let Some(database) = &target.database {
                variables.push(("PGDATABASE", database.clone()));
            }
            if let Some(file) = &target.ca_file {
                variables.push(("PGSSLROOTCERT", file.clone()));
            }
            if let Some((certificate, key)) = &target.client_certificate {
                variables.push(("PGSSLCERT", certificate.clone()));
                variables.push(("PGSSLKEY", key.clone()));
            }
        }
    }
    variables
}

/// Returns the variable for the password. MySQL's clients do not read that of a token: no variable
/// makes them verify the server, so they could send it in clear.
fn mysql_secret(credentials: &Credentials) -> &'static str {
    if credentials.is_token() {
        "MYSQL_TOKEN"
    } else {
        "MYSQL_PWD"
    }
}

fn postgres_mode(mode: TlsMode) -> &'static str {
    match mode {
        TlsMode::Disable => "disable",
        TlsMode::Require => "require",
        TlsMode::VerifyCa => "verify-ca",
        TlsMode::VerifyFull => "verify-full",
        _ => "prefer",
    }
}

fn mysql_mode(mode: TlsMode) -> &'static str {
    match mode {
        TlsMode::Disable => "DISABLED",
        TlsMode::Require => "REQUIRED",
        TlsMode::VerifyCa => "VERIFY_CA",
        TlsMode::VerifyFull => "VERIFY_IDENTITY",
        _ => "PREFERRED",
    }
}

/// Returns the URL of the connection, with every part encoded.
fn url(target: &Target, credentials: &Credentials) -> String {
    let encoded = |text: &str| utf8_percent_encode(text, ENCODED).to_string();
    let (certificate, key) = target.client_certificate.clone().unzip();
    let (scheme, parameters) = match target.engine {
        Engine::Mysql => (
            "mysql",
            vec![
                ("ssl-mode", Some(mysql_mode(target.mode).to_owned())),
                ("ssl-ca", target.ca_file.clone()),
                ("ssl-cert", certificate),
                ("ssl-key", key),
            ],
        ),
        Engine::Redis if target.mode == TlsMode::Disable => ("redis", Vec::new()),
        Engine::Redis => ("rediss", Vec::new()),
        _ => (
            "postgres",
            vec![
                ("sslmode", Some(postgres_mode(target.mode).to_owned())),
                ("sslrootcert", target.ca_file.clone()),
                ("sslcert", certificate),
                ("sslkey", key),
            ],
        ),
    };
    let host = if target.host.contains(':') {
        format!("[{}]", target.host)
    } else {
        encoded(&target.host)
    };
    let mut url = format!(
        "{scheme}://{}:{}@{host}:{}",
        encoded(credentials.user()),
        encoded(credentials.expose_password()),
        target.port
    );
    if let Some(database) = &target.database {
        let _ = write!(url, "/{}", encoded(database));
    }
    let mut separator = '?';
    for (key, value) in parameters {
        if let Some(value) = value {
            let _ = write!(url, "{separator}{key}={}", encoded(&value));
            separator = '&';
        }
    }
    url
}

#[cfg(test)]
mod tests {
    #![expect(clippy::expect_used, reason = "a test fails by panicking")]

    use super::*;

    fn target(engine: Engine) -> Target {
        Target {
            engine,
            host: "db.internal".into(),
            port: 5432,
            database: Some("orders/eu".into()),
            mode: TlsMode::VerifyFull,
            ca_file: Some("/etc/ssl/ca file.pem".into()),
            client_certificate: None,
        }
    }

    fn value(target: &Target, credentials: &Credentials, name: &str) -> Option<String> {
        let variables = of_target(target, credentials);
        let mut found = variables.into_iter().filter(|(known, _)| *known == name);
        found.next().map(|(_, value)| value)
    }

    #[test]
    fn every_part_of_a_url_is_encoded() {
        let credentials = Credentials::new("a@b", "p:/?#[]@%&= é");
        let url = value(&target(Engine::Postgres), &credentials, "DATABASE_URL");
        assert_eq!(
            url.as_deref(),
            Some(
                "postgres://a%40b:p%3A%2F%3F%23%5B%5D%40%25%26%3D%20%C3%A9@db.internal:5432/\
                 orders%2Feu?sslmode=verify-full&sslrootcert=%2Fetc%2Fssl%2Fca%20file.pem"
            )
        );
        let parsed = url::Url::parse(&url.unwrap_or_default()).expect("a URL");
        assert_eq!(parsed.host_str(), Some("db.internal"));
    }

    #[test]
    fn an_ipv6_address_has_brackets() {
        let address = Target {
            host: "::1".into(),
            ..target(Engine::Redis)
        };
        let credentials = Credentials::new("app", "kestrel");
        let url = value(&address, &credentials, "REDIS_URL");
        let expected = "rediss://app:kestrel@[::1]:5432/orders%2Feu";
        assert_eq!(url.as_deref(), Some(expected));
    }

    #[test]
    fn inherited_variables_that_lead_elsewhere_are_known() {
        for name in ["PGHOSTADDR", "PGSERVICE", "PGDATABASE", "PGSSLCERT"] {
            assert!(leads_elsewhere(Engine::Postgres, name), "{name}");
            assert!(!leads_elsewhere(Engine::Redis, name), "{name}");
        }
        assert!(leads_elsewhere(Engine::Mysql, "MYSQL_UNIX_PORT"));
        assert!(!leads_elsewhere(Engine::Postgres, "PGCONNECT_TIMEOUT"));
    }

    /// A client would send it in clear to a server that it does not verify.
    #[test]
    fn a_token_is_in_no_variable_of_a_client_that_does_not_verify_the_server() {
        let token = Credentials::new("default", "kestrel").with_password_as_token();
        for (engine, own) in [
            (Engine::Mysql, &["MYSQL_TOKEN", "DATABASE_URL"][..]),
            (Engine::Redis, &["REDIS_URL"]),
        ] {
            let variables = of_target(&target(engine), &token);
            assert!(
                !variables
                    .iter()
                    .any(|(name, _)| *name == "LIBMYSQL_ENABLE_CLEARTEXT_PLUGIN")
            );
            let with_token = variables
                .iter()
                .filter(|(_, value)| value.contains("kestrel"));
            let names: Vec<_> = with_token.map(|(name, _)| *name).collect();
            assert_eq!(names, own);
        }
        let url = value(&target(Engine::Mysql), &token, "DATABASE_URL").unwrap_or_default();
        assert!(url.contains("ssl-mode=VERIFY_IDENTITY&ssl-ca="), "{url}");
    }

    #[test]
    fn each_client_has_its_variables() {
        let credentials = Credentials::new("app", "kestrel");
        let of = |engine, name| value(&target(engine), &credentials, name);
        assert_eq!(
            of(Engine::Postgres, "PGPASSWORD").as_deref(),
            Some("kestrel")
        );
        assert_eq!(
            of(Engine::Postgres, "PGSSLMODE").as_deref(),
            Some("verify-full")
        );
        assert_eq!(of(Engine::Redis, "REDISCLI_AUTH"), None);
        assert_eq!(of(Engine::Redis, "PGPASSWORD"), None);
        let of_mysql = of(Engine::Mysql, "MYSQL_PWD");
        assert_eq!(of_mysql.as_deref(), Some("kestrel"));
        let default = Credentials::new("default", "kestrel");
        let password = value(&target(Engine::Redis), &default, "REDISCLI_AUTH");
        assert_eq!(password.as_deref(), Some("kestrel"));
        let local = Target {
            host: "localhost".into(),
            ..target(Engine::Mysql)
        };
        let host = value(&local, &credentials, "MYSQL_HOST");
        assert_eq!(host.as_deref(), Some("127.0.0.1"));
    }
}
