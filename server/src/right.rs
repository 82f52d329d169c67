//! The one right to borrow keys of other shards (see `across`), given from worker to worker.
//!
//! Why not a flag that everybody tries to set again and again: those who try would use up the
//! processors that the holder needs, all the more when there are more workers than processors. So
//! whoever does not get the right waits in line, asleep if it has nothing else to do, and the right
//! is handed to it by mail.
//!
//! Invariants:
//! - at most one worker has the right;
//! - a worker stands in line at most once; whoever gives the right up hands it to the first in line.
#![forbid(unsafe_code)]

use std::{
    collections::VecDeque,
    sync::{Mutex, MutexGuard, PoisonError},
};

/// Who has the right, and who waits for it.
#[derive(Debug, Default)]
pub struct Right(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    is_taken: bool,
    waiting: VecDeque<u32>,
}

impl Right {
    /// Takes the right for `worker` if nobody has it; else puts the worker in line.
    pub fn take_or_wait(&self, worker: u32) -> bool {
        let mut state = self.state();
        if !state.is_taken {
            state.is_taken = true;
            return true;
        }
        if !state.waiting.contains(&worker) {
            state.waiting.push_back(worker);
        }
        false
    }

    /// Gives the right up. The worker that is answered has it from now on and must be told.
    #[must_use = "the worker that has the right now must be told"]
    pub fn pass_on(&self) -> Option<u32> {
        let mut state = self.state();
        let next = state.waiting.pop_front();
        state.is_taken = next.is_some();
        next
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn those_in_line_get_the_right_in_their_order() {
        let right = Right::default();
        assert!(right.take_or_wait(3));
        for waiting in [1, 2, 1, 3] {
            assert!(!right.take_or_wait(waiting));
        }
        assert_eq!([(); 3].map(|()| right.pass_on()), [Some(1), Some(2), Some(3)]);
        assert!(!right.take_or_wait(0), "the last in line has it");
        assert_eq!(right.pass_on(), Some(0));
        assert_eq!(right.pass_on(), None);
        assert!(right.take_or_wait(0));
    }
}
