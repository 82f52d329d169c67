//! Replies that take long to compute.
//!
//! To intersect sets of a million members takes some hundred milliseconds, in which a shard would do
//! nothing else. What a command reads is captured, which is to hold roots, so the work need not be done at
//! once: the command leaves a [`Work`] in the reply, and whoever sends that lets it go on by slices, until
//! it knows what to answer. The reply is that of the command's instant, whatever changes meanwhile; later
//! commands of the connection have executed by then, and their replies wait, as behind any reply.
//!
//! Scripts get their replies at once, and so do those who ask for little.
//!
//! Invariant: a [`Computed`] is a [`Source`]: once it is done it writes the same bytes however often it is
//! asked, and before that nothing.
#![forbid(unsafe_code)]

use std::{
    fmt::Debug,
    sync::{Arc, Mutex, PoisonError},
};

use tessera_proto::{Protocol, ReplyBuffer, ReplyWriter, buffer::Source};

use super::walk::LONG_LEN;

/// Look-ups of members in a slice: some 0.2 µs each in sets that lie outside the caches.
const SLICE_LOOKUPS: usize = 2_000;

/// A computation over captured collections.
pub(super) trait Work: Debug + Send {
    /// Goes on for so many look-ups; the reply, when it is known.
    fn go_on(&mut self, lookups: usize, protocol: Protocol) -> Option<Computed>;
}

/// Whether what takes so many look-ups is done in slices.
#[inline]
pub(super) fn is_long(lookups: usize, is_script: bool) -> bool {
    lookups >= LONG_LEN && !is_script
}

/// The reply that `work` comes to, computed while it is sent.
pub(super) fn in_slices(work: impl Work + 'static, protocol: Protocol) -> Arc<dyn Source> {
    Arc::new(InSlices { state: Mutex::new(State::Working(Box::new(work))), protocol })
}

/// What was computed: the beginning of the reply, and what writes the rest if there is more.
#[derive(Debug)]
pub(super) struct Computed {
    /// What the reply begins with.
    pub(super) head: ReplyBuffer,
    /// The rest.
    pub(super) rest: Option<Arc<dyn Source>>,
}

/// A reply that is computed in slices. Its first position is that of the work and of the head, those
/// behind it are one more than the rest's.
#[derive(Debug)]
struct InSlices {
    state: Mutex<State>,
    protocol: Protocol,
}

#[derive(Debug)]
enum State {
    Working(Box<dyn Work>),
    Done(Computed),
}

impl Source for InSlices {
    fn write(&self, position: u64, out: &mut ReplyBuffer) -> Option<u64> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if let State::Working(work) = &mut *state {
            match work.go_on(SLICE_LOOKUPS, self.protocol) {
                None => return Some(0),
                Some(computed) => *state = State::Done(computed),
            }
        }
        let State::Done(Computed { head, rest }) = &*state else { return Some(0) };
        match position.checked_sub(1) {
            None => {
                out.append(head);
                rest.as_ref().map(|_| 1)
            }
            Some(position) => rest.as_ref()?.write(position, out).map(|next| next + 1),
        }
    }
}

/// What `write` writes.
pub(super) fn written(protocol: Protocol, write: impl FnOnce(&mut ReplyWriter<'_>)) -> ReplyBuffer {
    let mut reply = ReplyBuffer::new();
    write(&mut ReplyWriter::new(&mut reply, protocol));
    reply
}

/// Replies that are computed as they are and written in pieces: elements whose number is not known before
/// the last.
#[derive(Debug, Default)]
pub(super) struct Pieces {
    pieces: Vec<ReplyBuffer>,
    /// Elements in all of them.
    len: usize,
}

/// What a piece has at least, but for the last.
const PIECE_BYTES: usize = 64 << 10;

impl Pieces {
    /// Adds an element, which `write` writes.
    pub(super) fn push(&mut self, protocol: Protocol, write: impl FnOnce(&mut ReplyWriter<'_>)) {
        if self.pieces.last().is_none_or(|piece| piece.len() >= PIECE_BYTES) {
            self.pieces.push(ReplyBuffer::new());
        }
        if let Some(piece) = self.pieces.last_mut() {
            write(&mut ReplyWriter::new(piece, protocol));
        }
        self.len += 1;
    }

    /// A reply that `begin` begins, knowing how many elements follow, and these.
    pub(super) fn finish(
        self,
        protocol: Protocol,
        begin: impl FnOnce(&mut ReplyWriter<'_>, usize),
    ) -> Computed {
        let head = written(protocol, |reply| begin(reply, self.len));
        let rest: Option<Arc<dyn Source>> = match self.pieces.is_empty() {
            true => None,
            false => Some(Arc::new(self)),
        };
        Computed { head, rest }
    }
}

impl Source for Pieces {
    fn write(&self, position: u64, out: &mut ReplyBuffer) -> Option<u64> {
        out.append(self.pieces.get(position as usize)?);
        (position + 1 < self.pieces.len() as u64).then_some(position + 1)
    }
}

#[cfg(test)]
mod tests;
