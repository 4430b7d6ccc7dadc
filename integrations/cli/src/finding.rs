//! A finding: what one step of a diagnosis observed, its cause, and what to do next.

use serde::Serialize;

/// Longest text of a server or backend in a finding, in characters.
const LONGEST_TEXT: usize = 300;

/// A step of a diagnosis. The order is that of the steps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Step {
    /// The settings of the pool and its provider.
    Settings,
    /// The difference between this machine's clock and the backend's.
    Clock,
    /// The identity that the backend sees.
    #[cfg_attr(
        not(feature = "aws"),
        expect(dead_code, reason = "only AWS reports an identity")
    )]
    Identity,
    /// The permission to read or sign the credentials.
    Permission,
    /// The shape of the secret.
    Secret,
    /// The host's addresses.
    Dns,
    /// The connection to the port.
    Tcp,
    /// TLS, the server's certificate and its authority.
    Tls,
    /// The claims and the age of a token.
    Token,
    /// A pooler or proxy in front of the database.
    Pooler,
    /// One login.
    Login,
    /// The role in the database's catalog.
    Role,
    /// The age of connections and the lifetime of tokens.
    Lifetime,
    /// The connections needed and available.
    Capacity,
    /// The transactions that a rotation would wait for.
    Drain,
}

impl Step {
    /// Returns the word of the table and of JSON.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Settings => "settings",
            Self::Clock => "clock",
            Self::Identity => "identity",
            Self::Permission => "permission",
            Self::Secret => "secret",
            Self::Dns => "dns",
            Self::Tcp => "tcp",
            Self::Tls => "tls",
            Self::Token => "token",
            Self::Pooler => "pooler",
            Self::Login => "login",
            Self::Role => "role",
            Self::Lifetime => "lifetime",
            Self::Capacity => "capacity",
            Self::Drain => "drain",
        }
    }
}

/// Result of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Outcome {
    /// Nothing is wrong.
    Ok,
    /// Something to know, which does not prevent the login now.
    Note,
    /// The cause of a failure. The diagnosis of the connection ends here.
    Problem,
}

impl Outcome {
    /// Returns the word of the table.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Note => "note",
            Self::Problem => "FAIL",
        }
    }
}

/// What one step observed. Contains no secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Finding {
    pub(crate) step: Step,
    pub(crate) outcome: Outcome,
    /// Word for the cause of a note or problem, for programs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) cause: Option<&'static str>,
    /// What was observed.
    pub(crate) detail: String,
    /// What to do, the most likely first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) next: Vec<String>,
    /// Statements to run as an administrator of the database.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) statements: Vec<String>,
}

impl Finding {
    pub(crate) fn ok(step: Step, detail: impl Into<String>) -> Self {
        Self {
            step,
            outcome: Outcome::Ok,
            cause: None,
            detail: detail.into(),
            next: Vec::new(),
            statements: Vec::new(),
        }
    }

    pub(crate) fn note(step: Step, cause: &'static str, detail: impl Into<String>) -> Self {
        Self {
            outcome: Outcome::Note,
            cause: Some(cause),
            ..Self::ok(step, detail)
        }
    }

    pub(crate) fn problem(step: Step, cause: &'static str, detail: impl Into<String>) -> Self {
        Self {
            outcome: Outcome::Problem,
            ..Self::note(step, cause, detail)
        }
    }

    /// Adds something to do.
    pub(crate) fn with_next(mut self, next: impl Into<String>) -> Self {
        self.next.push(next.into());
        self
    }

    /// Adds a statement to run as an administrator of the database.
    pub(crate) fn with_statement(mut self, statement: impl Into<String>) -> Self {
        self.statements.push(statement.into());
        self
    }

    pub(crate) fn is_problem(&self) -> bool {
        self.outcome == Outcome::Problem
    }
}

/// Returns the text of a server on one line, without control characters, and cut if it is long.
pub(crate) fn one_line(text: &str) -> String {
    let line: String = text
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect();
    let line = line.split_whitespace().collect::<Vec<_>>().join(" ");
    if line.chars().count() <= LONGEST_TEXT {
        return line;
    }
    line.chars().take(LONGEST_TEXT).collect::<String>() + " …"
}

#[cfg(test)]
mod tests {
    #![expect(clippy::expect_used, reason = "a test fails by panicking")]

    use super::*;

    #[test]
    fn texts_of_a_server_cannot_control_the_terminal() {
        assert_eq!(one_line("a\x1b[31m\n\tb"), "a [31m b");
        let cut = one_line(&"long ".repeat(100));
        assert_eq!(cut.chars().count(), LONGEST_TEXT + 2, "{cut}");
    }

    #[test]
    fn a_finding_in_json_has_the_words_of_the_table() {
        let finding = Finding::problem(Step::Dns, "unknown_host", "no address").with_next("check");
        let json = serde_json::to_value(&finding).expect("it is serialized");
        let expected = serde_json::json!({
            "step": "dns", "outcome": "problem", "cause": "unknown_host", "detail": "no address",
            "next": ["check"],
        });
        assert_eq!(json, expected);
    }
}
