//! Servers from Python's package index, in environments created by `venv` and `pip`.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::install::{InstallError, debian, report_step, run_step};
use crate::programs::Programs;
use crate::server::Server;
use crate::tools;

/// Scripts that succeed if a Python can create environments, install a pip in them, or has a pip.
/// Debian packages `ensurepip` separately.
const HAS_VENV: &str = "import sys, venv; sys.exit(sys.version_info < (3, 10))";
const HAS_ENSUREPIP: &str = "import ensurepip";
const HAS_PIP: &str = "import pip";

/// Prints the folder of a Python's packages.
const PACKAGES_FOLDER: &str = "import sysconfig; print(sysconfig.get_path('purelib'))";

/// An environment to create in the tools folder.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Environment<'a> {
    /// The server that needs it.
    pub(crate) server: Server,
    /// Its name in the tools folder.
    pub(crate) folder: &'a str,
    /// The packages, as `name==version`.
    pub(crate) packages: &'a [String],
}

impl Environment<'_> {
    /// Creates the environment, unless `is_made` finds it, and returns its folder.
    pub(crate) fn make(
        self,
        programs: &Programs,
        is_made: impl Fn(&Path) -> bool,
    ) -> Result<PathBuf, InstallError> {
        let tools = tools::folder().ok_or(InstallError::NoTargetFolder(self.server))?;
        let maker = match Maker::find(programs) {
            Some(maker) => maker,
            None => {
                debian(self.server)?;
                Maker::find(programs).ok_or_else(|| {
                    InstallError::StillMissing(programs.not_installed(self.server))
                })?
            }
        };
        tools::make_once(&tools, self.folder, is_made, |scratch| {
            maker.make(self, scratch)
        })
    }
}

/// Returns the Python of an environment.
pub(crate) fn python_in(environment: &Path) -> PathBuf {
    environment.join("bin/python3")
}

/// Returns whether this Python runs the script without an error.
pub(crate) fn succeeds(python: &Path, script: &str) -> bool {
    let mut command = Command::new(python);
    command
        .args(["-c", script])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

/// A Python that can create environments.
#[derive(Debug, PartialEq, Eq)]
struct Maker {
    python: PathBuf,
    pip: Pip,
}

/// The pip of the new environment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pip {
    /// The environment has a pip of its own.
    Own,
    /// The pip of the Python that creates it is used.
    Makers,
}

impl Maker {
    /// Returns the first Python in the PATH that can install a pip, else the first that has one.
    fn find(programs: &Programs) -> Option<Self> {
        let pythons: Vec<_> = programs
            .each_in_path("python3")
            .filter(|python| succeeds(python, HAS_VENV))
            .collect();
        let first_with = |pip, check| {
            Some(Self {
                python: pythons
                    .iter()
                    .find(|python| succeeds(python, check))?
                    .clone(),
                pip,
            })
        };
        first_with(Pip::Own, HAS_ENSUREPIP).or_else(|| first_with(Pip::Makers, HAS_PIP))
    }

    /// Creates the environment in this folder, which must not exist. It can be moved afterwards,
    /// because only the scripts beside `python3` contain the folder.
    fn make(&self, wanted: Environment<'_>, environment: &Path) -> Result<(), InstallError> {
        let Environment {
            server, packages, ..
        } = wanted;
        report_step(&format!(
            "{server} is missing; {} creates an environment with {}",
            self.python.display(),
            packages.join(" and ")
        ))?;
        let mut venv = Command::new(&self.python);
        venv.args(["-m", "venv"]);
        if self.pip == Pip::Makers {
            venv.arg("--without-pip");
        }
        run_step(server, venv.arg(environment))?;

        let made = python_in(environment);
        let mut pip = match self.pip {
            Pip::Own => Command::new(&made),
            Pip::Makers => Command::new(&self.python),
        };
        pip.args([
            "-m",
            "pip",
            "install",
            "--quiet",
            "--no-input",
            "--disable-pip-version-check",
        ]);
        if self.pip == Pip::Makers {
            let output = Command::new(&made)
                .args(["-c", PACKAGES_FOLDER])
                .stdin(Stdio::null())
                .output()?;
            pip.arg("--target")
                .arg(String::from_utf8_lossy(&output.stdout).trim());
        }
        run_step(server, pip.args(packages))
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test that cannot go on may panic")]

    use std::fs;

    use super::*;

    fn packages() -> [String; 2] {
        ["one[part]==1".to_owned(), "two==2".to_owned()]
    }

    fn wanted(packages: &[String]) -> Environment<'_> {
        Environment {
            server: Server::Moto,
            folder: "one",
            packages,
        }
    }

