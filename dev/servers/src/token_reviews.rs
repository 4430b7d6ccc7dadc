//! The TokenReview API of a Kubernetes cluster.

use std::collections::BTreeMap;
use std::fmt;
use std::io::{self, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::http::HttpRequest;
use crate::ports::HOST;

/// Timeout of a request, after the connection.
const TIMEOUT: Duration = Duration::from_secs(5);

/// The TokenReview API of a cluster. When a pod logs in with its service account's token, a secrets
/// server verifies the token with it.
///
/// It accepts the tokens that were [added](Self::add_token). Dropping it stops it.
pub struct TokenReviews {
    address: SocketAddr,
    state: Arc<Mutex<ReviewState>>,
    /// `None` only while it is being dropped.
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct ReviewState {
    /// Namespace and name of each token's service account.
    accounts: BTreeMap<String, (String, String)>,
    reviews: usize,
    ended: bool,
}

impl TokenReviews {
    /// Starts it on a free port of 127.0.0.1, without tokens.
    ///
    /// # Errors
    /// There is no free port, or no thread.
    pub fn start() -> io::Result<Self> {
        let listener = TcpListener::bind((HOST, 0))?;
        let address = listener.local_addr()?;
        let state = Arc::<Mutex<ReviewState>>::default();
        let shared = Arc::clone(&state);
        let thread = thread::Builder::new()
            .name("claviger-token-reviews".to_owned())
            .spawn(move || serve(&listener, &shared))?;
        Ok(Self {
            address,
            state,
            thread: Some(thread),
        })
    }

    /// Returns the cluster's address, for the configuration of a secrets server.
    pub fn host(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Accepts this token for a service account.
    pub fn add_token(&self, token: &str, namespace: &str, name: &str) {
        lock(&self.state)
            .accounts
            .insert(token.to_owned(), (namespace.to_owned(), name.to_owned()));
    }

    /// Rejects this token from now on, as after its expiry or the end of its pod.
    pub fn remove_token(&self, token: &str) {
        lock(&self.state).accounts.remove(token);
    }

    /// Returns how many tokens were reviewed.
    pub fn reviews(&self) -> usize {
        lock(&self.state).reviews
    }

    /// Returns the id of a service account; its token must contain the same id.
    pub fn uid(namespace: &str, name: &str) -> String {
        format!("uid-of-{namespace}-{name}")
    }
}

impl fmt::Debug for TokenReviews {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenReviews")
            .field("host", &self.host())
            .finish_non_exhaustive()
    }
}

impl Drop for TokenReviews {
    fn drop(&mut self) {
        lock(&self.state).ended = true;
        // Wakes the thread that accepts connections. An error means that it has ended.
        drop(TcpStream::connect(self.address));
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn lock(state: &Mutex<ReviewState>) -> MutexGuard<'_, ReviewState> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Serves one connection after the other, because requests are rare.
fn serve(listener: &TcpListener, state: &Mutex<ReviewState>) {
    loop {
        let accepted = listener.accept();
        if lock(state).ended {
            return;
        }
        if let Ok((client, _)) = accepted {
            // A client that disconnects gets no response.
            let _ = respond(client, state);
        }
    }
}

fn respond(mut client: TcpStream, state: &Mutex<ReviewState>) -> io::Result<()> {
    client.set_read_timeout(Some(TIMEOUT))?;
    let Some(request) = HttpRequest::read(&mut BufReader::new(client.try_clone()?))? else {
        return Ok(());
    };
    let body = review(&String::from_utf8_lossy(&request.body), state);
    let status = "201 Created\r\nContent-Type: application/json\r\nConnection: close";
    write!(
        client,
        "HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

fn review(request: &str, state: &Mutex<ReviewState>) -> String {
    let mut state = lock(state);
    state.reviews += 1;
    let status = match token_in(request).and_then(|token| state.accounts.get(token)) {
        Some((namespace, name)) => format!(
            r#"{{"authenticated": true, "audiences": {}, "user": {{"username": "system:serviceaccount:{namespace}:{name}", "uid": "{}", "groups": ["system:serviceaccounts"]}}}}"#,
            audiences_in(request),
            TokenReviews::uid(namespace, name)
        ),
        None => r#"{"authenticated": false, "error": "[invalid bearer token]"}"#.to_owned(),
    };
    format!(
        r#"{{"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "status": {status}}}"#
    )
}

/// Returns the token in a request. Tokens need no JSON escapes.
fn token_in(request: &str) -> Option<&str> {
    let (_, rest) = request.split_once("\"token\"")?;
    rest.trim_start_matches([':', ' '])
        .strip_prefix('"')?
        .split('"')
        .next()
}

/// Returns the requested audiences; the token is valid for all of them.
fn audiences_in(request: &str) -> String {
    let list = request.split_once("\"audiences\"").and_then(|(_, rest)| {
        rest.trim_start_matches([':', ' '])
            .strip_prefix('[')?
            .split_once(']')
    });
    list.map_or_else(|| "[]".to_owned(), |(list, _)| format!("[{list}]"))
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test that cannot go on may panic")]

    use std::io::Read;

    use super::*;

    fn send_review(cluster: &TokenReviews, token: &str) -> String {
        let mut stream = TcpStream::connect(cluster.address).unwrap();
        let body = format!(r#"{{"spec":{{"token":"{token}","audiences":["x"]}}}}"#);
        write!(
            stream,
            "POST /apis/authentication.k8s.io/v1/tokenreviews HTTP/1.1\r\n\
             Content-Length: {}\r\n\r\n{body}",
            body.len()
        )
        .unwrap();
        let mut response = String::new();
        stream.read_to_string(&mut response).unwrap();
        response
    }

    #[test]
    fn only_added_tokens_are_authenticated() {
        let cluster = TokenReviews::start().unwrap();
        assert!(send_review(&cluster, "a.b.c").contains("\"authenticated\": false"));
        cluster.add_token("a.b.c", "shop", "orders");
        let response = send_review(&cluster, "a.b.c");
        assert!(
            response.contains("system:serviceaccount:shop:orders")
                && response.contains(r#""audiences": ["x"]"#),
            "{response}"
        );
        assert!(send_review(&cluster, "a.b").contains("\"authenticated\": false"));
        cluster.remove_token("a.b.c");
        assert!(send_review(&cluster, "a.b.c").contains("\"authenticated\": false"));
        assert_eq!(cluster.reviews(), 4);
    }

    #[test]
    fn a_client_that_disconnects_does_not_block_others() {
        let cluster = TokenReviews::start().unwrap();
        drop(TcpStream::connect(cluster.address).unwrap());
        assert!(send_review(&cluster, "t").starts_with("HTTP/1.1 201"));
    }
}
