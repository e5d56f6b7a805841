//! The rules of enriching and summing, one promise each.

use std::sync::Arc;

use heapster_core::cluster::{Namespace, Node, Pod, PodContainer, Resources};
use heapster_core::pipeline::Processor;
use heapster_core::processors::{
    ClusterAggregator, LabelCopier, NamespaceAggregator, NamespaceEnricher, NodeAggregator,
    NodeAutoscalingEnricher, PodAggregator, PodEnricher, standard,
};
use heapster_core::{DataBatch, EntityKey, MetricSet, MetricValue, Value, key};

use crate::objects::{Objects, batch, entry, ints, run, seconds, set_of, texts};

fn process(mut processor: impl Processor, batch: &mut DataBatch) {
    processor.process(batch).unwrap();
}

fn pairs(expected: &[(&str, i64)]) -> Vec<(String, i64)> {
    expected.iter().map(|(name, value)| ((*name).to_owned(), *value)).collect()
}

fn amounts(pairs: &[(&str, i64)]) -> Resources {
    pairs.iter().map(|(name, amount)| ((*name).into(), *amount)).collect()
}

fn web_1() -> EntityKey {
    EntityKey::pod("default", "web-1")
}

fn web_1_container(name: &'static str) -> EntityKey {
    EntityKey::pod_container("default", "web-1", name)
}

/// A pod of two containers; the second asks for a device and has no status yet.
fn cluster() -> Objects {
    let nginx = PodContainer {
        name: "nginx".into(),
        image: "nginx:1.15".into(),
        requests: amounts(&[("cpu", 100), ("memory", 555), ("ephemeral-storage", 1000)]),
        limits: Resources::new(),
        restart_count: Some(4),
    };
    let sidecar = PodContainer {
        name: "sidecar".into(),
        image: "envoy:1".into(),
        requests: amounts(&[
            ("cpu", 333),
            ("memory", 1000),
            ("ephemeral-storage", 2000),
            ("example.com/resource1", 2),
        ]),
        limits: amounts(&[("cpu", 2222), ("memory", 3333), ("ephemeral-storage", 5000)]),
        restart_count: None,
    };
    Objects {
        pods: vec![Arc::new(Pod {
            namespace: "default".into(),
            name: "web-1".into(),
            uid: "uid-1".into(),
            labels: texts(&[("app", "web")]),
            start_time: seconds(500),
            containers: vec![nginx, sidecar],
            phase: "Running".into(),
        })],
        namespaces: vec![Arc::new(Namespace { name: "default".into(), uid: "uid-ns".into() })],
        nodes: vec![],
    }
}

fn enrich_and_sum(batch: &mut DataBatch) {
    process(PodEnricher::new(Arc::new(cluster()), LabelCopier::default()), batch);
    process(PodAggregator, batch);
}

/// The kubelet's word on the pod and its first container, placed on a node.
fn scraped(entity: EntityKey) -> (EntityKey, MetricSet) {
    let mut set = set_of(&entity, [("memory/usage", 7)]);
    set.labels.set(key::NODENAME, "n1");
    set.labels.set(key::HOSTNAME, "n1.example");
    set.labels.set(key::HOST_ID, "");
    set.collection_start_time = seconds(600);
    (entity, set)
}

#[test]
fn a_pod_shows_what_its_containers_request_whichever_of_them_was_scraped() {
    for scraped_entities in
        [vec![web_1(), web_1_container("nginx")], vec![web_1_container("nginx")], vec![web_1()]]
    {
        let mut batch = batch(1000, scraped_entities.into_iter().map(scraped));
        enrich_and_sum(&mut batch);
        assert_eq!(batch.sets.len(), 3);
        let pod: Vec<_> = ints(&batch, &web_1())
            .into_iter()
            .filter(|(name, _)| name.ends_with("request") || name.ends_with("limit"))
            .collect();
        assert_eq!(
            pod,
            pairs(&[
                ("cpu/limit", 2222),
                ("cpu/request", 433),
                ("ephemeral_storage/limit", 5000),
                ("ephemeral_storage/request", 3000),
                ("example.com/resource1/request", 2),
                ("memory/limit", 3333),
                ("memory/request", 1555),
            ])
        );
        let nginx = &batch.sets[&web_1_container("nginx")].metrics;
        assert_eq!(nginx.int("memory/request"), Some(555));
        assert_eq!(nginx.int("memory/limit"), Some(0));
        assert_eq!(batch.sets[&web_1()].labels.value(key::LABELS), "app:web");
        assert_eq!(batch.sets[&web_1()].labels.value(key::POD_ID), "uid-1");
        assert_eq!(batch.sets[&web_1()].entity_create_time, seconds(500));
    }
}

