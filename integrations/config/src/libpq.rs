//! Variables of libpq that are defaults for pools of PostgreSQL.
//!
//! sqlx reads them, too. Here they apply to every kind of pool, and tools know them.

use crate::error::Problem;
use crate::resolved_pool::Engine;
use crate::schema::SslMode;
use crate::source::Variables;
use crate::url_settings::{SYSTEM, ssl_mode};

pub(crate) const SSL_MODE: &str = "PGSSLMODE";
const CA_FILE: &str = "PGSSLROOTCERT";
const DATABASE: &str = "PGDATABASE";

/// Defaults of the environment.
#[derive(Clone, Debug, Default)]
pub(crate) struct Libpq {
    pub(crate) ca_file: Option<String>,
    pub(crate) database: Option<String>,
    /// Client's certificate and its key. One without the other has no effect.
    pub(crate) client_certificate: Option<(String, String)>,
    ssl_mode: Option<String>,
}

impl Libpq {
    pub(crate) fn new(variables: &Variables) -> Self {
        let given = |name: &str| {
            let value = variables.get(name).filter(|value| !value.is_empty());
            value.cloned()
        };
        Self {
            ca_file: given(CA_FILE),
            database: given(DATABASE),
            client_certificate: given("PGSSLCERT").zip(given("PGSSLKEY")),
            ssl_mode: given(SSL_MODE),
        }
    }

    /// Returns the mode of TLS.
    ///
    /// # Errors
    /// A variable has a value that drivers cannot use.
    pub(crate) fn ssl_mode(&self) -> Result<Option<SslMode>, Problem> {
        // sqlx takes it for the name of a file.
        if self.ca_file.as_deref() == Some(SYSTEM) {
            let advice = "is `system`, which sqlx cannot read; unset it: the platform's CA \
                          certificates are the default";
            return Err(Problem::new(CA_FILE, advice));
        }
        let mode = self.ssl_mode.as_deref();
        let mode = mode
            .map(|mode| ssl_mode(Engine::Postgres, mode))
            .transpose();
        mode.map_err(|message| Problem::new(SSL_MODE, message))
    }
}

#[cfg(test)]
#[expect(clippy::expect_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::error::ConfigError;
    use crate::resolved_pool::ResolvedPool;

    fn libpq(name: &str, value: &str) -> Libpq {
        Libpq::new(&Variables::from([(name.to_owned(), value.to_owned())]))
    }

    #[test]
    fn values_that_no_driver_can_use_are_problems() {
        let full = libpq(SSL_MODE, "verify-full").ssl_mode();
        assert_eq!(full, Ok(Some(SslMode::VerifyFull)));
        assert_eq!(libpq(SSL_MODE, "").ssl_mode(), Ok(None));
        let mode = libpq(SSL_MODE, "full").ssl_mode().expect_err("unknown");
        assert!(mode.key == SSL_MODE && mode.message.contains("verify-full"));
        let system = libpq(CA_FILE, SYSTEM).ssl_mode().expect_err("no file");
        assert!(system.key == CA_FILE && system.message.contains("unset"));
    }
    /// Returns the pool of the environment, or what is wrong with it.
    fn pool(variables: &[(&str, &str)]) -> Result<ResolvedPool, ConfigError> {
        let common = [("DATABASE_USER", "app"), ("DATABASE_PASSWORD", "pw")];
        let variables = common.iter().chain(variables);
        let variables = variables.map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let config = Config::from_variables(&variables.collect())?;
        Ok(config.resolved_pools()?.remove(0))
    }

    #[test]
    fn a_socket_has_no_tls_whatever_the_environment_requests() {
        let required = (SSL_MODE, "require");
        let socket = pool(&[required, ("DATABASE_HOST", "/run/postgresql")]);
        let socket = socket.expect("libpq ignores the mode, too");
        assert_eq!(socket.ssl_mode(), Some(SslMode::Disable));
        let host = pool(&[required, ("DATABASE_HOST", "db")]).expect("it is valid");
        assert_eq!(host.ssl_mode(), Some(SslMode::Require));
    }

    #[test]
    fn the_database_of_the_environment_is_a_default() {
        let of_environment = (DATABASE, "orders");
        let host = ("DATABASE_HOST", "db");
        let default = pool(&[of_environment, host]).expect("it is valid");
        assert_eq!(default.database().as_deref(), Some("orders"));
        let url = ("DATABASE_URL", "postgres://db/invoices");
        let given = pool(&[of_environment, url]).expect("it is valid");
        assert_eq!(given.database().as_deref(), Some("invoices"));
        #[cfg(feature = "mysql")]
        {
            let kind = ("DATABASE_KIND", "mysql");
            let mysql = pool(&[of_environment, host, kind]).expect("it is valid");
            assert_eq!(mysql.database(), None);
        }
    }

    #[cfg(feature = "deadpool-postgres")]
    #[test]
    fn a_driver_without_a_setting_does_not_get_it_from_the_environment() {
        let kind = ("DATABASE_KIND", "deadpool-postgres");
        let host = ("DATABASE_HOST", "db");
        let error = pool(&[kind, host, (SSL_MODE, "require")]).err();
        let error = error.map(|error| error.to_string()).unwrap_or_default();
        let named = "PGSSLMODE: is not supported by pools of kind `deadpool-postgres`; give";
        assert!(error.contains(named), "{error}");
        let certificate = [("PGSSLCERT", "/c.pem"), ("PGSSLKEY", "/k.pem")];
        let driver = pool(&[&[kind, host][..], &certificate].concat()).expect("it is valid");
        assert_eq!(driver.client_certificate_file(), None);
        let sqlx = pool(&[&[host][..], &certificate].concat()).expect("it is valid");
        assert_eq!(sqlx.client_key_file(), Some("/k.pem".into()));
    }
}
