//! Every change is a hint, wherever it happens, and nothing else is.

#![cfg(unix)]
#![expect(clippy::unwrap_used, reason = "tests")]

mod common;

use std::fs;
use std::io::Write;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::time::Duration;

use claviger::lease::OldConnections;
use claviger_file::{FileFormat, FileProvider};
use common::{Watched, first, parts, replace};

/// So long that every change seen was seen by an event.
const HARDLY_EVER: Duration = Duration::from_secs(3_600);

fn password(path: &Path) -> FileProvider {
    FileProvider::builder(path, FileFormat::password("orders"))
        .with_poll_interval(HARDLY_EVER)
        .with_old_connections(OldConnections::Drain)
        .build()
        .unwrap()
}

#[tokio::test]
async fn a_file_renamed_over_the_old_one_is_seen_every_time() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("password");
    fs::write(&path, "v0").unwrap();
    let provider = password(&path);
    let mut watched = Watched::begin(password(&path)).await;
    for version in 1..=5 {
        let content = format!("v{version}");
        replace(&path, &content);
        let lease = watched
            .until(&provider, |lease| parts(lease).1 == content)
            .await;
        assert_eq!(parts(&lease).0, "orders");
    }
    watched.end().await;
}

#[tokio::test]
async fn a_watch_of_what_the_fetch_read_begins_without_a_hint() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("password");
    let fetched = || async {
        let provider = password(&path);
        let _ = first(&provider).await;
        provider
    };
    let missing = fetched().await;
    assert!(!Watched::begin(missing).await.was_hinted(), "still missing");
    fs::write(&path, "one").unwrap();
    assert!(
        !Watched::begin(fetched().await).await.was_hinted(),
        "the same content"
    );
    let provider = fetched().await;
    replace(&path, "one");
    assert!(
        !Watched::begin(provider).await.was_hinted(),
        "the same content in another file"
    );
    assert!(
        !Watched::begin(password(&path)).await.was_hinted(),
        "the first fetch is still to come"
    );
}

#[tokio::test]
async fn a_change_between_the_fetch_and_the_watch_is_a_hint() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("password");
    let missing = password(&path);
    assert!(first(&missing).await.is_err());
    fs::write(&path, "v0").unwrap();
    assert!(Watched::begin(missing).await.was_hinted(), "it appeared");
    for version in 1..=20 {
        let provider = password(&path);
        first(&provider).await.unwrap();
        // Written in place, with the same length, and usually within the same tick of the file
        // system's clock.
        fs::write(&path, format!("v{}", version % 10)).unwrap();
        assert!(
            Watched::begin(provider).await.was_hinted(),
            "written in place"
        );
    }
    let provider = password(&path);
    first(&provider).await.unwrap();
    fs::remove_file(&path).unwrap();
    assert!(Watched::begin(provider).await.was_hinted(), "it is gone");
}

#[tokio::test]
async fn a_file_written_in_place_is_seen() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("login.json");
    fs::write(&path, r#"{"user":"u","password":"one"}"#).unwrap();
    let provider = FileProvider::builder(&path, FileFormat::Json)
        .with_poll_interval(HARDLY_EVER)
        .build()
        .unwrap();
    let mut watched = Watched::begin(
        FileProvider::builder(&path, FileFormat::Json)
            .with_poll_interval(HARDLY_EVER)
            .build()
            .unwrap(),
    )
    .await;
    let mut file = fs::File::create(&path).unwrap();
    watched.hint().await;
    assert!(
        first(&provider).await.is_err(),
        "truncated, and not written for longer than a reader waits"
    );
    file.write_all(br#"{"user":"u","pass"#).unwrap();
    watched.hint().await;
    assert!(first(&provider).await.is_err());
    file.write_all(br#"word":"two"}"#).unwrap();
    drop(file);
    watched
        .until(&provider, |lease| parts(lease) == ("u", "two"))
        .await;
}

#[tokio::test]
async fn a_missing_file_that_appears_is_seen() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("password");
    let provider = password(&path);
    assert!(first(&provider).await.is_err());
    let mut watched = Watched::begin(password(&path)).await;
    fs::write(&path, "here").unwrap();
    watched
        .until(&provider, |lease| parts(lease).1 == "here")
        .await;
}

#[tokio::test]
async fn a_missing_directory_that_appears_is_seen_and_its_file_stays_watched() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a/b/password");
    let provider = password(&path);
    let mut watched = Watched::begin(password(&path)).await;
    fs::create_dir(dir.path().join("a")).unwrap();
    watched.hint().await;
    fs::create_dir(dir.path().join("a/b")).unwrap();
    fs::write(&path, "one").unwrap();
    watched
        .until(&provider, |lease| parts(lease).1 == "one")
        .await;
    replace(&path, "two");
    watched
        .until(&provider, |lease| parts(lease).1 == "two")
        .await;
}

