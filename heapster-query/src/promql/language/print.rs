//! From the tree back to text, as Prometheus formats it: on one line, or over several when an
//! expression has more than a hundred bytes.

use std::fmt;

use heapster_core::{MatchOp, Text};

use super::ast::{Aggregate, At, Binary, Duration, Expr, Modifiers, Selector, Span};
use super::{number, print_millis, quoted, quoted_bytes};

/// Longest expression that is kept on one line.
const LINE_BYTES_MAX: usize = 100;

/// Whether a label's name needs no quotes.
fn is_plain_label(name: &str) -> bool {
    let is_start = |byte: u8| byte.is_ascii_alphabetic() || byte == b'_';
    name.bytes().next().is_some_and(is_start)
        && name.bytes().all(|byte| is_start(byte) || byte.is_ascii_digit())
}

/// Whether a metric's name needs no quotes.
pub(crate) fn is_plain_metric(name: &str) -> bool {
    is_plain_label(&name.replace(':', "_"))
}

fn label(name: &str) -> String {
    if is_plain_label(name) { name.to_owned() } else { quoted(name) }
}

fn label_list(labels: &[Text]) -> String {
    labels.iter().map(|name| label(name)).collect::<Vec<_>>().join(", ")
}

impl fmt::Display for Expr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number { value, .. } => f.write_str(&number::print(*value)),
            Self::Seconds { millis, .. } => f.write_str(&print_millis(*millis)),
            Self::Text { bytes, .. } => f.write_str(&quoted_bytes(bytes)),
            Self::Selector(selector) => {
                write!(f, "{}{}", Series(selector), selector.modifiers)
            }
            Self::Range { selector, range, .. } => {
                write!(f, "{}[{range}]{}", Series(selector), selector.modifiers)
            }
            Self::Subquery { expr, .. } => write!(f, "{expr}{}", SubqueryTimes(self)),
            Self::Call { function, args, .. } => {
                write!(f, "{}(", function.name)?;
                for (index, arg) in args.iter().enumerate() {
                    let comma = if index == 0 { "" } else { ", " };
                    write!(f, "{comma}{arg}")?;
                }
                f.write_str(")")
            }
            Self::Aggregate(aggregate) => {
                f.write_str(&aggregate.head())?;
                f.write_str("(")?;
                if let Some(param) = &aggregate.param {
                    write!(f, "{param}, ")?;
                }
                write!(f, "{})", aggregate.expr)
            }
            Self::Unary { negate, expr, .. } => write!(f, "{}{expr}", sign(*negate)),
            Self::Binary(binary) => {
                write!(f, "{} {} {}", binary.lhs, binary.operator(), binary.rhs)
            }
            Self::Paren { expr, .. } => write!(f, "({expr})"),
        }
    }
}

fn sign(negate: bool) -> &'static str {
    if negate { "-" } else { "+" }
}

/// A selector without its modifiers.
struct Series<'a>(&'a Selector);

impl fmt::Display for Series<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(Selector { name, conditions, .. }) = self;
        let mut parts = Vec::new();
        match name {
            Some(name) if is_plain_metric(name) => f.write_str(name)?,
            Some(name) => parts.push(quoted(name)),
            None => {}
        }
        for condition in conditions {
            let op = match condition.matcher.op() {
                MatchOp::Equal(_) => "=",
                MatchOp::NotEqual(_) => "!=",
                MatchOp::Regex(_) => "=~",
                MatchOp::NotRegex(_) => "!~",
            };
            let of = condition.matcher.name();
            if of == "__name__" && name.is_some() {
                continue;
            }
            parts.push(format!("{}{op}{}", label(of), quoted(&condition.written)));
        }
        if parts.is_empty() { Ok(()) } else { write!(f, "{{{}}}", parts.join(",")) }
    }
}

impl fmt::Display for Modifiers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.at {
            Some(At::Millis(millis)) => write!(f, " @ {}", Seconds(millis))?,
            Some(At::Start) => f.write_str(" @ start()")?,
            Some(At::End) => f.write_str(" @ end()")?,
            None => {}
        }
        match &self.offset {
            Some(offset) => write!(f, " offset {offset}"),
            None => Ok(()),
        }
    }
}

/// Milliseconds as seconds with three decimals.
struct Seconds(i64);

impl fmt::Display for Seconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (sign, millis) = (if self.0 < 0 { "-" } else { "" }, self.0.unsigned_abs());
        write!(f, "{sign}{}.{:03}", millis / 1000, millis % 1000)
    }
}

/// What follows the expression of a subquery.
struct SubqueryTimes<'a>(&'a Expr);

impl fmt::Display for SubqueryTimes<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Expr::Subquery { range, step, modifiers, .. } = self.0 else { return Ok(()) };
        write!(f, "[{range}:")?;
        if let Some(step) = step {
            write!(f, "{step}")?;
        }
        write!(f, "]{modifiers}")
    }
}

