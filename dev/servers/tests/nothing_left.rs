//! needs: postgresql
//!
//! However a test ends, no process and no folder of its PostgreSQL remains.
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

use child_test::{ChildTest, FOLDERS, is_child, processes_of, report_and_wait, wait_until};
use claviger_servers::Postgres;
use processes::{children_of, is_gone, kill};

/// The resources that a server uses while it runs.
struct ServerResources {
    processes: Vec<u32>,
    folder: PathBuf,
    /// Id of a System V memory segment.
    memory: String,
}

impl ServerResources {
    fn new(server: &Postgres) -> Self {
        let processes = processes_of(server.pid().unwrap());
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

    fn assert_gone(&self, case: &str) {
        assert!(!self.folder.exists(), "{case}");
        assert!(!memory_segments().contains(&self.memory), "{case}");
        for &pid in &self.processes {
            assert!(is_gone(pid), "{case}: {pid}");
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
fn a_dropped_server_leaves_nothing_in_any_state() {
    type EnterState = fn(&Postgres);
    let states: [(&str, EnterState); 6] = [
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
    for (name, enter_state) in states {
        let server = Postgres::start().unwrap();
        let first = ServerResources::new(&server);
        enter_state(&server);
        let last = match name {
            "started again" => Some(ServerResources::new(&server)),
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
fn a_panic_leaves_nothing() {
    let resources = Mutex::new(None);
    catch_unwind(|| {
        let server = Postgres::start().unwrap();
        *resources.lock().unwrap() = Some(ServerResources::new(&server));
        server.stall().unwrap();
        panic!("a failed test");
    })
    .unwrap_err();
    let resources = resources.into_inner().unwrap().unwrap();
    resources.assert_gone("after a panic");
}

#[test]
fn a_failed_start_leaves_nothing() {
    if is_child() {
        Postgres::builder()
            .setting("work_mem", "none")
            .start()
            .unwrap_err();
        // The guardian of the data folder that was copied ends with this process.
        assert_eq!(children_of(std::process::id()).len(), FOLDERS - 1);
        return;
    }
    let mut child_test = ChildTest::start("a_failed_start_leaves_nothing");
    assert!(child_test.child.wait().unwrap().success());
    child_test.wait_until_gone(&[]);
}

#[test]
fn a_killed_test_process_leaves_nothing() {
    if is_child() {
        let server = Postgres::start().unwrap();
        return report_and_wait(server.pid());
    }
    let mut child_test = ChildTest::start("a_killed_test_process_leaves_nothing");
    let processes = processes_of(child_test.wait_for_report());
    assert!(processes.len() > 3 && child_test.temporary_files().len() == FOLDERS);
    child_test.kill(&processes);
}

#[test]
fn a_killed_test_process_with_a_stalled_server_leaves_nothing() {
    if is_child() {
        let server = Postgres::start().unwrap();
        server.stall().unwrap();
        return report_and_wait(server.pid());
    }
    let mut child_test =
        ChildTest::start("a_killed_test_process_with_a_stalled_server_leaves_nothing");
    let processes = processes_of(child_test.wait_for_report());
    assert!(processes.len() > 3 && child_test.temporary_files().len() == FOLDERS);
    child_test.kill(&processes);
}

#[test]
fn a_test_process_killed_while_it_creates_the_data_folder_leaves_nothing() {
    if is_child() {
        let server = Postgres::start().unwrap();
        return report_and_wait(server.pid());
    }
    let mut child_test =
        ChildTest::start("a_test_process_killed_while_it_creates_the_data_folder_leaves_nothing");
    wait_until("initdb has created files", || {
        child_test.exists("data/base")
    });
    assert!(!child_test.exists("data/postmaster.pid"));
    child_test.kill_with_guardians();
}

#[test]
fn a_test_process_that_exits_without_dropping_leaves_nothing() {
    if is_child() {
        let server = Postgres::start().unwrap();
        let mut out = io::stdout();
        writeln!(out, "server: {}", server.pid().unwrap()).unwrap();
        std::process::exit(0);
    }
    let mut child_test =
        ChildTest::start("a_test_process_that_exits_without_dropping_leaves_nothing");
    let server = child_test.wait_for_report();
    child_test.child.wait().unwrap();
    child_test.wait_until_gone(&[server]);
}
