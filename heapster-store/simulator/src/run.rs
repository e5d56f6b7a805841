//! [`run`]: carries a script out, and lets the machine die at every call of the file system on the way.
//!
//! The store runs on a file system in memory that remembers the moment of every call that changes
//! something. After each call of the store every such moment becomes an *image*: what the disk has
//! when the process or the machine dies there. A store is opened on it and compared with the model.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use heapster_core::{Matcher, MetricKind, Text, TimeRange, Timestamp, Value};
use heapster_store::vfs::Vfs;
use heapster_store::vfs::faulty::{Coin, Crash, FaultyVfs, Moment, Noise, PowerCut};
use heapster_store::{
    Ack, AppendReport, Error, ReaderOptions, Retention, Severity, Store, StoreOptions, StoreReader,
    backup, check,
};

use crate::aggregates;
use crate::clock::SimulatedClock;
use crate::contents::{
    Bits, COLUMNS, Contents, Key, column_kind, column_name, labels_of, read_back,
    read_what_is_left, row,
};
use crate::model::{Channel, Effect, Fate, Model, Position};
use crate::script::{Cells, End, Knobs, Life, Script, Step};

/// Where the store lies.
const DIR: &str = "/data/store";
/// Where its backup lies.
const BACKUP: &str = "/data/backup";
/// How often a recovery that is interrupted is interrupted again.
const NESTED_MAX: usize = 3;

/// Of a hundred images so many are damaged besides.
const DAMAGED_PERCENT: u32 = 6;

/// What a run did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Calls of the file system that changed something and that a crash was tried at.
    pub crash_points: u64,
    /// Images that were opened and compared, those of interrupted recoveries included.
    pub images: u64,
    /// Calls of the store.
    pub steps: u64,
    /// A digest of all that was found: the same for the same seed.
    pub digest: u64,
}

impl Tally {
    /// Adds another run.
    pub fn add(&mut self, other: &Self) {
        self.crash_points += other.crash_points;
        self.images += other.images;
        self.steps += other.steps;
        self.digest ^= other.digest;
    }
}

/// A broken promise.
#[derive(Clone, Debug)]
pub struct Failure {
    /// What is wrong.
    pub what: String,
    /// What was done until then.
    pub tally: Tally,
    /// The steps so far with their results; empty unless a trace was wanted.
    pub trace: Vec<String>,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.trace.iter().try_for_each(|line| writeln!(f, "  {line}"))?;
        write!(f, "{}", self.what)
    }
}

impl Failure {
    /// What kind of failure it is: its text without numbers.
    pub fn kind(&self) -> String {
        let text = self.what.rsplit("]: ").next().unwrap_or_default();
        let is_word = |c: &char| c.is_alphabetic() || *c == ' ';
        text.chars().take_while(|c| *c != ':').filter(is_word).take(40).collect()
    }
}

type Checked<T = ()> = Result<T, String>;

/// Carries a script out.
///
/// # Errors
/// The first promise that is broken.
pub fn run(script: &Script, has_trace: bool) -> Result<Tally, Failure> {
    let mut world = World::new(script, has_trace);
    match world.run(script) {
        Ok(()) => Ok(world.tally),
        Err(what) => Err(Failure { what, tally: world.tally, trace: world.trace }),
    }
}

struct World {
    knobs: Knobs,
    vfs: FaultyVfs,
    clock: Arc<SimulatedClock>,
    model: Model,
    coin: Coin,
    /// Copies of the store that a call said are complete.
    copies: Vec<StoreCopy>,
    /// What the backup holds, and what it is about to hold.
    backups: Vec<Contents>,
    /// Whether a backup was finished.
    has_backup: bool,
    /// Whether the disk has forgotten what a failed sync was to write.
    has_lied: bool,
    /// Faults before this life.
    faults_before: u64,
    /// Whether the disk had little room in this life.
    has_little_room: bool,
    /// Whether a step of maintenance failed that may have let samples go.
    is_expiry_unclear: bool,
    /// Whether everything that tiers were built of is still what it was then.
    are_tiers_whole: bool,
    tally: Tally,
    trace: Vec<String>,
    has_trace: bool,
}

struct StoreCopy {
    dir: PathBuf,
    contents: Contents,
}

