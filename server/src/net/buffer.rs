//! The input of one connection: bytes received and not yet consumed.
//!
//! Why two places: most requests arrive whole in one of the ring's receive buffers, and are parsed
//! there without a copy. What is left when a turn ends is carried over in memory of the connection's
//! own, because the ring's buffers serve all connections and must go back.
//!
//! A long argument is announced with [`Input::expect`]; then one allocation of the right size takes
//! it, so that 512 MB stream in without being moved, and [`Input::take_owned`] hands the allocation
//! over to become the value.
//!
//! Invariant: if `carried` holds bytes there is no lease, so the input is always one slice.

#![forbid(unsafe_code)]

use bytes::{Buf, Bytes, BytesMut};

use crate::runtime::ring::Lease;

/// From this many missing bytes on, the allocation is made exactly as large as needed.
pub const EXACT_MIN: usize = 32 * 1024;
/// How much of an argument must have come before its whole length is believed and allocated: a
/// length alone costs its sender nothing.
const BELIEVED_FROM: usize = 1024 * 1024;
/// Bytes received and not yet consumed, as one slice.
#[derive(Debug, Default)]
pub struct Input {
    lease: Option<Lease>,
    /// Bytes of the lease that are consumed.
    start: usize,
    carried: BytesMut,
    /// Bytes that `carried` is to hold in all, from its first byte, for the announced argument.
    expected: usize,
}

impl Input {
    /// All bytes that wait.
    #[inline]
    pub fn bytes(&self) -> &[u8] {
        match &self.lease {
            Some(lease) => &lease[self.start..],
            None => &self.carried,
        }
    }

    /// How many bytes wait.
    #[inline]
    pub fn len(&self) -> usize {
        self.bytes().len()
    }

    /// Whether nothing waits.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Memory that this input holds of its own, in bytes.
    pub fn memory(&self) -> usize {
        self.carried.capacity()
    }

    /// Drops the first `count` bytes, which have been executed.
    ///
    /// # Panics
    /// If fewer bytes wait.
    #[inline]
    pub fn consume(&mut self, count: usize) {
        assert!(count <= self.len(), "only bytes that wait are consumed");
        match &self.lease {
            Some(lease) => {
                self.start += count;
                if self.start == lease.len() {
                    self.lease = None;
                }
            }
            None => self.carried.advance(count),
        }
        self.expected = 0;
    }

    /// Takes the first `count` bytes as an owned piece that may become a value. The piece is the
    /// allocation itself if the bytes were carried, and a copy if they lie in the ring's buffer.
    ///
    /// # Panics
    /// If fewer bytes wait.
    pub fn take_owned(&mut self, count: usize) -> Bytes {
        assert!(count <= self.len(), "only bytes that wait are taken");
        if self.lease.is_some() {
            let copy = Bytes::copy_from_slice(&self.bytes()[..count]);
            self.consume(count);
            return copy;
        }
        self.expected = 0;
        if count == self.carried.len() {
            return std::mem::take(&mut self.carried).freeze();
        }
        // What follows is copied away: sharing would keep the whole allocation alive.
        let rest = BytesMut::from(&self.carried[count..]);
        let mut whole = std::mem::replace(&mut self.carried, rest);
        whole.truncate(count);
        whole.freeze()
    }

    /// Announces that the request at the front lacks `missing` bytes at least. From [`EXACT_MIN`] on they
    /// get their place at once.
    pub fn expect(&mut self, missing: usize) {
        if missing < EXACT_MIN {
            return;
        }
        let have = self.len();
        let missing = if have < BELIEVED_FROM { missing.min(BELIEVED_FROM) } else { missing };
        let Some(total) = have.checked_add(missing) else { return };
        if self.expected == total && self.lease.is_none() {
            return;
        }
        self.expected = total;
        if self.lease.is_some() || self.carried.capacity() < total {
            let mut place = BytesMut::with_capacity(total);
            place.extend_from_slice(self.bytes());
            self.carried = place;
            self.lease = None;
            self.start = 0;
        }
    }

    /// Bytes that the announced argument still lacks.
    pub fn missing(&self) -> usize {
        self.expected.saturating_sub(self.len())
    }

