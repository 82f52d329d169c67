//! What one connection has subscribed to, as its own worker knows it.
//!
//! It answers the counts of the confirmations, and says what to end when the connection ends. Who
//! receives a message is known at the shards.
#![forbid(unsafe_code)]

use std::collections::BTreeSet;

use bytes::Bytes;
use tessera_engine::notice::audience::Kind;

/// The subscriptions of a connection.
#[derive(Clone, Debug, Default)]
pub struct Subscriptions {
    channels: BTreeSet<Bytes>,
    patterns: BTreeSet<Bytes>,
    sharded: BTreeSet<Bytes>,
}

impl Subscriptions {
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.channels.is_empty() && self.patterns.is_empty() && self.sharded.is_empty()
    }

    /// Adds one; answers whether it is new.
    pub fn add(&mut self, kind: Kind, name: Bytes) -> bool {
        self.names_mut(kind).insert(name)
    }

    /// Removes one; answers whether it was there.
    pub fn remove(&mut self, kind: Kind, name: &[u8]) -> bool {
        self.names_mut(kind).remove(name)
    }

    /// The names of one kind, in order.
    pub fn names(&self, kind: Kind) -> &BTreeSet<Bytes> {
        match kind {
            Kind::Channel => &self.channels,
            Kind::Pattern => &self.patterns,
            Kind::Sharded => &self.sharded,
        }
    }

    /// The number that confirmations of this kind show: channels and patterns are counted together,
    /// as in Redis.
    pub fn shown_count(&self, kind: Kind) -> usize {
        match kind {
            Kind::Channel | Kind::Pattern => self.channels.len() + self.patterns.len(),
            Kind::Sharded => self.sharded.len(),
        }
    }

    fn names_mut(&mut self, kind: Kind) -> &mut BTreeSet<Bytes> {
        match kind {
            Kind::Channel => &mut self.channels,
            Kind::Pattern => &mut self.patterns,
            Kind::Sharded => &mut self.sharded,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn channels_and_patterns_are_counted_together() {
        let mut own = Subscriptions::default();
        assert!(own.add(Kind::Channel, "a".into()) && !own.add(Kind::Channel, "a".into()));
        assert!(own.add(Kind::Pattern, "a".into()) && own.add(Kind::Sharded, "a".into()));
        assert_eq!(
            [Kind::Channel, Kind::Pattern, Kind::Sharded].map(|k| own.shown_count(k)),
            [2, 2, 1]
        );
        assert!(own.remove(Kind::Channel, b"a") && !own.remove(Kind::Channel, b"a"));
        assert!(own.remove(Kind::Pattern, b"a") && own.remove(Kind::Sharded, b"a"));
        assert!(own.is_empty());
    }
}
