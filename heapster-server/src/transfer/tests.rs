//! What is written is read back, and what is read may be anything.

use std::collections::BTreeMap;

use heapster_core::storage::{Samples, Values};
use proptest::collection::{btree_map, btree_set, vec};
use proptest::prelude::*;

use super::*;

const OPTIONS: ReadOptions = ReadOptions { time: Timestamp::EPOCH, floats: false };

fn text(least: usize) -> impl Strategy<Value = String> {
    // Any character, and those that mean something more often.
    let char = prop_oneof![
        any::<char>(),
        prop::sample::select(vec!['"', '\\', ',', '\n', '\r', '{', ' '])
    ];
    vec(char, least..6).prop_map(String::from_iter)
}

fn value() -> impl Strategy<Value = Value> {
    prop_oneof![
        any::<i64>().prop_map(Value::Int),
        any::<u64>().prop_map(|bits| Value::Float(f64::from_bits(bits))),
        Just(Value::Float(f64::from_bits(0x7ff0_0000_0000_0002))),
    ]
}

/// Samples of a few series, in the order of their series.
fn samples() -> impl Strategy<Value = Vec<Sample>> {
    let kind =
        prop::sample::select(vec![MetricKind::Cumulative, MetricKind::Gauge, MetricKind::Delta]);
    let times = -62_135_596_800_000..=253_402_300_799_999_i64;
    let series = (btree_map(text(1), text(0), 0..4), text(1));
    let of_series = (kind, btree_set(times, 1..5), vec(value(), 5));
    btree_map(series, of_series, 0..5).prop_map(|all| {
        let samples = all.into_iter().flat_map(|((labels, metric), (kind, times, values))| {
            let labels = Labels::from_iter(labels);
            times.into_iter().zip(values).map(move |(at, value)| {
                let at = Timestamp::from_millis(at);
                Sample { labels: labels.clone(), metric: metric.as_str().into(), kind, at, value }
            })
        });
        samples.collect()
    })
}

fn written(format: Format, samples: &[Sample]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut writer = writer(format, &mut bytes).unwrap();
    for sample in samples {
        let series = Series { labels: &sample.labels, metric: &sample.metric, kind: sample.kind };
        let one = Samples {
            timestamps: vec![sample.at].into(),
            values: Values::Mixed(vec![sample.value]),
        };
        writer.write(series, &one).unwrap();
    }
    writer.finish().unwrap();
    bytes
}

/// All samples and how many lines were bad; reading must come to an end.
fn read_all(reader: &mut dyn SampleReader) -> (Vec<Sample>, u64) {
    let (mut samples, mut bad) = (Vec::new(), 0);
    loop {
        match reader.next() {
            Ok(Some(sample)) => samples.push(sample),
            Err(ReadError::BadLine { .. }) => bad += 1,
            Ok(None) | Err(_) => return (samples, bad),
        }
    }
}

proptest! {
    #[test]
    fn csv_is_read_back_as_it_was_written(samples in samples()) {
        let bytes = written(Format::Csv, &samples);
        let mut reader = CsvReader::new(&bytes[..], OPTIONS).unwrap();
        prop_assert_eq!(read_all(&mut reader), (samples, 0));
    }

    #[test]
    fn prometheus_text_is_read_back_but_for_what_it_cannot_say(mut samples in samples()) {
        let bytes = written(Format::Prometheus, &samples);
        let mut reader = PrometheusReader::new(&bytes[..], OPTIONS);
        let (mut read, bad) = read_all(&mut reader);
        prop_assert_eq!(bad, 0);
        // A family has one type, and there is none for deltas.
        let mut kinds = BTreeMap::new();
        for sample in samples.iter_mut().chain(&mut read) {
            let kind = if sample.kind == MetricKind::Delta { MetricKind::Gauge } else { sample.kind };
            sample.kind = *kinds.entry(sample.metric.clone()).or_insert(kind);
            if let Value::Float(float) = &mut sample.value
                && float.is_nan()
            {
                *float = f64::NAN;
            }
        }
        prop_assert_eq!(read, samples);
    }

    #[test]
    fn any_bytes_are_read_to_an_end(bytes in vec(any::<u8>(), 0..300)) {
        read_all(&mut PrometheusReader::new(&bytes[..], OPTIONS));
        let csv = [b"time,metric,kind,value,labels,other\n", &bytes[..]].concat();
        read_all(&mut CsvReader::new(&csv[..], OPTIONS).unwrap());
    }

    #[test]
    fn nearly_right_lines_are_read_to_an_end(samples in samples(), at: prop::sample::Index, byte: u8) {
        for format in [Format::Csv, Format::Prometheus] {
            let mut bytes = written(format, &samples);
            if bytes.is_empty() {
                continue;
            }
            let at = at.index(bytes.len());
            bytes[at] = byte;
            match format {
                Format::Csv => drop(CsvReader::new(&bytes[..], OPTIONS).map(|mut reader| {
                    read_all(&mut reader);
                })),
                _ => drop(read_all(&mut PrometheusReader::new(&bytes[..], OPTIONS))),
            }
        }
    }
}
