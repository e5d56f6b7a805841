//! The corpora of the fuzz targets: what a fuzzer once found interesting, and every input that once
//! broke something, neither panic nor read differently. See docs/fuzzing.md.

use std::fs;
use std::path::{Path, PathBuf};

use heapster_core::Value;
use heapster_core::storage::Values;
use heapster_store::vfs::faulty::FaultyVfs;
use heapster_store::{Ack, LateWindow, Store, StoreOptions, bench_support, fuzz_support};

use crate::mutation::{run_corpus, run_corpus_times};
use crate::store_model;
use crate::support::*;

const CRATE: &str = env!("CARGO_MANIFEST_DIR");

#[test]
fn no_chunk_makes_the_decoder_panic_or_differ_from_itself() {
    run_corpus(CRATE, "chunk_decode", fuzz_support::chunk_decode);
}

#[test]
fn no_clock_makes_the_decoder_panic() {
    run_corpus(CRATE, "times_decode", fuzz_support::times_decode);
}

#[test]
fn values_and_timestamps_of_any_shape_survive_encoding() {
    run_corpus(CRATE, "codec_roundtrip", fuzz_support::codec_roundtrip);
}

#[test]
fn no_log_file_makes_replay_panic_or_a_flush_lose_what_was_read() {
    run_corpus(CRATE, "wal_replay", fuzz_support::wal_replay);
}

#[test]
fn no_segment_makes_reading_panic_and_what_passes_verification_is_readable() {
    run_corpus(CRATE, "segment_open", fuzz_support::segment_open);
}

#[test]
fn a_segment_is_what_its_short_form_becomes() {
    let golden = fs::read(Path::new(CRATE).join("testdata/v1/segment")).unwrap();
    let is_segment = |path: &PathBuf| path.extension().is_some_and(|name| name == "seg");
    let of_a_store = files_of_a_store().into_iter().filter(|(path, _)| is_segment(path));
    let files: Vec<Vec<u8>> = of_a_store.map(|(_, bytes)| bytes).chain([golden]).collect();
    assert!(files.len() > 2);
    for file in files {
        let short = fuzz_support::fold_segment(&file).unwrap();
        assert!(short.len() < 1500, "{} bytes are too many for a corpus", short.len());
        assert!(fuzz_support::unfold_segment(&short).unwrap() == file);
    }
}

#[test]
fn no_manifest_makes_parsing_panic() {
    run_corpus(CRATE, "manifest_parse", fuzz_support::manifest_parse);
}

#[test]
fn operations_in_any_order_and_crashes_between_them_leave_what_a_map_has() {
    run_corpus_times(CRATE, "store_model", 300, store_model::run);
}

