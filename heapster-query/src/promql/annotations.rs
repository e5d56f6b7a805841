//! Warnings and infos: what a user should know of an answer that is one nevertheless.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

use super::language::ast::Span;
use super::language::{position, print_number, quoted};

/// Most distinct texts of a kind that are kept: those that sort first, whichever thread found them.
const KEPT_MAX: usize = 100;

/// Collects annotations from all threads of a query, each text once.
#[derive(Debug)]
pub(super) struct Annotations<'a> {
    query: &'a str,
    found: Mutex<Found>,
}

#[derive(Debug, Default)]
struct Found {
    warnings: BTreeSet<String>,
    infos: BTreeSet<String>,
}

impl<'a> Annotations<'a> {
    pub fn new(query: &'a str) -> Self {
        Self { query, found: Mutex::default() }
    }

    /// Notes a warning about a part of the query.
    pub fn warn(&self, text: &str, span: Span) {
        let text = format!("PromQL warning: {text}{}", self.place(span));
        keep(&mut self.found.lock().unwrap_or_else(PoisonError::into_inner).warnings, text);
    }

    /// Notes an info about a part of the query.
    pub fn info(&self, text: &str, span: Span) {
        let text = format!("PromQL info: {text}{}", self.place(span));
        keep(&mut self.found.lock().unwrap_or_else(PoisonError::into_inner).infos, text);
    }

    /// Warnings and infos, sorted.
    pub fn finish(self) -> (Vec<String>, Vec<String>) {
        let found = self.found.into_inner().unwrap_or_else(PoisonError::into_inner);
        (found.warnings.into_iter().collect(), found.infos.into_iter().collect())
    }

    fn place(&self, span: Span) -> String {
        let (line, column) = position(self.query, span.start);
        format!(" ({line}:{column})")
    }

    pub fn sort_is_ineffective(&self, span: Span) {
        self.warn(
            "sort is ineffective for range queries since results are always ordered by labels",
            span,
        );
    }

    pub fn quantile_out_of_range(&self, quantile: f64, span: Span) {
        let shown = print_number(quantile);
        self.warn(&format!("quantile value should be between 0 and 1, got {shown}"), span);
    }

    pub fn bad_bucket_label(&self, le: &str, name: &str, span: Span) {
        let of = for_metric(name);
        let le = quoted(le);
        self.warn(
            &format!("bucket label \"le\" is missing or has a malformed value of {le}{of}"),
            span,
        );
    }

    pub fn may_be_no_counter(&self, name: &str, span: Span) {
        let name = quoted(name);
        self.info(
            &format!("metric might not be a counter, name does not end in _total/_sum/_count/_bucket: {name}"),
            span,
        );
    }

    pub fn monotonicity_repaired(&self, name: &str, span: Span) {
        let of = for_metric(name);
        self.info(
            &format!("input to histogram_quantile needed to be fixed for monotonicity (see https://prometheus.io/docs/prometheus/latest/querying/functions/#histogram_quantile){of}"),
            span,
        );
    }
}

/// Prometheus says which metric it was where the name is still there.
fn for_metric(name: &str) -> String {
    if name.is_empty() { String::new() } else { format!(" for metric name {}", quoted(name)) }
}

fn keep(texts: &mut BTreeSet<String>, text: String) {
    texts.insert(text);
    if texts.len() > KEPT_MAX {
        texts.pop_last();
    }
}
