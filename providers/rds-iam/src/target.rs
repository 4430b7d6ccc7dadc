//! What a token opens: one user on one endpoint.

use crate::host::Host;
use crate::user::User;

/// What a token opens: one user on one endpoint in one region.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    pub(crate) host: Host,
    pub(crate) port: u16,
    pub(crate) region: String,
    pub(crate) user: User,
}
