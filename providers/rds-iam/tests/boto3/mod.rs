//! A long-running boto3 process.

#![expect(clippy::expect_used, reason = "a failing helper fails the test")]

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use serde_json::{Value, json};

/// Signer, time and endpoint of a token.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Case<'c> {
    pub(crate) host: &'c str,
    pub(crate) port: u16,
    pub(crate) user: &'c str,
    pub(crate) region: &'c str,
    /// Seconds since 1970.
    pub(crate) at: u64,
    pub(crate) key: &'c str,
    pub(crate) secret: &'c str,
    pub(crate) session: Option<&'c str>,
}

/// A Python process that signs with boto3. It exits when its input is closed.
pub(crate) struct Boto3 {
    process: Child,
    cases: Option<ChildStdin>,
    responses: BufReader<ChildStdout>,
}

impl Boto3 {
    pub(crate) fn start(python: &Path) -> Self {
        let mut process = Command::new(python)
            .args(["-c", include_str!("tokens.py")])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("Python starts");
        let cases = process.stdin.take();
        let responses = BufReader::new(process.stdout.take().expect("it is piped"));
        Self {
            process,
            cases,
            responses,
        }
    }

    /// Returns the token, or boto3's error.
    pub(crate) fn token(&mut self, case: Case<'_>) -> Result<String, String> {
        let Case {
            host,
            port,
            user,
            region,
            at,
            key,
            secret,
            session,
        } = case;
        let line = json!({
            "host": host,
            "port": port,
            "user": user,
            "region": region,
            "at": at,
            "key": key,
            "secret": secret,
            "session": session,
        });
        let cases = self.cases.as_mut().expect("it runs");
        writeln!(cases, "{line}")
            .and_then(|()| cases.flush())
            .expect("it reads");
        let mut response = String::new();
        self.responses.read_line(&mut response).expect("it writes");
        let response: Value =
            serde_json::from_str(&response).expect("a response is JSON; boto3 is installed");
        let text = |name: &str| {
            response
                .get(name)
                .and_then(Value::as_str)
                .map(str::to_owned)
        };
        text("token").ok_or_else(|| text("error").unwrap_or_default())
    }
}

impl Drop for Boto3 {
    fn drop(&mut self) {
        drop(self.cases.take());
        let _ = self.process.wait();
    }
}
