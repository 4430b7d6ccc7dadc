//! needs: postgresql
//!
//! However a test ends, no process and no folder of its server remains.
//!
//! Where a whole test process has to die, the test starts this program once more, as a
//! child that runs the same test and plays the other part in it.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on may panic")]

#[path = "support/processes.rs"]
mod processes;

use std::env;
use std::fs;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::panic::catch_unwind;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant};

use claviger_servers::Postgres;
use processes::{children_of, is_gone, kill, parent_and_state};
use tempfile::TempDir;

/// Tells this program that it is the child.
const CHILD: &str = "CLAVIGER_TEST_CHILD";

/// What there is of a server while it runs.
struct Traces {
    processes: Vec<u32>,
    folder: PathBuf,
    /// The id of a System V memory segment.
    memory: String,
}

impl Traces {
    fn of(server: &Postgres) -> Self {
        let processes = family(server.pid().unwrap());
        assert!(processes.len() > 3, "{processes:?}");
        let folder = server.socket_dir().to_owned();
        let lock = fs::read_to_string(folder.join("data/postmaster.pid")).unwrap();
        let memory = lock.lines().nth(6).unwrap();
        let memory = memory.split_whitespace().nth(1).unwrap().to_owned();
        assert!(memory_segments().contains(&memory), "{lock}");
        Self { processes, folder, memory }
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
    table.lines().filter_map(|line| line.split_whitespace().nth(1).map(str::to_owned)).collect()
}

/// This program once more, with a folder for temporary files of its own.
struct Playmate {
    child: Child,
    temporary: TempDir,
}

impl Playmate {
    fn start(test: &str) -> Self {
        let temporary = TempDir::new().unwrap();
        // The server's user writes there too.
        fs::set_permissions(temporary.path(), fs::Permissions::from_mode(0o1777)).unwrap();
        let child = Command::new(env::current_exe().unwrap())
            .args(["--exact", test, "--nocapture"])
            .env(CHILD, "1")
            .env("TMPDIR", temporary.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        Self { child, temporary }
    }

    /// What the child has said by [`say_and_wait`].
    fn hear(&mut self) -> u32 {
        BufReader::new(self.child.stdout.as_mut().unwrap())
            .lines()
            .find_map(|line| line.unwrap().split_once("server: ")?.1.parse().ok())
            .unwrap()
    }

    /// Kills the child the hard way, and waits until nothing of its server remains.
    fn kill(&mut self, processes: &[u32]) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        self.wait_until_gone(processes);
    }

    fn wait_until_gone(&self, processes: &[u32]) {
        wait_until("folder and processes are gone", || self.content().is_empty() && processes.iter().all(|&pid| is_gone(pid)));
    }

    fn content(&self) -> Vec<PathBuf> {
        fs::read_dir(self.temporary.path()).unwrap().map(|entry| entry.unwrap().path()).collect()
    }
}

/// A server, all its children, and its guardian.
fn family(server: u32) -> Vec<u32> {
    let mut family = children_of(server);
    family.push(server);
    family.extend(parent_and_state(server).map(|(guardian, _)| guardian));
    family
}

/// Waits until the condition holds, for thirty seconds at most.
fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    #[expect(clippy::disallowed_methods, reason = "processes know no clock but the real one")]
    let begin = Instant::now();
    while !condition() {
        assert!(begin.elapsed() < Duration::from_secs(30), "waited in vain until {what}");
        thread::sleep(Duration::from_millis(5));
    }
}

fn is_child() -> bool {
    env::var_os(CHILD).is_some()
}

/// Tells the parent which server runs, and goes on when the parent is gone.
fn say_and_wait(server: &Postgres) {
    let mut out = io::stdout();
    writeln!(out, "server: {}", server.pid().unwrap()).unwrap();
    out.flush().unwrap();
    io::stdin().read_to_end(&mut Vec::new()).unwrap();
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
        let first = Traces::of(&server);
        reach(&server);
        let last = match name {
            "started again" => Some(Traces::of(&server)),
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
        *traces.lock().unwrap() = Some(Traces::of(&server));
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
    let mut playmate = Playmate::start("after_a_start_that_failed");
    assert!(playmate.child.wait().unwrap().success());
    assert_eq!(playmate.content(), Vec::<PathBuf>::new());
}

#[test]
fn after_the_test_process_is_killed() {
    if is_child() {
        let server = Postgres::start().unwrap();
        return say_and_wait(&server);
    }
    let mut playmate = Playmate::start("after_the_test_process_is_killed");
    let processes = family(playmate.hear());
    assert!(processes.len() > 3 && playmate.content().len() == 1);
    playmate.kill(&processes);
}

#[test]
fn after_the_test_process_is_killed_while_its_server_is_stalled() {
    if is_child() {
        let server = Postgres::start().unwrap();
        server.stall().unwrap();
        return say_and_wait(&server);
    }
    let mut playmate = Playmate::start("after_the_test_process_is_killed_while_its_server_is_stalled");
    let processes = family(playmate.hear());
    assert!(processes.len() > 3 && playmate.content().len() == 1);
    playmate.kill(&processes);
}

#[test]
fn after_the_test_process_is_killed_while_it_creates_the_data_folder() {
    if is_child() {
        let server = Postgres::start().unwrap();
        return say_and_wait(&server);
    }
    let mut playmate = Playmate::start("after_the_test_process_is_killed_while_it_creates_the_data_folder");
    wait_until("initdb is at work", || playmate.content().first().is_some_and(|folder| folder.join("data/base").exists()));
    let folder = playmate.content().remove(0);
    assert!(!folder.join("data/postmaster.pid").exists());
    let guardian = children_of(playmate.child.id());
    assert_eq!(guardian.len(), 1);
    let processes = [children_of(guardian[0]), guardian].concat();
    playmate.kill(&processes);
}

#[test]
fn after_the_test_process_exits_without_dropping() {
    if is_child() {
        let server = Postgres::start().unwrap();
        let mut out = io::stdout();
        writeln!(out, "server: {}", server.pid().unwrap()).unwrap();
        std::process::exit(0);
    }
    let mut playmate = Playmate::start("after_the_test_process_exits_without_dropping");
    let server = playmate.hear();
    playmate.child.wait().unwrap();
    playmate.wait_until_gone(&[server]);
}
