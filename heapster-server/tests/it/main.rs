//! Integration tests of the server, one module per promise.

mod architecture;
mod cli;
mod collector;
mod corpus;
mod golden;
mod host;
mod http_server;
mod kubelet_decode;
mod kubernetes;
mod manifests;
mod metrics_api;
mod model_api;
#[path = "../../../heapster-store/tests/it/mutation.rs"]
mod mutation;
mod prometheus_api;
mod promql_scripts;
mod query_verb;
mod recording;
mod remote_write;
mod scraping;
#[path = "../../../heapster-query/tests/it/script.rs"]
mod script;
mod secure;
mod server;
mod verbs;
#[path = "../../../heapster-query/tests/it/verdict.rs"]
mod verdict;
