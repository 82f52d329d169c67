//! Pushes as bytes: encoded once, written to any number of connections.
//!
//! A push of RESP3 and the array that stands for it in RESP2 differ in their first byte alone, so one
//! encoding serves both. A message shorter than what replies share by reference is one piece that is
//! copied; a longer one is its head, the shared text, and a line end.
#![forbid(unsafe_code)]

use bytes::Bytes;
use tessera_engine::notice::{Message, audience::Kind};
use tessera_proto::{Protocol, ReplyBuffer, buffer::SPLICE_MIN_BYTES};

/// A push that is ready to be written.
#[derive(Debug)]
pub struct Push {
    /// Its first byte is written anew for each protocol.
    head: Vec<u8>,
    /// What follows the head, and then a line end.
    long: Option<Bytes>,
}

impl Push {
    /// A message as its subscribers read it.
    pub fn message(message: &Message) -> Self {
        let Message { kind, pattern, channel, payload, .. } = message;
        let is_long = payload.len() >= SPLICE_MIN_BYTES;
        let copied = if is_long { 0 } else { payload.len() };
        let mut push = Self::of(if pattern.is_some() { 4 } else { 3 }, channel.len() + copied);
        push.bulk(match kind {
            Kind::Channel => b"message",
            Kind::Pattern => b"pmessage",
            Kind::Sharded => b"smessage",
        });
        if let Some(pattern) = pattern {
            push.bulk(pattern);
        }
        push.bulk(channel);
        if is_long {
            push.length(b'$', payload.len());
            push.long = Some(payload.clone());
        } else {
            push.bulk(payload);
        }
        push
    }

    /// The beginning of a push of `len` elements whose texts have about `bytes`.
    fn of(len: usize, bytes: usize) -> Self {
        let mut push = Self { head: Vec::with_capacity(bytes + 64), long: None };
        push.length(b'>', len);
        push
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
        self.head[0] = match protocol {
            Protocol::Resp2 => b'*',
            Protocol::Resp3 => b'>',
        };
        out.extend(&self.head);
        if let Some(long) = &self.long {
            out.splice(long.clone());
            out.extend(b"\r\n");
        }
    }
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
    fn long_texts_are_shared() {
        let payload = Bytes::from(vec![b'l'; SPLICE_MIN_BYTES]);
        let mut out = ReplyBuffer::new();
        Push::message(&message(Kind::Channel, None, payload.clone()))
            .write(&mut out, Protocol::Resp3);
        assert!(out.chunks().any(|chunk| chunk.as_ptr() == payload.as_ptr()));
    }
}
