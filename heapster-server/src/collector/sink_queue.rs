//! [`SinkQueue`]: a bounded queue before a sink, so that a slow one delays nobody.
//!
//! A sink that is busy finds its batches queued. When the queue is full, the newest batch is
//! dropped, counted and logged; the round that brought it goes on at once. The original had no
//! queue: it held up each round and lost every batch that met a busy sink.

use std::sync::Arc;
use std::time::Duration;

use heapster_core::DataBatch;
use heapster_core::pipeline::SinkError;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::export::Exporter;

/// How long a sink may take to flush once it is told to stop.
const FLUSH_MAX: Duration = Duration::from_millis(500);

/// The queue of one sink with the task that works it off.
pub(super) struct SinkQueue {
    exporter: Arc<Exporter>,
    batches: mpsc::Sender<Arc<DataBatch>>,
    give_up: CancellationToken,
    worker: JoinHandle<()>,
}

impl SinkQueue {
    /// A queue of at most `capacity` waiting batches. One export takes at most `export_limit`.
    /// A fatal error of the sink goes to `fatal`.
    pub(super) fn start(
        exporter: Exporter,
        capacity: usize,
        export_limit: Duration,
        fatal: mpsc::Sender<SinkError>,
    ) -> Self {
        let (batches, waiting) = mpsc::channel(capacity.max(1));
        let (exporter, give_up) = (Arc::new(exporter), CancellationToken::new());
        let worker = Worker {
            exporter: Arc::clone(&exporter),
            waiting,
            export_limit,
            give_up: give_up.clone(),
            fatal,
        };
        Self { exporter, batches, give_up, worker: tokio::spawn(worker.run()) }
    }

    /// Queues a batch, or drops it when the queue is full; never waits.
    pub(super) fn offer(&self, batch: &Arc<DataBatch>) {
        if self.batches.try_send(Arc::clone(batch)).is_err() {
            self.exporter.count_dropped(1);
        }
    }

    /// Works off what waits, for at most `limit`, then tells the sink to stop.
    pub(super) async fn stop(self, limit: Duration) {
        drop(self.batches);
        let mut worker = self.worker;
        if timeout(limit, &mut worker).await.is_err() {
            self.give_up.cancel();
            // The worker ends within FLUSH_MAX, unless the sink blocks its thread.
            let _ = timeout(FLUSH_MAX * 2, &mut worker).await;
            worker.abort();
        }
    }
}

struct Worker {
    exporter: Arc<Exporter>,
    waiting: mpsc::Receiver<Arc<DataBatch>>,
    export_limit: Duration,
    give_up: CancellationToken,
    fatal: mpsc::Sender<SinkError>,
}

impl Worker {
    async fn run(mut self) {
        while let Some(batch) = self.waiting.recv().await {
            tokio::select! {
                outcome = self.exporter.export(batch, Some(self.export_limit)) => {
                    if let Err(error) = outcome {
                        // A full channel holds a fatal error already.
                        let _ = self.fatal.try_send(error);
                        break;
                    }
                }
                () = self.give_up.cancelled() => {
                    self.exporter.count_dropped(1);
                    break;
                }
            }
        }
        self.waiting.close();
        let mut left = 0;
        while self.waiting.try_recv().is_ok() {
            left += 1;
        }
        self.exporter.count_dropped(left);
        self.exporter.stop(FLUSH_MAX).await;
    }
}
