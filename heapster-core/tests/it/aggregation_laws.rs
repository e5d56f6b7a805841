//! Laws of the whole pipeline over arbitrary batches.

use std::collections::BTreeMap;
use std::sync::Arc;

use heapster_core::cluster::{Pod, PodContainer};
use heapster_core::{DataBatch, EntityKey, MetricSet, MetricValue, Timestamp, Value, key};
use proptest::prelude::*;

use crate::objects::{Objects, batch, pipeline, run, seconds, set_of};

const NAMES: [&str; 3] = ["a", "b", "c"];
const METRICS: [&str; 6] = [
    "cpu/usage",
    "cpu/usage_rate",
    "memory/usage",
    "memory/request",
    "ephemeral_storage/limit",
    "custom/queue",
];

fn name() -> impl Strategy<Value = &'static str> {
    prop::sample::select(NAMES.as_slice())
}

fn entity() -> impl Strategy<Value = EntityKey> {
    prop_oneof![
        name().prop_map(EntityKey::node),
        (name(), name()).prop_map(|(node, name)| EntityKey::system_container(node, name)),
        (name(), name()).prop_map(|(namespace, pod)| EntityKey::pod(namespace, pod)),
        (name(), name(), name()).prop_map(|(namespace, pod, container)| {
            EntityKey::pod_container(namespace, pod, container)
        }),
    ]
}

fn metrics(
    value: impl Strategy<Value = Value>,
) -> impl Strategy<Value = Vec<(&'static str, Value)>> {
    let metric = (prop::sample::select(METRICS.as_slice()), value);
    prop::collection::vec(metric, 0..6)
}

fn batches(value: fn() -> BoxedStrategy<Value>) -> impl Strategy<Value = DataBatch> {
    let set = (entity(), metrics(value()), name(), prop::option::of(0..100_i64));
    let sets = set.prop_map(|(entity, metrics, node, scraped)| {
        let mut set = set_of::<i64>(&entity, []);
        set.scrape_time = scraped.and_then(seconds);
        for (name, value) in metrics {
            set.metrics.set(name, MetricValue::gauge(value));
        }
        if matches!(entity, EntityKey::Pod { .. } | EntityKey::PodContainer { .. }) {
            set.labels.set(key::NODENAME, node);
        }
        (entity, set)
    });
    prop::collection::vec(sets, 0..20).prop_map(|sets| batch(1000, sets))
}

fn small_ints() -> BoxedStrategy<Value> {
    (0..1_000_000_i64).prop_map(Value::Int).boxed()
}

fn anything() -> BoxedStrategy<Value> {
    prop_oneof![any::<i64>().prop_map(Value::Int), any::<f64>().prop_map(Value::Float)].boxed()
}

fn sum<'a>(
    sets: impl IntoIterator<Item = (&'a EntityKey, &'a MetricSet)>,
    metric: &str,
) -> Option<i64> {
    let values = sets.into_iter().filter_map(|(_, set)| set.metrics.int(metric));
    values.fold(None, |sum, value| Some(sum.unwrap_or(0) + value))
}

/// Pods `a/a` and `b/b` of two containers each.
fn cluster() -> Objects {
    let container = |name: &'static str| PodContainer {
        name: name.into(),
        requests: [("memory".into(), 64)].into(),
        restart_count: Some(1),
        ..PodContainer::default()
    };
    let pod = |name: &'static str| {
        Arc::new(Pod {
            namespace: name.into(),
            name: name.into(),
            containers: vec![container("a"), container("b")],
            ..Pod::default()
        })
    };
    Objects { pods: vec![pod("a"), pod("b")], ..Objects::default() }
}

proptest! {
    #[test]
    fn each_level_is_the_sum_of_the_one_below(scraped in batches(small_ints)) {
        let mut batch = scraped.clone();
        run(&mut pipeline(Objects::default()), &mut batch);
        let pods: BTreeMap<_, _> =
            batch.sets.iter().filter(|(key, _)| matches!(key, EntityKey::Pod { .. })).collect();
        for metric in ["cpu/usage_rate", "memory/usage", "memory/request"] {
            let cluster = batch.sets[&EntityKey::Cluster].metrics.int(metric);
            prop_assert_eq!(cluster, sum(pods.iter().map(|(k, s)| (*k, *s)), metric));
            for namespace in NAMES {
                let inside = |key: &&EntityKey| {
                    matches!(key, EntityKey::Pod { namespace: own, .. } if *own == namespace)
                };
                let pods = pods.iter().filter(|(key, _)| inside(key)).map(|(k, s)| (*k, *s));
                let set = batch.sets.get(&EntityKey::namespace(namespace));
                prop_assert_eq!(set.and_then(|set| set.metrics.int(metric)), sum(pods, metric));
            }
        }
        for (entity, pod) in &pods {
            let EntityKey::Pod { namespace, pod: name } = entity else { continue };
            let own = scraped.sets.get(entity);
            for metric in METRICS.into_iter().filter(|metric| *metric != "cpu/usage") {
                let containers = scraped.sets.iter().filter(|(key, _)| {
                    matches!(key, EntityKey::PodContainer { namespace: of, pod, .. }
                        if of == namespace && pod == name)
                });
                let expected = own.and_then(|set| set.metrics.int(metric));
                prop_assert_eq!(pod.metrics.int(metric), expected.or(sum(containers, metric)));
            }
        }
    }

    #[test]
    fn what_was_scraped_of_containers_is_still_there_at_the_end(scraped in batches(anything)) {
        let mut batch = scraped.clone();
        run(&mut pipeline(cluster()), &mut batch);
        for (entity, before) in &scraped.sets {
            let after = &batch.sets[entity];
            prop_assert_eq!(after.scrape_time, before.scrape_time);
            if !matches!(entity, EntityKey::PodContainer { .. }) {
                continue;
            }
            for (name, metric) in before.metrics.iter() {
                // Of resources Kubernetes knows best.
                let is_resource = ["memory/request", "ephemeral_storage/limit"].contains(&name.as_str());
                prop_assert!(is_resource || after.metrics.get(name) == Some(metric));
            }
        }
    }

    #[test]
    fn no_batch_makes_the_pipeline_panic(
        mut first in batches(anything),
        mut second in batches(anything),
    ) {
        let mut processors = pipeline(cluster());
        run(&mut processors, &mut first);
        second.timestamp = Timestamp::from_millis(1_060_000);
        run(&mut processors, &mut second);
        prop_assert!(second.sets.contains_key(&EntityKey::Cluster));
        for (entity, set) in &second.sets {
            prop_assert_eq!(EntityKey::from_labels(&set.labels), Some(entity.clone()));
        }
    }
}
