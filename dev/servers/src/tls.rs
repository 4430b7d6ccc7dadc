//! TLS of a server.

#[cfg(feature = "tls")]
mod certificates;

use std::path::{Path, PathBuf};

use crate::account::Account;
use crate::error::StartError;

/// The server's own files, in its folder.
pub(crate) const CERTIFICATE_FILE: &str = "server.pem";
pub(crate) const KEY_FILE: &str = "server.key";

/// The certificate authority that signed the server's certificate, and one that did not.
#[derive(Debug)]
pub(crate) struct Authorities {
    pub(crate) own: PathBuf,
    pub(crate) unrelated: PathBuf,
}

/// Creates authorities and the server's certificate, if `enabled`.
#[cfg(feature = "tls")]
pub(crate) fn authorities(
    enabled: bool,
    folder: &Path,
    account: Option<Account>,
) -> Result<Option<Authorities>, StartError> {
    if enabled {
        certificates::write(folder, account).map(Some)
    } else {
        Ok(None)
    }
}

/// Returns `None`, because the feature `tls` is off.
#[cfg(not(feature = "tls"))]
pub(crate) fn authorities(
    _enabled: bool,
    _folder: &Path,
    _account: Option<Account>,
) -> Result<Option<Authorities>, StartError> {
    Ok(None)
}
