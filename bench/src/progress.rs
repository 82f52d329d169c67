//! One line that says what is being measured and how much is left; only on a terminal.

use std::io::{IsTerminal, Write};
use std::time::Instant;

use crate::options::Options;

/// The progress line. It is written to standard error, so tables can be redirected.
pub(crate) struct Progress {
    visible: bool,
    start: Instant,
    scenarios: usize,
    scenario_number: usize,
    scenario: &'static str,
    steps: usize,
    step_number: usize,
}

impl Progress {
    pub(crate) fn new(options: &Options) -> Self {
        Progress {
            visible: std::io::stderr().is_terminal(),
            start: Instant::now(),
            scenarios: options.scenarios().count(),
            scenario_number: 0,
            scenario: "",
            steps: 0,
            step_number: 0,
        }
    }

    pub(crate) fn scenario(&mut self, name: &'static str) {
        self.scenario = name;
        self.scenario_number += 1;
        self.expect(0);
    }

    /// The scenario under way has this many steps.
    pub(crate) fn expect(&mut self, steps: usize) {
        self.steps = steps;
        self.step_number = 0;
    }

    /// The next step begins.
    pub(crate) fn step(&mut self, what: &str) {
        self.step_number += 1;
        if self.visible {
            let seconds = self.start.elapsed().as_secs();
            let _ = write!(
                std::io::stderr(),
                "\r\x1b[K[{}/{}] {} {}/{} {what} ({}:{:02})",
                self.scenario_number,
                self.scenarios,
                self.scenario,
                self.step_number,
                self.steps.max(self.step_number),
                seconds / 60,
                seconds % 60
            );
        }
    }

    pub(crate) fn clear(&self) {
        if self.visible {
            let _ = write!(std::io::stderr(), "\r\x1b[K");
        }
    }
}
