//! The report of a diagnosis: as a table of 80 columns, and as JSON.

use std::fmt::Write as _;

use serde::Serialize;
use serde_json::json;

use crate::columns::{split, width};
use crate::finding::{Finding, Outcome};

/// Version of the JSON. A key that is added does not change it.
const VERSION: u32 = 1;
/// Width of the table, in columns.
const WIDTH: usize = 80;
/// Columns before the text of a row: two spaces, step, outcome.
const INDENT: usize = 2 + 11 + 6;

/// The findings of one connection.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct ConnectionReport {
    /// Name of the pool.
    pub(crate) pool: String,
    /// Kind of the pool.
    pub(crate) kind: &'static str,
    /// User, host, port and database.
    pub(crate) target: String,
    /// In the order of the steps, up to the first problem. After a failed login, the role follows.
    pub(crate) findings: Vec<Finding>,
}

/// Returns the report of a file that has problems, so that no connection was examined, as JSON.
/// Each problem is a key, which is empty for the whole file, and a message.
pub(crate) fn json_of_problems<'p>(
    problems: impl IntoIterator<Item = (&'p str, &'p str)>,
) -> String {
    let problems = problems.into_iter();
    let problems: Vec<_> = problems
        .map(|(key, message)| json!({ "key": key, "message": message }))
        .collect();
    let report = json!({
        "version": VERSION, "connections": [], "logins": 0, "failed_logins": 0,
        "problems": problems,
    });
    serde_json::to_string_pretty(&report).unwrap_or_default()
}

/// The findings of all connections.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Report {
    pub(crate) connections: Vec<ConnectionReport>,
    /// Logins to databases, with those of `--admin-url`.
    pub(crate) logins: u32,
    /// Logins that failed.
    pub(crate) failed_logins: u32,
}

impl Report {
    /// Returns the number of connections with a problem.
    pub(crate) fn problems(&self) -> usize {
        let has_problem =
            |connection: &&ConnectionReport| connection.findings.iter().any(Finding::is_problem);
        self.connections.iter().filter(has_problem).count()
    }

    /// Returns the report as JSON, with the version of its form.
    pub(crate) fn json(&self) -> String {
        #[derive(Serialize)]
        struct Versioned<'r> {
            version: u32,
            #[serde(flatten)]
            report: &'r Report,
        }
        let versioned = Versioned {
            version: VERSION,
            report: self,
        };
        serde_json::to_string_pretty(&versioned).unwrap_or_default()
    }

    /// Returns the report for people.
    pub(crate) fn table(&self) -> String {
        let mut table = String::new();
        for connection in &self.connections {
            let head = format!(
                "{} ({}) {}",
                connection.pool, connection.kind, connection.target
            );
            push_wrapped(&mut table, "", 2, &head);
            for finding in &connection.findings {
                push_finding(&mut table, finding);
            }
            table.push('\n');
        }
        let (all, problems) = (self.connections.len(), self.problems());
        let summary = format!(
            "{}, {problems} with a problem; {}, {} failed",
            counted(all, "connection"),
            counted(self.logins as usize, "login"),
            self.failed_logins
        );
        push_wrapped(&mut table, "", 0, &summary);
        table
    }
}

fn counted(count: usize, noun: &str) -> String {
    let plural = if count == 1 { "" } else { "s" };
    format!("{count} {noun}{plural}")
}

fn push_finding(table: &mut String, finding: &Finding) {
    let head = format!(
        "  {:<11}{:<6}",
        finding.step.as_str(),
        finding.outcome.as_str()
    );
    push_wrapped(table, &head, INDENT, &finding.detail);
    let several = finding.next.len() > 1;
    for (nth, next) in finding.next.iter().enumerate() {
        let head = match (several, finding.outcome) {
            (true, _) => format!("{:INDENT$}{}. ", "", nth + 1),
            (false, Outcome::Problem) => format!("{:INDENT$}next: ", ""),
            (false, _) => " ".repeat(INDENT),
        };
        let indent = width(&head);
        push_wrapped(table, &head, indent, next);
    }
    for statement in &finding.statements {
        let head = format!("{:INDENT$}sql:  ", "");
        push_wrapped(table, &head, INDENT + 6, statement);
    }
}

