//! needs: postgresql, redis
//!
//! The demo on each kind of pool: no call through the supervised pool fails, and calls through the
//! plain pool beside it do.

#![expect(clippy::expect_used, reason = "a test fails by panicking")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Command, Output, Stdio};

use serde_json::Value;

const WIDTH: usize = 80;

#[test]
fn only_calls_of_the_plain_sqlx_pool_fail() {
    check_pool("sqlx", "queries");
}

#[test]
fn only_calls_of_the_plain_deadpool_pool_fail() {
    check_pool("deadpool", "queries");
}

#[test]
fn only_calls_of_the_plain_diesel_pool_fail() {
    check_pool("diesel", "queries");
}

#[test]
fn only_calls_of_the_plain_bb8_pool_fail() {
    check_pool("bb8", "queries");
}

#[test]
fn only_calls_of_the_plain_redis_connection_fail() {
    check_pool("redis", "commands");
}

#[test]
fn the_status_page_is_served_until_the_demo_is_stopped() {
    let mut demo = Command::new(env!("CARGO_BIN_EXE_claviger-demo"))
        .arg("--page")
        .stdout(Stdio::piped())
        .spawn()
        .expect("it runs");
    let mut lines = BufReader::new(demo.stdout.take().expect("a pipe")).lines();
    let mut line_with = |part: &str| {
        let line = lines.find(|line| line.as_ref().is_ok_and(|line| line.contains(part)));
        line.expect(part).expect("text")
    };
    let line = line_with("the status page is at");
    let (_, address) = line.split_once("http://").expect("an address");
    let address = address.split('/').next().unwrap_or_default();
    let mut connection = TcpStream::connect(address).expect("a connection");
    write!(connection, "GET / HTTP/1.0\r\nHost: {address}\r\n\r\n").expect("it is sent");
    let mut page = String::new();
    connection.read_to_string(&mut page).expect("a page");
    assert!(
        page.starts_with("HTTP/1.0 200") && page.contains(">orders<"),
        "{page}"
    );

    // Each kind of step has to run once. The next one is the fourth.
    line_with("step 4");
    let interrupt = format!("kill -INT {}", demo.id());
    let sent = Command::new("sh").args(["-c", &interrupt]).status();
    assert!(sent.expect("it runs").success());
    let last = line_with("demo: ");
    assert!(last.contains(", 0 failed;"), "{last}");
    assert!(demo.wait().expect("it ends").success());
}

#[test]
fn an_unknown_pool_is_an_error_that_names_the_others() {
    let demo = demo(&["--pool", "mongodb"]);
    assert_eq!(demo.status.code(), Some(2));
    let error = String::from_utf8_lossy(&demo.stderr);
    assert!(
        error.contains("mongodb") && error.contains("sqlx, deadpool, diesel, bb8, redis"),
        "{error}"
    );
}

#[test]
fn other_backends_and_databases_need_sqlx() {
    let demo = demo(&["--pool", "redis", "--database", "postgresql"]);
    assert_eq!(demo.status.code(), Some(2));
    let error = String::from_utf8_lossy(&demo.stderr);
    assert!(error.contains("only with --pool sqlx"), "{error}");
}

#[test]
fn the_help_keeps_its_lines_and_their_width() {
    let demo = demo(&["--help"]);
    let help = String::from_utf8_lossy(&demo.stdout);
    let has_line = |start: &str| help.lines().any(|line| line.starts_with(start));
    assert!(
        demo.status.success() && has_line("  --seconds N  "),
        "{help}"
    );
    for line in help.lines() {
        assert!(line.chars().count() <= WIDTH, "wider than {WIDTH}: {line}");
    }
}

