//! The provider passes the conformance kit.

#![cfg(unix)]
#![expect(clippy::unwrap_used, reason = "tests")]

use std::fs;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

use claviger::Credentials;
use claviger_file::FileProvider;
use claviger_testkit::conformance::{self, ControlError, ProviderControls};
use tempfile::TempDir;

/// A mounted file, replaced as by a rotation.
struct Mounted {
    folder: TempDir,
    version: AtomicU32,
}

impl Mounted {
    fn new() -> Self {
        let mounted = Self {
            folder: tempfile::tempdir().unwrap(),
            version: AtomicU32::new(1),
        };
        mounted.write().unwrap();
        mounted
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("password")
    }

    fn write(&self) -> Result<(), ControlError> {
        let version = self.version.load(Ordering::Acquire);
        let new = self.folder.path().join("new");
        fs::write(&new, format!("s3cret-{version}"))?;
        fs::rename(new, self.path())?;
        Ok(())
    }
}

impl ProviderControls<FileProvider> for Mounted {
    fn secret_text(&self, secret: &Credentials) -> String {
        secret.expose_password().to_owned()
    }

    async fn change_credential(&self) -> Result<bool, ControlError> {
        self.version.fetch_add(1, Ordering::AcqRel);
        self.write()?;
        Ok(true)
    }

    async fn set_available(&self, available: bool) -> Result<bool, ControlError> {
        if available {
            self.write()?;
        } else {
            fs::remove_file(self.path())?;
        }
        Ok(true)
    }

    /// A removed file has to be mounted again.
    fn is_outage_transient(&self) -> bool {
        false
    }

    fn reports_changes(&self) -> bool {
        true
    }
}

#[tokio::test]
async fn the_provider_conforms() {
    let mounted = Mounted::new();
    let provider = FileProvider::password(mounted.path(), "orders").unwrap();
    let report = conformance::provider(provider, mounted).await;
    report.assert_passed();
    for (check, reason) in report.not_applicable() {
        let expected = reason.contains("`lifetime`") || reason.contains("`released`");
        assert!(expected, "{check}");
    }
}
