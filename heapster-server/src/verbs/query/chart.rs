//! A chart of series on a terminal, of Braille dots: two by four in each character.

use std::fmt::Write as _;

use heapster_core::Timestamp;
use heapster_query::promql::{MatrixSeries, QueryValue};

use super::shown::series;

/// Series that are drawn; more could not be told apart.
const SERIES_MAX: usize = 12;
/// Colours of series, as numbers of the terminal's.
const COLOURS: [u8; 6] = [36, 33, 35, 32, 34, 31];
/// What stands for series where there are no colours.
const MARKS: &str = "abcdefghijkl";

/// How a chart looks.
#[derive(Clone, Copy, Debug)]
pub(super) struct Look {
    /// Characters of the area for values.
    pub width: usize,
    /// Lines of it.
    pub height: usize,
    /// Whether series differ by colour; otherwise by letters.
    pub has_colours: bool,
}

impl Look {
    /// What fits; the shell may say how wide the terminal is.
    pub(super) fn of_terminal(is_terminal: bool) -> Self {
        let columns = std::env::var("COLUMNS").ok().and_then(|columns| columns.parse().ok());
        let width = columns.unwrap_or(80_usize).clamp(40, 400) - 12;
        let has_colours = is_terminal && std::env::var_os("NO_COLOR").is_none();
        Self { width, height: 16, has_colours }
    }
}

/// The chart; `None` when the value has no points over time.
pub(super) fn chart(value: &QueryValue, look: Look) -> Option<String> {
    let QueryValue::Matrix(all) = value else { return None };
    let shown = &all[..all.len().min(SERIES_MAX)];
    let points = || shown.iter().flat_map(|one| &one.points).filter(|point| point.1.is_finite());
    let (Some(first), Some(last)) =
        (points().map(|point| point.0).min(), points().map(|point| point.0).max())
    else {
        return Some("no values\n".to_owned());
    };
    let values = || points().map(|point| point.1);
    let least = values().fold(f64::INFINITY, f64::min);
    let greatest = values().fold(f64::NEG_INFINITY, f64::max);
    let scale = Scale::of(least, greatest);
    let mut canvas = Canvas::new(look, (first, last), &scale);
    for (index, one) in shown.iter().enumerate() {
        canvas.draw(index, one);
    }
    let mut text = canvas.text(&scale);
    for (index, one) in shown.iter().enumerate() {
        let mark = mark(index, shown.len(), look);
        let last = one.points.last().map_or(f64::NAN, |point| point.1);
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{mark} {}  {}", series(&one.labels), with_unit(last));
    }
    if all.len() > shown.len() {
        let _ = writeln!(text, "and {} more series; topk() chooses some", all.len() - shown.len());
    }
    Some(text)
}

/// What stands for a series in the legend.
fn mark(index: usize, count: usize, look: Look) -> String {
    match (look.has_colours, count) {
        (true, _) => format!("\u{1b}[{}m⣿\u{1b}[0m", COLOURS[index % COLOURS.len()]),
        (false, 1) => "⣿".to_owned(),
        (false, _) => MARKS.chars().nth(index).unwrap_or('?').to_string(),
    }
}

/// From values to heights, between two round numbers.
#[derive(Debug)]
struct Scale {
    bottom: f64,
    top: f64,
}

impl Scale {
    fn of(least: f64, greatest: f64) -> Self {
        // Half of the numbers, so that those of both ends of all floats do not overflow.
        let span = greatest / 2.0 - least / 2.0;
        if span <= 0.0 {
            let room = if least == 0.0 { 1.0 } else { least.abs() / 2.0 };
            return Self { bottom: least - room, top: least + room };
        }
        let step = round_up(span / 2.0);
        let (bottom, top) = ((least / step).floor() * step, (greatest / step).ceil() * step);
        if bottom.is_finite() && top.is_finite() {
            Self { bottom, top }
        } else {
            Self { bottom: least, top: greatest }
        }
    }

    /// The height of a value, from 0 to 1.
    fn height(&self, value: f64) -> f64 {
        let half = self.top / 2.0 - self.bottom / 2.0;
        ((value / 2.0 - self.bottom / 2.0) / half).clamp(0.0, 1.0)
    }

    /// The value at a height.
    fn value(&self, height: f64) -> f64 {
        self.bottom * (1.0 - height) + self.top * height
    }
}

