//! The collector keeps its pace and its data, whatever sources, sinks and clocks do. Runs in
//! paused tokio time.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};
use std::time::Duration;

use heapster_core::pipeline::{
    BoxFuture, Interval, Processor, Scrape, Sink, SinkError, Source, SourceError, SourceProvider,
};
use heapster_core::{DataBatch, EntityKey, EntityType, MetricSet, ProcessError, Text, Timestamp};
use heapster_server::collector::{Collector, FanOut, Limits, Options, Parts, StopLimits};
use heapster_server::telemetry::Registry;
use heapster_store::Clock;
use parking_lot::Mutex;
use tokio::time::{Instant, advance, sleep};
use tokio_util::sync::CancellationToken;

const SECOND: Duration = Duration::from_secs(1);

/// A clock that follows tokio's (paused) time; its wall side can be made to jump.
#[derive(Debug)]
struct TokioClock {
    started: Instant,
    jump_ms: AtomicI64,
}

impl TokioClock {
    /// Starts a few milliseconds after a whole minute.
    fn new() -> Arc<Self> {
        Arc::new(Self { started: Instant::now(), jump_ms: AtomicI64::new(1_532_606_400_010) })
    }

    fn jump(&self, seconds: i64) {
        self.jump_ms.fetch_add(seconds * 1000, Ordering::Relaxed);
    }
}

impl Clock for TokioClock {
    fn now(&self) -> Timestamp {
        let passed = i64::try_from(self.monotonic().as_millis()).unwrap();
        Timestamp::from_millis(self.jump_ms.load(Ordering::Relaxed) + passed)
    }

    fn monotonic(&self) -> Duration {
        self.started.elapsed()
    }
}

/// What a fake source does when it is asked.
#[derive(Clone, Copy)]
enum Behaviour {
    AnswersAfter(Duration),
    FailsAtOnce,
    Panics,
}

struct FakeSource {
    name: String,
    behaviour: Mutex<Behaviour>,
    under_way: Arc<AtomicUsize>,
    under_way_max: Arc<AtomicUsize>,
}

struct UnderWay<'a>(&'a AtomicUsize);

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Source for FakeSource {
    fn name(&self) -> &str {
        &self.name
    }

    fn scrape(&self, _: Interval) -> BoxFuture<'_, Result<Scrape, SourceError>> {
        Box::pin(async {
            let now = self.under_way.fetch_add(1, Ordering::SeqCst) + 1;
            self.under_way_max.fetch_max(now, Ordering::SeqCst);
            let _under_way = UnderWay(&self.under_way);
            let behaviour = *self.behaviour.lock();
            match behaviour {
                Behaviour::AnswersAfter(delay) => sleep(delay).await,
                Behaviour::FailsAtOnce => return Err(SourceError::new("connection refused")),
                Behaviour::Panics => panic!("on purpose"),
            }
            let set = MetricSet::new(EntityType::Node);
            let sets = vec![(EntityKey::node(self.name.as_str()), set)];
            Ok(Scrape { sets, rejects: Vec::new() })
        })
    }
}

/// Fake sources that are listed anew for each round.
#[derive(Default)]
struct FakeSources {
    sources: Mutex<Vec<Arc<FakeSource>>>,
    under_way: Arc<AtomicUsize>,
    under_way_max: Arc<AtomicUsize>,
}

impl FakeSources {
    fn new(behaviours: &[Behaviour]) -> Arc<Self> {
        let all = Self::default();
        for (index, behaviour) in behaviours.iter().enumerate() {
            all.sources.lock().push(Arc::new(FakeSource {
                name: format!("s{index}"),
                behaviour: Mutex::new(*behaviour),
                under_way: Arc::clone(&all.under_way),
                under_way_max: Arc::clone(&all.under_way_max),
            }));
        }
        Arc::new(all)
    }
}

impl SourceProvider for FakeSources {
    fn sources(&self) -> Vec<Arc<dyn Source>> {
        self.sources.lock().iter().map(|source| Arc::clone(source) as Arc<dyn Source>).collect()
    }
}

/// A sink that takes its time and notes what it was given.
struct FakeSink {
    name: &'static str,
    delay: Duration,
    begun: Mutex<Vec<Timestamp>>,
    done: Mutex<Vec<Timestamp>>,
    /// How many sets the last batch had.
    sets: Mutex<usize>,
    stopped: AtomicUsize,
    fate: fn() -> Result<(), SinkError>,
}

