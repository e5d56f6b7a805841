//! `heapster._heapster`: the store, the query engine and the collector for the Python package.
//!
//! Thin: it turns arguments into those of the other crates and answers into columns. What a user sees
//! is written in Python around it (`heapster-py/python/heapster`), and so are its names, defaults and
//! explanations. Everything that takes time runs without the interpreter's lock (`interrupt`).
//!
//! # Reading order
//! `store`, `question`, `frame`, `table`, `append`, `collector`, `server`, `error`.
#![deny(unsafe_code)]
#![expect(clippy::needless_pass_by_value, reason = "what comes from Python is made for the call")]

mod append;
mod arrow_stream;
mod collector;
mod error;
mod frame;
mod interrupt;
mod keeper;
mod question;
mod recent;
mod server;
mod store;
mod stream;
mod table;
mod words;

use pyo3::prelude::*;

#[pymodule(gil_used = false)]
fn _heapster(module: &Bound<'_, PyModule>) -> PyResult<()> {
    module.add("VERSION", heapster_server::cli::VERSION)?;
    module.add_class::<store::Store>()?;
    module.add_class::<frame::Frame>()?;
    module.add_class::<table::Table>()?;
    module.add_class::<stream::Stream>()?;
    module.add_class::<append::Report>()?;
    module.add_class::<collector::Collector>()?;
    module.add_class::<server::Server>()?;
    words::register(module)
}
