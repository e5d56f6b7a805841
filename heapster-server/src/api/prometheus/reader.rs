//! Reads what the API answers to a query, ours or that of another: the way back from
//! [`super::envelope`].

use heapster_core::{Labels, Text, Timestamp};
use heapster_query::promql::{InstantSample, MatrixSeries, QueryAnswer, QueryStats, QueryValue};
use serde_json::Value;

/// An answer in Prometheus' envelope; `None` when it is something else.
pub fn read_envelope(answer: &Value) -> Option<QueryAnswer> {
    let texts = |key: &str| -> Vec<String> {
        let texts = answer[key].as_array().into_iter().flatten();
        texts.filter_map(Value::as_str).map(str::to_owned).collect()
    };
    let (data, result) = (&answer["data"], &answer["data"]["result"]);
    let list = || result.as_array();
    let value = match data["resultType"].as_str()? {
        "scalar" => QueryValue::Scalar(point(result)?.1),
        "string" => QueryValue::Text(result[1].as_str()?.to_owned()),
        "vector" => {
            // Native histograms have no value; there is no way to show them here.
            let elements = list()?.iter().filter(|one| one.get("value").is_some());
            let element = |one: &Value| {
                let (labels, value) = (labels(&one["metric"])?, point(&one["value"])?.1);
                Some(InstantSample { labels, value })
            };
            QueryValue::Vector(elements.map(element).collect::<Option<_>>()?)
        }
        "matrix" => {
            let series = list()?.iter().filter(|one| one.get("values").is_some());
            let series = series.map(|one| {
                let points: Option<_> = one["values"].as_array()?.iter().map(point).collect();
                Some(MatrixSeries { labels: labels(&one["metric"])?, points: points? })
            });
            QueryValue::Matrix(series.collect::<Option<_>>()?)
        }
        _ => return None,
    };
    let (warnings, infos) = (texts("warnings"), texts("infos"));
    Some(QueryAnswer { value, warnings, infos, stats: QueryStats::default() })
}

fn labels(metric: &Value) -> Option<Labels> {
    let pairs = metric.as_object()?.iter();
    pairs.map(|(name, value)| Some((Text::from(name.as_str()), value.as_str()?))).collect()
}

fn point(point: &Value) -> Option<(Timestamp, f64)> {
    let seconds = point[0].as_f64()?;
    let at = Timestamp::from_millis((seconds * 1000.0).round() as i64);
    // Rust reads `NaN`, `+Inf` and `-Inf` as Prometheus writes them.
    Some((at, point[1].as_str()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn each_type_of_result_is_read_and_anything_else_is_none() {
        let answer = |kind: &str, result: Value| {
            read_envelope(&json!({"data": {"resultType": kind, "result": result}, "infos": ["i"]}))
        };
        let at = Timestamp::from_millis(1_500);
        let job = || -> Labels { [(Text::from("job"), "a")].into_iter().collect() };
        for (kind, result, value) in [
            ("scalar", json!([1, "+Inf"]), QueryValue::Scalar(f64::INFINITY)),
            ("string", json!([1, "x"]), QueryValue::Text("x".to_owned())),
            (
                "vector",
                json!([{"metric": {"job": "a"}, "value": [1.5, "2"]}, {"metric": {}, "histogram": 1}]),
                QueryValue::Vector(vec![InstantSample { labels: job(), value: 2.0 }]),
            ),
            (
                "matrix",
                json!([{"metric": {"job": "a"}, "values": [[1.5, "1e-07"]]}]),
                QueryValue::Matrix(vec![MatrixSeries { labels: job(), points: vec![(at, 1e-7)] }]),
            ),
        ] {
            let answer = answer(kind, result).unwrap();
            assert_eq!((answer.value, answer.infos), (value, vec!["i".to_owned()]));
        }
        for (kind, result) in [
            ("other", json!([])),
            ("scalar", json!([1])),
            ("vector", json!({})),
            ("vector", json!([{"value": [1, "x"], "metric": {}}])),
            ("matrix", json!([{"values": [[1, "1"]]}])),
        ] {
            assert!(answer(kind, result.clone()).is_none(), "{kind} {result}");
        }
    }
}
