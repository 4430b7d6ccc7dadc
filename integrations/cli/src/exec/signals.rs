//! The signals that this process receives while its command runs.

use std::io::IsTerminal as _;
use std::thread;

use rustix::process::Signal;
use signal_hook::iterator::SignalsInfo;
use signal_hook::iterator::exfiltrator::origin::{Origin, WithOrigin};
use signal_hook::low_level::siginfo::Cause;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

/// Signals for the command.
const SIGNALS: [Signal; 6] = [
    Signal::INT,
    Signal::TERM,
    Signal::HUP,
    Signal::QUIT,
    Signal::USR1,
    Signal::USR2,
];

/// The signals for the command, in the order in which they came.
pub(super) struct Signals(UnboundedReceiver<Origin>);

/// A signal for the command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Received {
    pub(super) signal: Signal,
    /// The terminal sent it to its foreground processes, so the command has received it itself.
    pub(super) is_of_terminal: bool,
}

impl Signals {
    /// Receives signals from now on. Those that were ignored stay ignored, as `nohup` requests, and
    /// the command inherits that.
    pub(super) fn new() -> std::io::Result<Self> {
        let ignored = ignored();
        let numbers = SIGNALS.iter().map(|signal| signal.as_raw());
        let numbers = numbers.filter(|number| !is_in(ignored, *number));
        let mut signals = SignalsInfo::<WithOrigin>::new(numbers)?;
        let (sender, receiver) = unbounded_channel();
        // The thread ends with the process.
        thread::Builder::new()
            .name("signals".to_owned())
            .spawn(move || {
                for origin in signals.forever() {
                    if sender.send(origin).is_err() {
                        return;
                    }
                }
            })?;
        Ok(Self(receiver))
    }

    /// Waits for the next signal.
    ///
    /// # Cancel safety
    /// No signal is lost when the future is dropped.
    pub(super) async fn next(&mut self) -> Received {
        loop {
            match self.0.recv().await {
                Some(origin) => {
                    if let Some(received) = received(&origin) {
                        return received;
                    }
                }
                None => std::future::pending().await,
            }
        }
    }

    /// Returns a received signal, if there is one.
    pub(super) fn pending(&mut self) -> Option<Received> {
        received(&self.0.try_recv().ok()?)
    }
}

fn received(origin: &Origin) -> Option<Received> {
    let signal = Signal::from_named_raw(origin.signal)?;
    // At a hang-up, the kernel may send SIGHUP to this process alone.
    let can_be_of_terminal = matches!(signal, Signal::INT | Signal::QUIT);
    let is_of_kernel = match origin.cause {
        Cause::Kernel => true,
        // Not every system reports the origin.
        Cause::Unknown => std::io::stdin().is_terminal(),
        _ => false,
    };
    Some(Received {
        signal,
        is_of_terminal: can_be_of_terminal && is_of_kernel,
    })
}

/// Returns the signals that this process ignores, as a bit mask. Only Linux reports them to safe
/// code.
fn ignored() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    mask.unwrap_or_default()
}

fn is_in(mask: u64, signal: i32) -> bool {
    let bit = u32::try_from(signal - 1).unwrap_or(u32::MAX);
    1_u64.checked_shl(bit).is_some_and(|bit| mask & bit != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signal_is_a_bit_of_the_mask() {
        assert!(is_in(0x1, Signal::HUP.as_raw()));
        assert!(!is_in(0x1, Signal::INT.as_raw()));
        assert!(is_in(0x2, Signal::INT.as_raw()));
        assert!(!is_in(u64::MAX, 0));
    }
}