impl World {
    fn new(script: &Script, has_trace: bool) -> Self {
        let vfs = FaultyVfs::new();
        vfs.seed_numbers(script.seed);
        Self {
            knobs: script.knobs.clone(),
            vfs,
            clock: Arc::default(),
            model: Model::default(),
            coin: Coin::new(script.seed),
            copies: Vec::new(),
            backups: Vec::new(),
            has_backup: false,
            has_lied: false,
            faults_before: 0,
            has_little_room: false,
            is_expiry_unclear: false,
            are_tiers_whole: script.keeps_tiers_whole(),
            tally: Tally::default(),
            trace: Vec::new(),
            has_trace,
        }
    }

    fn note(&mut self, line: impl FnOnce() -> String) {
        if self.has_trace {
            let line = format!("[{}] {}", self.vfs.changes(), line());
            self.trace.push(line);
        }
    }

    fn run(&mut self, script: &Script) -> Checked {
        self.note(|| format!("{:?}", script.knobs));
        for life in &script.lives {
            self.live(life)?;
        }
        self.vfs.remember_moments(false);
        self.open().map(drop)
    }

    /// Opens the store, takes the steps, and dies as the life says.
    fn live(&mut self, life: &Life) -> Checked {
        self.note(|| {
            let Life { failures, failed_sync, noise, end, .. } = life;
            format!("life: {failures:?} {failed_sync:?} {noise:?} {end:?}")
        });
        let first = self.vfs.changes();
        self.vfs.remember_moments(true);
        self.vfs.set_failed_sync(life.failed_sync);
        life.failures.iter().for_each(|(call, kind)| self.vfs.fail_at(first + call, *kind));
        (self.faults_before, self.has_little_room) = (self.vfs.faults(), false);
        if let End::CrashInside(call, _) = life.end {
            self.vfs.crash_at(first + call);
        }
        if self.has_lied {
            // The cache of a disk that has lied may not let go of what it shows.
            self.vfs.set_noise(Noise { kept_caches: 50, ..Noise::default() }, self.coin.number());
        }
        let store = match self.try_open() {
            Ok(store) => store,
            Err(error) => {
                self.examine_moments(self.model.position())?;
                self.excuse(&error)?;
                self.note(|| format!("not opened: {error}"));
                self.die(life.end);
                return Ok(());
            }
        };
        self.examine_moments(self.model.position())?;
        self.settle(&store)?;
        // What the disk forgot before is not shown any more.
        self.has_lied = false;
        self.vfs.set_noise(life.noise, self.coin.number());
        let mut is_poisoned = false;
        for step in &life.steps {
            if self.vfs.is_crashed() || self.model.is_vague() || self.is_expiry_unclear {
                break;
            }
            self.tally.steps += 1;
            let result = self.step(&store, step, life.noise);
            self.note(|| format!("{step:?} -> {result:?}"));
            result?;
            if is_poisoned && store.stats().poisoned_by.is_none() {
                return Err("the poison wore off".to_owned());
            }
            is_poisoned = store.stats().poisoned_by.is_some();
        }
        self.vfs.set_noise(Noise::default(), 0);
        self.vfs.set_capacity(None);
        if let End::Close = life.end {
            let result = store.close();
            self.examine_moments(self.model.position())?;
            match &result {
                Ok(()) => self.model.sync(),
                Err(error) => self.excuse(error)?,
            }
            self.note(|| format!("close -> {result:?}"));
        } else {
            drop(store);
        }
        self.die(life.end);
        Ok(())
    }

    /// Whether there is a reason for an error.
    ///
    /// # Errors
    /// There was no fault in this life.
    fn excuse(&self, error: &Error) -> Checked {
        let has_fault = self.vfs.is_crashed() || self.vfs.faults() > self.faults_before;
        match has_fault || self.has_little_room {
            true => Ok(()),
            false => Err(format!("refused without a fault: {error}")),
        }
    }

    fn die(&mut self, end: End) {
        self.is_expiry_unclear = false;
        self.has_lied |= self.vfs.take_forgotten();
        self.vfs.set_noise(Noise::default(), 0);
        self.vfs.set_capacity(None);
        match end {
            End::Crash(Crash::PowerCut(cut)) | End::CrashInside(_, Crash::PowerCut(cut)) => {
                self.vfs.cut_power(cut);
                // Whatever was only acknowledged may be gone, and a later look must not ask for it.
                self.model.forget_acknowledged();
            }
            End::Close | End::Crash(Crash::Kill(_)) | End::CrashInside(..) => self.vfs.restart(),
        }
    }

