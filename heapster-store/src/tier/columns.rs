//! How buckets lie in a segment: each aggregate of a column is a column of its own. The page is
//! docs/format/tiers.md.

use heapster_core::storage::{Aggregates, Bucket, Increase, Percentiles, Sum, Values};
use heapster_core::{Text, Timestamp, Value};

use crate::head::push_value;

/// Stands between the name of a column and that of its aggregate. No raw column has it in its name.
pub(crate) const MARK: char = '\u{1}';

/// A stored aggregate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    Count,
    Last,
    Sum,
    SumHigh,
    First,
    Min,
    Max,
    Increase,
    IncreaseHigh,
    Resets,
    P50,
    UpperMiddle,
    P99,
    P95,
}

/// What an aggregate is in all buckets of a row group that has no column of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Absent {
    /// It is always there.
    Never,
    /// The same as another one.
    Like(Part),
    /// The upper half of a number whose lower half, sign and all, is this one.
    SignOf(Part),
    /// Zero.
    Zero,
}

impl Part {
    /// All of them; each comes after what it may be like.
    pub const ALL: [Self; 14] = [
        Self::Count,
        Self::Last,
        Self::Sum,
        Self::SumHigh,
        Self::First,
        Self::Min,
        Self::Max,
        Self::Increase,
        Self::IncreaseHigh,
        Self::Resets,
        Self::P50,
        Self::UpperMiddle,
        Self::P99,
        Self::P95,
    ];

    /// What its name ends with.
    const fn suffix(self) -> &'static str {
        match self {
            Self::Count => "count",
            Self::Last => "last",
            Self::Sum => "sum",
            Self::SumHigh => "sum.high",
            Self::First => "first",
            Self::Min => "min",
            Self::Max => "max",
            Self::Increase => "increase",
            Self::IncreaseHigh => "increase.high",
            Self::Resets => "resets",
            Self::P50 => "p50",
            Self::UpperMiddle => "p50.upper",
            Self::P99 => "p99",
            Self::P95 => "p95",
        }
    }

    const fn absent(self) -> Absent {
        match self {
            Self::Count | Self::Last | Self::Sum | Self::Increase => Absent::Never,
            Self::SumHigh => Absent::SignOf(Self::Sum),
            Self::IncreaseHigh => Absent::SignOf(Self::Increase),
            Self::Resets => Absent::Zero,
            Self::First | Self::Max => Absent::Like(Self::Last),
            Self::Min => Absent::Like(Self::First),
            Self::P50 => Absent::Like(Self::Min),
            Self::UpperMiddle => Absent::Like(Self::P50),
            Self::P99 => Absent::Like(Self::Max),
            Self::P95 => Absent::Like(Self::P99),
        }
    }

    /// The name of the column that holds it.
    pub fn name_for(self, column: &str) -> Text {
        Text::from(format!("{column}{MARK}{}", self.suffix()))
    }

    /// The column and the aggregate that a stored name stands for.
    pub fn parse(name: &str) -> Option<(&str, Self)> {
        let (column, suffix) = name.rsplit_once(MARK)?;
        let part = Self::ALL.into_iter().find(|part| part.suffix() == suffix)?;
        Some((column, part))
    }

    /// Whether it is needed to know some aggregates.
    fn is_wanted(self, wanted: Aggregates) -> bool {
        wanted.contains(match self {
            Self::Count => Aggregates::NONE,
            Self::Last => Aggregates::LAST,
            Self::Sum | Self::SumHigh => Aggregates::SUM,
            Self::First => Aggregates::FIRST,
            Self::Min => Aggregates::MIN,
            Self::Max => Aggregates::MAX,
            Self::Increase | Self::IncreaseHigh | Self::Resets => Aggregates::INCREASE,
            Self::P50 | Self::UpperMiddle | Self::P95 | Self::P99 => Aggregates::PERCENTILES,
        })
    }

    /// What is stored of a bucket that knows all aggregates.
    fn of(self, bucket: &Bucket) -> Option<Value> {
        let int = |int: u64| Value::Int(int.cast_signed());
        let increase = || bucket.increase;
        let by_rank = || bucket.percentiles;
        Some(match self {
            Self::Count => int(bucket.count),
            Self::Last => bucket.last?,
            Self::Sum => low(bucket.sum?),
            Self::SumHigh => high(bucket.sum?),
            Self::First => bucket.first?,
            Self::Min => bucket.min?,
            Self::Max => bucket.max?,
            Self::Increase => low(increase()?.by),
            Self::IncreaseHigh => high(increase()?.by),
            Self::Resets => int(increase()?.resets),
            Self::P50 => by_rank()?.p50,
            Self::UpperMiddle => by_rank()?.upper_middle,
            Self::P99 => by_rank()?.p99,
            Self::P95 => by_rank()?.p95,
        })
    }
}

