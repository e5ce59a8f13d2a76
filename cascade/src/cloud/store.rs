//! The file that queues, topics and the outbox are kept in.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use rusqlite::{Connection, Transaction, TransactionBehavior, ffi};

/// One SQLite database, used from blocking threads only so that no async worker waits for the disk.
///
/// It is in WAL mode with `synchronous=NORMAL`: what was committed survives the death of the process (kill -9), and a
/// power cut may take back the last commits but leaves the database whole.
#[derive(Clone)]
pub(super) struct Store {
    connection: Arc<Mutex<Connection>>,
}

impl Store {
    /// Opens the database in `file`, or an empty one in memory, and creates what `schemas` name and is missing.
    pub(super) fn open(file: Option<&Path>, schemas: &[&str]) -> rusqlite::Result<Self> {
        let connection = match file {
            Some(file) => Connection::open(file)?,
            None => Connection::open_in_memory()?,
        };
        connection.pragma_update(None, "journal_mode", "WAL")?;
        connection.pragma_update(None, "synchronous", "NORMAL")?;
        connection.set_prepared_statement_cache_capacity(64);
        for schema in schemas {
            connection.execute_batch(schema)?;
        }
        Ok(Self {
            connection: Arc::new(Mutex::new(connection)),
        })
    }

    /// Runs `work` in one transaction, which is committed if it returns `Ok` and rolled back otherwise.
    pub(super) async fn run<T, E, W>(&self, work: W) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<rusqlite::Error> + Send + 'static,
        W: FnOnce(&Transaction<'_>) -> Result<T, E> + Send + 'static,
    {
        let connection = Arc::clone(&self.connection);
        let done = tokio::task::spawn_blocking(move || {
            // A panic inside `work` rolled its transaction back, so the connection behind a poisoned lock is sound.
            let mut connection = connection.lock().unwrap_or_else(PoisonError::into_inner);
            let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            let value = work(&transaction)?;
            transaction.commit()?;
            Ok(value)
        });
        match done.await {
            Ok(result) => result,
            Err(failure) if failure.is_panic() => std::panic::resume_unwind(failure.into_panic()),
            // The runtime is shutting down and never started the work.
            Err(_) => Err(rusqlite::Error::SqliteFailure(ffi::Error::new(ffi::SQLITE_INTERRUPT), None).into()),
        }
    }

    /// Folds the write-ahead log into the file, so that the file alone is the database.
    pub(super) async fn flush(&self) -> rusqlite::Result<()> {
        let connection = Arc::clone(&self.connection);
        let flushed = tokio::task::spawn_blocking(move || {
            let connection = connection.lock().unwrap_or_else(PoisonError::into_inner);
            connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))
        });
        flushed.await.unwrap_or(Ok(()))
    }
}
