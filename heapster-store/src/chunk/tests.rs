//! Promises of chunks: every bit survives, hostile bytes are refused, small data stays small.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    reason = "a test may panic"
)]

use heapster_core::Timestamp;
use proptest::prelude::*;

use super::*;
use crate::codec::nth_hex_example;

fn bits(values: &Values) -> Vec<(bool, u64)> {
    (0..values.len())
        .map(|index| match values.get(index) {
            Value::Int(value) => (false, value.cast_unsigned()),
            Value::Float(value) => (true, value.to_bits()),
        })
        .collect()
}

/// Encodes, decodes, compares bit for bit and returns the encoded length.
#[track_caller]
fn check(values: &Values) -> usize {
    let small = check_effort(values, Effort::Small);
    let fast = check_effort(values, Effort::Fast);
    // Which codec is the smaller is told by its body; its summary may take some bytes more.
    assert!(small <= fast + 40, "{small} bytes for {fast}");
    fast
}

#[track_caller]
fn check_effort(values: &Values, effort: Effort) -> usize {
    let mut chunk = Vec::new();
    encode(values, effort, &mut chunk);
    let len = values.len();
    assert!(chunk.len() <= chunk_len_max(len), "{} bytes", chunk.len());
    let mut decoded = Values::default();
    decode(&chunk, len, &mut decoded).unwrap();
    assert_eq!(bits(values), bits(&decoded));
    for rows in [0..0, 0..1, 0..len, len - 1..len, len / 3..len / 2] {
        check_rows(&chunk, &decoded, rows);
    }
    if let Some(summary) = stored_summary(&chunk, len).unwrap() {
        assert!(is_same_summary(&summary, &summarize(&decoded).unwrap()), "{summary:?}");
    }
    chunk.len()
}

fn any_effort() -> impl Strategy<Value = Effort> {
    prop_oneof![3 => Just(Effort::Fast), 1 => Just(Effort::Small)]
}

/// Decodes a range and compares it with that of the whole.
#[track_caller]
fn check_rows(chunk: &[u8], whole: &Values, rows: Range<usize>) {
    // What is there from before is replaced, whatever it is.
    let mut part = Values::Ints(vec![7; 1000]);
    decode_rows(chunk, whole.len(), rows.clone(), &mut part).unwrap();
    assert_eq!(bits(whole)[rows], bits(&part));
}

/// As many values as a chunk may have; fewer in Miri, which takes a thousand times as long.
const LONG: usize = if cfg!(miri) { 600 } else { CHUNK_VALUES_MAX };
const MEDIUM: usize = if cfg!(miri) { 300 } else { 2048 };
/// Counts at which units and chunks begin or end.
const EDGES: [usize; 10] = [1, 2, 3, 127, 128, 129, 130, 257, MEDIUM, LONG];

fn any_int() -> impl Strategy<Value = i64> {
    prop_oneof![
        any::<i64>(),
        -3_i64..3,
        prop::sample::select(vec![i64::MIN, i64::MIN + 1, i64::MAX, 0, -1, 1 << 53]),
        (0_i64..1000).prop_map(|pages| pages * 4096),
    ]
}

fn any_float() -> impl Strategy<Value = f64> {
    prop_oneof![
        any::<u64>().prop_map(f64::from_bits),
        (-1000_i64..1000).prop_map(|value| value as f64 / 8.0),
        (-1000_i64..1000).prop_map(|value| value as f64 / 100.0),
        (-9_i64..9).prop_map(|value| value as f64),
        prop::sample::select(vec![
            0.0,
            -0.0,
            f64::INFINITY,
            f64::NEG_INFINITY,
            f64::NAN,
            f64::from_bits(0x7ff0_0000_0000_0002),
            f64::MIN_POSITIVE / 2.0,
            f64::MAX,
        ]),
    ]
}

fn any_values() -> impl Strategy<Value = Values> {
    let value = prop_oneof![any_int().prop_map(Value::Int), any_float().prop_map(Value::Float)];
    prop_oneof![
        prop::collection::vec(any_int(), 1..300).prop_map(Values::Ints),
        // A walk, as counters and gauges are.
        prop::collection::vec(-50_i64..5000, 1..300).prop_map(|steps| {
            let mut at = 1_i64 << 50;
            Values::Ints(
                steps
                    .iter()
                    .map(|step| {
                        at += step;
                        at
                    })
                    .collect(),
            )
        }),
        prop::collection::vec((any_int(), 1_usize..20), 1..20).prop_map(|runs| {
            Values::Ints(runs.iter().flat_map(|(v, n)| std::iter::repeat_n(*v, *n)).collect())
        }),
        prop::collection::vec(any_float(), 1..300).prop_map(Values::Floats),
        prop::collection::vec((-1000_i64..1000).prop_map(|v| v as f64 / 100.0), 1..300)
            .prop_map(Values::Floats),
        prop::collection::vec(value, 1..200).prop_map(Values::Mixed),
    ]
}

