//! A worker's own shard, which is with another worker now and then: lent to a host (see `loan`), or
//! left in its berth while the worker is in the kernel (see `guests`).
//!
//! Invariant: commands and background work reach the shard only while it is here; the worker asks
//! first ([`OwnShard::is_here`]). To reach for a shard that is away is a fault of the program, and
//! ends it: to go on with another shard in its place would lose data silently.
#![forbid(unsafe_code)]

use std::{
    hint,
    ops::{Deref, DerefMut},
};

use tessera_engine::{shard::Shard, sys::clock::SET_BACK_MIN_US};

use crate::mesh::berth::Berth;

/// How often a worker that has woken looks for its shard before it goes on without: a worker that
/// has it executes a few commands, which takes less time than to sleep again and be woken.
const LOOKS_MAX: u32 = 400;

/// The own shard, if it is here.
pub struct OwnShard {
    shard: Option<Box<Shard>>,
    /// It was left in the berth, and has not been taken from there.
    is_offered: bool,
    /// It is here again after it was offered, and what has waited for it waits yet.
    has_come_back: bool,
    /// The latest time that was heard of, in microseconds since the Unix epoch: for a shard that is
    /// not here to be told.
    now_us: i64,
    /// The machine's clock was set back while the shard was away, to this time.
    set_back_us: Option<i64>,
}

impl OwnShard {
    /// A shard that is here.
    pub fn new(shard: Shard) -> Self {
        Self {
            shard: Some(Box::new(shard)),
            is_offered: false,
            has_come_back: false,
            now_us: 0,
            set_back_us: None,
        }
    }

    /// Leaves it to others, as far as it is here.
    pub fn offer(&mut self, berth: &Berth<Shard>) {
        if let Some(shard) = self.shard.take() {
            berth.offer(shard);
            self.is_offered = true;
        }
    }

    /// Takes it back from where it was left, if it was. While another worker has it this waits a
    /// moment, and then goes on without: it is tried again by the next call.
    #[inline]
    pub fn reclaim(&mut self, berth: &Berth<Shard>) {
        if self.is_offered {
            self.reclaim_offered(berth);
        }
    }

    fn reclaim_offered(&mut self, berth: &Berth<Shard>) {
        let mut shard = berth.reclaim();
        for _ in 0..LOOKS_MAX {
            if shard.is_some() {
                break;
            }
            hint::spin_loop();
            if berth.is_back() {
                shard = berth.reclaim();
            }
        }
        if let Some(shard) = shard {
            self.is_offered = false;
            self.has_come_back = true;
            self.put_back(shard);
        }
    }

    /// Whether it lies in its berth for this worker alone.
    #[inline]
    pub fn is_back(&self, berth: &Berth<Shard>) -> bool {
        self.is_offered && berth.is_back()
    }

    /// Whether it has come back from its berth since this was asked last.
    #[inline]
    pub fn take_came_back(&mut self) -> bool {
        std::mem::take(&mut self.has_come_back)
    }

    /// Whether it is here.
    #[inline]
    pub fn is_here(&self) -> bool {
        self.shard.is_some()
    }

    /// Gives it away; it has to come back by [`OwnShard::put_back`]. Nothing if it is away already.
    pub fn lend(&mut self) -> Option<Box<Shard>> {
        self.shard.take()
    }

    /// It is here again.
    ///
    /// # Panics
    ///
    /// When it was never away.
    pub fn put_back(&mut self, mut shard: Box<Shard>) {
        if let Some(now_us) = self.set_back_us.take() {
            // Whoever had it may have heard of that too.
            if shard.keyspace.clock().now_us() > now_us + SET_BACK_MIN_US {
                shard.set_clock_back_us(now_us);
            }
        }
        shard.advance_clock_us(self.now_us);
        assert!(self.shard.replace(shard).is_none(), "a shard came back that was not lent");
    }

    /// Moves its time on, now or when it is back.
    #[inline]
    pub fn advance_clock_us(&mut self, now_us: i64) {
        match &mut self.shard {
            Some(shard) => shard.advance_clock_us(now_us),
            None => self.now_us = self.now_us.max(now_us),
        }
    }

    /// Puts its time back, now or when it is back itself.
    #[cold]
    pub fn set_clock_back_us(&mut self, now_us: i64) {
        self.now_us = self.now_us.min(now_us);
        match &mut self.shard {
            Some(shard) => shard.set_clock_back_us(now_us),
            None => self.set_back_us = Some(now_us),
        }
    }

    /// Its time in microseconds since the Unix epoch, if it is here.
    #[inline]
    pub fn clock_us(&self) -> Option<i64> {
        self.shard.as_ref().map(|shard| shard.keyspace.clock().now_us())
    }
}

impl Deref for OwnShard {
    type Target = Shard;

    #[inline]
    fn deref(&self) -> &Shard {
        self.shard.as_deref().expect("the own shard is here when it is used")
    }
}

impl DerefMut for OwnShard {
    #[inline]
    fn deref_mut(&mut self) -> &mut Shard {
        self.shard.as_deref_mut().expect("the own shard is here when it is used")
    }
}

#[cfg(test)]
mod tests {
    use tessera_engine::shard::Settings;

    use super::*;

    #[test]
    fn it_comes_back_from_its_berth_when_nobody_has_it() {
        let (berth, mut own) =
            (Berth::default(), OwnShard::new(Shard::new(1, Settings::default())));
        own.reclaim(&berth);
        assert!(own.is_here() && !own.take_came_back());
        own.offer(&berth);
        let guest = berth.borrow().expect("it is offered");
        own.reclaim(&berth);
        assert!(!own.is_here() && !own.take_came_back());
        assert!(berth.give_back(guest));
        assert!(own.is_back(&berth));
        own.reclaim(&berth);
        assert!(own.is_here() && own.take_came_back() && !own.take_came_back());
    }

    #[test]
    fn time_that_was_set_back_while_it_was_away_is_its_own_as_soon_as_it_is_back() {
        let (future_us, now_us) = (10 * SET_BACK_MIN_US, 5 * SET_BACK_MIN_US);
        let mut own = OwnShard::new(Shard::new(1, Settings::default()));
        own.advance_clock_us(future_us);
        let shard = own.lend().expect("it was here");
        own.set_clock_back_us(now_us);
        own.advance_clock_us(now_us + 1);
        own.put_back(shard);
        assert_eq!(own.clock_us(), Some(now_us + 1));
        // One that has heard of it where it was keeps the time that it has there.
        let mut shard = own.lend().expect("it was here");
        own.set_clock_back_us(now_us - 1);
        shard.advance_clock_us(now_us + 2);
        own.put_back(shard);
        assert_eq!(own.clock_us(), Some(now_us + 2));
    }

    #[test]
    fn time_goes_on_while_it_is_lent() {
        let mut own = OwnShard::new(Shard::new(1, Settings::default()));
        let shard = own.lend().expect("it was here");
        assert!(!own.is_here());
        assert!(own.lend().is_none());
        own.advance_clock_us(5_000);
        own.put_back(shard);
        assert_eq!(own.keyspace.clock().now_us(), 5_000);
    }
}
