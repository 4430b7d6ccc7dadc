//! A correct provider passes, and each defect of an incorrect one is found.

use claviger::{Credentials, Provider, static_credentials};
use claviger_testkit::ScriptedProvider;
use claviger_testkit::conformance::{
    self, ControlError, Outcome, ProviderConformance, ProviderControls,
};
use tokio::task::JoinSet;

use crate::memory_backend::{MemoryBackend, MemoryProvider, ProviderDefect as Defect};

/// Each defect, and the checks that find it.
const DEFECTS: [(Defect, &[&str]); 40] = [
    (Defect::FetchFails, &["fetch_returns_a_lease"]),
    (Defect::FetchPanics, &["fetch_returns_a_lease"]),
    (
        Defect::ReturnsUnchangedAlways,
        &["a_fetch_without_a_current_lease_returns_one"],
    ),
    (
        Defect::RevisionPerFetch,
        &["an_unchanged_credential_keeps_its_revision"],
    ),
    (
        Defect::OneRevision,
        &["a_changed_credential_has_another_revision"],
    ),
    (
        Defect::ReturnsTheFirst,
        &["a_changed_credential_has_another_revision"],
    ),
    (
        Defect::ChangesOnlyOnManual,
        &[
            "a_changed_credential_has_another_revision",
            "a_hint_causes_a_fetch",
        ],
    ),
    (Defect::RenewsOnManual, &["a_manual_rotation_is_no_renewal"]),
    (
        Defect::FailsWhenRejected,
        &["fetch_returns_a_lease_despite_rejected_revisions"],
    ),
    (Defect::ReturnsExpired, &["the_expiry_is_in_the_future"]),
    (Defect::RefreshesTooLate, &["the_expiry_is_in_the_future"]),
    (
        Defect::ReadsTheSystemClock,
        &["lifetimes_count_from_the_request"],
    ),
    (Defect::RenewHangs, &["a_renewal_keeps_the_credential"]),
    (
        Defect::RenewReturnsAnExpiredLease,
        &["a_renewal_keeps_the_credential"],
    ),
    (
        Defect::RenewCreatesACredential,
        &["a_renewal_keeps_the_credential"],
    ),
    (
        Defect::RehearseHangs,
        &["a_rehearsal_changes_nothing_in_use"],
    ),
    (
        Defect::RehearseChangesThePassword,
        &["a_rehearsal_changes_nothing_in_use"],
    ),
    (Defect::FetchBlocks, &["fetch_does_not_block_its_thread"]),
    (
        Defect::KeepsTheLockOfADroppedFetch,
        &["a_dropped_fetch_leaves_the_provider_usable"],
    ),
    (
        Defect::OutageIsUnnoticed,
        &[
            "an_unavailable_backend_is_an_error",
            "an_outage_keeps_the_lease_in_use",
        ],
    ),
    (
        Defect::OutageIsPermanent,
        &["an_unavailable_backend_is_an_error"],
    ),
    (
        Defect::OutagePanics,
        &["an_unavailable_backend_is_an_error"],
    ),
    (
        Defect::StaysDown,
        &[
            "a_recovered_backend_returns_a_lease",
            "an_outage_keeps_the_lease_in_use",
        ],
    ),
    (Defect::DebugShowsThePassword, &["no_secret_is_shown"]),
    (Defect::ErrorShowsThePassword, &["no_secret_is_shown"]),
    (Defect::RevisionIsThePassword, &["no_secret_is_shown"]),
    (
        Defect::WatchRunsOnce,
        &["watch_may_be_dropped_and_restarted"],
    ),
    (
        Defect::WatchEndsAtOnce,
        &["watch_may_be_dropped_and_restarted"],
    ),
    (
        Defect::WatchIgnoresEarlierChanges,
        &["a_change_before_the_watch_causes_a_hint"],
    ),
    (
        Defect::HintsWithoutAChange,
        &["an_unchanged_credential_causes_no_hint"],
    ),
    (
        Defect::ReportsNoChanges,
        &[
            "a_changed_credential_causes_a_hint",
            "a_hint_causes_a_fetch",
        ],
    ),
    (
        Defect::WatchOutlivesItsDrop,
        &["a_dropped_watch_sends_no_hints"],
    ),
    (Defect::ReleaseHangs, &["release_ends_and_may_be_repeated"]),
    (
        Defect::ReleaseTwiceFails,
        &["release_ends_and_may_be_repeated"],
    ),
    (
        Defect::ReleaseDoesNothing,
        &[
            "release_reaches_the_backend",
            "a_shutdown_releases_the_lease",
        ],
    ),
    (Defect::ReleasesTwice, &["release_reaches_the_backend"]),
    (
        Defect::ReleasesTheLatest,
        &["a_release_ends_its_own_lease_alone"],
    ),
    (
        Defect::ReleaseHidesItsError,
        &["a_release_that_fails_is_a_transient_error"],
    ),
    (
        Defect::FetchFailsAfterRelease,
        &["a_fetch_after_a_release_returns_a_lease"],
    ),
    (Defect::CloseHangs, &["close_ends"]),
];

