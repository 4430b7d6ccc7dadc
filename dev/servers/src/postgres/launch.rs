//! Starts PostgreSQL and waits until it is ready.

use std::fs;
use std::path::{Path, PathBuf};

use crate::error::StartError;
use crate::guardian::Guardian;
use crate::launch::Launch;
use crate::text_log::TextLog;
use crate::tokens::Module;

/// How a server is run, the first time and again.
#[derive(Debug)]
pub(super) struct Run {
    pub(super) programs: PathBuf,
    pub(super) tokens: Option<Module>,
    /// Language of its messages. `None`: English.
    pub(super) language: Option<String>,
}

/// Starts the server on this port and waits until it accepts connections.
pub(super) fn launch(guardian: &mut Guardian, run: &Run, port: u16) -> Result<(), StartError> {
    let data = guardian.folder().join("data");
    let mut command = vec![
        run.programs.join("postgres").into_os_string(),
        "-D".into(),
        data.clone().into_os_string(),
    ];
    command.extend(["-p".into(), port.to_string().into()]);
    if let Some(tokens) = &run.tokens {
        command = tokens.wrap(command);
    }
    if let Some(language) = &run.language {
        let environment = ["/usr/bin/env".into(), format!("LANGUAGE={language}").into()];
        command.splice(0..0, environment);
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
/// eighth becomes `ready`, or `standby` without hot standby. Unlike a trial connection this is not logged.
fn is_ready(data: &Path, pid: u32) -> bool {
    let Ok(status) = fs::read_to_string(data.join("postmaster.pid")) else {
        return false;
    };
    let mut lines = status.lines().map(str::trim);
    lines.next() == Some(pid.to_string().as_str())
        && matches!(lines.nth(6), Some("ready" | "standby"))
}
