//! The board: who has how many connections, shared by all workers.
//!
//! Why: SO_REUSEPORT spreads connections by a hash of their addresses, so of eight connections one
//! worker may get six. Whoever accepts a connection therefore looks here for the worker that has
//! the fewest and hands it over. Accepting is rare beside requests, so a lock of the receiver's
//! desk is affordable there; requests never touch the board.
//!
//! Invariants:
//! - `open` of a desk counts the connections that its worker has or that lie on its desk;
//! - the sum over all desks is `total`, and never exceeds the limit.

#![forbid(unsafe_code)]

use std::{
    io,
    os::fd::OwnedFd,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
};

use crate::runtime::wake::Doorbell;

/// Connections that lie on a desk until its worker takes them.
#[derive(Debug)]
pub struct Arrival {
    /// The accepted socket.
    pub socket: OwnedFd,
    /// The number of the listener, the same on all workers.
    pub listener: u32,
}

/// Counts of connections, and a desk per worker where others leave connections for it.
#[derive(Debug)]
pub struct Board {
    desks: Box<[Desk]>,
    total: AtomicU32,
    limit: AtomicU32,
}

/// On cache lines of its own, since each worker asks its own desk every turn.
#[repr(align(128))]
#[derive(Debug)]
struct Desk {
    waiting: AtomicBool,
    open: AtomicU32,
    arrivals: Mutex<Vec<Arrival>>,
    bell: Doorbell,
}

impl Board {
    /// A board for as many workers as there are bells, for `limit` connections in all.
    pub fn new(bells: Vec<Doorbell>, limit: u32) -> Arc<Board> {
        let desk = |bell| Desk {
            waiting: AtomicBool::new(false),
            open: AtomicU32::new(0),
            arrivals: Mutex::new(Vec::new()),
            bell,
        };
        Arc::new(Board {
            desks: bells.into_iter().map(desk).collect(),
            total: AtomicU32::new(0),
            limit: AtomicU32::new(limit),
        })
    }

    /// A board with one new bell for each of `workers`.
    pub fn with_workers(workers: usize, limit: u32) -> io::Result<Arc<Board>> {
        let bells = (0..workers).map(|_| Doorbell::new()).collect::<io::Result<_>>()?;
        Ok(Board::new(bells, limit))
    }

    /// How many workers there are.
    pub fn workers(&self) -> usize {
        self.desks.len()
    }

    /// The bell that wakes this worker.
    pub fn bell(&self, worker: usize) -> Doorbell {
        self.desks[worker].bell.clone()
    }

    /// Connections of all workers.
    pub fn connections(&self) -> u32 {
        self.total.load(Ordering::Relaxed)
    }

    /// Connections of one worker.
    pub fn connections_of(&self, worker: usize) -> u32 {
        self.desks[worker].open.load(Ordering::Relaxed)
    }

    /// The most connections that are let in.
    pub fn limit(&self) -> u32 {
        self.limit.load(Ordering::Relaxed)
    }

    /// Changes the limit (`CONFIG SET maxclients`). Connections beyond it stay.
    pub fn set_limit(&self, limit: u32) {
        self.limit.store(limit, Ordering::Relaxed);
    }

    /// Books a place for a new connection: on the worker that has the fewest, on `own` if that is
    /// one of those. `None` if the limit is reached.
    pub fn admit(&self, own: usize) -> Option<usize> {
        self.total
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |total| {
                (total < self.limit()).then_some(total + 1)
            })
            .ok()?;
        loop {
            let (worker, open) = self.least_loaded(own);
            // Another worker may book the same place now; then look again.
            if self.desks[worker]
                .open
                .compare_exchange(open, open + 1, Ordering::Relaxed, Ordering::Relaxed)
                .is_ok()
            {
                return Some(worker);
            }
        }
    }

    /// Gives back the place of a connection that has ended.
    pub fn leave(&self, worker: usize) {
        self.desks[worker].open.fetch_sub(1, Ordering::Relaxed);
        self.total.fetch_sub(1, Ordering::Relaxed);
    }

    /// Leaves an admitted connection on the desk of its worker and wakes it.
    pub fn hand_over(&self, worker: usize, arrival: Arrival) {
        let desk = &self.desks[worker];
        desk.arrivals.lock().unwrap_or_else(PoisonError::into_inner).push(arrival);
        desk.waiting.store(true, Ordering::Release);
        desk.bell.ring_if_asleep();
    }

    /// Whether connections lie on this worker's desk.
    #[inline]
    pub fn has_arrivals(&self, worker: usize) -> bool {
        self.desks[worker].waiting.load(Ordering::Acquire)
    }

    /// Takes the connections from the worker's desk.
    pub fn take_arrivals(&self, worker: usize) -> Vec<Arrival> {
        let desk = &self.desks[worker];
        let mut arrivals = desk.arrivals.lock().unwrap_or_else(PoisonError::into_inner);
        desk.waiting.store(false, Ordering::Relaxed);
        std::mem::take(&mut arrivals)
    }

    fn least_loaded(&self, own: usize) -> (usize, u32) {
        let mut best = (own, self.connections_of(own));
        for (worker, desk) in self.desks.iter().enumerate() {
            let open = desk.open.load(Ordering::Relaxed);
            if open < best.1 {
                best = (worker, open);
            }
        }
        best
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_stay_even_wherever_they_arrive() {
        let board = Board::with_workers(4, 1000).expect("bells");
        for arrival in 0..403 {
            // Nearly all arrive at one worker, as a hash may have it.
            let acceptor = if arrival % 10 == 9 { 2 } else { 0 };
            assert!(board.admit(acceptor).is_some());
            let counts: Vec<u32> = (0..4).map(|worker| board.connections_of(worker)).collect();
            let (least, most) = (counts.iter().min(), counts.iter().max());
            assert!(most.unwrap() - least.unwrap() <= 1, "{counts:?}");
        }
    }

    #[test]
    fn places_of_those_who_left_are_filled_first() {
        let board = Board::with_workers(2, 100).expect("bells");
        (0..10).for_each(|_| assert!(board.admit(0).is_some()));
        (0..5).for_each(|_| board.leave(1));
        for _ in 0..5 {
            assert_eq!(board.admit(0), Some(1));
        }
        assert_eq!((board.connections_of(0), board.connections_of(1)), (5, 5));
    }

    #[test]
    fn nobody_is_admitted_beyond_the_limit() {
        let board = Board::with_workers(2, 3).expect("bells");
        let admitted = (0..5).filter(|_| board.admit(0).is_some()).count();
        assert_eq!((admitted, board.connections()), (3, 3));
        board.set_limit(4);
        assert!(board.admit(1).is_some());
        assert!(board.admit(1).is_none());
    }

    #[test]
    fn workers_admitting_at_once_stay_even_and_below_the_limit() {
        let board = Board::with_workers(4, 1000).expect("bells");
        std::thread::scope(|scope| {
            for own in 0..4 {
                let board = &board;
                scope.spawn(move || (0..400).filter(|_| board.admit(own).is_some()).count());
            }
        });
        assert_eq!(board.connections(), 1000);
        let counts = (0..4).map(|worker| board.connections_of(worker));
        // Two that look at the same moment may book side by side, never pile up.
        assert!(
            counts.clone().all(|count| count.abs_diff(250) <= 4),
            "{:?}",
            counts.collect::<Vec<_>>()
        );
    }
}
