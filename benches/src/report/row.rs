//! [`Row`]: one number of the report with what it is measured against, and the table of them.

use std::fmt;

use serde_json::{Value, json};

/// A number, the goal it should reach, and what other engines need.
#[derive(Clone, Debug)]
pub struct Row {
    what: String,
    ours: f64,
    unit: &'static str,
    goal: Option<Goal>,
    stretch: Option<f64>,
    /// Prometheus 2.42 and VictoriaMetrics 1.79, measured on the machine the goals are for.
    peers: [Option<f64>; 2],
    note: String,
}

#[derive(Clone, Copy, Debug)]
enum Goal {
    AtMost(f64),
    AtLeast(f64),
}

impl Row {
    /// A number without a goal.
    pub fn new(what: impl Into<String>, ours: f64, unit: &'static str) -> Self {
        let what = what.into();
        Self { what, ours, unit, goal: None, stretch: None, peers: [None; 2], note: String::new() }
    }

    /// The number should not be greater.
    #[must_use]
    pub fn at_most(mut self, goal: f64) -> Self {
        self.goal = Some(Goal::AtMost(goal));
        self
    }

    /// The number should not be less.
    #[must_use]
    pub fn at_least(mut self, goal: f64) -> Self {
        self.goal = Some(Goal::AtLeast(goal));
        self
    }

    /// What would be better than the goal.
    #[must_use]
    pub fn stretch(mut self, stretch: f64) -> Self {
        self.stretch = Some(stretch);
        self
    }

    /// What Prometheus and VictoriaMetrics need for the same.
    #[must_use]
    pub fn peers(mut self, prometheus: f64, victoria_metrics: f64) -> Self {
        self.peers = [Some(prometheus), Some(victoria_metrics)];
        self
    }

    /// What VictoriaMetrics needs for what Prometheus refuses.
    #[must_use]
    pub fn peer_victoria_metrics(mut self, victoria_metrics: f64) -> Self {
        self.peers = [None, Some(victoria_metrics)];
        self
    }

    /// What a reader must know about the number.
    #[must_use]
    pub fn note(mut self, note: impl Into<String>) -> Self {
        self.note = note.into();
        self
    }

    /// Whether the goal is reached; `None` without a goal.
    pub fn is_met(&self) -> Option<bool> {
        self.goal.map(|goal| match goal {
            Goal::AtMost(bound) => self.ours <= bound,
            Goal::AtLeast(bound) => self.ours >= bound,
        })
    }

    fn goal_text(&self) -> String {
        let bound = match self.goal {
            None => return String::new(),
            Some(Goal::AtMost(bound)) => format!("≤ {}", number(bound)),
            Some(Goal::AtLeast(bound)) => format!("≥ {}", number(bound)),
        };
        match self.stretch {
            None => bound,
            Some(stretch) => format!("{bound} ({})", number(stretch)),
        }
    }

    pub(super) fn to_json(&self) -> Value {
        let goal = self.goal.map(|goal| match goal {
            Goal::AtMost(bound) => json!({"at_most": bound, "stretch": self.stretch}),
            Goal::AtLeast(bound) => json!({"at_least": bound, "stretch": self.stretch}),
        });
        json!({
            "what": self.what,
            "value": self.ours,
            "unit": self.unit,
            "goal": goal,
            "met": self.is_met(),
            "prometheus_2_42": self.peers[0],
            "victoriametrics_1_79": self.peers[1],
            "note": self.note,
        })
    }
}

/// The rows of a section under a heading.
pub(super) struct Table<'a>(pub &'a [Row]);

impl fmt::Display for Table<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let peer = |row: &Row, index: usize| row.peers[index].map_or(String::new(), number);
        let mut lines = vec![["", "heapster", "goal (stretch)", "Prom.", "VM"].map(String::from)];
        for row in self.0 {
            let verdict = match row.is_met() {
                Some(false) => " missed",
                _ => "",
            };
            lines.push([
                row.what.clone(),
                format!("{} {}", number(row.ours), row.unit),
                format!("{}{verdict}", row.goal_text()),
                peer(row, 0),
                peer(row, 1),
            ]);
        }
        let width = |column: usize| {
            lines.iter().map(|line| line[column].chars().count()).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..5).map(width).collect();
        let notes = std::iter::once("").chain(self.0.iter().map(|row| row.note.as_str()));
        for ([what, ours, goal, prometheus, victoria], note) in lines.iter().zip(notes) {
            let line = format!(
                "  {what:<a$}  {ours:<b$}  {goal:<c$}  {prometheus:>d$}  {victoria:>e$}  {note}",
                a = widths[0],
                b = widths[1],
                c = widths[2],
                d = widths[3],
                e = widths[4],
            );
            writeln!(f, "{}", line.trim_end())?;
        }
        Ok(())
    }
}

/// Three significant digits, millions and thousands with a letter.
fn number(value: f64) -> String {
    let digits = |value: f64| {
        let size = value.abs();
        let places = if size >= 99.95 || size == 0.0 {
            0
        } else if size >= 9.995 {
            1
        } else if size >= 0.9995 {
            2
        } else {
            3
        };
        format!("{value:.places$}")
    };
    if value.abs() >= 999_500.0 {
        format!("{} M", digits(value / 1e6))
    } else if value.abs() >= 9_999.5 {
        format!("{} k", digits(value / 1e3))
    } else {
        digits(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_three_digits() {
        let texts = [0.0, 0.012, 1.4973, 12.34, 627.0, 9_999.0, 96_000.0, 1_030_000.0].map(number);
        assert_eq!(texts, ["0", "0.012", "1.50", "12.3", "627", "9999", "96.0 k", "1.03 M"]);
    }

    #[test]
    fn a_missed_goal_is_said_in_table_and_json() {
        let met = Row::new("disk", 1.5, "bytes/sample").at_most(1.7).stretch(1.3).peers(3.07, 2.05);
        let missed = Row::new("new series", 2e5, "per CPU-s").at_least(3e5).note("with labels");
        assert_eq!((met.is_met(), missed.is_met()), (Some(true), Some(false)));
        let table = Table(&[met, missed.clone()]).to_string();
        assert!(table.contains("1.50 bytes/sample  ≤ 1.70 (1.30)"), "{table}");
        assert!(table.contains("≥ 300 k missed") && table.contains("with labels"), "{table}");
        assert_eq!(missed.to_json()["met"], false);
    }
}
