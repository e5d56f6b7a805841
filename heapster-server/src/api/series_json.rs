//! The JSON of series, aggregates and lists.

use std::time::Duration;

use heapster_core::{Timestamp, Value};
use heapster_query::historical::{Aggregation, Bucket, Point};

use crate::http::gojson::{JsonWriter, Style};
use crate::http::{Response, json};

/// Series of several entities are written on one line, all else is indented; as in the original.
pub(super) fn answer(style: Style, write: impl FnOnce(&mut JsonWriter)) -> Response {
    let mut writer = JsonWriter::new(style);
    write(&mut writer);
    json(writer.finish())
}

/// `["a", …]`.
pub(super) fn write_list<T: AsRef<str>>(json: &mut JsonWriter, items: &[T]) {
    json.begin_array();
    for item in items {
        json.string(item.as_ref());
    }
    json.end_array();
}

/// `{"items": […]}`.
pub(super) fn write_items<T>(
    json: &mut JsonWriter,
    items: &[T],
    mut write: impl FnMut(&mut JsonWriter, &T),
) {
    json.begin_object();
    json.key("items");
    json.begin_array();
    for item in items {
        write(json, item);
    }
    json.end_array();
    json.end_object();
}

/// `{"metrics": [{"timestamp": …, "value": …}], "latestTimestamp": …}`.
pub(super) fn write_series(json: &mut JsonWriter, points: &[Point]) {
    json.begin_object();
    json.key("metrics");
    json.begin_array();
    for (at, value) in points {
        json.begin_object();
        json.key("timestamp");
        json.plain_text(at);
        json.key("value");
        json.uint(unsigned(*value));
        json.end_object();
    }
    json.end_array();
    json.key("latestTimestamp");
    // Go's zero time when there is none.
    json.plain_text(points.last().map_or(Timestamp::MIN, |point| point.0));
    json.end_object();
}

/// The original's values are unsigned: negative integers wrap around, floats lose their fraction.
fn unsigned(value: Value) -> u64 {
    let int = match value {
        Value::Int(int) => int,
        Value::Float(float) => float as i64,
    };
    int.cast_unsigned()
}

/// `{"buckets": […], "bucketSize": …}`; the size in nanoseconds, 0 without buckets of a size.
pub(super) fn write_buckets(
    json: &mut JsonWriter,
    buckets: &[Bucket],
    size: Option<Duration>,
    aggregations: &[Aggregation],
) {
    json.begin_object();
    json.key("buckets");
    json.begin_array();
    for bucket in buckets {
        write_bucket(json, bucket, aggregations);
    }
    json.end_array();
    json.key("bucketSize");
    let size = size.filter(|_| !buckets.is_empty()).unwrap_or_default();
    json.uint(u64::try_from(size.as_nanos()).unwrap_or(u64::MAX));
    json.end_object();
}

fn write_bucket(json: &mut JsonWriter, bucket: &Bucket, aggregations: &[Aggregation]) {
    json.begin_object();
    json.key("timestamp");
    json.plain_text(bucket.start);
    if aggregations.contains(&Aggregation::Count) {
        json.key("count");
        json.uint(bucket.count);
    }
    for (name, aggregation) in [
        ("average", Aggregation::Average),
        ("maximum", Aggregation::Max),
        ("minimum", Aggregation::Min),
        ("median", Aggregation::Median),
    ] {
        if let Some(value) = bucket.value(aggregation) {
            json.key(name);
            write_value(json, value);
        }
    }
    let percentiles: Vec<_> = [("50", 50), ("95", 95), ("99", 99)]
        .into_iter()
        .filter_map(|(name, p)| Some((name, bucket.value(Aggregation::Percentile(p))?)))
        .collect();
    if !percentiles.is_empty() {
        json.key("percentiles");
        json.begin_object();
        for (name, value) in percentiles {
            json.key(name);
            write_value(json, value);
        }
        json.end_object();
    }
    json.end_object();
}

fn write_value(json: &mut JsonWriter, value: Value) {
    json.begin_object();
    match value {
        Value::Int(int) => {
            json.key("intValue");
            json.int(int);
        }
        Value::Float(float) => {
            json.key("floatValue");
            json.float(float);
        }
    }
    json.end_object();
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(write: impl FnOnce(&mut JsonWriter)) -> String {
        String::from_utf8(answer(Style::Plain, write).body().to_vec()).unwrap()
    }

    #[test]
    fn values_of_series_are_unsigned_and_whole() {
        let at = Timestamp::parse_rfc3339("2018-07-26T12:00:00Z").unwrap();
        let values = [Value::Int(-1), Value::Float(0.83), Value::Float(-2.5)];
        let points: Vec<Point> = values.map(|value| (at, value)).into();
        assert_eq!(
            written(|json| write_series(json, &points)),
            "{\"metrics\":[\
             {\"timestamp\":\"2018-07-26T12:00:00Z\",\"value\":18446744073709551615},\
             {\"timestamp\":\"2018-07-26T12:00:00Z\",\"value\":0},\
             {\"timestamp\":\"2018-07-26T12:00:00Z\",\"value\":18446744073709551614}],\
             \"latestTimestamp\":\"2018-07-26T12:00:00Z\"}\n"
        );
        assert_eq!(
            written(|json| write_series(json, &[])),
            "{\"metrics\":[],\"latestTimestamp\":\"0001-01-01T00:00:00Z\"}\n"
        );
    }

    #[test]
    fn buckets_have_what_was_asked_for_in_the_originals_order() {
        let bucket = Bucket {
            start: Timestamp::parse_rfc3339("2018-07-26T12:00:00Z").unwrap(),
            count: 0,
            values: vec![
                (Aggregation::Percentile(95), Value::Int(160)),
                (Aggregation::Average, Value::Float(0.5)),
            ],
        };
        let minute = Some(Duration::from_secs(60));
        let asked = [Aggregation::Percentile(95), Aggregation::Average, Aggregation::Count];
        let buckets = [bucket];
        assert_eq!(
            written(|json| write_buckets(json, &buckets, minute, &asked)),
            "{\"buckets\":[{\"timestamp\":\"2018-07-26T12:00:00Z\",\"count\":0,\
             \"average\":{\"floatValue\":0.5},\"percentiles\":{\"95\":{\"intValue\":160}}}],\
             \"bucketSize\":60000000000}\n"
        );
        assert_eq!(
            written(|json| write_buckets(json, &[], minute, &asked)),
            "{\"buckets\":[],\"bucketSize\":0}\n"
        );
    }
}
