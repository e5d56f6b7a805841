//! [`App`]: a store with a collector that fills it; and [`serve`], which adds the HTTP APIs.
//!
//! ```text
//! start: ( listener → ) sinks → store → newest batch → sources → upkeep, background → collector ( → HTTP )
//! stop:  rounds → sinks, and HTTP at the same time → background → upkeep → sync and close
//! ```
//!
//! An [`App`] needs no HTTP side: other programs embed it to collect and query in-process.

use std::io;
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc as std_mpsc;
use std::thread;
use std::time::Duration;

use heapster_core::cluster::{ClusterView, NoCluster};
use heapster_core::pipeline::{BoxFuture, Sink, SourceProvider};
use heapster_core::processors::{LabelCopier, standard};
use heapster_core::storage::StorageError;
use heapster_store::{
    Ack, Clock, LateWindow, OpenReport, Retention, Stats, Store, StoreOptions, SystemClock,
};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout, timeout_at};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use crate::api::prometheus::{PrometheusOptions, PrometheusState};
use crate::api::{self, ApiOptions, ApiState};
use crate::cli::Config;
use crate::collector::{self, Collector, StopLimits};
use crate::http::{self, Router, Security, ServerOptions};
use crate::intake::Intake;
use crate::live::{self, Live};
use crate::metadata::MetadataRegistry;
use crate::secure::listener::{ProtectError, protect};
use crate::sinks::{self, store::StoreSink};
use crate::sources::host::{HostOptions, HostProvider, HostSource};
use crate::sources::kubernetes::{self, Kubernetes};
use crate::sources::prometheus::config::JobConfig;
use crate::sources::prometheus::{self, Scraping};
use crate::targets::TargetRegistry;
use crate::telemetry::logging::chain;
use crate::telemetry::rate_limit::RateLimit;
use crate::telemetry::{self, Family, FamilyKind, Registry};
use crate::uri::Uri;
use crate::usage::Rules;

const BUILD_INFO: Family = Family {
    name: "heapster_build_info",
    help: "Version and commit of this program; always 1.",
    kind: FamilyKind::Gauge,
};
const INSECURE: Family = Family {
    name: "heapster_insecure_mode",
    help: "1 when the APIs are served beyond loopback without TLS and authentication.",
    kind: FamilyKind::Gauge,
};
const WATCH_FAILING: Family = Family {
    name: "heapster_watch_failing",
    help: "1 while the API server cannot be read for objects of this kind; those known stay in use.",
    kind: FamilyKind::Gauge,
};
const UPKEEP_FAILURES: Family = Family {
    name: "heapster_store_maintenance_failures_total",
    help: "Steps of the store's maintenance that failed.",
    kind: FamilyKind::Counter,
};

const BACKGROUND_FAILURES: Family = Family {
    name: "heapster_store_background_failures_total",
    help: "Units of merging segments and building tiers that failed; they are tried again.",
    kind: FamilyKind::Counter,
};

/// How long background work waits when nothing is due.
const BACKGROUND_PERIOD: Duration = Duration::from_secs(10);
/// How often the store is maintained: what a power failure may cost under [`Ack::Buffered`].
const UPKEEP_PERIOD: Duration = Duration::from_secs(1);
/// How often it is looked whether the store broke; maintenance may be at a long step meanwhile.
const LOOK_PERIOD: Duration = Duration::from_millis(250);
/// How long background work waits after the start. One that is killed again and again merges, too.
const BACKGROUND_FIRST: Duration = Duration::from_secs(1);
/// How long stopping takes in all.
const STOP_MAX: Duration = Duration::from_millis(9_500);
/// How long requests get to finish at the end.
const HTTP_STOP_MAX: Duration = Duration::from_secs(3);
/// How long scrapes of targets get to store what they have.
const SCRAPES_STOP_MAX: Duration = Duration::from_secs(3);
/// How long the store's maintenance, and its background work, get to finish the step they are at.
const UPKEEP_STOP_MAX: Duration = Duration::from_millis(1_500);
/// How long reads that nobody waits for any more get to let go of the store.
const RELEASE_MAX: Duration = Duration::from_millis(500);
/// How long the first round waits for a cluster's objects.
const SYNC_MAX: Duration = Duration::from_secs(5);