    fn options(&self, vfs: &FaultyVfs, clock: &Arc<SimulatedClock>) -> StoreOptions {
        let clock = Arc::clone(clock) as _;
        StoreOptions { vfs: Arc::new(vfs.clone()), clock, ..self.knobs.options() }
    }

    fn try_open(&self) -> Result<Store, Error> {
        Store::open(DIR, self.options(&self.vfs, &self.clock))
    }

    fn open(&mut self) -> Checked<Store> {
        let store = self.try_open().map_err(|error| format!("the store does not open: {error}"))?;
        self.settle(&store)?;
        Ok(store)
    }

    /// Compares a store that was just opened, and goes on from what it shows.
    fn settle(&mut self, store: &Store) -> Checked {
        let is_complete = store.open_report().is_complete();
        if !is_complete {
            return Err(format!("damage without damage: {:?}", store.open_report()));
        }
        let found = read_back(&store.snapshot())?;
        let position = self.model.position();
        let floor = if self.has_lied { position.synced } else { position.acknowledged };
        let matched = self.model.match_with(&found, position, floor)?;
        self.note(|| format!("opened with {} samples", found.len()));
        self.model.settle(found, matched);
        Ok(())
    }

    /// What the store must show now.
    fn check_live(&self, store: &Store) -> Checked<Contents> {
        let found = read_back(&store.snapshot())?;
        let position = self.model.position();
        self.model
            .match_with(&found, position, position.len)
            .map_err(|what| format!("[live]: {what}"))?;
        Ok(found)
    }

    fn now(&self) -> i64 {
        self.clock.millis()
    }

    fn step(&mut self, store: &Store, step: &Step, noise: Noise) -> Checked<String> {
        // Time passes with everything.
        self.clock.pass(1 + self.coin.below(2_000) as i64);
        let may_fail = noise.read_errors > 0;
        match step {
            Step::Append { after_ms, rows, ack, is_dense } => {
                self.append(store, moment(self.now(), *after_ms), rows, *ack, *is_dense)
            }
            Step::Import(batches) => self.import(store, batches),
            Step::Delete(set, from, to) => self.delete(store, *set, *from, *to),
            Step::Sync => self.syncing(|| store.sync()),
            Step::Flush => self.syncing(|| store.flush()),
            Step::CompactAll => self.syncing(|| store.compact_all()),
            Step::Maintain => self.maintain(store, may_fail),
            Step::Compact => self.call(|| store.compact()),
            Step::RollUp => {
                for _ in 0..500 {
                    let done = self.call(|| store.roll_up().map(|report| report.is_idle()))?;
                    if done != "false" {
                        return Ok(done);
                    }
                }
                Err("building tiers never ends".to_owned())
            }
            Step::SnapshotTo => self.snapshot_to(store),
            Step::Backup => self.back_up(store),
            Step::Refresh if may_fail => Ok("left out".to_owned()),
            Step::Refresh => {
                let found = read_as_another(&self.vfs, DIR)?;
                let position = self.model.position();
                // It sees what was written, but for what a failed sync took back.
                let floor = if self.has_lied { position.synced } else { position.len };
                let matched = self.model.match_with(&found, position, floor);
                matched.map_err(|what| format!("another process: {what}"))?;
                Ok(String::new())
            }
            Step::Check | Step::Read | Step::Aggregate if may_fail => Ok("left out".to_owned()),
            Step::Check => check_dir(&self.vfs).map(|()| String::new()),
            Step::Read => self.check_live(store).map(|found| format!("{} samples", found.len())),
            Step::Aggregate => {
                let found = self.check_live(store)?;
                let position = self.model.position();
                let matched = self.model.match_with(&found, position, position.len)?;
                let must_be_exact = self.are_tiers_whole;
                aggregates::check(store, &found, &matched.history, must_be_exact, &mut self.coin)?;
                Ok(String::new())
            }
            Step::Pass(millis) => {
                self.clock.pass(*millis);
                Ok(String::new())
            }
            Step::Jump(millis) => {
                self.clock.jump(*millis);
                Ok(String::new())
            }
            Step::Room(bytes) => {
                let used = self.vfs.used_bytes();
                self.has_little_room |= bytes.is_some();
                self.vfs.set_capacity(bytes.map(|bytes| used + bytes));
                Ok(String::new())
            }
        }
    }

    /// A call that changes no contents.
    fn call<T: fmt::Debug>(&mut self, call: impl FnOnce() -> Result<T, Error>) -> Checked<String> {
        let result = call();
        self.examine_moments(self.model.position())?;
        result.as_ref().map_or_else(|error| self.excuse(error), |_| Ok(()))?;
        Ok(print(&result))
    }

