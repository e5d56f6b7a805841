//! Selectors on the command line: `metric`, `{label="x",other=~"y"}`, `metric{…}`, as in PromQL.
//!
//! A metric's name may have slashes as Heapster's have, and may stand in quotes inside the braces.

use heapster_core::storage::Columns;
use heapster_core::{Matcher, Text};

/// The label by which PromQL calls the name of a metric.
const NAME: &str = "__name__";

/// What a selector asks for.
#[derive(Clone, Debug)]
pub struct ParsedSelector {
    /// Conditions on labels.
    pub matchers: Vec<Matcher>,
    /// The condition on the metric.
    pub columns: Columns,
}

/// Why a selector cannot be read. Prints the selector with a mark below what is wrong.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason}\n  {shown}\n  {}^", " ".repeat(*column))]
pub struct SelectorError {
    reason: String,
    /// The selector on one line.
    shown: String,
    /// Characters in front of what is wrong.
    column: usize,
}

impl SelectorError {
    /// Characters in front of what is wrong.
    pub fn column(&self) -> usize {
        self.column
    }
}

/// Reads a selector.
///
/// # Errors
/// [`SelectorError`] with the place and what is expected there.
pub fn parse_selector(text: &str) -> Result<ParsedSelector, SelectorError> {
    let mut parser = Parser { text, at: 0, matchers: Vec::new(), columns: None };
    parser.selector().map_err(|(at, reason)| SelectorError {
        reason,
        shown: text.chars().map(|char| if char.is_control() { ' ' } else { char }).collect(),
        column: text[..at].chars().count(),
    })?;
    let columns = parser.columns.unwrap_or_default();
    Ok(ParsedSelector { matchers: parser.matchers, columns })
}

/// Byte offset of what is wrong, and why.
type Wrong = (usize, String);

struct Parser<'a> {
    text: &'a str,
    at: usize,
    matchers: Vec<Matcher>,
    columns: Option<Columns>,
}

#[derive(Clone, Copy)]
enum Op {
    Equal,
    NotEqual,
    Regex,
    NotRegex,
}

impl<'a> Parser<'a> {
    fn selector(&mut self) -> Result<(), Wrong> {
        self.skip_blanks();
        let start = self.at;
        if let Some(name) = self.bare_name() {
            self.set_columns(start, Columns::Named(name.into()))?;
        }
        self.skip_blanks();
        if self.take('{') {
            self.skip_blanks();
            while !self.take('}') {
                self.item()?;
                self.skip_blanks();
                if !self.take(',') && !self.rest().starts_with('}') {
                    return Err(self.expected("a comma or }"));
                }
                self.skip_blanks();
            }
        } else if self.columns.is_none() {
            return Err(self.expected("a metric or {"));
        }
        self.skip_blanks();
        if self.rest().is_empty() { Ok(()) } else { Err(self.expected("the end")) }
    }

    /// A condition, or the name of the metric in quotes.
    fn item(&mut self) -> Result<(), Wrong> {
        let start = self.at;
        let (name, is_quoted) = match self.quoted()? {
            Some(name) => (name, true),
            None => match self.bare_name() {
                Some(name) => (name.to_owned(), false),
                None => return Err(self.expected("a label")),
            },
        };
        if name.is_empty() {
            return Err((start, "a name is empty".to_owned()));
        }
        self.skip_blanks();
        let is_end = self.rest().is_empty() || self.rest().starts_with([',', '}']);
        if is_quoted && is_end {
            return self.set_columns(start, Columns::Named(name.into()));
        }
        let op = self.op().ok_or_else(|| self.expected("one of =, !=, =~ and !~"))?;
        self.skip_blanks();
        let value_at = self.at;
        let value = self.quoted()?.ok_or_else(|| self.expected("a value in quotes"))?;
        let (name, value) = (Text::from(name), Text::from(value));
        let matcher = match op {
            Op::Equal => Ok(Matcher::equal(name.clone(), value.clone())),
            Op::NotEqual => Ok(Matcher::not_equal(name.clone(), value)),
            Op::Regex => Matcher::regex(name.clone(), value),
            Op::NotRegex => Matcher::not_regex(name.clone(), value),
        };
        let matcher = matcher.map_err(|error| (value_at, error.to_string()))?;
        if name == *NAME {
            return self.set_columns(start, Columns::Matching(matcher));
        }
        self.matchers.push(matcher);
        Ok(())
    }

    fn set_columns(&mut self, start: usize, columns: Columns) -> Result<(), Wrong> {
        match self.columns.replace(columns) {
            None => Ok(()),
            Some(_) => Err((start, "the metric is given twice".to_owned())),
        }
    }

    fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }

    fn expected(&self, what: &str) -> Wrong {
        (self.at, format!("expected {what}"))
    }

    fn skip_blanks(&mut self) {
        self.at = self.text.len() - self.rest().trim_start().len();
    }

    fn take(&mut self, sign: char) -> bool {
        let is_next = self.rest().starts_with(sign);
        if is_next {
            self.at += sign.len_utf8();
        }
        is_next
    }

    /// A name without quotes; `None` when none comes next.
    fn bare_name(&mut self) -> Option<&'a str> {
        let is_end = |char: char| char.is_whitespace() || "{}=!~,\"'`".contains(char);
        let rest = self.rest();
        let name = &rest[..rest.find(is_end).unwrap_or(rest.len())];
        self.at += name.len();
        (!name.is_empty()).then_some(name)
    }

    fn op(&mut self) -> Option<Op> {
        let ops = [("=~", Op::Regex), ("!~", Op::NotRegex), ("!=", Op::NotEqual), ("=", Op::Equal)];
        let (sign, op) = ops.into_iter().find(|(sign, _)| self.rest().starts_with(sign))?;
        self.at += sign.len();
        Some(op)
    }

    /// A text in quotes, with the escapes of PromQL; between backticks there are none.
    fn quoted(&mut self) -> Result<Option<String>, Wrong> {
        let start = self.at;
        let Some(quote) = self.rest().chars().next().filter(|char| "\"'`".contains(*char)) else {
            return Ok(None);
        };
        let open = || (start, "a quote is not closed".to_owned());
        let mut text = String::new();
        let mut chars = self.rest().char_indices().skip(1);
        while let Some((index, char)) = chars.next() {
            if char == quote {
                self.at = start + index + 1;
                return Ok(Some(text));
            }
            if char != '\\' || quote == '`' {
                text.push(char);
                continue;
            }
            let (_, escaped) = chars.next().ok_or_else(open)?;
            text.push(match escaped {
                'n' => '\n',
                't' => '\t',
                'r' => '\r',
                '\\' | '"' | '\'' => escaped,
                _ => {
                    let reason = format!(
                        "\\{escaped} is no escape; write \\\\ for a backslash, or use backticks"
                    );
                    return Err((start + index, reason));
                }
            });
        }
        Err(open())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str) -> String {
        let selector = parse_selector(text).unwrap_or_else(|error| panic!("{text}: {error}"));
        let matchers: Vec<_> = selector.matchers.iter().map(ToString::to_string).collect();
        let columns = match selector.columns {
            Columns::All => "*".to_owned(),
            Columns::Named(name) => name.to_string(),
            Columns::Matching(matcher) => matcher.to_string(),
        };
        format!("{columns} {}", matchers.join(" "))
    }

    #[test]
    fn metrics_and_labels_are_selected_as_in_promql() {
        for (text, expected) in [
            ("{}", "* "),
            ("cpu/usage", "cpu/usage "),
            (" up { } ", "up "),
            (r#"{type="pod"}"#, r#"* type="pod""#),
            (
                r#"cpu/usage{a="1",b!='2' , c=~`x\d+`,d !~ "y|z",}"#,
                r#"cpu/usage a="1" b!="2" c=~"x\\d+" d!~"y|z""#,
            ),
            (r#"{"cpu/usage", type="pod"}"#, r#"cpu/usage type="pod""#),
            (r#"{"my label"="x"}"#, r#"* my label="x""#),
            (r#"{__name__=~"memory/.*"}"#, r#"__name__=~"memory/.*" "#),
            (r#"{a="say \"hi\"\n"}"#, r#"* a="say \"hi\"\n""#),
            (r#"{größe="√"}"#, r#"* größe="√""#),
        ] {
            assert_eq!(shown(text), expected, "{text}");
        }
    }

    #[test]
    fn what_is_wrong_is_marked() {
        for (text, reason, column) in [
            ("", "expected a metric or {", 0),
            ("{", "expected a label", 1),
            ("{a}", "expected one of =, !=, =~ and !~", 2),
            ("{a=1}", "expected a value in quotes", 3),
            (r#"{a="1" b="2"}"#, "expected a comma or }", 7),
            (r#"{a="1"#, "a quote is not closed", 3),
            (r#"{a="1"} or b"#, "expected the end", 8),
            (r#"{ä="\d"}"#, r"\d is no escape; write \\ for a backslash, or use backticks", 4),
            (r#"up{"down"}"#, "the metric is given twice", 3),
            (r#"up{__name__="down"}"#, "the metric is given twice", 3),
            (r#"{""="x"}"#, "a name is empty", 1),
            ("{,}", "expected a label", 1),
        ] {
            let error = parse_selector(text).unwrap_err();
            assert_eq!((error.reason.as_str(), error.column), (reason, column), "{text}");
        }
        let error = parse_selector(r#"{a="1" b="2"}"#).unwrap_err();
        assert_eq!(error.to_string(), "expected a comma or }\n  {a=\"1\" b=\"2\"}\n         ^");
        assert!(parse_selector(r#"{a=~"("}"#).unwrap_err().to_string().contains("a pattern"));
    }
}
