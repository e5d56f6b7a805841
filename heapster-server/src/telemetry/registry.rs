//! [`Registry`]: the server's own metrics, rendered as Prometheus text.
//!
//! One lock guards everything: an update is a map look-up and an addition, and the busiest callers
//! are HTTP requests. What does not fit is dropped and counted rather than kept without bound.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;

use heapster_core::Text;
use heapster_store::{Clock, SystemClock};
use parking_lot::Mutex;

use super::process;
use super::sketch::{QUANTILES, Summary};

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

impl FamilyKind {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Summary => "summary",
        }
    }
}

/// Series of one family beyond this many are not kept: room for 5,000 nodes, four times over.
const SERIES_PER_FAMILY_MAX: usize = 20_000;

const DROPPED_SERIES: Family = Family {
    name: "heapster_registry_dropped_updates_total",
    help: "Updates of self metrics that were dropped because their family has too many series.",
    kind: FamilyKind::Counter,
};

/// The self metrics of one server; cheap to share behind an `Arc`.
///
/// Families appear when they are first fed. The kind of a family is that of its first update; an
/// update of another kind is ignored.
#[derive(Debug)]
pub struct Registry {
    clock: Arc<dyn Clock>,
    families: Mutex<BTreeMap<&'static str, FamilyState>>,
}

#[derive(Debug)]
struct FamilyState {
    family: Family,
    series: BTreeMap<LabelValues, Cell>,
}

