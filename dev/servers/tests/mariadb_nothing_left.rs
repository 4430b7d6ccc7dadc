//! needs: mariadb, pam
//!
//! However a test ends, no process and no folder of its MariaDB remains.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on may panic")]

#[path = "support/child_test.rs"]
mod child_test;
#[path = "support/processes.rs"]
mod processes;

use child_test::{ChildTest, family, is_child, report_and_wait, wait_until};
use claviger_servers::MariaDb;
use processes::{children_of, is_gone, kill, parent_and_state};

#[test]
fn after_a_drop_in_any_state() {
    type Reach = fn(&MariaDb);
    let states: [(&str, Reach); 4] = [
        ("running", |_| {}),
        ("stalled", |server| server.stall().unwrap()),
        ("stopped", |server| server.stop().unwrap()),
        ("crashed", |server| kill(server.pid().unwrap())),
    ];
    for (name, reach) in states {
        let server = MariaDb::start().unwrap();
        let pid = server.pid().unwrap();
        let guardian = parent_and_state(pid).unwrap().0;
        assert_eq!(children_of(guardian), [pid]);
        let folder = server.socket_dir().to_owned();
        assert!(folder.join("data/mysql").is_dir());
        reach(&server);
        drop(server);
        assert!(!folder.exists(), "{name}");
        assert!(is_gone(pid) && is_gone(guardian), "{name}");
    }
}

#[test]
fn after_the_test_process_is_killed_while_its_server_checks_tokens() {
    if is_child() {
        let server = MariaDb::builder().tokens().start().unwrap();
        server.create_token_role("app").unwrap();
        return report_and_wait(server.pid());
    }
    let mut child_test =
        ChildTest::start("after_the_test_process_is_killed_while_its_server_checks_tokens");
    let processes = family(child_test.wait_for_report());
    // The compiler and libpam may have created files in the folder for temporary files.
    assert!(
        processes.len() == 2 && child_test.content().len() == 1,
        "{:?}",
        child_test.content()
    );
    child_test.kill(&processes);
}

#[test]
fn after_the_test_process_is_killed_while_it_creates_the_data_folder() {
    if is_child() {
        let server = MariaDb::start().unwrap();
        return report_and_wait(server.pid());
    }
    let mut child_test =
        ChildTest::start("after_the_test_process_is_killed_while_it_creates_the_data_folder");
    wait_until("tables are being made", || {
        child_test
            .content()
            .first()
            .is_some_and(|folder| folder.join("data/mysql").exists())
    });
    let folder = child_test.content().remove(0);
    assert!(!folder.join("plugins").exists());
    let guardian = children_of(child_test.child.id());
    assert_eq!(guardian.len(), 1);
    let processes = [children_of(guardian[0]), guardian].concat();
    child_test.kill(&processes);
}
