//! `check`, `exec` and wrong arguments.

use std::io::{BufRead as _, BufReader};
use std::process::Stdio;

use claviger_servers::Postgres;
use rustix::process::{Pid, Signal, kill_process};

use crate::common::{SECRET, Setup, pool};

#[test]
fn check_reports_all_problems_of_the_file_with_their_keys() {
    let setup = Setup::new();
    let fine = setup.run(&pool(&setup, 5432, ""), &["check"]);
    assert_eq!(fine.code, Some(0), "{}", fine.stderr);
    assert_eq!(
        fine.stdout.trim(),
        "1 pool and 0 providers: no problem found"
    );
    // Kinds whose pools are not compiled into the command are right.
    let kind = setup.run(
        &pool(&setup, 5432, "kind = \"diesel-postgres\""),
        &["check"],
    );
    assert_eq!(kind.code, Some(0), "{}", kind.stderr);

    // A provider that only the service has.
    let own = "[pools.orders]\nhost = \"db\"\nprovider = \"own\"\n";
    let marked = format!("{own}[providers.own]\nkind = \"service\"\n");
    let marked = setup.run(&marked, &["check"]);
    assert_eq!(marked.code, Some(0), "{}", marked.stderr);
    let not_checked = "not checked, because the service adds them: own";
    assert!(marked.stdout.contains(not_checked), "{}", marked.stdout);
    let unmarked = setup.run(own, &["check"]);
    assert_eq!(unmarked.code, Some(1));
    assert!(
        unmarked.stderr.contains("kind = \"service\""),
        "{}",
        unmarked.stderr
    );

    // Without a file, the environment is read.
    let mut nothing = setup.command("", &["check"]);
    nothing.env_remove("CLAVIGER_CONFIG").current_dir("/");
    let nothing = nothing.output().expect("it runs");
    let shown = String::from_utf8_lossy(&nothing.stderr).into_owned();
    assert_eq!(nothing.status.code(), Some(1), "{shown}");
    for words in ["DATABASE_URL", "no claviger.toml"] {
        assert!(shown.contains(words), "{shown}");
    }

    // Nothing was checked.
    for arguments in [&["check"][..], &["doctor"]] {
        let empty = setup.run("", arguments);
        assert_eq!(empty.code, Some(1), "{}", empty.stdout);
        assert!(empty.stderr.contains("no pools"), "{}", empty.stderr);
    }
    for config in ["", "pools = \"orders\"", "[pools"] {
        let json = setup.doctor(config, &[]);
        assert_eq!(json.run.code, Some(1), "{config}: {:#}", json.report);
        let message = json.report["problems"][0]["message"].as_str();
        assert!(message.is_some(), "{config}: {:#}", json.report);
        assert_eq!(json.report["version"], 1, "{config}: {:#}", json.report);
    }
    let missing = pool(&setup, 5432, "ca_file = \"/nonexistent/ca.pem\"");
    let missing = setup.run(&missing, &["check"]);
    assert_eq!(missing.code, Some(1));
    let named = "pools.orders.ca_file: /nonexistent/ca.pem cannot be read";
    assert!(missing.stderr.contains(named), "{}", missing.stderr);

    let wrong = pool(
        &setup,
        5432,
        "databse = \"orders\"\nmax_connections = \"many\"",
    ) + &format!(
        "[providers.other]\nkind = \"static\"\nuser = \"a\"\npassword = \"{SECRET}\"\n"
    );
    let json = setup.run(&wrong, &["doctor", "--json"]);
    let json: serde_json::Value = serde_json::from_str(&json.stdout).expect("JSON");
    assert_eq!(json["version"], 1);
    let keys = json["problems"].as_array().into_iter().flatten();
    let mut keys = keys.map(|problem| &problem["key"]);
    assert!(keys.any(|key| key == "pools.orders.databse"), "{json:#}");
    let wrong = setup.run(&wrong, &["check"]);
    assert_eq!(wrong.code, Some(1));
    for word in [
        "databse",
        "`database`",
        "max_connections",
        "providers.other.password",
    ] {
        assert!(wrong.stderr.contains(word), "{word}: {}", wrong.stderr);
    }
}