#[tokio::test]
async fn a_directory_that_is_replaced_is_watched_again() {
    let dir = tempfile::tempdir().unwrap();
    let mounted = dir.path().join("mounted");
    let path = mounted.join("password");
    fs::create_dir(&mounted).unwrap();
    fs::write(&path, "v0").unwrap();
    let provider = password(&path);
    let mut watched = Watched::begin(password(&path)).await;
    for version in 1..=6 {
        fs::remove_dir_all(&mounted).unwrap();
        if version % 2 == 0 {
            watched.hint().await;
        }
        // Created at once, perhaps with the inode number of the previous one, or after the removal
        // was seen.
        fs::create_dir(&mounted).unwrap();
        let content = format!("v{version}");
        replace(&path, &content);
        watched
            .until(&provider, |lease| parts(lease).1 == content)
            .await;
        replace(&path, "again");
        watched
            .until(&provider, |lease| parts(lease).1 == "again")
            .await;
    }
}

#[tokio::test]
async fn a_directory_that_one_provider_no_longer_watches_is_watched_for_the_other() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("password");
    fs::write(&path, "one").unwrap();
    let watch = || Watched::begin(password(&path));
    let (first, mut second) = (watch().await, watch().await);
    first.end().await;
    replace(&path, "two");
    second.hint().await;
    second.end().await;
    let mut third = watch().await;
    replace(&path, "three");
    third.hint().await;
}

#[tokio::test]
async fn links_to_a_file_elsewhere_are_watched_at_both_ends() {
    let (near, far) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let path = near.path().join("password");
    fs::write(far.path().join("one"), "one").unwrap();
    fs::write(far.path().join("two"), "two").unwrap();
    symlink(far.path().join("one"), &path).unwrap();
    let provider = password(&path);
    let mut watched = Watched::begin(password(&path)).await;

    replace(&far.path().join("one"), "one more");
    watched
        .until(&provider, |lease| parts(lease).1 == "one more")
        .await;

    symlink(far.path().join("two"), near.path().join("new")).unwrap();
    fs::rename(near.path().join("new"), &path).unwrap();
    watched
        .until(&provider, |lease| parts(lease).1 == "two")
        .await;

    replace(&far.path().join("two"), "two more");
    watched
        .until(&provider, |lease| parts(lease).1 == "two more")
        .await;
}

#[tokio::test]
async fn a_right_to_read_that_is_granted_is_seen() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("password");
    fs::write(&path, "s3cret").unwrap();
    let mut watched = Watched::begin(password(&path)).await;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o440)).unwrap();
    watched.hint().await;
}

#[tokio::test]
async fn reading_it_and_writing_its_neighbours_is_no_change() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("password");
    fs::write(&path, "s3cret").unwrap();
    let provider = password(&path);
    let mut watched = Watched::begin(password(&path)).await;
    for round in 0..20 {
        first(&provider).await.unwrap();
        fs::write(dir.path().join("neighbour"), round.to_string()).unwrap();
    }
    assert_eq!(watched.count(Duration::from_millis(300)).await, 0);
    replace(&path, "other");
    watched
        .until(&provider, |lease| parts(lease).1 == "other")
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_busy_file_costs_a_hint_per_debounce_at_most() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("password");
    fs::write(&path, "s3cret").unwrap();
    let mut watched = Watched::begin(password(&path)).await;
    let began = tokio::time::Instant::now();
    for round in 0..2_000 {
        replace(&path, &round.to_string());
    }
    watched.hint().await;
    let hints = 1 + watched.count(Duration::from_millis(200)).await;
    let most = usize::try_from(began.elapsed().as_millis() / 20 + 1).unwrap();
    assert!(hints <= most, "{hints} hints, {most} at most");
}

#[tokio::test]
async fn a_change_without_an_event_is_seen_by_the_poll() {
    // Moving a directory far above causes no event in the watched one, as on a network mount.
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a/b/c/password");
    for (top, content) in [("a", "one"), ("new", "two")] {
        let below = dir.path().join(top).join("b/c");
        fs::create_dir_all(&below).unwrap();
        fs::write(below.join("password"), content).unwrap();
    }
    let provider = FileProvider::password(&path, "orders").unwrap();
    let mut watched = Watched::begin(
        FileProvider::builder(&path, FileFormat::password("orders"))
            .with_poll_interval(Duration::from_secs(1))
            .build()
            .unwrap(),
    )
    .await;
    fs::rename(dir.path().join("a"), dir.path().join("old")).unwrap();
    fs::rename(dir.path().join("new"), dir.path().join("a")).unwrap();
    watched
        .until(&provider, |lease| parts(lease).1 == "two")
        .await;
    // The new directory is watched from now on.
    replace(&path, "three");
    watched
        .until(&provider, |lease| parts(lease).1 == "three")
        .await;
}

#[tokio::test]
async fn an_unchanged_file_is_polled_without_a_hint() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("password");
    fs::write(&path, "s3cret").unwrap();
    let mut watched = Watched::begin(
        FileProvider::builder(&path, FileFormat::password("orders"))
            .with_poll_interval(Duration::from_secs(1))
            .build()
            .unwrap(),
    )
    .await;
    assert_eq!(watched.count(Duration::from_millis(2_500)).await, 0);
}
