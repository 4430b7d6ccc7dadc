//! Signals for a command that `exec` runs.

use std::io::{BufRead as _, BufReader, Read, Write as _};
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};

use crate::common::{SECRET, Setup, pool};

/// Counts SIGINT. Its exit code is 40 and the count, at SIGUSR1.
const COUNT: &str = "n=0; trap 'n=$((n+1)); echo interrupt $n' INT; trap 'exit $((40+n))' USR1; \
                     echo ready $PPID; while :; do sleep 0.05; done";
/// Restores signals that the tests were started with as ignored, as in the background of a shell.
const DEFAULT: &str = "env --default-signal=INT,HUP,QUIT";
/// What a terminal sends for Ctrl-C.
const CTRL_C: &[u8] = b"\x03";

/// `claviger exec` in a terminal of its own.
struct Terminal {
    script: Child,
    lines: BufReader<Box<dyn Read>>,
    /// The process of `claviger`.
    claviger: Pid,
}

impl Terminal {
    /// Starts the command with a redirection of its input.
    fn start(setup: &Setup, redirection: &str) -> Self {
        let config = setup.write("claviger.toml", &pool(setup, 5432, ""));
        let count = setup.write("count.sh", COUNT);
        let program = env!("CARGO_BIN_EXE_claviger");
        let line =
            format!("exec {DEFAULT} {program} exec --config {config} -- sh {count} {redirection}");
        let mut script = Command::new("script")
            .args(["-qefc", &line, "/dev/null"])
            .env("SHELL", "/bin/sh")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("`script` runs");
        let output: Box<dyn Read> = Box::new(script.stdout.take().expect("its output"));
        let mut terminal = Self {
            script,
            lines: BufReader::new(output),
            claviger: Pid::INIT,
        };
        let ready = terminal.line_with("ready");
        let id = ready.rsplit(' ').next().and_then(|id| id.parse().ok());
        terminal.claviger = id.and_then(Pid::from_raw).expect("its id");
        terminal
    }

    /// Reads up to a line with this word.
    fn line_with(&mut self, word: &str) -> String {
        loop {
            let mut line = String::new();
            let read = self.lines.read_line(&mut line).expect("a line");
            assert!(read > 0, "the output ended before {word:?}");
            if line.contains(word) {
                return line.trim_end().to_owned();
            }
        }
    }

    /// Returns how often the command has received SIGINT. A signal that is forwarded comes before a
    /// later one.
    fn interrupts(mut self) -> i32 {
        kill_process(self.claviger, Signal::USR1).expect("sent");
        let code = self.script.wait().expect("it ends").code();
        code.expect("an exit code") - 40
    }
}

#[test]
fn ctrl_c_reaches_the_command_once_with_and_without_input() {
    let setup = Setup::new();
    for redirection in ["", "</dev/null"] {
        let mut terminal = Terminal::start(&setup, redirection);
        let input = terminal.script.stdin.as_mut().expect("its input");
        input.write_all(CTRL_C).expect("typed");
        input.flush().expect("typed");
        terminal.line_with("interrupt 1");
        assert_eq!(terminal.interrupts(), 1, "{redirection:?}");
    }
}

#[test]
fn an_interrupt_of_a_process_is_forwarded_in_a_terminal() {
    let setup = Setup::new();
    let terminal = Terminal::start(&setup, "");
    kill_process(terminal.claviger, Signal::INT).expect("sent");
    assert_eq!(terminal.interrupts(), 1);
}

#[test]
fn a_signal_that_is_ignored_stays_ignored_for_both() {
    let setup = Setup::new();
    let config = setup.write("claviger.toml", &pool(&setup, 5432, ""));
    let show = "grep -h SigIgn: /proc/$PPID/status /proc/$$/status";
    let masks = |wrapper: &[&str]| -> Vec<u64> {
        let exec = [
            env!("CARGO_BIN_EXE_claviger"),
            "exec",
            "--",
            "sh",
            "-c",
            show,
        ];
        let command = [wrapper, &exec].concat();
        let output = Command::new(command[0])
            .args(&command[1..])
            .env("CLAVIGER_CONFIG", &config)
            .output()
            .expect("it runs");
        let shown = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(!shown.contains(SECRET));
        let masks = shown
            .lines()
            .filter_map(|line| line.strip_prefix("SigIgn:"));
        let masks = masks.map(|mask| u64::from_str_radix(mask.trim(), 16).expect("a mask"));
        masks.collect()
    };
    let is_ignored = |mask: &u64, signal: Signal| mask & (1 << (signal.as_raw() - 1)) != 0;
    let ignored = masks(&["nohup"]);
    assert_eq!(ignored.len(), 2, "claviger and its command");
    assert!(
        ignored.iter().all(|mask| is_ignored(mask, Signal::HUP)),
        "{ignored:x?}"
    );
    assert!(
        !ignored.iter().any(|mask| is_ignored(mask, Signal::TERM)),
        "{ignored:x?}"
    );
    let usual = masks(&DEFAULT.split(' ').collect::<Vec<_>>());
    assert!(
        !usual.iter().any(|mask| is_ignored(mask, Signal::HUP)),
        "{usual:x?}"
    );
}