    /// A call after which everything is on the disk.
    fn syncing<T: fmt::Debug>(
        &mut self,
        call: impl FnOnce() -> Result<T, Error>,
    ) -> Checked<String> {
        let result = call();
        self.examine_moments(self.model.position())?;
        match &result {
            Ok(_) => self.model.sync(),
            Err(error) => self.excuse(error)?,
        }
        Ok(print(&result))
    }

    fn append(
        &mut self,
        store: &Store,
        at: i64,
        rows: &[Cells],
        ack: Ack,
        is_dense: bool,
    ) -> Checked<String> {
        let cells = cells_of(at, rows);
        let samples = cells.len() as u64;
        let was_poisoned = store.stats().poisoned_by.is_some();
        self.model.begin(Channel::Log, Effect::Write(cells));
        let at = Timestamp::from_millis(at);
        let result = match is_dense {
            true => append_dense(store, at, rows, ack),
            false => {
                let rows: Vec<_> = rows.iter().map(|(set, cells)| row(*set, cells)).collect();
                store.append_rows(at, &rows, ack)
            }
        };
        self.examine_moments(self.model.position())?;
        match &result {
            Ok(_) if was_poisoned => return Err("acknowledged after a failed sync".to_owned()),
            Ok(report) if report.rejected.total() == samples => self.model.end_without_effect(),
            Ok(report) if report.rejected.total() > 0 => {
                return Err(format!("a part of a batch was refused: {report:?}"));
            }
            Ok(_) => {
                self.model.end(Fate::Done);
                match ack {
                    Ack::Durable => self.model.sync(),
                    Ack::Buffered => self.model.acknowledge(),
                    Ack::Memory => {}
                }
            }
            Err(error) => {
                self.excuse(error)?;
                self.model.end(Fate::Uncertain);
            }
        }
        Ok(print(&result.map(|report| report.accepted)))
    }

    fn import(&mut self, store: &Store, batches: &[(i64, Vec<Cells>)]) -> Checked<String> {
        let now = self.now();
        let oldest = match self.knobs.retention {
            Retention::Age(age) => now - age.as_millis() as i64,
            Retention::Forever => i64::MIN,
        };
        let taken = batches.iter().filter(|(after_ms, _)| moment(now, *after_ms) >= oldest);
        let cells =
            taken.flat_map(|(after_ms, rows)| cells_of(moment(now, *after_ms), rows)).collect();
        self.model.begin(Channel::Manifest, Effect::Write(cells));
        let import = || {
            let mut import = store.import();
            for (after_ms, rows) in batches {
                let rows: Vec<_> = rows.iter().map(|(set, cells)| row(*set, cells)).collect();
                import.push_rows(Timestamp::from_millis(moment(now, *after_ms)), &rows)?;
            }
            import.finish()
        };
        let result = import();
        self.examine_moments(self.model.position())?;
        self.model.end(if result.is_ok() { Fate::Done } else { Fate::Uncertain });
        result.as_ref().map_or_else(|error| self.excuse(error), |_| Ok(()))?;
        Ok(print(&result))
    }

    fn delete(&mut self, store: &Store, set: Option<u8>, from: i64, to: i64) -> Checked<String> {
        let (from, to) = (self.now() + from, self.now() + to);
        self.model.begin(Channel::Manifest, Effect::Delete(set, from, to));
        let matcher = match set {
            Some(set) => Matcher::equal("pod_name", format!("pod-{set:02}")),
            None => Matcher::regex("type", ".*").map_err(|error| error.to_string())?,
        };
        let range = TimeRange::new(Timestamp::from_millis(from), Timestamp::from_millis(to));
        let result = store.delete(&[matcher], range);
        self.examine_moments(self.model.position())?;
        self.model.end(if result.is_ok() { Fate::Done } else { Fate::Uncertain });
        result.as_ref().map_or_else(|error| self.excuse(error), |_| Ok(()))?;
        Ok(print(&result))
    }

