//! Errors of the other crates as exceptions of `heapster.errors`: the one place that decides which.

use heapster_core::storage::StorageError;
use heapster_query::QueryError;
use heapster_server::app::AppError;
use heapster_server::cli::UsageError;
use heapster_server::telemetry::logging::chain;
use heapster_store::Error as StoreError;
use pyo3::prelude::*;

/// The classes, which are written in Python so that they can have two bases.
mod class {
    pyo3::import_exception!(heapster.errors, ClosedError);
    pyo3::import_exception!(heapster.errors, CollectorError);
    pyo3::import_exception!(heapster.errors, CorruptionError);
    pyo3::import_exception!(heapster.errors, DiskFullError);
    pyo3::import_exception!(heapster.errors, ForkError);
    pyo3::import_exception!(heapster.errors, LimitError);
    pyo3::import_exception!(heapster.errors, LockedError);
    pyo3::import_exception!(heapster.errors, NotAStoreError);
    pyo3::import_exception!(heapster.errors, QueryError);
    pyo3::import_exception!(heapster.errors, QueryTimeoutError);
    pyo3::import_exception!(heapster.errors, ReadOnlyError);
    pyo3::import_exception!(heapster.errors, StoreError);
}

/// What a store said.
pub fn of_store(error: &StoreError) -> PyErr {
    let text = chain(error);
    match error {
        StoreError::Locked { .. } => class::LockedError::new_err(format!(
            "{text}; open it with mode=\"r\", which works beside the process that writes"
        )),
        StoreError::NotAStore { .. } => class::NotAStoreError::new_err(format!(
            "{text}; give the directory that the server has as --data-dir, or make a store with \
             mode=\"rw\""
        )),
        StoreError::Corrupt { .. } => class::CorruptionError::new_err(format!(
            "{text}; run `python -m heapster check` on the directory"
        )),
        StoreError::DiskFull { .. } => {
            class::DiskFullError::new_err(format!("{text}; make room and try again"))
        }
        StoreError::InvalidOptions { .. } => class::QueryError::new_err(text),
        StoreError::Io { source, .. } => match source.raw_os_error() {
            // With a number first, the exception has `errno`.
            Some(number) => class::StoreError::new_err((number, text)),
            None => class::StoreError::new_err(text),
        },
        _ => class::StoreError::new_err(text),
    }
}

/// Why stored data could not be read.
pub fn of_storage(error: &StorageError) -> PyErr {
    class::StoreError::new_err(chain(error))
}

/// Why a query, which is `asked`, has no answer. One that was cancelled has none because of an exception that is on its
/// way already, so what this gives for it is never seen.
pub fn of_query(error: &QueryError, asked: &str) -> PyErr {
    match error {
        QueryError::Storage(error) => of_storage(error),
        QueryError::Parse(error) => {
            // Python counts characters.
            let before = asked.get(..error.offset());
            let position = before.map_or(error.offset(), |before| before.chars().count());
            of_text(error.marked(), position)
        }
        QueryError::TimedOut => class::QueryTimeoutError::new_err(
            "the query took longer than timeout; ask for fewer series, a shorter range or a longer \
             step, or give it more time",
        ),
        QueryError::TooLarge { .. }
        | QueryError::TooManySamples { .. }
        | QueryError::TooMuchMemory { .. } => class::LimitError::new_err(error.to_string()),
        _ => class::QueryError::new_err(error.to_string()),
    }
}

/// A text that cannot be read, with the place of what is wrong.
pub fn of_text(message: String, offset: usize) -> PyErr {
    class::QueryError::new_err((message, offset))
}

/// Something in an argument that cannot be.
pub fn of_argument(message: impl Into<String>) -> PyErr {
    class::QueryError::new_err(message.into())
}

/// Why something cannot be started or stopped.
pub fn of_app(error: &AppError) -> PyErr {
    match error {
        AppError::Open { source, .. } => of_store(source),
        AppError::Restore(source) => of_storage(source),
        error => {
            let text = format!("{}. {}", chain(error), error.advice());
            class::CollectorError::new_err(text)
        }
    }
}

/// An option that the command line would refuse as well.
pub fn of_usage(error: &UsageError) -> PyErr {
    of_argument(chain(error))
}

/// The object was closed.
pub fn closed(what: &str) -> PyErr {
    class::ClosedError::new_err(format!("the {what} is closed"))
}

/// The object belongs to the process that this one was forked from.
pub fn forked(what: &str) -> PyErr {
    class::ForkError::new_err(format!(
        "the {what} was opened before this process was forked; open it again here, or start \
         processes with multiprocessing's \"spawn\" or \"forkserver\""
    ))
}

/// The store was opened for reading.
pub fn read_only() -> PyErr {
    class::ReadOnlyError::new_err("the store is open for reading; open it with mode=\"rw\"")
}
