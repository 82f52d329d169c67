//! The latency monitor: events that took at least `latency-monitor-threshold` milliseconds, by kind.
//!
//! Of each kind the last 160 are kept, one for each second, the longest of it, as in Redis.
#![forbid(unsafe_code)]

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Mutex, MutexGuard, PoisonError},
};

/// Samples of one kind of event.
const SAMPLES_MAX: usize = 160;

/// What one kind of event took.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Series {
    /// Seconds since the Unix epoch with the longest time of that second, in milliseconds; oldest
    /// first.
    pub samples: VecDeque<(i64, i64)>,
    /// The longest time ever, in milliseconds.
    pub longest_ms: i64,
}

/// Events by kind, for all workers.
#[derive(Debug, Default)]
pub struct LatencyMonitor(Mutex<BTreeMap<&'static str, Series>>);

impl LatencyMonitor {
    /// Enters an event of `kind`.
    pub fn add(&self, kind: &'static str, now_us: i64, took_ms: i64) {
        let mut events = self.lock();
        let series = events.entry(kind).or_default();
        series.longest_ms = series.longest_ms.max(took_ms);
        let second = now_us / 1_000_000;
        match series.samples.back_mut() {
            Some((last, longest)) if *last == second => *longest = took_ms.max(*longest),
            _ => {
                if series.samples.len() == SAMPLES_MAX {
                    series.samples.pop_front();
                }
                series.samples.push_back((second, took_ms));
            }
        }
    }

    /// All kinds that have events.
    pub fn events(&self) -> Vec<(&'static str, Series)> {
        self.lock().iter().map(|(kind, series)| (*kind, series.clone())).collect()
    }

    /// One kind's events.
    pub fn event(&self, kind: &[u8]) -> Option<Series> {
        self.lock().iter().find(|(known, _)| known.as_bytes() == kind).map(|(_, s)| s.clone())
    }

    /// Forgets one kind, or all; answers how many were forgotten.
    pub fn forget(&self, kind: Option<&[u8]>) -> usize {
        let mut events = self.lock();
        let before = events.len();
        events.retain(|known, _| kind.is_some_and(|kind| known.as_bytes() != kind));
        before - events.len()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<&'static str, Series>> {
        // Each critical section leaves the map whole.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_second_keeps_its_longest() {
        let monitor = LatencyMonitor::default();
        for (now_us, took_ms) in [(1_000_000, 5), (1_900_000, 9), (1_950_000, 7), (2_000_000, 6)] {
            monitor.add("command", now_us, took_ms);
        }
        let series = monitor.event(b"command").unwrap();
        assert_eq!(series.samples, [(1, 9), (2, 6)]);
        assert_eq!(series.longest_ms, 9);
    }

    #[test]
    fn the_past_is_bounded() {
        let monitor = LatencyMonitor::default();
        for second in 0..1_000 {
            monitor.add("command", second * 1_000_000, 1);
        }
        let series = monitor.event(b"command").unwrap();
        assert_eq!(series.samples.len(), SAMPLES_MAX);
        assert_eq!(series.samples[0].0, 1_000 - SAMPLES_MAX as i64);
    }

    #[test]
    fn kinds_are_forgotten_one_by_one_or_together() {
        let monitor = LatencyMonitor::default();
        for kind in ["a", "b", "c"] {
            monitor.add(kind, 0, 1);
        }
        assert_eq!(monitor.forget(Some(b"b")), 1);
        assert_eq!(monitor.forget(Some(b"none")), 0);
        assert_eq!(monitor.events().len(), 2);
        assert_eq!(monitor.forget(None), 2);
    }
}