/// Values of every kind, of a length that units or chunks begin or end at.
fn values_at_edges() -> impl Strategy<Value = Values> {
    let shape = (any_int(), any_int(), 0_u32..64, any::<u64>());
    (prop::sample::select(EDGES.to_vec()), 0_u8..6, shape).prop_map(
        |(len, kind, (start, slope, shift, seed))| {
            let mut random = seed | 1;
            let mut at = start;
            let ints = (0..len as i64).map(|index| {
                random ^= random << 13;
                random ^= random >> 7;
                random ^= random << 17;
                let noise = random.cast_signed() >> shift;
                at = at.wrapping_add(slope).wrapping_add(noise);
                match kind {
                    0 => at,
                    1 => slope.wrapping_mul(index).wrapping_add(noise),
                    2 if random % 5 > 0 => start,
                    _ => noise,
                }
            });
            let ints: Vec<i64> = ints.collect();
            let float = |value: &i64| match value % 50 {
                _ if kind == 4 => f64::from_bits(value.cast_unsigned()),
                49 => f64::NAN,
                48 => -0.0,
                _ => *value as f64 / 1000.0,
            };
            match kind {
                4 | 5 => Values::Floats(ints.iter().map(float).collect()),
                _ => Values::Ints(ints),
            }
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(if cfg!(miri) { 2 } else { 64 }))]

    #[test]
    fn every_value_survives_at_the_edges_of_units(values in values_at_edges(), a: prop::sample::Index, b: prop::sample::Index, effort in any_effort()) {
        let mut chunk = Vec::new();
        encode(&values, effort, &mut chunk);
        check(&values);
        let (a, b) = (a.index(values.len()), b.index(values.len()));
        check_rows(&chunk, &values, a.min(b)..a.max(b));
    }
}

proptest! {
    #[test]
    fn any_rows_are_those_of_the_whole(values in any_values(), a: prop::sample::Index, b: prop::sample::Index, effort in any_effort()) {
        let mut chunk = Vec::new();
        encode(&values, effort, &mut chunk);
        let (a, b) = (a.index(values.len()), b.index(values.len()));
        check_rows(&chunk, &values, a.min(b)..a.max(b));
    }

    #[test]
    fn every_value_survives_bit_for_bit(values in any_values()) {
        check(&values);
    }

    #[test]
    fn random_bytes_are_refused_or_decoded_but_never_panic(
        bytes in prop::collection::vec(any::<u8>(), 0..200),
        count in prop_oneof![0_usize..300, Just(CHUNK_VALUES_MAX), Just(usize::MAX)],
        codec in 0_u8..13,
    ) {
        let mut chunk = vec![codec];
        chunk.extend_from_slice(&bytes);
        for chunk in [&bytes[..], &chunk[..]] {
            let mut values = Values::default();
            if decode(chunk, count, &mut values).is_ok() {
                prop_assert_eq!(values.len(), count);
            }
            let rows = count / 3..(count / 2).min(count / 3 + 500);
            if decode_rows(chunk, count, rows.clone(), &mut values).is_ok() {
                prop_assert_eq!(values.len(), rows.len());
            }
            let _ = stored_summary(chunk, count);
            let mut times = Vec::new();
            if decode_times(chunk, 5, count, &mut times).is_ok() {
                prop_assert!(times.is_sorted_by(|a, b| a < b));
            }
        }
    }

    #[test]
    fn a_changed_byte_is_refused_or_decoded_but_never_panics(
        values in any_values(), at: prop::sample::Index, to: u8, cut: prop::sample::Index, effort in any_effort(),
    ) {
        let mut chunk = Vec::new();
        encode(&values, effort, &mut chunk);
        let short = cut.index(chunk.len());
        let mut decoded = Values::default();
        prop_assert!(decode(&chunk[..short], values.len(), &mut decoded).is_err());
        let at = at.index(chunk.len());
        chunk[at] = to;
        if decode(&chunk, values.len(), &mut decoded).is_ok() {
            prop_assert_eq!(decoded.len(), values.len());
        }
        let _ = stored_summary(&chunk, values.len());
    }

    #[test]
    #[cfg_attr(miri, ignore = "Miri does not get through the codes")]
    fn broken_entropy_codes_are_refused_or_decoded_but_never_panic(
        steps in prop::collection::vec(0_i64..10_000, 64..600),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
        count in 1_usize..3000,
    ) {
        let values: Vec<i64> = steps.iter().map(|step| step * step).collect();
        let packed = packed::Plan::new(&values);
        let plan = entropy::Plan::new(&packed).unwrap();
        let mut chunk = vec![plan.tag().to_byte()];
        plan.put(&mut chunk);
        let mut decoded = Values::default();
        prop_assert_eq!(decode(&chunk, values.len(), &mut decoded), Ok(()));
        prop_assert_eq!(bits(&decoded), bits(&Values::Ints(values.clone())));
        // Version and kind are guarded; what comes behind them is up to the decoder.
        for (at, to) in changes {
            let at = at.index(chunk.len());
            chunk[at] = to;
        }
        for count in [values.len(), count] {
            if decode(&chunk, count, &mut decoded).is_ok() {
                prop_assert_eq!(decoded.len(), count);
            }
            let _ = decode_rows(&chunk, count, count / 2..count / 2 + 1, &mut decoded);
        }
    }

    #[test]
    fn timestamps_survive(
        first in Timestamp::MIN.as_millis()..=Timestamp::EPOCH.as_millis(),
        steps in prop::collection::vec(1_i64..100_000_000, 0..300),
    ) {
        let mut times = vec![first];
        times.extend(steps.iter().scan(first, |at, step| { *at += step; Some(*at) }));
        let mut bytes = Vec::new();
        encode_times(&times, &mut bytes);
        let mut decoded = Vec::new();
        decode_times(&bytes, first, times.len(), &mut decoded).unwrap();
        prop_assert_eq!(times, decoded);
    }
}

