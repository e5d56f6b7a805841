//! From tokens to the tree: recursive descent, operators by precedence.

use heapster_core::{Matcher, Text};

use super::ast::{
    Aggregate, AggregateOp, At, Binary, Condition, DURATION_MAX_MS, Duration, Expr, Group,
    Grouping, Matching, Modifiers, Op, Selector, Span,
};
use super::functions::{self, Stage};
use super::lex::{self, Kind, Token};
use super::quote::{self, quoted_bytes};
use super::{DEPTH_MAX, Fault, PATTERNS_MAX, duration, number, quoted, regex};

/// Most arguments of a call and labels of a list: more than anybody writes.
const LIST_MAX: usize = 1024;
/// Words that no metric can have for a name without quotes.
const RESERVED: [&str; 6] = ["bool", "on", "ignoring", "group_left", "group_right", "atan2"];

/// Reads a whole text as one expression; its types are not checked yet.
pub(super) fn expression(text: &str) -> Result<Expr, Fault> {
    let mut parser = Parser { text, tokens: lex::tokens(text)?, at: 0, depth: 0, patterns: 0 };
    if parser.peek().kind == Kind::End {
        return Err(Fault::new(Span::at(text.len()), "no expression found in input"));
    }
    let node = parser.binary(0)?;
    match parser.peek().kind {
        Kind::End => Ok(node.expr),
        _ => Err(parser.unexpected("", "")),
    }
}

/// An expression and the number of levels below it.
struct Node {
    expr: Expr,
    depth: usize,
}

struct Parser<'a> {
    text: &'a str,
    tokens: Vec<Token>,
    at: usize,
    depth: usize,
    /// Regular expressions so far.
    patterns: usize,
}

impl<'a> Parser<'a> {
    // Tokens.

    /// The next token. The last one, the end, is never passed.
    fn peek(&self) -> Token {
        self.tokens[self.at]
    }

    fn next(&mut self) -> Token {
        let token = self.peek();
        self.at = (self.at + 1).min(self.tokens.len() - 1);
        token
    }

