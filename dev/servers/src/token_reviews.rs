//! As much of a Kubernetes cluster as says whose a service account's token is.

use std::collections::BTreeMap;
use std::fmt;
use std::io::{self, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::http::Message;
use crate::ports::HOST;

/// How long somebody who has connected may take to ask.
const TIMEOUT: Duration = Duration::from_secs(5);

/// The TokenReview API of a cluster: a server of secrets asks it whose a token is, when a pod
/// logs in with its service account's.
///
/// It knows the tokens that were [admitted](Self::admit) and no others. Dropping it ends it.
pub struct TokenReviews {
    address: SocketAddr,
    state: Arc<Mutex<State>>,
    /// `None` only while it is being dropped.
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct State {
    /// Whose a token is: namespace and name.
    accounts: BTreeMap<String, (String, String)>,
    reviews: usize,
    ended: bool,
}

impl TokenReviews {
    /// Starts it on a free port of 127.0.0.1; it knows no token yet.
    ///
    /// # Errors
    /// When no port or no thread can be had.
    pub fn start() -> io::Result<Self> {
        let listener = TcpListener::bind((HOST, 0))?;
        let address = listener.local_addr()?;
        let state = Arc::<Mutex<State>>::default();
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

    /// What a server of secrets takes for the cluster's address.
    pub fn host(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Takes this token for that of a service account from now on.
    pub fn add_token(&self, token: &str, namespace: &str, name: &str) {
        lock(&self.state)
            .accounts
            .insert(token.to_owned(), (namespace.to_owned(), name.to_owned()));
    }

    /// Does not know this token any more: it has expired, or its pod is gone.
    pub fn remove_token(&self, token: &str) {
        lock(&self.state).accounts.remove(token);
    }

    /// Returns how often it was asked so far.
    pub fn reviews(&self) -> usize {
        lock(&self.state).reviews
    }

    /// The id that a service account has here; its token has to say the same.
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
        // Wakes the thread that waits for a connection. If it is gone already, so be it.
        drop(TcpStream::connect(self.address));
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

/// One connection after the other: a server of secrets asks rarely.
fn serve(listener: &TcpListener, state: &Mutex<State>) {
    loop {
        let accepted = listener.accept();
        if lock(state).ended {
            return;
        }
        if let Ok((client, _)) = accepted {
            // Who breaks off has no answer to get.
            let _ = answer(client, state);
        }
    }
}

fn answer(mut client: TcpStream, state: &Mutex<State>) -> io::Result<()> {
    client.set_read_timeout(Some(TIMEOUT))?;
    let Some(request) = Message::read(&mut BufReader::new(client.try_clone()?))? else {
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

fn review(asked: &str, state: &Mutex<State>) -> String {
    let mut state = lock(state);
    state.reviews += 1;
    let status = match token_in(asked).and_then(|token| state.accounts.get(token)) {
        Some((namespace, name)) => format!(
            r#"{{"authenticated": true, "audiences": {}, "user": {{"username": "system:serviceaccount:{namespace}:{name}", "uid": "{}", "groups": ["system:serviceaccounts"]}}}}"#,
            audiences_in(asked),
            TokenReviews::uid(namespace, name)
        ),
        None => r#"{"authenticated": false, "error": "[invalid bearer token]"}"#.to_owned(),
    };
    format!(
        r#"{{"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "status": {status}}}"#
    )
}

/// The token in what is asked; there is nothing in one that JSON would write otherwise.
fn token_in(asked: &str) -> Option<&str> {
    let (_, rest) = asked.split_once("\"token\"")?;
    rest.trim_start_matches([':', ' '])
        .strip_prefix('"')?
        .split('"')
        .next()
}

/// For whom the token is to be valid, as it is asked: it is for all of them.
fn audiences_in(asked: &str) -> String {
    let list = asked.split_once("\"audiences\"").and_then(|(_, rest)| {
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

    fn ask(cluster: &TokenReviews, token: &str) -> String {
        let mut stream = TcpStream::connect(cluster.address).unwrap();
        let body = format!(r#"{{"spec":{{"token":"{token}","audiences":["x"]}}}}"#);
        write!(stream, "POST /apis/authentication.k8s.io/v1/tokenreviews HTTP/1.1\r\nContent-Length: {}\r\n\r\n{body}", body.len())
            .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }

    #[test]
    fn it_knows_who_was_admitted_and_nobody_else() {
        let cluster = TokenReviews::start().unwrap();
        assert!(ask(&cluster, "a.b.c").contains("\"authenticated\": false"));
        cluster.add_token("a.b.c", "shop", "orders");
        let known = ask(&cluster, "a.b.c");
        assert!(
            known.contains("system:serviceaccount:shop:orders")
                && known.contains(r#""audiences": ["x"]"#),
            "{known}"
        );
        assert!(ask(&cluster, "a.b").contains("\"authenticated\": false"));
        cluster.remove_token("a.b.c");
        assert!(ask(&cluster, "a.b.c").contains("\"authenticated\": false"));
        assert_eq!(cluster.reviews(), 4);
    }

    #[test]
    fn who_breaks_off_keeps_nobody_waiting() {
        let cluster = TokenReviews::start().unwrap();
        drop(TcpStream::connect(cluster.address).unwrap());
        assert!(ask(&cluster, "t").starts_with("HTTP/1.1 201"));
    }
}
