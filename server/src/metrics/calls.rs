//! What the worker tells its counters of commands.
#![forbid(unsafe_code)]

use tessera_engine::command::{Command, CommandError};

use super::WorkerMetrics;

impl WorkerMetrics {
    /// Counts one execution of `command` that took `nanos` and perhaps failed.
    #[inline]
    pub fn executed(&self, command: &Command, nanos: u64, error: Option<&CommandError>) {
        let id = usize::from(command.id);
        self.record_call(id, nanos, error.is_some());
        self.record_latency(id, nanos);
        if let Some(error) = error {
            self.record_error(error.to_string().as_bytes());
        }
    }

    /// Counts a request that was refused before it ran; `command` is its row if it has one.
    #[cold]
    pub fn refused(&self, command: Option<&Command>, error: &CommandError) {
        if let Some(command) = command {
            self.record_rejected(usize::from(command.id));
        }
        self.record_error(error.to_string().as_bytes());
    }
}
