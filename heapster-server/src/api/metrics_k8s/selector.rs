//! Label and field selectors of Kubernetes, with the words of its own parser for a bad one.

use std::collections::BTreeMap;
use std::fmt;

use heapster_core::Text;

/// Requirements of one selector; a request has room for thousands.
const REQUIREMENTS_MAX: usize = 1_000;

/// Conditions on the labels of an object, all of which must hold; none selects everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LabelSelector(Vec<Requirement>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Requirement {
    key: String,
    test: Test,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Test {
    Exists,
    DoesNotExist,
    In(Vec<String>),
    NotIn(Vec<String>),
    GreaterThan(i64),
    LessThan(i64),
}

/// Why a selector cannot be read: the text is for the client.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct SelectorError(String);

impl LabelSelector {
    /// Reads a selector such as `app=web,tier in (a,b),!canary`.
    ///
    /// # Errors
    /// [`SelectorError`]: it is none.
    pub fn parse(text: &str) -> Result<Self, SelectorError> {
        let mut parser = Parser { tokens: tokens(text), at: 0 };
        let requirements = parser.requirements()?;
        Ok(Self(requirements))
    }

    /// Whether labels satisfy it.
    pub fn matches(&self, labels: &BTreeMap<Text, Text>) -> bool {
        let value = |name: &str| labels.get(name).map(Text::as_str);
        self.0.iter().all(|requirement| requirement.holds(value(&requirement.key)))
    }

    /// Whether it selects everything.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Requirement {
    fn holds(&self, value: Option<&str>) -> bool {
        let number = || value.and_then(|value| value.parse::<i64>().ok());
        match &self.test {
            Test::Exists => value.is_some(),
            Test::DoesNotExist => value.is_none(),
            Test::In(values) => value.is_some_and(|value| values.iter().any(|own| own == value)),
            Test::NotIn(values) => value.is_none_or(|value| values.iter().all(|own| own != value)),
            Test::GreaterThan(limit) => number().is_some_and(|number| number > *limit),
            Test::LessThan(limit) => number().is_some_and(|number| number < *limit),
        }
    }
}

/// The selector in its canonical form, which reads to the same.
impl fmt::Display for LabelSelector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, Requirement { key, test }) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str(",")?;
            }
            match test {
                Test::Exists => f.write_str(key)?,
                Test::DoesNotExist => write!(f, "!{key}")?,
                Test::In(values) => write!(f, "{key} in ({})", values.join(","))?,
                Test::NotIn(values) => write!(f, "{key} notin ({})", values.join(","))?,
                Test::GreaterThan(limit) => write!(f, "{key}>{limit}")?,
                Test::LessThan(limit) => write!(f, "{key}<{limit}")?,
            }
        }
        Ok(())
    }
}

/// A piece of a selector: a sign or a word. The end has an empty text.
type Token = String;

const SIGNS: [char; 7] = ['(', ')', ',', '!', '=', '<', '>'];

/// The pieces, as Kubernetes takes a text apart.
fn tokens(text: &str) -> Vec<Token> {
    let mut tokens: Vec<Token> = Vec::new();
    let mut chars = text.chars().peekable();
    while let Some(char) = chars.next() {
        let mut token = String::from(char);
        if char.is_whitespace() {
            continue;
        }
        if matches!(char, '!' | '=') {
            // Two-letter signs: `!=` and `==`.
            token.extend(chars.next_if_eq(&'='));
        } else if !SIGNS.contains(&char) {
            while let Some(more) =
                chars.next_if(|char| !char.is_whitespace() && !SIGNS.contains(char))
            {
                token.push(more);
            }
        }
        tokens.push(token);
    }
    tokens
}

struct Parser {
    tokens: Vec<Token>,
    at: usize,
}

impl Parser {
    fn peek(&self) -> &str {
        self.tokens.get(self.at).map_or("", String::as_str)
    }

    fn next(&mut self) -> String {
        let token = self.peek().to_owned();
        self.at += 1;
        token
    }

