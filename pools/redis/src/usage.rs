//! What the commands of one caller leave on its connection.

use redis::{Arg, Cmd};

/// Commands after which the next caller would find another database, protocol, user or mode.
/// `WATCH` is not one of them, because `UNWATCH` is sent before the next use.
const STATEFUL: [&str; 12] = [
    "ASKING",
    "AUTH",
    "HELLO",
    "MONITOR",
    "PSUBSCRIBE",
    "QUIT",
    "READONLY",
    "READWRITE",
    "RESET",
    "SELECT",
    "SSUBSCRIBE",
    "SUBSCRIBE",
];

/// Subcommands of `CLIENT` that do the same.
const STATEFUL_CLIENT: [&str; 5] = ["CACHING", "NO-EVICT", "NO-TOUCH", "REPLY", "TRACKING"];

/// State of a connection that its commands have changed.
#[derive(Debug, Default)]
pub(crate) struct Usage {
    in_transaction: bool,
    is_stateful: bool,
    /// Whether the last command had no result, because the caller was cancelled. It may still
    /// block, and would delay those of the next caller.
    has_pending_command: bool,
}

impl Usage {
    /// Records a command before it is sent. The caller may be cancelled after that.
    pub(crate) fn note_sent(&mut self, cmd: &Cmd) {
        self.has_pending_command |= !cmd.is_no_response();
        self.in_transaction |= begins_transaction(cmd);
        self.is_stateful |= has_word(cmd, 0, &STATEFUL)
            || (has_word(cmd, 0, &["CLIENT"]) && has_word(cmd, 1, &STATEFUL_CLIENT));
    }

    /// Records the result of a command. Each command before it has got its response, too.
    pub(crate) fn note_result(&mut self, cmd: &Cmd, has_succeeded: bool) {
        self.has_pending_command &= cmd.is_no_response();
        if !has_succeeded {
            return;
        }
        if begins_transaction(cmd) {
            self.in_transaction = true;
        } else if has_word(cmd, 0, &["EXEC", "DISCARD"]) {
            self.in_transaction = false;
        }
    }

    /// Returns whether a transaction has begun whose end has no result.
    pub(crate) fn in_transaction(&self) -> bool {
        self.in_transaction
    }

    /// Returns whether the connection must not be reused.
    pub(crate) fn changed_state(&self) -> bool {
        self.in_transaction || self.is_stateful || self.has_pending_command
    }
}

pub(crate) fn begins_transaction(cmd: &Cmd) -> bool {
    has_word(cmd, 0, &["MULTI"])
}

/// Returns whether a word of a command is one of these, in any case.
fn has_word(cmd: &Cmd, position: usize, words: &[&str]) -> bool {
    let Some(Arg::Simple(word)) = cmd.args_iter().nth(position) else {
        return false;
    };
    words
        .iter()
        .any(|one| one.as_bytes().eq_ignore_ascii_case(word))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn changed_state(commands: &[&[&str]]) -> bool {
        let mut usage = Usage::default();
        for words in commands {
            let mut cmd = Cmd::new();
            cmd.arg(*words);
            usage.note_sent(&cmd);
            usage.note_result(&cmd, true);
        }
        usage.changed_state()
    }

    #[test]
    fn commands_that_change_the_connection_are_found() {
        for command in [
            &["MULTI"] as &[&str],
            &["multi"],
            &["Select", "1"],
            &["PSUBSCRIBE", "*"],
            &["CLIENT", "tracking", "ON"],
        ] {
            assert!(changed_state(&[command]), "{command:?}");
        }
        for command in [
            &["GET", "MULTI"] as &[&str],
            &["WATCH", "key"],
            &["CLIENT", "ID"],
        ] {
            assert!(!changed_state(&[command]), "{command:?}");
        }
    }

    #[test]
    fn an_ended_transaction_leaves_nothing() {
        for end in ["EXEC", "DISCARD"] {
            assert!(!changed_state(&[&["MULTI"], &["SET", "key", "1"], &[end]]));
        }
        assert!(changed_state(&[&["MULTI"], &["EXEC"], &["MULTI"]]));
        assert!(changed_state(&[&["MULTI"], &["EXEC"], &["SELECT", "2"]]));
    }

    #[test]
    fn a_failed_exec_does_not_end_a_transaction() {
        let mut usage = Usage::default();
        for (name, has_succeeded) in [("MULTI", true), ("EXEC", false)] {
            let cmd = redis::cmd(name);
            usage.note_sent(&cmd);
            usage.note_result(&cmd, has_succeeded);
        }
        assert!(usage.changed_state());
    }

    #[test]
    fn a_cancelled_command_is_over_when_a_later_one_has_a_result() {
        let (mut usage, get) = (Usage::default(), redis::cmd("GET"));
        usage.note_sent(&redis::cmd("BLPOP"));
        assert!(usage.changed_state());
        let mut without_response = redis::cmd("SET");
        without_response.set_no_response(true);
        usage.note_sent(&without_response);
        usage.note_result(&without_response, true);
        assert!(usage.changed_state());
        usage.note_sent(&get);
        usage.note_result(&get, true);
        assert!(!usage.changed_state());
    }
}
