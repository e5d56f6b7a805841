//! [`Pattern`]: a regular expression of a matcher, and what an index can tell from it untried.

use regex::{Regex, RegexBuilder};
use regex_syntax::ParserBuilder;
use regex_syntax::hir::literal::{Extractor, Seq};
use regex_syntax::hir::{Class, Dot, Hir, HirKind};

use crate::Text;
use crate::error::ParseError;

/// Limit of a compiled pattern's size; a pattern from the network must not cost memory at will.
const REGEX_BYTES_MAX: usize = 1 << 20;
/// Most texts a pattern is unfolded into, unless more are written in it: what a dashboard joins with `|`
/// when all is ticked.
const TEXTS_MAX: usize = 4096;
/// Most bytes that are written while a pattern is unfolded: its texts, and what becomes longer on the way.
const UNFOLDED_BYTES_MAX: usize = 1 << 20;
/// Longest text a pattern is unfolded into, in bytes. Longer ones are known by their beginning.
const TEXT_BYTES_MAX: usize = 256;

/// A pattern that is anchored at both ends and whose dot matches any character.
#[derive(Debug)]
pub(crate) struct Pattern {
    pub text: Text,
    pub shape: Shape,
    /// What tries a text. Only there when the shape does not tell all.
    regex: Option<Regex>,
}

/// Which texts a pattern matches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    /// Every text: `.*`.
    Any,
    /// These, sorted, and no others: `a|b`, `web-[12]`.
    These(Vec<Text>),
    /// Those that begin with a text and have at least so many bytes: `web-.*`, `.+`.
    Begins { prefix: Text, len_min: usize },
    /// Some of those that begin with a text.
    Other { prefix: Text },
}

impl Pattern {
    /// Compiles a pattern.
    pub fn new(text: Text) -> Result<Self, ParseError> {
        let refused = |why: String| ParseError::new("pattern", &text, format!("a pattern: {why}"));
        // By itself first: `a)|(b` must not get out of what it is wrapped in.
        let mut parser = ParserBuilder::new().dot_matches_new_line(true).build();
        let hir = parser.parse(&text).map_err(|error| refused(error.to_string()))?;
        // Lists of many names are common, and large when compiled.
        let untried = begins(&hir).or_else(|| unconditional(&hir, &text));
        if let Some(shape) = untried {
            return Ok(Self { text, shape, regex: None });
        }
        let regex = RegexBuilder::new(&format!("^(?s:{text})$"))
            .size_limit(REGEX_BYTES_MAX)
            .build()
            .map_err(|error| refused(error.to_string()))?;
        let shape = shape_of(&hir, &regex);
        Ok(Self { text, shape, regex: Some(regex) })
    }

    /// Whether the whole text matches.
    pub fn matches(&self, text: &str) -> bool {
        match &self.shape {
            Shape::Any => true,
            Shape::These(texts) => texts.binary_search_by(|own| own.as_str().cmp(text)).is_ok(),
            Shape::Begins { prefix, len_min } => {
                text.len() >= *len_min && text.starts_with(prefix.as_str())
            }
            Shape::Other { .. } => self.regex.as_ref().is_some_and(|regex| regex.is_match(text)),
        }
    }
}

/// The texts of a pattern without assertions such as `\b`.
fn unconditional(hir: &Hir, text: &str) -> Option<Shape> {
    if !hir.properties().look_set().is_empty() {
        return None;
    }
    let written = text.matches('|').count() + 1;
    let mut unfolding =
        Unfolding { texts_max: TEXTS_MAX.max(written), bytes_left: UNFOLDED_BYTES_MAX };
    Some(these(unfolding.texts(hir)?))
}

fn these(texts: impl IntoIterator<Item = Vec<u8>>) -> Shape {
    let mut texts: Vec<Text> =
        texts.into_iter().filter_map(|text| String::from_utf8(text).ok()).map(Text::from).collect();
    texts.sort_unstable();
    texts.dedup();
    Shape::These(texts)
}

/// Writes out all texts that an expression matches, as far as it may.
struct Unfolding {
    texts_max: usize,
    /// Bytes that may still be written, those of texts that are made longer later among them.
    bytes_left: usize,
}