    fn requirements(&mut self) -> Result<Vec<Requirement>, SelectorError> {
        let mut requirements = Vec::new();
        while !self.peek().is_empty() {
            if !is_word(self.peek()) && self.peek() != "!" {
                return Err(found(self.peek(), "!, identifier, or 'end of string'"));
            }
            if requirements.len() >= REQUIREMENTS_MAX {
                let limit = format!("more than {REQUIREMENTS_MAX} requirements in a selector");
                return Err(SelectorError(limit));
            }
            requirements.push(self.requirement()?);
            match self.peek() {
                "" => break,
                "," => {
                    self.at += 1;
                    if !is_word(self.peek()) && self.peek() != "!" {
                        return Err(found(self.peek(), "identifier after ','"));
                    }
                }
                other => return Err(found(other, "',' or 'end of string'")),
            }
        }
        Ok(requirements)
    }

    fn requirement(&mut self) -> Result<Requirement, SelectorError> {
        if self.peek() == "!" {
            self.at += 1;
            return Ok(Requirement { key: self.key()?, test: Test::DoesNotExist });
        }
        let key = self.key()?;
        let test = match self.peek() {
            "" | "," => Test::Exists,
            "=" | "==" => {
                self.at += 1;
                Test::In(vec![self.value()?])
            }
            "!=" => {
                self.at += 1;
                Test::NotIn(vec![self.value()?])
            }
            "in" => {
                self.at += 1;
                Test::In(self.values()?)
            }
            "notin" => {
                self.at += 1;
                Test::NotIn(self.values()?)
            }
            ">" => Test::GreaterThan(self.number()?),
            "<" => Test::LessThan(self.number()?),
            other => {
                return Err(found(other, "in, notin, =, ==, !=, gt, lt"));
            }
        };
        Ok(Requirement { key, test })
    }

    fn key(&mut self) -> Result<String, SelectorError> {
        let key = self.next();
        if !is_word(&key) {
            return Err(found(&key, "identifier"));
        }
        if !is_qualified_name(&key) {
            let expected = "a name of at most 63 letters, digits, '-', '_' or '.', with a letter or \
                            digit at both ends, and perhaps a DNS name and '/' before it";
            return Err(invalid("key", &key, expected));
        }
        Ok(key)
    }

    /// A value; nothing is the empty one.
    fn value(&mut self) -> Result<String, SelectorError> {
        match self.peek() {
            "" | "," | ")" => Ok(String::new()),
            word if is_word(word) => {
                let value = self.next();
                if !is_label_value(&value) {
                    let expected = "at most 63 letters, digits, '-', '_' or '.', with a letter or \
                                    digit at both ends";
                    return Err(invalid("value", &value, expected));
                }
                Ok(value)
            }
            other => Err(found(other, "identifier")),
        }
    }

    fn values(&mut self) -> Result<Vec<String>, SelectorError> {
        let open = self.next();
        if open != "(" {
            return Err(found(&open, "'('"));
        }
        let mut values = Vec::new();
        loop {
            values.push(self.value()?);
            match self.next().as_str() {
                "," => {}
                ")" => return Ok(values),
                other => return Err(found(other, "',', or ')'")),
            }
        }
    }

    fn number(&mut self) -> Result<i64, SelectorError> {
        self.at += 1;
        let value = self.value()?;
        value.parse().map_err(|_| invalid("value", &value, "an integer behind '>' or '<'"))
    }
}

fn is_word(token: &str) -> bool {
    !token.is_empty() && !token.starts_with(SIGNS)
}

fn found(token: &str, expected: &str) -> SelectorError {
    SelectorError(format!("found '{}', expected: {expected}", shortened(token)))
}

fn invalid(what: &str, text: &str, expected: &str) -> SelectorError {
    SelectorError(format!("{what}: Invalid value: {:?}: expected {expected}", shortened(text)))
}

