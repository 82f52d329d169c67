//! Clients that wait for data: BLPOP and its like.
//!
//! A command that finds nothing becomes a [`Waiter`]: the call itself, to be executed again when one
//! of its keys changes. It stands in the queue ([`Queues`]) of every key that it names, in the shard
//! that owns the key. A write that changes an awaited key serves those who wait for it at its own
//! end, first come first served, before anything else reaches the key; so `RPUSH k v; LPOP k` in one
//! pipeline does not steal what a waiter was owed. EXEC and scripts do so at their end, key by key in
//! the order of the changes.
//!
//! Waiters hold no locks. One may stand in queues of several shards, and its worker may give it up
//! (time over, client gone, CLIENT UNBLOCK) at any time: who takes its word, [`Waiter::try_claim`], may
//! execute it, and nobody else does meanwhile.
//!
//! Invariants:
//! - the word goes from *waiting* to *tried* and from there back, or to *over*; or from *waiting* to
//!   *over*. What is over is never executed: its entries in queues are dropped when they are met;
//! - a waiter is executed only by a shard that has all keys which the command needs to give the
//!   right answer ([`Waiter::is_local`]), or else by its own worker over all of its shards: that one
//!   is told ([`crate::shard::Answer::Ready`]);
//! - within a unit over several shards, one whose shards are all at hand is executed over all of them:
//!   there more than one of its keys may have changed, and the first one that it names counts;
//! - a key is awaited in the keyspace's eyes exactly as often as its queue has entries.
#![forbid(unsafe_code)]

mod queues;

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering},
    },
};

use tessera_proto::{Protocol, ReplyWriter, RequestBatch};

pub use queues::Queues;

use crate::{
    command::{Command, waiting},
    notice::Client,
    shard::{Call, Caller},
};

const WAITING: u8 = 0;
const TRIED: u8 = 1;
const OVER: u8 = 2;

/// A command of a client that waits. Clones are the same waiter.
#[derive(Clone)]
pub struct Waiter(Arc<Inner>);

struct Inner {
    word: AtomicU8,
    command: &'static Command,
    request: RequestBatch,
    database: u32,
    protocol: Protocol,
    no_touch: bool,
    caller: Caller,
    deadline_us: Option<i64>,
    is_spread: bool,
}

impl Waiter {
    /// Makes a waiter of a call that found nothing at `now_us`, in microseconds since the Unix epoch.
    /// `is_spread` says that its keys are on several shards.
    pub fn new(call: &Call<'_>, now_us: i64, is_spread: bool) -> Self {
        let mut request = RequestBatch::new();
        request.push(&call.args);
        let time_ms = waiting::timeout_ms(call.command, &call.args, now_us / 1_000);
        Self(Arc::new(Inner {
            word: AtomicU8::new(WAITING),
            command: call.command,
            request,
            database: call.database,
            protocol: call.protocol,
            no_touch: call.no_touch,
            caller: call.caller,
            deadline_us: time_ms
                .filter(|&time| time > 0)
                .map(|time| now_us.saturating_add(time.saturating_mul(1_000))),
            is_spread,
        }))
    }

    /// The call, to be executed again.
    pub fn call(&self) -> Option<Call<'_>> {
        Some(Call {
            command: self.0.command,
            args: self.0.request.get(0)?,
            database: self.0.database,
            protocol: self.0.protocol,
            no_touch: self.0.no_touch,
            caller: self.0.caller,
        })
    }

    /// The client.
    pub fn client(&self) -> Client {
        self.0.caller.client
    }

    /// The command that waits.
    pub fn command(&self) -> &'static Command {
        self.0.command
    }

    /// Until when it waits, in microseconds since the Unix epoch; for ever if there is none.
    pub fn deadline_us(&self) -> Option<i64> {
        self.0.deadline_us
    }

    /// Whether a shard that owns one of the keys may execute it without the others: those are empty
    /// then, or it would not wait.
    pub fn is_local(&self) -> bool {
        !self.0.is_spread || !waiting::needs_all_keys(self.0.command)
    }

    /// Whether its keys are on several shards.
    pub fn is_spread(&self) -> bool {
        self.0.is_spread
    }

    /// Whether it is over.
    pub fn is_over(&self) -> bool {
        self.0.word.load(Ordering::Acquire) == OVER
    }

    /// Takes the word to execute the command; [`Waiter::settle`] must follow.
    pub fn try_claim(&self) -> bool {
        self.change(WAITING, TRIED)
    }

    /// Gives the word back after a claim: the waiter waits on, or is over.
    pub fn settle(&self, is_over: bool) {
        self.0.word.store(if is_over { OVER } else { WAITING }, Ordering::Release);
    }

    /// Ends the wait, unless somebody executes the command just now, or has done so: then its answer
    /// comes.
    pub fn give_up(&self) -> bool {
        self.change(WAITING, OVER)
    }

    fn change(&self, from: u8, to: u8) -> bool {
        self.0.word.compare_exchange(from, to, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }

    /// Writes what the client reads when its time is over, whatever the command.
    pub fn reply_timeout(&self, reply: &mut ReplyWriter<'_>) {
        reply.null_array();
    }

    /// Whether both are the same.
    pub fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl fmt::Debug for Waiter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Inner { command, caller, .. } = &*self.0;
        f.debug_struct("Waiter").field("command", &command.name).field("caller", caller).finish()
    }
}
