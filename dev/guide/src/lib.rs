//! Compiles the Rust code of the guide in `docs/`, and runs it unless it is marked `no_run`. Tests
//! check the links of all Markdown files, and the manifests in `ops/`.

#[cfg(test)]
mod links;
#[cfg(test)]
mod manifests;
#[cfg(test)]
mod markdown;
#[cfg(test)]
mod pages;

/// Compiles the code of each page as a documentation test.
macro_rules! compile_pages {
    ($($path:literal as $name:ident,)*) => {
        $(
            #[cfg(doctest)]
            #[doc = include_str!(concat!("../../../", $path))]
            struct $name;
        )*

        /// The pages that are compiled here, by their paths in the repository.
        #[cfg(test)]
        const PAGES: &[&str] = &[$($path),*];
    };
}

compile_pages! {
    "docs/backends/elasticache.md" as ElastiCache,
    "docs/backends/file.md" as File,
    "docs/backends/rds-iam.md" as RdsIam,
    "docs/backends/secrets-manager.md" as SecretsManager,
    "docs/backends/vault.md" as Vault,
    "docs/frameworks/actix.md" as Actix,
    "docs/frameworks/axum.md" as Axum,
    "docs/migration.md" as Migration,
    "docs/pool.md" as Pool,
    "docs/pools/bb8.md" as Bb8,
    "docs/pools/deadpool-postgres.md" as DeadpoolPostgres,
    "docs/pools/diesel-async.md" as DieselAsync,
    "docs/pools/mysql.md" as MySql,
    "docs/pools/sqlx.md" as Sqlx,
    "docs/provider.md" as Provider,
    "docs/recipes.md" as Recipes,
    "docs/start.md" as Start,
    "docs/testing.md" as Testing,
}
