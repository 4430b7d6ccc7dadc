//! Tests whose process is killed. The test program starts itself again as a child process, which
//! runs the same test.

use std::env;
use std::fs;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::processes::{children_of, is_gone, parent_and_state};

/// Environment variable that is set in the child.
const CHILD: &str = "CLAVIGER_TEST_CHILD";

/// Number of folders of a process with one server: its own, and the data folder that it copied.
pub(crate) const FOLDERS: usize = 2;

/// The child process, with a folder for its temporary files.
pub(crate) struct ChildTest {
    pub(crate) child: Child,
    folder: TempDir,
}

impl ChildTest {
    pub(crate) fn start(test: &str) -> Self {
        let folder = TempDir::new().unwrap();
        // The server may run as another user, who writes there too.
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o1777)).unwrap();
        let child = Command::new(env::current_exe().unwrap())
            .args(["--exact", test, "--nocapture"])
            .env(CHILD, "1")
            .env("TMPDIR", folder.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        Self { child, folder }
    }

    /// Waits for the server's process id, which the child sends by [`report_and_wait`].
    pub(crate) fn wait_for_report(&mut self) -> u32 {
        BufReader::new(self.child.stdout.as_mut().unwrap())
            .lines()
            .find_map(|line| line.unwrap().split_once("server: ")?.1.parse().ok())
            .unwrap()
    }

    /// Kills the child with SIGKILL and waits until nothing of its server remains.
    pub(crate) fn kill(&mut self, processes: &[u32]) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        self.wait_until_gone(processes);
    }

    /// Kills the child while its guardians work.
    pub(crate) fn kill_with_guardians(&mut self) {
        let guardians = children_of(self.child.id());
        assert_eq!(guardians.len(), FOLDERS);
        let workers = guardians.iter().flat_map(|&guardian| children_of(guardian));
        let processes: Vec<_> = workers.chain(guardians.iter().copied()).collect();
        self.kill(&processes);
    }

    pub(crate) fn wait_until_gone(&self, processes: &[u32]) {
        wait_until("folder and processes are gone", || {
            self.temporary_files().is_empty() && processes.iter().all(|&pid| is_gone(pid))
        });
    }

    /// Returns whether a folder of the child contains this file.
    pub(crate) fn exists(&self, file: &str) -> bool {
        self.temporary_files()
            .iter()
            .any(|folder| folder.join(file).exists())
    }

    pub(crate) fn temporary_files(&self) -> Vec<PathBuf> {
        fs::read_dir(self.folder.path())
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .collect()
    }
}

/// Returns the process ids of a server, its children and its guardian.
pub(crate) fn processes_of(server: u32) -> Vec<u32> {
    let mut processes = children_of(server);
    processes.push(server);
    processes.extend(parent_and_state(server).map(|(guardian, _)| guardian));
    processes
}

/// Waits up to 30 s until the condition holds.
pub(crate) fn wait_until(awaited: &str, mut condition: impl FnMut() -> bool) {
    #[expect(
        clippy::disallowed_methods,
        reason = "other processes run in real time"
    )]
    let started = Instant::now();
    while !condition() {
        assert!(
            started.elapsed() < Duration::from_secs(30),
            "timed out waiting until {awaited}"
        );
        thread::sleep(Duration::from_millis(5));
    }
}

pub(crate) fn is_child() -> bool {
    env::var_os(CHILD).is_some()
}

/// Sends the server's process id to the parent, and waits until the parent has ended.
pub(crate) fn report_and_wait(server: Option<u32>) {
    let mut out = io::stdout();
    writeln!(out, "server: {}", server.unwrap()).unwrap();
    out.flush().unwrap();
    io::stdin().read_to_end(&mut Vec::new()).unwrap();
}
