//! Secrets of Secrets Manager.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use claviger_servers::{InjectedFault, Moto, Postgres, Proxy};
use serde_json::json;

use crate::common::{SECRET, Setup, WRONG};

fn create_secret(aws: &Moto, name: &str, text: &str) {
    let body = json!({
        "Name": name, "SecretString": text, "ClientRequestToken": format!("{name:0<32}"),
    });
    request(aws, "CreateSecret", &body);
}

/// Calls the API by HTTP, and returns the response.
fn request(aws: &Moto, operation: &str, body: &serde_json::Value) -> String {
    let address = aws.endpoint().replace("http://", "");
    let body = body.to_string();
    let request = format!(
        "POST / HTTP/1.1\r\nHost: {address}\r\nX-Amz-Target: secretsmanager.{operation}\r\n\
         Content-Type: application/x-amz-json-1.1\r\nAuthorization: AWS4-HMAC-SHA256 \
         Credential=AKIDEXAMPLE/20260101/eu-west-1/secretsmanager/aws4_request, \
         SignedHeaders=host, Signature=00\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    );
    let mut stream = TcpStream::connect(address).expect("moto listens");
    stream.write_all(request.as_bytes()).expect("sent");
    let mut response = String::new();
    stream.read_to_string(&mut response).expect("a response");
    assert!(response.starts_with("HTTP/1.1 200"), "{response}");
    response
}

#[test]
fn secrets_that_are_empty_incomplete_missing_or_denied_are_named() {
    let (server, aws) = (Postgres::start(), Moto::start());
    let (server, aws) = (server.expect("a server"), aws.expect("moto"));
    server.create_role("app", SECRET).expect("a role");
    let proxy = Proxy::start(&aws.endpoint()).expect("a proxy");
    let setup = Setup::new();
    let right = json!({ "username": "app", "password": SECRET }).to_string();
    let without = json!({ "username": "app", "passwort": SECRET }).to_string();
    for (name, text) in [
        ("right", right.as_str()),
        ("without-password", &without),
        ("no-json", SECRET),
        ("empty", "{}"),
    ] {
        create_secret(&aws, name, text);
    }
    let config = |secret: &str, endpoint: &str| {
        format!(
            "[aws]\nregion = \"eu-west-1\"\nendpoint_url = \"{endpoint}\"\n[pools.orders]\n\
             host = \"127.0.0.1\"\nport = {}\ndatabase = \"postgres\"\nprovider = \"orders\"\n\
             [providers.orders]\nkind = \"secrets-manager\"\nsecret = \"{secret}\"\n",
            server.port()
        )
    };
    let fine = setup.doctor(&config("right", &proxy.endpoint()), &[]);
    fine.assert_fine();
    assert!(
        fine.finding("identity")["detail"]
            .to_string()
            .contains("arn:aws:")
    );
    for (secret, cause) in [
        ("without-password", "malformed_secret"),
        ("no-json", "malformed_secret"),
        ("empty", "malformed_secret"),
        ("absent", "secret_not_found"),
    ] {
        let diagnosis = setup.doctor(&config(secret, &aws.endpoint()), &[]);
        diagnosis.assert_cause("secret", cause);
        assert_eq!(diagnosis.logins(), (0, 0));
    }
    // A wrong `user_key` makes the password the user's name.
    let key = config("right", &aws.endpoint()) + "user_key = \"password\"\n";
    let user = setup.doctor(&key, &[]);
    user.assert_cause("secret", "user_is_password");
    assert_eq!(user.logins(), (0, 0));
    assert!(
        setup
            .run(&key, &["doctor"])
            .stdout
            .contains("***@127.0.0.1")
    );
    // The pools connect to the server of the secret, so the diagnosis examines it alone.
    let moved = json!({
        "username": "app", "password": SECRET, "host": "127.0.0.1", "port": server.port(),
        "dbname": "template1",
    });
    create_secret(&aws, "moved", &moved.to_string());
    let moved = config("moved", &aws.endpoint()) + "endpoint_from_secret = true\n";
    let moved = moved.replace("database = \"postgres\"", "database = \"absent\"");
    let moved = moved.replace("host = \"127.0.0.1\"", "host = \"absent.invalid\"");
    let moved = setup.doctor(&moved, &[]);
    moved.assert_fine();
    assert_eq!(moved.finding("secret")["cause"], "endpoint_of_secret");
    assert_eq!(moved.finding("dns")["detail"], "127.0.0.1");
    let target = format!("app@127.0.0.1:{}/template1", server.port());
    assert_eq!(moved.report["connections"][0]["target"], target);
    let denied = r#"{"__type": "AccessDeniedException", "Message": "not authorized"}"#;
    proxy.fault_on("GetSecretValue", InjectedFault::reply(400, denied));
    let diagnosis = setup.doctor(&config("right", &proxy.endpoint()), &[]);
    diagnosis.assert_cause("permission", "permission_denied");
    let next = diagnosis.finding("permission").to_string();
    assert!(next.contains("secretsmanager:GetSecretValue"), "{next}");
    let throttled = "<ErrorResponse><Error><Code>AccessDenied</Code></Error></ErrorResponse>";
    proxy.fault_on("GetCallerIdentity", InjectedFault::reply(403, throttled));
    let diagnosis = setup.doctor(&config("right", &proxy.endpoint()), &[]);
    assert_eq!(diagnosis.finding("identity")["cause"], "identity_unknown");
    let rejected =
        "<ErrorResponse><Error><Code>InvalidClientTokenId</Code></Error></ErrorResponse>";
    proxy.fault_on("GetCallerIdentity", InjectedFault::reply(403, rejected));
    let diagnosis = setup.doctor(&config("right", &proxy.endpoint()), &[]);
    diagnosis.assert_cause("identity", "identity_rejected");
}

#[test]
fn a_rehearsal_verifies_the_pending_version_and_moves_no_label() {
    let (server, aws) = (Postgres::start(), Moto::start());
    let (server, aws) = (server.expect("a server"), aws.expect("moto"));
    server.create_role("app", SECRET).expect("a role");
    let setup = Setup::new();
    let secret = |password: &str| json!({ "username": "app", "password": password }).to_string();
    create_secret(&aws, "orders", &secret(SECRET));
    let config = format!(
        "[aws]\nregion = \"eu-west-1\"\nendpoint_url = \"{}\"\n[pools.orders]\n\
         host = \"127.0.0.1\"\nport = {}\ndatabase = \"postgres\"\nprovider = \"orders\"\n\
         [providers.orders]\nkind = \"secrets-manager\"\nsecret = \"orders\"\n",
        aws.endpoint(),
        server.port()
    );
    let rehearse = || setup.report(&config, &["rehearse", "--json"]);
    // Without a pending version, the current one is verified.
    rehearse().assert_fine();
    let pending = json!({
        "SecretId": "orders", "SecretString": secret(WRONG), "VersionStages": ["AWSPENDING"],
        "ClientRequestToken": "pending-0000000000000000000000000",
    });
    request(&aws, "PutSecretValue", &pending);
    let rejected = rehearse();
    assert_eq!(rejected.run.code, Some(1));
    rejected.assert_cause("login", "password_rejected");
    setup.doctor(&config, &[]).assert_fine();

    server.set_password("app", WRONG).expect("it is set");
    rehearse().assert_fine();
    let read = |stage: &str| {
        let body = json!({ "SecretId": "orders", "VersionStage": stage });
        request(&aws, "GetSecretValue", &body)
    };
    assert!(read("AWSPENDING").contains(WRONG) && read("AWSCURRENT").contains(SECRET));
}

/// The chain of AWS credentials and the name of the endpoint, without a server.
#[test]
fn a_profile_or_region_with_a_typing_error_is_named() {
    let setup = Setup::new();
    let config = |endpoint: &str| {
        format!(
            "[aws]\nregion = \"eu-west-9\"\nendpoint_url = \"{endpoint}\"\n[pools.orders]\n\
             host = \"127.0.0.1\"\nprovider = \"orders\"\n[providers.orders]\n\
             kind = \"secrets-manager\"\nsecret = \"orders\"\n"
        )
    };
    let file = setup.write("aws", "[profile prod]\nregion = eu-west-1\n");
    let output = setup
        .command(&config("http://127.0.0.1:1"), &["doctor", "--json"])
        .env_remove("AWS_ACCESS_KEY_ID")
        .env_remove("AWS_SECRET_ACCESS_KEY")
        .env("AWS_CONFIG_FILE", &file)
        .env("AWS_SHARED_CREDENTIALS_FILE", &file)
        .env("AWS_PROFILE", "prdo")
        .output()
        .expect("it runs");
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let findings = report["connections"][0]["findings"].as_array();
    let last = findings.and_then(|findings| findings.last()).expect("one");
    assert_eq!(last["cause"], "no_aws_credentials", "{report:#}");
    let detail = last["detail"].as_str().unwrap_or_default();
    assert!(
        detail.contains("profile `prdo` was not defined"),
        "{detail}"
    );
    let next = last["next"][0].as_str().unwrap_or_default();
    assert!(next.starts_with("correct the profile's name"), "{next}");

    let region = setup.doctor(&config("http://secretsmanager.eu-west-9.invalid"), &[]);
    region.assert_next(
        "permission",
        "backend_unavailable",
        &["check the region's name"],
    );
    let detail = region.finding("permission")["detail"].to_string();
    assert!(
        detail.contains("region eu-west-9 cannot be resolved"),
        "{detail}"
    );
}

#[test]
fn a_file_that_cannot_be_read_is_named_with_the_system_s_reason() {
    let setup = Setup::new();
    let path = setup.path("loop");
    std::os::unix::fs::symlink(&path, &path).expect("a link");
    let config = format!(
        "[pools.orders]\nhost = \"127.0.0.1\"\nuser = \"app\"\npassword = \"file:{}\"\n",
        path.display()
    );
    let diagnosis = setup.doctor(&config, &[]);
    diagnosis.assert_next("permission", "backend_unavailable", &["its links"]);
    let detail = diagnosis.finding("permission")["detail"].to_string();
    assert!(
        detail.contains("Too many levels of symbolic links"),
        "{detail}"
    );
    // The advice is for the file of the configuration, not for code.
    let folder = config.replace(&format!("{}", path.display()), "/");
    let diagnosis = setup.doctor(&folder, &[]);
    let next = diagnosis.report.to_string();
    assert!(
        next.contains("is a directory") && !next.contains("::"),
        "{next}"
    );
}
