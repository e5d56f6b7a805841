//! The language of Prometheus' test scripts (its `promqltest`), as far as floats need it.

use std::collections::BTreeMap;

use heapster_core::Labels;

/// A series: labels with the name among them, and values by time.
pub type Series = (Labels, BTreeMap<i64, f64>);

/// The NaN that says that a series has ended.
pub const STALE: f64 = f64::from_bits(0x7ff0_0000_0000_0002);

#[derive(Debug)]
pub enum Command {
    Clear,
    Load {
        floats: Vec<Series>,
        /// Labels of the series that have native histograms.
        histograms: Vec<Labels>,
    },
    Eval(Eval),
}

#[derive(Debug)]
pub struct Eval {
    pub line: usize,
    pub query: String,
    pub when: When,
    pub expected: Expected,
    pub fails: Option<Pattern>,
    pub warnings: Annotations,
    pub infos: Annotations,
    pub ordered: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    Instant(i64),
    Range { start: i64, end: i64, step: i64 },
}

#[derive(Debug)]
pub enum Expected {
    Scalar(f64),
    Text(String),
    /// Series with their values step by step; one step for an instant query.
    Series {
        series: Vec<(Labels, Vec<Option<f64>>)>,
        grid: Option<(i64, i64, i64)>,
    },
    /// With a native histogram in it.
    Histograms,
}

/// What is expected of annotations of a kind.
#[derive(Debug, Default)]
pub struct Annotations {
    pub some: bool,
    pub none: bool,
    pub texts: Vec<Pattern>,
}

#[derive(Debug)]
pub enum Pattern {
    Any,
    Text(String),
    Regex(regex::Regex),
}

impl Pattern {
    pub fn matches(&self, text: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Text(own) => own == text,
            Self::Regex(regex) => regex.is_match(text),
        }
    }
}

