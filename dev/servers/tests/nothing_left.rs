//! needs: postgresql
//!
//! However a test ends, no process and no folder of its server remains.
//!
//! Tests that need a killed test process start this program again, as a child that runs the same
//! test.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test that cannot go on may panic"
)]

#[path = "support/child_test.rs"]
mod child_test;
#[path = "support/processes.rs"]
mod processes;

use std::fs;
use std::io::{self, Write};
use std::panic::catch_unwind;
use std::path::PathBuf;
use std::sync::Mutex;

use child_test::{ChildTest, family, is_child, report_and_wait, wait_until};
use claviger_servers::Postgres;
use processes::{children_of, is_gone, kill};

/// The processes and resources of a running server.
struct Traces {
    processes: Vec<u32>,
    folder: PathBuf,
    /// Id of a System V memory segment.
    memory: String,
}

impl Traces {
    fn new(server: &Postgres) -> Self {
        let processes = family(server.pid().unwrap());
        assert!(processes.len() > 3, "{processes:?}");
        let folder = server.socket_dir().to_owned();
        let lock = fs::read_to_string(folder.join("data/postmaster.pid")).unwrap();
        let memory = lock.lines().nth(6).unwrap();
        let memory = memory.split_whitespace().nth(1).unwrap().to_owned();
        assert!(memory_segments().contains(&memory), "{lock}");
        Self {
            processes,
            folder,
            memory,
        }
    }

    fn assert_gone(&self, when: &str) {
        assert!(!self.folder.exists(), "{when}");
        assert!(!memory_segments().contains(&self.memory), "{when}");
        for &pid in &self.processes {
            assert!(is_gone(pid), "{when}: {pid}");
        }
    }
}

fn memory_segments() -> Vec<String> {
    let table = fs::read_to_string("/proc/sysvipc/shm").unwrap();
    table
        .lines()
        .filter_map(|line| line.split_whitespace().nth(1).map(str::to_owned))
        .collect()
}

#[test]
fn after_a_drop_in_any_state() {
    type Reach = fn(&Postgres);
    let states: [(&str, Reach); 6] = [
        ("running", |_| {}),
        ("stalled", |server| server.stall().unwrap()),
        ("stopped", |server| server.stop().unwrap()),
        ("started again", |server| {
            server.stop().unwrap();
            server.start_again().unwrap();
        }),
        ("crashed", |server| kill(server.pid().unwrap())),
        ("crashed while stalled", |server| {
            server.stall().unwrap();
            kill(server.pid().unwrap());
        }),
    ];
    for (name, reach) in states {
        let server = Postgres::start().unwrap();
        let first = Traces::new(&server);
        reach(&server);
        let last = match name {
            "started again" => Some(Traces::new(&server)),
            _ => None,
        };
        drop(server);
        first.assert_gone(name);
        if let Some(last) = last {
            last.assert_gone(name);
        }
    }
}

#[test]
fn after_a_panic() {
    let traces = Mutex::new(None);
    catch_unwind(|| {
        let server = Postgres::start().unwrap();
        *traces.lock().unwrap() = Some(Traces::new(&server));
        server.stall().unwrap();
        panic!("as a test does");
    })
    .unwrap_err();
    let traces = traces.into_inner().unwrap().unwrap();
    traces.assert_gone("after a panic");
}

#[test]
fn after_a_start_that_failed() {
    if is_child() {
        let no_server = Postgres::builder().setting("work_mem", "none").start();
        no_server.unwrap_err();
        assert_eq!(children_of(std::process::id()), []);
        return;
    }
    let mut child_test = ChildTest::start("after_a_start_that_failed");
    assert!(child_test.child.wait().unwrap().success());
    assert_eq!(child_test.content(), Vec::<PathBuf>::new());
}

#[test]
fn after_the_test_process_is_killed() {
    if is_child() {
        let server = Postgres::start().unwrap();
        return report_and_wait(server.pid());
    }
    let mut child_test = ChildTest::start("after_the_test_process_is_killed");
    let processes = family(child_test.wait_for_report());
    assert!(processes.len() > 3 && child_test.content().len() == 1);
    child_test.kill(&processes);
}

#[test]
fn after_the_test_process_is_killed_while_its_server_is_stalled() {
    if is_child() {
        let server = Postgres::start().unwrap();
        server.stall().unwrap();
        return report_and_wait(server.pid());
    }
    let mut child_test =
        ChildTest::start("after_the_test_process_is_killed_while_its_server_is_stalled");
    let processes = family(child_test.wait_for_report());
    assert!(processes.len() > 3 && child_test.content().len() == 1);
    child_test.kill(&processes);
}

#[test]
fn after_the_test_process_is_killed_while_it_creates_the_data_folder() {
    if is_child() {
        let server = Postgres::start().unwrap();
        return report_and_wait(server.pid());
    }
    let mut child_test =
        ChildTest::start("after_the_test_process_is_killed_while_it_creates_the_data_folder");
    wait_until("initdb is at work", || {
        child_test
            .content()
            .first()
            .is_some_and(|folder| folder.join("data/base").exists())
    });
    let folder = child_test.content().remove(0);
    assert!(!folder.join("data/postmaster.pid").exists());
    let guardian = children_of(child_test.child.id());
    assert_eq!(guardian.len(), 1);
    let processes = [children_of(guardian[0]), guardian].concat();
    child_test.kill(&processes);
}

#[test]
fn after_the_test_process_exits_without_dropping() {
    if is_child() {
        let server = Postgres::start().unwrap();
        let mut out = io::stdout();
        writeln!(out, "server: {}", server.pid().unwrap()).unwrap();
        std::process::exit(0);
    }
    let mut child_test = ChildTest::start("after_the_test_process_exits_without_dropping");
    let server = child_test.wait_for_report();
    child_test.child.wait().unwrap();
    child_test.wait_until_gone(&[server]);
}