impl FakeSink {
    fn new(name: &'static str, delay: Duration) -> Arc<Self> {
        Self::with_fate(name, delay, || Ok(()))
    }

    fn with_fate(
        name: &'static str,
        delay: Duration,
        fate: fn() -> Result<(), SinkError>,
    ) -> Arc<Self> {
        Arc::new(Self {
            name,
            delay,
            begun: Mutex::default(),
            done: Mutex::default(),
            sets: Mutex::default(),
            stopped: AtomicUsize::new(0),
            fate,
        })
    }

    fn begun(&self) -> usize {
        self.begun.lock().len()
    }

    fn done(&self) -> usize {
        self.done.lock().len()
    }
}

impl Sink for FakeSink {
    fn name(&self) -> Text {
        Text::from_static(self.name)
    }

    fn export(&self, batch: Arc<DataBatch>) -> BoxFuture<'_, Result<(), SinkError>> {
        Box::pin(async move {
            self.begun.lock().push(batch.timestamp);
            *self.sets.lock() = batch.sets.len();
            sleep(self.delay).await;
            (self.fate)()?;
            self.done.lock().push(batch.timestamp);
            Ok(())
        })
    }

    fn stop(&self) -> BoxFuture<'_, Result<(), SinkError>> {
        self.stopped.fetch_add(1, Ordering::SeqCst);
        Box::pin(std::future::ready(Ok(())))
    }
}

/// Notes the times of the batches it sees.
struct Witness(Arc<Mutex<Vec<Timestamp>>>);

impl Processor for Witness {
    fn name(&self) -> &'static str {
        "witness"
    }

    fn process(&mut self, batch: &mut DataBatch) -> Result<(), ProcessError> {
        self.0.lock().push(batch.timestamp);
        Ok(())
    }
}

struct Rig {
    clock: Arc<TokioClock>,
    registry: Arc<Registry>,
    seen: Arc<Mutex<Vec<Timestamp>>>,
}

impl Rig {
    fn new() -> Self {
        let clock = TokioClock::new();
        let registry = Arc::new(Registry::new(clock.clone()));
        Self { clock, registry, seen: Arc::default() }
    }

    fn fan_out(&self, sources: Arc<FakeSources>, limits: Limits) -> FanOut {
        FanOut::new(sources, limits, self.clock.clone(), Arc::clone(&self.registry))
    }

    fn start(
        &self,
        sources: Arc<FakeSources>,
        store: Option<&Arc<FakeSink>>,
        sinks: &[&Arc<FakeSink>],
        options: Options,
    ) -> Collector {
        let erased = |sink: &Arc<FakeSink>| Arc::clone(sink) as Arc<dyn Sink>;
        let parts = Parts {
            sources,
            ready: Box::pin(std::future::ready(())),
            processors: vec![Box::new(Witness(Arc::clone(&self.seen)))],
            store: store.map(erased),
            sinks: sinks.iter().map(|sink| erased(sink)).collect(),
            clock: self.clock.clone(),
            registry: Arc::clone(&self.registry),
        };
        Collector::start(parts, options)
    }

    #[track_caller]
    fn has_metric(&self, line: &str) {
        let text = self.registry.render();
        assert!(text.lines().any(|own| own == line), "{line} is missing in\n{text}");
    }
}

fn interval() -> Interval {
    Interval { start: Timestamp::EPOCH, end: Timestamp::from_millis(60_000) }
}

async fn scrape(fan_out: &FanOut) -> DataBatch {
    fan_out.scrape(interval(), &CancellationToken::new()).await
}

fn three_seconds() -> Limits {
    Limits { deadline: 3 * SECOND, in_flight_max: 256 }
}

fn names(batch: &DataBatch) -> Vec<String> {
    batch.sets.keys().map(ToString::to_string).collect()
}

fn is_rising(times: &[Timestamp]) -> bool {
    times.windows(2).all(|pair| pair[0] < pair[1])
}

const QUICK: Behaviour = Behaviour::AnswersAfter(Duration::ZERO);
const HUNG: Behaviour = Behaviour::AnswersAfter(Duration::from_secs(30));

#[tokio::test(start_paused = true)]
async fn sources_that_answer_in_time_are_all_in_the_batch() {
    let slow = Behaviour::AnswersAfter(SECOND);
    let fan_out = Rig::new().fan_out(FakeSources::new(&[slow, slow]), three_seconds());
    let started = Instant::now();
    let batch = scrape(&fan_out).await;
    assert_eq!(names(&batch), ["node:s0", "node:s1"]);
    assert_eq!(batch.timestamp, interval().end);
    assert!(started.elapsed() < 2 * SECOND, "it waits for answers, not for the deadline");
}

