//! needs: mariadb, pam
//!
//! However a test ends, no process and no folder of its MariaDB remains.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on may panic")]

#[path = "support/child_test.rs"]
mod child_test;
#[path = "support/processes.rs"]
mod processes;

use child_test::{ChildTest, FOLDERS, is_child, processes_of, report_and_wait, wait_until};
use claviger_servers::MariaDb;
use processes::{children_of, is_gone, kill, parent_and_state};

#[test]
fn a_dropped_server_leaves_nothing_in_any_state() {
    type EnterState = fn(&MariaDb);
    let states: [(&str, EnterState); 4] = [
        ("running", |_| {}),
        ("stalled", |server| server.stall().unwrap()),
        ("stopped", |server| server.stop().unwrap()),
        ("crashed", |server| kill(server.pid().unwrap())),
    ];
    for (name, enter_state) in states {
        let server = MariaDb::start().unwrap();
        let pid = server.pid().unwrap();
        let guardian = parent_and_state(pid).unwrap().0;
        assert_eq!(children_of(guardian), [pid]);
        let folder = server.socket_dir().to_owned();
        assert!(folder.join("data/mysql").is_dir());
        enter_state(&server);
        drop(server);
        assert!(!folder.exists(), "{name}");
        assert!(is_gone(pid) && is_gone(guardian), "{name}");
    }
}

#[test]
fn a_killed_test_process_with_tokens_leaves_nothing() {
    if is_child() {
        let server = MariaDb::builder().tokens().start().unwrap();
        server.create_token_role("app").unwrap();
        return report_and_wait(server.pid());
    }
    let mut child_test = ChildTest::start("a_killed_test_process_with_tokens_leaves_nothing");
    let processes = processes_of(child_test.wait_for_report());
    // The compiler and libpam must not leave files in the folder for temporary files.
    assert!(
        processes.len() == 2 && child_test.temporary_files().len() == FOLDERS,
        "{:?}",
        child_test.temporary_files()
    );
    child_test.kill(&processes);
}

#[test]
fn a_test_process_killed_while_it_creates_the_data_folder_leaves_nothing() {
    if is_child() {
        let server = MariaDb::start().unwrap();
        return report_and_wait(server.pid());
    }
    let mut child_test =
        ChildTest::start("a_test_process_killed_while_it_creates_the_data_folder_leaves_nothing");
    wait_until("tables are being created", || {
        child_test.exists("data/mysql")
    });
    assert!(!child_test.exists("plugins"));
    child_test.kill_with_guardians();
}