#[test]
fn the_extremes_survive_next_to_each_other() {
    check(&Values::Ints(vec![i64::MIN, i64::MAX, 0, i64::MIN, -1, 1, i64::MAX]));
    check(&Values::Ints(vec![0, i64::MIN]));
    check(&Values::Ints(vec![i64::MIN, 0, i64::MIN, 0]));
    check(&Values::Ints(vec![i64::MAX]));
    check(&Values::Floats(vec![0.0, -0.0, f64::NAN, f64::MAX, f64::MIN, 5e-324]));
    check(&Values::Ints((0..LONG as i64).map(|i| i * i).collect()));
}

#[test]
fn whole_and_decimal_floats_are_as_cheap_as_integers() {
    let ints = check(&Values::Ints((0..60).map(|i| i * 7 % 13).collect()));
    let whole = Values::Floats((0..60).map(|i| f64::from(i * 7 % 13)).collect());
    let tenths = Values::Floats((0..60).map(|i| f64::from(i * 7 % 13) / 10.0).collect());
    assert!(check(&whole) <= ints + 2);
    assert!(check(&tenths) <= ints + 2);
}

#[test]
fn a_value_that_is_no_decimal_costs_little_among_decimals() {
    let tenths = |i: i32| f64::from(i * 7 % 13) / 10.0;
    let all: Vec<f64> = (0..120).map(tenths).collect();
    let plain = check(&Values::Floats(all.clone()));
    for other in [f64::from_bits(0x7ff0_0000_0000_0002), -0.0, f64::INFINITY, 1.0 / 3.0] {
        let mut with = all.clone();
        with[40..43].fill(other);
        assert!(check(&Values::Floats(with)) <= plain + 16);
    }
}

#[test]
fn floats_without_a_pattern_take_little_more_than_their_digits() {
    // Five bits of sign and exponent are the same in all of them.
    let len = LONG.min(2000);
    let values = (1..len as i32).map(|i| 1.0 + f64::from(i * 7919 % 2003).sqrt() / 90.0).collect();
    assert!(check(&Values::Floats(values)) <= len * 54 / 8);
}

#[test]
fn long_chunks_of_few_runs_keep_small() {
    let mut limit = vec![5 << 30; 1000];
    limit.extend([6 << 30; 1000]);
    assert!(check(&Values::Ints(limit)) <= 17);
}

#[test]
fn unchanged_values_cost_a_few_bytes() {
    assert!(check(&Values::Ints(vec![5 << 30; 60])) <= 7);
    let mut limit = vec![5 << 30; 30];
    limit.extend([6 << 30; 30]);
    assert!(check(&Values::Ints(limit)) <= 15);
    assert_eq!(check(&Values::Floats(vec![f64::NAN; 60])), 9);
}

