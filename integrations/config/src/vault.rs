//! Sessions and providers of Vault.

use std::collections::BTreeMap;

use claviger::error::ProviderError;
use claviger_vault::{Auth, SecretId, VaultDynamic, VaultKv, VaultSession, VaultStatic};

use crate::error::ConfigError;
use crate::schema::{KvSettings, ProviderSettings, RoleSettings, VaultAuth, VaultSettings};
use crate::values::Secret;

const DATABASE_MOUNT: &str = "database";
const KV_MOUNT: &str = "secret";

/// Vault sessions, by the name of the server in `[vaults]`.
pub(crate) struct Sessions(BTreeMap<String, Result<VaultSession, ConfigError>>);

impl Sessions {
    /// Creates a session for each server, and logs in to none.
    pub(crate) fn new(origin: &str, servers: &BTreeMap<String, VaultSettings>) -> Self {
        let session = |(name, settings): (&String, &VaultSettings)| {
            let table = format!("vaults.{name}");
            let session = session(settings)
                .map_err(|error| ConfigError::of_setting(origin, &table, &table, &error));
            (name.clone(), session)
        };
        Self(servers.iter().map(session).collect())
    }

    /// Creates sessions for a check of settings. `check` examines addresses itself, and files with
    /// certificates may be written before the start.
    pub(crate) fn for_check(servers: &BTreeMap<String, VaultSettings>) -> Self {
        let server = |(name, settings): (&String, &VaultSettings)| {
            let mut settings = settings.clone();
            "http://localhost".clone_into(&mut settings.address);
            settings.ca_file = None;
            (name.clone(), settings)
        };
        Self::new("", &servers.iter().map(server).collect())
    }

    /// Returns the session of a provider. `None` if its backend is not Vault.
    pub(crate) fn of_provider(&self, settings: &ProviderSettings) -> Option<VaultSession> {
        let name = match settings {
            ProviderSettings::VaultDynamic(role) | ProviderSettings::VaultStatic(role) => {
                &role.vault
            }
            ProviderSettings::VaultKv(kv) => &kv.vault,
            _ => return None,
        };
        self.get(name.as_deref(), "").ok().cloned()
    }

    /// Returns the session of this server, or of the only one, for a provider.
    ///
    /// # Errors
    /// A setting of the server is invalid.
    pub(crate) fn get(
        &self,
        name: Option<&str>,
        provider: &str,
    ) -> Result<&VaultSession, ConfigError> {
        let session = match name {
            Some(name) => self.0.get(name),
            None => self.0.values().next(),
        };
        // `check` finds a missing server first.
        let missing = || ConfigError::one("", format!("{provider}.vault"), "is not in [vaults]");
        session.ok_or_else(missing)?.as_ref().map_err(Clone::clone)
    }
}

pub(crate) fn dynamic(
    session: &VaultSession,
    settings: &RoleSettings,
) -> Result<VaultDynamic, ProviderError> {
    VaultDynamic::new(session, mount(settings), &settings.role)
}

pub(crate) fn static_role(
    session: &VaultSession,
    settings: &RoleSettings,
) -> Result<VaultStatic, ProviderError> {
    VaultStatic::new(session, mount(settings), &settings.role)
}

pub(crate) fn kv(session: &VaultSession, settings: &KvSettings) -> Result<VaultKv, ProviderError> {
    let mount = settings.mount.as_deref().unwrap_or(KV_MOUNT);
    let mut builder = VaultKv::builder(session, mount, &settings.path);
    if let Some(key) = &settings.user_key {
        builder = builder.with_user_key(key);
    }
    if let Some(key) = &settings.password_key {
        builder = builder.with_password_key(key);
    }
    builder.build()
}

fn mount(settings: &RoleSettings) -> &str {
    settings.mount.as_deref().unwrap_or(DATABASE_MOUNT)
}

fn session(settings: &VaultSettings) -> Result<VaultSession, ProviderError> {
    let mut builder = VaultSession::builder(&settings.address, auth(&settings.auth));
    if let Some(namespace) = &settings.namespace {
        builder = builder.with_namespace(namespace);
    }
    if let Some(file) = &settings.ca_file {
        builder = builder.with_ca_file(file);
    }
    if let Some(timeout) = settings.timeout {
        builder = builder.with_timeout(timeout.0);
    }
    if settings.danger_plain_http {
        builder = builder.with_danger_plain_http();
    }
    builder.build()
}

fn auth(settings: &VaultAuth) -> Auth {
    let (auth, mount) = match settings {
        VaultAuth::Token {
            token: Secret::File(path),
        } => (Auth::token_file(path), None),
        VaultAuth::Token {
            token: Secret::Text(token),
        } => (Auth::token(expose(token)), None),
        VaultAuth::AppRole {
            role_id,
            secret_id,
            mount,
        } => {
            let secret_id = match secret_id {
                None => SecretId::none(),
                Some(Secret::File(path)) => SecretId::file(path),
                Some(Secret::Text(secret_id)) => SecretId::given(expose(secret_id)),
            };
            (Auth::app_role(role_id, secret_id), mount.as_ref())
        }
        VaultAuth::Kubernetes {
            role,
            token_file,
            mount,
        } => {
            let auth = match token_file {
                Some(path) => Auth::kubernetes_file(role, path),
                None => Auth::kubernetes(role),
            };
            (auth, mount.as_ref())
        }
        VaultAuth::Jwt { role, jwt, mount } => {
            let auth = match jwt {
                Secret::File(path) => Auth::jwt_file(role, path),
                Secret::Text(jwt) => Auth::jwt(role, expose(jwt)),
            };
            (auth, mount.as_ref())
        }
    };
    match mount {
        Some(mount) => auth.with_mount(mount),
        None => auth,
    }
}

fn expose(secret: &secrecy::SecretString) -> &str {
    secrecy::ExposeSecret::expose_secret(secret)
}
