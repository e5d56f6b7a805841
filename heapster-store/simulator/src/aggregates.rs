//! Aggregates by buckets: what tiers say must be what the samples say.

use std::collections::BTreeMap;
use std::time::Duration;

use heapster_core::storage::{
    Aggregates, Bucket, BucketSelection, BucketSelector, Columns, MemoryStorage, Snapshot, Storage,
    Sum, collect_buckets,
};
use heapster_core::{TimeRange, Timestamp, Value};
use heapster_store::Store;
use heapster_store::vfs::faulty::Coin;

use crate::contents::{Contents, rows_by_time};

const SIZES_MS: [i64; 4] = [300_000, 600_000, 3_600_000, 7_200_000];

/// Buckets of a column by their start, printed so that NaNs compare; the increase by itself.
type Answer = BTreeMap<(String, String, i64), (String, String)>;

/// Asks the store, and the samples that it ever had, the same question.
///
/// # Errors
/// The answers differ.
pub fn check(
    store: &Store,
    shown: &Contents,
    history: &Contents,
    must_be_exact: bool,
    coin: &mut Coin,
) -> Result<(), String> {
    let memory = MemoryStorage::new();
    for (at, rows) in rows_by_time(history) {
        memory.append(at, &rows);
    }
    // Before this, samples are gone that a tier may not have had in its finest buckets.
    let expired = history.keys().filter(|key| !shown.contains_key(*key)).map(|key| key.2).max();
    let size = coin.pick(&SIZES_MS);
    let start = history.keys().map(|key| key.2).min().unwrap_or(0);
    let start = match coin.percent(50) {
        true => Timestamp::MIN,
        false => Timestamp::from_millis(start.div_euclid(size) * size),
    };
    let wanted = [
        Aggregates::ALL,
        Aggregates::MAX,
        Aggregates::INCREASE,
        Aggregates::SUM | Aggregates::FIRST | Aggregates::LAST,
    ];
    let selector = BucketSelector {
        matchers: Vec::new(),
        columns: Columns::All,
        range: TimeRange::new(start, Timestamp::MAX),
        bucket: Some(Duration::from_millis(size as u64)),
        aggregates: coin.pick(&wanted),
    };
    let failed = |error| format!("aggregates: {error}");
    let answer = store.snapshot().select_buckets(&selector).map_err(failed)?;
    if !answer.is_exact {
        // Percentiles do not add up, and a tier of ten minutes has no buckets of five.
        let is_possible = selector.aggregates != Aggregates::ALL && size % 3_600_000 == 0;
        return match expired {
            Some(_) if must_be_exact && is_possible => {
                Err("aggregates: not exact, though the tiers have waited for nothing else"
                    .to_owned())
            }
            Some(_) => Ok(()),
            None => Err("aggregates: not exact, though nothing is gone".to_owned()),
        };
    }
    let expected = memory.snapshot().and_then(|memory| memory.select_buckets(&selector));
    let (found, expected) = (print_all(&answer)?, print_all(&expected.map_err(failed)?)?);
    // The step over samples that are gone is gone with them.
    let is_after = |start: i64| expired.is_none_or(|expired| start > expired + 86_400_000);
    let is_compared = |start: i64| is_after(start) || selector.aggregates != Aggregates::INCREASE;
    for (key, bucket) in &expected {
        let is_same = found.get(key).is_some_and(|found| {
            // An answer that says that it is exact is so of what is gone as well, but for steps.
            found.0 == bucket.0 && (found.1 == bucket.1 || !is_after(key.2))
        });
        if is_compared(key.2) && !is_same {
            let found = found.get(key);
            return Err(format!("bucket {key:?} of {size} ms is {found:?} instead of {bucket:?}"));
        }
    }
    match found.keys().find(|key| !expected.contains_key(*key)) {
        Some(key) => Err(format!("bucket {key:?} is of no sample")),
        None => Ok(()),
    }
}

fn print_all(selection: &BucketSelection) -> Result<Answer, String> {
    let mut answer = Answer::new();
    for set in &selection.sets {
        for (index, column) in set.columns().iter().enumerate() {
            let buckets = collect_buckets(&**set, index);
            for bucket in buckets.map_err(|error| format!("aggregates: {error}"))? {
                let at = bucket.start.as_millis();
                let key = (set.labels().to_string(), column.name.to_string(), at);
                answer.insert(key, print(&bucket));
            }
        }
    }
    Ok(answer)
}

fn print(bucket: &Bucket) -> (String, String) {
    // Integers and floats may be added up in another order, and then by another kind; the payload of
    // a NaN and the sign of a zero depend on the order as well.
    let sum = |sum: Sum| match sum.as_f64() {
        sum if sum.is_nan() => "NaN".to_owned(),
        sum => format!("{:?}", sum + 0.0),
    };
    let increase = bucket.increase.map(|own| (sum(own.by), own.resets));
    // Of equal values, such as 0 and -0.0, that of the first sample is kept; which part of a bucket
    // is asked first depends on what is answered from a tier.
    let plain = |value: Option<Value>| match value {
        Some(Value::Float(float)) if float.fract() == 0.0 && float.abs() < 9e15 => {
            Some(Value::Int(float as i64))
        }
        value => value,
    };
    let (min, max) = (plain(bucket.min), plain(bucket.max));
    let without = Bucket { sum: None, increase: None, min, max, ..*bucket };
    (format!("{without:?} {:?}", bucket.sum.map(sum)), format!("{increase:?}"))
}
