//! [`Lexer`]: from text to tokens with their place.

use super::Fault;
use super::ast::Span;

/// What a token is. Words are told apart by the parser, since every keyword may be a label's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A word: a metric's name with its colons, a label's name or a keyword.
    Word,
    /// A number, which may be a duration.
    Number,
    /// A quoted text.
    Text,
    /// `( ) { } [ ] , : @ =` and the operators, as they are written.
    Sign(&'static str),
    End,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Token {
    pub kind: Kind,
    pub span: Span,
}

/// Longer signs first, so that `==` is not two `=`.
const SIGNS: [&str; 26] = [
    "==", "!=", "=~", "!~", "<=", ">=", "</", ">/", "(", ")", "{", "}", "[", "]", ",", ":", "@",
    "=", "<", ">", "+", "-", "*", "/", "%", "^",
];

/// Splits a text into tokens; brackets that do not match are noticed here, as Prometheus does.
pub(super) fn tokens(text: &str) -> Result<Vec<Token>, Fault> {
    Lexer { text, at: 0, parens: Vec::new(), brace: None, bracket: None }.run()
}

struct Lexer<'a> {
    text: &'a str,
    at: usize,
    parens: Vec<usize>,
    brace: Option<usize>,
    bracket: Option<usize>,
}

impl Lexer<'_> {
    fn run(mut self) -> Result<Vec<Token>, Fault> {
        let mut tokens = Vec::new();
        loop {
            self.skip_blanks();
            let start = self.at;
            let Some(char) = self.text[start..].chars().next() else { break };
            let kind = match char {
                '"' | '\'' | '`' => self.quoted(char)?,
                '0'..='9' => self.number()?,
                '.' if self.byte(1).is_some_and(|byte| byte.is_ascii_digit()) => self.number()?,
                ':' if self.bracket.is_some() => self.sign(start)?,
                ':' | '_' | 'a'..='z' | 'A'..='Z' => self.word(),
                _ => self.sign(start)?,
            };
            tokens.push(Token { kind, span: Span { start, end: self.at } });
        }
        let unclosed = |what: &str| Err(Fault::new(Span::at(self.text.len()), what.to_owned()));
        if self.brace.is_some() {
            return unclosed("unexpected end of input inside braces");
        }
        if self.bracket.is_some() {
            return unclosed("unclosed left bracket");
        }
        if !self.parens.is_empty() {
            return unclosed("unclosed left parenthesis");
        }
        tokens.push(Token { kind: Kind::End, span: Span::at(self.text.len()) });
        Ok(tokens)
    }

    fn byte(&self, ahead: usize) -> Option<u8> {
        self.text.as_bytes().get(self.at + ahead).copied()
    }

    fn skip_blanks(&mut self) {
        while let Some(byte) = self.byte(0) {
            match byte {
                b' ' | b'\t' | b'\n' | b'\r' => self.at += 1,
                b'#' => {
                    let rest = &self.text[self.at..];
                    self.at += rest.find('\n').unwrap_or(rest.len());
                }
                _ => break,
            }
        }
    }

    fn word(&mut self) -> Kind {
        let in_bracket = self.bracket.is_some();
        let is_part = |byte: u8| {
            byte.is_ascii_alphanumeric() || byte == b'_' || (byte == b':' && !in_bracket)
        };
        while self.byte(0).is_some_and(is_part) {
            self.at += 1;
        }
        Kind::Word
    }

    /// A number or a duration: whatever of digits, letters and points stands together, with a sign
    /// where it is that of an exponent. What it means is found out by the parser.
    fn number(&mut self) -> Result<Kind, Fault> {
        let start = self.at;
        let is_hex = matches!(self.byte(1), Some(b'x' | b'X'));
        let mut last = 0;
        while let Some(byte) = self.byte(0) {
            let is_exponent_sign = !is_hex
                && matches!(byte, b'+' | b'-')
                && matches!(last, b'e' | b'E')
                && self.byte(1).is_some_and(|next| next.is_ascii_digit());
            if !byte.is_ascii_alphanumeric() && byte != b'.' && byte != b'_' && !is_exponent_sign {
                break;
            }
            last = byte;
            self.at += 1;
        }
        let text = &self.text[start..self.at];
        if super::number::parse(text).is_none() && super::duration::parse(text).is_none() {
            let message = format!("bad number or duration syntax: {}", super::quoted(text));
            return Err(Fault::new(Span { start, end: self.at }, message));
        }
        Ok(Kind::Number)
    }

    fn quoted(&mut self, quote: char) -> Result<Kind, Fault> {
        let start = self.at;
        let unterminated = |what: &str| {
            Fault::new(Span { start, end: start + 1 }, format!("unterminated {what} string"))
        };
        self.at += 1;
        loop {
            let Some(byte) = self.byte(0) else {
                let what = if quote == '`' { "raw" } else { "quoted" };
                return Err(unterminated(what));
            };
            self.at += 1;
            match byte {
                b'\\' if quote != '`' => {
                    // The character after it may have several bytes, none of which is special.
                    self.at += usize::from(self.byte(0).is_some_and(|byte| byte != b'\n'));
                }
                b'\n' if quote != '`' => return Err(unterminated("quoted")),
                _ if byte == quote as u8 => return Ok(Kind::Text),
                _ => {}
            }
        }
    }

    fn sign(&mut self, start: usize) -> Result<Kind, Fault> {
        let rest = &self.text[start..];
        let found = SIGNS.into_iter().find(|sign| rest.starts_with(sign));
        let Some(sign) = found else {
            let char = rest.chars().next().unwrap_or_default();
            let place = if self.brace.is_some() { " inside braces" } else { "" };
            let span = Span { start, end: start + char.len_utf8() };
            return Err(Fault::new(span, format!("unexpected character{place}: {char:?}")));
        };
        let span = Span { start, end: start + sign.len() };
        let fault = |message: &str| Err(Fault::new(span, message.to_owned()));
        match sign {
            "(" => self.parens.push(start),
            ")" if self.parens.pop().is_none() => {
                return fault("unexpected right parenthesis ')'");
            }
            "{" if self.brace.is_some() => return fault("unexpected left brace '{'"),
            "{" => self.brace = Some(start),
            "}" if self.brace.take().is_none() => return fault("unexpected right brace '}'"),
            "[" if self.bracket.is_some() => return fault("unexpected left bracket '['"),
            "[" => self.bracket = Some(start),
            "]" if self.bracket.take().is_none() => return fault("unexpected right bracket ']'"),
            _ => {}
        }
        self.at += sign.len();
        Ok(Kind::Sign(sign))
    }
}
