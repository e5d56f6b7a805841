//! From the tree to JSON, as Prometheus' `parse_query` shows it to editors and explanations.

use heapster_core::{MatchOp, Text};
use serde_json::{Value, json};

use super::ast::{Aggregate, At, Binary, Duration, Expr, Modifiers, Selector, Type};
use super::functions::Signature;

/// An expression with all below it.
pub(crate) fn of(expr: &Expr) -> Value {
    match expr {
        Expr::Number { value, .. } => number(*value),
        Expr::Seconds { millis, .. } => number(*millis as f64 / 1000.0),
        Expr::Text { bytes, .. } => {
            json!({"type": "stringLiteral", "val": String::from_utf8_lossy(bytes)})
        }
        Expr::Selector(selector) => self::selector("vectorSelector", selector),
        Expr::Range { selector, range, .. } => {
            let mut node = self::selector("matrixSelector", selector);
            node["range"] = json!(millis(range));
            node
        }
        Expr::Subquery { expr, range, step, modifiers, .. } => {
            let step = step.as_ref().map_or(0, millis);
            let mut node = json!({"type": "subquery", "expr": of(expr), "step": step});
            node["range"] = json!(millis(range));
            put(modifiers, &mut node);
            node
        }
        Expr::Call { function, args, .. } => {
            let args: Vec<Value> = args.iter().map(of).collect();
            json!({"type": "call", "func": self::function(function), "args": args})
        }
        Expr::Aggregate(aggregate) => {
            let Aggregate { op, grouping, param, expr, .. } = &**aggregate;
            json!({
                "type": "aggregation",
                "op": op.name(),
                "expr": of(expr),
                "param": param.as_ref().map(of),
                "grouping": texts(&grouping.labels),
                "without": grouping.without,
            })
        }
        Expr::Unary { negate, expr, .. } => {
            json!({"type": "unaryExpr", "op": if *negate { "-" } else { "+" }, "expr": of(expr)})
        }
        Expr::Binary(binary) => self::binary(binary),
        Expr::Paren { expr, .. } => json!({"type": "parenExpr", "expr": of(expr)}),
    }
}

/// Numbers are texts: JSON has no infinity.
fn number(value: f64) -> Value {
    let shown = match value {
        _ if value.is_nan() => "NaN".to_owned(),
        f64::INFINITY => "+Inf".to_owned(),
        f64::NEG_INFINITY => "-Inf".to_owned(),
        value => value.to_string(),
    };
    json!({"type": "numberLiteral", "val": shown})
}

fn selector(kind: &str, selector: &Selector) -> Value {
    let matchers: Vec<Value> = selector
        .conditions
        .iter()
        .map(|condition| {
            let op = match condition.matcher.op() {
                MatchOp::Equal(_) => "=",
                MatchOp::NotEqual(_) => "!=",
                MatchOp::Regex(_) => "=~",
                MatchOp::NotRegex(_) => "!~",
            };
            let (name, value) = (condition.matcher.name(), condition.written.as_str());
            json!({"name": name, "value": value, "type": op})
        })
        .collect();
    let name = selector.name.as_deref().unwrap_or_default();
    let mut node = json!({
        "type": kind, "name": name, "matchers": matchers,
        // Experimental, so never there.
        "anchored": false, "smoothed": false,
    });
    put(&selector.modifiers, &mut node);
    node
}

/// Adds `offset` and `@`.
fn put(modifiers: &Modifiers, node: &mut Value) {
    let (timestamp, edge) = match modifiers.at {
        Some(At::Millis(millis)) => (json!(millis), Value::Null),
        Some(At::Start) => (Value::Null, json!("start")),
        Some(At::End) => (Value::Null, json!("end")),
        None => (Value::Null, Value::Null),
    };
    node["offset"] = json!(modifiers.offset.as_ref().map_or(0, millis));
    node["timestamp"] = timestamp;
    node["startOrEnd"] = edge;
}

/// Zero where it is computed.
fn millis(duration: &Duration) -> i64 {
    duration.literal_millis().unwrap_or(0)
}

fn function(function: &Signature) -> Value {
    let Signature { name, args, required, repeats, returns, .. } = *function;
    let variadic = if repeats { -1 } else { (args.len() - required) as i64 };
    let args: Vec<&str> = args.iter().copied().map(word).collect();
    json!({"name": name, "argTypes": args, "variadic": variadic, "returnType": word(returns)})
}

