//! A deterministic simulator of `heapster-store`: nothing acknowledged is lost, whatever dies when.
//!
//! ```text
//! seed → Script → run: Store on FaultyVfs ──┬─ every call of the file system → Moment
//!                       │                   │                                    │ crash
//!                      Model ←── compare ───┴────────── Store::open ←──────── image
//! ```
//!
//! A [`Script`] is drawn from a seed. [`run()`] carries it out and lets the process or the machine die
//! at *every* call that changes a file, not only between calls of the store; opens a store on what is
//! left; and compares it with the model, bit for bit. A [`Campaign`] does it for many seeds, a
//! hunt for stores with a bug that was planted on purpose.
//!
//! # Reading order
//! `script`, `model`, `run`, `campaign`, `hunt`.

mod aggregates;
mod campaign;
mod clock;
mod contents;
#[cfg(feature = "planted-bugs")]
mod hunt;
mod model;
mod run;
mod script;
mod shorten;

pub use campaign::{Campaign, Found, Progress, run_seed};
#[cfg(feature = "planted-bugs")]
pub use hunt::{Trophy, hunt};
pub use run::{Failure, Tally, run};
pub use script::Script;
pub use shorten::shorten;
