//! Checks of names and texts: accounts, servers, and that no secret is shown.

use claviger::pool::{AcquireError, PoolFactory};
use tokio::time::timeout;

use super::PoolControls;
use super::world::World;
use crate::conformance::runner::{CheckResult, Planned, STEP, planned, require, step};
use crate::conformance::tools::texts;

pub(super) fn checks<F: PoolFactory, C: PoolControls<F>>() -> Vec<Planned<World<F, C>>> {
    vec![
        planned(
            "account_and_server_outlast_a_password",
            "PoolFactory::account: \"Returns the database user of this secret and its server. \
             Failed logins are counted for each\"",
            account_and_server_outlast_a_password,
        ),
        planned(
            "no_secret_is_shown",
            "law 13: \"No secret is in any `Debug`, `Display`, log line, span, metric, panic, \
             error or page\"",
            no_secret_is_shown,
        ),
    ]
}

async fn account_and_server_outlast_a_password<F: PoolFactory, C: PoolControls<F>>(
    world: World<F, C>,
) -> CheckResult {
    let old = world.credentials();
    world.change_password().await?;
    let new = world.credentials();
    let factory = &world.factory;
    for (name, of_old, of_new) in [
        ("account", factory.account(&old), factory.account(&new)),
        ("server", factory.server(&old), factory.server(&new)),
    ] {
        let expected = format!("`{name}` is the same before and after a password change");
        require(of_old == of_new, expected, || {
            format!("{of_old:?}, then {of_new:?}")
        })?;
    }
    let Some(elsewhere) = world.unreachable_credentials() else {
        return Ok(());
    };
    let (here, there) = (factory.server(&new), factory.server(&elsewhere));
    // The default is one server for all secrets.
    let is_default = here.is_empty() && there.is_empty();
    let expected = "`server` differs for another address";
    require(is_default || here != there, expected, || {
        format!("{here:?} twice")
    })
}

async fn no_secret_is_shown<F: PoolFactory, C: PoolControls<F>>(world: World<F, C>) -> CheckResult {
    world.reset().await?;
    let old = world.credentials();
    world.change_password().await?;
    let new = world.credentials();
    let factory = &world.factory;
    let mut shown = vec![
        ("`Debug` of the factory", format!("{factory:?}")),
        ("`account`", factory.account(&old)),
        ("`server`", factory.server(&old)),
    ];
    let mut errors = Vec::new();
    if let Err(error) = step("`verify`", factory.verify(&old)).await? {
        errors.push((
            "`explain` of a rejection",
            factory.explain(&old, error.clone()),
        ));
        errors.push(("the error of `verify`", error));
    }
    let opened = world.open(&old)?;
    if let Ok(Err(error)) = timeout(STEP, factory.get(&opened.pool)).await {
        shown.push(("the error of `get`", texts(&error)));
        errors.push(("the classified error of `get`", factory.classify(&error)));
    }
    for error in opened.login_errors.lock().drain(..) {
        errors.push(("the classified error of a login", error));
    }
    if let Some(elsewhere) = world.unreachable_credentials()
        && let Err(error) = step("`verify`", factory.verify(&elsewhere)).await?
    {
        errors.push(("the error of an unreachable server", error));
    }
    for (what, error) in errors {
        shown.push((
            "an error for a caller",
            texts(&factory.error(AcquireError::Connect(&error))),
        ));
        shown.push((what, texts(&error)));
    }
    // After an update, too: the factory may have kept a secret.
    factory.update_in_place(&opened.pool, &old, &new);
    shown.push((
        "`Debug` of the factory after an update",
        format!("{factory:?}"),
    ));
    for (what, text) in shown {
        let expected = format!("{what} contains no password");
        require(!world.secrets.are_in(&text), expected, || {
            format!("it does: {text}")
        })?;
    }
    Ok(())
}
