//! The corpus of the fuzz target: what a fuzzer once found interesting, and every input that once broke
//! something, is read to an end. See docs/fuzzing.md.

use std::fs;
use std::path::Path;

use heapster_query::fuzz_support;

use crate::mutation::run_corpus;

const CRATE: &str = env!("CARGO_MANIFEST_DIR");

#[test]
fn no_text_makes_the_parser_panic() {
    run_corpus(CRATE, "promql_parse", fuzz_support::promql_parse);
}

/// Queries to begin with: one for each part of the language.
const SEEDS: [&str; 20] = [
    "sum by (namespace, pod) (rate(cpu_usage{container!=\"\",pod=~\"web-.+\"}[5m])) > bool 1e-3",
    "{\"cpu/usage\", \"label with space\"='x', a!~`b|c`}",
    "a{b=\"\\u00e9\\n\\x41\\\\\"} offset -1h30m @ 1609746000.5",
    "rate(a[5m] @ start() offset 7d)",
    "max_over_time(rate(a[1m])[1h:30s] @ end())",
    "a + on(b, c) group_left(d) e",
    "a * ignoring(b) group_right e ^ -f ^ 2",
    "a and b or c unless on() d",
    "-1 + 2 * 3 / 4 % 5 ^ 6 == bool 7 != bool 8",
    "histogram_quantile(0.9, sum without (instance) (rate(h_bucket[10m])))",
    "topk(3, a) by (b)",
    "quantile(0.5, a) without ()",
    "count_values(\"v\", a)",
    "label_replace(a, \"x\", \"$1-${name}\", \"y\", \"(?P<name>.*)\")",
    "label_join(a, \"x\", \"-\", \"y\", \"z\")",
    "absent(nonexistent{a=\"b\"}) or vector(NaN) or vector(-Inf) or vector(0x1F)",
    "predict_linear(a[1h], 3600) # how full it is in an hour",
    "clamp(a, 0, 1) >= 0.5",
    "\"a text\"",
    "((((a))))",
];

#[test]
#[ignore = "writes the first inputs of the corpus"]
fn make_seeds() {
    let folder = Path::new(CRATE).join("fuzz/corpus/promql_parse");
    fs::create_dir_all(&folder).unwrap();
    for (index, seed) in SEEDS.iter().enumerate() {
        fs::write(folder.join(format!("seed_{index:02}")), seed).unwrap();
    }
}
