//! [`LogSink`]: prints each batch as text, exactly as Heapster's log sink did.

use std::fmt::Write as _;
use std::io::{self, Write};
use std::sync::Arc;

use heapster_core::pipeline::{BoxFuture, Sink, SinkError};
use heapster_core::{DataBatch, MetricSet, NanoTime, Text, Value};
use tokio::sync::Mutex;

/// Where the text goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Output {
    /// Standard output, as it is.
    Stdout,
    /// The log at level info, one entry per batch; not even rendered when that level is off.
    Log,
}

/// Where [`Output::Stdout`] prints: locked by the thread that does.
type Printer = Arc<Mutex<dyn Write + Send>>;

/// Prints batches.
pub struct LogSink {
    output: Output,
    printer: Printer,
}

impl LogSink {
    /// A sink that prints to `output`.
    pub fn new(output: Output) -> Self {
        Self { output, printer: Arc::new(Mutex::new(io::stdout())) }
    }

    /// Prints on a thread that may block, as a pipe that nobody reads blocks its writer. At most
    /// one thread is ever blocked so: as long as it is, batches are refused.
    async fn print(&self, batch: Arc<DataBatch>) -> Result<(), SinkError> {
        let Ok(mut printer) = Arc::clone(&self.printer).try_lock_owned() else {
            return Err(SinkError::new("stdout is not read: still printing the batch before"));
        };
        let print = move || {
            printer.write_all(render(&batch).as_bytes())?;
            printer.flush()
        };
        match tokio::task::spawn_blocking(print).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(SinkError::new("could not write to stdout").caused_by(error)),
            Err(error) => Err(SinkError::new("bug: printing failed").caused_by(error)),
        }
    }
}

impl Sink for LogSink {
    fn name(&self) -> Text {
        Text::from_static("Log Sink")
    }

    fn export(&self, batch: Arc<DataBatch>) -> BoxFuture<'_, Result<(), SinkError>> {
        match self.output {
            Output::Log => {
                if tracing::enabled!(tracing::Level::INFO) {
                    tracing::info!("{}", render(&batch));
                }
                Box::pin(std::future::ready(Ok(())))
            }
            Output::Stdout => Box::pin(self.print(batch)),
        }
    }
}

/// The text of a batch: sets, labels and metrics sorted by name, labelled metrics in stored order.
pub fn render(batch: &DataBatch) -> String {
    let mut text = format!("DataBatch     Timestamp: {}\n\n", go_time(batch.timestamp));
    // Not the order of the batch, which goes by kind of entity first.
    let mut sets: Vec<_> = batch.sets.iter().map(|(key, set)| (key.to_string(), set)).collect();
    sets.sort_by(|(a, _), (b, _)| a.cmp(b));
    for (key, set) in sets {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "MetricSet: {key}");
        render_set(&mut text, set);
        text.push('\n');
    }
    text
}

fn render_set(text: &mut String, set: &MetricSet) {
    let mut line = |indent: usize, words: std::fmt::Arguments<'_>| {
        let _ = writeln!(text, "{:1$}{words}", "", indent * 3);
    };
    line(1, format_args!("Scrape time: {}", nano_time(set.scrape_time)));
    line(1, format_args!("Create time: {}", nano_time(set.collection_start_time)));
    line(1, format_args!("Labels:"));
    for label in set.labels.iter() {
        line(2, format_args!("{} = {}", label.name, label.value));
    }
    line(1, format_args!("Metrics:"));
    for (name, metric) in set.metrics.iter() {
        line(2, format_args!("{name} = {}", number(metric.value)));
    }
    line(1, format_args!("Labeled Metrics:"));
    for labeled in &set.labeled_metrics {
        line(2, format_args!("{} = {}", labeled.name, number(labeled.metric.value)));
        for label in labeled.labels.iter() {
            line(3, format_args!("{} = {}", label.name, label.value));
        }
    }
}

/// A moment as Go prints it: `2018-07-26 12:00:00 +0000 UTC`.
fn go_time(moment: impl std::fmt::Display) -> String {
    moment.to_string().replace('T', " ").replace('Z', " +0000 UTC")
}

/// A moment with its nanoseconds; an unknown one is Go's zero time, whose nanoseconds overflow.
fn nano_time(moment: Option<NanoTime>) -> String {
    match moment {
        Some(moment) => format!("{} {}", go_time(moment), moment.as_nanos()),
        None => "0001-01-01 00:00:00 +0000 UTC -6795364578871345152".to_owned(),
    }
}

