//! Builds providers and the options of drivers, to find errors that would end a start. No request
//! is sent.

use crate::error::{ConfigError, Problem};
use crate::kinds::check_options;
use crate::providers::Providers;
use crate::resolved_pool::ResolvedPool;
use crate::schema::{File, ProviderSettings};

/// Settings that builders name when only the credentials of AWS are missing. The check ignores
/// these errors.
const CREDENTIALS_OF_AWS: [&str; 2] = ["SdkConfig", "aws"];

/// Builds the providers and options of a file, and drops them.
pub(super) struct Builders<'f>(Providers<'f>);

impl<'f> Builders<'f> {
    pub(super) fn new(file: &'f File) -> Self {
        Self(Providers::for_check(file))
    }

    /// Adds the problems of a provider. A password in a file may be written before the start.
    pub(super) fn provider(
        &self,
        name: &str,
        settings: &ProviderSettings,
        problems: &mut Vec<Problem>,
    ) {
        let is_built = !matches!(
            settings,
            ProviderSettings::Static(_) | ProviderSettings::Service(_)
        );
        if is_built && let Err(error) = self.0.of_file(name, settings) {
            add(&error, &format!("providers.{name}"), problems);
        }
    }

    /// Adds the problems of a pool's own provider, and of its driver's options.
    pub(super) fn pool(&self, pool: &ResolvedPool, problems: &mut Vec<Problem>) {
        if pool.settings.aws_iam_auth
            && let Err(error) = self.0.of_pool(pool)
        {
            add(&error, &format!("pools.{}", pool.name), problems);
        }
        if let Err(problem) = check_options(pool) {
            problems.push(problem);
        }
    }
}

fn add(error: &ConfigError, table: &str, problems: &mut Vec<Problem>) {
    let without_credentials = CREDENTIALS_OF_AWS.map(|setting| format!("{table}.{setting}"));
    for problem in error.problems() {
        // Several providers may have the same server of Vault.
        if !without_credentials.contains(&problem.key) && !problems.contains(problem) {
            problems.push(problem.clone());
        }
    }
}