/// The least of 1, 2, 5, 10 and so on that is not less.
fn round_up(number: f64) -> f64 {
    let power = 10_f64.powf(number.log10().floor());
    let fraction = number / power;
    power
        * if fraction <= 1.0 {
            1.0
        } else if fraction <= 2.0 {
            2.0
        } else if fraction <= 5.0 {
            5.0
        } else {
            10.0
        }
}

/// A number with a letter for thousands, millions and so on.
fn with_unit(value: f64) -> String {
    const UNITS: [(f64, &str); 5] = [(1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")];
    let size = value.abs();
    let unit = UNITS.iter().find(|(unit, _)| size >= *unit && size < 1e18);
    let (number, unit) = unit.map_or((value, ""), |(unit, letter)| (value / unit, *letter));
    let digits = if size != 0.0 && !(1e-3..1e18).contains(&size) {
        format!("{number:.2e}")
    } else {
        let text = format!("{number:.3}");
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    };
    digits + unit
}

#[derive(Clone, Copy, Default)]
struct Cell {
    dots: u8,
    /// The series that drew here last.
    series: Option<usize>,
}

struct Canvas<'a> {
    look: Look,
    times: (Timestamp, Timestamp),
    scale: &'a Scale,
    cells: Vec<Cell>,
    count: usize,
}

impl<'a> Canvas<'a> {
    fn new(look: Look, times: (Timestamp, Timestamp), scale: &'a Scale) -> Self {
        let cells = vec![Cell::default(); look.width * look.height];
        Self { look, times, scale, cells, count: 0 }
    }

    /// Draws a series as a line; gaps stay gaps.
    fn draw(&mut self, index: usize, series: &MatrixSeries) {
        self.count += 1;
        let (columns, rows) = (self.look.width * 2 - 1, self.look.height * 4 - 1);
        let span = self.times.1.saturating_since(self.times.0).as_millis().max(1) as f64;
        let step = series.points.windows(2).map(|two| two[1].0.saturating_since(two[0].0)).min();
        let mut before: Option<(Timestamp, (usize, usize))> = None;
        for (at, value) in &series.points {
            if !value.is_finite() {
                before = None;
                continue;
            }
            let x = at.saturating_since(self.times.0).as_millis() as f64 / span;
            let x = (x * columns as f64).round() as usize;
            let y = ((1.0 - self.scale.height(*value)) * rows as f64).round() as usize;
            let joins = |last: &(Timestamp, _)| Some(at.saturating_since(last.0)) == step;
            match before.filter(joins) {
                Some((_, from)) => self.line(index, from, (x, y)),
                None => self.dot(index, x, y),
            }
            before = Some((*at, (x, y)));
        }
    }

    /// A line of dots, one for each column and row it crosses.
    fn line(&mut self, index: usize, from: (usize, usize), to: (usize, usize)) {
        let steps = from.0.abs_diff(to.0).max(from.1.abs_diff(to.1)).max(1);
        for step in 0..=steps {
            let part = step as f64 / steps as f64;
            let between = |a: usize, b: usize| (a as f64 * (1.0 - part) + b as f64 * part).round();
            self.dot(index, between(from.0, to.0) as usize, between(from.1, to.1) as usize);
        }
    }

    fn dot(&mut self, index: usize, x: usize, y: usize) {
        /// Bits of the dots of a character by row, left and right.
        const BITS: [[u8; 2]; 4] = [[0x01, 0x08], [0x02, 0x10], [0x04, 0x20], [0x40, 0x80]];
        if let Some(cell) = self.cells.get_mut((y / 4) * self.look.width + x / 2) {
            cell.dots |= BITS[y % 4][x % 2];
            cell.series = Some(index);
        }
    }

    /// The lines with their axes.
    fn text(&self, scale: &Scale) -> String {
        let mut text = String::new();
        let last = self.look.height - 1;
        for (row, cells) in self.cells.chunks(self.look.width).enumerate() {
            let label = if row % 5 == 0 || row == last {
                with_unit(scale.value(1.0 - row as f64 / last as f64))
            } else {
                String::new()
            };
            let mut line = format!("{label:>9} {}", if label.is_empty() { '│' } else { '┤' });
            for cell in cells {
                line.push_str(&self.shown(*cell));
            }
            // Writing to a String cannot fail.
            let _ = writeln!(text, "{}", line.trim_end());
        }
        let _ = writeln!(text, "{:>9} └{}", "", "─".repeat(self.look.width));
        let (first, end) = (short(self.times.0), short(self.times.1));
        let gap = (self.look.width + 1).saturating_sub(first.len() + end.len()).max(1);
        let _ = writeln!(text, "{:>9} {first}{}{end}", "", " ".repeat(gap));
        text
    }

    fn shown(&self, cell: Cell) -> String {
        let Some(index) = cell.series else { return " ".to_owned() };
        let braille = char::from_u32(0x2800 + u32::from(cell.dots)).unwrap_or(' ');
        match (self.look.has_colours, self.count) {
            (true, _) => format!("\u{1b}[{}m{braille}\u{1b}[0m", COLOURS[index % COLOURS.len()]),
            (false, 1) => braille.to_string(),
            (false, count) => mark(index, count, self.look),
        }
    }
}

/// A time to the second, in UTC.
fn short(at: Timestamp) -> String {
    let text = at.to_string();
    let text = text.split('.').next().unwrap_or(&text).trim_end_matches('Z');
    text.replace('T', " ")
}

#[cfg(test)]
mod tests {
    use heapster_core::{Labels, Text};

    use super::*;

    fn matrix(series: &[&[(i64, f64)]]) -> QueryValue {
        let named = |index: usize| -> Labels {
            [(Text::from("n"), index.to_string())].into_iter().collect()
        };
        let series = series.iter().enumerate().map(|(index, points)| MatrixSeries {
            labels: named(index),
            points: points
                .iter()
                .map(|(at, value)| (Timestamp::from_millis(at * 1000), *value))
                .collect(),
        });
        QueryValue::Matrix(series.collect())
    }

    const LOOK: Look = Look { width: 10, height: 4, has_colours: false };

    #[test]
    fn a_rising_line_goes_from_corner_to_corner() {
        let text = chart(&matrix(&[&[(0, 0.0), (60, 2000.0)]]), LOOK).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0].split('┤').next().unwrap().trim(), "2k");
        assert_eq!(lines[3].split('┤').next().unwrap().trim(), "0");
        let first_dot =
            |line: &str| line.chars().position(|char| ('\u{2801}'..='\u{28ff}').contains(&char));
        let columns: Vec<_> = lines[..4].iter().map(|line| first_dot(line).unwrap()).collect();
        assert!(columns.windows(2).all(|two| two[0] > two[1]), "{columns:?}\n{text}");
        assert_eq!((columns[3], lines[0].chars().count()), (11, 21), "{text}");
        assert!(
            lines[5].contains("1970-01-01 00:00:00") && lines[6] == "⣿ {n=\"0\"}  2k",
            "{text}"
        );
    }

    #[test]
    fn series_differ_by_letter_or_by_colour() {
        let two = matrix(&[&[(0, 1.0), (60, 1.0)], &[(0, 2.0), (60, 2.0)]]);
        let text = chart(&two, LOOK).unwrap();
        assert!(text.contains("aaaaaaaaaa") && text.contains("bbbbbbbbbb"), "{text}");
        let colours = chart(&two, Look { has_colours: true, ..LOOK }).unwrap();
        assert!(colours.contains("\u{1b}[36m") && colours.contains("\u{1b}[33m"), "{colours}");
    }

    #[test]
    fn odd_values_do_no_harm() {
        for points in [
            &[(0, f64::NAN)][..],
            &[(0, f64::MAX), (1, f64::MIN)],
            &[(0, 5e-324), (1, 0.0)],
            &[(0, 7.0)],
            &[(0, f64::INFINITY), (1, 1.0), (2, f64::NAN), (3, 2.0)],
        ] {
            assert!(chart(&matrix(&[points]), LOOK).is_some());
        }
        assert_eq!(chart(&matrix(&[&[(0, f64::NAN)]]), LOOK).unwrap(), "no values\n");
        assert!(chart(&QueryValue::Scalar(1.0), LOOK).is_none());
        let many = vec![&[(0, 1.0), (1, 2.0)][..]; 20];
        assert!(chart(&matrix(&many), LOOK).unwrap().contains("and 8 more series"));
    }

    #[test]
    fn numbers_have_units() {
        for (value, text) in [
            (0.0, "0"),
            (0.25, "0.25"),
            (1234.0, "1.234k"),
            (-2.5e9, "-2.5G"),
            (1e-5, "1.00e-5"),
            (1e20, "1.00e20"),
        ] {
            assert_eq!(with_unit(value), text);
        }
    }
}
