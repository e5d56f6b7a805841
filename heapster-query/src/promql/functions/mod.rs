//! What the functions compute, on plain numbers: no series, no labels, no steps.

mod date;
mod histogram;
mod math;
mod over;
mod rate;
mod sum;

pub(super) use date::DatePart;
pub(super) use histogram::{Bucket, fraction, quantile as histogram_quantile};
pub(super) use math::{binary, clamp, compare, math, quantile, round};
pub(super) use over::{Number, Stretch, over};
pub(super) use rate::Reach;
pub(super) use sum::{Average, Kahan};
