//! Patterns of Prometheus, which are Go's, in the syntax of the `regex` crate.
//!
//! Both are descendants of RE2 and nearly agree. What differs is translated: classes such as `\d`
//! are ASCII in Go, `\Q…\E` quotes, `\z` is the end, `\C` a byte; and within `[…]` the characters
//! `[ & ~ -` mean nothing special where they do in Rust.

/// Characters of a pattern that an error shows.
const SHOWN_CHARS: usize = 200;

/// The pattern in Rust's syntax. Whether it is one at all is for the compiler to say.
pub(crate) fn to_rust(pattern: &str) -> String {
    let mut out = String::with_capacity(pattern.len());
    let mut chars = pattern.chars().peekable();
    let mut in_class = false;
    while let Some(char) = chars.next() {
        match char {
            '\\' => match chars.next() {
                Some('Q') if !in_class => {
                    let rest: String = chars.clone().collect();
                    let (quoted, _) = rest.split_once("\\E").unwrap_or((&rest, ""));
                    quoted.chars().for_each(|char| push_literal(char, &mut out));
                    let used = quoted.chars().count() + 2;
                    for _ in 0..used {
                        chars.next();
                    }
                }
                Some('E') if !in_class => {}
                Some('z') => out += "\\z",
                Some('C') => out += "(?s:.)",
                Some('d') => out += "[0-9]",
                Some('D') => out += "[^0-9]",
                Some('w') => out += "[0-9A-Za-z_]",
                Some('W') => out += "[^0-9A-Za-z_]",
                Some('s') => out += "[\\t\\n\\x0c\\r ]",
                Some('S') => out += "[^\\t\\n\\x0c\\r ]",
                Some('b') if !in_class => out += "(?-u:\\b)",
                // Outside a class only: where both neighbours are the same kind of byte.
                Some('B') if !in_class => out += "(?-u:\\B)",
                Some(other) => {
                    out.push('\\');
                    out.push(other);
                }
                None => out.push('\\'),
            },
            '[' if !in_class => {
                in_class = true;
                out.push('[');
                if chars.next_if_eq(&'^').is_some() {
                    out.push('^');
                }
                // A bracket right at the start is one of the characters.
                if chars.next_if_eq(&']').is_some() {
                    out += "\\]";
                }
            }
            '[' if chars.peek() == Some(&':') => {
                out.push('[');
                for char in chars.by_ref() {
                    out.push(char);
                    if char == ']' {
                        break;
                    }
                }
            }
            ']' if in_class => {
                in_class = false;
                out.push(']');
            }
            '[' | '&' | '~' if in_class => {
                out.push('\\');
                out.push(char);
            }
            _ => out.push(char),
        }
    }
    out
}

fn push_literal(char: char, out: &mut String) {
    if char.is_ascii_punctuation() && char != '_' && !"<>'\"!%,/:;=@`".contains(char) {
        out.push('\\');
    }
    out.push(char);
}

/// What is wrong with a pattern, in one line.
pub(crate) fn fault(pattern: &str) -> String {
    let shown = match pattern.char_indices().nth(SHOWN_CHARS) {
        Some((end, _)) => format!("{}…", super::quoted(&pattern[..end])),
        None => super::quoted(pattern),
    };
    let error = match regex::Regex::new(&to_rust(pattern)) {
        Ok(_) | Err(regex::Error::CompiledTooBig(_)) => return format!("{shown} is too large"),
        Err(error) => error.to_string(),
    };
    let reason = error.lines().last().unwrap_or_default().trim();
    let reason = reason.strip_prefix("error: ").unwrap_or(reason);
    format!("{reason}: {shown}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_mean_what_they_mean_in_go() {
        for (pattern, text, matches) in [
            (r"\d", "٣", false),
            (r"\d+", "13", true),
            (r"[\d.]+", "1.3", true),
            (r"\W", "ü", true),
            (r"\Qa.b\E+", "a.bb", true),
            (r"\Qa.b", "axb", false),
            (r"[[]x", "[x", true),
            (r"[]a]+", "]a", true),
            (r"[a&&b]+", "a&b", true),
            (r"[[:alpha:]]+", "ab", true),
            (r"a\z", "a", true),
            (r"[^]]", "]", false),
        ] {
            let anchored = format!("^(?s:{})$", to_rust(pattern));
            let regex = regex::Regex::new(&anchored).unwrap_or_else(|error| panic!("{error}"));
            assert_eq!(regex.is_match(text), matches, "{pattern} on {text}");
        }
    }
}