impl Unfolding {
    /// All texts; `None` when they are too many or too long.
    fn texts(&mut self, hir: &Hir) -> Option<Vec<Vec<u8>>> {
        match hir.kind() {
            HirKind::Capture(group) => self.texts(&group.sub),
            HirKind::Alternation(parts) => {
                let mut all = Vec::new();
                for part in parts {
                    all.append(&mut self.texts(part)?);
                    if all.len() > self.texts_max {
                        return None;
                    }
                }
                Some(all)
            }
            HirKind::Concat(parts) => {
                let mut all = vec![Vec::new()];
                for part in parts {
                    let ends = self.texts(part)?;
                    all = self.each_with_each(&all, &ends)?;
                }
                Some(all)
            }
            _ => self.write(exact(&literals(hir))?),
        }
    }

    fn each_with_each(&mut self, texts: &[Vec<u8>], ends: &[Vec<u8>]) -> Option<Vec<Vec<u8>>> {
        if texts.len().saturating_mul(ends.len()) > self.texts_max {
            return None;
        }
        let longer = |text: &Vec<u8>| -> Vec<Vec<u8>> {
            ends.iter().map(|end| [&text[..], end].concat()).collect()
        };
        self.write(texts.iter().flat_map(longer).collect())
    }

    /// Takes what was written off what may be, an empty text like one of a byte.
    fn write(&mut self, texts: Vec<Vec<u8>>) -> Option<Vec<Vec<u8>>> {
        for text in &texts {
            if text.len() > TEXT_BYTES_MAX {
                return None;
            }
            self.bytes_left = self.bytes_left.checked_sub(text.len().max(1))?;
        }
        Some(texts)
    }
}

/// What an expression may begin with.
fn literals(hir: &Hir) -> Seq {
    Extractor::new().limit_total(TEXTS_MAX).limit_literal_len(TEXT_BYTES_MAX).extract(hir)
}

/// The literals, when they are all there is.
fn exact(literals: &Seq) -> Option<Vec<Vec<u8>>> {
    let all = literals.literals().filter(|_| literals.is_exact())?;
    Some(all.iter().map(|literal| literal.as_bytes().to_vec()).collect())
}

fn shape_of(hir: &Hir, regex: &Regex) -> Shape {
    let found = literals(hir);
    if let Some(texts) = exact(&found) {
        // An assertion is not in a literal, but may keep it from matching.
        let matches =
            |text: &[u8]| std::str::from_utf8(text).is_ok_and(|text| regex.is_match(text));
        return these(texts.into_iter().filter(|text| matches(text)));
    }
    let prefix = found.longest_common_prefix().unwrap_or_default();
    // A literal that was cut may end within a character.
    let prefix = prefix.utf8_chunks().next().map_or("", |chunk| chunk.valid());
    Shape::Other { prefix: prefix.into() }
}

