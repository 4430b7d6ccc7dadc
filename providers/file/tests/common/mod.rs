//! Shared helpers: fetching, and waiting for hints without sleeping.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "tests")]
#![allow(
    dead_code,
    clippy::allow_attributes,
    reason = "no test file uses all of it"
)]

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use claviger::error::{ProviderError, ProviderErrorKind};
use claviger::provider::{FetchRequest, Hints};
use claviger::report::RotationTrigger;
use claviger::{Credentials, Lease, Provider};
use claviger_file::FileProvider;
use parking_lot::Mutex;
use tempfile::TempDir;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tracing::Dispatch;
use tracing::instrument::WithSubscriber;
use tracing_subscriber::filter::LevelFilter;

/// Time limit, far longer than any test takes.
pub(crate) const BOUND: Duration = Duration::from_secs(10);

/// Runs the first fetch of a registration.
pub(crate) async fn first_lease(
    provider: &FileProvider,
) -> Result<Lease<Credentials>, ProviderError> {
    provider
        .fetch(FetchRequest::first())
        .await?
        .into_lease(None)
}

/// Fetches while `current` is the current lease.
pub(crate) async fn fetch_again(
    provider: &FileProvider,
    current: &Lease<Credentials>,
) -> Result<Lease<Credentials>, ProviderError> {
    provider
        .fetch(FetchRequest::new(RotationTrigger::Changed).with_current(current.clone()))
        .await?
        .into_lease(Some(current.clone()))
}

/// Returns user and password of a lease.
pub(crate) fn parts(lease: &Lease<Credentials>) -> (&str, &str) {
    (lease.secret().user(), lease.secret().expose_password())
}

/// Returns the error text of a fetch that must fail with this kind.
pub(crate) async fn failure(provider: &FileProvider, kind: ProviderErrorKind) -> String {
    let error = first_lease(provider).await.unwrap_err();
    assert_eq!(error.kind(), kind, "{error}");
    error.to_string()
}

/// Writes another file and renames it over `path`.
pub(crate) fn replace(path: &Path, content: &str) {
    let new = path.with_extension("new");
    fs::write(&new, content).unwrap();
    fs::rename(new, path).unwrap();
}

/// Creates a directory with a file of this name and content. Returns the directory and the file's
/// path.
pub(crate) fn file_in_directory(name: &str, content: &str) -> (TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(name);
    fs::write(&path, content).unwrap();
    (dir, path)
}

/// Captured log output.
#[derive(Clone, Default)]
pub(crate) struct Captured(Arc<Mutex<Vec<u8>>>);

impl Captured {
    /// Returns everything logged so far.
    pub(crate) fn text(&self) -> String {
        String::from_utf8(self.0.lock().clone()).unwrap()
    }

    /// Returns everything logged since the last call.
    pub(crate) fn take(&self) -> String {
        String::from_utf8(std::mem::take(&mut *self.0.lock())).unwrap()
    }
}

impl Write for Captured {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Returns the number of inotify instances of this process.
#[cfg(target_os = "linux")]
pub(crate) fn inotify_instances() -> usize {
    let open = fs::read_dir("/proc/self/fd").unwrap().flatten();
    open.filter(|fd| {
        fs::read_link(fd.path()).is_ok_and(|target| target.as_os_str() == "anon_inode:inotify")
    })
    .count()
}

/// Sends each logged line to a channel.
struct Lines(mpsc::UnboundedSender<String>);

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let _ = self.0.send(String::from_utf8_lossy(bytes).into_owned());
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// A running watch and its hints.
pub(crate) struct Watched {
    hints: mpsc::UnboundedReceiver<()>,
    task: JoinHandle<()>,
}

impl Watched {
    /// Runs the provider's watch and returns once it has started. Leaves its first hint.
    pub(crate) async fn start(provider: FileProvider) -> Self {
        let (sender, mut lines) = mpsc::unbounded_channel();
        let subscriber = tracing_subscriber::fmt()
            .with_max_level(LevelFilter::DEBUG)
            .with_writer(move || Lines(sender.clone()))
            .finish();
        let watched = Self::spawn(provider, subscriber.into());
        let started = async { while !lines.recv().await.unwrap().contains("watching") {} };
        timeout(BOUND, started).await.expect("the watch starts");
        watched
    }

    /// Runs the provider's watch, which logs to this dispatcher.
    pub(crate) fn spawn(provider: FileProvider, dispatch: Dispatch) -> Self {
        let (sender, hints) = mpsc::unbounded_channel();
        let watch_hints = Hints::new(move || {
            let _ = sender.send(());
        });
        let task = tokio::spawn(
            async move { provider.watch(watch_hints).await }.with_subscriber(dispatch),
        );
        Self { hints, task }
    }

    /// Takes a hint and returns whether there was one.
    pub(crate) fn was_hinted(&mut self) -> bool {
        self.hints.try_recv().is_ok()
    }

    /// Waits for the next hint.
    pub(crate) async fn next_hint(&mut self) {
        timeout(BOUND, self.hints.recv())
            .await
            .expect("a hint is received")
            .unwrap();
    }

    /// Fetches at every hint, as the supervisor does, until `done` returns true.
    pub(crate) async fn until(
        &mut self,
        provider: &FileProvider,
        done: impl Fn(&Lease<Credentials>) -> bool,
    ) -> Lease<Credentials> {
        timeout(BOUND, async {
            loop {
                self.hints.recv().await.unwrap();
                if let Ok(lease) = first_lease(provider).await
                    && done(&lease)
                {
                    return lease;
                }
            }
        })
        .await
        .expect("the change is noticed")
    }

    /// Fetches at every hint until the lease has this password.
    pub(crate) async fn until_password(
        &mut self,
        provider: &FileProvider,
        password: &str,
    ) -> Lease<Credentials> {
        self.until(provider, |lease| parts(lease).1 == password)
            .await
    }

    /// Returns how many hints arrive within `time`.
    pub(crate) async fn count_hints(&mut self, time: Duration) -> usize {
        let mut count = 0;
        let _ = timeout(time, async {
            while self.hints.recv().await.is_some() {
                count += 1;
            }
        })
        .await;
        count
    }

    /// Drops the watch and waits until it has stopped.
    pub(crate) async fn stop(mut self) {
        self.task.abort();
        assert!(
            (&mut self.task).await.unwrap_err().is_cancelled(),
            "a watch never returns by itself"
        );
        while self.hints.recv().await.is_some() {}
    }
}