fn kit(defect: Option<Defect>) -> ProviderConformance<MemoryProvider, MemoryBackend> {
    let backend = MemoryBackend::new();
    conformance::provider(MemoryProvider::new(backend.clone(), defect), backend)
}

#[tokio::test]
async fn a_correct_provider_passes_every_check() {
    let report = kit(None).await;
    report.assert_passed();
    assert_eq!(report.not_applicable().count(), 0, "{report}");
    let names = ProviderConformance::<MemoryProvider, MemoryBackend>::names();
    assert_eq!(report.checks().len(), names.len());
}

/// Each check alone, because some are not run after others have failed.
#[tokio::test(flavor = "multi_thread")]
async fn each_defect_is_found_by_its_checks() {
    let mut runs = JoinSet::new();
    for (defect, checks) in DEFECTS {
        for name in checks.iter().copied() {
            let run = kit(Some(defect)).with_checks([name]);
            runs.spawn(async move { (defect, name, run.await) });
        }
    }
    let mut missed = Vec::new();
    while let Some(run) = runs.join_next().await {
        let (defect, name, report) = run.expect("the kit never panics");
        let check = report.check(name).expect("it ran");
        if !matches!(check.outcome, Outcome::Failed { .. }) {
            missed.push(format!("{defect:?} by {check}"));
        }
        assert!(!report.to_string().contains("s3cret"), "{report}");
    }
    assert!(missed.is_empty(), "not found:\n{}", missed.join("\n"));
}

/// One cause has one failure, not twenty.
#[tokio::test(flavor = "multi_thread")]
async fn a_defect_fails_no_other_checks_than_its_own() {
    let mut runs = JoinSet::new();
    for (defect, checks) in DEFECTS {
        let run = kit(Some(defect));
        runs.spawn(async move { (defect, checks, run.await) });
    }
    let mut others = Vec::new();
    while let Some(run) = runs.join_next().await {
        let (defect, checks, report) = run.expect("the kit never panics");
        assert!(!report.has_passed(), "{defect:?}: {report}");
        let failed = report
            .failed()
            .filter(|check| !checks.contains(&check.name));
        others.extend(failed.map(|check| format!("{defect:?}: {check}")));
        assert!(!report.to_string().contains("s3cret"), "{report}");
    }
    assert!(others.is_empty(), "{}", others.join("\n"));
}

#[test]
fn each_check_has_a_defect_that_it_finds() {
    for name in ProviderConformance::<MemoryProvider, MemoryBackend>::names() {
        let finds = DEFECTS.iter().any(|(_, checks)| checks.contains(&name));
        assert!(finds, "no defect shows that {name} can fail");
    }
}

/// Controls of a provider whose credential never changes.
struct Static;

impl<P: Provider<Secret = Credentials>> ProviderControls<P> for Static {
    fn secret_text(&self, secret: &Credentials) -> String {
        secret.expose_password().to_owned()
    }
}

#[tokio::test]
async fn static_credentials_conform() {
    let provider = static_credentials(Credentials::new("app", "s3cret-1"));
    conformance::provider(provider, Static)
        .await
        .assert_passed();
}

/// Controls of the scripted provider.
struct Script(ScriptedProvider);

impl ProviderControls<ScriptedProvider> for Script {
    fn secret_text(&self, secret: &Credentials) -> String {
        secret.expose_password().to_owned()
    }

    async fn change_credential(&self) -> Result<bool, ControlError> {
        self.0.rotate();
        self.0.hint();
        Ok(true)
    }

    async fn released(&self) -> Result<Option<u32>, ControlError> {
        Ok(Some(u32::try_from(self.0.released().len())?))
    }

    fn reports_changes(&self) -> bool {
        true
    }
}

#[tokio::test]
async fn the_scripted_provider_conforms() {
    let provider = ScriptedProvider::new();
    let report = conformance::provider(provider.clone(), Script(provider)).await;
    report.assert_passed();
    let skipped: Vec<_> = report
        .not_applicable()
        .map(|(check, _)| check.name)
        .collect();
    assert!(!skipped.contains(&"a_hint_causes_a_fetch"), "{report}");
}