/// The lower 64 bits of an integer, or the float.
fn low(sum: Sum) -> Value {
    match sum {
        Sum::Int(sum) => Value::Int(sum as i64),
        Sum::Float(sum) => Value::Float(sum),
    }
}

/// The upper 64 bits of an integer.
fn high(sum: Sum) -> Value {
    match sum {
        Sum::Int(sum) => Value::Int((sum >> 64) as i64),
        Sum::Float(_) => Value::Int(0),
    }
}

/// The upper 64 bits of a number that fits into the lower ones.
fn sign_of(low: Value) -> Value {
    match low {
        Value::Int(low) => Value::Int(low >> 63),
        Value::Float(_) => Value::Int(0),
    }
}

fn joined(low: Value, high: Option<Value>) -> Sum {
    match low {
        Value::Float(sum) => Sum::Float(sum),
        Value::Int(low) => match high.and_then(Value::as_int) {
            Some(high) => Sum::Int(i128::from(high) << 64 | i128::from(low.cast_unsigned())),
            None => Sum::Int(low.into()),
        },
    }
}

/// The columns of buckets that know all aggregates; those are left out that say nothing new.
pub(crate) fn encode(buckets: &[Bucket]) -> Vec<(Part, Values)> {
    let mut made: Vec<(Part, Vec<Value>)> = Vec::with_capacity(Part::ALL.len());
    let mut kept = Vec::with_capacity(Part::ALL.len());
    for part in Part::ALL {
        let of = |bucket| part.of(bucket).expect("bug: a bucket of a tier lacks an aggregate (T2)");
        let values: Vec<Value> = buckets.iter().map(of).collect();
        let find = |wanted: Part| made.iter().find(|(own, _)| *own == wanted).map(|(_, v)| v);
        let is_known = match part.absent() {
            Absent::Never => false,
            Absent::Like(other) => find(other) == Some(&values),
            Absent::SignOf(other) => find(other).is_some_and(|low| {
                low.iter().zip(&values).all(|(low, high)| sign_of(*low) == *high)
            }),
            Absent::Zero => values.iter().all(|value| *value == Value::Int(0)),
        };
        if !is_known {
            let mut plain = Values::default();
            values.iter().for_each(|value| push_value(&mut plain, *value));
            kept.push((part, plain));
        }
        made.push((part, values));
    }
    kept
}

/// The stored aggregates of the buckets that a column has in one row group.
#[derive(Debug, Default)]
pub(crate) struct Stored {
    /// Those that were read, under their own names.
    read: Vec<(Part, Values)>,
    /// Which of them each wanted one is, in the order of [`Part::ALL`].
    wanted: [Option<usize>; Part::ALL.len()],
}

impl Stored {
    /// Reads what is wanted of a row group; `read` gives a column of it, if it is there.
    pub fn load<E>(
        wanted: Aggregates,
        mut read: impl FnMut(Part) -> Result<Option<Values>, E>,
    ) -> Result<Self, E> {
        let mut stored = Self::default();
        for part in Part::ALL.into_iter().filter(|part| part.is_wanted(wanted)) {
            let mut like = part;
            let found = loop {
                if let Some(known) = stored.read.iter().position(|(own, _)| *own == like) {
                    break Some(known);
                }
                if let Some(values) = read(like)? {
                    stored.read.push((like, values));
                    break Some(stored.read.len() - 1);
                }
                match like.absent() {
                    Absent::Like(other) => like = other,
                    _ => break None,
                }
            };
            stored.wanted[part as usize] = found;
        }
        Ok(stored)
    }

    /// How many buckets there are.
    pub fn len(&self) -> usize {
        self.read.iter().map(|(_, values)| values.len()).min().unwrap_or(0)
    }

    /// Appends some of the buckets; for each its index, below [`Stored::len`], and its start.
    pub fn append(&self, rows: &[(usize, Timestamp)], into: &mut Vec<Bucket>) {
        let from = into.len();
        let Some(counts) = self.values(Part::Count) else { return };
        into.extend(rows.iter().map(|(index, start)| {
            let count = counts.get(*index).as_int().unwrap_or(0);
            Bucket::new(*start, count.cast_unsigned())
        }));
        let into = &mut into[from..];
        // Column by column, so that what is not wanted costs nothing.
        let mut fill = |part: Part, set: fn(&mut Bucket, Value)| {
            let each = rows.iter().zip(&mut *into);
            match self.values(part) {
                None => {}
                Some(Values::Ints(ints)) => {
                    each.for_each(|((index, _), bucket)| set(bucket, Value::Int(ints[*index])));
                }
                Some(values) => {
                    each.for_each(|((index, _), bucket)| set(bucket, values.get(*index)));
                }
            }
        };
        fill(Part::Last, |bucket, value| bucket.last = Some(value));
        fill(Part::First, |bucket, value| bucket.first = Some(value));
        fill(Part::Min, |bucket, value| bucket.min = Some(value));
        fill(Part::Max, |bucket, value| bucket.max = Some(value));
        for ((index, _), bucket) in rows.iter().zip(into) {
            let value = |part| self.values(part).map(|values| values.get(*index));
            bucket.sum = value(Part::Sum).map(|sum| joined(sum, value(Part::SumHigh)));
            let resets = || value(Part::Resets).and_then(Value::as_int).unwrap_or(0);
            bucket.increase = value(Part::Increase).map(|by| Increase {
                by: joined(by, value(Part::IncreaseHigh)),
                resets: resets().cast_unsigned(),
            });
            bucket.percentiles = self.percentiles(*index);
        }
    }