#[tokio::test(start_paused = true)]
async fn a_source_that_hangs_is_missing_and_the_batch_closes_on_time() {
    let rig = Rig::new();
    let fan_out = rig.fan_out(FakeSources::new(&[HUNG, QUICK]), three_seconds());
    let started = Instant::now();
    assert_eq!(names(&scrape(&fan_out).await), ["node:s1"]);
    assert!((2 * SECOND..=4 * SECOND).contains(&started.elapsed()));
    rig.has_metric("heapster_scraper_failures_total{reason=\"timeout\"} 1");
}

#[tokio::test(start_paused = true)]
async fn when_all_hang_the_batch_is_empty_and_on_time() {
    let fan_out = Rig::new().fan_out(FakeSources::new(&[HUNG, HUNG]), three_seconds());
    let started = Instant::now();
    assert_eq!(names(&scrape(&fan_out).await), [""; 0]);
    assert!((2 * SECOND..=4 * SECOND).contains(&started.elapsed()));
}

/// Sixty nodes that answer in a tenth of a second, one of which then hangs.
fn sixty_nodes() -> Arc<FakeSources> {
    FakeSources::new(&[Behaviour::AnswersAfter(SECOND / 10); 60])
}

fn twenty_seconds() -> Limits {
    Limits { deadline: 20 * SECOND, in_flight_max: 256 }
}

async fn timed(fan_out: &FanOut) -> (usize, Duration) {
    let started = Instant::now();
    let batch = scrape(fan_out).await;
    (batch.sets.len(), started.elapsed())
}

