//! Clients that wait for data: BLPOP and its like.
//!
//! A command that finds nothing becomes a [`Waiter`]: the call itself, to be executed again when one
//! of its keys has something for it. It stands in the queue ([`Queues`]) of every key that it awaits,
//! in the shard that owns the key. A write that changes an awaited key serves those who wait for it at
//! its own end, first come first served, before anything else reaches the key; so `RPUSH k v; LPOP k`
//! in one pipeline does not steal what a waiter was owed. EXEC and scripts do so at their end, key by
//! key in the order of the changes; whom a served one's own writes serve comes after them.
//!
//! Waiters hold no locks. One may stand in queues of several shards, and its worker may give it up
//! (time over, client gone, CLIENT UNBLOCK) at any time: [`Waiter::claim`] decides who answers it.
//!
//! One whose keys, a destination included, are on several shards is served over all of them: as long
//! as it waits, whatever may fill one of its keys is executed with these shards at hand (see
//! [`crate::transaction::couplings`]). Only what comes by itself, a group that is gone with a stream
//! that has expired, is told by the one shard alone.
//!
//! Invariants:
//! - a waiter is claimed once; who claims it answers it. What is claimed is never executed by anybody
//!   else, and its entries in queues are dropped when they are met;
//! - it is claimed for execution only where its command will find something: nobody claims it to try;
//! - so nobody waits whose key has something for it, once the unit that brought it has ended;
//! - it is executed as a whole: a unit may have changed several of its keys, and the first one that it
//!   names counts.
#![forbid(unsafe_code)]

mod queues;

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use tessera_proto::{Args, Protocol, ReplyWriter, RequestBatch};

pub use queues::Queues;

use crate::{
    command::{Call, Caller, Command, waiting},
    notice::Client,
};

/// A command of a client that waits. Clones are the same waiter.
#[derive(Clone)]
pub struct Waiter(Arc<Inner>);

struct Inner {
    is_over: AtomicBool,
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
    /// `is_spread` says that its keys, a destination included, are on several shards.
    pub fn new(call: &Call<'_>, now_us: i64, is_spread: bool) -> Self {
        let mut request = RequestBatch::new();
        request.push(&call.args);
        let time_ms = waiting::timeout_ms(call.command, &call.args, now_us / 1_000);
        Self(Arc::new(Inner {
            is_over: AtomicBool::new(false),
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

    /// Whether its keys are on several shards.
    pub fn is_spread(&self) -> bool {
        self.0.is_spread
    }

    /// Whether all its keys are here, in the eyes of `is_here`.
    pub(crate) fn has_all(&self, is_here: impl Fn(&[u8]) -> bool) -> bool {
        let Some(args) = self.0.request.get(0) else { return false };
        let mut positions = Vec::new();
        let found = self.0.command.keys.positions(&args, &mut positions);
        found.is_ok() && positions.iter().all(|&at| is_here(&args[at]))
    }

    /// The part of its call that concerns the keys that are `here`, where that is not the same as the
    /// whole.
    pub(crate) fn part_here(&self, here: impl FnMut(&[u8]) -> bool) -> Option<RequestBatch> {
        let args: Args<'_> = self.0.request.get(0)?;
        self.0.is_spread.then(|| waiting::part_here(self.0.command, &args, here)).flatten()
    }

    /// Whether it is over.
    pub fn is_over(&self) -> bool {
        self.0.is_over.load(Ordering::Acquire)
    }

    /// Ends the wait; answers whether it was the caller who did: nobody else answers the client then.
    pub fn claim(&self) -> bool {
        !self.0.is_over.swap(true, Ordering::AcqRel)
    }

    /// Lets it be claimed once more, which nothing but a planted fault does.
    #[cfg(test)]
    pub(crate) fn reopen(&self) {
        self.0.is_over.store(false, Ordering::Release);
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