    fn maintain(&mut self, store: &Store, may_misread: bool) -> Checked<String> {
        let bound = match (self.knobs.retention_bytes, self.knobs.retention) {
            (Some(_), _) => Some(i64::MAX),
            // Nothing goes on the word of a clock that was set within a day.
            (_, Retention::Age(_)) if self.clock.has_jumped() => None,
            (_, Retention::Age(age)) => Some(self.now() - age.as_millis() as i64),
            _ => None,
        };
        let before = self.model.position().expiring_before;
        self.model.expire_before(bound.max(before));
        let result = store.maintain();
        self.examine_moments(self.model.position())?;
        let report = match &result {
            Ok(report) => report,
            Err(error) => {
                self.excuse(error)?;
                self.is_expiry_unclear = bound.is_some();
                return Ok(print(&result));
            }
        };
        self.model.sync();
        if report.expired_segments == 0 && before.is_none() {
            self.model.expire_before(None);
            if bound.is_some() && !may_misread {
                self.check_live(store)?;
            }
        } else if before.is_some() || self.model.uncertain() > 0 || may_misread {
            self.is_expiry_unclear = true;
        } else {
            let found = self.check_live(store)?;
            let gone = self.model.current();
            let gone = gone.into_keys().filter(|key| !found.contains_key(key)).collect();
            self.model.begin(Channel::Manifest, Effect::Expire(gone));
            self.model.end(Fate::Done);
            self.model.expire_before(None);
        }
        Ok(print(&result))
    }

    fn snapshot_to(&mut self, store: &Store) -> Checked<String> {
        let dir = PathBuf::from(format!("/data/copy-{}", self.vfs.changes()));
        let expected = self.model.uncertain() == 0;
        let result = store.snapshot_to(&dir);
        self.examine_moments(self.model.position())?;
        if let Err(error) = &result {
            self.excuse(error)?;
        } else {
            self.model.sync();
            if expected && self.model.position().expiring_before.is_none() {
                let contents = self.model.current();
                self.copies.push(StoreCopy { dir, contents });
            }
        }
        Ok(print(&result.map(|report| report.bytes)))
    }

    fn back_up(&mut self, _store: &Store) -> Checked<String> {
        if self.model.uncertain() > 0 || self.model.position().expiring_before.is_some() {
            return Ok("left out".to_owned());
        }
        self.backups.push(self.model.current());
        let vfs: Arc<dyn Vfs> = Arc::new(self.vfs.clone());
        let result = backup(&vfs, DIR, BACKUP, &mut |_| {});
        self.examine_moments(self.model.position())?;
        if let Err(error) = &result {
            self.excuse(error)?;
        } else {
            self.backups.drain(..self.backups.len() - 1);
            self.has_backup = true;
        }
        Ok(print(&result.map(|report| report.bytes)))
    }

    /// Lets the machine die at each call of the file system since the last time.
    fn examine_moments(&mut self, position: Position) -> Checked {
        self.has_lied |= self.vfs.take_forgotten();
        for moment in self.vfs.take_moments() {
            self.tally.crash_points += 1;
            let seed = self.coin.number();
            let result = self.examine(&moment, position, &mut Coin::new(seed));
            if let Err(what) = result {
                self.note(|| format!("at {moment:?} with {position:?}, {seed:#x}"));
                return Err(format!("call {}: {what}", moment.number));
            }
        }
        Ok(())
    }

    /// A disk that breaks after the crash: what is found must be told, or be as if nothing had been.
    fn examine_damage(&self, vfs: &FaultyVfs, coin: &mut Coin) -> Checked {
        let clock = Arc::new(self.clock.fork());
        // Until it was opened once, there may be one copy of the manifest alone. What it shows then is
        // on the disk.
        let look = || {
            let store = Store::open(DIR, self.options(vfs, &clock));
            let store = store.map_err(|error| format!("[before damage]: {error}"))?;
            let seen = (read_back(&store.snapshot())?, store.open_report().torn_bytes);
            drop(store);
            vfs.restart();
            Ok::<_, String>(seen)
        };
        // The first opening removes logs that have nothing but torn bytes.
        look()?;
        let (before, torn_before) = look()?;
        let is_ours =
            |(path, bytes): &(PathBuf, Vec<u8>)| path.starts_with(DIR) && !bytes.is_empty();
        let files: Vec<_> = vfs.files().into_iter().filter(is_ours).collect();
        let Some((path, bytes)) = files.get(coin.below(files.len())) else { return Ok(()) };
        let damage = Damage::draw(coin, bytes);
        vfs.damage(path, |bytes| damage.apply(bytes)).map_err(|error| error.to_string())?;
        let in_context = |what: String| format!("[{damage:?} of {}]: {what}", path.display());
        let store = Store::open(DIR, self.options(vfs, &clock))
            .map_err(|error| in_context(format!("it does not open: {error}")))?;
        let (found, has_errors) = read_what_is_left(&store.snapshot()).map_err(in_context)?;
        let report = store.open_report();
        let is_told = has_errors || !report.is_complete() || report.torn_bytes > torn_before;
        if let Some(key) = found.iter().find(|(key, value)| !self.model.ever_had(key, **value)) {
            return Err(in_context(format!("invented: {key:?}")));
        }
        // Of the newest log with batches nobody knows where it should end, of the oldest whether it
        // had any.
        let logs: Vec<_> = files.iter().filter(|(_, bytes)| has_batches(bytes)).collect();
        let is_edge = |of: Option<&&(PathBuf, Vec<u8>)>| of.is_some_and(|(edge, _)| edge == path);
        let is_ambiguous =
            matches!(damage, Damage::Cut(_)) && (is_edge(logs.first()) || is_edge(logs.last()));
        if !is_told && !is_ambiguous {
            same(&before, &found, "damage is not told").map_err(in_context)?;
        }
        Ok(())
    }

