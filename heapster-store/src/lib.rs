//! The embedded time-series store of heapster.

mod clock;
pub mod vfs;

pub use clock::{Clock, SystemClock};