/// What an [`App`] consists of.
#[derive(Clone, Debug)]
pub struct AppOptions {
    /// Directory of the store.
    pub data_dir: PathBuf,
    /// Options of the store.
    pub store: StoreOptions,
    /// When a batch counts as stored.
    pub ack: Ack,
    /// Where metrics come from: `host`, `none` or a kind of `kubernetes`.
    pub source: Uri,
    /// Whatever is scraped as Prometheus does, each a kind of `prometheus`.
    pub scrapes: Vec<Uri>,
    /// Where batches go besides the store.
    pub sinks: Vec<Uri>,
    /// Turns the user's labels into labels of sets.
    pub copier: LabelCopier,
    /// Pace and bounds.
    pub collector: collector::Options,
}

impl From<&Config> for AppOptions {
    fn from(config: &Config) -> Self {
        let retention = config.retention.map_or(Retention::Forever, Retention::Age);
        let mut collector = collector::Options::new(config.resolution);
        collector.export_timeout = config.export_timeout;
        Self {
            data_dir: config.data_dir.clone(),
            store: StoreOptions {
                retention,
                // What is kept for ever may come at any time: backfills, and imports over the network.
                late_window: match retention {
                    Retention::Forever => LateWindow::Any,
                    _ => StoreOptions::default().late_window,
                },
                retention_bytes: config.retention_bytes,
                tiers: config.tiers.clone(),
                head_bytes_max: config.head_bytes_max,
                ..StoreOptions::default()
            },
            ack: config.ack,
            source: config.source.clone(),
            scrapes: config.scrapes.clone(),
            sinks: config.sinks.clone(),
            copier: config.copier.clone(),
            collector,
        }
    }
}

