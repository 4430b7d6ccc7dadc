//! needs: postgresql, pam, mariadb, redis, moto, openbao, pgbouncer
//!
//! Broken setups on real servers: the command names the cause of each, and prints no secret.

#![expect(clippy::expect_used, reason = "a test fails by panicking")]

mod catalogs;
mod certificates;
mod commands;
mod common;
mod handshakes;
mod leases;
mod networks;
mod other_servers;
mod poolers;
mod ports;
mod proxies;
mod redis;
mod rejections;
mod roles;
mod secrets;
mod services;
mod signals;
mod tokens;
mod vaults;
