//! A histogram of durations with a bounded relative error, after the idea of HdrHistogram.
//!
//! Buckets are linear within each power of two: 32 to a doubling, so a value read back is at most
//! 3.2 % above the value recorded. Below 32 ns they are exact, above 34 s everything falls into
//! the last one. Recording is one shift and one add on one cache line.
//!
//! Invariant: only the owner records; anyone reads, and may see a count one behind.

use std::sync::atomic::{AtomicU64, Ordering};

/// Buckets to a doubling, as a power of two.
const PRECISION_BITS: u32 = 5;
const LINEAR: usize = 1 << PRECISION_BITS;

/// Bits of the greatest duration that is told apart.
const VALUE_BITS: u32 = 35;
const BUCKETS: usize = (VALUE_BITS - PRECISION_BITS + 1) as usize * LINEAR;

/// Durations in nanoseconds, recorded by one thread.
#[derive(Debug)]
pub struct Histogram {
    buckets: Box<[AtomicU64]>,
}

impl Default for Histogram {
    fn default() -> Self {
        Histogram { buckets: (0..BUCKETS).map(|_| AtomicU64::new(0)).collect() }
    }
}

impl Histogram {
    /// Counts one duration. Called by the owner only.
    pub fn record(&self, nanos: u64) {
        let bucket = &self.buckets[bucket_of(nanos)];
        bucket.store(bucket.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
    }

    /// Adds what was recorded to `counts`.
    pub fn add_to(&self, counts: &mut Counts) {
        counts.buckets.resize(BUCKETS, 0);
        for (count, bucket) in counts.buckets.iter_mut().zip(&self.buckets) {
            *count += bucket.load(Ordering::Relaxed);
        }
    }
}

/// Counts of one histogram or of several together, at one moment.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Counts {
    buckets: Vec<u64>,
}

impl Counts {
    /// How many durations were recorded.
    pub fn total(&self) -> u64 {
        self.buckets.iter().sum()
    }

    /// The duration in nanoseconds which `percentile` per cent of the recorded ones do not
    /// exceed; 0 when there are none.
    pub fn percentile(&self, percentile: f64) -> u64 {
        let total = self.total();
        let rank = ((percentile / 100.0 * total as f64).ceil() as u64).clamp(1, total.max(1));
        let mut seen = 0;
        for (bucket, count) in self.buckets.iter().enumerate() {
            seen += count;
            if seen >= rank {
                return upper_bound(bucket);
            }
        }
        0
    }

    /// How many durations were at most `nanos`, up to the histogram's precision.
    pub fn at_most(&self, nanos: u64) -> u64 {
        self.buckets.iter().take(bucket_of(nanos) + 1).sum()
    }

    /// Takes away what `earlier` counted.
    pub fn subtract(&mut self, earlier: &Counts) {
        for (count, earlier) in self.buckets.iter_mut().zip(&earlier.buckets) {
            *count = count.saturating_sub(*earlier);
        }
    }
}

/// The bucket of a duration.
fn bucket_of(nanos: u64) -> usize {
    let nanos = nanos.min((1 << VALUE_BITS) - 1);
    if nanos < LINEAR as u64 {
        return nanos as usize;
    }
    let doubling = 63 - nanos.leading_zeros() - PRECISION_BITS;
    let within = (nanos >> doubling) as usize & (LINEAR - 1);
    (doubling as usize + 1) * LINEAR + within
}

/// The greatest duration that falls into a bucket.
fn upper_bound(bucket: usize) -> u64 {
    let (doubling, within) = (bucket / LINEAR, (bucket % LINEAR) as u64);
    match doubling {
        0 => within,
        _ => ((LINEAR as u64 + within + 1) << (doubling - 1)) - 1,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn counts(durations: &[u64]) -> Counts {
        let histogram = Histogram::default();
        durations.iter().for_each(|&nanos| histogram.record(nanos));
        let mut counts = Counts::default();
        histogram.add_to(&mut counts);
        counts
    }

    proptest! {
        #[test]
        fn a_bucket_holds_its_value_within_the_stated_error(nanos in 0u64..(1 << VALUE_BITS)) {
            let upper = upper_bound(bucket_of(nanos));
            prop_assert!(upper >= nanos);
            prop_assert!((upper - nanos) as f64 <= 0.032 * nanos as f64);
            prop_assert!(bucket_of(nanos) < BUCKETS);
        }

        #[test]
        fn percentiles_agree_with_the_sorted_list(mut durations in prop::collection::vec(0u64..1 << 30, 1..200), percentile in 0.1f64..100.0) {
            durations.sort_unstable();
            let rank = (percentile / 100.0 * durations.len() as f64).ceil().max(1.0) as usize;
            let exact = durations[rank - 1];
            let read = counts(&durations).percentile(percentile);
            prop_assert_eq!(read, upper_bound(bucket_of(exact)));
        }
    }

    #[test]
    fn buckets_rise_with_their_values() {
        let bounds: Vec<u64> = (0..BUCKETS).map(upper_bound).collect();
        assert!(bounds.is_sorted_by(|a, b| a < b));
        assert_eq!(bounds[BUCKETS - 1], (1 << VALUE_BITS) - 1);
    }

    #[test]
    fn nothing_recorded_is_zero() {
        assert_eq!(Counts::default().percentile(99.0), 0);
        assert_eq!(counts(&[]).percentile(50.0), 0);
    }

    #[test]
    fn durations_beyond_the_last_bucket_are_still_counted() {
        assert_eq!(counts(&[u64::MAX]).total(), 1);
    }

    #[test]
    fn earlier_counts_can_be_taken_away() {
        let mut later = counts(&[5, 5, 7]);
        later.subtract(&counts(&[5]));
        assert_eq!((later.total(), later.at_most(5), later.at_most(7)), (2, 1, 2));
    }
}
