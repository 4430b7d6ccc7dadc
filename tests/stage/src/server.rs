//! The kinds of server that a stage can stand on.

mod mariadb;
mod postgres;

use std::fmt;
use std::future::Future;

use claviger::{Credentials, Handle, PoolFactory};
use sqlx::pool::PoolOptions;
use sqlx::{Connection, Database, Pool};

/// The connect options of a server's database.
pub type OptionsOf<S> = <<<S as Server>::Db as Database>::Connection as Connection>::Options;

/// A pool of a server's database.
pub type PoolOf<S> = Pool<<S as Server>::Db>;

/// A server with the role `app` and its database `orders`, in which there is a table of that name. What fails here fails the test.
pub trait Server: fmt::Debug + Send + Sync + Sized + 'static {
    /// The database, as sqlx knows it.
    type Db: Database;
    /// The factory of its pools.
    type Pools: PoolFactory<Secret = Credentials, Pool = PoolOf<Self>>;

    /// The SQLSTATE with which it rejects a wrong password.
    const REJECTED: &'static str;
    /// Its words for that.
    const REJECTION: &'static str;

    /// Starts one; the role's password is `password-1`.
    fn raise() -> Self;
    /// Where the database is, with this user and password if any.
    fn options(&self, login: Option<(&str, &str)>) -> OptionsOf<Self>;
    /// A factory of pools.
    fn factory(options: OptionsOf<Self>, pool: PoolOptions<Self::Db>) -> Self::Pools;
    /// The role's password from now on.
    fn change_password(&self, password: &str);
    /// Ends all connections of the role; answers how many.
    fn cut_connections(&self) -> usize;
    /// Runs a statement as superuser.
    fn run(&self, sql: &str) -> String;
    /// Logins of the role that it has rejected so far.
    fn rejected(&self) -> usize;
    /// Logins of the role that it has accepted so far.
    fn accepted(&self) -> usize;
    /// Makes a user `watcher` of that password who sees the connections of all.
    fn admit_watcher(&self);
    /// How many connections the role has, asked by the watcher.
    fn count_connections(watcher: &PoolOf<Self>) -> impl Future<Output = Result<i64, sqlx::Error>> + Send;
}

/// A pool that callers query through a handle.
pub trait Queried: Clone + Send + Sync + Sized + 'static {
    /// Runs a statement through the handle.
    fn ask(handle: &Handle<Self>, sql: &'static str) -> impl Future<Output = Result<(), sqlx::Error>> + Send;
    /// Whether the server itself cut the statement short.
    fn has_interrupted(error: &sqlx::Error) -> bool;
}