#[tokio::test(start_paused = true)]
async fn a_hung_node_among_many_delays_the_first_batch_little_and_later_ones_less() {
    let (rig, sources) = (Rig::new(), sixty_nodes());
    let fan_out = rig.fan_out(Arc::clone(&sources), twenty_seconds());
    let (nodes, healthy) = timed(&fan_out).await;
    assert!(nodes == 60 && healthy < SECOND, "{nodes} after {healthy:?}");
    *sources.sources.lock()[0].behaviour.lock() = HUNG;
    let (nodes, first) = timed(&fan_out).await;
    assert!(nodes == 59 && first <= healthy + 2 * SECOND, "{nodes} after {first:?}");
    for _ in 0..3 {
        sleep(60 * SECOND).await;
        let (nodes, later) = timed(&fan_out).await;
        assert!(nodes == 59 && later <= healthy + SECOND, "{nodes} after {later:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_node_that_has_become_slow_misses_one_batch_and_is_waited_for_then() {
    let (rig, sources) = (Rig::new(), sixty_nodes());
    let fan_out = rig.fan_out(Arc::clone(&sources), twenty_seconds());
    scrape(&fan_out).await;
    *sources.sources.lock()[0].behaviour.lock() = Behaviour::AnswersAfter(6 * SECOND);
    assert_eq!(scrape(&fan_out).await.sets.len(), 59);
    for _ in 0..3 {
        sleep(60 * SECOND).await;
        assert_eq!(scrape(&fan_out).await.sets.len(), 60);
    }
}

#[tokio::test(start_paused = true)]
async fn an_abandoned_scrape_is_measured_too() {
    let rig = Rig::new();
    let fan_out = rig.fan_out(FakeSources::new(&[HUNG, QUICK]), three_seconds());
    scrape(&fan_out).await;
    sleep(2 * SECOND).await;
    rig.has_metric("heapster_scraper_duration_milliseconds_count{source=\"s0\"} 1");
}

#[tokio::test(start_paused = true)]
async fn stopping_stores_what_has_arrived_while_a_node_hangs() {
    let rig = Rig::new();
    let store = FakeSink::new("store", Duration::ZERO);
    let sources = FakeSources::new(&[QUICK, QUICK, HUNG, HUNG, HUNG]);
    let collector = rig.start(sources, Some(&store), &[], Options::new(60 * SECOND));
    sleep(66 * SECOND).await;
    assert_eq!(store.begun(), 0, "the round is under way");
    let started = Instant::now();
    collector.stop(StopLimits::default()).await;
    assert!(started.elapsed() <= 2 * SECOND, "{:?}", started.elapsed());
    assert_eq!((store.done(), *store.sets.lock()), (1, 2));
}

#[tokio::test(start_paused = true)]
async fn a_source_that_fails_or_panics_answers_at_once() {
    let rig = Rig::new();
    let sources = FakeSources::new(&[Behaviour::FailsAtOnce, QUICK, Behaviour::Panics]);
    let fan_out = rig.fan_out(sources, three_seconds());
    let started = Instant::now();
    assert_eq!(names(&scrape(&fan_out).await), ["node:s1"]);
    assert!(started.elapsed() < SECOND, "took {:?}", started.elapsed());
    rig.has_metric("heapster_scraper_failures_total{reason=\"error\"} 1");
    rig.has_metric("heapster_scraper_failures_total{reason=\"panic\"} 1");
}

#[tokio::test(start_paused = true)]
async fn no_more_scrapes_run_at_once_than_allowed() {
    let slow = Behaviour::AnswersAfter(Duration::from_millis(100));
    let sources = FakeSources::new(&[slow; 100]);
    let limits = Limits { deadline: 20 * SECOND, in_flight_max: 8 };
    let fan_out = Rig::new().fan_out(Arc::clone(&sources), limits);
    let batch = scrape(&fan_out).await;
    assert_eq!(batch.sets.len(), 100);
    // A quarter of the places is kept for sources that hung before; here are none.
    assert_eq!(sources.under_way_max.load(Ordering::SeqCst), 6);
}

#[tokio::test(start_paused = true)]
async fn dead_nodes_do_not_hold_the_places_of_the_living() {
    let mut behaviours = vec![HUNG; 12];
    behaviours.extend([QUICK; 88]);
    let sources = FakeSources::new(&behaviours);
    // Six places for those in good standing, two for suspects.
    let limits = Limits { deadline: 20 * SECOND, in_flight_max: 8 };
    let rig = Rig::new();
    let fan_out = rig.fan_out(Arc::clone(&sources), limits);
    scrape(&fan_out).await;
    scrape(&fan_out).await;
    sleep(SECOND).await;
    assert_eq!(sources.under_way.load(Ordering::SeqCst), 0, "abandoned scrapes are dropped");
    // Twelve dead ones are found out after two rounds.
    for _ in 0..3 {
        assert_eq!(scrape(&fan_out).await.sets.len(), 88);
    }
    assert!(sources.under_way_max.load(Ordering::SeqCst) <= 8);
    // The next round of a collector begins when the scrapes of the one before have ended.
    sleep(20 * SECOND).await;
    for source in sources.sources.lock().iter() {
        *source.behaviour.lock() = QUICK;
    }
    assert_eq!(scrape(&fan_out).await.sets.len(), 100);
}

#[tokio::test(start_paused = true)]
async fn a_source_that_comes_back_is_asked_and_one_that_went_away_is_forgotten() {
    let rig = Rig::new();
    let sources = FakeSources::new(&[HUNG, QUICK]);
    let fan_out = rig.fan_out(Arc::clone(&sources), three_seconds());
    scrape(&fan_out).await;
    *sources.sources.lock()[0].behaviour.lock() = QUICK;
    assert_eq!(names(&scrape(&fan_out).await), ["node:s0", "node:s1"]);
    let gone = "heapster_scraper_duration_milliseconds_count{source=\"s1\"}";
    assert!(rig.registry.render().contains(gone));
    sources.sources.lock().truncate(1);
    scrape(&fan_out).await;
    assert!(!rig.registry.render().contains(gone));
}

#[tokio::test(start_paused = true)]
async fn rounds_keep_the_pace_of_the_resolution() {
    let rig = Rig::new();
    let sink = FakeSink::new("sink", Duration::ZERO);
    let collector = rig.start(FakeSources::new(&[QUICK]), None, &[&sink], Options::new(SECOND));
    sleep(SECOND * 9 / 2).await;
    assert!((4..=5).contains(&sink.done()), "{}", sink.done());
    collector.stop(StopLimits::default()).await;
}

#[tokio::test(start_paused = true)]
async fn a_round_waits_for_the_store() {
    let rig = Rig::new();
    let store = FakeSink::new("store", 4 * SECOND);
    let options = Options { rounds_max: 1, ..Options::new(SECOND) };
    let collector = rig.start(FakeSources::new(&[QUICK]), Some(&store), &[], options);
    sleep(SECOND * 19 / 2).await;
    assert!((2..=3).contains(&store.begun()), "{}", store.begun());
    let left_out = "heapster_collector_rounds_total{result=\"left_out\"}";
    assert!(rig.registry.render().contains(left_out));
    collector.stop(StopLimits::default()).await;
}

#[tokio::test(start_paused = true)]
async fn two_steady_sinks_take_every_batch() {
    let rig = Rig::new();
    let (a, b) = (FakeSink::new("a", SECOND), FakeSink::new("b", SECOND));
    let collector =
        rig.start(FakeSources::new(&[QUICK]), None, &[&a, &b], Options::new(2 * SECOND));
    sleep(SECOND * 37 / 5).await;
    collector.stop(StopLimits::default()).await;
    assert_eq!((a.done(), b.done()), (3, 3));
}

#[tokio::test(start_paused = true)]
async fn a_slow_sink_delays_nobody_but_itself() {
    let rig = Rig::new();
    let quick = FakeSink::new("quick", Duration::ZERO);
    let slow = [FakeSink::new("slow", 30 * SECOND), FakeSink::new("slower", 30 * SECOND)];
    let sinks = [&slow[0], &quick, &slow[1]];
    let collector = rig.start(FakeSources::new(&[QUICK]), None, &sinks, Options::new(SECOND));
    sleep(SECOND * 7 / 2).await;
    assert_eq!(quick.done(), 3);
    assert_eq!((slow[0].begun(), slow[1].begun()), (1, 1));
    collector.stop(StopLimits::default()).await;
}

#[tokio::test(start_paused = true)]
async fn stopping_takes_a_moment_and_reaches_every_sink() {
    let rig = Rig::new();
    let sinks = [FakeSink::new("a", Duration::ZERO), FakeSink::new("b", Duration::ZERO)];
    let collector =
        rig.start(FakeSources::new(&[QUICK]), None, &[&sinks[0], &sinks[1]], Options::new(SECOND));
    sleep(SECOND * 3 / 2).await;
    let started = Instant::now();
    collector.stop(StopLimits::default()).await;
    assert!(started.elapsed() <= SECOND);
    assert!(sinks.iter().all(|sink| sink.stopped.load(Ordering::SeqCst) == 1));
}

#[tokio::test(start_paused = true)]
async fn stopping_ends_on_time_with_a_hung_source_a_hung_store_and_a_hung_sink() {
    let rig = Rig::new();
    let (store, sink) = (FakeSink::new("store", 300 * SECOND), FakeSink::new("sink", 300 * SECOND));
    let collector = rig.start(
        FakeSources::new(&[HUNG, QUICK]),
        Some(&store),
        &[&sink],
        Options::new(5 * SECOND),
    );
    sleep(22 * SECOND).await;
    assert_eq!((store.begun(), sink.begun()), (1, 1));
    let started = Instant::now();
    collector.stop(StopLimits::default()).await;
    assert!(started.elapsed() <= 8 * SECOND, "{:?}", started.elapsed());
    assert_eq!(sink.stopped.load(Ordering::SeqCst), 1);
}

#[tokio::test(start_paused = true)]
async fn stopping_lets_the_round_under_way_reach_its_sinks() {
    let rig = Rig::new();
    let (store, sink) = (FakeSink::new("store", Duration::ZERO), FakeSink::new("sink", SECOND));
    let slow = Behaviour::AnswersAfter(2 * SECOND);
    let collector =
        rig.start(FakeSources::new(&[slow]), Some(&store), &[&sink], Options::new(5 * SECOND));
    sleep(7 * SECOND).await;
    assert_eq!(store.begun(), 0);
    collector.stop(StopLimits::default()).await;
    assert_eq!((store.done(), sink.done()), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn what_a_full_queue_cannot_take_is_dropped_and_counted() {
    let rig = Rig::new();
    let slow = FakeSink::new("slow", 15 * SECOND);
    let options = Options { queue_batches: 2, ..Options::new(SECOND) };
    let collector = rig.start(FakeSources::new(&[QUICK]), None, &[&slow], options);
    sleep(SECOND * 21 / 2).await;
    // One is being exported, two wait, the other seven are gone.
    rig.has_metric("heapster_exporter_dropped_batches_total{exporter=\"slow\"} 7");
    sleep(30 * SECOND).await;
    assert!(is_rising(&slow.done.lock()));
    collector.stop(StopLimits { sinks: Duration::ZERO, ..StopLimits::default() }).await;
    assert_eq!(slow.stopped.load(Ordering::SeqCst), 1);
}

#[tokio::test(start_paused = true)]
async fn a_sink_that_hangs_panics_or_fails_gets_the_next_batch() {
    let rig = Rig::new();
    let hung = FakeSink::new("hung", 300 * SECOND);
    let panics = FakeSink::with_fate("panics", Duration::ZERO, || panic!("on purpose"));
    let fails = FakeSink::with_fate("fails", Duration::ZERO, || Err(SinkError::new("no route")));
    let options = Options { export_timeout: SECOND / 2, ..Options::new(SECOND) };
    let collector = rig.start(FakeSources::new(&[QUICK]), None, &[&hung, &panics, &fails], options);
    sleep(SECOND * 7 / 2).await;
    for sink in [&hung, &panics, &fails] {
        assert_eq!(sink.begun(), 3, "{}", sink.name);
    }
    rig.has_metric("heapster_exporter_failures_total{exporter=\"fails\"} 3");
    rig.has_metric("heapster_exporter_failures_total{exporter=\"panics\"} 3");
    collector.stop(StopLimits::default()).await;
}

#[tokio::test(start_paused = true)]
async fn a_store_that_refuses_a_batch_is_tried_again_and_a_broken_one_is_reported() {
    let rig = Rig::new();
    let full = FakeSink::with_fate("store", Duration::ZERO, || Err(SinkError::new("disk full")));
    let sources = FakeSources::new(&[QUICK]);
    let collector = rig.start(Arc::clone(&sources), Some(&full), &[], Options::new(SECOND));
    sleep(SECOND * 7 / 2).await;
    assert_eq!(full.begun(), 3);
    collector.stop(StopLimits::default()).await;

    let broken =
        FakeSink::with_fate("store", Duration::ZERO, || Err(SinkError::fatal("read-only")));
    let mut collector = rig.start(sources, Some(&broken), &[], Options::new(SECOND));
    assert_eq!(collector.failed().await.to_string(), "read-only");
    collector.stop(StopLimits::default()).await;
}

#[tokio::test(start_paused = true)]
async fn overlapping_rounds_reach_the_processors_in_order() {
    let rig = Rig::new();
    let sources = FakeSources::new(&[Behaviour::AnswersAfter(Duration::from_millis(850))]);
    let store = FakeSink::new("store", 2 * SECOND);
    let collector = rig.start(Arc::clone(&sources), Some(&store), &[], Options::new(SECOND));
    for round in 0..40 {
        // Every other scrape is quick and could overtake the one before it.
        let delay = Duration::from_millis(if round % 2 == 0 { 850 } else { 1 });
        *sources.sources.lock()[0].behaviour.lock() = Behaviour::AnswersAfter(delay);
        sleep(SECOND / 2).await;
    }
    collector.stop(StopLimits::default()).await;
    let seen = rig.seen.lock().clone();
    assert!(seen.len() >= 8, "{}", seen.len());
    assert!(is_rising(&seen), "{seen:?}");
}

#[tokio::test(start_paused = true)]
async fn clock_jumps_neither_replay_nor_stop_the_rounds() {
    let rig = Rig::new();
    let sink = FakeSink::new("sink", Duration::ZERO);
    let resolution = 10 * SECOND;
    let collector = rig.start(FakeSources::new(&[QUICK]), None, &[&sink], Options::new(resolution));
    let mut before = 0;
    for jump in [0, 3600, -3600, 315_360_000, -315_360_000 - 7200, -3] {
        rig.clock.jump(jump);
        sleep(40 * SECOND).await;
        let rounds = sink.done() - before;
        before = sink.done();
        assert!((3..=5).contains(&rounds), "after a jump by {jump} s: {rounds} rounds in 40 s");
    }
    collector.stop(StopLimits::default()).await;
}

#[tokio::test(start_paused = true)]
async fn a_stall_of_the_machine_is_not_made_up_for() {
    let rig = Rig::new();
    let sink = FakeSink::new("sink", Duration::ZERO);
    let collector =
        rig.start(FakeSources::new(&[QUICK]), None, &[&sink], Options::new(10 * SECOND));
    sleep(15 * SECOND).await;
    let before = sink.done();
    advance(600 * SECOND).await;
    sleep(4 * SECOND).await;
    assert!(sink.done() - before <= 1, "{} rounds at once", sink.done() - before);
    sleep(10 * SECOND).await;
    assert!(sink.done() - before >= 1);
    collector.stop(StopLimits::default()).await;
}