    /// A fake Python that records its calls and creates environments with another fake. `PARTS` are
    /// its modules.
    const PYTHON: &str = r#"#!/bin/sh
parts=" PARTS "
echo "$@" >>"NOTES"
case $*:$parts in
*purelib*) echo /packages ;;
'-c import ensurepip'*' ensurepip '* | '-c import pip'*' pip '* | '-c import sys, venv'*' venv '*) ;;
'-m pip install '*' pip '*) ;;
'-m venv --without-pip '*' venv '*) mkdir -p "$4/bin" && sed 's/^parts=.*/parts=/' "$0" >"$4/bin/python3" && chmod +x "$4/bin/python3" ;;
'-m venv '*' venv '*) mkdir -p "$3/bin" && sed 's/^parts=.*/parts=" pip "/' "$0" >"$3/bin/python3" && chmod +x "$3/bin/python3" ;;
*) exit 1 ;;
esac
"#;

    /// Pythons in the PATH, by the modules that each has, and their recorded calls.
    struct Machine {
        root: tempfile::TempDir,
        programs: Programs,
    }

    impl Machine {
        fn with(pythons: &[&str]) -> Self {
            let root = tempfile::tempdir().unwrap();
            let notes = root.path().join("notes");
            let mut path = Vec::new();
            for (number, parts) in pythons.iter().enumerate() {
                let folder = root.path().join(number.to_string());
                fs::create_dir(&folder).unwrap();
                let text = PYTHON
                    .replace("PARTS", parts)
                    .replace("NOTES", &notes.to_string_lossy());
                // Written by another process: a program that this process, or a child that inherits
                // its files, has open for writing cannot be run.
                let mut shell = Command::new("sh");
                shell
                    .args(["-c", r#"printf %s "$1" >"$0" && chmod +x "$0""#])
                    .arg(folder.join("python3"))
                    .arg(text);
                assert!(shell.status().unwrap().success());
                path.push(folder);
            }
            Self {
                programs: Programs::nowhere().path(path),
                root,
            }
        }

        fn python(&self, number: usize) -> PathBuf {
            self.root.path().join(number.to_string()).join("python3")
        }

        fn notes(&self) -> String {
            fs::read_to_string(self.root.path().join("notes")).unwrap()
        }
    }

    #[test]
    fn a_python_that_installs_pip_is_preferred_to_one_that_has_pip() {
        let found = |pythons: &[&str]| {
            let machine = Machine::with(pythons);
            Maker::find(&machine.programs).map(|maker| {
                (
                    (0..pythons.len()).find(|&number| machine.python(number) == maker.python),
                    maker.pip,
                )
            })
        };
        assert_eq!(
            found(&["", "venv pip", "venv ensurepip"]),
            Some((Some(2), Pip::Own))
        );
        assert_eq!(
            found(&["venv", "ensurepip pip", "venv pip"]),
            Some((Some(2), Pip::Makers))
        );
        assert_eq!(found(&["venv", "ensurepip pip"]), None);
        assert_eq!(found(&[]), None);
    }

    #[test]
    fn packages_are_installed_by_the_environments_pip() {
        let machine = Machine::with(&["venv ensurepip"]);
        let environment = machine.root.path().join("environment");
        Maker::find(&machine.programs)
            .unwrap()
            .make(wanted(&packages()), &environment)
            .unwrap();
        let notes = machine.notes();
        assert!(
            notes.ends_with(" --disable-pip-version-check one[part]==1 two==2\n"),
            "{notes}"
        );
        assert!(
            !notes.contains("--without-pip") && !notes.contains("--target"),
            "{notes}"
        );
        assert!(python_in(&environment).exists());
    }

    #[test]
    fn the_makers_pip_installs_into_the_environment() {
        let machine = Machine::with(&["venv pip"]);
        let environment = machine.root.path().join("environment");
        Maker::find(&machine.programs)
            .unwrap()
            .make(wanted(&packages()), &environment)
            .unwrap();
        let notes = machine.notes();
        assert!(
            notes.contains(&format!(
                "-m venv --without-pip {}\n",
                environment.display()
            )),
            "{notes}"
        );
        assert!(
            notes.ends_with(" --target /packages one[part]==1 two==2\n"),
            "{notes}"
        );
    }

    #[test]
    fn a_step_that_fails_is_an_error() {
        let machine = Machine::with(&["ensurepip"]);
        let maker = Maker {
            python: machine.python(0),
            pip: Pip::Own,
        };
        assert!(matches!(
            maker.make(
                wanted(&packages()),
                &machine.root.path().join("environment")
            ),
            Err(InstallError::Failed(Server::Moto, _))
        ));
    }
}
