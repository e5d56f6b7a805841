//! `query`, `query_range` and what is done with the text of a query alone.

use std::sync::Arc;
use std::time::Duration;

use heapster_core::Timestamp;
use heapster_query::promql::{self, QueryAnswer, check_resolution};

use super::answer::{Answer, Data};
use super::error::Failure;
use super::params::Form;
use super::{Prometheus, Reader, Wishes, add_route};
use crate::http::gojson::{JsonWriter, Style};
use crate::http::{Response, Router, json};

pub(super) fn add_routes(router: &mut Router, own: &Arc<Prometheus>) {
    add_route(router, own, ("/query", "query"), |own, form, _| instant(own, form));
    add_route(router, own, ("/query_range", "query_range"), |own, form, _| range(own, form));
    add_route(router, own, ("/format_query", "format_query"), |_, form, _| format(form));
    add_route(router, own, ("/parse_query", "parse_query"), |_, form, _| parse(form));
    add_route(router, own, ("/query_exemplars", "query_exemplars"), |_, form, _| exemplars(form));
}

/// What `query` and `query_range` have in common.
struct Asked {
    query: String,
    limit: Option<usize>,
    with_stats: bool,
    wishes: Wishes,
}

impl Asked {
    fn of(form: &Form) -> Result<Self, Failure> {
        let limit = form.limit("limit")?;
        let timeout = form.named_duration("timeout")?;
        let lookback = form.duration("lookback_delta").map_err(|why| {
            Failure::bad_data(format!("error parsing lookback delta duration: {why}"))
        })?;
        // As in Prometheus, a lookback of zero is the server's.
        let lookback = lookback.filter(|lookback| !lookback.is_zero());
        Ok(Self {
            query: form.text("query").to_owned(),
            limit,
            with_stats: !form.text("stats").is_empty(),
            wishes: Wishes { timeout, lookback },
        })
    }

    fn answer(&self, reader: &Reader<'_>, found: QueryAnswer, at: Timestamp) -> Response {
        let mut answer = Answer::new(Data::Value(found.value, at));
        answer.warnings = found.warnings;
        answer.infos = found.infos;
        if self.with_stats {
            let took = reader.control.elapsed.as_ref().map(|elapsed| elapsed());
            let took = took.unwrap_or_default();
            let samples = (found.stats.samples_touched, found.stats.samples_peak as u64);
            answer.stats = Some(stats(reader.waited, took, samples));
        }
        reader.whole_or_warned(answer.limited(self.limit)).into_response()
    }
}

async fn instant(own: Arc<Prometheus>, form: Form) -> Result<Response, Failure> {
    let at = form.time("time")?.unwrap_or_else(|| own.now());
    let asked = Asked::of(&form)?;
    let wishes = asked.wishes;
    let read = move |reader: &Reader<'_>| {
        let found = reader.engine.instant(reader.snapshot, &asked.query, at, &reader.control)?;
        Ok(asked.answer(reader, found, at))
    };
    Ok(own.read(wishes, read).await)
}

async fn range(own: Arc<Prometheus>, form: Form) -> Result<Response, Failure> {
    let (start, end) = (form.required_time("start")?, form.required_time("end")?);
    if end < start {
        return Err(Failure::parameter("end", "end timestamp must not be before start time"));
    }
    let step = form
        .named_duration("step")?
        .ok_or_else(|| Failure::parameter("step", "cannot parse \"\" to a valid duration"))?;
    if step < Duration::from_millis(1) {
        return Err(Failure::parameter(
            "step",
            "zero or negative query resolution step widths are not accepted. Try a positive integer",
        ));
    }
    check_resolution(start, end, step, &own.state.options.limits)?;
    let asked = Asked::of(&form)?;
    let wishes = asked.wishes;
    let read = move |reader: &Reader<'_>| {
        let (snapshot, query) = (reader.snapshot, &asked.query);
        let found = reader.engine.range(snapshot, query, start, end, step, &reader.control);
        let found = found.map_err(|error| match error {
            // The times are good, so it is the query.
            heapster_query::QueryError::BadQuery(why) => Failure::parameter("query", why),
            error => error.into(),
        })?;
        Ok(asked.answer(reader, found, end))
    };
    Ok(own.read(wishes, read).await)
}

async fn format(form: Form) -> Result<Response, Failure> {
    let formatted = promql::format(form.text("query"));
    let formatted = formatted.map_err(|error| Failure::parameter("query", error))?;
    Ok(success(|json| json.string(&formatted)))
}

async fn parse(form: Form) -> Result<Response, Failure> {
    let tree = promql::tree(form.text("query"));
    let tree = tree.map_err(|error| Failure::parameter("query", error))?;
    Ok(success(|json| json.number(tree)))
}

/// There are none: exemplars are not stored.
async fn exemplars(form: Form) -> Result<Response, Failure> {
    let (start, end) = (form.time("start")?, form.time("end")?);
    if let (Some(start), Some(end)) = (start, end)
        && end < start
    {
        let why = "end timestamp must not be before start timestamp";
        return Err(Failure::parameter("end", why));
    }
    promql::selectors(form.text("query")).map_err(|error| Failure::parameter("query", error))?;
    Ok(success(|json| {
        json.begin_array();
        json.end_array();
    }))
}

/// A small answer: the data in its envelope.
pub(super) fn success(data: impl FnOnce(&mut JsonWriter)) -> Response {
    let mut writer = JsonWriter::new(Style::Plain);
    writer.begin_object();
    writer.key("status");
    writer.string("success");
    writer.key("data");
    data(&mut writer);
    writer.end_object();
    json(writer.take())
}

/// What a query has cost: samples read, and most held at one time.
fn stats(waited: Duration, took: Duration, (touched, peak): (u64, u64)) -> Vec<u8> {
    let mut json = JsonWriter::new(Style::Plain);
    let ran = took.saturating_sub(waited).as_secs_f64();
    json.begin_object();
    json.key("timings");
    json.begin_object();
    for (name, seconds) in [
        ("evalTotalTime", ran),
        ("resultSortTime", 0.0),
        ("queryPreparationTime", 0.0),
        ("innerEvalTime", ran),
        ("execQueueTime", waited.as_secs_f64()),
        ("execTotalTime", took.as_secs_f64()),
    ] {
        json.key(name);
        json.float(seconds);
    }
    json.end_object();
    json.key("samples");
    json.begin_object();
    json.key("totalQueryableSamples");
    json.uint(touched);
    json.key("peakSamples");
    json.uint(peak);
    json.end_object();
    json.end_object();
    json.take()
}