impl fmt::Display for Duration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Millis(millis) => f.write_str(&print_millis(*millis)),
            Self::Seconds(seconds) => {
                let millis = seconds * 1000.0;
                let is_whole = millis.fract() == 0.0 && millis.abs() < 9e15;
                match is_whole && *seconds >= 0.0 {
                    true => f.write_str(&print_millis(millis as i64)),
                    false => f.write_str(&number::print(*seconds)),
                }
            }
            Self::Step => f.write_str("step()"),
            Self::Range => f.write_str("range()"),
            Self::Negative(inner) => write!(f, "-{inner}"),
            Self::Paren(inner) => write!(f, "({inner})"),
            Self::Arithmetic { op, lhs, rhs } => {
                write!(f, "{} {} {}", Operand(lhs), op.name(), Operand(rhs))
            }
            Self::Least(one, other) => write!(f, "min_of({}, {})", Operand(one), Operand(other)),
            Self::Greatest(one, other) => {
                write!(f, "max_of({}, {})", Operand(one), Operand(other))
            }
        }
    }
}

/// A part of a computed duration, where a number may be a factor and stays one.
struct Operand<'a>(&'a Duration);

impl fmt::Display for Operand<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Duration::Seconds(seconds) => f.write_str(&number::print(*seconds)),
            other => write!(f, "{other}"),
        }
    }
}

impl Aggregate {
    /// The operator and its grouping.
    fn head(&self) -> String {
        let labels = label_list(&self.grouping.labels);
        match (self.grouping.without, self.grouping.labels.is_empty()) {
            (true, _) => format!("{} without ({labels}) ", self.op.name()),
            (false, false) => format!("{} by ({labels}) ", self.op.name()),
            (false, true) => self.op.name().to_owned(),
        }
    }
}

impl Binary {
    /// The operator and how elements find each other.
    fn operator(&self) -> String {
        let mut text = self.op.name().to_owned();
        if self.returns_bool {
            text += " bool";
        }
        let matching = &self.matching;
        if matching.on || !matching.labels.is_empty() || matching.group.is_some() {
            let word = if matching.on { "on" } else { "ignoring" };
            text += &format!(" {word} ({})", label_list(&matching.labels));
        }
        if let Some(group) = &matching.group {
            let word = if group.left { "group_left" } else { "group_right" };
            text += &format!(" {word} ({})", label_list(&group.include));
        }
        text
    }
}

/// An expression over as many lines as it needs, two blanks a level.
pub(crate) fn pretty(expr: &Expr) -> String {
    let mut out = String::new();
    push_pretty(expr, 0, &mut out);
    out
}

fn indent(level: usize, out: &mut String) {
    (0..level).for_each(|_| out.push_str("  "));
}

/// Each level prints what is below it to see how long it is; the depth of a tree is bounded.
fn push_pretty(expr: &Expr, level: usize, out: &mut String) {
    let line = expr.to_string();
    let is_leaf = matches!(
        expr,
        Expr::Number { .. }
            | Expr::Seconds { .. }
            | Expr::Text { .. }
            | Expr::Selector(_)
            | Expr::Range { .. }
    );
    if line.len() <= LINE_BYTES_MAX || is_leaf {
        indent(level, out);
        out.push_str(&line);
        return;
    }
    let mut block = |head: &str, parts: &[&Expr]| {
        indent(level, out);
        out.push_str(head);
        out.push_str("(\n");
        for (index, part) in parts.iter().enumerate() {
            out.push_str(if index == 0 { "" } else { ",\n" });
            push_pretty(part, level + 1, out);
        }
        out.push('\n');
        indent(level, out);
        out.push(')');
    };
    match expr {
        Expr::Call { function, args, .. } => block(function.name, &args.iter().collect::<Vec<_>>()),
        Expr::Aggregate(aggregate) => {
            let parts: Vec<&Expr> = aggregate.param.iter().chain([&aggregate.expr]).collect();
            block(&aggregate.head(), &parts);
        }
        Expr::Paren { expr, .. } => block("", &[expr]),
        Expr::Binary(binary) => {
            push_pretty(&binary.lhs, level + 1, out);
            out.push('\n');
            indent(level, out);
            out.push_str(&binary.operator());
            out.push('\n');
            push_pretty(&binary.rhs, level + 1, out);
        }
        Expr::Subquery { expr: inner, .. } => {
            push_pretty(inner, level, out);
            out.push_str(&SubqueryTimes(expr).to_string());
        }
        Expr::Unary { negate, expr, .. } => {
            let mut inner = String::new();
            push_pretty(expr, level, &mut inner);
            indent(level, out);
            out.push_str(sign(*negate));
            out.push_str(inner.trim_start());
        }
        _ => out.push_str(&line),
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}..{}", self.start, self.end)
    }
}
