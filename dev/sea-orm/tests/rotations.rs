//! needs: postgresql
//!
//! sea-orm under load during rotations: on the current pool, which stays valid with in-place
//! handover, and on a connection that follows the handovers.

#![expect(clippy::expect_used, reason = "a test fails by panicking")]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use claviger::lease::OldConnections;
use claviger::pool::HandoverPolicy;
use claviger::{Handle, PgPools};
use claviger_fixtures::{Fixture, eventually, short_lived};
use claviger_sea_orm::Following;
use claviger_testkit::ScriptedProvider;
use sea_orm::entity::prelude::*;
use sea_orm::{ActiveValue, QueryOrder, SqlxPostgresConnector, TransactionTrait};
use tokio::task::JoinHandle;

#[expect(unreachable_pub, reason = "as sea-orm's derive requires")]
mod order {
    use sea_orm::entity::prelude::*;

    #[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
    #[sea_orm(table_name = "orders")]
    pub struct Model {
        #[sea_orm(primary_key)]
        pub id: i64,
        pub note: String,
    }

    #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
    pub enum Relation {}

    impl ActiveModelBehavior for ActiveModel {}
}

fn note(text: String) -> order::ActiveModel {
    order::ActiveModel {
        note: ActiveValue::Set(text),
        ..Default::default()
    }
}

async fn write_and_read(connection: &impl ConnectionTrait, caller: u32) -> Result<(), DbErr> {
    let inserted = note(format!("of caller {caller}"))
        .insert(connection)
        .await?;
    loop {
        match order::Entity::find_by_id(inserted.id).one(connection).await {
            Err(DbErr::Conn(_)) => tokio::time::sleep(Duration::from_millis(20)).await,
            read => {
                assert_eq!(read?, Some(inserted));
                return Ok(());
            }
        }
    }
}

/// Rotates six times under eight callers, each of which writes a row and reads it.
async fn rotate_under<C>(fixture: &Fixture, db: &Handle<PgPools>, connection: C) -> u64
where
    C: ConnectionTrait + Clone + Send + 'static,
{
    let (stop, written) = (
        Arc::new(AtomicBool::new(false)),
        Arc::new(AtomicU64::new(0)),
    );
    let callers: Vec<_> = (0..8)
        .map(|caller| {
            let (stop, written) = (Arc::clone(&stop), Arc::clone(&written));
            let connection = connection.clone();
            tokio::spawn(async move {
                while !stop.load(Ordering::Acquire) {
                    match write_and_read(&connection, caller).await {
                        Ok(()) => drop(written.fetch_add(1, Ordering::AcqRel)),
                        // Nothing was sent. Until the handover, sqlx's own pool logs in with the
                        // old password.
                        Err(DbErr::Conn(_)) => tokio::time::sleep(Duration::from_millis(20)).await,
                        Err(error) => return Err(error),
                    }
                }
                Ok::<_, DbErr>(())
            })
        })
        .collect();
    for _ in 0..6 {
        let (generation, rows) = (db.generation(), written.load(Ordering::Acquire));
        fixture.rotate_announced().await;
        eventually("the next generation is current", || {
            db.generation() > generation
        })
        .await;
        eventually("callers continue", || {
            written.load(Ordering::Acquire) > rows + 10
                || callers.iter().any(JoinHandle::is_finished)
        })
        .await;
    }
    stop.store(true, Ordering::Release);
    for caller in callers {
        caller.await.expect("no panic").expect("no query failed");
    }
    written.load(Ordering::Acquire)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_current_pool_stays_valid_with_in_place_handover() {
    let fixture =
        Fixture::with(ScriptedProvider::new().with_old_connections(OldConnections::Keep)).await;
    let credentials = fixture.add_provider().await;
    // Connections are short-lived, so that logins happen all the time.
    let options = short_lived(fixture.pool_options(4), Duration::from_millis(50));
    let pools = fixture
        .pools_with(options)
        .with_handover_policy(HandoverPolicy::AlwaysInPlace)
        .with_checks_in_pool();
    let db = fixture
        .supervisor
        .add_pool("orders", &credentials, pools)
        .await
        .expect("verified");
    let connection = SqlxPostgresConnector::from_sqlx_postgres_pool(db.current());
    let logins = fixture.accepted_logins();

    // The transaction is open during all rotations.
    let transaction = connection.begin().await.expect("the transaction begins");
    let first_row = note("first".to_owned())
        .insert(&transaction)
        .await
        .expect("the row is inserted");
    let written = rotate_under(&fixture, &db, connection.clone()).await;
    transaction
        .commit()
        .await
        .expect("the transaction is committed");

    assert_eq!(db.generation(), 7);
    assert!(
        fixture.accepted_logins() > logins + 6,
        "the hazard: logins with the new passwords"
    );
    let rows = order::Entity::find()
        .order_by_asc(order::Column::Id)
        .all(&connection)
        .await
        .expect("the rows are read");
    assert_eq!(rows.first().map(|row| row.id), Some(first_row.id));
    assert_eq!(rows.len() as u64, written + 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_following_connection_survives_the_replacement_of_its_pool() {
    let fixture = Fixture::new().await;
    let db = fixture
        .pool_from(fixture.pools(4).with_checks_in_pool())
        .await;
    let first = db.current();
    let connection = Following::new(db.clone());
    let transaction = connection.begin().await.expect("the transaction begins");
    let first_row = note("first".to_owned())
        .insert(&transaction)
        .await
        .expect("the row is inserted");
    let written = rotate_under(&fixture, &db, connection.clone()).await;
    transaction
        .commit()
        .await
        .expect("the transaction is committed");

    assert!(first.is_closed(), "the hazard: the pool was replaced");
    let rows = order::Entity::find()
        .all(&connection)
        .await
        .expect("the rows are read");
    assert!(rows.contains(&first_row));
    assert_eq!(rows.len() as u64, written + 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_call_gets_a_connection_that_the_server_ended() {
    let fixture = Fixture::new().await;
    let options = fixture.pool_options(4).min_connections(4);
    let db = fixture
        .pool_from(fixture.pools_with(options).with_checks_in_pool())
        .await;
    eventually("all connections are idle", || db.current().num_idle() == 4).await;
    let connection = Following::new(db.clone());
    assert_eq!(
        fixture.terminate_connections().await,
        4,
        "the hazard: idle connections end"
    );
    for _ in 0..8 {
        connection
            .execute_unprepared("SELECT 1")
            .await
            .expect("an open connection");
    }
}