/// Why an app cannot start or go on. Its causes are [`std::error::Error::source`].
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AppError {
    /// The store cannot be opened.
    #[error("could not open the data directory {}", dir.display())]
    Open {
        /// The directory.
        dir: PathBuf,
        /// What the store said.
        source: heapster_store::Error,
    },
    /// What is stored cannot be read.
    #[error("could not read the newest batch of the store")]
    Restore(#[source] StorageError),
    /// The source cannot be set up.
    #[error("could not set up --source={uri:?}")]
    Source {
        /// What was asked for; shown without its secrets.
        uri: Box<Uri>,
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// No sink that was asked for can be built.
    #[error(transparent)]
    Sinks(#[from] sinks::NoAvailableSink),
    /// The address cannot be listened on.
    #[error("could not listen on {address}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// A port cannot be protected.
    #[error("could not set up TLS or access")]
    Protect(#[from] ProtectError),
    /// The system refuses what every program gets, such as a thread or a signal handler.
    #[error("could not {what}")]
    System {
        /// What was tried.
        what: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// The store broke while running.
    #[error("the store failed and takes no more data")]
    Failed(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The store cannot be closed in order. What was acknowledged is safe as far as promised.
    #[error("could not close the store")]
    Close(#[source] Box<dyn std::error::Error + Send + Sync>),
}

impl AppError {
    /// The exit code: 1 failed while running, 2 configuration, 3 the data directory is in use, 4 it
    /// is of a newer version.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Open { source: heapster_store::Error::Locked { .. }, .. } => 3,
            Self::Open { source: heapster_store::Error::UnsupportedVersion { .. }, .. } => 4,
            Self::Open { .. } | Self::Source { .. } | Self::Sinks(_) | Self::Protect(_) => 2,
            Self::Listen { .. }
            | Self::Restore(_)
            | Self::System { .. }
            | Self::Failed(_)
            | Self::Close(_) => 1,
        }
    }

    /// What the user can do about it.
    pub fn advice(&self) -> &'static str {
        match self {
            Self::Open { source, .. } => match source {
                heapster_store::Error::Locked { .. } => {
                    "Stop the other process, or choose another --data-dir."
                }
                heapster_store::Error::UnsupportedVersion { .. } => {
                    "Use the version of heapster that wrote it, or choose another --data-dir."
                }
                heapster_store::Error::Corrupt { .. } => {
                    "Restore the directory from a backup, or move it away and start afresh."
                }
                heapster_store::Error::DiskFull { .. } => {
                    "Make room, or choose a --data-dir on another file system."
                }
                _ => "Check path, owner and permissions, or choose another --data-dir.",
            },
            Self::Source { .. } => "Check --source; `heapster --help` says what it accepts.",
            Self::Sinks(_) => "Check --sink; leave it out to use the store alone.",
            Self::Listen { .. } => {
                "Choose another --heapster-port or --listen-ip, or --secure-port or --bind-address."
            }
            Self::Protect(_) => "Check the files that the flags of TLS and of users name.",
            Self::Restore(_) => "Restore the data directory from a backup, or choose another.",
            Self::System { .. } => "Check the limits of the process.",
            Self::Failed(_) | Self::Close(_) => {
                "Check the disk, then start again: the store recovers what it has acknowledged."
            }
        }
    }
}

/// A running collector with its store. Dropping it without [`App::stop`] is like a crash: nothing
/// that was acknowledged is lost.
pub struct App {
    store: Arc<Store>,
    live: Arc<Live>,
    cluster: Arc<dyn ClusterView>,
    clock: Arc<dyn Clock>,
    registry: Arc<Registry>,
    intake: Arc<Intake>,
    metadata: Arc<MetadataRegistry>,
    targets: Arc<TargetRegistry>,
    /// Absent when there is no source.
    collector: Option<Collector>,
    scraping: Scraping,
    upkeep: Upkeep,
    /// Absent in a store that is shared: two would do the work twice, and the first to stop would end
    /// that of the store for good.
    background: Option<Background>,
    /// Whether someone else opened the store and keeps it.
    is_shared: bool,
}

impl App {
    /// Opens the store and starts collecting; must be called within a tokio runtime.
    ///
    /// # Errors
    /// [`AppError`]; nothing keeps running then.
    pub async fn start(options: AppOptions) -> Result<Self, AppError> {
        let (dir, store) = (options.data_dir.clone(), options.store.clone());
        let opening = async {
            let store = open(dir, store).await?;
            report_opening(store.open_report());
            Ok(Arc::new(store))
        };
        Self::start_in(opening, options, false).await
    }

    /// As [`App::start`], into a store that is open already. Its options are as they are, its segments
    /// are merged by whoever opened it, and the app leaves it open when that one still holds it.
    ///
    /// # Errors
    /// [`AppError`]; nothing keeps running then.
    pub async fn start_on(store: Arc<Store>, options: AppOptions) -> Result<Self, AppError> {
        Self::start_in(std::future::ready(Ok(store)), options, true).await
    }

    /// Starts in a store that is opened once everything is known to be usable that can be checked
    /// without it.
    async fn start_in(
        store: impl Future<Output = Result<Arc<Store>, AppError>>,
        options: AppOptions,
        is_shared: bool,
    ) -> Result<Self, AppError> {
        let sinks = sinks::build(&options.sinks)?;
        let jobs = jobs(&options.scrapes, options.collector.resolution)?;
        let clock: Arc<dyn Clock> = Arc::clone(&options.store.clock);
        let registry = Arc::new(Registry::new(Arc::clone(&clock)));
        let commit = crate::cli::COMMIT;
        registry.set(&BUILD_INFO, &[("version", crate::cli::VERSION), ("commit", commit)], 1.0);

        let store = store.await?;
        let rules = Rules { resolution: options.collector.resolution };
        let live = Arc::new(Live::new(rules));
        let reader = Arc::clone(&store);
        let previous = in_background(move || live::restore(&*reader, rules)).await?;
        let previous = match previous.map_err(AppError::Restore)? {
            Some((batch, board)) => {
                let batch = Arc::new(batch);
                live.resume(Arc::clone(&batch), board);
                Some(batch)
            }
            None => None,
        };

        let Origin { sources, cluster, kubernetes } =
            origin(&options.source, &registry, &clock).await?;
        let mut pace = options.collector;
        if let Some(max_parallel) = kubernetes.as_ref().and_then(|one| one.max_parallel) {
            pace.scrapes_max = max_parallel;
        }
        let ready = ready(kubernetes.as_ref());
        let (kept, time) = (Arc::clone(&store), Arc::clone(&clock));
        let intake =
            Intake::new(Arc::clone(&store), options.ack, Arc::clone(&clock), Arc::clone(&registry));
        let intake = Arc::new(intake);
        let noting = Arc::clone(&intake);
        let upkeep = Upkeep::start(kept, noting, time, Arc::clone(&registry), kubernetes)?;
        let (kept, time) = (Arc::clone(&store), Arc::clone(&clock));
        let background = match is_shared {
            true => None,
            false => Some(Background::start(kept, time, Arc::clone(&registry))?),
        };
        let collector = sources.map(|sources| {
            let (shown, time) = (Arc::clone(&live), Arc::clone(&clock));
            let sink = StoreSink::new(Arc::clone(&intake), shown, time);
            let parts = collector::Parts {
                sources,
                ready,
                processors: standard(Arc::clone(&cluster), options.copier, previous.as_deref()),
                store: Some(Arc::new(sink) as Arc<dyn Sink>),
                sinks,
                clock: Arc::clone(&clock),
                registry: Arc::clone(&registry),
            };
            Collector::start(parts, pace)
        });
        let (metadata, targets) = (Arc::new(MetadataRegistry::with_catalogue()), Arc::default());
        let parts = prometheus::Parts {
            intake: Arc::clone(&intake),
            metadata: Arc::clone(&metadata),
            targets: Arc::clone(&targets),
            clock: Arc::clone(&clock),
            registry: Arc::clone(&registry),
        };
        let scraping = Scraping::start(jobs, parts).map_err(|error| AppError::Source {
            uri: Box::new(options.scrapes[0].clone()),
            source: error.into(),
        })?;
        Ok(Self {
            store,
            live,
            cluster,
            clock,
            registry,
            intake,
            metadata,
            targets,
            collector,
            scraping,
            upkeep,
            background,
            is_shared,
        })
    }

    /// The store.
    pub fn store(&self) -> &Arc<Store> {
        &self.store
    }

    /// The newest batch.
    pub fn live(&self) -> &Arc<Live> {
        &self.live
    }

    /// The objects of the cluster.
    pub fn cluster(&self) -> &Arc<dyn ClusterView> {
        &self.cluster
    }

    /// The clock everything goes by.
    pub fn clock(&self) -> &Arc<dyn Clock> {
        &self.clock
    }

    /// The self metrics.
    pub fn registry(&self) -> &Arc<Registry> {
        &self.registry
    }

    /// The way into the store.
    pub fn intake(&self) -> &Arc<Intake> {
        &self.intake
    }

    /// What those who push or are scraped say of their metrics.
    pub fn metadata(&self) -> &Arc<MetadataRegistry> {
        &self.metadata
    }

    /// The targets that are scraped, and how they are.
    pub fn targets(&self) -> &Arc<TargetRegistry> {
        &self.targets
    }

    /// Waits until the app cannot go on. Then drop it and end the process: what is on disk is
    /// decided by a restart, not by this process' memory.
    pub async fn failed(&mut self) -> AppError {
        let collector = async {
            match &mut self.collector {
                Some(collector) => collector.failed().await,
                None => std::future::pending().await,
            }
        };
        let error = tokio::select! {
            error = collector => AppError::Failed(error.into()),
            error = self.upkeep.failed() => error,
            () = broken(&self.store) => AppError::Failed("bug: it does not say why".into()),
        };
        // Whoever noticed first, what failed first is what is told.
        match (self.store.poisoned_by(), self.store.stats().last_error) {
            (Some(_), Some(first)) => AppError::Failed(first.into()),
            _ => error,
        }
    }

    /// Stops collecting, works off the sinks' queues, and syncs and closes the store. Takes less
    /// than ten seconds, whatever sources, sinks and disks do.
    ///
    /// # Errors
    /// The store could not be closed in order.
    pub async fn stop(self) -> Result<(), AppError> {
        self.stop_with(std::future::ready(())).await
    }

    /// As [`App::stop`]; the store is closed when `readers` have ended as well.
    async fn stop_with(self, readers: impl Future<Output = ()>) -> Result<(), AppError> {
        let deadline = Instant::now() + STOP_MAX;
        let collector = async {
            if let Some(collector) = self.collector {
                collector.stop(StopLimits::default()).await;
            }
        };
        tokio::join!(collector, self.scraping.stop(SCRAPES_STOP_MAX), readers);
        drop(self.intake);
        if let Some(background) = self.background {
            background.stop(deadline).await;
        }
        self.upkeep.stop(deadline).await;
        let close = async {
            // Whoever keeps it would be waited for in vain.
            let store = match self.is_shared && Arc::strong_count(&self.store) > 1 {
                true => Err(self.store),
                false => sole_owner(self.store).await,
            };
            in_background(move || match store {
                Ok(store) => store.close(),
                // Closed when the last one lets go.
                Err(shared) => shared.sync(),
            })
            .await
        };
        match timeout_at(deadline, close).await {
            Ok(closed) => closed?.map_err(|error| AppError::Close(error.into())),
            Err(elapsed) => Err(AppError::Close(elapsed.into())),
        }
    }
}

/// The store once nobody else holds it. Reads and appends that were given up let go of it soon;
/// whoever embeds us may keep it.
async fn sole_owner(mut store: Arc<Store>) -> Result<Store, Arc<Store>> {
    let deadline = Instant::now() + RELEASE_MAX;
    loop {
        store = match Arc::try_unwrap(store) {
            Ok(store) => return Ok(store),
            Err(shared) if Instant::now() >= deadline => return Err(shared),
            Err(shared) => shared,
        };
        sleep(Duration::from_millis(5)).await;
    }
}

/// Resolves when the store takes no more data.
async fn broken(store: &Store) {
    while store.poisoned_by().is_none() {
        sleep(LOOK_PERIOD).await;
    }
    // It refuses first and says why a moment later.
    sleep(LOOK_PERIOD).await;
}

/// Resolves when a cluster's objects are known, so that the first batch has its labels and requests,
/// or when that takes too long.
fn ready(kubernetes: Option<&Kubernetes>) -> BoxFuture<'static, ()> {
    let synced = kubernetes.map(|one| one.synced.clone());
    Box::pin(async move {
        if let Some(mut synced) = synced
            && timeout(SYNC_MAX, synced.wait_for(|synced| *synced)).await.is_err()
        {
            warn!("the cluster's objects are not known yet; the first batches lack labels");
        }
    })
}

/// Runs what may wait for a disk away from the threads that serve.
async fn in_background<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, AppError> {
    tokio::task::spawn_blocking(work).await.map_err(|error| AppError::Failed(error.into()))
}

async fn open(dir: PathBuf, options: StoreOptions) -> Result<Store, AppError> {
    let path = dir.clone();
    let opened = in_background(move || Store::open(&path, options)).await?;
    opened.map_err(|source| AppError::Open { dir, source })
}

fn report_opening(report: &OpenReport) {
    if report.is_new {
        info!("made a new store");
    } else {
        let (batches, samples) = (report.replayed_batches, report.replayed_samples);
        info!(batches, samples, "opened the store and replayed its log");
    }
    if !report.is_complete() {
        let (damaged, rows) = (report.damaged_bytes, report.lost_rows);
        warn!("{damaged} bytes of the log are damaged, {rows} rows are lost with them");
        if report.missing_batches > 0 {
            warn!("{} batches are missing between two files of the log", report.missing_batches);
        }
    }
    for file in report.quarantined.iter().chain(&report.unavailable) {
        warn!("the store goes on without {}: {}", file.file, file.reason);
    }
    for index in &report.damaged_indexes {
        warn!("nothing is lost of {}, but {}", index.file, index.reason);
    }
}

/// Logs each row group that somebody could not read, once; gives how many there were so far.
fn report_quarantine(stats: &Stats, told: u64) -> u64 {
    let news = || stats.quarantine.iter().filter(|group| group.number > told);
    // The list is short, and many may have come at once.
    let first = news().map(|group| group.number).min().unwrap_or(told + 1);
    if first > told + 1 {
        warn!("{} more parts of the store could not be read", first - told - 1);
    }
    for group in news() {
        let (labels, range) = (&group.labels, group.range);
        warn!(
            "answers are without what {labels} has from {} to {}: {}",
            range.start, range.end, group.reason
        );
    }
    news().map(|group| group.number).max().unwrap_or(told)
}

/// Where metrics come from, and what is known of the cluster.
struct Origin {
    sources: Option<Arc<dyn SourceProvider>>,
    cluster: Arc<dyn ClusterView>,
    kubernetes: Option<Kubernetes>,
}

async fn origin(
    uri: &Uri,
    registry: &Arc<Registry>,
    clock: &Arc<dyn Clock>,
) -> Result<Origin, AppError> {
    let failed = |source| AppError::Source { uri: Box::new(uri.clone()), source };
    match uri.key() {
        "none" => Ok(Origin { sources: None, cluster: Arc::new(NoCluster), kubernetes: None }),
        "host" => {
            let host = host_source(uri, Arc::clone(clock)).map_err(failed)?;
            let (cluster, host) = (host.cluster(), Arc::new(host));
            let sources: Arc<dyn SourceProvider> = Arc::new(HostProvider::new(host));
            Ok(Origin { sources: Some(sources), cluster, kubernetes: None })
        }
        _ => {
            let connected = kubernetes::connect(uri, Arc::clone(registry), Arc::clone(clock)).await;
            let kubernetes = connected.map_err(|error| failed(error.into()))?;
            Ok(Origin {
                sources: Some(Arc::clone(&kubernetes.provider) as Arc<dyn SourceProvider>),
                cluster: Arc::clone(&kubernetes.cluster) as Arc<dyn ClusterView>,
                kubernetes: Some(kubernetes),
            })
        }
    }
}

/// The jobs of scrapes. Two jobs of one name would share its targets.
fn jobs(scrapes: &[Uri], resolution: Duration) -> Result<Vec<JobConfig>, AppError> {
    let mut jobs: Vec<JobConfig> = Vec::new();
    for uri in scrapes {
        let failed = |source| AppError::Source { uri: Box::new(uri.clone()), source };
        for job in JobConfig::from_uri(uri, resolution).map_err(|error| failed(error.into()))? {
            if jobs.iter().any(|other| other.name == job.name) {
                return Err(failed(
                    format!("there are two jobs of the name {:?}", job.name).into(),
                ));
            }
            jobs.push(job);
        }
    }
    Ok(jobs)
}

fn host_source(
    uri: &Uri,
    clock: Arc<dyn Clock>,
) -> Result<HostSource, Box<dyn std::error::Error + Send + Sync>> {
    const OPTIONS: [&str; 3] = ["root", "node", "containers"];
    uri.accept_options(&OPTIONS)?;
    let given = OPTIONS.iter().filter_map(|name| Some((*name, uri.option(name)?)));
    Ok(HostSource::new(&HostOptions::from_query(given)?, clock)?)
}

/// The thread that maintains the store.
struct Upkeep {
    /// Dropped to end the thread.
    stop: std_mpsc::Sender<()>,
    thread: thread::JoinHandle<()>,
    failed: mpsc::Receiver<AppError>,
}

impl Upkeep {
    fn start(
        store: Arc<Store>,
        intake: Arc<Intake>,
        clock: Arc<dyn Clock>,
        registry: Arc<Registry>,
        kubernetes: Option<Kubernetes>,
    ) -> Result<Self, AppError> {
        let (stop, stopped) = std_mpsc::channel();
        let (fail, failed) = mpsc::channel(1);
        let maintain = move || {
            let lines = RateLimit::new(Duration::from_secs(10));
            let mut quarantined = 0;
            while let Err(std_mpsc::RecvTimeoutError::Timeout) = stopped.recv_timeout(UPKEEP_PERIOD)
            {
                let outcome = catch_unwind(AssertUnwindSafe(|| store.maintain()));
                let stats = store.stats();
                telemetry::store::record(&registry, &stats);
                quarantined = report_quarantine(&stats, quarantined);
                record_watches(&registry, kubernetes.as_ref());
                if let Ok(outcome) = &outcome {
                    intake.note_maintenance(outcome.as_ref().err());
                }
                let error = match outcome {
                    Ok(Ok(_)) => continue,
                    Ok(Err(error)) => error,
                    Err(_) => {
                        let panic = "bug: maintenance panicked".into();
                        let _ = fail.blocking_send(AppError::Failed(panic));
                        return;
                    }
                };
                registry.add(&UPKEEP_FAILURES, &[], 1);
                if store.poisoned_by().is_some() {
                    let _ = fail.blocking_send(AppError::Failed(error.into()));
                    return;
                }
                if let Some(earlier) = lines.admit(clock.monotonic()) {
                    let error = chain(&error);
                    warn!(
                        "the store's maintenance failed and is tried again: {error} \
                           ({earlier} more failures were not logged)"
                    );
                }
            }
        };
        let thread = thread::Builder::new().name("heapster-upkeep".to_owned()).spawn(maintain);
        let thread = thread
            .map_err(|source| AppError::System { what: "start a thread for upkeep", source })?;
        Ok(Self { stop, thread, failed })
    }

    async fn failed(&mut self) -> AppError {
        match self.failed.recv().await {
            Some(error) => error,
            None => AppError::Failed("bug: maintenance ended by itself".into()),
        }
    }

    /// Ends the thread and waits for it, but not for long.
    async fn stop(self, deadline: Instant) {
        drop(self.stop);
        let join = tokio::task::spawn_blocking(move || self.thread.join());
        if timeout_at(deadline.min(Instant::now() + UPKEEP_STOP_MAX), join).await.is_err() {
            warn!("the store's maintenance does not end and is abandoned");
        }
    }
}

/// The thread that merges the store's segments and builds its tiers. The store does without while it
/// fails.
struct Background {
    store: Arc<Store>,
    /// Dropped to end the thread.
    stop: std_mpsc::Sender<()>,
    thread: thread::JoinHandle<()>,
}

impl Background {
    fn start(
        store: Arc<Store>,
        clock: Arc<dyn Clock>,
        registry: Arc<Registry>,
    ) -> Result<Self, AppError> {
        let (stop, stopped) = std_mpsc::channel();
        let kept = Arc::clone(&store);
        let work = move || {
            let lines = RateLimit::new(Duration::from_secs(600));
            let mut wait = BACKGROUND_FIRST;
            while let Err(std_mpsc::RecvTimeoutError::Timeout) = stopped.recv_timeout(wait) {
                wait = BACKGROUND_PERIOD;
                let failure = match catch_unwind(AssertUnwindSafe(|| work_once(&store))) {
                    Ok(Ok(Worked::Done)) => {
                        wait = Duration::ZERO;
                        continue;
                    }
                    Ok(Ok(Worked::Idle)) => continue,
                    Ok(Ok(Worked::LacksRoom)) => "the disk has not enough room".to_owned(),
                    Ok(Err(error)) => chain(&error),
                    Err(_) => {
                        registry.add(&BACKGROUND_FAILURES, &[], 1);
                        error!("bug: background work panicked; there is none until a restart");
                        return;
                    }
                };
                registry.add(&BACKGROUND_FAILURES, &[], 1);
                if store.poisoned_by().is_some() {
                    // The process ends and says why.
                    return;
                }
                if let Some(earlier) = lines.admit(clock.monotonic()) {
                    warn!(
                        "the store's segments were not merged or its tiers not built, which is \
                           tried again: {failure} ({earlier} more failures were not logged)"
                    );
                }
            }
        };
        let thread = thread::Builder::new().name("heapster-background".to_owned()).spawn(work);
        let thread = thread.map_err(|source| AppError::System {
            what: "start a thread for background work",
            source,
        })?;
        Ok(Self { store: kept, stop, thread })
    }

    /// Ends the thread, and the work it is at, and waits for it, but not for long.
    async fn stop(self, deadline: Instant) {
        self.store.stop_background();
        drop((self.stop, self.store));
        let join = tokio::task::spawn_blocking(move || self.thread.join());
        if timeout_at(deadline.min(Instant::now() + UPKEEP_STOP_MAX), join).await.is_err() {
            warn!("the store's background work does not end and is abandoned");
        }
    }
}

/// What came of a try to work.
enum Worked {
    Done,
    Idle,
    LacksRoom,
}

/// Does a unit of merging and a unit of building tiers, as far as they are due.
fn work_once(store: &Store) -> Result<Worked, heapster_store::Error> {
    let (merged, built) = (store.compact()?, store.roll_up()?);
    Ok(match (merged.is_idle() && built.is_idle(), merged.lacks_room) {
        (false, _) => Worked::Done,
        (true, true) => Worked::LacksRoom,
        (true, false) => Worked::Idle,
    })
}

fn record_watches(registry: &Registry, kubernetes: Option<&Kubernetes>) {
    for watch in kubernetes.map(Kubernetes::watches).unwrap_or_default() {
        let labels = [("resource", watch.resource.as_str())];
        registry.set(&WATCH_FAILING, &labels, f64::from(u8::from(watch.failure.is_some())));
    }
}

/// Collects, stores and serves until `stop` is cancelled.
///
/// # Errors
/// [`AppError`]: could not start, or cannot go on.
pub async fn serve(config: &Config, stop: CancellationToken) -> Result<(), AppError> {
    // First, so that a second server by mistake touches nothing.
    let (address, listener) = listen(config.listen).await?;
    let secure_listener = match &config.secure_port {
        Some(port) => Some(listen(port.listen).await?),
        None => None,
    };
    let mut options = AppOptions::from(config);
    options.store.clock = Arc::new(SystemClock::new());
    let mut app = App::start(options).await?;
    let (main, secure) = match protections(config, &app.clock, &stop).await {
        Ok(both) => both,
        Err(error) => {
            app.stop().await?;
            return Err(error);
        }
    };
    let insecure = !address.ip().is_loopback() && main.gate.is_none();
    app.registry.set(&INSECURE, &[], f64::from(u8::from(insecure)));
    if insecure {
        warn!(
            "serving without authentication: everyone who reaches {address} can read all metrics{}",
            if config.remote_write { " and write some" } else { "" }
        );
    }
    let router = router(config, &app);
    let closing = stop.clone().cancelled_owned();
    let limits = ServerOptions { shutdown_timeout: HTTP_STOP_MAX, ..ServerOptions::default() };
    let (router, scheme) = (Arc::new(router), if main.tls.is_some() { "https" } else { "http" });
    let mut servers = JoinSet::new();
    if let (Some((address, listener)), Some(security)) = (secure_listener, secure) {
        let (router, closing) = (Arc::clone(&router), stop.clone().cancelled_owned());
        servers.spawn(http::serve_securely(listener, router, limits, security, closing));
        info!("serving on https://{address}/ to whoever may ask");
    }
    servers.spawn(http::serve_securely(listener, router, limits, main, closing));
    let (source, dir) = (config.source.key(), config.data_dir.display());
    if !config.scrapes.is_empty() {
        info!("scraping targets into {dir}");
    }
    if app.collector.is_some() {
        info!("collecting {source} every {:?} into {dir}", config.resolution);
    } else if config.scrapes.is_empty() {
        info!("collecting nothing, serving what is stored in {dir}");
    }
    info!("serving on {scheme}://{address}/");

    tokio::select! {
        () = stop.cancelled() => info!("stopping"),
        error = app.failed() => return Err(error),
    }
    app.stop_with(async {
        // Fails only when one panicked, and then it has ended as well.
        while servers.join_next().await.is_some() {}
    })
    .await?;
    info!("stopped; everything is stored");
    Ok(())
}

/// What protects the main port and the secure one.
async fn protections(
    config: &Config,
    clock: &Arc<dyn Clock>,
    stop: &CancellationToken,
) -> Result<(Security, Option<Security>), AppError> {
    let main = match &config.protection {
        Some(protection) => protect(protection, clock, stop).await?,
        None => Security::default(),
    };
    let secure = match &config.secure_port {
        Some(port) => Some(protect(&port.protection, clock, stop).await?),
        None => None,
    };
    Ok((main, secure))
}

/// The routes of all APIs that a server of this configuration has.
pub fn router(config: &Config, app: &App) -> Router {
    let mut router = api::router(ApiState {
        storage: Arc::clone(&app.store) as _,
        live: Arc::clone(&app.live),
        cluster: Arc::clone(&app.cluster),
        clock: Arc::clone(&app.clock),
        registry: Arc::clone(&app.registry),
        options: ApiOptions {
            disable_export: config.disable_export,
            profiling: config.profiling,
            resolution: config.resolution,
            is_collecting: app.collector.is_some(),
            ..ApiOptions::default()
        },
    });
    api::remote_write::add_readiness(&mut router, Arc::clone(&app.intake));
    if config.remote_write {
        api::remote_write::add_receiver(
            &mut router,
            Arc::clone(&app.intake),
            Arc::clone(&app.metadata),
            Arc::clone(&app.registry),
            Arc::clone(&app.clock),
        );
    }
    api::prometheus::add_routes(&mut router, prometheus(config, app));
    router
}

/// What the API of Prometheus answers from.
fn prometheus(config: &Config, app: &App) -> PrometheusState {
    let retention = config.flags.iter().find(|(name, _)| name == "retention");
    let retention = match config.retention {
        None => "forever".to_owned(),
        Some(_) => retention.map(|(_, value)| value.clone()).unwrap_or_default(),
    };
    PrometheusState {
        store: Arc::clone(&app.store),
        intake: Arc::clone(&app.intake),
        targets: Arc::clone(&app.targets),
        metadata: Arc::clone(&app.metadata),
        clock: Arc::clone(&app.clock),
        options: PrometheusOptions {
            limits: config.query_limits,
            lookback: config.query_lookback,
            queries_max: config.queries_max,
            flags: config.flags.clone(),
            retention,
        },
    }
}

/// Listens on an address, and says on which; port 0 is any that is free.
///
/// # Errors
/// [`AppError::Listen`].
pub async fn listen(address: SocketAddr) -> Result<(SocketAddr, TcpListener), AppError> {
    let listener = http::listen(address).await;
    listener
        .and_then(|listener| Ok((listener.local_addr()?, listener)))
        .map_err(|source| AppError::Listen { address, source })
}
