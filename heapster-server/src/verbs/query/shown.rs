//! The answer to a query as a table or as csv.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use heapster_core::{Labels, Timestamp};
use heapster_query::promql::QueryValue;

use crate::api::prometheus::number;

const NAME: &str = "__name__";

/// Labels as a selector: `up{job="a"}`.
pub(super) fn series(labels: &Labels) -> String {
    let pairs: Vec<String> = labels
        .iter()
        .filter(|label| label.name != NAME)
        .map(|label| format!("{}={:?}", label.name, label.value.as_str()))
        .collect();
    match (labels.value(NAME), pairs.is_empty()) {
        ("", _) => format!("{{{}}}", pairs.join(", ")),
        (name, true) => name.to_owned(),
        (name, false) => format!("{name}{{{}}}", pairs.join(", ")),
    }
}

/// A table: series and their values, or for each series its points.
pub(super) fn table(value: &QueryValue) -> String {
    let mut text = String::new();
    // Writing to a String cannot fail.
    match value {
        QueryValue::Scalar(value) => {
            let _ = writeln!(text, "{}", number(*value));
        }
        QueryValue::Text(own) => {
            let _ = writeln!(text, "{own}");
        }
        QueryValue::Vector(elements) => {
            let rows: Vec<(String, String)> =
                elements.iter().map(|one| (series(&one.labels), number(one.value))).collect();
            let width = |of: fn(&(String, String)) -> &String| {
                rows.iter().map(|row| of(row).chars().count()).max().unwrap_or(0)
            };
            let (first, second) = (width(|row| &row.0), width(|row| &row.1));
            for (series, value) in &rows {
                let _ = writeln!(text, "{series:<first$}  {value:>second$}");
            }
        }
        QueryValue::Matrix(all) => {
            for one in all {
                let _ = writeln!(text, "{}", series(&one.labels));
                for (at, value) in &one.points {
                    let _ = writeln!(text, "  {at}  {}", number(*value));
                }
            }
        }
    }
    text
}

/// Lines of time, value and one column for each label; the first line names them.
pub(super) fn csv(value: &QueryValue, at: Timestamp) -> String {
    let none = Labels::new();
    let rows: Vec<(&Labels, Timestamp, String)> = match value {
        QueryValue::Scalar(value) => vec![(&none, at, number(*value))],
        QueryValue::Text(text) => vec![(&none, at, text.clone())],
        QueryValue::Vector(elements) => {
            elements.iter().map(|one| (&one.labels, at, number(one.value))).collect()
        }
        QueryValue::Matrix(all) => all
            .iter()
            .flat_map(|one| one.points.iter().map(|(at, value)| (&one.labels, *at, number(*value))))
            .collect(),
    };
    let names: BTreeSet<&str> = rows
        .iter()
        .flat_map(|(labels, ..)| labels.iter().map(|label| label.name.as_str()))
        .collect();
    let mut csv = csv::Writer::from_writer(Vec::new());
    // Writing to memory does not fail.
    let _ = csv.write_record(["time", "value"].into_iter().chain(names.iter().copied()));
    for (labels, at, value) in rows {
        let at = at.to_string();
        let own = [at.as_str(), value.as_str()].into_iter();
        let _ = csv.write_record(own.chain(names.iter().map(|name| labels.value(name))));
    }
    String::from_utf8(csv.into_inner().unwrap_or_default()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use heapster_core::Text;
    use heapster_query::promql::{InstantSample, MatrixSeries};

    use super::*;

    fn labels(pairs: &[(&str, &str)]) -> Labels {
        pairs.iter().map(|(name, value)| (Text::from(*name), *value)).collect()
    }

    #[test]
    fn values_stand_below_each_other() {
        let element =
            |pairs: &[(&str, &str)], value| InstantSample { labels: labels(pairs), value };
        let vector = QueryValue::Vector(vec![
            element(&[("__name__", "up"), ("job", "a")], 1.0),
            element(&[], 22.5),
            element(&[("__name__", "cpu")], f64::NAN),
        ]);
        assert_eq!(table(&vector), "up{job=\"a\"}     1\n{}           22.5\ncpu           NaN\n");
        assert_eq!(table(&QueryValue::Scalar(1e-7)), "1e-07\n");
    }

    #[test]
    fn csv_has_a_column_for_each_label() {
        let at = Timestamp::EPOCH;
        let series = |pairs: &[(&str, &str)]| MatrixSeries {
            labels: labels(pairs),
            points: vec![(at, 1.0)],
        };
        let matrix = QueryValue::Matrix(vec![series(&[("a", "x,y")]), series(&[("b", "z")])]);
        let expected =
            "time,value,a,b\n1970-01-01T00:00:00Z,1,\"x,y\",\n1970-01-01T00:00:00Z,1,,z\n";
        assert_eq!(csv(&matrix, at), expected);
    }
}
