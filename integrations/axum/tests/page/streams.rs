//! Streams of the status page: snapshots, limits, heartbeats and their end.

use std::time::Duration;

use axum::Router;
use axum::body::{Body, BodyDataStream};
use axum::http::{Request, StatusCode};
use claviger_testkit::Lab;
use futures_util::StreamExt;
use serde_json::Value;
use tower::ServiceExt;

use super::{Service, between};

struct Stream(BodyDataStream);

impl Stream {
    /// Returns the next snapshot; `None` at the end.
    async fn next(&mut self) -> Option<Value> {
        let message = self.next_message().await?;
        Some(message["snapshot"].clone())
    }

    async fn next_message(&mut self) -> Option<Value> {
        loop {
            let part = self.0.next().await?.expect("a part");
            let part = std::str::from_utf8(&part).expect("text");
            if part.starts_with("event: now") {
                continue;
            }
            let mut lines = part.lines();
            if let Some(data) = lines.find_map(|line| line.strip_prefix("data: ")) {
                return serde_json::from_str(data).expect("JSON");
            }
        }
    }

    async fn is_silent_for(&mut self, time: Duration) -> bool {
        tokio::time::timeout(time, self.next()).await.is_err()
    }
}

impl Service {
    async fn stream(&self) -> Stream {
        let response = self.get("/events").await;
        assert_eq!(response.status(), StatusCode::OK);
        let kind = response.headers().get("content-type").cloned();
        assert_eq!(kind.expect("a type"), "text/event-stream");
        Stream(response.into_body().into_data_stream())
    }
}

// With real time, because the page shows times of the wall clock, which cannot be paused.
#[tokio::test]
async fn a_stream_has_a_snapshot_at_once_and_after_each_change() {
    let service = Service::start().await;
    let mut stream = service.stream().await;
    let first = stream.next().await.expect("a snapshot");
    assert_eq!(first["title"], "Ready · Claviger");
    assert!(first.to_string().contains("\"adopted\""), "the start");
    // The page counts seconds by itself. A rounded time may change once.
    let mut silent = 0;
    for _ in 0..3 {
        silent += u32::from(stream.is_silent_for(Duration::from_secs(1)).await);
    }
    assert!(silent >= 2, "nothing changed");

    let before = service.pool.generation();
    let password = service.provider.rotate();
    service.database.accept_only(["password-1", &*password]);
    let rotation = service.lab.supervisor.rotate_now("login").await;
    rotation.expect("it is adopted");
    assert_eq!(service.pool.generation(), before + 1);
    let changed = async {
        loop {
            let next = stream.next().await.expect("a snapshot").to_string();
            assert!(!next.contains("password-"), "no secret");
            if next.contains("manually") {
                break;
            }
        }
    };
    let changed = tokio::time::timeout(Duration::from_secs(5), changed).await;
    changed.expect("the rotation is shown");
}

// With real time, because a time to expiry would change the snapshots.
#[tokio::test]
async fn a_client_with_an_outdated_first_snapshot_gets_the_current_state() {
    let service = Service::start().await;
    drop(service.pool.get().await.expect("a connection"));
    let mut first = service.stream().await;
    first.next().await.expect("a snapshot");
    // Ends between two ticks, which are 350 ms apart.
    while !first.is_silent_for(Duration::from_millis(900)).await {}
    // The client's first snapshot shows a busy connection, which is returned before the next tick.
    let busy = service.pool.get().await.expect("a connection");
    let mut second = service.stream().await;
    let passed = second.next().await.expect("a snapshot").to_string();
    drop(busy);
    let present = async {
        loop {
            let next = second.next().await.expect("a snapshot").to_string();
            if next != passed {
                break;
            }
        }
    };
    let present = tokio::time::timeout(Duration::from_secs(10), present).await;
    present.expect("the connection is idle again");
}

#[tokio::test(start_paused = true)]
async fn a_message_has_the_version_of_the_page() {
    let service = Service::start().await;
    let html = service.html().await;
    let message = service.stream().await.next_message().await;
    let message = message.expect("a snapshot");
    assert_eq!(
        message["version"],
        between(&html, "<body data-version=\"", "\"")
    );
    let version = message["version"].as_str().unwrap_or_default();
    assert_eq!(version.len(), 44, "a hash: {version}");
}

