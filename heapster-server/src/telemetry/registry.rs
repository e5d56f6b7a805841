//! [`Registry`]: the server's own metrics, rendered as Prometheus text.

/// A family of self metrics, declared as a `const` beside the code that feeds it.
#[derive(Clone, Copy, Debug)]
pub struct Family {
    /// The name, such as `heapster_scraper_duration_milliseconds`.
    pub name: &'static str,
    /// The help line.
    pub help: &'static str,
    /// What kind it is.
    pub kind: FamilyKind,
}

/// The kind of a family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FamilyKind {
    /// Only rises.
    Counter,
    /// Any value.
    Gauge,
    /// Quantiles 0.5, 0.9 and 0.99 over the last ten minutes, with sum and count.
    Summary,
}

/// The self metrics of one server; cheap to share behind an `Arc`.
#[derive(Debug, Default)]
pub struct Registry {}

impl Registry {
    /// Adds to a counter. `labels` are name–value pairs in a fixed order per family.
    pub fn add(&self, _family: &Family, _labels: &[(&'static str, &str)], _by: u64) {}
    /// Sets a gauge.
    pub fn set(&self, _family: &Family, _labels: &[(&'static str, &str)], _value: f64) {}
    /// Adds one observation to a summary.
    pub fn observe(&self, _family: &Family, _labels: &[(&'static str, &str)], _value: f64) {}
    /// Forgets every series of a family whose label has that value (a node that went away).
    pub fn forget(&self, _family: &Family, _label: &'static str, _value: &str) {}
    /// Everything as Prometheus text format 0.0.4.
    pub fn render(&self) -> String {
        String::new()
    }
}
