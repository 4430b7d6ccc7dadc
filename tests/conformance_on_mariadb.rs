//! needs: mariadb, quiet
//!
//! sqlx's pools pass the conformance kit on MariaDB.

#[path = "majors/conformance.rs"]
mod conformance;

use claviger_fixtures as fixtures;
use claviger_servers::MariaDb as Subject;
