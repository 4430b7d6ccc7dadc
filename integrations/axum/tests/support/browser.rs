//! A page in Chromium, controlled by the DevTools protocol.

use std::path::Path;
use std::time::Duration;

use claviger_servers::Chromium;
use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

/// Time for which a test waits for the page. A loaded machine is slow.
const PATIENCE: Duration = Duration::from_secs(60);
const PAUSE: Duration = Duration::from_millis(50);

/// Collects what a page must not cause. It runs before the page's own script.
const OBSERVER: &str = "
    window.problems = [];
    addEventListener('securitypolicyviolation', (event) =>
        problems.push(`policy: ${event.violatedDirective} ${event.blockedURI}`));
    addEventListener('error', (event) => problems.push(`error: ${event.message}`));
    addEventListener('unhandledrejection', (event) => problems.push(`rejection: ${event.reason}`));
";

/// One page.
pub(crate) struct Page {
    socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
    session: Option<String>,
    last: u64,
    problems: Vec<String>,
    _browser: Chromium,
}

impl Page {
    /// Starts a browser with an empty page.
    pub(crate) async fn new() -> Self {
        let browser = Chromium::start().expect("a browser");
        let (socket, _) = connect_async(browser.devtools_url())
            .await
            .expect("a connection");
        let mut page = Self {
            socket,
            session: None,
            last: 0,
            problems: Vec::new(),
            _browser: browser,
        };
        let target = page
            .call("Target.createTarget", json!({ "url": "about:blank" }))
            .await;
        let attached = page
            .call(
                "Target.attachToTarget",
                json!({ "targetId": target["targetId"], "flatten": true }),
            )
            .await;
        page.session = attached["sessionId"].as_str().map(str::to_owned);
        for domain in ["Page", "Runtime", "Log", "Accessibility"] {
            page.call(&format!("{domain}.enable"), json!({})).await;
        }
        page.call(
            "Page.addScriptToEvaluateOnNewDocument",
            json!({ "source": OBSERVER }),
        )
        .await;
        page
    }

    /// Sends a command and returns its result.
    pub(crate) async fn call(&mut self, method: &str, parameters: Value) -> Value {
        self.last += 1;
        let mut command = json!({ "id": self.last, "method": method, "params": parameters });
        if let Some(session) = &self.session {
            command["sessionId"] = json!(session);
        }
        let command = Message::text(command.to_string());
        self.socket.send(command).await.expect("it is sent");
        let response = async {
            loop {
                let message = self.socket.next().await.expect("a message");
                let message = message.expect("a message").into_text().expect("text");
                let message: Value = serde_json::from_str(&message).unwrap_or_default();
                if message["id"] == self.last {
                    return message;
                }
                self.note(&message);
            }
        };
        let response = tokio::time::timeout(PATIENCE, response).await;
        let response = response.expect("a response");
        assert!(response["error"].is_null(), "{method}: {response}");
        response["result"].clone()
    }

    /// Notes errors on the console.
    fn note(&mut self, event: &Value) {
        let parameters = &event["params"];
        let is_problem = match event["method"].as_str() {
            Some("Runtime.exceptionThrown") => true,
            Some("Runtime.consoleAPICalled") => parameters["type"] != "log",
            Some("Log.entryAdded") => parameters["entry"]["level"] != "info",
            _ => false,
        };
        if is_problem {
            self.problems.push(parameters.to_string());
        }
    }

    /// Opens an address, and waits until it is loaded.
    pub(crate) async fn open(&mut self, url: &str) {
        self.call("Page.navigate", json!({ "url": url })).await;
        self.until("document.readyState === 'complete' && location.href !== 'about:blank'")
            .await;
    }

    /// Returns the value of an expression on the page.
    pub(crate) async fn value(&mut self, expression: &str) -> Value {
        let parameters =
            json!({ "expression": expression, "returnByValue": true, "awaitPromise": true });
        let result = self.call("Runtime.evaluate", parameters).await;
        assert!(
            result["exceptionDetails"].is_null(),
            "{expression}: {result}"
        );
        result["result"]["value"].clone()
    }

    pub(crate) async fn text(&mut self, expression: &str) -> String {
        let value = self.value(expression).await;
        value.as_str().unwrap_or_default().to_owned()
    }

    /// Waits until an expression is true.
    pub(crate) async fn until(&mut self, expression: &str) {
        let wait = async {
            while self.value(expression).await != true {
                tokio::time::sleep(PAUSE).await;
            }
        };
        let is_true = tokio::time::timeout(PATIENCE, wait).await.is_ok();
        if !is_true {
            let text = self.text("document.body.innerText").await;
            assert!(is_true, "not within {PATIENCE:?}: {expression}\n{text}");
        }
    }

    /// Returns errors of the page, and violations of its content security policy.
    pub(crate) async fn problems(&mut self) -> Vec<String> {
        let of_page = self.value("window.problems").await;
        let of_page = of_page.as_array().cloned().unwrap_or_default();
        let of_page = of_page.iter().map(ToString::to_string);
        self.problems.iter().cloned().chain(of_page).collect()
    }

    /// Sets `prefers-color-scheme`.
    pub(crate) async fn prefer(&mut self, scheme: &str) {
        let feature = json!({ "name": "prefers-color-scheme", "value": scheme });
        let parameters = json!({ "features": [feature] });
        self.call("Emulation.setEmulatedMedia", parameters).await;
    }

    /// Sets the size of the window, in CSS pixels.
    pub(crate) async fn resize(&mut self, width: u32, height: u32) {
        let parameters = json!({
            "width": width, "height": height, "deviceScaleFactor": 1, "mobile": false,
        });
        self.call("Emulation.setDeviceMetricsOverride", parameters)
            .await;
    }

    /// Returns role and name of each element, as the browser reports them to a screen reader.
    pub(crate) async fn roles(&mut self) -> Vec<(String, String)> {
        let tree = self.call("Accessibility.getFullAXTree", json!({})).await;
        let nodes = tree["nodes"].as_array().cloned().unwrap_or_default();
        let nodes = nodes.iter().filter(|node| node["ignored"] != true);
        let text = |value: &Value| value["value"].as_str().unwrap_or_default().to_owned();
        nodes
            .map(|node| (text(&node["role"]), text(&node["name"])))
            .collect()
    }

    /// Presses the tab key.
    pub(crate) async fn press_tab(&mut self) {
        for kind in ["rawKeyDown", "keyUp"] {
            let parameters = json!({
                "type": kind, "key": "Tab", "code": "Tab", "windowsVirtualKeyCode": 9,
            });
            self.call("Input.dispatchKeyEvent", parameters).await;
        }
    }

    /// Saves a picture of the page, for people.
    pub(crate) async fn save(&mut self, file: &Path) {
        let parameters = json!({ "format": "png", "captureBeyondViewport": false });
        let picture = self.call("Page.captureScreenshot", parameters).await;
        let picture = picture["data"].as_str().expect("a picture");
        use base64::Engine as _;
        let picture = base64::engine::general_purpose::STANDARD.decode(picture);
        std::fs::write(file, picture.expect("base64")).expect("it is written");
    }
}
