//! Programs are found in temporary folders that imitate machines. Needs no server.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on may panic")]

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use claviger_servers::{MariaDb, NotInstalled, Postgres, Programs, Server, StartError};
use tempfile::TempDir;

/// Creates a folder and locks out other tests.
///
/// A program cannot be run while a child process of another test has it open for writing.
fn temporary_folder() -> ((TempDir, MutexGuard<'static, ()>), PathBuf) {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let lock = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let folder = TempDir::new().unwrap();
    let path = fs::canonicalize(folder.path()).unwrap();
    ((folder, lock), path)
}

fn create_program(file: &Path, text: &str) {
    fs::create_dir_all(file.parent().unwrap()).unwrap();
    fs::write(file, text).unwrap();
    fs::set_permissions(file, fs::Permissions::from_mode(0o755)).unwrap();
}

fn create_postgres_in(folder: &Path) -> PathBuf {
    create_program(&folder.join("postgres"), "");
    create_program(&folder.join("initdb"), "");
    folder.to_owned()
}

fn find_postgres(programs: &Programs) -> Result<PathBuf, NotInstalled> {
    programs.find(Server::PostgreSql)
}

#[test]
fn a_missing_server_is_an_error_with_the_command_that_installs_it() {
    let error = Postgres::builder()
        .programs(Programs::nowhere())
        .start()
        .unwrap_err();
    assert!(matches!(error, StartError::NotInstalled(_)));
    assert_eq!(
        error.to_string(),
        "PostgreSQL is not installed; install it with: sudo apt-get install -y postgresql \
         (or: cargo xtask install postgresql)"
    );
}

#[test]
fn a_folder_without_the_programs_is_ignored() {
    let (_guard, root) = temporary_folder();
    create_program(
        &root.join("client/pg_config"),
        "#!/bin/sh\necho /nonexistent\n",
    );
    create_program(&root.join("half/postgres"), "");
    create_postgres_in(&root.join("plain"));
    fs::set_permissions(root.join("plain/initdb"), fs::Permissions::from_mode(0o644)).unwrap();
    let programs = Programs::nowhere()
        .path([root.join("client"), root.join("half"), root.join("plain")])
        .packaged(root.join("absent"));
    assert_eq!(
        find_postgres(&programs).unwrap_err().server(),
        Server::PostgreSql
    );
}

#[test]
fn a_link_in_the_path_leads_to_the_folder_of_the_programs() {
    let (_guard, root) = temporary_folder();
    let real = create_postgres_in(&root.join("lib/postgresql/17/bin"));
    fs::create_dir(root.join("bin")).unwrap();
    symlink(real.join("postgres"), root.join("bin/postgres")).unwrap();
    let programs = Programs::nowhere().path([root.join("empty"), root.join("bin")]);
    assert_eq!(find_postgres(&programs), Ok(real));
}

#[test]
fn pg_config_precedes_the_packaged_versions() {
    let (_guard, root) = temporary_folder();
    let real = create_postgres_in(&root.join("own"));
    create_postgres_in(&root.join("lib/99/bin"));
    create_program(
        &root.join("bin/pg_config"),
        &format!(
            "#!/bin/sh\n[ \"$1\" = --bindir ] && echo '{}'\n",
            real.display()
        ),
    );
    let programs = Programs::nowhere()
        .path([root.join("bin")])
        .packaged(root.join("lib"));
    assert_eq!(find_postgres(&programs), Ok(real));
}

#[test]
fn the_newest_packaged_version_is_used() {
    let (_guard, root) = temporary_folder();
    for version in ["9.6", "15", "16", "8.4"] {
        create_postgres_in(&root.join(version).join("bin"));
    }
    fs::create_dir_all(root.join("17/bin")).unwrap();
    fs::create_dir_all(root.join("common")).unwrap();
    let programs = Programs::nowhere().packaged(&root);
    assert_eq!(find_postgres(&programs), Ok(root.join("16/bin")));
}

#[test]
fn only_a_chosen_folder_is_searched() {
    let (_guard, root) = temporary_folder();
    let chosen = create_postgres_in(&root.join("chosen"));
    let other = create_postgres_in(&root.join("other"));
    let programs = Programs::nowhere().path([other]);
    assert_eq!(
        find_postgres(&programs.clone().chosen(Server::PostgreSql, &chosen)),
        Ok(chosen)
    );

    let error =
        find_postgres(&programs.chosen(Server::PostgreSql, root.join("wrong_folder"))).unwrap_err();
    assert!(
        error.to_string().contains("CLAVIGER_POSTGRES_BIN"),
        "{error}"
    );
    assert!(error.to_string().contains("wrong_folder"), "{error}");
}

/// Creates a Python with or without moto and boto3; it ignores the script.
fn create_python(file: &Path, has_packages: bool) -> PathBuf {
    create_program(
        file,
        if has_packages {
            "#!/bin/sh\nexit 0\n"
        } else {
            "#!/bin/sh\nexit 1\n"
        },
    );
    file.to_owned()
}

#[test]
fn a_python_without_moto_is_ignored() {
    let (_guard, root) = temporary_folder();
    let without_moto = create_python(&root.join("one/python3"), false);
    let programs = Programs::nowhere().path([root.join("one")]);
    assert_eq!(
        programs.find(Server::Moto).unwrap_err().server(),
        Server::Moto
    );
    assert!(
        programs
            .find(Server::Moto)
            .unwrap_err()
            .to_string()
            .contains("cargo xtask install moto")
    );

    let with_moto = create_python(&root.join("two/python3"), true);
    let programs = programs.path([root.join("one"), root.join("two")]);
    assert_eq!(programs.find(Server::Moto).as_ref(), Ok(&with_moto));

    // Choosing a Python without moto is an error; no other is used instead.
    let error = programs
        .clone()
        .chosen(Server::Moto, &without_moto)
        .find(Server::Moto)
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("CLAVIGER_MOTO_PYTHON") && error.contains("moto[server] and boto3"),
        "{error}"
    );
    assert_eq!(
        programs
            .chosen(Server::PostgreSql, &without_moto)
            .find(Server::Moto),
        Ok(with_moto)
    );
}

