//! Starts PostgreSQL and waits until it is ready.

use std::fs;
use std::path::Path;

use crate::error::StartError;
use crate::guardian::Guardian;
use crate::launch::Launch;
use crate::text_log::TextLog;
use crate::tokens::Module;

/// Starts the server on this port and waits until it accepts connections.
pub(super) fn launch(
    guardian: &mut Guardian,
    programs: &Path,
    tokens: Option<&Module>,
    port: u16,
) -> Result<(), StartError> {
    let data = guardian.folder().join("data");
    let mut command = vec![
        programs.join("postgres").into_os_string(),
        "-D".into(),
        data.clone().into_os_string(),
    ];
    command.extend(["-p".into(), port.to_string().into()]);
    if let Some(tokens) = tokens {
        command = tokens.wrap(command);
    }
    let is_ready = |pid, _: &TextLog| is_ready(&data, pid);
    Launch {
        command: &command,
        port,
        is_ready,
    }
    .run(guardian)
}

/// Checks what `pg_ctl --wait` checks: the first line of `postmaster.pid` is the process id, the
/// eighth becomes `ready`. Unlike a trial connection this is not logged.
fn is_ready(data: &Path, pid: u32) -> bool {
    let Ok(status) = fs::read_to_string(data.join("postmaster.pid")) else {
        return false;
    };
    let mut lines = status.lines().map(str::trim);
    lines.next() == Some(pid.to_string().as_str()) && lines.nth(6) == Some("ready")
}
