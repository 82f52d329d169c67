//! Rates "per second, right now": 16 samples of a counter about 100 ms apart, as Redis takes them.
//!
//! The owner samples from its timer while there is traffic; an idle server need not wake up for
//! it, because old samples are passed over when a rate is read.

use std::collections::VecDeque;

/// How many samples span the rate.
const SAMPLES: usize = 16;

/// Milliseconds between samples.
pub const SAMPLE_PERIOD_MS: u64 = 100;

/// Samples older than this no longer describe "now".
const AGE_MAX_MS: u64 = 2 * SAMPLES as u64 * SAMPLE_PERIOD_MS;

/// The recent past of one counter.
#[derive(Debug, Default)]
pub(super) struct Sampler {
    samples: VecDeque<(u64, u64)>,
}

impl Sampler {
    /// Notes the counter's value at `now_ms`, unless the last sample is too recent.
    pub(super) fn sample(&mut self, now_ms: u64, value: u64) {
        let due =
            self.samples.back().is_none_or(|&(last_ms, _)| now_ms >= last_ms + SAMPLE_PERIOD_MS);
        if !due {
            return;
        }
        if self.samples.len() == SAMPLES {
            self.samples.pop_front();
        }
        self.samples.push_back((now_ms, value));
    }

    /// Growth per second between the oldest sample that still counts and now.
    pub(super) fn per_second(&self, now_ms: u64, value: u64) -> f64 {
        let recent = |&&(at_ms, _): &&(u64, u64)| at_ms + AGE_MAX_MS >= now_ms && at_ms < now_ms;
        match self.samples.iter().find(recent) {
            Some(&(at_ms, before)) => {
                value.saturating_sub(before) as f64 * 1000.0 / (now_ms - at_ms) as f64
            }
            None => 0.0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_steady_rate_is_read_back() {
        let mut sampler = Sampler::default();
        for step in 0..100 {
            sampler.sample(step * 100, step * 50);
        }
        assert_eq!(sampler.per_second(9_950, 99 * 50 + 25), 500.0);
    }

    #[test]
    fn samples_too_close_are_passed_over() {
        let mut sampler = Sampler::default();
        for now_ms in 0..1000 {
            sampler.sample(now_ms, now_ms);
        }
        assert_eq!(sampler.samples.len(), 10);
    }

    #[test]
    fn an_idle_past_does_not_dilute_the_present() {
        let mut sampler = Sampler::default();
        sampler.sample(0, 0);
        sampler.sample(60_000, 0);
        assert_eq!(sampler.per_second(61_000, 1000), 1000.0);
        assert_eq!(sampler.per_second(600_000, 1000), 0.0);
    }
}
