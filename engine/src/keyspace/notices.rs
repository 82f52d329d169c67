//! Makes notices (see [`crate::notice`]) of what is published and of what happens to keys.
//!
//! Events wait in [`Events`] while their command runs, and become messages when somebody asks for the
//! notices, publishes, or is about to change the audience: so each stands in its order, and is heard
//! by whoever listened when it happened.
#![forbid(unsafe_code)]

use std::sync::Arc;

use bytes::Bytes;

use super::events::{Class, Event, Events};
use crate::notice::{
    Message, Notice,
    audience::{Audience, Kind, Receivers},
};

/// What a shard needs to know, and keeps, to tell clients something.
#[derive(Debug)]
pub struct Notices {
    /// Who listens to what.
    pub audience: Audience,
    /// Notices with the worker that gets each, in the order of what they tell of.
    ready: Vec<(u32, Notice)>,
}

/// How much waited to be told at one moment.
#[derive(Clone, Copy, Debug)]
pub struct Savepoint {
    ready: usize,
    events: usize,
}

impl Notices {
    /// How much waits now.
    pub fn savepoint(&self, events: &Events) -> Savepoint {
        Savepoint { ready: self.ready.len(), events: events.len() }
    }

    /// Drops what has come since.
    pub fn forget_since(&mut self, events: &mut Events, savepoint: Savepoint) {
        if self.ready.len() > savepoint.ready {
            // Events that waited have become notices meanwhile, and stand before all that is new.
            self.ready.truncate(savepoint.ready + savepoint.events);
            events.truncate(0);
        } else {
            events.truncate(savepoint.events);
        }
    }

    /// Nobody listens. Hash functions follow from `seed`.
    pub fn new(seed: u64) -> Self {
        Self { audience: Audience::new(seed), ready: Vec::new() }
    }

    /// Publishes `payload` on `channel`; answers how many receive it. What happened to keys before
    /// is told before.
    pub fn publish(
        &mut self,
        events: &mut Events,
        kind: Kind,
        channel: &Bytes,
        payload: &Bytes,
    ) -> usize {
        self.settle(events);
        let count = self.send(kind, channel, payload);
        // Something else may wait to be told, of which nothing is known here: the flag is only raised.
        if !self.ready.is_empty() {
            events.set_waiting(true);
        }
        count
    }

    fn send(&mut self, kind: Kind, channel: &Bytes, payload: &Bytes) -> usize {
        let mut count = 0;
        let Self { audience, ready } = self;
        audience.hear(kind, channel, |kind, pattern, receivers: &Receivers| {
            for (worker, to) in receivers.iter() {
                count += to.len();
                let (channel, payload, to) = (channel.clone(), payload.clone(), Arc::clone(to));
                let pattern = pattern.cloned();
                let message = Message { kind, pattern, channel, payload, to };
                ready.push((*worker, Notice::Message(message)));
            }
        });
        count
    }

    /// Hands over what there is to tell, each with the worker that is to be told.
    pub fn take(&mut self, events: &mut Events) -> Vec<(u32, Notice)> {
        self.settle(events);
        events.set_waiting(false);
        std::mem::take(&mut self.ready)
    }

    /// Makes notices of what has happened to keys. To be done before the audience changes.
    pub fn settle(&mut self, events: &mut Events) {
        if events.is_empty() {
            return;
        }
        let classes = events.classes();
        for event in events.take() {
            self.announce(classes, event);
        }
        events.tracking.settle(|worker, notice| self.ready.push((worker, notice)));
    }

    /// Makes the messages of one keyspace event.
    fn announce(&mut self, classes: Class, event: Event) {
        if self.audience.is_empty() {
            return;
        }
        let Event { name, database, key, .. } = event;
        let key = Bytes::from(key);
        if classes.has(Class::KEYSPACE) {
            let prefix = format!("__keyspace@{database}__:");
            let channel = Bytes::from([prefix.as_bytes(), &key].concat());
            self.send(Kind::Channel, &channel, &Bytes::from_static(name.as_bytes()));
        }
        if classes.has(Class::KEYEVENT) {
            let channel = Bytes::from(format!("__keyevent@{database}__:{name}"));
            self.send(Kind::Channel, &channel, &key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::notice::Client;

    fn client(worker: u32, connection: u64) -> Client {
        Client { worker, connection }
    }

    fn text(notices: &[(u32, Notice)]) -> Vec<String> {
        let line = |(worker, notice): &(u32, Notice)| match notice {
            Notice::Message(Message { pattern, channel, payload, to, .. }) => {
                let [channel, payload] =
                    [channel, payload].map(|bytes| String::from_utf8_lossy(bytes));
                let pattern = pattern.as_ref().map(|p| String::from_utf8_lossy(p).into_owned());
                format!("{worker}{to:?} {} {channel} {payload}", pattern.unwrap_or_default())
            }
            other => format!("{worker} {other:?}"),
        };
        notices.iter().map(line).collect()
    }

    #[test]
    fn a_message_goes_once_to_each_worker_and_is_counted_for_each_subscription() {
        let (mut notices, mut events) = (Notices::new(1), Events::new(1));
        let news = Bytes::from_static(b"news");
        for (worker, connection) in [(0, 7), (2, 8), (2, 9)] {
            notices.audience.subscribe(Kind::Channel, &news, client(worker, connection));
        }
        let pattern = Bytes::from_static(b"n*");
        notices.audience.subscribe(Kind::Pattern, &pattern, client(2, 8));
        notices.audience.subscribe(Kind::Sharded, &news, client(1, 5));
        let hello = Bytes::from_static(b"hello");
        assert_eq!(notices.publish(&mut events, Kind::Channel, &news, &hello), 4);
        assert_eq!(
            text(&notices.take(&mut events)),
            ["0[7]  news hello", "2[8, 9]  news hello", "2[8] n* news hello"]
        );
        assert_eq!(notices.publish(&mut events, Kind::Sharded, &news, &hello), 1);
        assert_eq!(text(&notices.take(&mut events)), ["1[5]  news hello"]);
    }

    #[test]
    fn receivers_are_fixed_when_a_message_is_published() {
        let (mut notices, mut events) = (Notices::new(1), Events::new(1));
        let (news, text_) = (Bytes::from_static(b"news"), Bytes::from_static(b"1"));
        notices.audience.subscribe(Kind::Channel, &news, client(0, 1));
        notices.publish(&mut events, Kind::Channel, &news, &text_);
        notices.audience.subscribe(Kind::Channel, &news, client(0, 2));
        notices.audience.unsubscribe(Kind::Channel, &news, client(0, 1));
        assert_eq!(text(&notices.take(&mut events)), ["0[1]  news 1"]);
    }

    #[test]
    fn events_become_messages_before_what_is_published_after_them() {
        let (mut notices, mut events) = (Notices::new(1), Events::new(1));
        events.configure(Class::ALL | Class::KEYSPACE | Class::KEYEVENT);
        let all = Bytes::from_static(b"*");
        notices.audience.subscribe(Kind::Pattern, &all, client(0, 1));
        events.report(Class::STRING, "set", 3, b"k");
        notices.publish(&mut events, Kind::Channel, &Bytes::from_static(b"c"), &all);
        assert_eq!(
            text(&notices.take(&mut events)),
            ["0[1] * __keyspace@3__:k set", "0[1] * __keyevent@3__:set k", "0[1] * c *"]
        );
        assert!(!events.is_waiting());
    }
}
