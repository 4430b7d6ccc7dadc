//! Checks of errors: their kinds, codes and conversions.

use claviger::error::{ConnectError, ConnectErrorKind};
use claviger::pool::{AcquireError, PoolFactory};
use tokio::time::{sleep, timeout};

use super::PoolControls;
use super::verification::require_error_of_kind;
use super::world::World;
use crate::conformance::runner::{
    CheckResult, Planned, STEP, WATCH, eventually, failed, not_applicable, planned, require, step,
};
use crate::conformance::tools::show;

pub(super) fn checks<F: PoolFactory, C: PoolControls<F>>() -> Vec<Planned<World<F, C>>> {
    vec![
        planned(
            "classify_recognises_a_rejected_login",
            "PoolFactory::classify: \"Classifies an error\"; law 5: a rejection causes one fetch",
            classify_recognises_a_rejected_login,
        ),
        planned(
            "classify_keeps_the_code",
            "PoolFactory::classify: \"Other callers get its message and SQLSTATE\"",
            classify_keeps_the_code,
        ),
        planned(
            "a_rejected_login_is_not_repeated",
            "PoolFactory::verify: \"Logs in without a pool\", because \"pools retry\"; law 11: \
             failed logins are bounded",
            a_rejected_login_is_not_repeated,
        ),
        planned(
            "an_unreachable_server_is_no_rejection",
            "law 6: \"only a rejection causes a fetch. A network error … does not\"",
            an_unreachable_server_is_no_rejection,
        ),
        planned(
            "error_keeps_a_shared_rejection",
            "AcquireError::Connect: \"The error that all waiting callers share\"",
            error_keeps_a_shared_rejection,
        ),
        planned(
            "time_outs_and_closed_pools_are_recognised",
            "PoolFactory::is_timeout and is_closed: \"Returns whether this is\" the timeout, or \
             the error of a closed pool",
            time_outs_and_closed_pools_are_recognised,
        ),
    ]
}

/// Returns the error of a login in the pool, as the library classifies it.
async fn login_error<F: PoolFactory, C: PoolControls<F>>(
    world: &World<F, C>,
    credentials: &F::Secret,
) -> CheckResult<ConnectError> {
    let opened = world.open(credentials)?;
    let got = timeout(STEP, world.factory.get(&opened.pool)).await;
    let expected = "an error of the login";
    // A pool with a queue of its own may keep the login's error, and let its caller wait.
    let login_error = opened.login_errors.lock().first().cloned();
    match (login_error, got) {
        (Some(error), _) => Ok(error),
        (None, Ok(Err(error))) => Ok(world.factory.classify(&error).with_source(error)),
        (None, Ok(Ok(_))) => Err(failed(expected, "`get` returned a connection")),
        (None, Err(_)) => Err(failed(expected, "`get` was pending for 10 s")),
    }
}

async fn rejection<F: PoolFactory, C: PoolControls<F>>(
    world: &World<F, C>,
) -> CheckResult<(F::Secret, ConnectError)> {
    world.reset().await?;
    let old = world.credentials();
    world.change_password().await?;
    let error = login_error(world, &old).await?;
    Ok((old, error))
}

async fn classify_recognises_a_rejected_login<F: PoolFactory, C: PoolControls<F>>(
    world: World<F, C>,
) -> CheckResult {
    let (_, error) = rejection(&world).await?;
    require_error_of_kind(ConnectErrorKind::Rejected, Err(error))
}

async fn classify_keeps_the_code<F: PoolFactory, C: PoolControls<F>>(
    world: World<F, C>,
) -> CheckResult {
    let (old, error) = rejection(&world).await?;
    let verified = step("`verify`", world.factory.verify(&old)).await?;
    let Err(verified) = verified else {
        return Err(failed("`verify` rejects an old password", "it succeeded"));
    };
    let (code, expected) = (error.code(), verified.code());
    require(
        code == expected,
        format!("the code {expected:?} of `verify`"),
        || format!("{code:?}: {}", show(&error)),
    )?;
    let expected = "the server's message";
    require(!error.message().is_empty(), expected, || "none".to_owned())
}

async fn a_rejected_login_is_not_repeated<F: PoolFactory, C: PoolControls<F>>(
    world: World<F, C>,
) -> CheckResult {
    world.reset().await?;
    let old = world.credentials();
    world.change_password().await?;
    let before = rejected_logins(&world).await?;
    let _ = step("`verify`", world.factory.verify(&old)).await?;
    require_rejected(&world, "one `verify`", before, || 1).await?;
    let before = rejected_logins(&world).await?;
    let opened = world.open(&old)?;
    let has_own_queue = world.factory.settings().own_queue;
    // A queue may repeat a login, for which it needs another permit.
    let permitted = || match u32::try_from(opened.permits.granted()) {
        Ok(granted) if has_own_queue => granted,
        _ => 1,
    };
    let _ = timeout(STEP / 2, world.factory.get(&opened.pool)).await;
    let rejected = require_rejected(&world, "one `get`", before, permitted).await;
    world.abandon(&opened).await;
    rejected
}