    fn examine(&mut self, moment: &Moment, position: Position, coin: &mut Coin) -> Checked {
        let mut crash = draw_crash(coin);
        let mut crashes = vec![crash];
        let mut vfs = moment.after(crash);
        let clock = Arc::new(self.clock.fork());
        let mut nested = 0;
        // Recovery may die as well.
        while nested < NESTED_MAX && coin.percent(25) {
            self.prepare(&vfs, coin);
            vfs.remember_moments(true);
            let opened = Store::open(DIR, self.options(&vfs, &clock));
            drop(opened.map_err(|error| format!("{crashes:?}: it does not open: {error}"))?);
            let moments = vfs.take_moments();
            let Some(moment) = moments.get(coin.below(moments.len())) else { break };
            crash = draw_crash(coin);
            crashes.push(crash);
            vfs = moment.after(crash);
            nested += 1;
            self.tally.images += 1;
        }
        self.tally.images += 1;
        self.prepare(&vfs, coin);
        if coin.percent(DAMAGED_PERCENT) {
            return self.examine_damage(&vfs, coin);
        }
        let is_kill = crashes.iter().all(|crash| matches!(crash, Crash::Kill(_)));
        let floor = match is_kill && !self.has_lied {
            true => position.acknowledged,
            false => position.synced,
        };
        let in_context = |what: String| format!("{crashes:?}: {what}");
        self.examine_image(&vfs, &clock, position, floor, coin).map_err(in_context)
    }

    fn prepare(&self, vfs: &FaultyVfs, coin: &mut Coin) {
        vfs.seed_numbers(coin.number());
        if self.has_lied {
            vfs.set_noise(Noise { kept_caches: 50, ..Noise::default() }, coin.number());
        }
    }

    fn examine_image(
        &mut self,
        vfs: &FaultyVfs,
        clock: &Arc<SimulatedClock>,
        position: Position,
        floor: usize,
        coin: &mut Coin,
    ) -> Checked {
        let open = || {
            let opened = Store::open(DIR, self.options(vfs, clock));
            opened.map_err(|error| format!("it does not open: {error}"))
        };
        let store = open()?;
        if !store.open_report().is_complete() {
            return Err(format!("damage without damage: {:?}", store.open_report()));
        }
        let found = read_back(&store.snapshot())?;
        let matched = self.model.match_with(&found, position, floor)?;
        let mut digest = 0;
        for (key, value) in &found {
            digest = mix(digest, key, *value);
        }
        match coin.below(16) {
            0 => {
                drop(store);
                vfs.restart();
                same(&found, &read_back(&open()?.snapshot())?, "opened twice")?;
            }
            1 | 2 => {
                drop(store);
                // What an open store shows is on the disk.
                vfs.cut_power(draw_cut(coin));
                same(&found, &read_back(&open()?.snapshot())?, "opened, and a power cut")?;
            }
            3 | 4 => {
                let is_taken = goes_on(&store, clock)?;
                drop(store);
                vfs.cut_power(draw_cut(coin));
                let mut later = read_back(&open()?.snapshot())?;
                if is_taken && !later.keys().any(is_of_going_on) {
                    return Err("it does not go on: what was appended is lost".to_owned());
                }
                later.retain(|key, _| !is_of_going_on(key));
                same(&found, &later, "gone on")?;
            }
            5 => check_dir(vfs)?,
            6 => same(&found, &read_as_another(vfs, DIR)?, "seen by another process")?,
            // Of what may be past its time nobody knows whether an uncertain call had written it.
            7 if !self.knobs.tiers.is_empty()
                && (position.expiring_before.is_none() || self.model.uncertain() == 0) =>
            {
                aggregates::check(&store, &found, &matched.history, self.are_tiers_whole, coin)?;
            }
            8 | 10..=12 => self.examine_copies(vfs)?,
            9 => {
                let wrong = store.verify();
                if !wrong.is_empty() {
                    return Err(format!("a segment is wrong: {wrong:?}"));
                }
            }
            _ => {}
        }
        self.tally.digest = self.tally.digest.rotate_left(5) ^ digest;
        Ok(())
    }

