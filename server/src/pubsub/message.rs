//! Pushes as bytes: encoded once, written to any number of connections.
//!
//! A push of RESP3 and the array that stands for it in RESP2 differ in their first byte alone, so one
//! encoding serves both. A message shorter than what replies share by reference is one piece that is
//! copied; a longer one is its head, the shared text, and a line end.
//!
//! Messages that follow one another and go to the same receivers are joined: of a pipeline of them
//! each receiver gets one piece, which costs it as much as a single message.
#![forbid(unsafe_code)]

use bytes::Bytes;
use smallvec::SmallVec;
use tessera_engine::notice::{Message, audience::Kind};
use tessera_proto::{Protocol, ReplyBuffer, buffer::SPLICE_MIN_BYTES};

/// Bytes of messages that are joined to one push at most, but for the last one: few enough to be in
/// the nearest cache for all receivers, and to keep the limits of their output exact enough.
const JOINED_BYTES_MAX: usize = 8 << 10;

/// A push, or several, that are ready to be written.
#[derive(Debug)]
pub struct Push {
    /// All but a long text.
    head: Vec<u8>,
    /// Where the pushes begin in `head`: their first bytes differ by protocol.
    starts: SmallVec<[usize; 16]>,
    /// The protocol whose first bytes are there.
    protocol: Protocol,
    /// What follows the head, and then a line end.
    long: Option<Bytes>,
}

impl Push {
    /// A message as its subscribers read it.
    pub fn message(message: &Message) -> Self {
        let copied = if is_long(message) { 0 } else { message.payload.len() };
        let mut push = Self {
            head: Vec::with_capacity(message.channel.len() + copied + 64),
            starts: SmallVec::new(),
            protocol: Protocol::Resp3,
            long: None,
        };
        push.append(message);
        push
    }

    /// Adds a message behind those that are there, if it may be joined to them; answers whether.
    pub fn join(&mut self, message: &Message) -> bool {
        let may_join = self.long.is_none()
            && !is_long(message)
            && self.head.len() + message.payload.len() <= JOINED_BYTES_MAX;
        if may_join {
            self.append(message);
        }
        may_join
    }

    fn append(&mut self, message: &Message) {
        let Message { kind, pattern, channel, payload, .. } = message;
        self.starts.push(self.head.len());
        self.length(marker(self.protocol), if pattern.is_some() { 4 } else { 3 });
        self.bulk(match kind {
            Kind::Channel => b"message",
            Kind::Pattern => b"pmessage",
            Kind::Sharded => b"smessage",
        });
        if let Some(pattern) = pattern {
            self.bulk(pattern);
        }
        self.bulk(channel);
        if is_long(message) {
            self.length(b'$', payload.len());
            self.long = Some(payload.clone());
        } else {
            self.bulk(payload);
        }
    }

    fn bulk(&mut self, text: &[u8]) {
        self.length(b'$', text.len());
        self.head.extend_from_slice(text);
        self.head.extend_from_slice(b"\r\n");
    }

    fn length(&mut self, marker: u8, len: usize) {
        self.head.push(marker);
        self.head.extend_from_slice(itoa::Buffer::new().format(len).as_bytes());
        self.head.extend_from_slice(b"\r\n");
    }

    /// Appends it to what a connection reads.
    #[inline]
    pub fn write(&mut self, out: &mut ReplyBuffer, protocol: Protocol) {
        if self.protocol != protocol {
            self.protocol = protocol;
            self.starts.iter().for_each(|&start| self.head[start] = marker(protocol));
        }
        out.extend(&self.head);
        if let Some(long) = &self.long {
            out.splice(long.clone());
            out.extend(b"\r\n");
        }
    }
}

/// How a push begins.
fn marker(protocol: Protocol) -> u8 {
    match protocol {
        Protocol::Resp2 => b'*',
        Protocol::Resp3 => b'>',
    }
}

/// Whether the text is shared by reference.
fn is_long(message: &Message) -> bool {
    message.payload.len() >= SPLICE_MIN_BYTES
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tessera_proto::ReplyWriter;

    use super::*;

    fn message(kind: Kind, pattern: Option<&'static str>, payload: Bytes) -> Message {
        let pattern = pattern.map(|text| Bytes::from_static(text.as_bytes()));
        Message { kind, pattern, channel: "news".into(), payload, to: Arc::default() }
    }

    /// The same with the writer of replies.
    fn plainly(words: &[&[u8]], protocol: Protocol) -> Vec<u8> {
        let mut out = ReplyBuffer::new();
        let mut reply = ReplyWriter::new(&mut out, protocol);
        reply.push(words.len());
        words.iter().for_each(|word| reply.bulk(word));
        out.to_vec()
    }

    #[test]
    fn pushes_are_what_the_writer_of_replies_says() {
        let long = vec![b'l'; SPLICE_MIN_BYTES];
        for payload in [&b"hi"[..], b"", &long] {
            let bytes = Bytes::copy_from_slice(payload);
            let cases: [(_, Vec<&[u8]>); 3] = [
                (message(Kind::Channel, None, bytes.clone()), vec![b"message", b"news", payload]),
                (
                    message(Kind::Pattern, Some("n*"), bytes.clone()),
                    vec![b"pmessage", b"n*", b"news", payload],
                ),
                (message(Kind::Sharded, None, bytes), vec![b"smessage", b"news", payload]),
            ];
            for (message, words) in cases {
                let mut push = Push::message(&message);
                for protocol in [Protocol::Resp2, Protocol::Resp3, Protocol::Resp2] {
                    let mut out = ReplyBuffer::new();
                    push.write(&mut out, protocol);
                    assert_eq!(out.to_vec(), plainly(&words, protocol));
                }
            }
        }
    }

    #[test]
    fn joined_messages_are_what_they_are_one_by_one() {
        let messages: Vec<Message> = (0..300)
            .map(|n| {
                let pattern = (n % 3 == 0).then_some("n*");
                let kind = if pattern.is_some() { Kind::Pattern } else { Kind::Channel };
                let len = if n % 50 == 49 { SPLICE_MIN_BYTES } else { n };
                message(kind, pattern, Bytes::from(vec![b'x'; len]))
            })
            .collect();
        for protocol in [Protocol::Resp2, Protocol::Resp3] {
            let (mut joined, mut single) = (ReplyBuffer::new(), ReplyBuffer::new());
            let mut pieces = 0;
            let mut rest = messages.iter().peekable();
            while let Some(first) = rest.next() {
                let mut push = Push::message(first);
                while rest.next_if(|message| push.join(message)).is_some() {}
                push.write(&mut joined, protocol);
                pieces += 1;
            }
            messages.iter().for_each(|one| Push::message(one).write(&mut single, protocol));
            assert_eq!(joined.to_vec(), single.to_vec());
            assert!((12..60).contains(&pieces), "{pieces}");
        }
    }

    #[test]
    fn long_texts_are_shared() {
        let payload = Bytes::from(vec![b'l'; SPLICE_MIN_BYTES]);
        let mut out = ReplyBuffer::new();
        Push::message(&message(Kind::Channel, None, payload.clone()))
            .write(&mut out, Protocol::Resp3);
        assert!(out.chunks().any(|chunk| chunk.as_ptr() == payload.as_ptr()));
    }
}