async fn rejected_logins<F: PoolFactory, C: PoolControls<F>>(
    world: &World<F, C>,
) -> CheckResult<u32> {
    let rejected = world.controls.rejected_logins().await?;
    rejected.ok_or_else(|| not_applicable("the controls have no `rejected_logins`"))
}

/// Fails unless the number of rejected logins has grown since `before`, by at most the result of
/// `permitted`.
async fn require_rejected<F: PoolFactory, C: PoolControls<F>>(
    world: &World<F, C>,
    call: &str,
    before: u32,
    permitted: impl Fn() -> u32,
) -> CheckResult {
    let expected = format!("the database rejects the login of {call}");
    eventually(&expected, async || {
        let is_rejected = rejected_logins(world).await? > before;
        Ok((!is_rejected).then(|| "it rejected none".to_owned()))
    })
    .await?;
    sleep(WATCH).await;
    let rejected = rejected_logins(world).await?.saturating_sub(before);
    let permitted = permitted();
    let expected = format!("at most {permitted} rejected logins of {call}");
    require(rejected <= permitted, expected, || rejected.to_string())
}

async fn an_unreachable_server_is_no_rejection<F: PoolFactory, C: PoolControls<F>>(
    world: World<F, C>,
) -> CheckResult {
    let Some(elsewhere) = world.unreachable_credentials() else {
        return Err(not_applicable(
            "the controls have no `unreachable_credentials`",
        ));
    };
    world.reset().await?;
    let opened = world.open(&elsewhere)?;
    // Some pools retry until their own timeout.
    let got = timeout(STEP / 4, world.factory.get(&opened.pool)).await;
    let mut errors = opened.login_errors.lock().clone();
    match got {
        Ok(Ok(_)) => return Err(failed("an error", "`get` returned a connection")),
        Ok(Err(error)) => errors.push(world.factory.classify(&error)),
        Err(_) => {}
    }
    let rejected = errors
        .iter()
        .find(|error| error.kind() == ConnectErrorKind::Rejected);
    require(rejected.is_none(), "any kind but `Rejected`", || {
        rejected.map(|error| show(error)).unwrap_or_default()
    })
}

async fn error_keeps_a_shared_rejection<F: PoolFactory, C: PoolControls<F>>(
    world: World<F, C>,
) -> CheckResult {
    let (old, of_login) = rejection(&world).await?;
    let verified = step("`verify`", world.factory.verify(&old)).await?;
    for rejection in verified.err().iter().chain([&of_login]) {
        let shared = world.factory.error(AcquireError::Connect(rejection));
        let classified = world.factory.classify(&shared);
        let seen = (classified.kind(), classified.code());
        let expected = (rejection.kind(), rejection.code());
        require(
            seen == expected,
            format!("`classify` returns {expected:?} for `error` of the rejection"),
            || format!("{seen:?}: {}", show(&shared)),
        )?;
        let text = show(&shared);
        let expected = format!("a caller's error contains {:?}", rejection.message());
        require(text.contains(rejection.message()), expected, || text)?;
        let is_other = world.factory.is_timeout(&shared) || world.factory.is_closed(&shared);
        let expected = "a rejection is neither a timeout nor the error of a closed pool";
        require(!is_other, expected, || "it is".to_owned())?;
    }
    Ok(())
}

async fn time_outs_and_closed_pools_are_recognised<F: PoolFactory, C: PoolControls<F>>(
    world: World<F, C>,
) -> CheckResult {
    let factory = &world.factory;
    for (name, error, expected) in [
        (
            "TimedOut",
            factory.error(AcquireError::TimedOut),
            (true, false),
        ),
        ("Closed", factory.error(AcquireError::Closed), (false, true)),
    ] {
        let seen = (factory.is_timeout(&error), factory.is_closed(&error));
        require(
            seen == expected,
            format!("(is_timeout, is_closed) = {expected:?} for `AcquireError::{name}`"),
            || format!("{seen:?}"),
        )?;
        let kind = factory.classify(&error).kind();
        let expected = format!("`AcquireError::{name}` is not classified as a rejection");
        let is_rejection = kind == ConnectErrorKind::Rejected;
        require(!is_rejection, expected, || "it is".to_owned())?;
    }
    Ok(())
}
