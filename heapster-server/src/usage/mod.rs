//! What nodes and containers use: two points of each, and the rate between them.
//!
//! In reading order: [`track`] has the points and the rules by which two of them make a rate,
//! [`board`] the tracks of everything that was scraped lately, [`past`] the same of any moment the
//! store remembers. The rules are those of metrics-server, but for what `docs/metrics-api.md` lists.

pub mod board;
pub mod past;
pub mod track;

pub use board::{Board, Tracked};
pub use track::{Point, Rules, Track, Usage};
