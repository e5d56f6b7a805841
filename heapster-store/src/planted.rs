//! Bugs on purpose: each takes one safeguard of the store away, so that the simulator can show that
//! it would notice. Without the feature `planted-bugs` there are none, and release builds refuse it.

#[cfg(all(feature = "planted-bugs", not(debug_assertions)))]
compile_error!("planted-bugs is for the simulator; a store with it must not be released");

/// Declares the bugs with their names and what they do.
macro_rules! bugs {
    ($($(#[doc = $what:literal])+ $name:ident,)+) => {
        /// A safeguard that is taken away.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Bug {
            $($(#[doc = $what])+ $name,)+
        }

        #[cfg(feature = "planted-bugs")]
        impl Bug {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$name,)+];

            /// What it does.
            pub fn what(self) -> &'static str {
                match self {
                    $(Self::$name => concat!($($what,)+).trim(),)+
                }
            }
        }
    };
}

bugs! {
    /// A durable append returns before the log is synced.
    DurableWithoutSync,
    /// The name of a new log file is not made durable.
    WalDirNotSynced,
    /// The header of a new log file is not synced before its records.
    WalHeaderNotSynced,
    /// A segment is not synced before the manifest names it.
    SegmentNotSynced,
    /// The name of a segment is not made durable before the manifest has it.
    SegmentDirNotSynced,
    /// The manifest is renamed before it is synced.
    ManifestNotSynced,
    /// The rename of the manifest is not made durable before the log goes.
    ManifestDirNotSynced,
    /// When the store is opened, files go that a manifest does not name whose own name is not durable.
    ManifestNotSettled,
    /// The directories above a new store are not made durable.
    PathNotSynced,
    /// The manifest is written over the one before.
    ManifestInPlace,
    /// The manifest is not checked against its checksum.
    ManifestUnchecked,
    /// The log goes before the manifest names the segment.
    WalRemovedFirst,
    /// The inputs of a merge go before the manifest names its output.
    InputsRemovedFirst,
    /// Records of the log are not checked against their checksums.
    RecordsUnchecked,
    /// Row groups are not checked against their checksums.
    RowGroupsUnchecked,
    /// The sections of a segment are not checked against their checksums.
    SectionsUnchecked,
    /// A failed sync does not end writing.
    PoisonIgnored,
    /// A failed sync is tried again, and believed.
    SyncRetried,
    /// What a failed append left in the log is not cut off.
    DebrisKept,
    /// Records behind a hole in what was not synced are taken.
    HoleAccepted,
    /// The log is read from the cache when the store is opened, and left there. Dropping the cache
    /// alone guards nothing that writing the tail again does not; it shows sooner what is gone.
    CacheTrusted,
    /// What was read of the log when the store was opened is not written to the disk again.
    TailNotRelogged,
    /// Of two values of one moment the older one wins in a flush.
    OlderWins,
    /// Deletions are forgotten before the merge that leaves the samples out.
    TombstonesForgotten,
    /// Samples in memory are not flushed before a deletion.
    DeletionSkipsHead,
    /// Retention believes every reading of the clock.
    ClockBelieved,
    /// Retention does not wait for the tiers.
    TiersNotAwaited,
    /// Aggregates of a range that has changed are not built again.
    TierNotStale,
    /// That logs of an earlier backup are gone is not made durable.
    OldLogsComeBack,
    /// A copy of the store names segments that are not synced.
    CopyNotSynced,
}

#[cfg(feature = "planted-bugs")]
static PLANTED: std::sync::atomic::AtomicU8 = std::sync::atomic::AtomicU8::new(0);

/// Plants a bug into every store of this process, instead of the one before.
#[cfg(feature = "planted-bugs")]
pub fn plant(bug: Option<Bug>) {
    let number = bug.map_or(0, |bug| bug as u8 + 1);
    PLANTED.store(number, std::sync::atomic::Ordering::SeqCst);
}

/// Whether the bug is there.
#[cfg(feature = "planted-bugs")]
pub(crate) fn has(bug: Bug) -> bool {
    PLANTED.load(std::sync::atomic::Ordering::Relaxed) == bug as u8 + 1
}

/// Whether the bug is there: never in what is released.
#[cfg(not(feature = "planted-bugs"))]
pub(crate) const fn has(_: Bug) -> bool {
    false
}