/// Adds the text with line breaks at spaces. A longer word is cut, so that no line is too long.
fn push_wrapped(table: &mut String, head: &str, indent: usize, text: &str) {
    let mut line = head.to_owned();
    let mut column = width(head);
    let mut is_empty = true;
    for word in text
        .split(' ')
        .flat_map(|word| pieces(word, WIDTH - indent))
    {
        let length = width(word);
        if !is_empty && column + 1 + length > WIDTH {
            let _ = writeln!(table, "{}", line.trim_end());
            line = " ".repeat(indent);
            column = indent;
            is_empty = true;
        }
        if !is_empty {
            line.push(' ');
            column += 1;
        }
        line.push_str(word);
        column += length;
        is_empty = false;
    }
    let _ = writeln!(table, "{}", line.trim_end());
}

/// Cuts a word into pieces of at most this width.
fn pieces(word: &str, columns: usize) -> Vec<&str> {
    let mut pieces = Vec::new();
    let mut rest = word;
    while width(rest) > columns {
        let (piece, after) = split(rest, columns);
        if piece.is_empty() {
            break;
        }
        pieces.push(piece);
        rest = after;
    }
    pieces.push(rest);
    pieces
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::finding::Step;

    fn report(findings: Vec<Finding>) -> Report {
        Report {
            connections: vec![ConnectionReport {
                pool: "orders".into(),
                kind: "postgres",
                target: "orders_app@db.internal:5432/orders".into(),
                findings,
            }],
            logins: 1,
            failed_logins: 1,
        }
    }

    #[test]
    fn a_row_names_the_step_the_cause_and_what_to_do() {
        let finding = Finding::problem(Step::Login, "unknown_database", "3D000 no database")
            .with_next("create it")
            .with_statement("CREATE DATABASE orders");
        let table = report(vec![Finding::ok(Step::Dns, "10.0.0.1"), finding]).table();
        assert_eq!(
            table,
            "orders (postgres) orders_app@db.internal:5432/orders\n\
             \x20 dns        ok    10.0.0.1\n\
             \x20 login      FAIL  3D000 no database\n\
             \x20                  next: create it\n\
             \x20                  sql:  CREATE DATABASE orders\n\n\
             1 connection, 1 with a problem; 1 login, 1 failed\n"
        );
    }

    #[test]
    fn no_line_is_longer_than_80_columns() {
        let long = format!("{} {}", "word ".repeat(40), "x".repeat(200));
        let finding = Finding::problem(Step::Permission, "denied", &long)
            .with_next(&long)
            .with_next(&long)
            .with_statement(&long);
        let mut report = report(vec![finding]);
        report.connections[0].target = "h".repeat(300);
        let table = report.table();
        let longest = table.lines().map(width).max();
        assert!(longest <= Some(WIDTH), "{table}");
        assert_eq!(table.matches('x').count(), 4 * 200, "nothing is lost");
        report.connections[0].findings[0].detail = "注文".repeat(100);
        let table = report.table();
        let longest = table.lines().map(width).max();
        assert!(longest <= Some(WIDTH), "{table}");
        assert_eq!(table.matches('注').count(), 100, "nothing is lost");
    }

    /// The README documents these keys.
    #[test]
    fn the_json_has_a_version_and_documented_keys() {
        let finding = Finding::problem(Step::Login, "unknown_database", "3D000 no database")
            .with_next("create it")
            .with_statement("CREATE DATABASE orders");
        let json = report(vec![Finding::ok(Step::Dns, "10.0.0.1"), finding]).json();
        let json: serde_json::Value = serde_json::from_str(&json).unwrap_or_default();
        let expected = serde_json::json!({
            "version": 1,
            "connections": [{
                "pool": "orders",
                "kind": "postgres",
                "target": "orders_app@db.internal:5432/orders",
                "findings": [
                    { "step": "dns", "outcome": "ok", "detail": "10.0.0.1" },
                    {
                        "step": "login", "outcome": "problem", "cause": "unknown_database",
                        "detail": "3D000 no database", "next": ["create it"],
                        "statements": ["CREATE DATABASE orders"],
                    },
                ],
            }],
            "logins": 1,
            "failed_logins": 1,
        });
        assert_eq!(json, expected);
    }

    #[test]
    fn connections_with_a_problem_are_counted() {
        let mut report = report(vec![Finding::note(Step::Tls, "no_tls", "no TLS")]);
        assert_eq!(report.problems(), 0);
        report.connections[0]
            .findings
            .push(Finding::problem(Step::Login, "x", "y"));
        assert_eq!(report.problems(), 1);
    }
}
