//! Runs the command, and reads its report.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output};

use claviger_servers::Postgres;
use serde_json::Value;
use tempfile::TempDir;

/// Password of each right setup. No output may contain it, or a password that begins with it.
pub(crate) const SECRET: &str = "kestrel-7d1f";
/// A password that is not right.
pub(crate) const WRONG: &str = "sparrow-90b2";
/// Secret access key of AWS.
pub(crate) const ACCESS_KEY: &str = "wJalrXUtnFEMI-kestrel-access-key";

/// A folder with a configuration.
pub(crate) struct Setup {
    folder: TempDir,
    /// Library that replaces functions of the C library for the command.
    library: Option<PathBuf>,
}

/// Replaces the function of the C library that reads the clock.
const CLOCK: &str = "
#define _GNU_SOURCE
#include <dlfcn.h>
#include <time.h>
int clock_gettime(clockid_t id, struct timespec *at) {
    int (*real)(clockid_t, struct timespec *) = dlsym(RTLD_NEXT, \"clock_gettime\");
    int result = real(id, at);
    if (result == 0 && id == CLOCK_REALTIME) at->tv_sec += SHIFT;
    return result;
}
";

/// Replaces the function of the C library that looks up a host: `several.test` has two addresses,
/// a name of RDS Proxy has that of this machine, and for `unresolved.test` the resolver does not
/// respond.
const RESOLVER: &str = "
#define _GNU_SOURCE
#include <dlfcn.h>
#include <netdb.h>
#include <string.h>
int getaddrinfo(const char *node, const char *service, const struct addrinfo *hints,
                struct addrinfo **found) {
    int (*real)(const char *, const char *, const struct addrinfo *, struct addrinfo **) =
        dlsym(RTLD_NEXT, \"getaddrinfo\");
    if (node && strcmp(node, \"unresolved.test\") == 0) return EAI_AGAIN;
    if (node && strstr(node, \".proxy-\")) return real(\"127.0.0.1\", service, hints, found);
    if (!node || strcmp(node, \"several.test\") != 0) return real(node, service, hints, found);
    int first = real(\"127.0.0.2\", service, hints, found);
    return first ? first : real(\"127.0.0.1\", service, hints, &(*found)->ai_next);
}
";

impl Setup {
    /// Creates a folder with the file `password`.
    pub(crate) fn new() -> Self {
        let setup = Self {
            folder: TempDir::new().expect("a folder"),
            library: None,
        };
        setup.write("password", SECRET);
        setup
    }

    /// Gives the command a clock that differs from the machine's by these seconds. Needs a C
    /// compiler.
    pub(crate) fn with_clock(self, seconds: i32) -> Self {
        self.with_library(&CLOCK.replace("SHIFT", &format!("({seconds})")))
    }

    /// Gives the command another resolver, see [`RESOLVER`]. Needs a C compiler.
    pub(crate) fn with_resolver(self) -> Self {
        self.with_library(RESOLVER)
    }

    fn with_library(mut self, text: &str) -> Self {
        let (source, library) = (self.write("library.c", text), self.path("library.so"));
        let compiled = Command::new("cc")
            .args(["-shared", "-fPIC", "-o"])
            .arg(&library)
            .args([&source, "-ldl"])
            .status();
        assert!(compiled.expect("a compiler").success());
        self.library = Some(library);
        self
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Writes a file and returns its path as text.
    pub(crate) fn write(&self, name: &str, text: &str) -> String {
        fs::write(self.path(name), text).expect("written");
        self.path(name).display().to_string()
    }

    /// Returns the command with this configuration, without settings of the machine's user.
    pub(crate) fn command(&self, config: &str, arguments: &[&str]) -> Command {
        let file = self.write("claviger.toml", config);
        let mut command = Command::new(env!("CARGO_BIN_EXE_claviger"));
        for (name, _) in std::env::vars_os() {
            let text = name.to_string_lossy().into_owned();
            if ["AWS_", "PG", "VAULT_", "CLAVIGER_", "DATABASE_", "REDIS"]
                .iter()
                .any(|prefix| text.starts_with(prefix))
            {
                command.env_remove(name);
            }
        }
        if let Some(library) = &self.library {
            command.env("LD_PRELOAD", library);
        }
        command
            .env("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE")
            .env("AWS_SECRET_ACCESS_KEY", ACCESS_KEY)
            .env("AWS_EC2_METADATA_DISABLED", "true")
            .env("CLAVIGER_CONFIG", file)
            .args(arguments);
        command
    }

    /// Runs the command.
    pub(crate) fn run(&self, config: &str, arguments: &[&str]) -> Run {
        let output = self.command(config, arguments).output();
        let run = Run::new(output.expect("the command runs"));
        for file in ["password", "token"] {
            let secret = fs::read_to_string(self.path(file)).unwrap_or_default();
            let is_printed = run.stdout.contains(&secret) || run.stderr.contains(&secret);
            assert!(
                secret.trim().is_empty() || !is_printed,
                "the output contains the {file}"
            );
        }
        run
    }

    /// Runs `claviger doctor --json`.
    pub(crate) fn doctor(&self, config: &str, arguments: &[&str]) -> Diagnosis {
        let mut all = vec!["doctor", "--json"];
        all.extend(arguments);
        self.report(config, &all)
    }

    /// Runs a command that prints a report as JSON.
    pub(crate) fn report(&self, config: &str, arguments: &[&str]) -> Diagnosis {
        let run = self.run(config, arguments);
        let report = serde_json::from_str(&run.stdout);
        let report = report.unwrap_or_else(|_| Value::String(run.stdout.clone() + &run.stderr));
        Diagnosis { run, report }
    }
}

/// Output of a command.
pub(crate) struct Run {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Run {
    fn new(output: Output) -> Self {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let run = Self {
            code: output.status.code(),
            stdout: text(&output.stdout),
            stderr: text(&output.stderr),
        };
        for secret in [
            SECRET,
            WRONG,
            ACCESS_KEY,
            "X-Amz-Signature",
            "SCRAM-SHA-256$",
        ] {
            assert!(
                !run.stdout.contains(secret) && !run.stderr.contains(secret),
                "the output contains {secret}"
            );
        }
        run
    }
}

/// A report of `claviger doctor`.
pub(crate) struct Diagnosis {
    pub(crate) run: Run,
    pub(crate) report: Value,
}

impl Diagnosis {
    /// Returns the problems of the first connection.
    fn problems(&self) -> Vec<&Value> {
        let findings = self.report["connections"][0]["findings"].as_array();
        let findings = findings.into_iter().flatten();
        findings
            .filter(|finding| finding["outcome"] == "problem")
            .collect()
    }

    /// Returns the cause of the first problem of the first connection, and the step that names what
    /// to do about this cause: a failed login leaves that to the role that explains it.
    pub(crate) fn cause(&self) -> (String, String) {
        let text = |finding: &Value, key: &str| finding[key].as_str().unwrap_or("").to_owned();
        let problems = self.problems();
        let Some(first) = problems.first() else {
            return Default::default();
        };
        let advises = |finding: &&&Value| {
            finding["cause"] == first["cause"] && finding["next"][0].is_string()
        };
        let advising = problems.iter().find(advises).unwrap_or(first);
        (text(advising, "step"), text(first, "cause"))
    }

    /// Returns a finding of the first connection.
    pub(crate) fn finding(&self, step: &str) -> &Value {
        let findings = self.report["connections"][0]["findings"].as_array();
        findings
            .into_iter()
            .flatten()
            .rfind(|finding| finding["step"] == step)
            .unwrap_or(&Value::Null)
    }

    /// Asserts the first problem, that something to do is named, and the exit code.
    pub(crate) fn assert_cause(&self, step: &str, cause: &str) {
        let expected = (step.to_owned(), cause.to_owned());
        assert_eq!(self.cause(), expected, "{:#}", self.report);
        assert_eq!(self.run.code, Some(1), "{:#}", self.report);
        let problems = self.problems();
        let mut problems = problems.iter().filter(|problem| problem["step"] == step);
        let next = problems.next().and_then(|first| first["next"][0].as_str());
        assert_ne!(next.unwrap_or(""), "", "{:#}", self.report);
    }

    /// Returns what to do about a finding of the first connection, in order.
    pub(crate) fn next(&self, step: &str) -> Vec<String> {
        let next = self.finding(step)["next"].as_array().into_iter().flatten();
        next.filter_map(|text| text.as_str().map(str::to_owned))
            .collect()
    }

    /// Asserts the cause, and texts of what to do, in this order.
    pub(crate) fn assert_next(&self, step: &str, cause: &str, expected: &[&str]) {
        self.assert_cause(step, cause);
        let next = self.next(step);
        assert!(next.len() >= expected.len(), "{next:?}");
        for (text, expected) in next.iter().zip(expected) {
            assert!(text.contains(expected), "{expected}: {:#}", self.report);
        }
    }

    /// Asserts that no problem was found.
    pub(crate) fn assert_fine(&self) {
        assert_eq!(self.run.code, Some(0), "{:#}", self.report);
        assert_eq!(self.cause(), Default::default(), "{:#}", self.report);
    }

    pub(crate) fn logins(&self) -> (u64, u64) {
        let number = |key: &str| self.report[key].as_u64().unwrap_or(u64::MAX);
        (number("logins"), number("failed_logins"))
    }
}

/// Returns a pool of a server, with the password of the file `password`.
pub(crate) fn pool(setup: &Setup, port: u16, more: &str) -> String {
    let password = setup.path("password");
    let user = if more.contains("user =") {
        ""
    } else {
        "user = \"app\"\n"
    };
    format!(
        "[pools.orders]\nhost = \"127.0.0.1\"\nport = {port}\n{user}password = \"file:{}\"\n{more}\n",
        password.display()
    )
}

/// Returns the URL of an administrator of the server.
pub(crate) fn admin_url(server: &Postgres) -> String {
    let made = server.sql(&format!(
        "CREATE ROLE auditor LOGIN PASSWORD '{SECRET}-of-the-auditor'"
    ));
    made.expect("an administrator");
    format!(
        "postgres://auditor:{SECRET}-of-the-auditor@127.0.0.1:{}/postgres",
        server.port()
    )
}