#[test]
fn values_that_often_stay_cost_little_while_they_stay() {
    let wild: Vec<i64> = (0..60_i64).map(|i| (i * i * i * 7_919 + 17) % 1_000_003).collect();
    let mut calm = Vec::new();
    for value in wild.iter().take(20) {
        // Stays of 1, 3 and 5 rows.
        calm.extend(std::iter::repeat_n(*value, 1 + 2 * (calm.len() % 3)));
    }
    calm.resize(60, 0);
    let (wild, calm) = (check(&Values::Ints(wild)), check(&Values::Ints(calm)));
    assert!(calm * 3 < wild * 2, "{calm} against {wild} bytes");
}

#[test]
fn a_counter_that_begins_again_does_not_widen_its_neighbours() {
    let steady: Vec<i64> = (0..60).map(|i| (1 << 50) + i * 1000 + i % 7).collect();
    let mut reset = steady.clone();
    for value in &mut reset[30..] {
        *value -= 1 << 50;
    }
    let (steady, reset) = (check(&Values::Ints(steady)), check(&Values::Ints(reset)));
    assert!(reset <= steady + 32, "{reset} against {steady} bytes");
}

#[test]
fn a_missed_scrape_does_not_spoil_a_regular_clock() {
    let mut times: Vec<i64> = (0..240).map(|i| 1_700_000_000_000 + i * 15_000).collect();
    times.remove(100);
    let mut bytes = Vec::new();
    encode_times(&times, &mut bytes);
    assert!(bytes.len() <= 16, "{} bytes", bytes.len());
}

#[test]
fn summaries_of_long_chunks_are_stored_and_exact() {
    let values = Values::Ints((0..1000).map(|i| (i * 7919) % 1009 - 500).collect());
    let mut chunk = Vec::new();
    encode(&values, Effort::Fast, &mut chunk);
    assert_eq!(stored_summary(&chunk, 1000), Ok(summarize(&values)));
    assert!(stored_summary(&chunk, 1000).unwrap().is_some());
    let floats = Values::Floats((0..1000).map(|i| f64::from(i).sqrt()).collect());
    chunk.clear();
    encode(&floats, Effort::Fast, &mut chunk);
    assert_eq!(stored_summary(&chunk, 1000).unwrap(), summarize(&floats));
}

#[test]
fn summaries_of_equal_floats_are_those_of_adding_them_up() {
    let values = [0.0, -0.0, 1.0, 0.1, -2.5, 1e300, 5e-324, f64::MAX, f64::INFINITY, f64::NAN];
    for value in values.into_iter().chain([f64::from_bits(0x7ff0_0000_0000_0002)]) {
        for len in [1, 2, 127, 128, LONG.min(2000), LONG] {
            let values = Values::Floats(vec![value; len]);
            let mut chunk = Vec::new();
            encode(&values, Effort::Fast, &mut chunk);
            let stored = stored_summary(&chunk, len).unwrap().unwrap();
            assert!(is_same_summary(&stored, &summarize(&values).unwrap()), "{len} times {value}");
        }
    }
}

#[test]
fn nan_is_a_summarys_extreme_only_when_there_is_nothing_else() {
    let summary = summarize(&Values::Floats(vec![f64::NAN, 2.0, f64::NAN, 1.0])).unwrap();
    assert_eq!((summary.min, summary.max), (Value::Float(1.0), Value::Float(2.0)));
    assert_eq!(summary.resets, 0);
    let summary = summarize(&Values::Floats(vec![f64::NAN; 2])).unwrap();
    assert_eq!((summary.min, summary.max), (Value::Float(f64::NAN), Value::Float(f64::NAN)));
}

#[test]
fn unknown_codecs_are_named() {
    let mut values = Values::default();
    assert_eq!(decode(&[31, 0], 1, &mut values), Err(Malformed::Unknown(31)));
    assert_eq!(
        decode(&[0, 0], 1, &mut values),
        Err(Malformed::Bytes("a chunk has the reserved codec 0"))
    );
}

#[test]
fn the_worked_examples_of_the_format_page_decode() {
    let page = include_str!("../../../docs/format/chunk.md");
    let memory = vec![4096, 8192, 8192, 4096, 409_600, 8192, 8192, 4096];
    let counter = (0..130).map(|i| 1000 + 7 * i + i64::from(i == 100)).collect();
    for (index, values) in [memory, counter].into_iter().enumerate() {
        let example = nth_hex_example(page, index);
        let values = Values::Ints(values);
        let mut decoded = Values::default();
        decode(&example, values.len(), &mut decoded).unwrap();
        assert_eq!(decoded, values);
        let mut encoded = Vec::new();
        encode(&values, Effort::Fast, &mut encoded);
        assert_eq!(encoded, example);
    }
}
