//! needs: postgresql
//!
//! `&Handle` in place of `&PgPool`: queries, streams, transactions, migrations, generic executors,
//! shared state; and the fixed handle.

#[expect(
    clippy::duplicate_mod,
    reason = "one body, once for each major of sqlx"
)]
#[path = "majors"]
mod sqlx_08 {
    mod as_sqlx;

    use claviger_fixtures::sqlx_08 as fixtures;

    /// Returns the text as `prepare` and `describe` expect it.
    const fn statement(text: &'static str) -> &'static str {
        text
    }
}

#[expect(
    clippy::duplicate_mod,
    reason = "one body, once for each major of sqlx"
)]
#[path = "majors"]
mod sqlx_09 {
    mod as_sqlx;

    use claviger_fixtures::sqlx_09 as fixtures;

    /// Returns the text as `prepare` and `describe` expect it.
    const fn statement(text: &'static str) -> sqlx::SqlStr {
        sqlx::SqlStr::from_static(text)
    }
}

/// On sqlx 0.9 alone: the feature `migrate` of sqlx 0.8 would add SQLite to the lock file.
#[expect(clippy::expect_used, reason = "a test fails by panicking")]
mod migrations {
    use claviger::{Handle, PgPools};
    use claviger_fixtures::Fixture;
    use sqlx::SqlStr;
    use sqlx::migrate::{Migration, MigrationType, Migrator};

    async fn migrate(db: Handle<PgPools>) {
        let migrator = Migrator {
            migrations: vec![Migration::new(
                1,
                "more".into(),
                MigrationType::Simple,
                SqlStr::from_static("CREATE TABLE more (n int)"),
                false,
            )]
            .into(),
            ..Migrator::DEFAULT
        };
        let target = db.clone();
        // In a spawned task, so that the future has to be `Send`.
        tokio::spawn(async move { migrator.run(&target).await })
            .await
            .expect("no panic")
            .expect("the migration runs");
        sqlx::query("INSERT INTO more VALUES (1)")
            .execute(&db)
            .await
            .expect("the migration created the table");
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_migrator_runs_on_a_supervised_handle() {
        let fixture = Fixture::new().await;
        migrate(fixture.pool(4).await).await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_migrator_runs_on_a_fixed_handle() {
        let fixture = Fixture::new().await;
        let pool = fixture.plain_pool("password-1", fixture.pool_options(4));
        migrate(Handle::fixed(pool)).await;
    }
}