/// Writes the seeds that the corpora grew from: files that the store writes, in the form the targets
/// read. Run it after a change of the format, then `make fuzz` and `scripts/fuzz --minimise`.
#[test]
#[ignore = "writes into fuzz/corpus"]
fn make_seeds() {
    let seed = |target: &str, name: &str, head: &[u8], bytes: &[u8]| {
        let folder = Path::new(CRATE).join("fuzz/corpus").join(target);
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join(name), [head, bytes].concat()).unwrap();
    };
    // Whole ones are longer than what a fuzzer tries.
    let seed_segment = |name: &str, mode: u8, bytes: &[u8]| {
        let head: &[u8] = if mode == 0 { &[1] } else { &[3, 0, 1, 0, 0, 1] };
        seed("segment_open", name, head, &fuzz_support::fold_segment(bytes).unwrap());
    };
    for (name, values) in shapes() {
        for is_small in [false, true] {
            let mut chunk = Vec::new();
            bench_support::encode(&values, is_small, &mut chunk);
            let count = (values.len() as u16 - 1).to_le_bytes();
            let head = [&count[..], &[1, 0, 5, 0]].concat();
            let name = format!("{name}_{}", if is_small { "small" } else { "fast" });
            seed("chunk_decode", &name, &head, &chunk);
        }
    }
    let timestamps = [0_u8, 60, 60, 60, 61, 59, 60];
    seed("times_decode", "constant", &[0; 10], &[1, 0]);
    for shape in 0..8 {
        let numbers: Vec<u8> =
            (0..40).map(|at| [shape, timestamps[at % 7], at as u8][at % 3]).collect();
        (0..4).for_each(|kind| {
            seed("codec_roundtrip", &format!("{kind}_{shape}"), &[kind], &numbers);
        });
    }
    for (path, bytes) in files_of_a_store() {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        for mode in [0, 1] {
            let named = format!("{name}_{mode}");
            match path.extension().and_then(|extension| extension.to_str()) {
                Some("wal") => seed("wal_replay", &named, &[mode, 100, 0], &bytes),
                Some("seg") => seed_segment(&named, mode, &bytes),
                _ if name == "MANIFEST" => seed("manifest_parse", &named, &[mode], &bytes),
                _ => {}
            }
        }
    }
    for name in ["segment", "manifest", "wal_batches"] {
        let bytes = fs::read(Path::new(CRATE).join("testdata/v1").join(name)).unwrap();
        for mode in [0, 1] {
            let named = format!("golden_{mode}");
            match name {
                "segment" => seed_segment(&named, mode, &bytes),
                "manifest" => seed("manifest_parse", &named, &[mode], &bytes),
                _ => seed("wal_replay", &named, &[mode, 50, 0], &bytes),
            }
        }
    }
    let ops: Vec<u8> =
        (0..600_u32).map(|at| (at.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    for (at, ops) in ops.chunks(100).enumerate() {
        seed("store_model", &format!("mix_{at}"), &[], ops);
    }
}

fn shapes() -> Vec<(&'static str, Values)> {
    let ints = |value: fn(i64) -> i64| Values::Ints((0..300).map(value).collect());
    let floats = |value: fn(i64) -> f64| Values::Floats((0..300).map(value).collect());
    let noise = |at: i64| at.wrapping_mul(-0x61c8_8646_80b5_83eb).rotate_left(17);
    let mixed = (0..150).map(|at| match at % 3 {
        0 => Value::Float(at as f64 / 7.0),
        _ => Value::Int(at * at),
    });
    vec![
        ("constant", ints(|_| 4096)),
        ("runs", ints(|at| at / 40)),
        ("offsets", ints(|at| at * 7919 % 1000)),
        ("scaled", ints(|at| at * 7919 % 1000 * 4096)),
        ("deltas", ints(|at| at * 1000 + at * 7919 % 13)),
        ("curves", ints(|at| at * at * 50 + at % 2)),
        ("changes", ints(|at| at * 7919 % 100 / 60 * at)),
        ("exceptions", ints(|at| if at % 50 == 7 { i64::MIN + at } else { at % 5 })),
        ("noise", Values::Ints((0..100).map(noise).collect())),
        ("constant_float", floats(|_| 0.1)),
        ("decimals", floats(|at| (at * 7919 % 1000) as f64 / 100.0)),
        ("holes", floats(|at| if at % 90 < 3 { f64::NAN } else { (at % 10) as f64 / 10.0 })),
        ("xor", floats(|at| (at as f64).sqrt())),
        ("patterns", floats(|at| f64::from_bits(0x4000_0000_0000_0000 + at as u64 % 9))),
        ("mixed", Values::Mixed(mixed.collect())),
        ("two", Values::Ints(vec![i64::MIN, i64::MAX])),
    ]
}

/// The files of a store with a few sets, late rows, a deletion, and aggregates.
fn files_of_a_store() -> Vec<(PathBuf, Vec<u8>)> {
    let (vfs, clock) = (FaultyVfs::new(), TestClock::new());
    let options = StoreOptions { late_window: LateWindow::Any, ..options(&vfs, &clock) };
    let store = Store::open(DIR, options).unwrap();
    let append = |millis: i64, pod: &str, value: i64| {
        let rows = [
            row(pod, [("memory/usage", value * 4096), ("cpu/usage", value)]),
            row("float", [("load", value as f64 / 8.0)]),
        ];
        let report = store.append_rows(at(millis), &rows, Ack::Durable).unwrap();
        assert_eq!(report.rejected.total(), 0);
    };
    for step in 0..20 {
        clock.step(MINUTE);
        append(clock.millis(), ["a", "b"][step as usize % 2], step);
    }
    append(clock.millis() - 5 * MINUTE, "a", 7);
    let logs = vfs.files();
    store.flush().unwrap();
    append(clock.millis(), "c", 1);
    let matcher = heapster_core::Matcher::regex("pod_name", "a|x.*").unwrap();
    let range = heapster_core::TimeRange::new(at(NOON), at(NOON + 3 * MINUTE));
    let _ = store.delete(&[matcher], range).unwrap();
    store.flush().unwrap();
    logs.into_iter().chain(vfs.files()).collect()
}