    fn examine_copies(&self, vfs: &FaultyVfs) -> Checked {
        for copy in &self.copies {
            let found = read_as_another(vfs, &copy.dir)?;
            same(&copy.contents, &found, "a snapshot")?;
        }
        let Some(newest) = self.backups.last() else { return Ok(()) };
        let options = ReaderOptions { vfs: Arc::new(vfs.clone()) };
        match StoreReader::open(BACKUP, options) {
            Ok(reader) => {
                let found = read_back(&reader.snapshot())?;
                // One that was not finished may lie between one of before and its own.
                let unfinished_since = &self.backups[..self.backups.len() - 1];
                let is_old = |old: &Contents| self.is_between(old, &found, newest);
                match unfinished_since.iter().any(is_old) {
                    true => Ok(()),
                    false => same(newest, &found, "a backup"),
                }
            }
            // The first one is not finished.
            Err(Error::NotAStore { .. } | Error::Io { .. }) if !self.has_backup => Ok(()),
            Err(error) => Err(format!("the backup does not open: {error}")),
        }
    }

    /// Whether contents are those of a moment between two others, as far as these tell.
    fn is_between(&self, old: &Contents, found: &Contents, new: &Contents) -> bool {
        let is_known = |(key, value): (&Key, &Bits)| self.model.ever_had(key, *value);
        let is_kept = |key: &Key| !new.contains_key(key) || found.contains_key(key);
        found.iter().all(is_known) && old.keys().all(is_kept)
    }
}

fn print<T: fmt::Debug>(result: &Result<T, Error>) -> String {
    match result {
        Ok(value) => format!("{value:?}"),
        Err(error) => format!("error: {error}"),
    }
}

/// Where the records of a log file begin: `docs/format/wal.md`.
fn records_in(bytes: &[u8]) -> Vec<usize> {
    let magic = [0xb5, b'R', b'e', 0xc1];
    let is_one = |(at, window): (usize, &[u8])| (window == magic).then_some(at);
    bytes.windows(magic.len()).enumerate().filter_map(is_one).collect()
}

/// Whether a file is a log with a batch: a mark begins with a zero.
fn has_batches(bytes: &[u8]) -> bool {
    const HEADER_BYTES: usize = 12;
    records_in(bytes).iter().any(|at| bytes.get(at + HEADER_BYTES).is_some_and(|first| *first > 0))
}

/// What happens to the bytes of a file that lies on a disk that breaks.
#[derive(Clone, Copy, Debug)]
enum Damage {
    Flip(usize, u8),
    Zeros(usize, usize),
    Cut(usize),
    /// Bytes of one place are written to another.
    Misplaced(usize, usize, usize),
}

impl Damage {
    fn draw(coin: &mut Coin, bytes: &[u8]) -> Self {
        let len = bytes.len();
        let records = records_in(bytes);
        let sector = |coin: &mut Coin| coin.below(len) / 512 * 512;
        match coin.below(8) {
            0 => Self::Zeros(sector(coin), 512),
            1 => Self::Cut(coin.below(len)),
            2 if records.len() > 1 => {
                // A whole record in the place of another, as a disk does that writes to the wrong
                // place or keeps what was there before.
                let (from, to) = (coin.below(records.len()), coin.below(records.len()));
                let end = records.get(from + 1).copied().unwrap_or(len);
                Self::Misplaced(records[from], records[to], end - records[from])
            }
            2 => Self::Misplaced(sector(coin), sector(coin), 512),
            3 => Self::Misplaced(coin.below(len), coin.below(len), 1 + coin.below(200)),
            _ => Self::Flip(coin.below(len), 1 << coin.below(8)),
        }
    }