/// Reads a script. Whatever it does not understand is a panic that names the line.
pub fn parse(text: &str) -> Vec<Command> {
    let lines: Vec<&str> = text.lines().map(str::trim).collect();
    let mut commands = Vec::new();
    let mut at = 0;
    while at < lines.len() {
        let line = lines[at];
        at += 1;
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let start = at;
        while at < lines.len() && !lines[at].is_empty() && !is_command(lines[at]) {
            at += 1;
        }
        let below = lines[start..at].iter().filter(|line| !line.starts_with('#')).copied();
        let below: Vec<&str> = below.collect();
        let (word, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
        commands.push(match word.to_lowercase().as_str() {
            "clear" => Command::Clear,
            "load" => load(rest, &below, false),
            "load_with_nhcb" => load(rest, &below, true),
            word if word.starts_with("eval") => Command::Eval(eval(start, word, rest, &below)),
            _ => panic!("line {start}: unknown command {line:?}"),
        });
    }
    commands
}

fn is_command(line: &str) -> bool {
    let word = line.split_whitespace().next().unwrap_or_default().to_lowercase();
    word == "clear" || word == "load" || word == "load_with_nhcb" || word.starts_with("eval")
}

pub fn duration(text: &str) -> i64 {
    let (sign, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (-1, rest),
        None => (1, text),
    };
    if let Ok(seconds) = rest.parse::<f64>() {
        return sign * (seconds * 1000.0) as i64;
    }
    let mut total = 0;
    while !rest.is_empty() {
        let digits = rest.find(|char: char| !char.is_ascii_digit()).expect("a unit");
        let amount: i64 = rest[..digits].parse().expect("a number");
        rest = &rest[digits..];
        let letters = rest.find(|char: char| char.is_ascii_digit()).unwrap_or(rest.len());
        total += amount
            * match &rest[..letters] {
                "ms" => 1,
                "s" => 1000,
                "m" => 60_000,
                "h" => 3_600_000,
                "d" => 86_400_000,
                unit => panic!("unit {unit:?} of {text:?}"),
            };
        rest = &rest[letters..];
    }
    sign * total
}

fn load(step: &str, lines: &[&str], with_nhcb: bool) -> Command {
    let step = duration(step.trim());
    let mut floats: BTreeMap<Labels, BTreeMap<i64, f64>> = BTreeMap::new();
    let mut histograms = Vec::new();
    for line in lines {
        let (labels, rest) = metric(line);
        let values = values(rest);
        if values.iter().any(|value| matches!(value, Point::Histogram)) {
            histograms.push(labels.clone());
        }
        if with_nhcb && let Some(base) = labels.value("__name__").strip_suffix("_bucket") {
            let mut native = labels.clone();
            native.set("__name__", base);
            native.remove("le");
            histograms.push(native);
        }
        let samples = values.iter().enumerate().filter_map(|(index, point)| match point {
            Point::Value(value) => Some((index as i64 * step, *value)),
            _ => None,
        });
        floats.insert(labels, samples.collect());
    }
    Command::Load { floats: floats.into_iter().collect(), histograms }
}

#[derive(Clone, Copy, Debug)]
enum Point {
    None,
    Value(f64),
    Histogram,
}

/// Labels at the start of a line, and the rest of it.
fn metric(line: &str) -> (Labels, &str) {
    let name_end =
        line.find(|char: char| char == '{' || char.is_whitespace()).unwrap_or(line.len());
    let mut labels = Labels::new();
    if name_end > 0 {
        labels.set("__name__", &line[..name_end]);
    }
    let rest = &line[name_end..];
    let Some(mut rest) = rest.strip_prefix('{').filter(|rest| !rest.starts_with('{')) else {
        return (labels, rest);
    };
    loop {
        rest = rest.trim_start_matches([' ', ',', '\t']);
        if let Some(after) = rest.strip_prefix('}') {
            return (labels, after);
        }
        let equals = rest.find('=').expect("an equals sign");
        let name = rest[..equals].trim().trim_matches('"').to_owned();
        rest = rest[equals + 1..].trim_start();
        let (value, after) = quoted(rest);
        labels.set(name, value);
        rest = after;
    }
}

/// A quoted text at the start, and what follows.
fn quoted(text: &str) -> (String, &str) {
    let quote = text.chars().next().expect("a quote");
    let mut value = String::new();
    let mut chars = text.char_indices().skip(1);
    while let Some((at, char)) = chars.next() {
        match char {
            '\\' if quote != '`' => match chars.next().map(|(_, char)| char) {
                Some('n') => value.push('\n'),
                Some('t') => value.push('\t'),
                Some(char @ ('"' | '\'' | '\\')) => value.push(char),
                other => panic!("escape {other:?} in {text:?}"),
            },
            _ if char == quote => return (value, &text[at + 1..]),
            _ => value.push(char),
        }
    }
    panic!("{text:?} does not end")
}

fn values(text: &str) -> Vec<Point> {
    let mut points = Vec::new();
    let mut rest = text.trim();
    while !rest.is_empty() {
        if rest.starts_with("{{") {
            // `{{…}}`, `{{…}}xN`, `{{…}}+{{…}}xN`
            let mut end = rest.find("}}").expect("the end of a histogram") + 2;
            while rest[end..].starts_with("+{{") || rest[end..].starts_with("-{{") {
                end += rest[end..].find("}}").expect("the end of a histogram") + 2;
            }
            let tail = rest[end..]
                .split_whitespace()
                .next()
                .filter(|_| !rest[end..].starts_with(char::is_whitespace));
            let tail = tail.unwrap_or_default();
            let times = tail.strip_prefix('x').map_or(0, |times| times.parse().expect("a number"));
            points.extend(vec![Point::Histogram; times + 1]);
            rest = rest[end + tail.len()..].trim_start();
            continue;
        }
        let end = rest.find(char::is_whitespace).unwrap_or(rest.len());
        push_values(&rest[..end], &mut points);
        rest = rest[end..].trim_start();
    }
    points
}

fn push_values(token: &str, points: &mut Vec<Point>) {
    let number = |text: &str| -> f64 { text.parse().unwrap_or_else(|_| panic!("value {token:?}")) };
    if token == "_" {
        points.push(Point::None);
    } else if token == "stale" {
        points.push(Point::Value(STALE));
    } else if let Some(times) = token.strip_prefix("_x") {
        points.extend(vec![Point::None; times.parse().expect("a number")]);
    } else if let Some((series, times)) = token.rsplit_once('x') {
        let times: usize = times.parse().unwrap_or_else(|_| panic!("value {token:?}"));
        let bytes = series.as_bytes();
        let sign = (1..bytes.len())
            .find(|at| matches!(bytes[*at], b'+' | b'-') && !matches!(bytes[at - 1], b'e' | b'E'));
        let (start, delta) = match sign {
            Some(at) => (number(&series[..at]), number(&series[at..])),
            None => (number(series), 0.0),
        };
        let mut value = start;
        for _ in 0..=times {
            points.push(Point::Value(value));
            value += delta;
        }
    } else {
        points.push(Point::Value(number(token)));
    }
}

fn eval(line: usize, word: &str, rest: &str, below: &[&str]) -> Eval {
    let (kind, rest) = rest.split_once(char::is_whitespace).expect("instant or range");
    let mut words = rest.trim_start();
    let mut next = |expected: &str| {
        let (word, rest) = words.split_once(char::is_whitespace).expect("more words");
        words = rest.trim_start();
        assert!(expected.is_empty() || word == expected, "line {line}: {word:?}");
        word.to_owned()
    };
    let when = match kind {
        "instant" => {
            next("at");
            When::Instant(duration(&next("")))
        }
        "range" => {
            next("from");
            let start = duration(&next(""));
            next("to");
            let end = duration(&next(""));
            next("step");
            When::Range { start, end, step: duration(&next("")) }
        }
        _ => panic!("line {line}: eval {kind}"),
    };
    let mut eval = Eval {
        line,
        query: words.to_owned(),
        when,
        expected: Expected::Series { series: Vec::new(), grid: None },
        fails: (word == "eval_fail").then_some(Pattern::Any),
        warnings: Annotations { some: word == "eval_warn", ..Annotations::default() },
        infos: Annotations { some: word == "eval_info", ..Annotations::default() },
        ordered: word == "eval_ordered",
    };
    let mut series = Vec::new();
    let mut grid = None;
    for below in below {
        if let Some(rest) = below.strip_prefix("expect ") {
            expect(&mut eval, rest.trim(), &mut grid);
        } else if let Ok(value) = below.parse::<f64>() {
            eval.expected = Expected::Scalar(value);
        } else if below.contains("{{") || below.contains("{count:") {
            eval.expected = Expected::Histograms;
        } else {
            let (labels, rest) = metric(below);
            let values = values(rest);
            let values = values.iter().map(|point| match point {
                Point::Value(value) => Some(*value),
                _ => None,
            });
            series.push((labels, values.collect()));
        }
    }
    if let Expected::Series { series: own, grid: own_grid } = &mut eval.expected {
        (*own, *own_grid) = (series, grid);
    }
    eval
}

fn expect(eval: &mut Eval, text: &str, grid: &mut Option<(i64, i64, i64)>) {
    let (what, rest) = text.split_once(char::is_whitespace).unwrap_or((text, ""));
    let rest = rest.trim_start();
    let pattern = || {
        if let Some(text) = rest.strip_prefix("msg:") {
            Pattern::Text(text.trim().to_owned())
        } else if let Some(regex) = rest.strip_prefix("regex:") {
            Pattern::Regex(regex::Regex::new(regex.trim()).expect("a pattern"))
        } else {
            assert_eq!(rest, "", "{text:?}");
            Pattern::Any
        }
    };
    match what {
        "fail" => eval.fails = Some(pattern()),
        "warn" => {
            eval.warnings.some = true;
            eval.warnings.texts.push(pattern());
        }
        "info" => {
            eval.infos.some = true;
            eval.infos.texts.push(pattern());
        }
        "no_warn" => eval.warnings.none = true,
        "no_info" => eval.infos.none = true,
        "ordered" => eval.ordered = true,
        "string" => eval.expected = Expected::Text(quoted(rest).0),
        "range" => {
            let words: Vec<&str> = rest.split_whitespace().collect();
            let ["vector", "from", start, "to", end, "step", step] = words[..] else {
                panic!("{text:?}")
            };
            *grid = Some((duration(start), duration(end), duration(step)));
        }
        _ => panic!("expect {text:?}"),
    }
}
