//! Problems of a configuration, and the error of its start.

use std::error::Error;
use std::fmt;

use claviger::error::ProviderError;

use crate::origins::Origins;

/// All problems of a configuration, or the first error of its start.
///
/// Each problem names its key and a way to correct it. No problem contains a value of the file,
/// because a secret may be under the wrong key.
#[derive(Clone, Debug)]
pub struct ConfigError {
    origin: String,
    problems: Vec<Problem>,
    start_error: Option<Box<claviger::Error>>,
}

/// A problem of a configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Problem {
    /// Key with its tables, such as `pools.orders.port`. Empty if it concerns the whole file.
    pub key: String,
    /// Description of the problem, and a way to correct it.
    pub message: String,
}

impl Problem {
    pub(crate) fn new(key: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            key: key.into(),
            message: message.into(),
        }
    }
}

impl ConfigError {
    pub(crate) fn new(origin: &str, problems: Vec<Problem>) -> Self {
        Self {
            origin: origin.to_owned(),
            problems,
            start_error: None,
        }
    }

    pub(crate) fn one(origin: &str, key: impl Into<String>, message: impl Into<String>) -> Self {
        Self::new(origin, vec![Problem::new(key, message)])
    }

    /// Returns the error of a provider's settings. A message that begins with the quoted name of a
    /// setting is that of the key in the table; another one that of `key`.
    pub(crate) fn of_setting(origin: &str, table: &str, key: &str, error: &ProviderError) -> Self {
        let message = in_words_of_file(error.message());
        let quoted = message.strip_prefix('"');
        match quoted.and_then(|message| message.split_once("\" ")) {
            Some((setting, problem)) => Self::one(origin, key_of(table, setting), problem),
            None => Self::one(origin, key, message),
        }
    }

    /// Returns the error with the key `instead` in place of `key`.
    #[cfg(feature = "secrets-manager")]
    pub(crate) fn with_key(mut self, key: &str, instead: &str) -> Self {
        for problem in self
            .problems
            .iter_mut()
            .filter(|problem| problem.key == key)
        {
            instead.clone_into(&mut problem.key);
        }
        self
    }

    /// Returns the error of a provider or pool that did not start.
    pub(crate) fn start_failed(
        origin: &str,
        key: impl Into<String>,
        error: claviger::Error,
    ) -> Self {
        Self {
            start_error: Some(Box::new(error.clone())),
            ..Self::one(origin, key, error.to_string())
        }
    }

    /// Names the environment variables that have given wrong values.
    pub(crate) fn explained_by(mut self, origins: &Origins) -> Self {
        let problems = self.problems.into_iter();
        self.problems = problems.map(|problem| origins.explain(problem)).collect();
        self
    }

    /// Returns the problems.
    pub fn problems(&self) -> &[Problem] {
        &self.problems
    }

    /// Returns the supervisor's error, if the start failed.
    pub fn start_error(&self) -> Option<&claviger::Error> {
        self.start_error.as_deref()
    }
}

/// Returns the key of a builder's setting.
fn key_of(table: &str, setting: &str) -> String {
    let is_of_vault = table.starts_with("vaults.");
    match setting {
        "endpoint_url" => "aws.endpoint_url".to_owned(),
        "jwt" | "mount" | "role" | "role_id" | "secret_id" | "token" | "token_file"
            if is_of_vault =>
        {
            format!("{table}.auth.{setting}")
        }
        "name" => format!("{table}.cache"),
        "secret_id" => format!("{table}.secret"),
        setting => format!("{table}.{setting}"),
    }
}

/// Returns a builder's message in the words of a file, without its advice for code. The advice is
/// ` (in code, …)`, or ``, or in code `…` `` at the end.
fn in_words_of_file(message: &str) -> String {
    let parts = |start: &str, end: char| {
        let (before, rest) = message.split_once(start)?;
        let (_, after) = rest.rsplit_once(end)?;
        Some(format!("{before}{after}"))
    };
    parts(" (in code, ", ')')
        .or_else(|| parts(", or in code `", '`'))
        .unwrap_or_else(|| message.to_owned())
        .replace("the caller", "the file")
        .replace("the SdkConfig", "AWS's configuration")
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (nth, problem) in self.problems.iter().enumerate() {
            if nth > 0 {
                f.write_str("\n")?;
            }
            f.write_str(&self.origin)?;
            if !problem.key.is_empty() {
                write!(f, ": {}", problem.key)?;
            }
            write!(f, ": {}", problem.message)?;
        }
        Ok(())
    }
}

impl Error for ConfigError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        // The message already contains this error's text.
        self.start_error.as_deref()?.source()
    }
}