    fn apply(self, bytes: &mut Vec<u8>) {
        match self {
            Self::Flip(at, mask) => {
                bytes.iter_mut().skip(at).take(1).for_each(|byte| *byte ^= mask);
            }
            Self::Zeros(at, len) => bytes.iter_mut().skip(at).take(len).for_each(|byte| *byte = 0),
            Self::Cut(len) => bytes.truncate(len),
            Self::Misplaced(from, to, len) => {
                let moved: Vec<u8> = bytes.iter().skip(from).take(len).copied().collect();
                bytes.iter_mut().skip(to).zip(moved).for_each(|(byte, other)| *byte = other);
            }
        }
    }
}

fn draw_crash(coin: &mut Coin) -> Crash {
    match coin.percent(25) {
        true => Crash::Kill(coin.number()),
        false => Crash::PowerCut(draw_cut(coin)),
    }
}

fn draw_cut(coin: &mut Coin) -> PowerCut {
    match coin.percent(20) {
        true => PowerCut::DropUnsynced,
        false => PowerCut::Torn(coin.number()),
    }
}

/// Milliseconds after now; what is old comes at few moments, so that samples meet others of the same.
fn moment(now: i64, after_ms: i64) -> i64 {
    const GRID: i64 = 600_000;
    let at = now + after_ms;
    if after_ms < -10_000 { at.div_euclid(GRID) * GRID } else { at }
}

fn cells_of(at: i64, rows: &[Cells]) -> Vec<(Key, Bits)> {
    let cell = |set: u8, (column, value): &(u8, Value)| ((set, *column, at), (*value).into());
    rows.iter().flat_map(|(set, cells)| cells.iter().map(move |one| cell(*set, one))).collect()
}

fn append_dense(
    store: &Store,
    at: Timestamp,
    rows: &[Cells],
    ack: Ack,
) -> Result<AppendReport, Error> {
    let columns: Vec<(Text, MetricKind)> =
        (0..COLUMNS).map(|column| (column_name(column).into(), column_kind(column))).collect();
    let mut dense = Vec::new();
    for (set, cells) in rows {
        let mut values = vec![None; columns.len()];
        cells.iter().for_each(|(column, value)| values[usize::from(*column)] = Some(*value));
        dense.push((store.register(&labels_of(*set), &columns)?, values));
    }
    store.append_dense(at, dense.iter().map(|(handle, values)| (handle, &**values)), ack)
}

fn read_as_another(vfs: &FaultyVfs, dir: impl AsRef<Path>) -> Checked<Contents> {
    let options = ReaderOptions { vfs: Arc::new(vfs.clone()) };
    let reader = StoreReader::open(&dir, options);
    let dir = dir.as_ref().display();
    read_back(&reader.map_err(|error| format!("{dir} does not open: {error}"))?.snapshot())
}

fn check_dir(vfs: &FaultyVfs) -> Checked {
    let vfs: Arc<dyn Vfs> = Arc::new(vfs.clone());
    let report = check(&vfs, DIR, &mut |_| {}).map_err(|error| format!("check: {error}"))?;
    match report.worst() {
        Some(Severity::Damage) => Err(format!("check finds damage: {report:?}")),
        _ => Ok(()),
    }
}

fn same(expected: &Contents, found: &Contents, what: &str) -> Checked {
    if expected == found {
        return Ok(());
    }
    let mut keys = expected.keys().chain(found.keys());
    let key = keys.find(|key| expected.get(*key) != found.get(*key));
    let value = |of: &Contents| key.and_then(|key| of.get(key).copied());
    Err(format!("{what}: {key:?} is {:?} instead of {:?}", value(found), value(expected)))
}

/// A set that no script writes to.
const GOING_ON: u8 = 90;

fn is_of_going_on(key: &Key) -> bool {
    key.0 == GOING_ON
}

/// Appends a row that must survive; whether the store took it.
fn goes_on(store: &Store, clock: &SimulatedClock) -> Checked<bool> {
    let at = Timestamp::from_millis(clock.millis());
    let row = row(GOING_ON, &[(0, Value::Int(1))]);
    let report = store.append_rows(at, [&row], Ack::Durable);
    let report = report.map_err(|error| format!("it does not go on: {error}"))?;
    // A clock that was set back has made it late.
    Ok(report.accepted == 1)
}

fn mix(digest: u64, key: &Key, value: Bits) -> u64 {
    let bits = match value {
        Bits::Int(value) => value as u64,
        Bits::Float(bits) => !bits,
    };
    let place = u64::from(key.0) << 56 ^ u64::from(key.1) << 48 ^ key.2 as u64;
    (digest ^ place).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(23) ^ bits
}
