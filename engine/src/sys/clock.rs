//! Time, as a shard sees it.
//!
//! A shard never asks the machine for the time. Its worker reads the clock once a turn, messages
//! between shards carry the sender's time, and a receiver takes the greater: a deadline that one
//! client has seen pass is passed for everyone who could know of it.
//!
//! Invariant: [`Clock::advance_us`] never takes it back. When the machine's clock is set back by more
//! than [`SET_BACK_MIN_US`], the worker makes a new clock: what has expired stays so, and deadlines
//! that are set from then on mean what they say. A smaller step back is waited out.
#![forbid(unsafe_code)]

use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// Going back by less is the difference between two workers, or a small correction; by more, somebody
/// has set the machine's clock. In microseconds.
pub const SET_BACK_MIN_US: i64 = 1_000_000;

/// The latest time a shard has heard of.
#[derive(Clone, Copy, Debug, Default)]
pub struct Clock {
    now_us: i64,
}

impl Clock {
    /// A clock that stands at `now_us`, microseconds since the Unix epoch.
    pub fn at_us(now_us: i64) -> Self {
        Self { now_us }
    }

    /// Moves on to `now_us` (microseconds since the Unix epoch) unless that lies in the past.
    pub fn advance_us(&mut self, now_us: i64) {
        self.now_us = self.now_us.max(now_us);
    }

    /// Microseconds since the Unix epoch.
    pub fn now_us(&self) -> i64 {
        self.now_us
    }

    /// Milliseconds since the Unix epoch: the unit of deadlines.
    pub fn now_ms(&self) -> i64 {
        self.now_us / 1_000
    }

    /// Seconds since the Unix epoch.
    pub fn now_s(&self) -> i64 {
        self.now_us / 1_000_000
    }
}

/// The machine's wall clock in microseconds since the Unix epoch.
pub fn wall_clock_us() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_micros()).unwrap_or(i64::MAX)
}

/// The machine's own time, to see how long the system has taken for something. Nothing that a command
/// answers or that is kept may depend on it.
pub fn monotonic() -> Instant {
    Instant::now()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_set_back_does_not_go_back() {
        let mut clock = Clock::at_us(5_000_000);
        clock.advance_us(4_000_000);
        assert_eq!(clock.now_ms(), 5_000);
        clock.advance_us(6_500_000);
        assert_eq!((clock.now_s(), clock.now_ms()), (6, 6_500));
    }
}