/// The caller's text; it could be anything.
fn shortened(text: &str) -> String {
    const SHOWN_CHARS_MAX: usize = 200;
    text.chars().take(SHOWN_CHARS_MAX).collect()
}

fn is_qualified_name(key: &str) -> bool {
    let (prefix, name) = match key.split_once('/') {
        Some((prefix, name)) => (Some(prefix), name),
        None => (None, key),
    };
    let is_domain = |prefix: &str| {
        let is_part = |part: &str| {
            let belongs = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
            part.bytes().all(|byte| belongs(byte) || byte == b'-') && has_ends(part, belongs)
        };
        prefix.len() <= 253 && prefix.split('.').all(is_part)
    };
    !name.is_empty() && is_label_value(name) && prefix.is_none_or(is_domain)
}

fn is_label_value(value: &str) -> bool {
    let belongs = |byte: u8| byte.is_ascii_alphanumeric();
    let is_inner = |byte: u8| belongs(byte) || matches!(byte, b'-' | b'_' | b'.');
    value.is_empty() || value.len() <= 63 && value.bytes().all(is_inner) && has_ends(value, belongs)
}

fn has_ends(text: &str, belongs: impl Fn(u8) -> bool) -> bool {
    let bytes = text.as_bytes();
    [bytes.first(), bytes.last()].into_iter().all(|end| end.is_some_and(|byte| belongs(*byte)))
}

/// Conditions on name and namespace, the only fields that can be selected by.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FieldSelector(Vec<FieldTest>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct FieldTest {
    field: Field,
    is_equal: bool,
    value: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Field {
    Name,
    Namespace,
}

impl FieldSelector {
    /// Reads a selector such as `metadata.name=a,metadata.namespace!=b`.
    ///
    /// # Errors
    /// [`SelectorError`]: it is none, or names another field.
    pub fn parse(text: &str) -> Result<Self, SelectorError> {
        let mut tests = Vec::new();
        for term in split_terms(text) {
            if term.is_empty() {
                continue;
            }
            if tests.len() >= REQUIREMENTS_MAX {
                let limit = format!("more than {REQUIREMENTS_MAX} requirements in a selector");
                return Err(SelectorError(limit));
            }
            tests.push(FieldTest::parse(term, text)?);
        }
        Ok(Self(tests))
    }

    /// Whether an object of that namespace (empty when it is in none) and name satisfies it.
    pub fn matches(&self, namespace: &str, name: &str) -> bool {
        self.0.iter().all(|test| {
            let own = match test.field {
                Field::Name => name,
                Field::Namespace => namespace,
            };
            (own == test.value) == test.is_equal
        })
    }
}

impl FieldTest {
    fn parse(term: &str, whole: &str) -> Result<Self, SelectorError> {
        let unreadable = || {
            let (whole, term) = (shortened(whole), shortened(term));
            SelectorError(format!("invalid selector: '{whole}'; can't understand '{term}'"))
        };
        let at = term.find(['=', '!']).ok_or_else(unreadable)?;
        let (field, rest) = term.split_at(at);
        let (is_equal, value) = match (rest.strip_prefix("!="), rest.strip_prefix("==")) {
            (Some(value), _) => (false, value),
            (_, Some(value)) => (true, value),
            _ => (true, rest.strip_prefix('=').ok_or_else(unreadable)?),
        };
        let field = match field {
            "metadata.name" => Field::Name,
            "metadata.namespace" => Field::Namespace,
            other => {
                return Err(SelectorError(format!(
                    "{:?} is not a known field selector: only \"metadata.name\", \
                     \"metadata.namespace\"",
                    shortened(other)
                )));
            }
        };
        Ok(Self { field, is_equal, value: unescaped(value).ok_or_else(unreadable)? })
    }
}

/// The terms between commas that no backslash precedes.
fn split_terms(text: &str) -> Vec<&str> {
    let (mut terms, mut start, mut is_escaped) = (Vec::new(), 0, false);
    for (index, byte) in text.bytes().enumerate() {
        match byte {
            _ if is_escaped => is_escaped = false,
            b'\\' => is_escaped = true,
            b',' => {
                terms.push(&text[start..index]);
                start = index + 1;
            }
            _ => {}
        }
    }
    terms.push(&text[start..]);
    terms
}

