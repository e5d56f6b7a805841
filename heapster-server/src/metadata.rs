//! [`MetadataRegistry`]: what is said of metrics besides their samples: type, help and unit of each
//! family, by those who push or are scraped.

use std::collections::BTreeMap;
use std::fmt;

use heapster_core::{MetricKind, Text, catalogue};
use parking_lot::Mutex;

/// Families that are remembered at most; what is said of further ones is not.
const FAMILIES_MAX: usize = 50_000;
/// Different things that are remembered of one family; the newest stay.
const OF_FAMILY_MAX: usize = 8;
/// Bytes of a help text that are remembered.
const HELP_BYTES_MAX: usize = 2_048;
/// Bytes of a unit or a family's name; what is longer is neither.
const NAME_BYTES_MAX: usize = 1_024;

/// The type of a family of metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum MetricType {
    /// Nobody said.
    #[default]
    Unknown,
    /// Only rises.
    Counter,
    /// Any value.
    Gauge,
    /// Buckets, a sum and a count, which only rise.
    Histogram,
    /// Buckets, a sum and a count of what is there now.
    GaugeHistogram,
    /// Quantiles, a sum and a count.
    Summary,
    /// Facts as labels.
    Info,
    /// One of several states.
    StateSet,
}

impl MetricType {
    /// The word of the expositions and the APIs.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
            Self::GaugeHistogram => "gaugehistogram",
            Self::Summary => "summary",
            Self::Info => "info",
            Self::StateSet => "stateset",
        }
    }

    /// The type that a word of an exposition means.
    pub fn from_word(word: &str) -> Option<Self> {
        Some(match word {
            "unknown" | "untyped" => Self::Unknown,
            "counter" => Self::Counter,
            "gauge" => Self::Gauge,
            "histogram" => Self::Histogram,
            "gaugehistogram" => Self::GaugeHistogram,
            "summary" => Self::Summary,
            "info" => Self::Info,
            "stateset" => Self::StateSet,
            _ => return None,
        })
    }

    /// The type by its number in remote write, which both versions share; an unknown number is an
    /// unknown type.
    pub const fn from_number(number: u64) -> Self {
        match number {
            1 => Self::Counter,
            2 => Self::Gauge,
            3 => Self::Histogram,
            4 => Self::GaugeHistogram,
            5 => Self::Summary,
            6 => Self::Info,
            7 => Self::StateSet,
            _ => Self::Unknown,
        }
    }

    /// How a metric of a family of this type behaves over time.
    pub fn kind_of(self, metric: &str) -> MetricKind {
        let ends = |suffixes: &[&str]| suffixes.iter().any(|suffix| metric.ends_with(suffix));
        let is_cumulative = match self {
            Self::Counter => !metric.ends_with("_created"),
            Self::Histogram => ends(&["_bucket", "_sum", "_count"]),
            Self::Summary => ends(&["_sum", "_count"]),
            _ => false,
        };
        if is_cumulative { MetricKind::Cumulative } else { MetricKind::Gauge }
    }

    /// The family that a metric belongs to, if it is of this type.
    pub fn family_of(self, metric: &str) -> &str {
        let suffixes: &[&str] = match self {
            Self::Histogram | Self::GaugeHistogram => &["_bucket", "_sum", "_count"],
            Self::Summary => &["_sum", "_count"],
            _ => &[],
        };
        suffixes.iter().find_map(|suffix| metric.strip_suffix(suffix)).unwrap_or(metric)
    }
}

impl fmt::Display for MetricType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What is said of a family.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Metadata {
    /// The type.
    pub metric_type: MetricType,
    /// What it is, in words; may be empty.
    pub help: Text,
    /// The unit; may be empty.
    pub unit: Text,
}

impl Metadata {
    /// Of these texts, cut where they are too long.
    pub fn new(metric_type: MetricType, help: &str, unit: &str) -> Self {
        let end = (0..=help.len().min(HELP_BYTES_MAX)).rev().find(|at| help.is_char_boundary(*at));
        let help = &help[..end.unwrap_or(0)];
        let unit = if unit.len() > NAME_BYTES_MAX { "" } else { unit };
        Self { metric_type, help: help.into(), unit: unit.into() }
    }
}

