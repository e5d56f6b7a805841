//! The ladder of tiers: which are valid, and how one that changed meets what is there.

use std::collections::BTreeSet;
use std::time::Duration;

use heapster_core::Timestamp;

use crate::error::{Error, Result};
use crate::manifest::Manifest;
use crate::options::TierOptions;
use crate::tier::TierState;

/// Tiers of a ladder.
const TIERS_MAX: usize = 8;
const DAY: Duration = Duration::from_secs(86_400);

/// Checks a ladder: resolutions from a second to a day that divide a day, each a multiple of the one
/// before it.
pub(crate) fn check(ladder: &[TierOptions]) -> Result<()> {
    let refused = |what: String| Err(Error::InvalidOptions { what: what.into() });
    if ladder.len() > TIERS_MAX {
        return refused(format!("{} tiers are more than {TIERS_MAX}", ladder.len()));
    }
    let mut before = Duration::ZERO;
    for TierOptions { resolution, .. } in ladder {
        let seconds = resolution.as_secs();
        let is_possible = seconds > 0 && resolution.subsec_nanos() == 0;
        if !is_possible || !DAY.as_secs().is_multiple_of(seconds) {
            return refused(format!(
                "a tier's resolution of {resolution:?} is not a part of a day in whole seconds"
            ));
        }
        let is_first = before.is_zero();
        if !is_first && (*resolution == before || !seconds.is_multiple_of(before.as_secs())) {
            return refused(format!(
                "a tier's resolution of {resolution:?} is no multiple of the {before:?} before it"
            ));
        }
        before = *resolution;
    }
    Ok(())
}

/// Gives each tier of a ladder its state; whether the manifest changed.
///
/// A tier is known by its resolution and keeps its number. One that is not in the ladder any more
/// stays with its segments: it still answers, but does not grow.
pub(crate) fn reconcile(manifest: &mut Manifest, ladder: &[TierOptions]) -> Result<bool> {
    let mut changed = false;
    for TierOptions { resolution, .. } in ladder {
        if manifest.tiers.iter().any(|state| state.resolution == *resolution) {
            continue;
        }
        let used: BTreeSet<u8> = manifest.tiers.iter().map(|state| state.tier).collect();
        let of_segments: BTreeSet<u8> = manifest.segments.iter().map(|info| info.tier).collect();
        let is_free = |tier: &u8| !used.contains(tier) && !of_segments.contains(tier);
        let Some(tier) = (1..=u8::MAX).find(is_free) else {
            return Err(Error::InvalidOptions { what: "there were too many tiers".into() });
        };
        manifest.tiers.push(TierState {
            tier,
            resolution: *resolution,
            complete_from: manifest.raw_from.unwrap_or(Timestamp::MIN),
            built_to: Timestamp::MIN,
            stale: Vec::new(),
        });
        changed = true;
    }
    manifest.tiers.sort_by_key(|state| state.tier);
    Ok(changed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::options::Retention;

    fn ladder(seconds: &[u64]) -> Vec<TierOptions> {
        let tier = |s: &u64| TierOptions {
            resolution: Duration::from_secs(*s),
            retention: Retention::Forever,
            retention_bytes: None,
        };
        seconds.iter().map(tier).collect()
    }

    #[test]
    fn a_ladder_rises_in_multiples_that_divide_a_day() {
        for good in [&[][..], &[1], &[300, 3600], &[60, 300, 3600, 86_400]] {
            check(&ladder(good)).unwrap();
        }
        let many: Vec<u64> = (0..9).map(|power| 1 << power).collect();
        for bad in [&[0][..], &[7], &[172_800], &[300, 300], &[3600, 300], &[90, 120], &many] {
            let error = check(&ladder(bad)).unwrap_err();
            assert!(matches!(error, Error::InvalidOptions { .. }), "{bad:?}");
        }
        let half = TierOptions { resolution: Duration::from_millis(1500), ..ladder(&[1])[0] };
        check(&[half]).unwrap_err();
    }

    #[test]
    fn a_tier_keeps_its_number_and_one_that_went_keeps_its_state() {
        let mut manifest = Manifest::default();
        assert!(reconcile(&mut manifest, &ladder(&[300, 3600])).unwrap());
        assert!(!reconcile(&mut manifest, &ladder(&[3600])).unwrap());
        assert!(reconcile(&mut manifest, &ladder(&[60, 3600])).unwrap());
        let numbers: Vec<_> =
            manifest.tiers.iter().map(|state| (state.tier, state.resolution.as_secs())).collect();
        assert_eq!(numbers, [(1, 300), (2, 3600), (3, 60)]);
    }
}
