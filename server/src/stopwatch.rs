//! How long commands take, read off the processor's time stamp counter.
//!
//! One reading a command: the end of one is the beginning of the next. The counter costs a few
//! nanoseconds, a call of the system's clock three times that.
#![forbid(unsafe_code)]

use quanta::Clock;

/// Measures one command after another.
pub(crate) struct Stopwatch {
    clock: Clock,
    last: u64,
}

impl Stopwatch {
    /// A stopwatch that runs from now.
    pub(crate) fn new() -> Self {
        let clock = Clock::new();
        let last = clock.raw();
        Self { clock, last }
    }

    /// Starts a measurement.
    #[inline]
    pub(crate) fn start(&mut self) {
        self.last = self.clock.raw();
    }

    /// The start or the last lap, for [`since_ns`](Self::since_ns).
    #[inline]
    pub(crate) fn mark(&self) -> u64 {
        self.last
    }

    /// Nanoseconds from a mark till now, whatever was measured between; no lap begins.
    pub(crate) fn since_ns(&self, mark: u64) -> u64 {
        self.clock.delta_as_nanos(mark, self.clock.raw())
    }

    /// Nanoseconds since the start or the last lap, and starts the next lap.
    #[inline]
    pub(crate) fn lap_ns(&mut self) -> u64 {
        let now = self.clock.raw();
        let took = self.clock.delta_as_nanos(self.last, now);
        self.last = now;
        took
    }
}

impl Default for Stopwatch {
    fn default() -> Self {
        Self::new()
    }
}
