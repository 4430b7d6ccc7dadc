//! No error, `Debug` output or log line at any level contains a file's content.

#![cfg(unix)]
#![expect(clippy::unwrap_used, reason = "tests")]

mod common;

use std::error::Error;
use std::fs;
use std::time::Duration;

use claviger_file::{FileFormat, FileProvider};
use common::{BOUND, Captured, Watched, first_lease, replace};
use tokio::time::timeout;
use tracing::Dispatch;
use tracing_subscriber::filter::LevelFilter;

const CANARY: &str = "k4n4rienv0gel";
/// Logged by the test itself: the search must find it.
const PLANTED: &str = "planted-k4n4rienv0gel";

/// Returns every text as which an error can be printed.
fn printed(error: &dyn Error) -> String {
    let mut text = format!("{error} {error:?} {error:#?}");
    let mut source = error.source();
    while let Some(error) = source {
        text.push_str(&format!(" {error} {error:?}"));
        source = error.source();
    }
    text
}

/// Returns valid and invalid contents with the canary, in each format.
fn contents() -> Vec<Vec<u8>> {
    let texts = [
        CANARY.to_owned(),
        format!("{CANARY}\0"),
        format!("{{\"username\":\"u\",\"password\":\"{CANARY}\"}}"),
        format!("{{\"username\":\"u\",\"password\":\"{CANARY}"),
        format!("{{\"username\":\"u\",\"password\":{CANARY}}}"),
        format!("{{\"username\":\"u\",\"password\":[\"{CANARY}\"]}}"),
        format!("{{\"username\":{{\"{CANARY}\":1}},\"password\":\"p\"}}"),
        format!("{{\"username\":\"u\",\"password\":\"{CANARY}\",\"host\":\"h\"}}"),
        format!(
            "{{\"username\":\"u\",\"password\":\"p\",\"host\":\"h\",\"dbname\":\"d\",\"port\":\"{CANARY}\"}}"
        ),
        format!("\"{CANARY}\""),
        format!("postgres://u:{CANARY}@h/d"),
        format!("postgres://u:{CANARY}@h"),
        format!("postgres://u:{CANARY}%zz@h/d"),
        format!("postgres://u:{CANARY}/@h/d"),
        format!("postgres://u:{CANARY}@h:{CANARY}/d"),
        format!("postgres://u:p@{CANARY}/x@h/d"),
        format!("postgres://{CANARY}@h/d"),
        format!("{CANARY}://u:p@h/d"),
        format!("postgres://u:{CANARY}@h/d\n{CANARY}"),
        CANARY.repeat(6_000),
    ];
    let mut contents: Vec<Vec<u8>> = texts.into_iter().map(String::into_bytes).collect();
    contents.push([CANARY.as_bytes(), b"\xff"].concat());
    contents
}

#[test]
fn no_content_is_printed_or_logged() {
    let log = Captured::default();
    let writer = log.clone();
    // Set for every thread, because files are read and watched on other threads.
    tracing_subscriber::fmt()
        .with_max_level(LevelFilter::TRACE)
        .with_writer(move || writer.clone())
        .init();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    let (failures, leases) = runtime.block_on(read_and_watch(&log));
    assert!(
        failures > 40 && leases > 10,
        "{failures} errors and {leases} leases were checked"
    );

    assert!(!log.text().contains(CANARY), "{}", log.text());
    for line in ["watching", "half-written", "may have changed"] {
        assert!(
            log.text().contains(line),
            "no line contains {line}:\n{}",
            log.text()
        );
    }
    tracing::trace!("{PLANTED}");
    assert!(
        log.text().contains(CANARY),
        "the search finds a logged secret"
    );
}

async fn read_and_watch(log: &Captured) -> (u32, u32) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("password");
    fs::write(dir.path().join("username"), "u").unwrap();
    let providers = || {
        [
            FileProvider::builder(&path, FileFormat::Json),
            FileProvider::builder(&path, FileFormat::Url),
            FileProvider::builder(&path, FileFormat::password("u")),
            FileProvider::builder(dir.path(), FileFormat::Directory),
        ]
        .map(|builder| {
            builder
                .with_poll_interval(Duration::from_secs(1))
                .build()
                .unwrap()
        })
    };
    let (mut failures, mut leases) = (0, 0);
    let mut watched = Vec::new();
    for provider in providers() {
        watched.push(Watched::spawn(provider, Dispatch::default()));
    }
    let have_started = async {
        while log.text().matches(" watching ").count() < watched.len() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(BOUND, have_started).await.unwrap();
    for content in contents() {
        fs::write(dir.path().join("new"), content).unwrap();
        fs::rename(dir.path().join("new"), &path).unwrap();
        for watched in &mut watched {
            watched.next_hint().await;
        }
        for provider in providers() {
            let text = match first_lease(&provider).await {
                Ok(lease) => {
                    leases += 1;
                    format!(
                        "{lease:?} {:?} {:?} {}",
                        lease.secret(),
                        lease.revision(),
                        lease.revision().as_str()
                    )
                }
                Err(error) => {
                    failures += 1;
                    printed(&error)
                }
            };
            assert!(!text.contains(CANARY), "{text}");
            assert!(!format!("{provider:?} {provider:#?}").contains(CANARY));
        }
    }
    replace(&path, "");
    assert!(
        first_lease(&FileProvider::json(&path).unwrap())
            .await
            .is_err()
    );
    (failures, leases)
}
