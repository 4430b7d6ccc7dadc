//! needs: openbao
//!
//! Logins by a pod's token, which a cluster reviews.
#![expect(clippy::expect_used, reason = "a test fails by panicking")]

mod common;

use std::fs;
use std::time::{Duration, UNIX_EPOCH};

use claviger::error::{ProviderError, ProviderErrorKind};
use claviger::lease::Timestamp;
use claviger_fixtures::eventually_within;
use claviger_servers::{JwtIssuer, Proxy, TokenReviews};
use claviger_vault::{Auth, VaultKv};
use claviger_vault_fixtures::AsyncAdmin;
use common::{fetch, kv, polling_supervisor, session};
use serde_json::json;
use tempfile::NamedTempFile;

struct VaultFixture {
    admin: AsyncAdmin,
    proxy: Proxy,
    issuer: JwtIssuer,
    cluster: TokenReviews,
    file: NamedTempFile,
}

async fn fixture(token_ttl: &'static str) -> VaultFixture {
    let admin = AsyncAdmin::with_a_secret().await;
    let cluster = TokenReviews::start().expect("a cluster");
    let issuer = JwtIssuer::new().expect("a key");
    let (host, certificate) = (cluster.host(), issuer.certificate().expect("a certificate"));
    admin
        .run(move |admin| admin.kubernetes(&host, &certificate, token_ttl))
        .await;
    VaultFixture {
        proxy: admin.proxy(),
        admin,
        issuer,
        cluster,
        file: NamedTempFile::new().expect("a file"),
    }
}

impl VaultFixture {
    /// Returns a pod's token, the `number`-th of its service account.
    fn token(&self, name: &str, number: u64) -> String {
        let now = Timestamp::now()
            .wall()
            .duration_since(UNIX_EPOCH)
            .unwrap_or(Duration::ZERO)
            .as_secs();
        let claims = json!({
            "iss": "https://kubernetes.default.svc.cluster.local",
            "aud": ["https://kubernetes.default.svc.cluster.local"],
            "sub": format!("system:serviceaccount:shop:{name}"),
            "iat": now,
            "exp": now + 600,
            "jti": number.to_string(),
            "kubernetes.io": {
                "namespace": "shop",
                "serviceaccount": { "name": name, "uid": TokenReviews::uid("shop", name) },
            },
        });
        self.issuer.sign(&claims.to_string()).expect("it signs")
    }

    /// Mounts another token, which the cluster accepts instead of the previous one.
    fn mount(&self, number: u64) -> String {
        let token = self.token("orders", number);
        self.cluster.add_token(&token, "shop", "orders");
        if let Ok(before) = fs::read_to_string(&self.file) {
            self.cluster.remove_token(&before);
        }
        fs::write(&self.file, &token).expect("it is written");
        token
    }

    fn kv(&self) -> VaultKv {
        let auth = Auth::kubernetes_file("orders", self.file.path());
        kv(&session(self.proxy.endpoint(), auth))
    }

    fn logins(&self) -> usize {
        self.proxy.requests("/v1/auth/kubernetes/login")
    }

    async fn login_error(&self, token: &str) -> ProviderError {
        fs::write(&self.file, token).expect("it is written");
        let error = fetch(&self.kv()).await.expect_err("it is rejected");
        assert!(!format!("{error} {error:?}").contains(token));
        assert!(
            error.to_string().contains("login at auth/kubernetes"),
            "{error}"
        );
        error
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_mounted_token_is_read_again_at_each_login() {
    let fixture = fixture("3s").await;
    fixture.mount(1);
    let supervisor = polling_supervisor();
    supervisor
        .add_provider("login", fixture.kv())
        .await
        .expect("a lease");
    let reviews = fixture.cluster.reviews();
    assert!(
        reviews > 0 && fixture.logins() == 1,
        "the hazard: it was reviewed"
    );
    // The issued token is renewed, then revoked by the administrator. The next login sends what
    // the file then contains.
    let renewals = || fixture.proxy.requests("/v1/auth/token/renew-self");
    eventually_within(Duration::from_secs(10), "it is renewed", || renewals() > 0).await;
    fixture.mount(2);
    fixture
        .admin
        .run(|admin| admin.revoke_logins("kubernetes"))
        .await;
    eventually_within(Duration::from_secs(10), "there is another login", || {
        fixture.logins() == 2
    })
    .await;
    let reads = || fixture.proxy.requests("/v1/kv/metadata/orders");
    let before = reads();
    eventually_within(Duration::from_secs(10), "it is polled", || {
        reads() >= before + 2
    })
    .await;
    let status = supervisor.status().providers.remove(0);
    assert!(status.last_error.is_none(), "{:?}", status.last_error);
    assert!(
        fixture.cluster.reviews() > reviews && fixture.logins() == 2,
        "{} logins",
        fixture.logins()
    );
    supervisor.shutdown(Duration::from_secs(5)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rejected_login_names_the_possible_causes() {
    let fixture = fixture("60s").await;
    // The cluster rejects the token. The cause may be an error of the cluster itself.
    let error = fixture.login_error(&fixture.token("orders", 1)).await;
    assert_eq!(error.kind(), ProviderErrorKind::Unavailable, "{error}");
    assert!(
        error
            .to_string()
            .contains("that Vault reaches the cluster which reviews tokens"),
        "{error}"
    );
    assert!(fixture.cluster.reviews() > 0, "the hazard: it was reviewed");
    // The role does not allow this service account.
    let other = fixture.token("others", 1);
    fixture.cluster.add_token(&other, "shop", "others");
    let error = fixture.login_error(&other).await;
    assert_eq!(error.kind(), ProviderErrorKind::Denied, "{error}");
    assert!(
        error
            .to_string()
            .contains("check the mount, the role and its bound claims"),
        "{error}"
    );
    fs::write(&fixture.file, "").expect("it is written");
    let error = fetch(&fixture.kv()).await.expect_err("there is no token");
    assert!(
        error.is_transient() && error.to_string().contains("the file is empty"),
        "{error}"
    );
    // The cluster is down and reviews no token.
    let token = fixture.mount(2);
    let VaultFixture {
        admin,
        proxy,
        issuer,
        cluster,
        file,
    } = fixture;
    drop(cluster);
    let cluster = TokenReviews::start().expect("another one, elsewhere");
    let fixture = VaultFixture {
        admin,
        proxy,
        issuer,
        cluster,
        file,
    };
    let error = fixture.login_error(&token).await;
    assert_eq!(error.kind(), ProviderErrorKind::Unavailable, "{error}");
}
