//! [`Keeper`]: a runtime of its own with an [`App`] in it; and [`Owned`], which belongs to one process.

use std::sync::Arc;

use heapster_server::app::{App, AppError, AppOptions};
use heapster_server::cli::{self, Command, Config};
use heapster_store::Store;
use parking_lot::Mutex;
use pyo3::prelude::*;
use tokio::runtime::{Builder, Runtime};

use crate::error;
use crate::recent::Recent;

/// Keeps a store in order, and collects into it when it has a source.
pub struct Keeper {
    pub app: App,
    pub runtime: Runtime,
    /// What went wrong lately.
    pub recent: Recent,
}

impl Keeper {
    /// Opens a store, or starts in one that is open.
    pub fn start(store: Option<Arc<Store>>, config: &Config) -> Result<Self, AppError> {
        let recent = Recent::default();
        let runtime = runtime(&recent)?;
        let options = AppOptions::from(config);
        // What is started here is started by this thread, not by one of the runtime.
        let _listening = recent.listen_for_now();
        let app = runtime.block_on(async {
            match store {
                Some(store) => App::start_on(store, options).await,
                None => App::start(options).await,
            }
        })?;
        Ok(Self { app, runtime, recent })
    }

    /// Stops in order; the store is closed when nobody else holds it.
    pub fn stop(self) -> Result<(), AppError> {
        let stopped = self.runtime.block_on(self.app.stop());
        self.runtime.shutdown_background();
        stopped
    }
}

/// A runtime whose threads tell `recent` what they would log.
pub fn runtime(recent: &Recent) -> Result<Runtime, AppError> {
    let recent = recent.clone();
    let mut builder = Builder::new_multi_thread();
    builder.worker_threads(2).thread_name("heapster").enable_all();
    builder.on_thread_start(move || recent.listen());
    builder.build().map_err(|source| AppError::System { what: "start the runtime", source })
}

/// The configuration that the flags of `heapster serve` describe: they are checked, and explained
/// when they are wrong, as on the command line.
pub fn config(flags: &[(&str, &str)]) -> PyResult<Config> {
    let words = flags.iter().map(|(flag, value)| format!("--{flag}={value}"));
    let environment = |name: &str| std::env::var(name).ok();
    match cli::command(std::iter::once("serve".to_owned()).chain(words), &environment) {
        Ok(Command::Serve(config, _)) => Ok(*config),
        Ok(_) => unreachable!("bug: `serve` is another verb"),
        Err(error) => Err(error::of_usage(&error)),
    }
}

/// Something with threads, locks and files, which a process that was forked off must not touch.
///
/// Once taken it is gone: the object it belongs to is closed.
pub struct Owned<T> {
    what: &'static str,
    process: u32,
    it: Mutex<Option<T>>,
}

impl<T> Owned<T> {
    /// It belongs to this process. `what` is how messages call it.
    pub fn new(what: &'static str, it: T) -> Self {
        Self { what, process: std::process::id(), it: Mutex::new(Some(it)) }
    }

    /// Looks at it for a moment.
    pub fn with<R>(&self, look: impl FnOnce(&T) -> R) -> PyResult<R> {
        self.check()?;
        self.it.lock().as_ref().map(look).ok_or_else(|| error::closed(self.what))
    }

    /// Takes it out; `None` when that was done before.
    pub fn take(&self) -> PyResult<Option<T>> {
        self.check()?;
        Ok(self.it.lock().take())
    }

    fn check(&self) -> PyResult<()> {
        match self.process == std::process::id() {
            true => Ok(()),
            false => Err(error::forked(self.what)),
        }
    }
}

impl<T> Drop for Owned<T> {
    fn drop(&mut self) {
        // In a forked process its threads do not exist, its locks may be held by one of them for
        // ever, and to give back the lock on its file would give back that of the parent.
        if self.process != std::process::id() {
            std::mem::forget(self.it.get_mut().take());
        }
    }
}