/// A part of the password would be the host, and be shown.
#[test]
fn a_separator_in_the_password_of_a_url_is_named_and_the_password_is_not_shown() {
    let setup = Setup::new();
    for command in ["check", "doctor", "exec"] {
        for url in [
            format!("postgres://app:p@{SECRET}#word@127.0.0.1:5432/orders"),
            format!("postgres://app:12#{SECRET}@127.0.0.1:5432/orders"),
            format!("postgres://app:12/{SECRET}@127.0.0.1:5432/orders"),
        ] {
            let mut run = setup.command("", &[command]);
            if command == "exec" {
                run.args(["--", "true"]);
            }
            run.env_remove("CLAVIGER_CONFIG").current_dir("/");
            let output = run.env("DATABASE_URL", &url).output().expect("it runs");
            let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
            let shown = text(&output.stdout) + &text(&output.stderr);
            let problem = "the environment: DATABASE_URL: has a raw `#`";
            assert!(shown.contains(problem), "{command} {url}: {shown}");
            assert!(!shown.contains(SECRET), "{command}: {shown}");
        }
    }
    let config = pool(&setup, 5432, "");
    let url = format!("postgres://admin:p@{SECRET}#word@127.0.0.1/postgres");
    let admin = setup.run(&config, &["doctor", "--admin-url", &url]);
    assert_eq!(admin.code, Some(2), "{}", admin.stderr);
    assert!(admin.stderr.contains("has a raw `#`"), "{}", admin.stderr);
    let url = format!("http://operator:p/{SECRET}@127.0.0.1:8081");
    let status = setup.run("", &["status", "--url", &url]);
    assert_eq!(status.code, Some(2), "{}", status.stderr);
}

#[test]
fn wrong_arguments_have_a_code_of_their_own() {
    let setup = Setup::new();
    let config = pool(&setup, 5432, "");
    for arguments in [
        &["doctor", "oders"][..],
        &["doctor", "--admin-url", "kestrel"],
        &["exec", "oders", "--", "true"],
        &["exec"],
        &["unknown"],
    ] {
        let run = setup.run(&config, arguments);
        assert_eq!(run.code, Some(2), "{arguments:?}: {}", run.stderr);
        assert!(!run.stderr.is_empty());
    }
    let unknown = setup.run(&config, &["doctor", "oders"]);
    assert!(unknown.stderr.contains("orders"), "{}", unknown.stderr);
}

#[test]
fn a_command_has_the_credentials_in_its_environment() {
    let server = Postgres::start().expect("a server");
    let password = "p:/?#[]@%&= '\"";
    server.create_role("app", password).expect("a role");
    let setup = Setup::new();
    setup.write("password", password);
    let config = pool(
        &setup,
        server.port(),
        "database = \"postgres\"\nssl_mode = \"disable\"",
    );
    let select = "SELECT 'user ' || current_user";
    for command in [
        &["psql", "-Atc", select][..],
        &[
            "sh",
            "-c",
            "env -u PGPASSWORD psql \"$DATABASE_URL\" -Atc \"SELECT 'user ' || current_user\"",
        ],
    ] {
        let mut arguments = vec!["exec", "orders", "--"];
        arguments.extend(command);
        let run = setup.run(&config, &arguments);
        assert_eq!(run.code, Some(0), "{}", run.stderr);
        assert_eq!(run.stdout.trim(), "user app");
    }
}

#[test]
fn inherited_variables_do_not_lead_a_command_to_another_server() {
    let server = Postgres::start().expect("a server");
    server.create_role("app", SECRET).expect("a role");
    let setup = Setup::new();
    // The pool has no database: it is that of PGDATABASE.
    let config = pool(&setup, server.port(), "ssl_mode = \"disable\"");
    let select = "SELECT 'in ' || current_database() || current_setting('search_path')";
    let mut command = setup.command(&config, &["exec", "--", "psql", "-Atc", select]);
    for (name, value) in [
        ("PGHOSTADDR", "192.0.2.1"),
        ("PGSERVICE", "elsewhere"),
        ("PGSERVICEFILE", "/nonexistent"),
        ("PGDATABASE", "postgres"),
        ("PGOPTIONS", "-c search_path=elsewhere"),
        ("PGSSLCERT", "/nonexistent"),
        ("PGCONNECT_TIMEOUT", "60"),
    ] {
        command.env(name, value);
    }
    let output = command.output().expect("it runs");
    let shown = String::from_utf8_lossy(&output.stdout).into_owned();
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(shown.trim(), "in postgres\"$user\", public", "{error}");
}

