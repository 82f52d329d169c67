//! How long a worker does not look at its clients.
//!
//! What a client waits for besides its own command is the step that the worker is in when the command
//! arrives: a turn (what came with others is served, then a slice of background work is done), a
//! slice of a save, or what the executor's tasks do while they have the core. All are measured by the
//! clock, as a client would; slices of saves by the processor time of the thread too, which tells on a
//! busy machine what was ours.
#![forbid(unsafe_code)]

use super::{Counter, Counts, Histogram};

/// One worker's steps.
#[derive(Debug, Default)]
pub struct Steps {
    /// Turns, from one look at the network to the next one, and the time of the executor's tasks.
    pub turns: Histogram,
    /// Nanoseconds of all turns.
    pub nanos: Counter,
    /// Slices of saves.
    pub slices: Histogram,
    /// Processor time of these.
    pub slices_cpu: Histogram,
}

/// The steps of all workers.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct StepCounts {
    /// Turns.
    pub turns: Counts,
    /// Nanoseconds of all turns.
    pub nanos: u64,
    /// Slices of saves.
    pub slices: Counts,
    /// Processor time of these.
    pub slices_cpu: Counts,
}

impl StepCounts {
    pub(super) fn add(&mut self, steps: &Steps) {
        steps.turns.add_to(&mut self.turns);
        steps.slices.add_to(&mut self.slices);
        steps.slices_cpu.add_to(&mut self.slices_cpu);
        self.nanos += steps.nanos.get();
    }

    pub(super) fn subtract(&mut self, earlier: &Self) {
        self.turns.subtract(&earlier.turns);
        self.slices.subtract(&earlier.slices);
        self.slices_cpu.subtract(&earlier.slices_cpu);
        self.nanos = self.nanos.saturating_sub(earlier.nanos);
    }
}
