//! Ways to log in, as the administrator sets them up: all for the policy `orders`.

use std::io;

use serde_json::{Value, json};

use crate::{Admin, Problem, text};

impl Admin {
    /// A token of that policy; `settings` are those of `auth/token/create`.
    ///
    /// # Errors
    /// When there is none.
    pub fn token(&self, mut settings: Value) -> Result<String, Problem> {
        settings["policies"] = json!(["orders"]);
        let answer = self.write("auth/token/create", &settings)?;
        text(&answer["auth"]["client_token"])
    }

    /// Revokes a token, and its leases with it.
    ///
    /// # Errors
    /// When it is not done.
    pub fn revoke_token(&self, token: &str) -> Result<(), Problem> {
        self.write("auth/token/revoke", &json!({ "token": token }))
            .map(drop)
    }

    /// What the server knows of a token; nothing of one that is dead.
    ///
    /// # Errors
    /// When it does not answer.
    pub fn look_up(&self, token: &str) -> Result<Option<Value>, Problem> {
        let answer = self.vault.request(
            "POST",
            "auth/token/lookup",
            Some(&json!({ "token": token }).to_string()),
        )?;
        if answer.is_success() {
            Ok(Some(
                serde_json::from_str::<Value>(&answer.body)?["data"].clone(),
            ))
        } else {
            Ok(None)
        }
    }

    /// The accessors of all tokens that are alive.
    ///
    /// # Errors
    /// When they cannot be counted.
    pub fn tokens(&self) -> Result<Vec<String>, Problem> {
        let answer = self.read("auth/token/accessors?list=true")?;
        let keys = answer["data"]["keys"]
            .as_array()
            .cloned()
            .unwrap_or_default();
        Ok(keys
            .iter()
            .filter_map(Value::as_str)
            .map(str::to_owned)
            .collect())
    }

    /// Mounts AppRole with a role `orders`; `settings` are the role's. Answers its id.
    ///
    /// # Errors
    /// When it is not made.
    pub fn app_role(&self, mut settings: Value) -> Result<String, Problem> {
        self.write("sys/auth/approle", &json!({ "type": "approle" }))?;
        settings["token_policies"] = json!(["orders"]);
        self.write("auth/approle/role/orders", &settings)?;
        text(&self.read("auth/approle/role/orders/role-id")?["data"]["role_id"])
    }

    /// A secret id of that role.
    ///
    /// # Errors
    /// When there is none.
    pub fn secret_id(&self) -> Result<String, Problem> {
        text(&self.write("auth/approle/role/orders/secret-id", &json!({}))?["data"]["secret_id"])
    }

    /// A secret id of that role, wrapped: the token that opens it, for so many seconds.
    ///
    /// # Errors
    /// When there is none.
    pub fn wrapped_secret_id(&self, seconds: u64) -> Result<String, Problem> {
        let answer = self.vault.request_wrapped(
            seconds,
            "POST",
            "auth/approle/role/orders/secret-id",
            Some("{}"),
        )?;
        if !answer.is_success() {
            return Err(io::Error::other(format!("{answer:?}")).into());
        }
        text(&serde_json::from_str::<Value>(&answer.body)?["wrap_info"]["token"])
    }

    /// Opens what a wrapping token holds.
    ///
    /// # Errors
    /// When it does not open.
    pub fn unwrap(&self, token: &str) -> Result<Value, Problem> {
        self.write("sys/wrapping/unwrap", &json!({ "token": token }))
    }

    /// Mounts the JWT method with a role `orders` for whoever is the subject `orders` in a token
    /// that this key, in PEM, verifies.
    ///
    /// # Errors
    /// When it is not made.
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

    /// Mounts the Kubernetes method with a role `orders` for the service account `orders` of the
    /// namespace `shop`. Tokens are reviewed by whoever is at `host`; OpenBao wants a certificate
    /// of theirs even where there is no TLS.
    ///
    /// # Errors
    /// When it is not made.
    pub fn kubernetes(
        &self,
        host: &str,
        certificate: &str,
        token_ttl: &str,
    ) -> Result<(), Problem> {
        self.write("sys/auth/kubernetes", &json!({ "type": "kubernetes" }))?;
        let config = json!({ "kubernetes_host": host, "kubernetes_ca_cert": certificate, "disable_local_ca_jwt": true });
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
