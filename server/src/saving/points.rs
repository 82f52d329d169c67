//! Save points: when to save by itself.
#![forbid(unsafe_code)]

use super::Record;

/// Seconds after a failed save before the next is tried by itself.
const RETRY_AFTER_S: u64 = 5;

/// Whether a save is due: `points` are pairs of seconds and changes, one of which must be reached
/// since the last save.
pub fn is_due(points: &[(u64, u64)], record: &Record, changes: u64, now_s: u64) -> bool {
    let since_save_s = now_s.saturating_sub(record.saved_at_s);
    let may_try = record.is_ok || now_s.saturating_sub(record.tried_at_s) > RETRY_AFTER_S;
    let changed = changes.saturating_sub(record.changes_saved);
    let reached = |&(seconds, changes): &(u64, u64)| changed >= changes && since_save_s > seconds;
    may_try && points.iter().any(reached)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(is_ok: bool) -> Record {
        Record { saved_at_s: 1_000, tried_at_s: 2_000, changes_saved: 50, is_ok, ..Record::new(0) }
    }

    #[test]
    fn a_point_wants_both_its_time_and_its_changes() {
        let points = [(3_600, 1), (60, 100)];
        for (changes, now_s, due) in [
            (50, 9_999, false),
            (51, 4_600, false),
            (51, 4_601, true),
            (149, 1_061, false),
            (150, 1_060, false),
            (150, 1_061, true),
        ] {
            assert_eq!(is_due(&points, &record(true), changes, now_s), due, "{changes} {now_s}");
        }
        assert!(!is_due(&[], &record(true), 10_000, 99_999));
    }

    #[test]
    fn after_a_failure_there_is_a_rest() {
        let points = [(1, 1)];
        assert!(!is_due(&points, &record(false), 60, 2_005));
        assert!(is_due(&points, &record(false), 60, 2_006));
    }
}