    fn text_of(&self, token: Token) -> &'a str {
        &self.text[token.span.start..token.span.end]
    }

    fn is_sign(&self, sign: &str) -> bool {
        matches!(self.peek().kind, Kind::Sign(own) if own == sign)
    }

    fn take_sign(&mut self, sign: &str) -> Option<Token> {
        self.is_sign(sign).then(|| self.next())
    }

    fn expect_sign(&mut self, sign: &str, context: &str) -> Result<Token, Fault> {
        let expected = quoted(sign);
        self.take_sign(sign).ok_or_else(|| self.unexpected(context, &expected))
    }

    /// The next word in small letters; `None` when it is no word.
    fn peek_word(&self) -> Option<String> {
        let token = self.peek();
        (token.kind == Kind::Word).then(|| self.text_of(token).to_ascii_lowercase())
    }

    fn take_word(&mut self, word: &str) -> Option<Token> {
        (self.peek_word().as_deref() == Some(word)).then(|| self.next())
    }

    /// "unexpected …", worded as Prometheus does.
    fn unexpected(&self, context: &str, expected: &str) -> Fault {
        let token = self.peek();
        let text = self.text_of(token);
        let mut message = "unexpected ".to_owned();
        message += &match token.kind {
            Kind::End => "end of input".to_owned(),
            Kind::Text => format!("string {}", shortened(text)),
            Kind::Number if duration::parse(text).is_some() => format!("duration {}", quoted(text)),
            Kind::Number => format!("number {}", quoted(text)),
            Kind::Sign(sign) if Op::ALL.iter().any(|op| op.name() == sign) => {
                format!("<op:{sign}>")
            }
            Kind::Sign(sign) => quoted(sign),
            Kind::Word => {
                let word = text.to_ascii_lowercase();
                if let Some(op) = AggregateOp::ALL.iter().find(|op| op.name() == word) {
                    format!("<aggr:{}>", op.name())
                } else if Op::ALL.iter().any(|op| op.name() == word) {
                    format!("<op:{word}>")
                } else if is_keyword(&word) {
                    format!("<{word}>")
                } else {
                    format!("identifier {}", quoted(text))
                }
            }
        };
        if !context.is_empty() {
            message += &format!(" in {context}");
        }
        if !expected.is_empty() {
            message += &format!(", expected {expected}");
        }
        Fault::new(token.span, message)
    }

    // Depth.

    /// Goes a level deeper in the text, so that brackets cannot exhaust the stack.
    fn nested<T>(&mut self, read: impl FnOnce(&mut Self) -> Result<T, Fault>) -> Result<T, Fault> {
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            return Err(too_deep(self.peek().span));
        }
        let read = read(self);
        self.depth -= 1;
        read
    }

    /// A tree one level above those below it.
    fn node(&self, expr: Expr, below: usize) -> Result<Node, Fault> {
        let depth = below + 1;
        if depth > DEPTH_MAX { Err(too_deep(expr.span())) } else { Ok(Node { expr, depth }) }
    }

    // Expressions.

    fn binary(&mut self, precedence_min: u8) -> Result<Node, Fault> {
        let mut lhs = self.nested(Self::unary)?;
        while let Some(op) = self.peek_op().filter(|op| op.precedence() >= precedence_min) {
            let op_span = self.next().span;
            let (returns_bool, mut matching) =
                (self.take_word("bool").is_some(), Matching::default());
            self.matching(&mut matching)?;
            if let Some(word @ ("fill" | "fill_left" | "fill_right")) = self.peek_word().as_deref()
                && self.tokens.get(self.at + 1).is_some_and(|next| next.kind == Kind::Sign("("))
            {
                let message = format!("{word}() is experimental and not enabled");
                return Err(Fault::new(self.peek().span, message));
            }
            // Only powers group to the right.
            let above = if op == Op::Pow { op.precedence() } else { op.precedence() + 1 };
            let rhs = self.nested(|parser| parser.binary(above))?;
            let below = lhs.depth.max(rhs.depth);
            let (lhs_expr, rhs_expr) = (lhs.expr, rhs.expr);
            let binary =
                Binary { op, op_span, returns_bool, matching, lhs: lhs_expr, rhs: rhs_expr };
            lhs = self.node(Expr::Binary(Box::new(binary)), below)?;
        }
        Ok(lhs)
    }

    fn peek_op(&self) -> Option<Op> {
        let token = self.peek();
        match token.kind {
            Kind::Sign(sign) => Op::ALL.into_iter().find(|op| op.name() == sign),
            Kind::Word => {
                let word = self.text_of(token).to_ascii_lowercase();
                Op::ALL.into_iter().find(|op| op.name() == word)
            }
            _ => None,
        }
    }

    /// `on(…)` or `ignoring(…)`, then `group_left(…)` or `group_right(…)`.
    fn matching(&mut self, matching: &mut Matching) -> Result<(), Fault> {
        let on = self.take_word("on");
        let Some(word) = on.or_else(|| self.take_word("ignoring")) else { return Ok(()) };
        matching.on = on.is_some();
        matching.span = Some(word.span);
        matching.labels = self.label_list()?;
        let left = self.take_word("group_left");
        if left.or_else(|| self.take_word("group_right")).is_some() {
            // The list may be left out; an opening parenthesis always belongs to it.
            let include = if self.is_sign("(") { self.label_list()? } else { Vec::new() };
            matching.group = Some(Group { left: left.is_some(), include });
        }
        Ok(())
    }

    fn unary(&mut self) -> Result<Node, Fault> {
        let sign = self.take_sign("-").map(|token| (true, token));
        let Some((negate, sign)) = sign.or_else(|| self.take_sign("+").map(|token| (false, token)))
        else {
            return self.postfix();
        };
        // Closer than a product, looser than a power: `-2^2` is -4.
        let operand = self.nested(|parser| parser.binary(Op::Pow.precedence()))?;
        let span = sign.span.to(operand.expr.span());
        if let Expr::Number { value, .. } = operand.expr {
            let value = if negate { -value } else { value };
            return Ok(Node { expr: Expr::Number { value, span }, depth: operand.depth });
        }
        self.node(Expr::Unary { negate, expr: Box::new(operand.expr), span }, operand.depth)
    }

    fn postfix(&mut self) -> Result<Node, Fault> {
        let mut node = self.primary()?;
        loop {
            if self.is_sign("[") {
                let depth = node.depth;
                let expr = self.brackets(node.expr)?;
                node = self.node(expr, depth)?;
            } else if let Some(word) = self.take_word("offset") {
                let offset = self.nested(Self::signed_duration)?;
                let modifiers = modifiers_of(&mut node.expr).ok_or_else(|| {
                    Fault::new(word.span, "offset modifier must be preceded by an instant vector selector or range vector selector or a subquery")
                })?;
                if modifiers.offset.is_some() {
                    return Err(Fault::new(word.span, "offset may not be set multiple times"));
                }
                modifiers.offset = Some(offset);
                self.extend_span(&mut node.expr);
            } else if let Some(sign) = self.take_sign("@") {
                let at = self.moment()?;
                let modifiers = modifiers_of(&mut node.expr).ok_or_else(|| {
                    Fault::new(sign.span, "@ modifier must be preceded by an instant vector selector or range vector selector or a subquery")
                })?;
                if modifiers.at.is_some() {
                    return Err(Fault::new(
                        sign.span,
                        "@ <timestamp> may not be set multiple times",
                    ));
                }
                modifiers.at = Some(at);
                self.extend_span(&mut node.expr);
            } else if let Some(word @ ("anchored" | "smoothed")) = self.peek_word().as_deref()
                && matches!(node.expr, Expr::Selector(_) | Expr::Range { .. })
            {
                let message = format!("{word} is experimental and not enabled");
                return Err(Fault::new(self.peek().span, message));
            } else {
                return Ok(node);
            }
        }
    }

    /// Lets an expression reach to the token that was read last.
    fn extend_span(&self, expr: &mut Expr) {
        let end = self.tokens[self.at - 1].span.end;
        match expr {
            Expr::Selector(selector) => selector.span.end = end,
            Expr::Range { span, .. } | Expr::Subquery { span, .. } => span.end = end,
            _ => {}
        }
    }

    fn primary(&mut self) -> Result<Node, Fault> {
        let token = self.peek();
        let text = self.text_of(token);
        match token.kind {
            Kind::Number => {
                self.next();
                let expr = match (number::parse(text), duration::parse(text)) {
                    (Some(value), _) => Expr::Number { value, span: token.span },
                    (None, Some(millis)) => Expr::Seconds { millis, span: token.span },
                    (None, None) => return Err(self.unexpected("", "")),
                };
                self.node(expr, 0)
            }
            Kind::Text => {
                self.next();
                let bytes = quote::unquote(text, token.span.start)?;
                self.node(Expr::Text { bytes, span: token.span }, 0)
            }
            Kind::Sign("(") => {
                self.next();
                let inner = self.nested(|parser| parser.binary(0))?;
                let close = self.expect_sign(")", "parenthesised expression")?;
                let span = token.span.to(close.span);
                self.node(Expr::Paren { expr: Box::new(inner.expr), span }, inner.depth)
            }
            Kind::Sign("{") => {
                let selector = self.selector(None, token.span)?;
                self.node(Expr::Selector(selector), 0)
            }
            Kind::Word => self.word(token, text),
            _ => Err(self.unexpected("", "")),
        }
    }

    /// What begins with a word: a number, an aggregation, a call or a selector.
    fn word(&mut self, token: Token, text: &str) -> Result<Node, Fault> {
        let word = text.to_ascii_lowercase();
        let following = self.tokens.get(self.at + 1).copied();
        let is_call = following.is_some_and(|next| next.kind == Kind::Sign("("));
        if let Some(op) = AggregateOp::ALL.into_iter().find(|op| op.name() == word) {
            let next_word = following
                .filter(|next| next.kind == Kind::Word)
                .map(|next| self.text_of(next).to_ascii_lowercase());
            if is_call || matches!(next_word.as_deref(), Some("by" | "without")) {
                return self.aggregate(op, token);
            }
        }
        if let Some(value) = number::parse(text) {
            self.next();
            return self.node(Expr::Number { value, span: token.span }, 0);
        }
        if RESERVED.contains(&word.as_str()) {
            return Err(self.unexpected("", ""));
        }
        self.next();
        if is_call {
            return self.call(token, text);
        }
        let selector = self.selector(Some(Text::from(text)), token.span)?;
        self.node(Expr::Selector(selector), 0)
    }

    fn call(&mut self, name: Token, text: &str) -> Result<Node, Fault> {
        let function = functions::find(text).ok_or_else(|| {
            Fault::new(name.span, format!("unknown function with name {}", quoted(text)))
        })?;
        self.count_patterns(usize::from(function.name == "label_replace"), name.span)?;
        match function.stage {
            Stage::Stable => {}
            Stage::Experimental => {
                let message =
                    format!("function {} is experimental and not enabled", quoted(function.name));
                return Err(Fault::new(name.span, message));
            }
            Stage::Native => {
                let message = format!(
                    "function {} works on native histograms, which are not supported",
                    quoted(function.name)
                );
                return Err(Fault::new(name.span, message));
            }
        }
        let (args, close, depth) = self.arguments()?;
        self.node(Expr::Call { function, args, span: name.span.to(close) }, depth)
    }

    /// `(a, b)`: the arguments, where they end, and how deep they are.
    fn arguments(&mut self) -> Result<(Vec<Expr>, Span, usize), Fault> {
        let context = "function call";
        self.expect_sign("(", context)?;
        let (mut args, mut depth) = (Vec::new(), 0);
        if let Some(close) = self.take_sign(")") {
            return Ok((args, close.span, depth));
        }
        loop {
            let arg = self.nested(|parser| parser.binary(0))?;
            depth = depth.max(arg.depth);
            args.push(arg.expr);
            if args.len() > LIST_MAX {
                return Err(Fault::new(
                    self.peek().span,
                    format!("more than {LIST_MAX} arguments"),
                ));
            }
            if let Some(close) = self.take_sign(")") {
                return Ok((args, close.span, depth));
            }
            self.expect_sign(",", context)?;
            if self.is_sign(")") {
                return Err(Fault::new(
                    self.peek().span,
                    "trailing commas not allowed in function call args",
                ));
            }
        }
    }

    fn aggregate(&mut self, op: AggregateOp, word: Token) -> Result<Node, Fault> {
        if matches!(op, AggregateOp::LimitK | AggregateOp::LimitRatio) {
            let message = format!("{}() is experimental and not enabled", op.name());
            return Err(Fault::new(word.span, message));
        }
        self.next();
        let before = self.grouping()?;
        let (mut args, close, depth) = self.arguments()?;
        let after = if before.is_none() { self.grouping()? } else { None };
        let end = self.tokens[self.at - 1].span;
        let span = word.span.to(if end.end > close.end { end } else { close });
        let expected = 1 + usize::from(op.param().is_some());
        if args.is_empty() {
            return Err(Fault::new(span, "no arguments for aggregate expression provided"));
        }
        if args.len() != expected {
            let message = format!(
                "wrong number of arguments for aggregate expression provided, expected {expected}, got {}",
                args.len()
            );
            return Err(Fault::new(span, message));
        }
        let Some(expr) = args.pop() else { return Err(self.unexpected("aggregation", "")) };
        let grouping = before.or(after).unwrap_or_default();
        let aggregate = Aggregate { op, grouping, param: args.pop(), expr, span };
        self.node(Expr::Aggregate(Box::new(aggregate)), depth)
    }

    fn grouping(&mut self) -> Result<Option<Grouping>, Fault> {
        let without = self.take_word("without").is_some();
        if !without && self.take_word("by").is_none() {
            return Ok(None);
        }
        Ok(Some(Grouping { without, labels: self.label_list()? }))
    }

    /// `(a, "b.c", )`
    fn label_list(&mut self) -> Result<Vec<Text>, Fault> {
        let context = "grouping opts";
        self.expect_sign("(", context)?;
        let mut labels = Vec::new();
        loop {
            if self.take_sign(")").is_some() {
                return Ok(labels);
            }
            labels.push(self.label_name(context)?);
            if labels.len() > LIST_MAX {
                return Err(Fault::new(self.peek().span, format!("more than {LIST_MAX} labels")));
            }
            if !self.is_sign(")") {
                self.expect_sign(",", context)?;
            }
        }
    }

    /// The name of a label, quoted or not.
    fn label_name(&mut self, context: &str) -> Result<Text, Fault> {
        let token = self.peek();
        let text = self.text_of(token);
        match token.kind {
            Kind::Word if !text.contains(':') => {
                self.next();
                Ok(Text::from(text))
            }
            Kind::Text => {
                self.next();
                let bytes = quote::unquote(text, token.span.start)?;
                match String::from_utf8(bytes) {
                    Ok(name) if !name.is_empty() => Ok(Text::from(name)),
                    Ok(_) => Err(Fault::new(token.span, "invalid label name for grouping: \"\"")),
                    Err(error) => Err(Fault::new(
                        token.span,
                        format!("invalid label name {}", quoted_bytes(error.as_bytes())),
                    )),
                }
            }
            _ => Err(self.unexpected(context, "label")),
        }
    }

    // Selectors.

    fn selector(&mut self, mut name: Option<Text>, start: Span) -> Result<Selector, Fault> {
        let mut conditions: Vec<Condition> = Vec::new();
        let mut end = start;
        if let Some(open) = self.take_sign("{") {
            end = self.conditions(open.span, &mut name, &mut conditions)?;
        }
        let span = start.to(end);
        if let Some(name) = &name {
            let is_name = |one: &&Condition| one.matcher.name() == "__name__";
            if let Some(other) = conditions.iter().find(is_name) {
                let message = match other.matcher.op() {
                    heapster_core::MatchOp::Equal(other) => format!(
                        "metric name must not be set twice: {} or {}",
                        quoted(name),
                        quoted(other)
                    ),
                    _ => "metric name must not be set twice".to_owned(),
                };
                return Err(Fault::new(span, message));
            }
            let matcher = Matcher::equal("__name__", name.clone());
            conditions.push(Condition { matcher, written: name.clone() });
        }
        if conditions.iter().all(|one| one.matcher.matches_absent()) {
            let message = "vector selector must contain at least one non-empty matcher";
            return Err(Fault::new(span, message));
        }
        Ok(Selector { name, conditions, modifiers: Modifiers::default(), span })
    }

    /// What stands in braces; gives the closing one's place.
    fn conditions(
        &mut self,
        open: Span,
        name: &mut Option<Text>,
        conditions: &mut Vec<Condition>,
    ) -> Result<Span, Fault> {
        let context = "label matching";
        loop {
            if let Some(close) = self.take_sign("}") {
                return Ok(close.span);
            }
            let token = self.peek();
            let label = match token.kind {
                Kind::Word | Kind::Text => self.label_name(context)?,
                _ => return Err(self.unexpected(context, "identifier or \"}\"")),
            };
            let is_last = self.is_sign(",") || self.is_sign("}");
            if token.kind == Kind::Text && is_last {
                if let Some(other) = name {
                    let message = format!(
                        "metric name must not be set twice: {} or {}",
                        quoted(other),
                        quoted(&label)
                    );
                    return Err(Fault::new(open.to(token.span), message));
                }
                *name = Some(label);
            } else {
                conditions.push(self.condition(label, context)?);
            }
            if conditions.len() > LIST_MAX {
                return Err(Fault::new(token.span, format!("more than {LIST_MAX} matchers")));
            }
            if !self.is_sign("}") {
                let expected = "\",\" or \"}\"";
                self.take_sign(",").ok_or_else(|| self.unexpected(context, expected))?;
            }
        }
    }

    fn condition(&mut self, label: Text, context: &str) -> Result<Condition, Fault> {
        let op = self.peek();
        let sign = match op.kind {
            Kind::Sign(sign @ ("=" | "!=" | "=~" | "!~")) => sign,
            _ => return Err(self.unexpected(context, "label matching operator")),
        };
        self.next();
        let token = self.peek();
        if token.kind != Kind::Text {
            return Err(self.unexpected(context, "string"));
        }
        self.next();
        let bytes = quote::unquote(self.text_of(token), token.span.start)?;
        let value = String::from_utf8(bytes).map_err(|error| {
            let shown = quoted_bytes(error.as_bytes());
            Fault::new(token.span, format!("invalid UTF-8 in label value {shown}"))
        })?;
        let written = Text::from(value);
        self.count_patterns(usize::from(sign.ends_with('~')), token.span)?;
        let matcher = match sign {
            "=" => Ok(Matcher::equal(label, written.clone())),
            "!=" => Ok(Matcher::not_equal(label, written.clone())),
            "=~" => Matcher::regex(label, regex::to_rust(&written)),
            _ => Matcher::not_regex(label, regex::to_rust(&written)),
        };
        let matcher = matcher.map_err(|_| {
            let message = format!("error parsing regexp: {}", regex::fault(&written));
            Fault::new(token.span, message)
        })?;
        Ok(Condition { matcher, written })
    }

    fn count_patterns(&mut self, more: usize, span: Span) -> Result<(), Fault> {
        self.patterns += more;
        if self.patterns > PATTERNS_MAX {
            return Err(Fault::new(span, format!("more than {PATTERNS_MAX} regular expressions")));
        }
        Ok(())
    }

    // Ranges, subqueries and moments.

    fn brackets(&mut self, expr: Expr) -> Result<Expr, Fault> {
        let open = self.next();
        let range = self.nested(|parser| parser.duration(0))?;
        if self.take_sign(":").is_some() {
            let step = match self.is_sign("]") {
                true => None,
                false => Some(self.nested(|parser| parser.duration(0))?),
            };
            let close = self.expect_sign("]", "subquery selector")?;
            let span = expr.span().to(close.span);
            let modifiers = Modifiers::default();
            return Ok(Expr::Subquery { expr: Box::new(expr), range, step, modifiers, span });
        }
        let close = self.expect_sign("]", "subquery or range selector")?;
        let span = expr.span().to(close.span);
        let Expr::Selector(selector) = expr else {
            return Err(Fault::new(
                open.span.to(close.span),
                "ranges only allowed for vector selectors",
            ));
        };
        if selector.modifiers.offset.is_some() {
            return Err(Fault::new(selector.span, "no offset modifiers allowed before range"));
        }
        if selector.modifiers.at.is_some() {
            return Err(Fault::new(selector.span, "no @ modifiers allowed before range"));
        }
        Ok(Expr::Range { selector, range, span })
    }

    /// A duration within brackets or parentheses, where all of arithmetic is allowed.
    fn duration(&mut self, precedence_min: u8) -> Result<Duration, Fault> {
        let mut lhs = self.signed_duration_up_to(Op::Pow.precedence())?;
        let mut length = 0;
        while let Some(op) = self.peek_op().filter(|op| {
            matches!(op, Op::Add | Op::Sub | Op::Mul | Op::Div | Op::Mod | Op::Pow)
                && op.precedence() >= precedence_min
        }) {
            length += 1;
            if self.depth + length > DEPTH_MAX {
                return Err(too_deep(self.peek().span));
            }
            self.next();
            let above = if op == Op::Pow { op.precedence() } else { op.precedence() + 1 };
            let rhs = self.nested(|parser| parser.duration(above))?;
            lhs = Duration::Arithmetic { op, lhs: Box::new(lhs), rhs: Box::new(rhs) };
        }
        Ok(lhs)
    }

    /// A duration after `offset`: one with a sign, or arithmetic in parentheses.
    fn signed_duration(&mut self) -> Result<Duration, Fault> {
        self.signed_duration_up_to(u8::MAX)
    }

    /// A duration with signs before it, which reach over operators of that precedence.
    fn signed_duration_up_to(&mut self, precedence: u8) -> Result<Duration, Fault> {
        let negate = self.take_sign("-").is_some();
        if !negate && self.take_sign("+").is_none() {
            return self.plain_duration();
        }
        let inner = self.nested(|parser| match precedence {
            u8::MAX => parser.signed_duration(),
            _ => parser.duration(precedence),
        })?;
        Ok(if negate { Duration::Negative(Box::new(inner)) } else { inner })
    }

    fn plain_duration(&mut self) -> Result<Duration, Fault> {
        let token = self.peek();
        let text = self.text_of(token);
        let context = "duration expression";
        match token.kind {
            Kind::Number => {
                self.next();
                match (number::parse(text), duration::parse(text)) {
                    (Some(seconds), _) => Ok(Duration::Seconds(seconds)),
                    (None, Some(millis)) => Ok(Duration::Millis(millis)),
                    (None, None) => Err(self.unexpected(context, "")),
                }
            }
            Kind::Sign("(") => {
                self.next();
                let inner = self.nested(|parser| parser.duration(0))?;
                self.expect_sign(")", context)?;
                Ok(Duration::Paren(Box::new(inner)))
            }
            Kind::Word => match self.peek_word().as_deref() {
                Some(word @ ("step" | "range")) => {
                    self.next();
                    self.expect_sign("(", context)?;
                    self.expect_sign(")", context)?;
                    Ok(if word == "step" { Duration::Step } else { Duration::Range })
                }
                Some(word @ ("min_of" | "max_of")) => {
                    self.next();
                    self.expect_sign("(", context)?;
                    let one = Box::new(self.nested(|parser| parser.duration(0))?);
                    self.expect_sign(",", context)?;
                    let other = Box::new(self.nested(|parser| parser.duration(0))?);
                    self.expect_sign(")", context)?;
                    Ok(match word {
                        "min_of" => Duration::Least(one, other),
                        _ => Duration::Greatest(one, other),
                    })
                }
                _ => Err(self.unexpected(context, "number or duration")),
            },
            _ => Err(self.unexpected(context, "number or duration")),
        }
    }

    /// The moment after `@`: seconds, `start()` or `end()`.
    fn moment(&mut self) -> Result<At, Fault> {
        let negate = self.take_sign("-").is_some();
        if !negate {
            self.take_sign("+");
        }
        let token = self.peek();
        let text = self.text_of(token);
        if let Some(word @ ("start" | "end")) = self.peek_word().as_deref() {
            self.next();
            self.expect_sign("(", "@ modifier")?;
            self.expect_sign(")", "@ modifier")?;
            return Ok(if word == "start" { At::Start } else { At::End });
        }
        let seconds = match token.kind {
            Kind::Number | Kind::Word => number::parse(text)
                .or_else(|| duration::parse(text).map(|millis| millis as f64 / 1000.0)),
            _ => None,
        };
        let Some(seconds) = seconds else {
            return Err(self.unexpected("@ modifier", "timestamp"));
        };
        self.next();
        let millis = if negate { -seconds * 1000.0 } else { seconds * 1000.0 };
        if millis.is_nan() || millis.abs() >= DURATION_MAX_MS as f64 {
            let message = format!(
                "timestamp out of bounds for @ modifier: {}",
                number::print(millis / 1000.0)
            );
            return Err(Fault::new(token.span, message));
        }
        Ok(At::Millis(millis.round() as i64))
    }
}

fn too_deep(span: Span) -> Fault {
    Fault::new(span, format!("query is nested more than {DEPTH_MAX} levels deep"))
}

fn is_keyword(word: &str) -> bool {
    RESERVED.contains(&word) || ["by", "without", "offset", "start", "end"].contains(&word)
}

/// A quoted text, cut after ten characters.
fn shortened(text: &str) -> String {
    let mut chars = text.chars();
    let start: String = chars.by_ref().take(10).collect();
    if chars.next().is_some() { format!("{}...", quoted(&start)) } else { quoted(&start) }
}

/// Where `offset` and `@` of an expression go.
fn modifiers_of(expr: &mut Expr) -> Option<&mut Modifiers> {
    match expr {
        Expr::Selector(selector) | Expr::Range { selector, .. } => Some(&mut selector.modifiers),
        Expr::Subquery { modifiers, .. } => Some(modifiers),
        _ => None,
    }
}
