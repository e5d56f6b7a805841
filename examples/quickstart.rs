//! Opens a store, appends a batch, reads it back.

use std::error::Error;

use heapster_core::storage::{Columns, Selector, Snapshot, collect};
use heapster_core::{
    DataBatch, EntityKey, EntityType, Matcher, MetricSet, MetricValue, TimeRange, key, metric,
};
use heapster_store::{Ack, Clock, Store, StoreOptions, SystemClock};

fn main() -> Result<(), Box<dyn Error>> {
    let dir = tempfile::tempdir()?;
    let store = Store::open(dir.path().join("metrics"), StoreOptions::default())?;

    // One scrape of one pod.
    let mut pod = MetricSet::new(EntityType::Pod);
    pod.labels.set(key::NAMESPACE_NAME, "shop");
    pod.labels.set(key::POD_NAME, "web-1");
    pod.metrics.set(metric::MEMORY_USAGE, MetricValue::gauge(64 << 20));
    let mut batch = DataBatch::new(SystemClock::new().now());
    batch.sets.insert(EntityKey::Pod { namespace: "shop".into(), pod: "web-1".into() }, pod);
    let report = store.append(&batch, Ack::Durable)?;
    assert_eq!((report.accepted, report.rejected.total()), (1, 0));

    // All metrics of all pods of the namespace.
    let selector = Selector {
        matchers: vec![Matcher::equal(key::NAMESPACE_NAME, "shop")],
        columns: Columns::All,
        range: TimeRange::ALL,
    };
    for set in store.snapshot().select(&selector)? {
        for (index, column) in set.columns().iter().enumerate() {
            for (at, value) in collect(&*set, index)? {
                println!("{} {} {at} {value}", set.labels(), column.name);
            }
        }
    }
    store.close()?;
    Ok(())
}