fn word(kind: Type) -> &'static str {
    match kind {
        Type::Scalar => "scalar",
        Type::Vector => "vector",
        Type::Range => "matrix",
        Type::Text => "string",
    }
}

fn binary(binary: &Binary) -> Value {
    let Binary { op, returns_bool, matching, lhs, rhs, .. } = binary;
    let matches = lhs.kind() == Type::Vector && rhs.kind() == Type::Vector;
    let matching = matches.then(|| {
        let card = match &matching.group {
            _ if op.is_set() => "many-to-many",
            Some(group) if group.left => "many-to-one",
            Some(_) => "one-to-many",
            None => "one-to-one",
        };
        let include = matching.group.as_ref().map_or(&[][..], |group| &group.include);
        json!({
            "card": card,
            "labels": texts(&matching.labels),
            "on": matching.on,
            "include": texts(include),
            // Experimental, so never there.
            "fillValues": {"lhs": null, "rhs": null},
        })
    });
    json!({
        "type": "binaryExpr",
        "op": op.name(),
        "lhs": of(lhs),
        "rhs": of(rhs),
        "matching": matching,
        "bool": returns_bool,
    })
}

fn texts(texts: &[Text]) -> Vec<&str> {
    texts.iter().map(Text::as_str).collect()
}

#[cfg(test)]
mod tests {
    use super::super::parse;
    use super::*;

    #[track_caller]
    fn check(query: &str, expected: &Value) {
        assert_eq!(of(&parse(query).unwrap()), *expected, "{query}");
    }

    #[test]
    fn nodes_have_the_fields_that_editors_read() {
        let up = |kind: &str| {
            json!({
                "type": kind, "name": "up",
                "matchers": [
                    {"name": "job", "value": "a|b", "type": "=~"},
                    {"name": "__name__", "value": "up", "type": "="},
                ],
                "offset": 300_000, "timestamp": null, "startOrEnd": null,
                "anchored": false, "smoothed": false,
            })
        };
        let mut selector = of(&parse(r#"up{job=~"a|b"} offset 5m"#).unwrap());
        let mut wanted = up("vectorSelector");
        for node in [&mut selector, &mut wanted] {
            let matchers = node["matchers"].as_array_mut().unwrap();
            matchers.sort_by_key(|one| one["name"].as_str().unwrap().to_owned());
        }
        assert_eq!(selector, wanted);
        let range = of(&parse("rate(up[90s] @ end())").unwrap());
        assert_eq!(range["func"]["argTypes"], json!(["matrix"]));
        let arg = &range["args"][0];
        assert_eq!((&arg["type"], &arg["range"]), (&json!("matrixSelector"), &json!(90_000)));
        assert_eq!((&arg["startOrEnd"], &arg["timestamp"]), (&json!("end"), &Value::Null));
    }

    #[test]
    fn operators_tell_how_both_sides_are_matched() {
        let matching = |query: &str| of(&parse(query).unwrap())["matching"].clone();
        let expected = json!({
            "card": "many-to-one", "labels": ["job"], "on": true, "include": ["zone"],
            "fillValues": {"lhs": null, "rhs": null},
        });
        assert_eq!(matching("a * on(job) group_left(zone) b"), expected);
        assert_eq!(matching("a and b")["card"], "many-to-many");
        assert_eq!(matching("a + 1"), Value::Null);
    }

    #[test]
    fn numbers_are_texts() {
        check(
            "-(1e3)",
            &json!({
                "type": "unaryExpr", "op": "-",
                "expr": {"type": "parenExpr", "expr": {"type": "numberLiteral", "val": "1000"}},
            }),
        );
        check("Inf", &json!({"type": "numberLiteral", "val": "+Inf"}));
        check(
            "round(a, 0.5)",
            &json!({
                "type": "call",
                "func": {
                    "name": "round", "argTypes": ["vector", "scalar"], "variadic": 1,
                    "returnType": "vector",
                },
                "args": [
                    of(&parse("a").unwrap()),
                    {"type": "numberLiteral", "val": "0.5"},
                ],
            }),
        );
    }
}
