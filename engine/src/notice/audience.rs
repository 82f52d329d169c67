//! Who listens to what: the subscriptions that one shard serves.
//!
//! A channel belongs to the shard that owns the slot of its name, and is known there alone. Patterns,
//! and the channels of keyspace notifications, are known to every shard, since messages for them may
//! come from each.
//!
//! Invariants:
//! - no channel or pattern is kept that nobody listens to, and no worker without connections;
//! - a connection stands at most once in the list of a channel or pattern;
//! - a list that a message under way shares is never changed: changes make a new one.
#![forbid(unsafe_code)]

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use ahash::RandomState;
use bytes::Bytes;
use smallvec::SmallVec;
use tessera_proto::glob;

use super::{Client, Connections, hasher};

/// What a client can subscribe to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// A channel (SUBSCRIBE).
    Channel,
    /// All channels that match a pattern (PSUBSCRIBE).
    Pattern,
    /// A channel of a slot (SSUBSCRIBE): a name space of its own.
    Sharded,
}

/// The receivers of a channel or pattern, by worker.
pub type Receivers = SmallVec<[(u32, Connections); 1]>;

/// The subscriptions that a shard serves.
#[derive(Debug)]
pub struct Audience {
    channels: HashMap<Bytes, Receivers, RandomState>,
    sharded: HashMap<Bytes, Receivers, RandomState>,
    /// In the order of their names, so that all shards try them in one order.
    patterns: BTreeMap<Bytes, Receivers>,
}

impl Audience {
    /// Nobody listens. The hash functions follow from `seed`.
    pub fn new(seed: u64) -> Self {
        let hasher = hasher(seed);
        Self {
            channels: HashMap::with_hasher(hasher.clone()),
            sharded: HashMap::with_hasher(hasher),
            patterns: BTreeMap::new(),
        }
    }

    /// Whether nobody listens to anything.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.channels.is_empty() && self.patterns.is_empty() && self.sharded.is_empty()
    }

    /// Lets `client` hear what is published on `name`. It may have subscribed already.
    pub fn subscribe(&mut self, kind: Kind, name: &Bytes, client: Client) {
        let receivers = match kind {
            Kind::Channel => self.channels.entry(name.clone()).or_default(),
            Kind::Sharded => self.sharded.entry(name.clone()).or_default(),
            Kind::Pattern => self.patterns.entry(name.clone()).or_default(),
        };
        match receivers.iter_mut().find(|(worker, _)| *worker == client.worker) {
            Some((_, list)) => {
                if !list.contains(&client.connection) {
                    Arc::make_mut(list).push(client.connection);
                }
            }
            None => receivers.push((client.worker, Arc::new(vec![client.connection]))),
        }
    }

    /// Ends that; the client need not have subscribed.
    pub fn unsubscribe(&mut self, kind: Kind, name: &[u8], client: Client) {
        let receivers = match kind {
            Kind::Channel => self.channels.get_mut(name),
            Kind::Sharded => self.sharded.get_mut(name),
            Kind::Pattern => self.patterns.get_mut(name),
        };
        let Some(receivers) = receivers else { return };
        remove(receivers, client);
        if !receivers.is_empty() {
            return;
        }
        match kind {
            Kind::Channel => _ = self.channels.remove(name),
            Kind::Sharded => _ = self.sharded.remove(name),
            Kind::Pattern => _ = self.patterns.remove(name),
        }
    }

    /// Calls `hear` with all that listen to a message on `channel`: those of the channel first, then
    /// those of each pattern that matches it. What is published on a sharded channel goes to its own
    /// subscribers alone.
    pub fn hear(
        &self,
        kind: Kind,
        channel: &Bytes,
        mut hear: impl FnMut(Kind, Option<&Bytes>, &Receivers),
    ) {
        let channels = if kind == Kind::Sharded { &self.sharded } else { &self.channels };
        if let Some(receivers) = channels.get(channel) {
            hear(kind, None, receivers);
        }
        if kind == Kind::Sharded {
            return;
        }
        for (pattern, receivers) in &self.patterns {
            if glob::matches(pattern, channel) {
                hear(Kind::Pattern, Some(pattern), receivers);
            }
        }
    }

    /// The names of that kind that somebody listens to, in no order.
    pub fn names(&self, kind: Kind) -> Box<dyn Iterator<Item = &Bytes> + '_> {
        match kind {
            Kind::Channel => Box::new(self.channels.keys()),
            Kind::Sharded => Box::new(self.sharded.keys()),
            Kind::Pattern => Box::new(self.patterns.keys()),
        }
    }

    /// How many names of that kind somebody listens to.
    pub fn count(&self, kind: Kind) -> usize {
        match kind {
            Kind::Channel => self.channels.len(),
            Kind::Sharded => self.sharded.len(),
            Kind::Pattern => self.patterns.len(),
        }
    }

    /// How many clients have subscribed to the channel `name`.
    pub fn listeners(&self, kind: Kind, name: &[u8]) -> usize {
        let receivers = match kind {
            Kind::Channel => self.channels.get(name),
            Kind::Sharded => self.sharded.get(name),
            Kind::Pattern => self.patterns.get(name),
        };
        receivers.map_or(0, |receivers| receivers.iter().map(|(_, list)| list.len()).sum())
    }
}