    fn percentiles(&self, index: usize) -> Option<Percentiles> {
        let value = |part| self.values(part).map(|values| values.get(index));
        Some(Percentiles {
            p50: value(Part::P50)?,
            upper_middle: value(Part::UpperMiddle)?,
            p95: value(Part::P95)?,
            p99: value(Part::P99)?,
        })
    }

    /// The values of a wanted aggregate, unless they are absent and like no other.
    fn values(&self, part: Part) -> Option<&Values> {
        self.read.get(self.wanted[part as usize]?).map(|(_, values)| values)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use heapster_core::storage::{Grid, Rollup, Samples};
    use proptest::prelude::*;

    use super::*;

    fn value() -> impl Strategy<Value = Value> {
        prop_oneof![
            4 => (0_i64..9).prop_map(Value::Int),
            1 => any::<i64>().prop_map(Value::Int),
            1 => Just(Value::Int(i64::MIN)),
            1 => any::<u64>().prop_map(|bits| Value::Float(f64::from_bits(bits))),
        ]
    }

    fn buckets(values: &[Value], size: u64) -> Vec<Bucket> {
        let grid = Grid::new(Timestamp::EPOCH, Some(Duration::from_millis(size)));
        let mut rollup = Rollup::new(grid, Aggregates::ALL);
        let mut buckets = Vec::new();
        let samples = Samples {
            timestamps: (0..values.len() as i64).map(Timestamp::from_millis).collect(),
            values: Values::Mixed(values.to_vec()),
        };
        rollup.add(&samples, &mut buckets);
        rollup.finish(&mut buckets);
        buckets
    }

    fn read_back(buckets: &[Bucket], wanted: Aggregates) -> Vec<Bucket> {
        let kept = encode(buckets);
        let find = |part| kept.iter().find(|(own, _)| *own == part).map(|(_, v)| v.clone());
        let stored = Stored::load(wanted, |part| Ok::<_, ()>(find(part))).unwrap();
        assert_eq!(stored.len(), buckets.len());
        let rows: Vec<_> = buckets.iter().map(|bucket| bucket.start).enumerate().collect();
        let mut back = Vec::new();
        stored.append(&rows, &mut back);
        back
    }

    proptest! {
        #[test]
        fn what_is_stored_of_buckets_gives_them_back(
            values in prop_oneof![
                prop::collection::vec(value(), 1..60),
                prop::collection::vec(any::<i64>().prop_map(Value::Int), 1..60),
                (value(), 1_usize..60).prop_map(|(value, len)| vec![value; len]),
            ],
            size in 1_u64..12,
        ) {
            let buckets = buckets(&values, size);
            prop_assume!(!buckets.is_empty());
            // Printed, since a NaN is not equal to itself.
            let all = read_back(&buckets, Aggregates::ALL);
            prop_assert_eq!(format!("{all:?}"), format!("{buckets:?}"));
            let only_max = read_back(&buckets, Aggregates::MAX);
            prop_assert_eq!(
                only_max.iter().map(|b| (b.count, b.max, b.min)).collect::<Vec<_>>(),
                buckets.iter().map(|b| (b.count, b.max, None)).collect::<Vec<_>>()
            );
        }
    }

    #[test]
    fn a_rising_counter_costs_few_columns() {
        let values: Vec<Value> = (0..100).map(|i| Value::Int(i * i)).collect();
        let kept: Vec<Part> = encode(&buckets(&values, 5)).iter().map(|(part, _)| *part).collect();
        let few = [Part::Count, Part::Last, Part::Sum, Part::First, Part::Increase, Part::P50];
        assert_eq!(kept, few);
    }

    #[test]
    fn names_parse_back_and_others_do_not() {
        for part in Part::ALL {
            let name = part.name_for("cpu/usage");
            assert_eq!(Part::parse(&name), Some(("cpu/usage", part)));
        }
        for other in ["cpu/usage", "cpu\u{1}", "cpu\u{1}what", "sum"] {
            assert_eq!(Part::parse(other), None, "{other:?}");
        }
    }
}
