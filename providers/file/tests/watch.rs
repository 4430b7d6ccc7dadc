//! Every change causes a hint, and nothing else does.

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
use common::{Watched, file_in_directory, first_lease, parts, replace};

/// A poll interval so long that every change is noticed by an event.
const RARE_POLLS: Duration = Duration::from_secs(3_600);

fn password_provider(path: &Path) -> FileProvider {
    FileProvider::builder(path, FileFormat::password("orders"))
        .with_poll_interval(RARE_POLLS)
        .with_old_connections(OldConnections::Drain)
        .build()
        .unwrap()
}

fn polled_each_second(path: &Path) -> FileProvider {
    FileProvider::builder(path, FileFormat::password("orders"))
        .with_poll_interval(Duration::from_secs(1))
        .build()
        .unwrap()
}

#[tokio::test]
async fn a_file_renamed_over_the_old_one_is_noticed_every_time() {
    let (_dir, path) = file_in_directory("password", "v0");
    let provider = password_provider(&path);
    let mut watched = Watched::start(password_provider(&path)).await;
    for version in 1..=5 {
        let content = format!("v{version}");
        replace(&path, &content);
        let lease = watched.until_password(&provider, &content).await;
        assert_eq!(parts(&lease).0, "orders");
    }
    watched.stop().await;
}

#[tokio::test]
async fn a_watch_of_an_unchanged_file_starts_without_a_hint() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("password");
    let fetched_provider = || async {
        let provider = password_provider(&path);
        let _ = first_lease(&provider).await;
        provider
    };
    let missing = fetched_provider().await;
    assert!(!Watched::start(missing).await.was_hinted(), "still missing");
    fs::write(&path, "one").unwrap();
    assert!(
        !Watched::start(fetched_provider().await).await.was_hinted(),
        "the same content"
    );
    let provider = fetched_provider().await;
    replace(&path, "one");
    assert!(
        !Watched::start(provider).await.was_hinted(),
        "the same content in another file"
    );
    assert!(
        !Watched::start(password_provider(&path)).await.was_hinted(),
        "there was no fetch yet"
    );
}

#[tokio::test]
async fn a_change_between_the_fetch_and_the_watch_causes_a_hint() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("password");
    let missing = password_provider(&path);
    assert!(first_lease(&missing).await.is_err());
    fs::write(&path, "v0").unwrap();
    assert!(
        Watched::start(missing).await.was_hinted(),
        "the file was created"
    );
    for version in 1..=20 {
        let provider = password_provider(&path);
        first_lease(&provider).await.unwrap();
        // Written in place, with the same length, and usually within the same tick of the file
        // system's clock.
        fs::write(&path, format!("v{}", version % 10)).unwrap();
        assert!(
            Watched::start(provider).await.was_hinted(),
            "written in place"
        );
    }
    let provider = password_provider(&path);
    first_lease(&provider).await.unwrap();
    fs::remove_file(&path).unwrap();
    assert!(
        Watched::start(provider).await.was_hinted(),
        "the file was removed"
    );
}