fn remove(receivers: &mut Receivers, client: Client) {
    let Some(at) = receivers.iter().position(|(worker, _)| *worker == client.worker) else {
        return;
    };
    let list = &mut receivers[at].1;
    if let Some(place) = list.iter().position(|&connection| connection == client.connection) {
        Arc::make_mut(list).swap_remove(place);
    }
    if list.is_empty() {
        receivers.swap_remove(at);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::{collection::vec, prelude::*};

    use super::*;

    const KINDS: [Kind; 3] = [Kind::Channel, Kind::Pattern, Kind::Sharded];

    /// All subscriptions, as plainly as can be.
    type Model = BTreeSet<(usize, String, Client)>;

    fn heard(audience: &Audience, kind: Kind, channel: &str) -> Vec<(String, Client)> {
        let mut heard = Vec::new();
        audience.hear(kind, &Bytes::from(channel.to_owned()), |_, pattern, receivers| {
            let by = pattern.map_or(channel.to_owned(), |p| String::from_utf8_lossy(p).into());
            for (worker, list) in receivers {
                assert!(!list.is_empty());
                let clients = list.iter().map(|&connection| Client { worker: *worker, connection });
                heard.extend(clients.map(|client| (by.clone(), client)));
            }
        });
        heard.sort();
        heard
    }

    fn expected(model: &Model, kind: usize, channel: &str) -> Vec<(String, Client)> {
        let hears = |of: usize, name: &str| match (kind, of) {
            (0, 1) => glob::matches(name.as_bytes(), channel.as_bytes()),
            _ => kind == of && name == channel,
        };
        let mut heard: Vec<_> = model
            .iter()
            .filter(|(of, name, _)| hears(*of, name))
            .map(|(_, name, client)| (name.clone(), *client))
            .collect();
        heard.sort();
        heard
    }

    proptest! {
        #[test]
        fn the_audience_is_what_a_plain_list_says(
            ops in vec((any::<bool>(), 0..3_usize, 0..5_usize, 0..3_u32, 0..3_u64), 0..80)
        ) {
            let names = ["a", "ab", "a*", "*", "b"];
            let (mut audience, mut model) = (Audience::new(1), Model::new());
            for (joins, kind, name, worker, connection) in ops {
                let client = Client { worker, connection };
                let entry = (kind, names[name].to_owned(), client);
                if joins {
                    audience.subscribe(KINDS[kind], &Bytes::from(names[name]), client);
                    model.insert(entry);
                } else {
                    audience.unsubscribe(KINDS[kind], names[name].as_bytes(), client);
                    model.remove(&entry);
                }
                prop_assert_eq!(audience.is_empty(), model.is_empty());
            }
            for name in names {
                for kind in [0, 2] {
                    prop_assert_eq!(heard(&audience, KINDS[kind], name), expected(&model, kind, name));
                }
            }
            for (number, kind) in KINDS.into_iter().enumerate() {
                let of_kind: BTreeSet<_> =
                    model.iter().filter(|(of, ..)| *of == number).map(|(_, name, _)| name).collect();
                prop_assert_eq!(audience.count(kind), of_kind.len());
                prop_assert_eq!(audience.names(kind).count(), of_kind.len());
                for name in names {
                    let listeners =
                        model.iter().filter(|(of, n, _)| *of == number && n == name).count();
                    prop_assert_eq!(audience.listeners(kind, name.as_bytes()), listeners);
                }
            }
        }
    }
}
