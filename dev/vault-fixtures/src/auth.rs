//! Authentication methods, configured by the administrator for the policy `orders`.

use std::io;

use serde_json::{Value, json};

use crate::{Admin, Problem, text};

impl Admin {
    /// Creates a token of the policy. `settings` are those of `auth/token/create`.
    ///
    /// # Errors
    /// Errors of the server.
    pub fn token(&self, mut settings: Value) -> Result<String, Problem> {
        settings["policies"] = json!(["orders"]);
        let response = self.write("auth/token/create", &settings)?;
        text(&response["auth"]["client_token"])
    }

    /// Revokes a token and its leases.
    ///
    /// # Errors
    /// Errors of the server.
    pub fn revoke_token(&self, token: &str) -> Result<(), Problem> {
        self.write("auth/token/revoke", &json!({ "token": token }))
            .map(drop)
    }

    /// Revokes all tokens of the policy `orders`, and returns how many there were.
    ///
    /// # Errors
    /// Errors of the server.
    pub fn revoke_tokens(&self) -> Result<usize, Problem> {
        let mut revoked = 0;
        for accessor in self.tokens()? {
            let body = json!({ "accessor": accessor });
            let token = self.write("auth/token/lookup-accessor", &body)?;
            if token["data"]["policies"]
                .as_array()
                .is_some_and(|policies| policies.contains(&json!("orders")))
            {
                self.write("auth/token/revoke-accessor", &body)?;
                revoked += 1;
            }
        }
        Ok(revoked)
    }

    /// Revokes all tokens of logins by the method at this mount.
    ///
    /// # Errors
    /// Errors of the server.
    pub fn revoke_logins(&self, mount: &str) -> Result<(), Problem> {
        self.write(
            &format!("sys/leases/revoke-prefix/auth/{mount}"),
            &json!({}),
        )
        .map(drop)
    }

    /// Looks a token up. Returns `None` if it has expired or was revoked.
    ///
    /// # Errors
    /// Errors of the server.
    pub fn look_up(&self, token: &str) -> Result<Option<Value>, Problem> {
        let response = self.vault.request(
            "POST",
            "auth/token/lookup",
            Some(&json!({ "token": token }).to_string()),
        )?;
        if response.is_success() {
            Ok(Some(
                serde_json::from_str::<Value>(&response.body)?["data"].clone(),
            ))
        } else {
            Ok(None)
        }
    }

    /// Returns the accessors of all tokens.
    ///
    /// # Errors
    /// Errors of the server.
    pub fn tokens(&self) -> Result<Vec<String>, Problem> {
        let response = self.read("auth/token/accessors?list=true")?;
        let keys = response["data"]["keys"]
            .as_array()
            .cloned()
            .unwrap_or_default();
        Ok(keys
            .iter()
            .filter_map(Value::as_str)
            .map(str::to_owned)
            .collect())
    }

    /// Enables AppRole with a role `orders` with these settings, and returns its id.
    ///
    /// # Errors
    /// Errors of the server.
    pub fn app_role(&self, mut settings: Value) -> Result<String, Problem> {
        self.write("sys/auth/approle", &json!({ "type": "approle" }))?;
        settings["token_policies"] = json!(["orders"]);
        self.write("auth/approle/role/orders", &settings)?;
        text(&self.read("auth/approle/role/orders/role-id")?["data"]["role_id"])
    }

    /// Creates a secret id of that role.
    ///
    /// # Errors
    /// Errors of the server.
    pub fn secret_id(&self) -> Result<String, Problem> {
        text(&self.write("auth/approle/role/orders/secret-id", &json!({}))?["data"]["secret_id"])
    }

    /// Creates a wrapped secret id of that role. Returns the wrapping token, valid for `seconds`.
    ///
    /// # Errors
    /// Errors of the server.
    pub fn wrapped_secret_id(&self, seconds: u64) -> Result<String, Problem> {
        let response = self.vault.request_wrapped(
            seconds,
            "POST",
            "auth/approle/role/orders/secret-id",
            Some("{}"),
        )?;
        if !response.is_success() {
            return Err(io::Error::other(format!("{response:?}")).into());
        }
        text(&serde_json::from_str::<Value>(&response.body)?["wrap_info"]["token"])
    }

    /// Unwraps a wrapping token.
    ///
    /// # Errors
    /// Errors of the server.
    pub fn unwrap(&self, token: &str) -> Result<Value, Problem> {
        self.write("sys/wrapping/unwrap", &json!({ "token": token }))
    }

    /// Enables the JWT method with a role `orders`, for tokens of subject `orders` that this public
    /// key (PEM) verifies.
    ///
    /// # Errors
    /// Errors of the server.
    pub fn jwt(&self, public_key: &str) -> Result<(), Problem> {
        self.write("sys/auth/jwt", &json!({ "type": "jwt" }))?;
        self.write(
            "auth/jwt/config",
            &json!({ "jwt_validation_pubkeys": [public_key], "jwt_supported_algs": ["ES256"] }),
        )?;
        let role = json!({
            "role_type": "jwt",
            "user_claim": "sub",
            "bound_subject": "orders",
            "bound_audiences": ["vault"],
            "token_policies": ["orders"],
        });
        self.write("auth/jwt/role/orders", &role).map(drop)
    }

    /// Enables the Kubernetes method with a role `orders` for the service account `orders` in the
    /// namespace `shop`. `host` reviews the tokens; OpenBao requires its certificate even without
    /// TLS.
    ///
    /// # Errors
    /// Errors of the server.
    pub fn kubernetes(
        &self,
        host: &str,
        certificate: &str,
        token_ttl: &str,
    ) -> Result<(), Problem> {
        self.write("sys/auth/kubernetes", &json!({ "type": "kubernetes" }))?;
        let config = json!({
            "kubernetes_host": host,
            "kubernetes_ca_cert": certificate,
            "disable_local_ca_jwt": true,
        });
        self.write("auth/kubernetes/config", &config)?;
        let role = json!({
            "bound_service_account_names": ["orders"],
            "bound_service_account_namespaces": ["shop"],
            "token_policies": ["orders"],
            "token_ttl": token_ttl,
        });
        self.write("auth/kubernetes/role/orders", &role).map(drop)
    }
}
