//! Credentials in mounted files.
