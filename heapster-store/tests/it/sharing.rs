//! Readers, writers and maintenance at the same time.

use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

use heapster_store::vfs::faulty::FaultyVfs;
use heapster_store::{Ack, Error};

use crate::support::*;

#[test]
fn readers_see_whole_batches_while_writers_write_and_the_head_is_flushed() {
    const BATCHES: i64 = 300;
    const PODS: usize = 20;
    let (vfs, clock) = (FaultyVfs::new(), TestClock::new());
    let store = open(&vfs, &clock);
    let is_done = AtomicBool::new(false);
    let acknowledged = AtomicI64::new(-1);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for batch in 0..BATCHES {
                let names: Vec<_> = (0..PODS).map(|pod| format!("pod-{pod}")).collect();
                let rows: Vec<_> = names.iter().map(|name| row(name, [("m", batch)])).collect();
                clock.step(1_000);
                let _ = store.append_rows(at(NOON + batch * 1_000), &rows, Ack::Buffered).unwrap();
                acknowledged.store(batch, Ordering::SeqCst);
            }
            is_done.store(true, Ordering::SeqCst);
        });
        scope.spawn(|| {
            while !is_done.load(Ordering::SeqCst) {
                store.flush().unwrap();
                store.maintain().unwrap();
            }
        });
        for _ in 0..2 {
            scope.spawn(|| {
                while !is_done.load(Ordering::SeqCst) {
                    let at_least = acknowledged.load(Ordering::SeqCst);
                    let snapshot = store.snapshot();
                    let found = contents(&snapshot);
                    let lengths: Vec<_> =
                        found.values().map(std::collections::BTreeMap::len).collect();
                    let len = lengths.first().copied().unwrap_or(0);
                    assert!(len as i64 > at_least, "{len} batches, {at_least} acknowledged");
                    assert_eq!(lengths, vec![len; if len == 0 { 0 } else { PODS }]);
                    for samples in found.values() {
                        for (index, (millis, value)) in samples.iter().enumerate() {
                            assert_eq!(*millis, NOON + index as i64 * 1_000);
                            assert_eq!(*value, Bits::Int(index as i64));
                        }
                    }
                    assert_eq!(contents(&snapshot), found);
                }
            });
        }
    });
    assert_eq!(contents(&store.snapshot()).len(), PODS);
}

#[test]
fn several_writers_lose_nothing() {
    let (vfs, clock) = (FaultyVfs::new(), TestClock::new());
    let store = open(&vfs, &clock);
    std::thread::scope(|scope| {
        for writer in 0..4 {
            let store = &store;
            scope.spawn(move || {
                for batch in 0..100 {
                    let name = format!("pod-{writer}");
                    let row = row(&name, [("m", batch)]);
                    let ack = if batch % 10 == 0 { Ack::Durable } else { Ack::Buffered };
                    let _ = store.append_rows(at(NOON + batch), [&row], ack).unwrap();
                }
            });
        }
    });
    let found = contents(&store.snapshot());
    assert!(found.len() == 4 && found.values().all(|samples| samples.len() == 100));
    drop(store);
    vfs.restart();
    assert_eq!(contents(&open(&vfs, &clock).snapshot()), found);
}

#[test]
fn a_second_store_in_the_same_directory_is_refused_and_told_by_whom() {
    let (vfs, clock) = (FaultyVfs::new(), TestClock::new());
    let store = open(&vfs, &clock);
    let before = vfs.files();
    let refused = heapster_store::Store::open(DIR, options(&vfs, &clock)).unwrap_err();
    let holder = format!("process {} on", std::process::id());
    assert!(matches!(refused, Error::Locked { holder: found, .. } if found.starts_with(&holder)));
    assert_eq!(vfs.files(), before);
    drop(store);
    open(&vfs, &clock);
}
