//! The embedded time-series store of heapster.

mod chunk;
mod clock;
mod codec;
mod error;
mod rows;
mod segment;
pub mod vfs;

pub use clock::{Clock, SystemClock};
pub use error::{Error, Result};
