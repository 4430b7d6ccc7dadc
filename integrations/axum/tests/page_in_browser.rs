//! needs: postgresql, chromium
//!
//! The status page in a browser, while the passwords of fifty pools change.

#![expect(clippy::expect_used, reason = "a test fails by panicking")]

#[path = "support/browser.rs"]
mod browser;
#[path = "support/contrast.rs"]
mod contrast;
#[path = "support/following.rs"]
mod following;
#[path = "support/layout.rs"]
mod layout;

use std::path::Path;
use std::time::Duration;

use axum::Router;
use browser::Page;
use claviger::error::ConnectErrorKind;
use claviger::{Credentials, Handle, Lease, PgPools, Revision, Supervisor};
use claviger_file::FileProvider;
use claviger_servers::Postgres;
use claviger_testkit::ScriptedProvider;
use contrast::check_contrast;
use following::{check_stream, check_upgrade};
use layout::check_widths;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

/// A name that a page must show as it is.
const HOSTILE: &str = "<img src=x onerror=\"document.title='broken'\">&amp;";

/// A service with fifty pools and its status page, on a real database.
struct Service {
    server: Postgres,
    folder: TempDir,
    /// Tokens that expire after 15 minutes, as those of RDS.
    tokens: ScriptedProvider,
    supervisor: Supervisor,
    pools: Vec<Handle<PgPools>>,
    address: String,
    stop: oneshot::Sender<()>,
    serving: JoinHandle<std::io::Result<()>>,
}

impl Service {
    async fn start() -> Self {
        let server = Postgres::builder()
            .setting("max_connections", "300")
            .start()
            .expect("a server");
        server.create_role("app", "password-1").expect("a role");
        let folder = TempDir::new().expect("a folder");
        let file = folder.path().join("secret.json");
        write(&file, "password-1");
        let tokens = ScriptedProvider::new().with_lifetime(Duration::from_secs(900));
        let supervisor = Supervisor::start();
        let orders = supervisor
            .add_provider("orders-tokens", tokens.clone())
            .await
            .expect("a lease");
        let invoices = FileProvider::json(&file).expect("a provider");
        let invoices = supervisor
            .add_provider("invoices-password", invoices)
            .await
            .expect("a lease");
        let options = PgConnectOptions::new()
            .host(server.host())
            .port(server.port())
            .database("postgres");
        let name = |number: usize| match number {
            0 => (HOSTILE.to_owned(), &orders),
            1..40 => (format!("orders-{number:02}"), &orders),
            _ => (format!("invoices-{number:02}"), &invoices),
        };
        let mut pools = Vec::new();
        for (name, credentials) in (0..50).map(name) {
            let kind = PgPools::new(options.clone(), PgPoolOptions::new().max_connections(4));
            let pool = supervisor.add_pool(&name, credentials, kind).await;
            pools.push(pool.expect("a verified lease"));
        }

        // Nested, because the page has no absolute address.
        let router = Router::new().nest("/ops", claviger_axum::page(&supervisor));
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let (stop, stopped) = oneshot::channel();
        let serving = tokio::spawn(async move {
            axum::serve(listener, router)
                .with_graceful_shutdown(async {
                    let _ = stopped.await;
                })
                .await
        });
        Self {
            server,
            folder,
            tokens,
            supervisor,
            pools,
            address: format!("http://{address}/ops"),
            stop,
            serving,
        }
    }

    /// Changes the password in the database. Both backends have another one until
    /// [`adopt_password`](Self::adopt_password).
    fn change_password(&self, password: &str) {
        self.server
            .set_password("app", password)
            .expect("it is set");
    }

    /// Changes the password in both backends.
    fn adopt_password(&self, password: &str) {
        assert_eq!(self.tokens.rotate(), password);
        self.tokens.hint();
        write(&self.folder.path().join("secret.json"), password);
    }

    /// Opens up to three connections in each pool.
    async fn open_connections(&self) {
        for (number, pool) in self.pools.iter().enumerate() {
            let mut open = Vec::new();
            for _ in 0..number % 4 {
                open.push(pool.acquire().await.expect("a connection"));
            }
        }
    }
}

