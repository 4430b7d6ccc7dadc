//! The outcome of an operation, and its log lines.

use std::sync::Arc;

use serde_json::Value;

use super::failure::{Failure, shortened};
use super::request::Operation;

/// The result of an operation that was done.
#[derive(Debug)]
pub(super) struct Outcome {
    pub(super) word: String,
    /// Whether what was requested is the case now.
    is_success: bool,
    pub(super) result: Value,
}

impl Outcome {
    pub(super) fn new(operation: Operation, result: Value) -> Self {
        let word = match operation {
            Operation::Hold => "held",
            Operation::Resume => "resumed",
            Operation::Rotate | Operation::RollBack => result["outcome"].as_str().unwrap_or("done"),
            Operation::Rehearse => {
                let pools = result["pools"].as_array().map_or(&[][..], |pools| pools);
                match pools.iter().all(|pool| pool["error"].is_null()) {
                    _ if pools.is_empty() => "no_pools",
                    true => "verified",
                    false => "not_verified",
                }
            }
        };
        Self {
            word: word.to_owned(),
            is_success: !matches!(word, "unfinished" | "not_verified"),
            result,
        }
    }
}

/// Fields of an operation's log lines.
pub(super) struct Log {
    operation: Operation,
    name: Option<String>,
    by: String,
    from: String,
    /// Number of such requests since the last one that was logged, if not all are.
    unlogged: Option<u64>,
}

impl Log {
    pub(super) fn new(operation: Operation, by: &str, from: String) -> Self {
        Self {
            operation,
            name: None,
            by: by.to_owned(),
            from,
            unlogged: None,
        }
    }

    /// Logs that the token's requests are too many.
    pub(super) fn limited(&mut self, failure: &Failure, unlogged: u64) {
        self.unlogged = Some(unlogged);
        self.failed(failure);
    }

    /// Notes the target's name. One that is not registered is shortened.
    pub(super) fn name(&mut self, name: &str, known: &[Arc<str>]) {
        self.name = Some(if known.iter().any(|known| **known == *name) {
            name.to_owned()
        } else {
            shortened(name)
        });
    }

    pub(super) fn begins(&self) {
        tracing::info!(
            operation = self.operation.as_str(),
            name = self.name,
            by = self.by,
            from = self.from,
            "an operator's request begins"
        );
    }

    pub(super) fn ended(&self, outcome: &Outcome) {
        let operation = self.operation.as_str();
        if outcome.is_success {
            tracing::info!(
                operation,
                name = self.name,
                by = self.by,
                from = self.from,
                outcome = outcome.word,
                "an operator's request was carried out"
            );
        } else {
            tracing::warn!(
                operation,
                name = self.name,
                by = self.by,
                from = self.from,
                outcome = outcome.word,
                "an operator's request ended without success"
            );
        }
    }

    pub(super) fn failed(&self, failure: &Failure) {
        tracing::warn!(
            operation = self.operation.as_str(),
            name = self.name,
            by = self.by,
            from = self.from,
            status = failure.status.as_u16(),
            error_type = failure.kind,
            error = failure.message,
            unlogged = self.unlogged,
            "an operator's request failed"
        );
    }
}
