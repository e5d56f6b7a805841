//! The promises of heapster-core that need more than one module.

mod aggregation_laws;
mod kubelet_summary;
mod objects;
mod pipeline_fixture;
mod quantities;
mod rates;
mod rules;