#[tokio::test(start_paused = true)]
async fn a_storm_of_changes_causes_three_snapshots_in_a_second() {
    let service = Service::start().await;
    let mut stream = service.stream().await;
    stream.next().await.expect("a snapshot");
    // Connections are opened and returned at uneven times.
    let pool = service.pool.clone();
    let storm = tokio::spawn(async move {
        for number in 0_u64.. {
            let busy = pool.get().await.expect("a connection");
            tokio::time::sleep(Duration::from_millis(1 + number * 7 % 13)).await;
            drop(busy);
            tokio::time::sleep(Duration::from_millis(1 + number * 5 % 11)).await;
        }
    });
    let begin = tokio::time::Instant::now();
    let mut snapshots = 0;
    while begin.elapsed() < Duration::from_secs(10) {
        let next = tokio::time::timeout(Duration::from_secs(1), stream.next()).await;
        snapshots += u32::from(next.is_ok());
    }
    storm.abort();
    assert!((5..=30).contains(&snapshots), "{snapshots} in 10 s");
}

#[tokio::test(start_paused = true)]
async fn sixteen_clients_are_served_at_a_time() {
    let service = Service::start().await;
    let mut streams = Vec::new();
    for _ in 0..16 {
        let mut stream = service.stream().await;
        stream.next().await.expect("a snapshot");
        streams.push(stream);
    }
    let response = service.get("/events").await;
    assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert!(response.headers().contains_key("retry-after"));
    streams.pop();
    tokio::time::sleep(Duration::from_millis(1)).await;
    service.stream().await.next().await.expect("there is room");
}

#[tokio::test(start_paused = true)]
async fn a_silent_stream_has_a_heartbeat() {
    // Without a provider, because times to its next fetch pass faster here than the wall clock.
    let lab = Lab::new();
    let router: Router = claviger_axum::page(&lab.supervisor);
    let request = Request::get("/events")
        .body(Body::empty())
        .expect("a request");
    let response = router.oneshot(request).await.expect("a response");
    let mut stream = Stream(response.into_body().into_data_stream());
    stream.next().await.expect("a snapshot");
    // Not a comment: the page's script must see it.
    for _ in 0..2 {
        let part = tokio::time::timeout(Duration::from_secs(16), stream.0.next()).await;
        let part = part.expect("within 15 s").expect("a part").expect("a part");
        let part = std::str::from_utf8(&part).expect("text");
        let time = part.strip_prefix("event: now\ndata: ").expect("an event");
        let time: f64 = time.trim().parse().expect("seconds since 1970");
        assert!(time > 1e9, "{time}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_stream_ends_after_a_quarter_of_an_hour_and_the_next_one_has_a_whole_snapshot() {
    let service = Service::start().await;
    let mut stream = service.stream().await;
    let first = stream.next().await.expect("a snapshot");
    let began = tokio::time::Instant::now();
    while stream.next().await.is_some() {}
    let took = began.elapsed();
    let longest = Duration::from_secs(15 * 60);
    assert!(took >= longest && took < 2 * longest, "{took:?}");
    let again = service.stream().await.next().await.expect("a snapshot");
    assert_eq!(again["title"], first["title"]);
}

#[tokio::test(start_paused = true)]
async fn clients_that_stop_reading_lose_their_places_after_a_quarter_of_an_hour() {
    let service = Service::start().await;
    let mut stopped = Vec::new();
    for _ in 0..16 {
        let mut stream = service.stream().await;
        stream.next().await.expect("a snapshot");
        stopped.push(stream);
    }
    let response = service.get("/events").await;
    assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
    // Nobody polls the bodies, as when a server cannot write.
    tokio::time::sleep(Duration::from_secs(15 * 60 + 1)).await;
    let next = service.stream().await.next().await;
    next.expect("there is room");
    for mut stream in stopped {
        while stream.next().await.is_some() {}
    }
}

#[tokio::test(start_paused = true)]
async fn streams_end_when_the_service_is_leaving() {
    for shut_down in [false, true] {
        let service = Service::start().await;
        let mut stream = service.stream().await;
        stream.next().await.expect("a snapshot");
        if shut_down {
            service
                .lab
                .supervisor
                .shutdown(Duration::from_secs(1))
                .await;
        } else {
            service.lab.supervisor.announce_shutdown();
        }
        let end = async { while stream.next().await.is_some() {} };
        let ended = tokio::time::timeout(Duration::from_secs(2), end).await;
        assert!(ended.is_ok(), "a graceful shutdown would wait");

        // A client that connects again gets the last state.
        let mut again = service.stream().await;
        let last = again.next().await.expect("a snapshot");
        assert_eq!(last["title"], "Not ready · Claviger");
        assert_eq!(again.next().await, None);
    }
}
