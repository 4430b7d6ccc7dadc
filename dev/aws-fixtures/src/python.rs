//! A long-running Python process.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use serde_json::Value;

/// A Python process that reads a case as JSON from each line, and writes its token or error. It
/// exits when its input is closed.
#[derive(Debug)]
pub struct Python {
    process: Child,
    cases: Option<ChildStdin>,
    responses: BufReader<ChildStdout>,
}

impl Python {
    /// Starts the script.
    pub fn start(python: &Path, script: &str) -> Self {
        let mut process = Command::new(python)
            .args(["-c", script])
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

    /// Returns the token, or the script's error.
    pub fn token(&mut self, case: &Value) -> Result<String, String> {
        let cases = self.cases.as_mut().expect("it runs");
        writeln!(cases, "{case}")
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

impl Drop for Python {
    fn drop(&mut self) {
        drop(self.cases.take());
        let _ = self.process.wait();
    }
}