/// The shape of `.*`, `.+`, `text.*` and `text.+`.
fn begins(hir: &Hir) -> Option<Shape> {
    let (prefix, rest) = match hir.kind() {
        HirKind::Capture(group) => return begins(&group.sub),
        HirKind::Repetition(_) => ("", hir),
        HirKind::Concat(parts) => match parts.as_slice() {
            [literal, rest] => match literal.kind() {
                HirKind::Literal(literal) => (std::str::from_utf8(&literal.0).ok()?, rest),
                _ => return None,
            },
            _ => return None,
        },
        _ => return None,
    };
    let HirKind::Repetition(rest) = rest.kind() else { return None };
    let is_of_any = match rest.sub.kind() {
        HirKind::Class(Class::Unicode(_)) => *rest.sub == Hir::dot(Dot::AnyChar),
        _ => false,
    };
    if !is_of_any || rest.max.is_some() || rest.min > 1 {
        return None;
    }
    if prefix.is_empty() && rest.min == 0 {
        return Some(Shape::Any);
    }
    // One character has at least a byte, and what is longer than the prefix has a character more.
    Some(Shape::Begins { prefix: prefix.into(), len_min: prefix.len() + rest.min as usize })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn shape(pattern: &str) -> Shape {
        Pattern::new(pattern.into()).unwrap().shape
    }

    fn these(texts: &[&str]) -> Shape {
        Shape::These(texts.iter().map(|text| Text::from(*text)).collect())
    }

    #[test]
    fn common_patterns_need_not_be_tried() {
        assert_eq!(shape(".*"), Shape::Any);
        assert_eq!(shape("(.*)"), Shape::Any);
        assert_eq!(shape(".+"), Shape::Begins { prefix: "".into(), len_min: 1 });
        assert_eq!(shape("web-.*"), Shape::Begins { prefix: "web-".into(), len_min: 4 });
        assert_eq!(shape("web-.+"), Shape::Begins { prefix: "web-".into(), len_min: 5 });
        assert_eq!(shape("web-1|db|web-1"), these(&["db", "web-1"]));
        assert_eq!(shape("web-(1|2)"), these(&["web-1", "web-2"]));
        assert_eq!(shape("web-[12]?"), these(&["web-", "web-1", "web-2"]));
        assert_eq!(shape("^db$"), these(&["db"]));
        assert_eq!(shape("a|"), these(&["", "a"]));
        assert_eq!(shape(""), these(&[""]));
        assert_eq!(shape(r"web-\d+-.*"), Shape::Other { prefix: "web-".into() });
        assert_eq!(shape("(?-s)web.*"), Shape::Other { prefix: "web".into() });
        assert_eq!(shape(".*web"), Shape::Other { prefix: "".into() });
        assert_eq!(shape("web.{2}"), Shape::Other { prefix: "web".into() });
    }

    #[test]
    fn an_assertion_that_cannot_hold_matches_nothing() {
        assert_eq!(shape(r"a\Bb"), these(&["ab"]));
        assert_eq!(shape(r"a\bb"), these(&[]));
        assert_eq!(shape("a$b"), these(&[]));
    }

    #[test]
    fn a_list_of_as_many_names_as_fit_into_a_query_is_a_list() {
        let names = |count: usize| -> Vec<String> {
            (0..count).map(|at| format!("service-{at:05}-7d9f8b6c5-x2k4p")).collect()
        };
        for (count, shown) in [(300, names(300)), (8000, names(8000))] {
            let list = shown.join("|");
            for pattern in [list.clone(), format!("({list})"), format!("team/(?:{list})")] {
                let Shape::These(texts) = shape(&pattern) else { panic!("{count}: no list") };
                assert_eq!(texts.len(), count);
            }
        }
        assert_eq!(shape("[0-9]{5}"), Shape::Other { prefix: "".into() });
        // Costs as much as it has texts, at each of the groups.
        let empty_groups = format!("({}){}", ["ab"; 30_000].join("|"), "()".repeat(50_000));
        assert!(Pattern::new(empty_groups.as_str().into()).is_err());
        assert_eq!(
            shape("(a|b){2}(c|d)"),
            these(&["aac", "aad", "abc", "abd", "bac", "bad", "bbc", "bbd"])
        );
    }

    #[test]
    fn a_pattern_stays_within_its_anchors() {
        assert!(Pattern::new("a)|(b".into()).is_err());
    }

    fn pattern() -> impl Strategy<Value = String> {
        let leaf = prop::sample::select(vec![
            "a", "b", "ab", "ü", "[ab]", ".", r"\w", "^", "$", r"\b", r"\B", "", "(?i)a", "(?-s).",
        ]);
        leaf.prop_map(str::to_owned).prop_recursive(4, 16, 3, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 1..4).prop_map(|parts| parts.concat()),
                prop::collection::vec(inner.clone(), 1..4)
                    .prop_map(|parts| format!("(?:{})", parts.join("|"))),
                (inner, prop::sample::select(vec!["*", "+", "?", "{2}", "{0,3}", "*?"]))
                    .prop_map(|(part, times)| format!("(?:{part}){times}")),
            ]
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(500) })]

        #[test]
        fn a_shape_says_what_the_expression_says(
            text in pattern(), candidates in prop::collection::vec("[abAüß\n]{0,5}", 20),
        ) {
            let pattern = Pattern::new(text.clone().into()).unwrap();
            let regex = Regex::new(&format!("^(?s:{text})$")).unwrap();
            for candidate in &candidates {
                let expected = regex.is_match(candidate);
                prop_assert_eq!(pattern.matches(candidate), expected, "{} {}", text, candidate);
                if let Shape::Other { prefix } = &pattern.shape {
                    prop_assert!(!expected || candidate.starts_with(prefix.as_str()));
                }
            }
        }
    }
}
