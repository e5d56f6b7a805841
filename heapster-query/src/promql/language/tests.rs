//! Promises of the language: what is read, how it is printed, and how errors are worded.

use super::{ParseError, parse, print};

fn fault(text: &str) -> ParseError {
    parse(text).err().unwrap_or_else(|| panic!("{text:?} was read"))
}

#[test]
fn what_is_printed_reads_back_to_the_same() {
    for (text, printed) in [
        ("1", "1"),
        ("1_000.5", "1000.5"),
        ("0x1F", "31"),
        ("010", "8"),
        ("089", "89"),
        ("-1^2", "-1 ^ 2"),
        ("1h30m", "1h30m"),
        ("foo", "foo"),
        ("foo{a='b', c=~\"x|\\\\d\",}", r#"foo{a="b",c=~"x|\\d"}"#),
        (r#"{"cpu/usage", "a.b"!="x"}"#, r#"{"cpu/usage","a.b"!="x"}"#),
        (r#"{__name__=~"a.*"}"#, r#"{__name__=~"a.*"}"#),
        ("foo[5m] offset -1h @ 3.1", "foo[5m] @ 3.100 offset -1h"),
        ("foo @ start()", "foo @ start()"),
        ("foo[300]", "foo[5m]"),
        ("foo[5m*2+step()]", "foo[5m * 2 + step()]"),
        ("foo[min_of(1m, range()/4)]", "foo[min_of(1m, range() / 4)]"),
        ("sum(foo) BY (a, b)", "sum by (a, b) (foo)"),
        ("sum without()(foo)", "sum without () (foo)"),
        ("topk(5, foo)", "topk(5, foo)"),
        ("max_over_time(rate(foo[5m])[1h:])", "max_over_time(rate(foo[5m])[1h:])"),
        ("a*on(x)group_left(y)b > bool 2", "a * on (x) group_left (y) b > bool 2"),
        ("a and on() b or c unless d", "a and on () b or c unless d"),
        ("sum", "sum"),
        ("by{on=\"1\"}", "by{on=\"1\"}"),
        ("foo # a comment\n+ bar", "foo + bar"),
        ("- - 1", "1"),
        ("-foo", "-foo"),
        (
            r#"label_replace(foo, "a", "\xff$1", "b", `c\d`)"#,
            r#"label_replace(foo, "a", "\xff$1", "b", "c\\d")"#,
        ),
    ] {
        let expr = parse(text).unwrap_or_else(|error| panic!("{text}: {error}"));
        assert_eq!(expr.to_string(), printed, "{text}");
        let again = parse(printed).unwrap_or_else(|error| panic!("{printed}: {error}"));
        assert_eq!(again.to_string(), printed);
        assert_eq!(parse(&print::pretty(&expr)).unwrap().to_string(), printed);
    }
}

#[test]
fn an_error_is_worded_and_placed_as_prometheus_does() {
    for (text, expected) in [
        ("", "1:1: parse error: no expression found in input"),
        ("1 +", "1:4: parse error: unexpected end of input"),
        ("foo)", "1:4: parse error: unexpected right parenthesis ')'"),
        ("(foo", "1:5: parse error: unclosed left parenthesis"),
        ("foo bar", "1:5: parse error: unexpected identifier \"bar\""),
        ("5mm", "1:1: parse error: bad number or duration syntax: \"5mm\""),
        ("{}", "1:1: parse error: vector selector must contain at least one non-empty matcher"),
        (
            "{a=~\".*\"}",
            "1:1: parse error: vector selector must contain at least one non-empty matcher",
        ),
        ("nope(foo)", "1:1: parse error: unknown function with name \"nope\""),
        (
            "abs(1)",
            "1:5: parse error: expected type instant vector in call to function \"abs\", got scalar",
        ),
        (
            "rate(foo)",
            "1:6: parse error: expected type range vector in call to function \"rate\", got instant vector",
        ),
        ("abs()", "1:1: parse error: expected 1 argument(s) in call to \"abs\", got 0"),
        (
            "round(foo, 1, 2)",
            "1:1: parse error: expected at most 2 argument(s) in call to \"round\", got 3",
        ),
        ("1 == 1", "1:3: parse error: comparisons between scalars must use BOOL modifier"),
        ("a + bool b", "1:3: parse error: bool modifier can only be used on comparison operators"),
        (
            "1 and a",
            "1:3: parse error: set operator \"and\" not allowed in binary scalar expression",
        ),
        (
            "a and on(x) group_left(y) b",
            "1:7: parse error: no grouping allowed for \"and\" operation",
        ),
        (
            "a + on(x) group_left(x) b",
            "1:5: parse error: label \"x\" must not occur in ON and GROUP clause at once",
        ),
        (
            "foo[5m] + 1",
            "1:1: parse error: binary expression must contain only scalar and instant vector types",
        ),
        ("foo offset 1m offset 2m", "1:15: parse error: offset may not be set multiple times"),
        ("foo offset 1m[5m]", "1:1: parse error: no offset modifiers allowed before range"),
        ("(foo)[5m]", "1:6: parse error: ranges only allowed for vector selectors"),
        ("foo[0s]", "1:1: parse error: duration must be greater than 0"),
        (
            "foo{__name__=\"bar\"}",
            "1:1: parse error: metric name must not be set twice: \"foo\" or \"bar\"",
        ),
        ("\"abc", "1:1: parse error: unterminated quoted string"),
        (
            "sum(1,2)",
            "1:1: parse error: wrong number of arguments for aggregate expression provided, expected 1, got 2",
        ),
        ("foo +\n  bar )", "2:7: parse error: unexpected right parenthesis ')'"),
        (
            "foo{a=\"b\" or c=\"d\"}",
            "1:11: parse error: unexpected <op:or> in label matching, expected \",\" or \"}\"",
        ),
        ("info(foo)", "1:1: parse error: function \"info\" is experimental and not enabled"),
        (
            "histogram_count(foo)",
            "1:1: parse error: function \"histogram_count\" works on native histograms, which are not supported",
        ),
        ("foo[5m] anchored", "1:9: parse error: anchored is experimental and not enabled"),
        ("a + fill(0) b", "1:5: parse error: fill() is experimental and not enabled"),
        ("limitk(2, foo)", "1:1: parse error: limitk() is experimental and not enabled"),
    ] {
        assert_eq!(fault(text).to_string(), expected, "{text}");
    }
}

#[test]
fn a_marked_error_shows_its_place() {
    let shown = fault("foo +\n\tbar )").marked();
    assert_eq!(shown, "2:6: parse error: unexpected right parenthesis ')'\n\tbar )\n\t    ^");
    assert!(fault("ü €").marked().ends_with("\nü €\n^"));
}

#[test]
fn nesting_and_length_are_bounded() {
    for text in [
        "(".repeat(100_000) + "1",
        "-".repeat(100_000) + "a",
        format!("a{}", "+a".repeat(10_000)),
        format!("a[{}1m]", "(".repeat(10_000)),
        format!("a[{}1m]", "-".repeat(10_000)),
        format!("a[1m{}]", "+1m".repeat(10_000)),
        format!("{}a{}", "abs(".repeat(300), ")".repeat(300)),
        format!("a{}", "[1m:]".repeat(300)),
        format!("sum by ({}) (a)", "a,".repeat(5000)),
    ] {
        let message = fault(&text).to_string();
        assert!(
            message.contains("nested")
                || message.contains("unclosed")
                || message.contains("more than"),
            "{message}"
        );
    }
    assert!(fault(&"a".repeat(300 << 10)).to_string().contains("longer than"));
    let wide = format!("a{}", " or a".repeat(150));
    assert!(parse(&wide).is_ok());
}

#[test]
fn long_expressions_are_broken_where_prometheus_breaks_them() {
    let text = r#"sum by (job) (rate(http_requests_total{code=~"5..",handler="/api/v1/query_range"}[5m])) / on (job) sum by (job) (rate(http_requests_total[5m]))"#;
    let expected = r#"  sum by (job) (rate(http_requests_total{code=~"5..",handler="/api/v1/query_range"}[5m]))
/ on (job)
  sum by (job) (rate(http_requests_total[5m]))"#;
    assert_eq!(print::pretty(&parse(text).unwrap()), expected);
}

#[test]
fn patterns_are_few_and_their_errors_short() {
    let selectors = |count: usize| vec![r#"a{b=~"c.*d"}"#; count].join(" or ");
    assert!(parse(&selectors(64)).is_ok());
    let many = |count: usize| format!("{{{}}}", vec![r#"b=~"c.*d""#; count].join(","));
    assert!(parse(&many(256)).is_ok());
    let message = fault(&many(257)).to_string();
    assert!(message.contains("more than 256 regular expressions"), "{message}");
    let replaced = vec![r#"label_replace(a, "b", "$1", "c", "d.*")"#; 150].join(" or ");
    assert!(parse(&replaced).is_ok());
    let message = fault(&format!("{{{}}} or {replaced}", vec![r#"b=~"c.*d""#; 200].join(",")));
    assert!(message.to_string().contains("more than 256 regular expressions"), "{message}");
    let long = fault(&format!(r#"a{{b=~"({}"}}"#, "x".repeat(5000))).to_string();
    assert!(long.len() < 400 && long.contains('…'), "{long}");
}