#[test]
fn exit_codes_and_signals_pass_through() {
    let setup = Setup::new();
    let config = pool(&setup, 5432, "");
    let code = |command: &[&str]| {
        let mut arguments = vec!["exec", "--"];
        arguments.extend(command);
        setup.run(&config, &arguments).code
    };
    assert_eq!(code(&["sh", "-c", "exit 7"]), Some(7));
    assert_eq!(code(&["sh", "-c", "kill -9 $$"]), Some(128 + 9));
    assert_eq!(code(&["/nonexistent/program"]), Some(127));
    assert_eq!(code(&["/"]), Some(126));
    setup.write("password", "\n");
    assert_eq!(code(&["true"]), Some(125));
    setup.write("password", SECRET);

    // The command handles the signal itself.
    let script = "trap 'exit 42' TERM; echo ready; while :; do sleep 0.05; done";
    let mut running = setup
        .command(&config, &["exec", "--", "sh", "-c", script])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .expect("it runs");
    let output = running.stdout.take().expect("its output");
    let mut line = String::new();
    BufReader::new(output).read_line(&mut line).expect("a line");
    assert_eq!(line, "ready\n");
    let id = i32::try_from(running.id()).ok().and_then(Pid::from_raw);
    kill_process(id.expect("its id"), Signal::TERM).expect("sent");
    assert_eq!(running.wait().expect("it ends").code(), Some(42));
}

/// What `exec` writes is read by `Config::from_env`, as by the clients.
#[test]
fn the_variables_of_a_command_are_a_configuration() {
    let setup = Setup::new();
    let file = |name: &str| setup.write(name, "PEM");
    let (ca, certificate, key) = (file("ca file.pem"), file("cert.pem"), file("key.pem"));
    let check = format!(
        "cd / && exec env -u CLAVIGER_CONFIG {} check",
        env!("CARGO_BIN_EXE_claviger")
    );
    let files = format!(
        "ca_file = \"{ca}\"\nclient_certificate_file = \"{certificate}\"\n\
         client_key_file = \"{key}\"\ndatabase = \"orders/eu\"\n"
    );
    for more in [
        "",
        "ssl_mode = \"disable\"",
        "ssl_mode = \"verify-full\"",
        &files,
        &format!("{files}kind = \"mysql\""),
        "kind = \"mysql\"\nssl_mode = \"require\"",
        "kind = \"redis\"\nssl_mode = \"verify-full\"",
    ] {
        let config = pool(&setup, 5432, more);
        let run = setup.run(&config, &["exec", "--", "sh", "-c", &check]);
        assert_eq!(run.code, Some(0), "{more}: {}", run.stderr);
        assert!(
            run.stdout.starts_with("1 pool and"),
            "{more}: {}",
            run.stdout
        );
    }
}

/// libpq reads authorities of the platform from a file alone, before version 16.
#[test]
fn a_verified_server_is_verified_by_the_command_without_a_ca_file() {
    let server = Postgres::builder().tls().start().expect("a server");
    server.create_role("app", SECRET).expect("a role");
    let setup = Setup::new();
    let more = "database = \"postgres\"\nssl_mode = \"verify-full\"";
    let config = pool(&setup, server.port(), more);
    let select = "SELECT 'TLS ' || ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()";
    let by_url = format!("env -u PGSSLROOTCERT psql \"$DATABASE_URL\" -Atc \"{select}\"");
    for command in [&["psql", "-Atc", select][..], &["sh", "-c", &by_url]] {
        let mut arguments = vec!["exec", "--"];
        arguments.extend(command);
        let mut exec = setup.command(&config, &arguments);
        // The platform's authorities.
        exec.env("SSL_CERT_FILE", server.ca_file().expect("it has TLS"));
        let output = exec.output().expect("it runs");
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        let shown = String::from_utf8_lossy(&output.stdout).into_owned();
        assert_eq!(shown.trim(), "TLS true", "{error}");
    }
}
