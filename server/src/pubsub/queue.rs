//! News that wait to be sent to one other worker.
//!
//! Why a queue: a message of the mesh needs a credit, and one that carries all that has come together
//! in a turn costs no more than one that carries a single piece.
//!
//! Invariants:
//! - news leave in the order in which they came;
//! - at most [`WAITING_BYTES_MAX`] wait, and as much may be under way; a single larger piece passes
//!   when nothing else waits. What is lost beyond is told to the worker, behind what waits: it
//!   disconnects the receivers of lost messages, and lets those who cache keys forget them all. So
//!   nobody misses anything without knowing;
//! - once something is lost, all is until the queue has been emptied.
#![forbid(unsafe_code)]

use std::{collections::BTreeSet, mem};

use tessera_engine::notice::{Client, Notice};

use super::News;

/// Bytes of news that wait for one worker, and bytes that may be under way to it.
pub const WAITING_BYTES_MAX: usize = 16 << 20;

/// What could not be kept.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lost {
    /// Connections that would have received a message.
    pub receivers: BTreeSet<u64>,
    /// Keys have changed.
    pub keys: bool,
    /// Connections that are told of other clients' keys, with these clients.
    pub redirected: BTreeSet<(u64, Client)>,
    /// Connections that were to hear that those which they have named are gone.
    pub broken: BTreeSet<u64>,
    /// A command was not shown.
    pub commands: bool,
}

impl Lost {
    fn is_nothing(&self) -> bool {
        *self == Self::default()
    }

    fn add(&mut self, news: &News) {
        match news {
            News::Of(_, Notice::Message(message)) => self.receivers.extend(message.to.iter()),
            News::Of(_, Notice::Stale(_) | Notice::AllStale) => self.keys = true,
            News::Redirected { from, to, .. } => _ = self.redirected.insert((*to, *from)),
            News::RedirectionBroken { to } => _ = self.broken.insert(*to),
            News::Command(_) => self.commands = true,
            News::Answer(_) => debug_assert!(false, "an answer is never lost"),
            News::Lost(lost) => {
                self.receivers.extend(&lost.receivers);
                self.redirected.extend(&lost.redirected);
                self.broken.extend(&lost.broken);
                self.keys |= lost.keys;
                self.commands |= lost.commands;
            }
        }
    }
}

/// The news for one worker.
#[derive(Debug, Default)]
pub struct Queue {
    waiting: Vec<News>,
    waiting_bytes: usize,
    /// Bytes that were sent and are not known to have come.
    under_way_bytes: usize,
    lost: Lost,
}

impl Queue {
    /// Whether nothing waits.
    #[inline]
    pub fn is_empty(&self) -> bool {
        // Something is lost only behind what waits.
        self.waiting.is_empty()
    }

    /// Adds a piece; answers whether it was kept.
    pub fn push(&mut self, news: News) -> bool {
        let bytes = news.bytes();
        let fits = self.waiting.is_empty() || self.waiting_bytes + bytes <= WAITING_BYTES_MAX;
        // An answer is a reply: there is one for each client that waits, at most.
        if fits && self.lost.is_nothing() || matches!(news, News::Answer(_)) {
            self.waiting_bytes += bytes;
            self.waiting.push(news);
            return true;
        }
        self.lost.add(&news);
        false
    }

    /// Takes everything, for something that goes to the worker anyhow.
    pub fn take(&mut self) -> Vec<News> {
        let lost = mem::take(&mut self.lost);
        if !lost.is_nothing() {
            self.waiting.push(News::Lost(lost));
        }
        self.waiting_bytes = 0;
        mem::take(&mut self.waiting)
    }

    /// Takes everything for a message of its own, of so many bytes, unless there is too much under
    /// way. Their arrival is to be told by [`Queue::arrived`].
    pub fn take_to_send(&mut self) -> Option<(Vec<News>, usize)> {
        if self.is_empty() || self.under_way_bytes > WAITING_BYTES_MAX {
            return None;
        }
        let bytes = self.waiting_bytes;
        self.under_way_bytes += bytes;
        Some((self.take(), bytes))
    }

    /// A message of so many bytes has come to the worker.
    pub fn arrived(&mut self, bytes: usize) {
        self.under_way_bytes -= bytes;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bytes::Bytes;
    use tessera_engine::notice::{Message, audience::Kind};

    use super::*;

    fn message(len: usize, to: &[u64]) -> News {
        let message = Message {
            kind: Kind::Channel,
            pattern: None,
            channel: Bytes::from_static(b"c"),
            payload: Bytes::from(vec![b'x'; len]),
            to: Arc::new(to.to_vec()),
        };
        News::Of(0, Notice::Message(message))
    }

    fn payloads(news: &[News]) -> Vec<usize> {
        news.iter()
            .filter_map(|news| match news {
                News::Of(_, Notice::Message(message)) => Some(message.payload.len()),
                _ => None,
            })
            .collect()
    }

    #[test]
    fn news_leave_in_their_order() {
        let mut queue = Queue::default();
        assert!(queue.take_to_send().is_none());
        assert!((1..4).all(|len| queue.push(message(len, &[1]))));
        let (news, bytes) = queue.take_to_send().unwrap();
        assert_eq!(payloads(&news), [1, 2, 3]);
        assert!(queue.is_empty() && bytes > 6);
        queue.arrived(bytes);
        assert_eq!(queue.under_way_bytes, 0);
    }

    #[test]
    fn what_does_not_fit_is_lost_until_the_queue_is_empty_and_told_behind_the_rest() {
        let mut queue = Queue::default();
        assert!(queue.push(message(WAITING_BYTES_MAX, &[1])), "one large piece passes");
        assert!(!queue.push(message(1, &[2, 3])));
        assert!(!queue.push(News::Of(0, Notice::AllStale)));
        let news = queue.take();
        assert_eq!(payloads(&news), [WAITING_BYTES_MAX]);
        let Some(News::Lost(lost)) = news.last() else { panic!("the loss is not told: {news:?}") };
        assert_eq!((lost.receivers.len(), lost.keys), (2, true));
        assert!(queue.push(message(1, &[2])));
        assert_eq!(queue.take().len(), 1);
    }

    #[test]
    fn no_more_is_sent_while_too_much_is_under_way() {
        let mut queue = Queue::default();
        queue.push(message(WAITING_BYTES_MAX, &[1]));
        let (_, bytes) = queue.take_to_send().unwrap();
        queue.push(message(1, &[1]));
        assert!(queue.take_to_send().is_none());
        queue.arrived(bytes);
        assert!(queue.take_to_send().is_some());
    }
}
