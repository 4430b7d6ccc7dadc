//! How the page follows its stream.

use crate::browser::Page;

/// Checks that the page replaces a stream that is silent, and has none while it is hidden.
pub(crate) async fn check_stream(page: &mut Page) {
    page.value(
        "window.states = []; new MutationObserver(() => states.push(live.innerText)) \
         .observe(live, { childList: true, characterData: true, subtree: true })",
    )
    .await;
    // A message with the server's time alone.
    let heartbeat = "receivedAt = 0; events.dispatchEvent(new MessageEvent('now', \
         { data: String(Date.now() / 1000 + 3600) })); \
         receivedAt > 0 && Math.round(ahead) === 3600";
    assert_eq!(page.value(heartbeat).await, true);
    // As after 41 s without a message.
    page.value("window.silent = events; 0").await;
    page.until("receivedAt -= 41; silent.readyState === EventSource.CLOSED")
        .await;
    page.until("states.some(state => state.startsWith('Not live')) && live.innerText === 'Live'")
        .await;

    // A hidden tab leaves its connection to others.
    page.value(
        "Object.defineProperty(document, 'hidden', { configurable: true, get: () => true }); \
         document.dispatchEvent(new Event('visibilitychange'))",
    )
    .await;
    page.until(
        "events.readyState === EventSource.CLOSED && live.innerText === 'Paused' && \
         document.title === 'Paused · Claviger'",
    )
    .await;
    page.value("delete document.hidden; document.dispatchEvent(new Event('visibilitychange'))")
        .await;
    page.until("live.innerText === 'Live' && document.title === 'Ready · Claviger'")
        .await;
}

/// Checks that the page reloads itself when the service has another version of it, unless that is
/// so from the first message on.
pub(crate) async fn check_upgrade(page: &mut Page) {
    page.value("window.isOld = true; document.body.dataset.version = 'older'; 0")
        .await;
    page.value("wasCurrent = false; live.innerText = ''; connect()")
        .await;
    page.until("isOld && live.innerText === 'Live'").await;
    page.value("wasCurrent = true; connect()").await;
    page.until("!window.isOld && document.readyState === 'complete'")
        .await;
    page.until("document.getElementById('live').innerText === 'Live'")
        .await;
}