#[test]
fn only_a_container_with_a_status_has_a_restart_count() {
    let entities = [web_1_container("nginx"), web_1_container("sidecar")];
    let mut batch = batch(1000, entities.map(scraped));
    process(PodEnricher::new(Arc::new(cluster()), LabelCopier::default()), &mut batch);
    let nginx = &batch.sets[&web_1_container("nginx")];
    assert_eq!(nginx.metrics.get("restart_count"), Some(MetricValue::gauge(4)));
    assert_eq!(nginx.entity_create_time, seconds(500));
    assert_eq!(nginx.labels.value(key::CONTAINER_BASE_IMAGE), "nginx:1.15");
    let sidecar = &batch.sets[&web_1_container("sidecar")];
    assert_eq!(sidecar.metrics.get("restart_count"), None);
    assert_eq!(sidecar.entity_create_time, None);
}

#[test]
fn a_container_that_was_not_reported_gets_a_set_with_its_resources_only() {
    let mut batch = batch(1000, [scraped(web_1())]);
    process(PodEnricher::new(Arc::new(cluster()), LabelCopier::default()), &mut batch);
    let stub = &batch.sets[&web_1_container("sidecar")];
    assert_eq!(
        stub.labels.to_string(),
        r#"{container_base_image="envoy:1", container_name="sidecar", host_id="", hostname="n1.example", labels="app:web", namespace_name="default", nodename="n1", pod_id="uid-1", pod_name="web-1", type="pod_container"}"#
    );
    assert_eq!(stub.metrics.len(), 7);
    assert_eq!((stub.scrape_time, stub.collection_start_time), (None, None));
    assert_eq!(stub.entity_create_time, seconds(600));
}

#[test]
fn a_container_image_the_source_named_is_kept() {
    let (entity, mut set) = scraped(web_1_container("nginx"));
    set.labels.set(key::CONTAINER_BASE_IMAGE, "from the source");
    let mut batch = batch(1000, [(entity.clone(), set)]);
    process(PodEnricher::new(Arc::new(cluster()), LabelCopier::default()), &mut batch);
    assert_eq!(batch.sets[&entity].labels.value(key::CONTAINER_BASE_IMAGE), "from the source");
}

#[test]
fn a_container_that_is_not_in_the_spec_gets_labels_but_no_resources() {
    let init = web_1_container("init");
    let mut batch = batch(1000, [scraped(web_1()), scraped(init.clone())]);
    process(PodEnricher::new(Arc::new(cluster()), LabelCopier::default()), &mut batch);
    assert_eq!(ints(&batch, &init), pairs(&[("memory/usage", 7)]));
    assert_eq!(batch.sets[&init].labels.value(key::LABELS), "app:web");
}

#[test]
fn a_pod_the_cluster_does_not_know_stays_as_scraped() {
    let before = batch(
        1000,
        [
            scraped(EntityKey::pod("default", "ghost")),
            scraped(EntityKey::pod_container("default", "ghost", "c")),
        ],
    );
    let mut after = before.clone();
    process(PodEnricher::new(Arc::new(cluster()), LabelCopier::default()), &mut after);
    assert_eq!(after, before);
}

#[test]
fn pods_the_kubelets_do_not_report_get_no_sets() {
    let mut batch = batch(1000, []);
    process(PodEnricher::new(Arc::new(cluster()), LabelCopier::default()), &mut batch);
    assert!(batch.sets.is_empty());
}

