//! Files that a configuration names and that cannot be read, or are empty.

use std::fs::File as OpenFile;
use std::io::{self, Read as _};
use std::path::Path;

use crate::error::Problem;
use crate::resolved_pool::ResolvedPool;
use crate::schema::{File, ProviderSettings, VaultAuth};
use crate::values::{Secret, empty_file};

/// Returns a problem for each file that cannot be read, or is empty.
pub(crate) fn missing_files(file: &File, pools: &[ResolvedPool]) -> Vec<Problem> {
    let mut problems = Vec::new();
    let mut open = |key: String, path: &Path| {
        let message = match is_empty(path) {
            Ok(false) => return,
            Ok(true) => empty_file(path),
            Err(error) => {
                format!("{} cannot be read: {error}; check the path", path.display())
            }
        };
        problems.push(Problem::new(key, message));
    };
    for (name, vault) in &file.vaults {
        let key = |key: &str| format!("vaults.{name}.{key}");
        if let Some(path) = &vault.ca_file {
            open(key("ca_file"), path);
        }
        match &vault.auth {
            VaultAuth::Token {
                token: Secret::File(path),
            } => open(key("auth.token"), path),
            VaultAuth::AppRole {
                secret_id: Some(Secret::File(path)),
                ..
            } => open(key("auth.secret_id"), path),
            VaultAuth::Kubernetes {
                token_file: Some(path),
                ..
            } => open(key("auth.token_file"), path),
            VaultAuth::Jwt {
                jwt: Secret::File(path),
                ..
            } => open(key("auth.jwt"), path),
            _ => {}
        }
    }
    for (name, provider) in &file.providers {
        match provider {
            ProviderSettings::File(settings) => {
                open(format!("providers.{name}.path"), &settings.path);
            }
            ProviderSettings::Static(settings) => {
                if let Secret::File(path) = &settings.password {
                    open(format!("providers.{name}.password"), path);
                }
            }
            _ => {}
        }
    }
    for pool in pools {
        if let Some(Secret::File(path)) = pool.password() {
            open(pool.key("password"), &path);
        }
        for (key, path) in [
            ("ca_file", pool.ca_file()),
            ("client_certificate_file", pool.client_certificate_file()),
            ("client_key_file", pool.client_key_file()),
        ] {
            if let Some(path) = path {
                open(pool.key(key), &path);
            }
        }
    }
    problems
}

/// Returns whether a file has line ends at most. A directory, or what can be read only once, is not
/// read.
fn is_empty(path: &Path) -> io::Result<bool> {
    let file = OpenFile::open(path)?;
    if !file.metadata()?.is_file() {
        return Ok(false);
    }
    let mut beginning = Vec::new();
    file.take(16).read_to_end(&mut beginning)?;
    Ok(beginning.iter().all(|byte| matches!(byte, b'\r' | b'\n')))
}
