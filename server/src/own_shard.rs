//! A worker's own shard, which is lent to another worker now and then.
//!
//! Invariant: commands and background work reach the shard only while it is here; the worker asks
//! first ([`OwnShard::is_here`]). To reach for a shard that is lent is a fault of the program, and
//! ends it: to go on with another shard in its place would lose data silently.
#![forbid(unsafe_code)]

use std::ops::{Deref, DerefMut};

use tessera_engine::shard::Shard;

/// The own shard, if it is here.
pub struct OwnShard {
    shard: Option<Box<Shard>>,
    /// The latest time that was heard of, in microseconds since the Unix epoch: for a shard that is
    /// not here to be told.
    now_us: i64,
}

impl OwnShard {
    /// A shard that is here.
    pub fn new(shard: Shard) -> Self {
        Self { shard: Some(Box::new(shard)), now_us: 0 }
    }

    /// Whether it is here.
    #[inline]
    pub fn is_here(&self) -> bool {
        self.shard.is_some()
    }

    /// Gives it away; it has to come back by [`OwnShard::put_back`]. Nothing if it is lent already.
    pub fn lend(&mut self) -> Option<Box<Shard>> {
        self.shard.take()
    }

    /// It is here again.
    ///
    /// # Panics
    ///
    /// When it was never away.
    pub fn put_back(&mut self, mut shard: Box<Shard>) {
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
        if let Some(shard) = &mut self.shard {
            shard.set_clock_back_us(now_us);
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