/// Go's `%d` and `%f`.
fn number(value: Value) -> String {
    match value {
        Value::Int(int) => int.to_string(),
        Value::Float(f64::INFINITY) => "+Inf".to_owned(),
        Value::Float(f64::NEG_INFINITY) => "-Inf".to_owned(),
        Value::Float(float) => format!("{float:.6}"),
    }
}

#[cfg(test)]
mod tests {
    use heapster_core::{EntityKey, EntityType, Labels, MetricValue, Timestamp, key};

    use super::*;

    fn nanos(text: &str) -> Option<NanoTime> {
        NanoTime::parse_rfc3339(text).unwrap()
    }

    /// A pod with everything a set can have, and a node of which only little is known.
    fn batch() -> DataBatch {
        let at = Timestamp::parse_rfc3339("2018-07-26T12:00:00Z").unwrap();
        let mut pod = MetricSet::new(EntityType::Pod);
        pod.scrape_time = nanos("2018-07-26T11:59:55Z");
        pod.collection_start_time = nanos("2018-07-26T09:59:58.25Z");
        pod.labels.set_static(key::HOSTNAME, "node-1.example");
        pod.labels.set_static(key::HOST_ID, "");
        pod.metrics.set("network/rx_rate", MetricValue::gauge(100.5));
        pod.metrics.set("cpu/usage_rate", MetricValue::gauge(160));
        let of_volume = |name| Labels::from_iter([(key::RESOURCE_ID, name)]);
        pod.push_labeled("filesystem/usage", &of_volume("Volume:data"), 20);
        pod.push_labeled("filesystem/available", &of_volume("Volume:cache"), f64::INFINITY);
        let mut batch = DataBatch::new(at);
        batch.sets.insert(EntityKey::pod("default", "web-1"), pod);
        batch.sets.insert(EntityKey::node("n1"), MetricSet::new(EntityType::Node));
        batch
    }

    #[test]
    fn a_batch_reads_as_heapster_printed_it() {
        let golden = "\
DataBatch     Timestamp: 2018-07-26 12:00:00 +0000 UTC

MetricSet: namespace:default/pod:web-1
   Scrape time: 2018-07-26 11:59:55 +0000 UTC 1532606395000000000
   Create time: 2018-07-26 09:59:58.25 +0000 UTC 1532599198250000000
   Labels:
      host_id = 
      hostname = node-1.example
      type = pod
   Metrics:
      cpu/usage_rate = 160
      network/rx_rate = 100.500000
   Labeled Metrics:
      filesystem/usage = 20
         resource_id = Volume:data
      filesystem/available = +Inf
         resource_id = Volume:cache

MetricSet: node:n1
   Scrape time: 0001-01-01 00:00:00 +0000 UTC -6795364578871345152
   Create time: 0001-01-01 00:00:00 +0000 UTC -6795364578871345152
   Labels:
      type = node
   Metrics:
   Labeled Metrics:

";
        assert_eq!(render(&batch()), golden);
    }

    /// A pipe that nobody reads until it is opened.
    struct Pipe(std::sync::mpsc::Receiver<()>, Arc<std::sync::atomic::AtomicUsize>);

    impl Write for Pipe {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let _ = self.0.recv();
            self.1.fetch_add(bytes.len(), std::sync::atomic::Ordering::SeqCst);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[tokio::test]
    async fn a_pipe_that_nobody_reads_blocks_one_thread_only() {
        let (open, opened) = std::sync::mpsc::channel();
        let printed = Arc::default();
        let pipe = Pipe(opened, Arc::clone(&printed));
        let sink = LogSink { output: Output::Stdout, printer: Arc::new(Mutex::new(pipe)) };
        let batch = Arc::new(batch());
        let limit = std::time::Duration::from_millis(50);
        let first = tokio::time::timeout(limit, sink.export(Arc::clone(&batch))).await;
        assert!(first.is_err(), "it blocks, and its export is abandoned");
        for _ in 0..100 {
            let refused = sink.export(Arc::clone(&batch)).await.unwrap_err().to_string();
            assert!(refused.contains("still printing the batch before"), "{refused}");
        }
        drop(open);
        while sink.export(Arc::clone(&batch)).await.is_err() {
            tokio::task::yield_now().await;
        }
        let length = render(&batch).len();
        assert_eq!(printed.load(std::sync::atomic::Ordering::SeqCst), 2 * length);
    }
}
