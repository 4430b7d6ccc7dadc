//! Data folders of database servers. One per kind of server is created in a process; each server
//! gets a copy, which takes a tenth of the time.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use crate::account::Account;
use crate::error::{StartError, io};
use crate::guardian::{Guardian, Signal};

/// Guardians of the created folders, by the server's program. They delete the folders at the end of
/// this process.
static CREATED: Mutex<BTreeMap<PathBuf, Guardian>> = Mutex::new(BTreeMap::new());

/// Creates the folder `data` of a guardian. `create` creates a folder with the program's data, and
/// is called once for each program.
pub(crate) fn create_data_folder(
    guardian: &mut Guardian,
    account: Option<Account>,
    program: &Path,
    create: impl FnOnce(&mut Guardian) -> Result<(), StartError>,
) -> Result<PathBuf, StartError> {
    let mut created = CREATED.lock().unwrap_or_else(PoisonError::into_inner);
    if !created.contains_key(program) {
        let mut first = Guardian::start(account, Signal::Kill)?;
        create(&mut first)?;
        created.insert(program.to_owned(), first);
    }
    let source = created.get(program).map(data_of);
    drop(created);
    let data = data_of(guardian);
    let mut command = ["/bin/cp", "-a"].map(OsString::from).to_vec();
    command.extend(source.map(PathBuf::into_os_string));
    command.push(data.clone().into_os_string());
    guardian
        .run(&command)
        .map_err(io("copy the server's data folder"))?;
    Ok(data)
}

/// Returns the data folder of a guardian.
pub(crate) fn data_of(guardian: &Guardian) -> PathBuf {
    guardian.folder().join("data")
}
