//! Reads a store while another process writes it.
//!
//! `cargo run -p heapster-examples --example live_reader -- DIR` follows the data directory of a running
//! server and copies it aside at the end. Without a directory it writes one of its own meanwhile.

use std::error::Error;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use heapster_core::series::Row;
use heapster_core::storage::{Columns, Selector, Snapshot};
use heapster_core::{Labels, MetricValue, TimeRange, Timestamp};
use heapster_store::vfs::{RealVfs, Vfs};
use heapster_store::{Ack, ReaderOptions, Store, StoreOptions, StoreReader, backup, check};

fn main() -> Result<(), Box<dyn Error>> {
    let own = tempfile::tempdir()?;
    let dir = match std::env::args_os().nth(1) {
        Some(dir) => PathBuf::from(dir),
        None => {
            let dir = own.path().join("metrics");
            let store =
                Store::open(&dir, StoreOptions { future_max: None, ..StoreOptions::default() })?;
            std::thread::spawn(move || write(&store));
            dir
        }
    };

    // No lock is taken and nothing is written; permission to read is enough.
    let reader = StoreReader::open(&dir, ReaderOptions::default())?;
    for _ in 0..5 {
        std::thread::sleep(Duration::from_millis(200));
        let news = reader.refresh()?;
        let everything =
            Selector { matchers: Vec::new(), columns: Columns::All, range: TimeRange::ALL };
        let snapshot = reader.snapshot();
        let sets = snapshot.select(&everything)?.len();
        let newest = snapshot.bounds().map_or("nothing".to_owned(), |range| range.end.to_string());
        println!("{} new samples; {sets} sets up to {newest}", news.samples);
    }

    // A backup and a check work on the live directory as well.
    let vfs: Arc<dyn Vfs> = Arc::new(RealVfs);
    let copy = backup(&vfs, &dir, own.path().join("backup"), &mut |_| {})?;
    println!("backed up {} bytes, complete: {}", copy.bytes, copy.is_complete());
    for finding in check(&vfs, &dir, &mut |_| {})?.findings {
        println!("{finding}");
    }
    Ok(())
}

/// Stands for a server: one row every ten milliseconds.
fn write(store: &Store) {
    let row = |value: i64| Row {
        labels: Labels::from_iter([("type", "node"), ("nodename", "n1")]),
        cells: vec![("cpu/usage".into(), MetricValue::cumulative(value))],
    };
    for step in 0.. {
        let at = Timestamp::from_millis(1_532_606_400_000 + step * 10);
        if store.append_rows(at, [&row(step)], Ack::Buffered).is_err() || store.maintain().is_err()
        {
            return;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}
