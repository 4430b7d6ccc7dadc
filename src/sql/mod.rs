//! Parts of SQL pools that do not depend on the driver.

pub(crate) mod fixed;
pub(crate) mod forms;
#[cfg(feature = "mysql")]
pub(crate) mod mysql;
#[cfg(feature = "postgres")]
pub(crate) mod saslprep;
