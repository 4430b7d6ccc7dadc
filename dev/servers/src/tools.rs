//! The tools folder in cargo's target folder: created once for all tests of a checkout, and deleted
//! with it.

use std::env;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use crate::nonce::nonce;

/// The folder's name in cargo's target folder.
const NAME: &str = "claviger-tools";

/// The files that identify cargo's target folder: the first is missing if another program created
/// the folder, the second stores the compiler's version.
const MARKS: [&str; 2] = ["CACHEDIR.TAG", ".rustc_info.json"];

/// Returns the tools folder, which need not exist: in the first folder above this program with
/// cargo's marks, else in `CARGO_TARGET_DIR`.
pub(crate) fn folder() -> Option<PathBuf> {
    let program = env::current_exe().ok();
    let above = program.as_deref().and_then(target_folder_above);
    let named = || {
        env::var_os("CARGO_TARGET_DIR")
            .filter(|folder| !folder.is_empty())
            .and_then(|folder| std::path::absolute(folder).ok())
    };
    Some(above.or_else(named)?.join(NAME))
}

fn target_folder_above(program: &Path) -> Option<PathBuf> {
    let is_marked = |folder: &&Path| MARKS.iter().any(|mark| folder.join(mark).is_file());
    program
        .ancestors()
        .skip(1)
        .find(is_marked)
        .map(Path::to_path_buf)
}

/// Returns the tool of this name, and creates it first if it is missing. The file or folder appears
/// complete or not at all. Other processes wait meanwhile.
///
/// `is_made` returns whether a path contains the complete tool; `make` creates it at a path where
/// nothing exists.
pub(crate) fn make_once<E: From<io::Error>>(
    tools: &Path,
    name: &str,
    is_made: impl Fn(&Path) -> bool,
    make: impl FnOnce(&Path) -> Result<(), E>,
) -> Result<PathBuf, E> {
    let tool = tools.join(name);
    fs::create_dir_all(tools)?;
    // Released when the file is closed, also by the end of the process.
    let lock = File::create(tools.join(format!("{name}.lock")))?;
    lock.lock()?;
    if is_made(&tool) {
        return Ok(tool);
    }
    remove_leftovers(tools, name)?;
    // A new path each time, because programs of a killed process may still write to the old one.
    let scratch = tools.join(format!("{name}.{}", nonce()));
    make(&scratch).inspect_err(|_| {
        // An error of `make` is more important than one of the clean-up.
        let _ = remove(&scratch);
    })?;
    remove(&tool)?;
    fs::rename(&scratch, &tool)?;
    Ok(tool)
}

/// Removes the leftovers of killed processes. What cannot be removed yet, because programs still
/// write to it, is removed the next time.
fn remove_leftovers(tools: &Path, name: &str) -> io::Result<()> {
    for entry in fs::read_dir(tools)? {
        let entry = entry?;
        let file = entry.file_name();
        let Some(suffix) = file
            .to_str()
            .and_then(|file| file.strip_prefix(name)?.strip_prefix('.'))
        else {
            continue;
        };
        if suffix != "lock" {
            let _ = remove(&entry.path());
        }
    }
    Ok(())
}

fn remove(path: &Path) -> io::Result<()> {
    let removed = match fs::symlink_metadata(path) {
        Ok(found) if found.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(error) => Err(error),
    };
    match removed {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test that cannot go on may panic")]

    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::thread;

    use super::*;

    const TOOL: &str = "tool-1.0";

    fn is_complete(tool: &Path) -> bool {
        fs::read_to_string(tool.join("file")).is_ok_and(|text| text == "complete")
    }

    fn write(folder: &Path, text: &str) -> io::Result<()> {
        fs::create_dir(folder)?;
        fs::write(folder.join("file"), text)
    }

    fn content(tools: &Path) -> Vec<String> {
        let mut names: Vec<_> = fs::read_dir(tools)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn concurrent_calls_create_the_tool_once() {
        let root = tempfile::tempdir().unwrap();
        let tools = root.path().join("not/there/yet");
        let made = AtomicUsize::new(0);
        thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    let tool = make_once::<io::Error>(&tools, TOOL, is_complete, |scratch| {
                        made.fetch_add(1, Ordering::SeqCst);
                        assert!(!tools.join(TOOL).exists());
                        write(scratch, "complete")
                    });
                    assert!(is_complete(&tool.unwrap()));
                });
            }
        });
        assert_eq!(made.into_inner(), 1);
        assert_eq!(content(&tools), [TOOL.to_owned(), format!("{TOOL}.lock")]);
    }

    #[test]
    fn incomplete_tools_and_leftovers_are_never_used() {
        let root = tempfile::tempdir().unwrap();
        let tools = root.path();
        for leftover in [TOOL.to_owned(), format!("{TOOL}.0123")] {
            write(&tools.join(leftover), "half").unwrap();
        }
        write(&tools.join("tool-1.01"), "of another").unwrap();
        let failed = make_once::<io::Error>(tools, TOOL, is_complete, |scratch| {
            write(scratch, "half")?;
            Err(io::Error::other("the network is down"))
        });
        assert_eq!(failed.unwrap_err().to_string(), "the network is down");
        assert!(!is_complete(&tools.join(TOOL)));
        let tool = make_once::<io::Error>(tools, TOOL, is_complete, |scratch| {
            write(scratch, "complete")
        })
        .unwrap();
        assert!(is_complete(&tool));
        assert_eq!(
            content(tools),
            [
                TOOL.to_owned(),
                format!("{TOOL}.lock"),
                "tool-1.01".to_owned()
            ]
        );
    }

    #[test]
    fn the_target_folder_is_the_nearest_marked_one() {
        let root = tempfile::tempdir().unwrap();
        let target = root.path().join("target");
        fs::create_dir_all(target.join("debug/deps")).unwrap();
        let program = target.join("debug/deps/laws-0123");
        assert_eq!(target_folder_above(&program), None);
        fs::write(root.path().join(MARKS[0]), "").unwrap();
        for mark in MARKS {
            fs::write(target.join(mark), "").unwrap();
            assert_eq!(
                target_folder_above(&program).as_ref(),
                Some(&target),
                "{mark}"
            );
            fs::remove_file(target.join(mark)).unwrap();
        }
        // This program is in one.
        assert!(folder().is_some_and(|folder| folder.ends_with(NAME)));
    }
}