    /// Takes bytes that have arrived.
    #[inline]
    pub(super) fn receive(&mut self, lease: Lease) {
        if self.lease.is_none() && self.carried.is_empty() && self.expected == 0 {
            self.lease = Some(lease);
            self.start = 0;
        } else {
            self.carry();
            self.carried.extend_from_slice(&lease);
        }
    }

    /// Moves what lies in the ring's buffer to memory of our own and gives the buffer back. An empty
    /// input gives up its memory, so that an idle connection holds none.
    pub(super) fn carry(&mut self) {
        if let Some(lease) = self.lease.take() {
            self.carried.extend_from_slice(&lease[self.start..]);
            self.start = 0;
        } else if self.carried.is_empty() && self.expected == 0 && self.carried.capacity() > 0 {
            self.carried = BytesMut::new();
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;
    use crate::runtime::ring::lease_of;

    #[test]
    fn a_request_that_arrives_whole_is_not_copied() {
        let mut input = Input::default();
        input.receive(lease_of(b"one two"));
        assert_eq!((input.bytes(), input.memory()), (&b"one two"[..], 0));
        input.consume(4);
        assert_eq!(input.bytes(), b"two");
        input.consume(3);
        assert!(input.is_empty() && input.lease.is_none());
    }

    #[test]
    fn leftovers_are_carried_and_joined() {
        let mut input = Input::default();
        input.receive(lease_of(b"whole part"));
        input.consume(6);
        input.carry();
        assert!(input.lease.is_none());
        input.receive(lease_of(b" and the rest"));
        assert_eq!(input.bytes(), b"part and the rest");
        input.consume(input.len());
        input.carry();
        assert_eq!(input.memory(), 0);
    }

    #[test]
    fn an_announced_argument_becomes_a_value_without_moving() {
        let argument = vec![7; 3 * EXACT_MIN];
        let mut input = Input::default();
        input.receive(lease_of(&argument[..1000]));
        input.expect(argument.len() - 1000);
        let place = input.bytes().as_ptr();
        assert_eq!(input.memory(), argument.len());
        for piece in argument[1000..].chunks(16_000) {
            assert!(input.missing() > 0);
            input.receive(lease_of(piece));
        }
        assert_eq!(input.missing(), 0);
        let value = input.take_owned(argument.len());
        assert_eq!((value.as_ptr(), &value[..]), (place, &argument[..]));
        assert!(input.is_empty());
    }

    #[test]
    fn what_follows_an_owned_argument_stays() {
        let mut input = Input::default();
        input.receive(lease_of(b"taken kept"));
        assert_eq!(&input.take_owned(6)[..], b"taken ");
        assert_eq!(input.bytes(), b"kept");
        input.carry();
        input.receive(lease_of(b"!"));
        assert_eq!(&input.take_owned(4)[..], b"kept");
        assert_eq!(input.bytes(), b"!");
    }

    #[derive(Clone, Debug)]
    enum Op {
        Receive(Vec<u8>),
        Consume(usize),
        Take(usize),
        Expect(usize),
        Carry,
    }

    fn op() -> impl Strategy<Value = Op> {
        prop_oneof![
            vec(any::<u8>(), 1..200).prop_map(Op::Receive),
            (0..300_usize).prop_map(Op::Consume),
            (0..300_usize).prop_map(Op::Take),
            (0..2 * EXACT_MIN).prop_map(Op::Expect),
            Just(Op::Carry),
        ]
    }

    proptest! {
        #[test]
        fn input_matches_a_plain_queue_of_bytes(ops in vec(op(), 1..60)) {
            let (mut input, mut model) = (Input::default(), Vec::new());
            for op in ops {
                match op {
                    Op::Receive(bytes) => {
                        input.receive(lease_of(&bytes));
                        model.extend(bytes);
                    }
                    Op::Consume(count) => {
                        let count = count.min(model.len());
                        input.consume(count);
                        model.drain(..count);
                    }
                    Op::Take(count) => {
                        let count = count.min(model.len());
                        let taken: Vec<u8> = model.drain(..count).collect();
                        prop_assert_eq!(&input.take_owned(count)[..], &taken[..]);
                    }
                    Op::Expect(missing) => input.expect(missing),
                    Op::Carry => input.carry(),
                }
                prop_assert_eq!(input.bytes(), &model[..]);
            }
        }
    }
}