/// Name–value pairs in the order the caller gave them, which is fixed per family.
type LabelValues = Vec<(&'static str, Text)>;

#[derive(Debug)]
enum Cell {
    Counter(u64),
    Gauge(f64),
    Summary(Box<Summary>),
}

impl Cell {
    fn new(kind: FamilyKind) -> Self {
        match kind {
            FamilyKind::Counter => Self::Counter(0),
            FamilyKind::Gauge => Self::Gauge(0.0),
            FamilyKind::Summary => Self::Summary(Box::default()),
        }
    }
}

impl Default for Registry {
    fn default() -> Self {
        Self::new(Arc::new(SystemClock::new()))
    }
}

impl Registry {
    /// An empty registry whose summaries age by the monotonic side of `clock`.
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self { clock, families: Mutex::default() }
    }

    /// Adds to a counter. `labels` are name–value pairs in a fixed order per family.
    pub fn add(&self, family: &Family, labels: &[(&'static str, &str)], by: u64) {
        self.update(family, labels, |cell| {
            if let Cell::Counter(total) = cell {
                *total = total.saturating_add(by);
            }
        });
    }

    /// Sets a counter to a total that is counted elsewhere. A total below the present one is taken
    /// as it is: whoever counts has started again.
    pub fn set_total(&self, family: &Family, labels: &[(&'static str, &str)], total: u64) {
        self.update(family, labels, |cell| {
            if let Cell::Counter(own) = cell {
                *own = total;
            }
        });
    }

    /// Sets a gauge.
    pub fn set(&self, family: &Family, labels: &[(&'static str, &str)], value: f64) {
        self.update(family, labels, |cell| {
            if let Cell::Gauge(own) = cell {
                *own = value;
            }
        });
    }

    /// Adds one observation to a summary. One that is not finite is ignored, since it would spoil
    /// the sum for good.
    pub fn observe(&self, family: &Family, labels: &[(&'static str, &str)], value: f64) {
        let now = self.clock.monotonic();
        self.update(family, labels, |cell| {
            if let Cell::Summary(summary) = cell {
                summary.observe(now, value);
            }
        });
    }

    /// Forgets every series of a family whose label has that value (a node that went away).
    pub fn forget(&self, family: &Family, label: &'static str, value: &str) {
        if let Some(state) = self.families.lock().get_mut(family.name) {
            state.series.retain(|labels, _| {
                !labels.iter().any(|(name, own)| *name == label && own == value)
            });
        }
    }

    /// Everything as Prometheus text format 0.0.4, families by name and series by label values,
    /// followed in the same order by what the kernel knows of this process (`process_*`).
    pub fn render(&self) -> String {
        let now = self.clock.monotonic();
        let mut texts: Vec<(&'static str, String)> = Vec::new();
        for (name, state) in self.families.lock().iter() {
            if state.series.is_empty() {
                continue;
            }
            let mut text = header(&state.family);
            for (labels, cell) in &state.series {
                match cell {
                    Cell::Counter(total) => sample(&mut text, name, "", labels, None, total),
                    Cell::Gauge(value) => {
                        sample(&mut text, name, "", labels, None, &go_float(*value));
                    }
                    Cell::Summary(summary) => {
                        for ((_, word), value) in QUANTILES.iter().zip(summary.quantiles(now)) {
                            sample(&mut text, name, "", labels, Some(word), &go_float(value));
                        }
                        sample(&mut text, name, "_sum", labels, None, &go_float(summary.sum()));
                        sample(&mut text, name, "_count", labels, None, &summary.count());
                    }
                }
            }
            texts.push((name, text));
        }
        for (family, value) in process::read() {
            let mut text = header(&family);
            sample(&mut text, family.name, "", &[], None, &go_float(value));
            texts.push((family.name, text));
        }
        texts.sort_by_key(|(name, _)| *name);
        texts.into_iter().map(|(_, text)| text).collect()
    }

    fn update(
        &self,
        family: &Family,
        labels: &[(&'static str, &str)],
        change: impl FnOnce(&mut Cell),
    ) {
        let labels: LabelValues =
            labels.iter().map(|(name, value)| (*name, Text::from(*value))).collect();
        let mut families = self.families.lock();
        let state = families
            .entry(family.name)
            .or_insert_with(|| FamilyState { family: *family, series: BTreeMap::new() });
        if state.family.kind != family.kind {
            return;
        }
        if let Some(cell) = state.series.get_mut(&labels) {
            return change(cell);
        }
        if state.series.len() < SERIES_PER_FAMILY_MAX {
            return change(state.series.entry(labels).or_insert(Cell::new(family.kind)));
        }
        drop(families);
        self.add(&DROPPED_SERIES, &[], 1);
    }
}

fn header(family: &Family) -> String {
    let help = family.help.replace('\\', "\\\\").replace('\n', "\\n");
    let (name, kind) = (family.name, family.kind.as_str());
    format!("# HELP {name} {help}\n# TYPE {name} {kind}\n")
}

fn sample(
    into: &mut String,
    name: &str,
    suffix: &str,
    labels: &[(&'static str, Text)],
    quantile: Option<&str>,
    value: &dyn std::fmt::Display,
) {
    into.push_str(name);
    into.push_str(suffix);
    let own = labels.iter().map(|(name, value)| (*name, value.as_str()));
    let mut open = '{';
    for (name, value) in own.chain(quantile.map(|word| ("quantile", word))) {
        into.push(open);
        into.push_str(name);
        into.push_str("=\"");
        for char in value.chars() {
            match char {
                '\\' => into.push_str("\\\\"),
                '"' => into.push_str("\\\""),
                '\n' => into.push_str("\\n"),
                other => into.push(other),
            }
        }
        into.push('"');
        open = ',';
    }
    if open == ',' {
        into.push('}');
    }
    // Writing to a String cannot fail.
    let _ = writeln!(into, " {value}");
}

/// A float as the text format spells it, which differs from Rust in the infinities only.
fn go_float(value: f64) -> String {
    if value == f64::INFINITY {
        "+Inf".to_owned()
    } else if value == f64::NEG_INFINITY {
        "-Inf".to_owned()
    } else {
        value.to_string()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::telemetry::test_clock::ManualClock;

    const REQUESTS: Family =
        Family { name: "requests_total", help: "All of\nthem.", kind: FamilyKind::Counter };
    const TEMPERATURE: Family =
        Family { name: "a_temperature", help: "Degrees.", kind: FamilyKind::Gauge };
    const LATENCY: Family =
        Family { name: "latency_milliseconds", help: "Latency.", kind: FamilyKind::Summary };

    /// What the registry renders, without the process' own metrics.
    fn rendered(registry: &Registry) -> String {
        let text = registry.render();
        text.lines()
            .filter(|line| !line.contains("process_"))
            .map(|line| format!("{line}\n"))
            .collect()
    }

    #[test]
    fn families_and_series_come_in_a_stable_order_with_escaped_text() {
        let registry = Registry::default();
        registry.add(&REQUESTS, &[("handler", "b"), ("code", "200")], 2);
        registry.add(&REQUESTS, &[("handler", "a\"\\\n"), ("code", "500")], 1);
        registry.add(&REQUESTS, &[("handler", "b"), ("code", "200")], 3);
        registry.set(&TEMPERATURE, &[], f64::INFINITY);
        assert_eq!(
            rendered(&registry),
            "# HELP a_temperature Degrees.\n\
             # TYPE a_temperature gauge\n\
             a_temperature +Inf\n\
             # HELP requests_total All of\\nthem.\n\
             # TYPE requests_total counter\n\
             requests_total{handler=\"a\\\"\\\\\\n\",code=\"500\"} 1\n\
             requests_total{handler=\"b\",code=\"200\"} 5\n"
        );
    }

    #[test]
    fn summaries_forget_quantiles_after_ten_minutes_and_keep_sum_and_count() {
        let clock = Arc::new(ManualClock::default());
        let registry = Registry::new(clock.clone());
        registry.observe(&LATENCY, &[("node", "n1")], 250.0);
        registry.observe(&LATENCY, &[("node", "n1")], f64::NAN);
        let text = rendered(&registry);
        assert!(
            text.contains("latency_milliseconds{node=\"n1\",quantile=\"0.5\"} 250\n"),
            "{text}"
        );
        assert!(
            text.contains("latency_milliseconds{node=\"n1\",quantile=\"0.99\"} 250\n"),
            "{text}"
        );
        clock.advance(Duration::from_secs(601));
        let text = rendered(&registry);
        assert!(
            text.contains("latency_milliseconds{node=\"n1\",quantile=\"0.5\"} NaN\n"),
            "{text}"
        );
        assert!(text.contains("latency_milliseconds_sum{node=\"n1\"} 250\n"), "{text}");
        assert!(text.contains("latency_milliseconds_count{node=\"n1\"} 1\n"), "{text}");
    }

    #[test]
    fn a_forgotten_label_value_takes_its_series_along() {
        let registry = Registry::default();
        registry.add(&REQUESTS, &[("handler", "a")], 1);
        registry.add(&REQUESTS, &[("handler", "b")], 1);
        registry.forget(&REQUESTS, "handler", "a");
        let text = rendered(&registry);
        assert!(!text.contains("handler=\"a\"") && text.contains("handler=\"b\""), "{text}");
        registry.forget(&REQUESTS, "handler", "b");
        assert_eq!(rendered(&registry), "");
    }

    #[test]
    fn a_flood_of_label_values_is_dropped_and_counted() {
        let registry = Registry::default();
        for index in 0..SERIES_PER_FAMILY_MAX + 3 {
            registry.set(&TEMPERATURE, &[("place", &index.to_string())], 1.0);
        }
        let text = rendered(&registry);
        assert_eq!(text.matches("a_temperature{").count(), SERIES_PER_FAMILY_MAX);
        assert!(text.contains("heapster_registry_dropped_updates_total 3\n"));
    }

    #[test]
    fn a_total_counted_elsewhere_is_taken_over() {
        let registry = Registry::default();
        registry.set_total(&REQUESTS, &[], 9);
        registry.set_total(&REQUESTS, &[], 12);
        assert!(rendered(&registry).contains("requests_total 12\n"));
    }

    #[test]
    fn the_kernel_is_asked_about_this_process() {
        let text = Registry::default().render();
        for name in [
            "process_cpu_seconds_total",
            "process_max_fds",
            "process_open_fds",
            "process_resident_memory_bytes",
            "process_start_time_seconds",
            "process_virtual_memory_bytes",
        ] {
            let line = text.lines().find(|line| line.starts_with(&format!("{name} ")));
            let value: f64 = line.expect(name).split(' ').next_back().unwrap().parse().unwrap();
            assert!(value >= 0.0, "{name} {value}");
        }
    }
}
