//! Processes, as listed in /proc.

use std::fs;
use std::process::Command;

/// Returns the children of a process, zombies included.
pub(crate) fn children_of(pid: u32) -> Vec<u32> {
    fs::read_dir("/proc")
        .unwrap()
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter(|&child| parent_and_state(child).is_some_and(|(parent, _)| parent == pid))
        .collect()
}

/// Kills a process with SIGKILL.
pub(crate) fn kill(pid: u32) {
    let status = Command::new("sh")
        .args(["-c", "kill -KILL $0", &pid.to_string()])
        .status()
        .unwrap();
    assert!(status.success());
}

/// Returns whether a process has ended and, if it is a child of this process, has been reaped.
pub(crate) fn is_gone(pid: u32) -> bool {
    match parent_and_state(pid) {
        None => true,
        // Process 1 has not reaped this orphan yet.
        Some((parent, 'Z')) => parent != std::process::id(),
        Some(_) => false,
    }
}

/// Returns the id of a process's parent and the letter of the process's state.
pub(crate) fn parent_and_state(pid: u32) -> Option<(u32, char)> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, rest) = stat.rsplit_once(") ")?;
    let mut fields = rest.split(' ');
    let state = fields.next()?.chars().next()?;
    Some((fields.next()?.parse().ok()?, state))
}
