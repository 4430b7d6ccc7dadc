//! The status page, served while the demo runs.

use claviger::Supervisor;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use crate::Problem;
use crate::screen::Screen;

/// Serves the page until it is dropped.
pub(crate) struct StatusPage(JoinHandle<()>);

impl StatusPage {
    /// Serves the page on a free port of this machine, and prints its address.
    pub(crate) async fn serve(screen: &Screen, supervisor: &Supervisor) -> Result<Self, Problem> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let routes = claviger_axum::page(supervisor).merge(claviger_axum::status(supervisor));
        screen.line(&format!(
            "the status page is at http://{address}/ until the end of the demo"
        ));
        Ok(Self(tokio::spawn(async move {
            // It ends with the demo, never before.
            let _ = axum::serve(listener, routes).await;
        })))
    }
}

impl Drop for StatusPage {
    fn drop(&mut self) {
        self.0.abort();
    }
}
