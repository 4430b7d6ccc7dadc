//! needs: chromium
//!
//! A browser offers its DevTools, and leaves nothing behind.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on may panic")]

#[path = "support/processes.rs"]
mod processes;

use std::net::TcpStream;

use claviger_servers::{Chromium, Programs, StartError};
use processes::{children_of, is_gone, kill};

#[test]
fn a_browser_offers_its_devtools_and_leaves_nothing_behind() {
    let browser = Chromium::start().unwrap();
    let rest = browser.devtools_url().strip_prefix("ws://").unwrap();
    let (address, path) = rest.split_once('/').unwrap();
    assert!(path.starts_with("devtools/browser/"), "{path}");
    TcpStream::connect(address).unwrap();

    let pid = browser.pid().unwrap();
    let mut processes = vec![pid];
    let mut at = 0;
    while let Some(&parent) = processes.get(at) {
        processes.extend(children_of(parent));
        at += 1;
    }
    assert!(processes.len() > 2, "{processes:?}");
    // Debian's program is a script. It may end before the browser.
    kill(pid);
    drop(browser);
    for pid in processes {
        assert!(is_gone(pid), "{pid}");
    }
}

#[test]
fn a_missing_browser_is_an_error_with_the_command_that_installs_it() {
    let error = Chromium::start_from(&Programs::nowhere()).unwrap_err();
    assert!(matches!(error, StartError::NotInstalled(_)));
    assert_eq!(
        error.to_string(),
        "Chromium is not installed; install it with: sudo apt-get install -y \
         chromium-headless-shell (or: cargo xtask install chromium)"
    );
}