fn write(file: &Path, password: &str) {
    let text = format!(r#"{{"username": "app", "password": "{password}"}}"#);
    let next = file.with_extension("next");
    std::fs::write(&next, text).expect("written");
    std::fs::rename(next, file).expect("renamed");
}

/// The cells of a column of the pools' table.
fn column(name: &str) -> String {
    format!(
        "[...document.querySelectorAll('#pools td[data-label={name:?}]')].map(cell => cell.innerText.trim())"
    )
}

/// An expression that is true if each cell of the column is `text`.
fn each_is(name: &str, text: &str) -> String {
    format!(
        "(cells => cells.length === 50 && cells.every(text => text === {text:?}))({})",
        column(name)
    )
}

/// Saves pictures for people, in the target folder.
async fn save(page: &mut Page, name: &str) {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR"));
    for scheme in ["light", "dark"] {
        page.prefer(scheme).await;
        page.save(&folder.join(format!("status-page-{name}-{scheme}.png")))
            .await;
    }
    page.prefer("light").await;
}

/// Texts that both the server and the page's script write. `format.rs` has the same.
const TEXTS: [(&str, u32, &str); 12] = [
    ("left", 0, "now"),
    ("left", 59, "59 s"),
    ("left", 60, "1 min 00 s"),
    ("left", 785, "13 min 05 s"),
    ("left", 3_600, "1 h 00 min"),
    ("left", 86_399, "23 h 59 min"),
    ("left", 200_000, "2 d 07 h"),
    ("ago", 4, "just now"),
    ("ago", 59, "59 s ago"),
    ("ago", 785, "13 min ago"),
    ("ago", 7_300, "2 h ago"),
    ("ago", 200_000, "2 d ago"),
];

#[tokio::test(flavor = "multi_thread")]
async fn fifty_pools_are_followed_through_rotations_in_a_browser() {
    let service = Service::start().await;
    service.open_connections().await;
    let mut page = Page::new().await;
    page.resize(1400, 1000).await;
    page.open(&service.address).await;
    page.until("document.getElementById('live').innerText === 'Live'")
        .await;
    page.value("window.sameDocument = true").await;
    for (function, seconds, text) in TEXTS {
        let written = page.text(&format!("{function}({seconds})")).await;
        assert_eq!(written, text, "{function}({seconds})");
    }

    // The first state.
    assert_eq!(page.text("document.title").await, "Ready · Claviger");
    page.until(&each_is("Generation", "1")).await;
    page.until(&each_is("State", "serving")).await;
    page.until(&format!(
        "{}.every(text => / of 4$/.test(text))",
        column("Serving")
    ))
    .await;
    page.until(&format!(
        "{}.filter(text => /^\\d+ min \\d\\d s$/.test(text)).length === 40",
        column("Expires in")
    ))
    .await;
    let names = "[...document.querySelectorAll('#pools .name')].map(name => name.textContent)";
    let names = page.value(names).await;
    assert!(
        names
            .as_array()
            .is_some_and(|names| names.iter().any(|name| name == HOSTILE)),
        "{names}"
    );
    assert_eq!(page.value("document.images.length").await, 0);
    check_what_a_screen_reader_gets(&mut page).await;
    check_keyboard(&mut page).await;
    check_widths(&mut page).await;
    check_stream(&mut page).await;

    // A rotation. A connection in use makes an old generation drain.
    let busy = service.pools[1].acquire().await.expect("a connection");
    service.change_password("password-2");
    service.adopt_password("password-2");
    page.until(&each_is("Generation", "2")).await;
    page.until("document.querySelector('#rotations').innerText.includes('40 pools')")
        .await;
    page.until("document.querySelector('#rotations').innerText.includes('10 pools')")
        .await;
    page.until(&format!("{}.includes('1')", column("Draining")))
        .await;
    service.open_connections().await;
    page.until(&format!("{}.includes('3 of 4')", column("Serving")))
        .await;
    save(&mut page, "rotation").await;
    page.resize(360, 800).await;
    save(&mut page, "rotation-narrow").await;
    page.resize(1400, 1000).await;
    drop(busy);
    page.until(&each_is("Draining", "0")).await;

    // The password changes, and the backends have the old one.
    service.change_password("password-3");
    service
        .server
        .terminate_connections("app")
        .expect("they are terminated");
    for pool in &service.pools {
        let _ = tokio::time::timeout(Duration::from_millis(100), pool.acquire()).await;
    }
    page.until("document.querySelector('.headline').innerText === 'Not ready'")
        .await;
    let advice = ConnectErrorKind::Rejected.advice().action;
    let advice = advice.split_at(1).1;
    page.until(&format!(
        "document.querySelector('#problems').innerText.includes({advice:?})"
    ))
    .await;
    page.until("document.querySelector('#problems').innerText.includes('28P01')")
        .await;
    page.until("document.querySelector('#problems a').href.endsWith('docs/operating.md#errors-of-a-database')")
        .await;
    check_contrast(&mut page).await;
    save(&mut page, "problem").await;
    page.resize(360, 800).await;
    let width = page.value("document.documentElement.scrollWidth").await;
    assert_eq!(width, 360, "nothing is wider than a telephone");
    save(&mut page, "problem-narrow").await;
    page.resize(1400, 1000).await;

    // The backends follow.
    service.adopt_password("password-3");
    page.until(&each_is("State", "serving")).await;
    page.until("document.querySelector('.headline').innerText === 'Ready'")
        .await;
    page.until("document.querySelector('.ended summary').innerText.includes('earlier error')")
        .await;
    page.value("document.querySelector('.ended').open = true")
        .await;
    check_contrast(&mut page).await;
    save(&mut page, "recovered").await;
    check_roll_back(&service, &mut page).await;
    assert_eq!(page.value("window.sameDocument").await, true);
    assert_eq!(page.problems().await, [""; 0]);
    check_upgrade(&mut page).await;

    // The policy is in force: a script of another, and HTML made from text, are rejected.
    let foreign = "document.body.append(Object.assign(document.createElement('style'), { textContent: 'body { color: red }' }))";
    page.value(&format!("void {foreign}")).await;
    let html = "try { document.body.innerHTML = '<b>'; 'allowed' } catch { 'rejected' }";
    assert_eq!(page.text(html).await, "rejected");
    page.until("problems.some(problem => problem.startsWith('policy: style-src'))")
        .await;

    // A stream does not hold up the shutdown.
    service.supervisor.announce_shutdown();
    let _ = service.stop.send(());
    let served = tokio::time::timeout(Duration::from_secs(30), service.serving).await;
    served
        .expect("it ends")
        .expect("no panic")
        .expect("no error");
    page.until("document.getElementById('live').innerText.startsWith('Not live')")
        .await;
    service.supervisor.shutdown(Duration::from_secs(10)).await;
}

/// Returns a pool to its previous lease, which holds its provider, until that is resumed.
async fn check_roll_back(service: &Service, page: &mut Page) {
    let supervisor = &service.supervisor;
    // A connection in use keeps the previous lease, and the new one has the same password.
    let busy = service.pools[1].acquire().await.expect("a connection");
    let credentials = Credentials::new("app", "password-3");
    let next = Lease::new(credentials, Revision::new("again"));
    service.tokens.return_next(next);
    let rotated = supervisor.rotate_now("orders-tokens").await;
    rotated.expect("it is adopted");
    let rolled_back = supervisor.roll_back("orders-01").await;
    rolled_back.expect("its lease is in use");
    page.until(&state_is("pools", "orders-01", "rolled back"))
        .await;
    page.until(&state_is("pools", "orders-02", "serving")).await;
    page.until(&state_is("providers", "orders-tokens", "held"))
        .await;
    page.until(
        "document.querySelector('main').innerText.includes('\"orders-tokens\" is held since')",
    )
    .await;
    check_contrast(page).await;
    save(page, "rolled-back").await;
    drop(busy);
    supervisor.resume("orders-tokens").expect("it is known");
    page.until(&each_is("State", "serving")).await;
    page.until("!document.querySelector('main').innerText.includes('is held since')")
        .await;
}

/// An expression that is true if the row of this name has this state.
fn state_is(table: &str, name: &str, state: &str) -> String {
    format!(
        "[...document.querySelectorAll('#{table} tr')].some(row => \
         row.querySelector('.name')?.textContent === {name:?} && \
         row.querySelector('td[data-label=\"State\"]').innerText.trim() === {state:?})"
    )
}

async fn check_what_a_screen_reader_gets(page: &mut Page) {
    let roles = page.roles().await;
    let count = |role: &str| roles.iter().filter(|(one, _)| one == role).count();
    for (role, name) in [
        ("banner", ""),
        ("main", ""),
        ("region", "Summary"),
        ("region", "Problems"),
        ("region", "Pools"),
        ("region", "Providers"),
        ("region", "Rotations"),
        ("table", "Pools"),
        ("table", "Providers"),
        ("columnheader", "Expires in"),
        ("rowheader", "orders-07"),
        ("rowheader", HOSTILE),
        ("heading", "Claviger"),
        ("link", "Skip to the pools"),
    ] {
        let has = roles.iter().any(|(one, of)| one == role && of == name);
        assert!(has, "there is no {role} {name:?} in {roles:?}");
    }
    // Pools and providers, and nothing that changes all the time is announced.
    assert_eq!(count("rowheader"), 52);
    assert_eq!(count("status"), 2, "whether it is ready, and whether live");
    let announced = "document.querySelectorAll('[aria-live], [role=alert], [role=log]').length";
    assert_eq!(page.value(announced).await, 0);
    page.resize(360, 800).await;
    let narrow = page.roles().await;
    let rows = narrow.iter().filter(|(role, _)| role == "rowheader");
    assert_eq!(rows.count(), 52, "cards are rows of a table, too");
    page.resize(1400, 1000).await;
}

async fn check_keyboard(page: &mut Page) {
    page.press_tab().await;
    page.until("document.activeElement.innerText === 'Skip to the pools'")
        .await;
    page.until("parseFloat(getComputedStyle(document.activeElement).outlineWidth) >= 2")
        .await;
    page.value("document.activeElement.blur()").await;
}
