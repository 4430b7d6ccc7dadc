//! Settings of a server, and its start.

use std::fs;

use super::{OpenBao, config, launch};
use crate::error::{StartError, io};
use crate::guardian::{Guardian, SharedGuardian, Signal};
use crate::launch::on_a_free_port;
use crate::ports::free_port;
use crate::programs::Programs;
use crate::server::Server;
use crate::tls::{Authorities, authorities};

/// An OpenBao server to start.
#[derive(Debug, Default)]
#[must_use = "nothing runs before `start`"]
pub struct OpenBaoBuilder {
    programs: Option<Programs>,
    tls: bool,
}

impl OpenBaoBuilder {
    /// Adds a second listener with TLS. Its certificate is for `localhost` and `127.0.0.1`, by an
    /// authority of this server: see [`OpenBao::tls_address`] and [`OpenBao::ca_file`].
    #[cfg(feature = "tls")]
    pub fn tls(mut self) -> Self {
        self.tls = true;
        self
    }

    /// Sets where to look for the program. Default: [`Programs::from_environment`].
    pub fn programs(mut self, programs: Programs) -> Self {
        self.programs = Some(programs);
        self
    }

    /// Starts the server, initialises and unseals it, and waits until it is active, about 3 s.
    ///
    /// # Errors
    /// [`StartError::NotInstalled`] without `bao` on this machine. A server that ends, or is not
    /// ready within 30 s, is an error with the end of its log. Nothing is left behind.
    pub fn start(self) -> Result<OpenBao, StartError> {
        let program = self
            .programs
            .unwrap_or_else(Programs::from_environment)
            .find(Server::OpenBao)?;
        // Runs as the user of the test, because others may not have access to the program.
        let mut guardian = Guardian::start(None, Signal::Kill)?;
        let folder = guardian.folder().to_owned();
        fs::create_dir(folder.join("data")).map_err(io("make the server's data folder"))?;
        let authorities = authorities(self.tls, &folder, None)?;
        let file = folder.join("config.hcl");
        let mut tls_port = None;
        let port = on_a_free_port(|port| {
            tls_port = authorities.as_ref().map(|_| free_port()).transpose()?;
            fs::write(&file, config::text(&folder, port, tls_port))
                .map_err(io("write the server's settings"))?;
            launch(&mut guardian, &program, &file, port)
        })?;
        let ca_file = authorities.map(|Authorities { own, .. }| own);
        let mut server = OpenBao {
            guardian: SharedGuardian::new(guardian),
            program,
            config: file,
            port,
            tls_port,
            ca_file,
            root_token: String::new(),
            unseal_key: String::new(),
        };
        server.initialise()?;
        server.unseal().map_err(io("unseal the server"))?;
        Ok(server)
    }
}