/// What was said of each family since the start. Senders may differ, so a family may have several.
#[derive(Debug, Default)]
pub struct MetadataRegistry {
    families: Mutex<BTreeMap<Text, Vec<Metadata>>>,
}

impl MetadataRegistry {
    /// One that knows what the catalogue says of Heapster's own metrics.
    pub fn with_catalogue() -> Self {
        let registry = Self::default();
        for known in catalogue::all() {
            let metric_type = match known.kind {
                MetricKind::Cumulative => MetricType::Counter,
                _ => MetricType::Gauge,
            };
            let said = Metadata::new(metric_type, known.description, known.unit.as_str());
            registry.note(known.name, said);
        }
        registry
    }

    /// Remembers what is said of a family.
    pub fn note(&self, family: &str, metadata: Metadata) {
        if family.is_empty() || family.len() > NAME_BYTES_MAX {
            return;
        }
        let mut families = self.families.lock();
        if let Some(known) = families.get_mut(family) {
            if known.contains(&metadata) {
                return;
            }
            if known.len() == OF_FAMILY_MAX {
                known.remove(0);
            }
            known.push(metadata);
        } else if families.len() < FAMILIES_MAX {
            families.insert(family.into(), vec![metadata]);
        }
    }

    /// The families in the order of their names with what is known of them: one of that name, or all.
    pub fn families(&self, name: Option<&str>) -> Vec<(Text, Vec<Metadata>)> {
        let families = self.families.lock();
        let copy = |(name, known): (&Text, &Vec<Metadata>)| (name.clone(), known.clone());
        match name {
            Some(name) => families.get_key_value(name).map(copy).into_iter().collect(),
            None => families.iter().map(copy).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_differs_is_kept_and_what_is_repeated_is_not() {
        let registry = MetadataRegistry::default();
        for help in ["a", "b", "a"] {
            registry.note("up", Metadata::new(MetricType::Gauge, help, ""));
        }
        for number in 0..100 {
            registry.note("many", Metadata::new(MetricType::Gauge, &number.to_string(), ""));
        }
        let families = registry.families(None);
        let helps: Vec<Vec<&str>> = families
            .iter()
            .map(|(_, known)| known.iter().map(|one| one.help.as_str()).collect())
            .collect();
        assert_eq!(families[1].0, "up");
        assert_eq!(helps[1], ["a", "b"]);
        assert_eq!((helps[0].len(), helps[0][OF_FAMILY_MAX - 1]), (OF_FAMILY_MAX, "99"));
        assert_eq!(registry.families(Some("up")).len(), 1);
        assert_eq!(registry.families(Some("down")).len(), 0);
    }

    #[test]
    fn memory_does_not_follow_what_senders_say() {
        let registry = MetadataRegistry::default();
        for number in 0..=FAMILIES_MAX {
            registry.note(&format!("m{number}"), Metadata::default());
        }
        registry.note(&"m".repeat(NAME_BYTES_MAX + 1), Metadata::default());
        assert_eq!(registry.families(None).len(), FAMILIES_MAX);
        let long = Metadata::new(MetricType::Gauge, &"é".repeat(HELP_BYTES_MAX), "");
        assert_eq!(long.help.len(), HELP_BYTES_MAX);
    }

    #[test]
    fn kinds_follow_types() {
        for (metric_type, metric, kind) in [
            (MetricType::Counter, "a_total", MetricKind::Cumulative),
            (MetricType::Counter, "a_created", MetricKind::Gauge),
            (MetricType::Histogram, "a_bucket", MetricKind::Cumulative),
            (MetricType::Summary, "a_sum", MetricKind::Cumulative),
            (MetricType::Summary, "a", MetricKind::Gauge),
            (MetricType::Gauge, "a_count", MetricKind::Gauge),
        ] {
            assert_eq!(metric_type.kind_of(metric), kind, "{metric}");
        }
        assert_eq!(MetricType::Histogram.family_of("a_bucket"), "a");
        assert_eq!(MetricType::Counter.family_of("a_sum"), "a_sum");
    }
}