#[test]
fn everything_in_a_known_namespace_carries_its_uid() {
    let entities = [web_1(), web_1_container("nginx"), EntityKey::pod("unknown", "p")];
    let mut batch = batch(1000, entities.map(scraped));
    process(NamespaceEnricher::new(Arc::new(cluster())), &mut batch);
    assert_eq!(batch.sets[&web_1()].labels.value(key::NAMESPACE_ID), "uid-ns");
    assert_eq!(batch.sets[&web_1_container("nginx")].labels.value(key::NAMESPACE_ID), "uid-ns");
    let unknown = &batch.sets[&EntityKey::pod("unknown", "p")];
    assert!(!unknown.labels.contains(key::NAMESPACE_ID));
}

#[test]
fn a_pod_without_a_set_is_made_of_its_containers() {
    let (first, mut set) = scraped(web_1_container("c1"));
    set.labels.set(key::POD_ID, "uid-1");
    set.metrics.set("m1", MetricValue::gauge(10));
    set.metrics.set("m2", MetricValue::gauge(222));
    let second = entry(web_1_container("c2"), [("m1", 100), ("m3", 30)]);
    let mut batch = batch(1000, [(first, set), second]);
    process(PodAggregator, &mut batch);
    let sums = pairs(&[("m1", 110), ("m2", 222), ("m3", 30), ("memory/usage", 7)]);
    assert_eq!(ints(&batch, &web_1()), sums);
    assert_eq!(
        batch.sets[&web_1()].labels.to_string(),
        r#"{host_id="", hostname="n1.example", namespace_name="default", pod_id="uid-1", pod_name="web-1", type="pod"}"#
    );
}

#[test]
fn what_a_pod_reports_itself_is_not_summed() {
    let mut batch = batch(
        1000,
        [
            entry(web_1(), [("m1", 100)]),
            entry(web_1_container("c1"), [("m1", 10), ("m2", 20)]),
            entry(web_1_container("c2"), [("m1", 1)]),
        ],
    );
    process(PodAggregator, &mut batch);
    assert_eq!(ints(&batch, &web_1()), pairs(&[("m1", 100), ("m2", 20)]));
}

#[test]
fn kubelet_counters_are_not_summed_but_a_users_own_are() {
    let (entity, mut set) = entry(web_1_container("c1"), [("memory/page_faults_rate", 1.5)]);
    for counter in ["uptime", "cpu/usage", "memory/page_faults", "network/tx_errors"] {
        set.metrics.set(counter, MetricValue::cumulative(1));
    }
    set.metrics.set("custom/requests", MetricValue::cumulative(2.0));
    let mut batch = batch(1000, [(entity, set)]);
    process(PodAggregator, &mut batch);
    let pod = &batch.sets[&web_1()].metrics;
    let names: Vec<_> = pod.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["custom/requests", "memory/page_faults_rate"]);
    assert_eq!(pod.get("custom/requests"), Some(MetricValue::cumulative(2.0)));
}

#[test]
fn a_namespace_sums_its_pods_usage_and_resources_and_nothing_else() {
    let other = EntityKey::pod("other", "p");
    let mut batch = batch(
        1000,
        [
            entry(web_1(), [("memory/usage", 10), ("cpu/request", 1), ("uptime", 5)]),
            entry(EntityKey::pod("default", "web-2"), [("memory/usage", 100), ("m1", 5)]),
            entry(other, [("memory/usage", 7)]),
        ],
    );
    process(NamespaceAggregator, &mut batch);
    let namespace = EntityKey::namespace("default");
    let sums = pairs(&[("cpu/request", 1), ("memory/usage", 110)]);
    assert_eq!(ints(&batch, &namespace), sums);
    assert_eq!(
        batch.sets[&namespace].labels.to_string(),
        r#"{namespace_id="", namespace_name="default", type="ns"}"#
    );
    let other = EntityKey::namespace("other");
    assert_eq!(ints(&batch, &other), pairs(&[("memory/usage", 7)]));
}

