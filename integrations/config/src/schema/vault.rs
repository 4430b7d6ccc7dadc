//! Servers of Vault and OpenBao.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::Deserialize;

use crate::values::{HumanDuration, Secret};

/// A server of Vault or OpenBao.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct VaultSettings {
    /// Address, such as `https://vault.internal:8200`.
    pub(crate) address: String,
    /// Authentication method of the service.
    pub(crate) auth: VaultAuth,
    /// Namespace. Default: the root namespace.
    pub(crate) namespace: Option<String>,
    /// PEM file with the authorities that may sign the server's certificate. Default: the
    /// platform's.
    #[schemars(extend("x-path" = true))]
    pub(crate) ca_file: Option<PathBuf>,
    /// Longest time of one request.
    pub(crate) timeout: Option<HumanDuration>,
    /// Allows `http://` addresses of other machines. Default: false.
    #[serde(default)]
    pub(crate) danger_plain_http: bool,
}

/// A login to Vault or OpenBao.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, tag = "kind", rename_all = "kebab-case")]
pub(crate) enum VaultAuth {
    /// A token that another process renews.
    Token {
        /// The token: `${NAME}` or `file:/path`.
        token: Secret,
    },
    /// An application role.
    AppRole {
        /// ID of the role.
        role_id: String,
        /// Secret ID: `${NAME}` or `file:/path`. Default: none.
        secret_id: Option<Secret>,
        /// Mount of the authentication method. Default: `approle`.
        mount: Option<String>,
    },
    /// The service account of a Kubernetes pod.
    Kubernetes {
        /// Role in Vault.
        role: String,
        /// File with the service account's token. Default: Kubernetes' own.
        #[schemars(extend("x-path" = true))]
        token_file: Option<PathBuf>,
        /// Mount of the authentication method. Default: `kubernetes`.
        mount: Option<String>,
    },
    /// A JSON web token.
    Jwt {
        /// Role in Vault.
        role: String,
        /// The token: `${NAME}` or `file:/path`.
        jwt: Secret,
        /// Mount of the authentication method. Default: `jwt`.
        mount: Option<String>,
    },
}