#[tokio::test]
async fn a_file_written_in_place_is_noticed() {
    let (_dir, path) = file_in_directory("login.json", r#"{"user":"u","password":"one"}"#);
    let new_provider = || {
        FileProvider::builder(&path, FileFormat::Json)
            .with_poll_interval(RARE_POLLS)
            .build()
            .unwrap()
    };
    let provider = new_provider();
    let mut watched = Watched::start(new_provider()).await;
    let mut file = fs::File::create(&path).unwrap();
    watched.next_hint().await;
    assert!(
        first_lease(&provider).await.is_err(),
        "truncated for longer than a fetch waits"
    );
    file.write_all(br#"{"user":"u","pass"#).unwrap();
    watched.next_hint().await;
    assert!(first_lease(&provider).await.is_err());
    file.write_all(br#"word":"two"}"#).unwrap();
    drop(file);
    watched
        .until(&provider, |lease| parts(lease) == ("u", "two"))
        .await;
}

#[tokio::test]
async fn a_missing_file_that_appears_is_noticed() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("password");
    let provider = password_provider(&path);
    assert!(first_lease(&provider).await.is_err());
    let mut watched = Watched::start(password_provider(&path)).await;
    fs::write(&path, "here").unwrap();
    watched.until_password(&provider, "here").await;
}

#[tokio::test]
async fn a_missing_directory_that_appears_is_noticed_and_its_file_is_watched() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a/b/password");
    let provider = password_provider(&path);
    let mut watched = Watched::start(password_provider(&path)).await;
    fs::create_dir(dir.path().join("a")).unwrap();
    watched.next_hint().await;
    fs::create_dir(dir.path().join("a/b")).unwrap();
    fs::write(&path, "one").unwrap();
    watched.until_password(&provider, "one").await;
    replace(&path, "two");
    watched.until_password(&provider, "two").await;
}

#[tokio::test]
async fn a_directory_that_is_replaced_is_watched_again() {
    let dir = tempfile::tempdir().unwrap();
    let mounted = dir.path().join("mounted");
    let path = mounted.join("password");
    fs::create_dir(&mounted).unwrap();
    fs::write(&path, "v0").unwrap();
    let provider = password_provider(&path);
    let mut watched = Watched::start(password_provider(&path)).await;
    for version in 1..=6 {
        fs::remove_dir_all(&mounted).unwrap();
        if version % 2 == 0 {
            watched.next_hint().await;
        }
        // Created after the removal was noticed, or at once, perhaps with the same inode number.
        fs::create_dir(&mounted).unwrap();
        let content = format!("v{version}");
        replace(&path, &content);
        watched.until_password(&provider, &content).await;
        replace(&path, "again");
        watched.until_password(&provider, "again").await;
    }
}

#[tokio::test]
async fn a_directory_that_one_provider_no_longer_watches_is_watched_for_the_other() {
    let (_dir, path) = file_in_directory("password", "one");
    let watch = || Watched::start(password_provider(&path));
    let (first, mut second) = (watch().await, watch().await);
    first.stop().await;
    replace(&path, "two");
    second.next_hint().await;
    second.stop().await;
    let mut third = watch().await;
    replace(&path, "three");
    third.next_hint().await;
}

#[tokio::test]
async fn a_link_and_the_file_it_leads_to_are_both_watched() {
    let (link_dir, file_dir) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let path = link_dir.path().join("password");
    fs::write(file_dir.path().join("one"), "one").unwrap();
    fs::write(file_dir.path().join("two"), "two").unwrap();
    symlink(file_dir.path().join("one"), &path).unwrap();
    let provider = password_provider(&path);
    let mut watched = Watched::start(password_provider(&path)).await;

    replace(&file_dir.path().join("one"), "one more");
    watched.until_password(&provider, "one more").await;

    symlink(file_dir.path().join("two"), link_dir.path().join("new")).unwrap();
    fs::rename(link_dir.path().join("new"), &path).unwrap();
    watched.until_password(&provider, "two").await;

    replace(&file_dir.path().join("two"), "two more");
    watched.until_password(&provider, "two more").await;
}

#[tokio::test]
async fn a_changed_file_mode_is_noticed() {
    use std::os::unix::fs::PermissionsExt;
    let (_dir, path) = file_in_directory("password", "s3cret");
    let mut watched = Watched::start(password_provider(&path)).await;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o440)).unwrap();
    watched.next_hint().await;
}

#[tokio::test]
async fn reading_a_file_and_writing_its_neighbours_causes_no_hint() {
    let (dir, path) = file_in_directory("password", "s3cret");
    let provider = password_provider(&path);
    let mut watched = Watched::start(password_provider(&path)).await;
    for round in 0..20 {
        first_lease(&provider).await.unwrap();
        fs::write(dir.path().join("neighbour"), round.to_string()).unwrap();
    }
    assert_eq!(watched.count_hints(Duration::from_millis(300)).await, 0);
    replace(&path, "other");
    watched.until_password(&provider, "other").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_busy_file_causes_at_most_one_hint_per_debounce() {
    let (_dir, path) = file_in_directory("password", "s3cret");
    let mut watched = Watched::start(password_provider(&path)).await;
    let began = tokio::time::Instant::now();
    for round in 0..2_000 {
        replace(&path, &round.to_string());
    }
    watched.next_hint().await;
    let hints = 1 + watched.count_hints(Duration::from_millis(200)).await;
    let most = usize::try_from(began.elapsed().as_millis() / 20 + 1).unwrap();
    assert!(hints <= most, "{hints} hints, {most} at most");
}

#[tokio::test]
async fn a_change_without_an_event_is_noticed_by_the_poll() {
    // As on a network mount, moving a directory further up causes no event in the watched one.
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a/b/c/password");
    for (top, content) in [("a", "one"), ("new", "two")] {
        let below = dir.path().join(top).join("b/c");
        fs::create_dir_all(&below).unwrap();
        fs::write(below.join("password"), content).unwrap();
    }
    let provider = FileProvider::password(&path, "orders").unwrap();
    let mut watched = Watched::start(polled_each_second(&path)).await;
    fs::rename(dir.path().join("a"), dir.path().join("old")).unwrap();
    fs::rename(dir.path().join("new"), dir.path().join("a")).unwrap();
    watched.until_password(&provider, "two").await;
    // The new directory is watched from now on.
    replace(&path, "three");
    watched.until_password(&provider, "three").await;
}

#[tokio::test]
async fn an_unchanged_file_is_polled_without_a_hint() {
    let (_dir, path) = file_in_directory("password", "s3cret");
    let mut watched = Watched::start(polled_each_second(&path)).await;
    assert_eq!(watched.count_hints(Duration::from_millis(2_500)).await, 0);
}