#[test]
fn a_link_to_a_python_is_not_resolved() {
    let (_guard, root) = temporary_folder();
    let real = create_python(&root.join("lib/python3.99"), true);
    fs::create_dir(root.join("bin")).unwrap();
    symlink(real, root.join("bin/python3")).unwrap();
    let programs = Programs::nowhere().path([root.join("bin")]);
    assert_eq!(programs.find(Server::Moto), Ok(root.join("bin/python3")));
}

#[test]
fn every_server_has_an_install_command() {
    for server in Server::ALL {
        assert!(!server.tag().contains(char::is_whitespace));
        for package in server.debian_packages() {
            assert!(server.install_command().contains(package));
        }
    }
}

/// Creates a MariaDB without plugins in the folders that packages use.
fn create_mariadb_without_plugins_in(root: &Path) -> PathBuf {
    create_program(&root.join("sbin/mariadbd"), "");
    create_program(&root.join("bin/mariadb"), "");
    fs::create_dir_all(root.join("share/mysql")).unwrap();
    for table in [
        "mysql_system_tables.sql",
        "mysql_performance_tables.sql",
        "mysql_system_tables_data.sql",
    ] {
        fs::write(root.join("share/mysql").join(table), "").unwrap();
    }
    root.join("sbin")
}

fn create_plugins_in(folder: &Path) {
    fs::create_dir_all(folder).unwrap();
    for plugin in ["server_audit.so", "sql_errlog.so", "auth_pam_v1.so"] {
        fs::write(folder.join(plugin), "").unwrap();
    }
}

#[test]
fn mariadb_is_found_with_plugins_beside_it_or_in_the_tools_folder() {
    let (_guard, root) = temporary_folder();
    let server = create_mariadb_without_plugins_in(&root.join("usr"));
    let tools = root.join("tools");
    let programs = Programs::nowhere().path([server.clone()]).tools(&tools);
    assert_eq!(
        programs.find(Server::MariaDb).unwrap_err().server(),
        Server::MariaDb
    );

    create_plugins_in(&tools.join("mariadb-plugins"));
    assert_eq!(programs.find(Server::MariaDb), Ok(server.clone()));
    fs::remove_file(tools.join("mariadb-plugins/sql_errlog.so")).unwrap();
    programs.find(Server::MariaDb).unwrap_err();

    create_plugins_in(&root.join("usr/lib/mysql/plugin"));
    assert_eq!(programs.find(Server::MariaDb), Ok(server.clone()));
    // A link is resolved because the other files are beside its target.
    fs::create_dir(root.join("links")).unwrap();
    symlink(server.join("mariadbd"), root.join("links/mariadbd")).unwrap();
    assert_eq!(
        Programs::nowhere()
            .path([root.join("links")])
            .find(Server::MariaDb),
        Ok(server.clone())
    );
    assert_eq!(
        Programs::nowhere()
            .chosen(Server::MariaDb, &server)
            .find(Server::MariaDb),
        Ok(server)
    );

    fs::remove_file(root.join("usr/bin/mariadb")).unwrap();
    programs.find(Server::MariaDb).unwrap_err();
}

#[test]
fn a_missing_mariadb_is_an_error_with_the_commands_that_install_it() {
    let error = MariaDb::builder()
        .programs(Programs::nowhere())
        .start()
        .unwrap_err();
    assert!(matches!(error, StartError::NotInstalled(_)));
    let command = "sudo apt-get install -y mariadb-server-core mariadb-client-core \
                   && cargo xtask install mariadb";
    assert!(error.to_string().contains(command), "{error}");
    let error = MariaDb::builder()
        .programs(Programs::nowhere().chosen(Server::MariaDb, "/nonexistent"))
        .start()
        .unwrap_err();
    assert!(
        error.to_string().contains("CLAVIGER_MARIADB_BIN"),
        "{error}"
    );
}

#[test]
fn prometheus_in_the_path_takes_precedence_and_requires_promtool() {
    let (_guard, root) = temporary_folder();
    for folder in ["path", "tools/prometheus"] {
        create_program(&root.join(folder).join("prometheus"), "");
        create_program(&root.join(folder).join("promtool"), "");
    }
    let programs = Programs::nowhere()
        .path([root.join("path")])
        .tools(root.join("tools"));
    assert_eq!(programs.find(Server::Prometheus), Ok(root.join("path")));
    fs::remove_file(root.join("path/promtool")).unwrap();
    assert_eq!(
        programs.find(Server::Prometheus),
        Ok(root.join("tools/prometheus"))
    );
    fs::remove_file(root.join("tools/prometheus/promtool")).unwrap();
    let error = programs.find(Server::Prometheus).unwrap_err().to_string();
    assert!(error.contains("cargo xtask install prometheus"), "{error}");
}
