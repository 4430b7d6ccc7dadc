//! The environment variables that have given values, for messages.

use std::collections::BTreeMap;

use crate::error::Problem;

/// The variables by the keys whose values they have given.
#[derive(Clone, Debug, Default)]
pub(crate) struct Origins {
    variables: BTreeMap<String, String>,
    /// Prefixes of variables with the table of their keys, if there is no file.
    prefixes: BTreeMap<String, &'static str>,
}

impl Origins {
    /// Adds the variable that has given the value of a key.
    pub(crate) fn add(&mut self, key: impl Into<String>, variable: &str) {
        self.variables.insert(key.into(), variable.to_owned());
    }

    /// Adds a table whose keys are variables with this prefix, because there is no file.
    pub(crate) fn add_prefix(&mut self, table: impl Into<String>, prefix: &'static str) {
        self.prefixes.insert(table.into(), prefix);
    }

    /// Names the variable in the problem of a value that it has given.
    pub(crate) fn explain(&self, mut problem: Problem) -> Problem {
        let variable = self.variables.get(&problem.key);
        let table = self.prefixes.iter().find_map(|(table, prefix)| {
            let key = problem
                .key
                .strip_prefix(table.as_str())?
                .strip_prefix('.')?;
            Some(format!("{prefix}{}", key.to_ascii_uppercase()))
        });
        match (variable, table) {
            (Some(variable), _) if !self.prefixes.is_empty() => problem.key.clone_from(variable),
            (Some(variable), _) => problem.message += &format!("; the value is that of {variable}"),
            (None, Some(variable)) => problem.key = variable,
            (None, None) => {}
        }
        problem
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn explained(origins: &Origins, key: &str) -> String {
        let problem = origins.explain(Problem::new(key, "is wrong"));
        format!("{}: {}", problem.key, problem.message)
    }

    #[test]
    fn a_problem_names_the_variable_that_gave_the_value() {
        let mut of_file = Origins::default();
        of_file.add("pools.a.port", "CLAVIGER_POOLS__A__PORT");
        let named = "pools.a.port: is wrong; the value is that of CLAVIGER_POOLS__A__PORT";
        assert_eq!(explained(&of_file, "pools.a.port"), named);
        assert_eq!(
            explained(&of_file, "pools.b.port"),
            "pools.b.port: is wrong"
        );

        let mut of_environment = Origins::default();
        of_environment.add("pools.database.password", "DATABASE_PASSWORD_FILE");
        of_environment.add_prefix("pools.database", "DATABASE_");
        let explained = |key| explained(&of_environment, key);
        let named = "DATABASE_PASSWORD_FILE: is wrong";
        assert_eq!(explained("pools.database.password"), named);
        assert_eq!(
            explained("pools.database.ssl_mode"),
            "DATABASE_SSL_MODE: is wrong"
        );
        assert_eq!(explained("pools.other.host"), "pools.other.host: is wrong");
    }
}