#[test]
fn a_node_sums_the_requests_of_the_pods_on_it_and_keeps_its_measured_usage() {
    let on = |node, entity, gauges: [(&'static str, i64); 2]| {
        let (entity, mut set) = entry(entity, gauges);
        set.labels.set(key::NODENAME, node);
        (entity, set)
    };
    let mut batch = batch(
        1000,
        [
            entry(EntityKey::node("n1"), [("memory/usage", 1000)]),
            entry(EntityKey::node(""), [("memory/usage", 1)]),
            on("n1", web_1(), [("memory/usage", 10), ("memory/request", 20)]),
            on(
                "n1",
                EntityKey::pod("x", "p"),
                [("ephemeral_storage/limit", 3), ("memory/request", 5)],
            ),
            on("n2", EntityKey::pod("x", "q"), [("memory/usage", 10), ("memory/request", 7)]),
            on("", EntityKey::pod("x", "r"), [("memory/usage", 10), ("memory/request", 9)]),
        ],
    );
    process(NodeAggregator, &mut batch);
    let sums =
        pairs(&[("ephemeral_storage/limit", 3), ("memory/request", 25), ("memory/usage", 1000)]);
    assert_eq!(ints(&batch, &EntityKey::node("n1")), sums);
    assert_eq!(ints(&batch, &EntityKey::node("")), pairs(&[("memory/usage", 1)]));
    assert!(!batch.sets.contains_key(&EntityKey::node("n2")));
}

#[test]
fn the_cluster_sums_its_namespaces() {
    let mut batch = batch(
        1000,
        [
            entry(EntityKey::namespace("a"), [("cpu/limit", 10), ("m1", 1)]),
            entry(EntityKey::namespace("b"), [("cpu/limit", 5), ("memory/limit", 3)]),
        ],
    );
    process(ClusterAggregator, &mut batch);
    let sums = pairs(&[("cpu/limit", 15), ("memory/limit", 3)]);
    assert_eq!(ints(&batch, &EntityKey::Cluster), sums);
    assert_eq!(batch.sets[&EntityKey::Cluster].labels.to_string(), r#"{type="cluster"}"#);
}

#[test]
fn a_cluster_without_pods_still_has_a_set() {
    let mut batch = batch(1000, []);
    process(ClusterAggregator, &mut batch);
    assert_eq!(batch.sets[&EntityKey::Cluster], MetricSet::new(heapster_core::EntityType::Cluster));
}

#[test]
fn integers_and_floats_of_one_metric_give_no_sum_and_cost_nothing_else() {
    let float = |entity| {
        let (entity, mut set) = entry(entity, [("cpu/request", 2)]);
        set.metrics.set("memory/usage", MetricValue::gauge(0.5));
        (entity, set)
    };
    let mut batch = batch(
        1000,
        [
            entry(web_1(), [("memory/usage", 1), ("cpu/request", 1)]),
            float(EntityKey::pod("default", "web-2")),
            entry(EntityKey::pod_container("x", "p", "c1"), [("memory/usage", 1)]),
            float(EntityKey::pod_container("x", "p", "c2")),
        ],
    );
    let mut processors = standard(Arc::new(Objects::default()), LabelCopier::default(), None);
    run(&mut processors, &mut batch);
    assert_eq!(ints(&batch, &EntityKey::namespace("default")), pairs(&[("cpu/request", 3)]));
    assert_eq!(ints(&batch, &EntityKey::pod("x", "p")), pairs(&[("cpu/request", 2)]));
    assert_eq!(ints(&batch, &EntityKey::Cluster), pairs(&[("cpu/request", 5)]));
    assert!(!batch.sets[&EntityKey::Cluster].metrics.contains("memory/usage"));
}

#[test]
fn sums_are_added_to_what_a_source_reported_of_the_namespace() {
    let namespace = EntityKey::namespace("x");
    let (_, mut set) = entry(namespace.clone(), [("cpu/limit", 1)]);
    set.metrics.set("cpu/request", MetricValue::gauge(0.5));
    let pod = entry(EntityKey::pod("x", "p"), [("cpu/limit", 2), ("cpu/request", 2)]);
    let mut batch = batch(1000, [(namespace.clone(), set), pod]);
    process(NamespaceAggregator, &mut batch);
    let metrics = &batch.sets[&namespace].metrics;
    assert_eq!((metrics.int("cpu/limit"), metrics.get("cpu/request")), (Some(3), None));
}

#[test]
fn sums_past_the_largest_integer_stop_there() {
    let big = |name| entry(EntityKey::pod("x", name), [("memory/usage", i64::MAX)]);
    let mut batch =
        batch(1000, [big("a"), big("b"), entry(EntityKey::pod("x", "c"), [("memory/usage", -5)])]);
    process(NamespaceAggregator, &mut batch);
    let sum = batch.sets[&EntityKey::namespace("x")].metrics.int("memory/usage");
    assert_eq!(sum, Some(i64::MAX));
}

fn node(capacity: &[(&str, i64)], allocatable: &[(&str, i64)]) -> Objects {
    let node = Node {
        name: "n1".into(),
        labels: texts(&[("zone", "a")]),
        capacity: amounts(capacity),
        allocatable: amounts(allocatable),
    };
    let not_scraped = Node { name: "n2".into(), ..Node::default() };
    Objects { nodes: vec![Arc::new(node), Arc::new(not_scraped)], ..Objects::default() }
}

/// The floats of the node's set after enriching.
fn described(cluster: Objects, usage: &[(&'static str, i64)]) -> Vec<(String, f64)> {
    let mut batch = batch(1000, [entry(EntityKey::node("n1"), usage.iter().copied())]);
    let copier = LabelCopier::new(",", ["zone"], [""; 0]).unwrap();
    process(NodeAutoscalingEnricher::new(Arc::new(cluster), copier), &mut batch);
    assert_eq!(batch.sets.len(), 1);
    let set = &batch.sets[&EntityKey::node("n1")];
    assert_eq!((set.labels.value(key::LABELS), set.labels.value("zone")), ("zone:a", "a"));
    let floats = set.metrics.iter().filter_map(|(name, metric)| match metric.value {
        Value::Float(value) => Some((name.to_string(), value)),
        Value::Int(_) => None,
    });
    floats.collect()
}

#[test]
fn a_nodes_shares_are_of_what_is_allocatable() {
    let all = [("cpu", 4000), ("memory", 1024), ("ephemeral-storage", 100)];
    let allocatable = [("cpu", 2000), ("memory", 1000), ("ephemeral-storage", 80)];
    let usage = [
        ("cpu/usage_rate", 500),
        ("cpu/request", 1000),
        ("memory/usage", 250),
        ("memory/working_set", 1),
        ("ephemeral_storage/usage", 20),
    ];
    let expected = [
        ("cpu/node_allocatable", 2000.0),
        ("cpu/node_capacity", 4000.0),
        ("cpu/node_reservation", 0.5),
        ("cpu/node_utilization", 0.25),
        ("ephemeral_storage/node_allocatable", 80.0),
        ("ephemeral_storage/node_capacity", 100.0),
        ("ephemeral_storage/node_reservation", 0.0),
        ("ephemeral_storage/node_utilization", 0.25),
        ("memory/node_allocatable", 1000.0),
        ("memory/node_capacity", 1024.0),
        ("memory/node_reservation", 0.0),
        ("memory/node_utilization", 0.25),
    ];
    assert_eq!(
        described(node(&all, &allocatable), &usage),
        expected.map(|(name, value)| (name.to_owned(), value))
    );
}

#[test]
fn a_node_with_nothing_allocatable_has_no_shares() {
    let expected = [
        ("cpu/node_allocatable", 0.0),
        ("cpu/node_capacity", 0.0),
        ("memory/node_allocatable", 0.0),
        ("memory/node_capacity", 9.0),
    ];
    assert_eq!(
        described(node(&[("memory", 9), ("ephemeral-storage", 1)], &[]), &[("memory/usage", 5)]),
        expected.map(|(name, value)| (name.to_owned(), value))
    );
}