#[test]
fn json_has_one_documented_event_per_line_and_no_secret() {
    let demo = demo(&["--json", "--seconds", "5"]);
    let output = String::from_utf8_lossy(&demo.stdout);
    assert!(demo.status.success(), "{output}");
    assert!(!output.contains("password-"), "a password is written");

    let events: Vec<Value> = output
        .lines()
        .map(|line| serde_json::from_str(line).expect(line))
        .collect();
    let names: Vec<_> = events
        .iter()
        .map(|event| event["event"].as_str().expect("it has a name"))
        .collect();
    assert_eq!(names.first(), Some(&"start"));
    for name in [
        "step",
        "change",
        "plain_pool_failed",
        "rejected",
        "callers_waited",
        "handed_over",
        "rotated",
        "drained",
        "progress",
        "compared",
    ] {
        assert!(names.contains(&name), "no event {name}: {output}");
    }
    for event in &events {
        check_documented(event);
    }

    let times: Vec<_> = events
        .iter()
        .map(|event| event["seconds"].as_f64())
        .collect();
    assert!(times.is_sorted() && times.iter().all(Option::is_some));
    let result = events.last().expect("there is output");
    assert_eq!(result["event"], "result");
    assert_eq!(result["succeeded"], true);
    assert_eq!(result["supervised"]["failed"], 0);
    assert!(result["plain"]["failed"].as_u64() > Some(0), "{result}");
}

/// Checks that the table of the README has the event and each of its fields.
fn check_documented(event: &Value) {
    let readme = include_str!("../README.md");
    let row = format!("| `{}` |", event["event"].as_str().expect("it has a name"));
    let row = readme.lines().find(|line| line.starts_with(&row));
    let row = row.expect("the README has the event");
    for name in event.as_object().expect("it is an object").keys() {
        let is_common = ["seconds", "event"].contains(&name.as_str());
        assert!(
            is_common || row.contains(&format!("`{name}`")),
            "the README has no field {name} of {row}"
        );
    }
}

fn demo(arguments: &[&str]) -> Output {
    let program = env!("CARGO_BIN_EXE_claviger-demo");
    let output = Command::new(program).args(arguments).output();
    output.expect("it runs")
}

fn check_pool(pool: &str, calls: &str) {
    let demo = demo(&["--pool", pool, "--seconds", "5"]);
    let output = String::from_utf8_lossy(&demo.stdout);
    let all = format!("{output}\n{}", String::from_utf8_lossy(&demo.stderr));
    assert!(demo.status.success(), "{all}");

    let (first, last) = (output.lines().next(), output.lines().last());
    assert!(
        first.is_some_and(|first| first.starts_with("Shown here: no call fails")),
        "{all}"
    );
    let last = last.expect("there is output");
    let (supervised, plain) = last.split_once("; the plain pool: ").expect(last);
    assert!(
        supervised.starts_with("demo: ") && supervised.ends_with(", 0 failed"),
        "{last}"
    );
    assert!(number_before(supervised, calls) > 0, "{last}");
    assert!(number_before(supervised, "rotations,") >= 2, "{last}");
    assert!(number_before(plain, "failed") > 0, "{last}");

    // Each rejection caused fetches for all callers together. The next fetches are seconds apart.
    let rejections: Vec<_> = output
        .lines()
        .filter(|line| line.contains("callers wait;"))
        .collect();
    assert!(!rejections.is_empty(), "{all}");
    for rejection in rejections {
        let callers = number_before(rejection, "callers");
        let fetches = number_before(rejection, "fetch");
        assert!(callers > 3 && (1..=3).contains(&fetches), "{all}");
    }
    for line in output.lines() {
        assert!(line.chars().count() <= WIDTH, "wider than {WIDTH}: {line}");
    }
}

/// Returns the number before the first word with this prefix.
fn number_before(text: &str, word: &str) -> u64 {
    let words: Vec<_> = text.split_whitespace().collect();
    let number = words
        .windows(2)
        .find(|pair| pair[1].starts_with(word))
        .and_then(|pair| pair[0].parse().ok());
    number.expect(text)
}
