//! Files that a configuration names and that cannot be read.

use std::fs::File as OpenFile;
use std::path::Path;

use crate::error::Problem;
use crate::resolved_pool::ResolvedPool;
use crate::schema::{File, ProviderSettings, VaultAuth};
use crate::values::Secret;

/// Returns a problem for each file that cannot be opened.
pub(crate) fn missing_files(file: &File, pools: &[ResolvedPool]) -> Vec<Problem> {
    let mut problems = Vec::new();
    let mut open = |key: String, path: &Path| {
        if let Err(error) = OpenFile::open(path) {
            let message = format!("{} cannot be read: {error}; check the path", path.display());
            problems.push(Problem::new(key, message));
        }
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
