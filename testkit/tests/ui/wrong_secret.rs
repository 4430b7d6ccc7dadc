//! A provider of API keys under a database pool.

use claviger::error::ProviderError;
use claviger::provider::FetchRequest;
use claviger::{Lease, Revision, Supervisor, provider_fn};
use claviger_testkit::ScriptedPools;

struct ApiKey(&'static str);

async fn service(supervisor: Supervisor) -> Result<(), claviger::Error> {
    let keys = provider_fn(|_: FetchRequest<ApiKey>| async {
        Ok::<_, ProviderError>(Lease::new(ApiKey("key"), Revision::new("1")))
    });
    let keys = supervisor.add_provider("keys", keys).await?;
    supervisor
        .add_pool("orders", &keys, ScriptedPools::new(10))
        .await?;
    Ok(())
}

fn main() {
    drop(service(Supervisor::start()));
}