/// The value without backslashes; `None` when one stands alone or a sign stands without one.
fn unescaped(value: &str) -> Option<String> {
    let mut plain = String::with_capacity(value.len());
    let mut chars = value.chars();
    while let Some(char) = chars.next() {
        match char {
            '\\' => plain.push(chars.next().filter(|char| matches!(char, '\\' | ',' | '='))?),
            ',' | '=' => return None,
            other => plain.push(other),
        }
    }
    Some(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(selector: &str, labels: &[(&str, &str)]) -> bool {
        let selector = LabelSelector::parse(selector).unwrap();
        let again = LabelSelector::parse(&selector.to_string()).unwrap();
        assert_eq!(again, selector);
        let labels = labels.iter().map(|(name, value)| ((*name).into(), (*value).into()));
        selector.matches(&labels.collect())
    }

    #[test]
    fn the_grammar_of_label_selectors_is_that_of_kubernetes() {
        let labels = &[("app", "web"), ("tier", "a"), ("n", "5"), ("empty", ""), ("x.y/z", "1")];
        for selector in [
            "",
            "app",
            "app=web",
            "app==web",
            " app = web , tier in (a, b) ",
            "!canary",
            "! canary",
            "app!=db",
            "canary!=x",
            "tier notin (b,c)",
            "canary notin (b)",
            "n>4,n<6",
            "empty=",
            "empty in (,a)",
            "x.y/z=1",
            "in=,app",
        ] {
            assert_eq!(matches(selector, labels), selector != "in=,app", "{selector}");
        }
        for selector in
            ["app=db", "!app", "app!=web", "tier in (b)", "n>5", "app>1", "tier notin (a)"]
        {
            assert!(!matches(selector, labels), "{selector}");
        }
    }

    #[test]
    fn a_bad_selector_is_refused_in_the_words_of_kubernetes() {
        for (selector, said) in [
            ("==bad", "found '==', expected: !, identifier, or 'end of string'"),
            ("a=b c", "found 'c', expected: ',' or 'end of string'"),
            ("a=b,", "found '', expected: identifier after ','"),
            ("a in b", "found 'b', expected: '('"),
            ("a in (b", "found '', expected: ',', or ')'"),
            ("a?=b", "key: Invalid value: \"a?\""),
            ("a=-b", "value: Invalid value: \"-b\""),
            ("a>b", "value: Invalid value: \"b\""),
        ] {
            let error = LabelSelector::parse(selector).unwrap_err().to_string();
            assert!(error.starts_with(said), "{selector}: {error}");
        }
        assert!(LabelSelector::parse(&"a,".repeat(5_000)).is_err());
    }

    #[test]
    fn fields_are_name_and_namespace() {
        let matches =
            |selector: &str| FieldSelector::parse(selector).map(|own| own.matches("ns", "p"));
        for selector in ["", "metadata.name=p", "metadata.name==p,metadata.namespace!=x"] {
            assert_eq!(matches(selector), Ok(true), "{selector}");
        }
        assert_eq!(matches("metadata.name!=p"), Ok(false));
        assert_eq!(matches("metadata.namespace="), Ok(false));
        assert_eq!(matches(r"metadata.name=a\,b"), Ok(false));
        for (selector, said) in [
            ("spec.nodeName=a", "\"spec.nodeName\" is not a known field selector: only"),
            ("name", "invalid selector: 'name'; can't understand 'name'"),
            ("metadata.name=a=b", "invalid selector"),
            ("metadata.name!a", "invalid selector"),
            ("metadata.name=a\\", "invalid selector"),
        ] {
            let error = matches(selector).unwrap_err().to_string();
            assert!(error.starts_with(said), "{selector}: {error}");
        }
    }
}
