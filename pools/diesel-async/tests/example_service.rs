//! needs: postgresql, quiet
//!
//! The example: a service takes orders while its password changes, and shuts down cleanly.

#![cfg(unix)]

use claviger_order_service::orders_succeed_while_the_password_changes;

#[expect(dead_code, reason = "its `main` reads the arguments of a process")]
#[path = "../examples/diesel_service.rs"]
mod service;

#[tokio::test(flavor = "multi_thread")]
async fn the_service_takes_orders_while_its_password_changes() {
    orders_succeed_while_the_password_changes(service::serve_until).await;
}
