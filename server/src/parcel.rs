//! What travels between workers: batches of commands to the shard that executes them, and back.
//!
//! All runs that a worker sends to one shard in one round travel in one [`Parcel`]; the shard
//! writes the replies into the same parcel and sends it home, where it is emptied and used again.
//! In the steady state nothing is allocated.
//!
//! Invariant: a parcel is owned by one worker at a time; it changes owner only through a mailbox.
#![forbid(unsafe_code)]

use std::{collections::VecDeque, mem, sync::Arc};

use tessera_engine::{
    command::Command,
    keyspace::{KeyHash, watch::Watcher},
    shard::{Call, Caller, Shard},
    transaction::{ShardId, couplings::Change, exec::Transaction},
};
use tessera_proto::{Args, Mark, Protocol, ReplyBuffer, RequestBatch};

use crate::{in_place::AHEAD_MAX, net::ConnectionId, pubsub::News, session::Session};

/// A parcel is sent when it holds so many calls, even before its round ends: long enough to make
/// the hop cheap, short enough that the receiver goes on with its own connections soon.
pub const CALLS_MAX: usize = 512;
/// The same for the bytes of its arguments.
pub const BYTES_MAX: usize = 64 << 10;

/// What a worker finds in its mailbox.
pub enum Message {
    /// Commands to execute here.
    Request(Box<Parcel>),
    /// An own parcel coming home with the replies.
    Reply(Box<Parcel>),
    /// A worker asks for this shard, whole (see `loan`).
    Borrow {
        /// The worker that asks.
        host: u32,
        /// Its time in microseconds since the Unix epoch.
        now_us: i64,
        /// The epoch of the log in which it asked.
        stamp: u64,
    },
    /// A shard that this worker has asked for.
    Lent {
        /// Its owner.
        owner: ShardId,
        /// The shard.
        shard: Box<Shard>,
    },
    /// The own shard coming back.
    Return {
        /// The worker that had it.
        host: u32,
        /// The shard.
        shard: Box<Shard>,
        /// The host's time in microseconds since the Unix epoch.
        now_us: i64,
    },
    /// The owner has its shard back.
    Returned {
        /// The owner.
        owner: ShardId,
    },
    /// A worker tells all workers which keys are coupled (see `couplings`).
    Coupled {
        /// The worker that tells it.
        host: u32,
        /// What is new.
        changes: Arc<[Change]>,
    },
    /// A worker has heard of couplings.
    CoupledHeard {
        /// Who has.
        by: u32,
    },
    /// What this worker tells the receiver's clients, of so many bytes.
    News {
        /// Who sends it.
        from: u32,
        /// In their order.
        news: Vec<News>,
        /// Their size as the sender counts it.
        bytes: usize,
    },
    /// News of so many bytes have come to this worker.
    NewsHeard {
        /// Who answers.
        by: u32,
        /// Their size as the receiver of this counts it.
        bytes: usize,
    },
}

/// What a call carries besides its arguments. Only calls of session commands carry something.
pub enum Attachment {
    /// EXEC: the whole transaction.
    Transaction(Box<Transaction>),
    /// WATCH: who watches the keys.
    Watcher(Watcher),
}

/// Who waits for a reply at home.
#[derive(Clone, Copy, Debug)]
pub struct Addressee {
    /// The connection that sent the command; it may be gone when the reply comes.
    pub connection: ConnectionId,
    /// The place in the connection's queue of replies.
    pub ticket: u64,
    /// Which part of a command over several shards this is.
    pub part: u32,
}

/// How a call is to be executed.
#[derive(Clone, Copy)]
pub struct CallHeader {
    /// The command's row.
    pub command: &'static Command,
    /// The connection's database.
    pub database: u32,
    /// The reply's version.
    pub protocol: Protocol,
    /// CLIENT NO-TOUCH.
    pub no_touch: bool,
    /// Who sent it.
    pub caller: Caller,
    /// It is a part of a command over several shards, which is counted as one where it came in.
    pub is_part: bool,
}

impl CallHeader {
    /// How `command` is to be executed for this session.
    pub fn new(command: &'static Command, session: &Session) -> Self {
        let caller = session.caller();
        Self {
            command,
            database: session.database,
            protocol: session.protocol,
            no_touch: session.no_touch,
            caller,
            is_part: false,
        }
    }

    /// How a part of `command` is to be executed for this session.
    pub fn of_part(command: &'static Command, session: &Session) -> Self {
        Self { is_part: true, ..Self::new(command, session) }
    }

    /// How `command` is to be executed that no client has sent.
    pub fn unasked(command: &'static Command) -> Self {
        Self {
            command,
            database: 0,
            protocol: Protocol::default(),
            no_touch: false,
            caller: Caller::default(),
            is_part: false,
        }
    }

    /// The call with these arguments.
    #[inline]
    pub fn call<'a>(&self, args: Args<'a>) -> Call<'a> {
        Call {
            command: self.command,
            args,
            database: self.database,
            protocol: self.protocol,
            no_touch: self.no_touch,
            caller: self.caller,
        }
    }
}

/// Consecutive calls whose replies go to one addressee.
#[derive(Clone, Copy, Debug)]
pub struct RunHeader {
    /// Who gets the replies.
    pub to: Addressee,
    /// The index behind its last call.
    pub end: u32,
    /// Nanoseconds that the executing worker took for its parts of commands.
    pub nanos: u64,
    /// Its replies need not wait at the gate.
    pub is_ungated: bool,
}

/// What executes the calls of a parcel.
pub trait Executor {
    /// Asks for the memory of a call's bucket; answers the hash of its key, if it has just one.
    fn look(&self, header: &CallHeader, args: &Args<'_>) -> Option<KeyHash>;
    /// Asks for the memory of its entry.
    fn fetch(&self, header: &CallHeader, hash: KeyHash);
    /// Executes it and appends its reply. `to` is a connection of the parcel's origin. Answers how
    /// many nanoseconds it has taken that are to be counted there: 0 unless it is a part.
    fn run(
        &mut self,
        to: ConnectionId,
        header: &CallHeader,
        args: Args<'_>,
        out: &mut ReplyBuffer,
    ) -> u64;
    /// Appends what there is to tell to the clients of `origin`, with the number of the run that has
    /// just ended; passes on what others are to be told. Answers whether the replies of the run are
    /// known to tell nothing that may be lost.
    fn end_run(&mut self, origin: u32, run: u32, news: &mut Vec<(u32, News)>) -> bool;
}

/// A batch of runs from one worker to one shard.
#[derive(Default)]
pub struct Parcel {
    /// The worker that sent it and gets it back.
    pub origin: u32,
    /// The shard that executes it.
    pub executor: u32,
    /// The epoch of the log in which it took its place.
    pub stamp: u64,
    /// The sender's time, then the executing shard's, in microseconds since the Unix epoch.
    pub now_us: i64,
    calls: Vec<CallHeader>,
    requests: RequestBatch,
    /// What calls carry, in the order of these calls.
    attachments: VecDeque<Attachment>,
    runs: Vec<RunHeader>,
    replies: ReplyBuffer,
    /// The end of every run's replies.
    reply_ends: Vec<Mark>,
    /// What the executing worker tells the sender's clients, each with the number of runs whose
    /// replies stand before it.
    news: Vec<(u32, News)>,
}

impl Parcel {
    /// Adds a call whose reply goes to `to`.
    pub fn push(&mut self, to: Addressee, header: CallHeader, args: &Args<'_>) {
        self.requests.push(args);
        self.calls.push(header);
        let end = self.calls.len() as u32;
        match self.runs.last_mut() {
            Some(run)
                if run.to.connection == to.connection
                    && run.to.ticket == to.ticket
                    && run.to.part == to.part =>
            {
                run.end = end
            }
            _ => self.runs.push(RunHeader { to, end, nanos: 0, is_ungated: false }),
        }
    }

    /// Attaches something to the call that was added last.
    pub fn attach(&mut self, attachment: Attachment) {
        self.attachments.push_back(attachment);
    }

    /// Takes out what its calls carry.
    pub fn take_attachments(&mut self) -> VecDeque<Attachment> {
        mem::take(&mut self.attachments)
    }

    /// Its calls in order.
    pub fn calls(&self) -> impl Iterator<Item = (&CallHeader, Args<'_>)> {
        self.calls.iter().zip(self.requests.iter())
    }

    /// Who gets the reply of the last call.
    pub fn last(&self) -> Option<Addressee> {
        self.runs.last().map(|run| run.to)
    }

    /// Whether nothing is in it.
    pub fn is_empty(&self) -> bool {
        self.calls.is_empty()
    }

    /// Whether it should leave before its round ends.
    pub fn is_full(&self) -> bool {
        self.calls.len() >= CALLS_MAX || self.requests.len_bytes() >= BYTES_MAX
    }

    /// How many calls are in it.
    pub fn len(&self) -> usize {
        self.calls.len()
    }

    /// Executes every call in order, looking ahead as for the own connections' commands.
    pub fn execute(&mut self, executor: &mut impl Executor) {
        let mut hashes = [None; AHEAD_MAX];
        let mut runs = self.runs.iter_mut();
        let Some(mut run) = runs.next() else { return };
        for first in (0..self.calls.len()).step_by(AHEAD_MAX) {
            let batch = first..(first + AHEAD_MAX).min(self.calls.len());
            for (index, hash) in batch.clone().zip(&mut hashes) {
                let args = self.requests.get(index);
                *hash = args.and_then(|args| executor.look(&self.calls[index], &args));
            }
            for (index, hash) in batch.clone().zip(&hashes) {
                if let Some(hash) = hash {
                    executor.fetch(&self.calls[index], *hash);
                }
            }
            for index in batch {
                if let Some(args) = self.requests.get(index) {
                    let to = run.to.connection;
                    run.nanos += executor.run(to, &self.calls[index], args, &mut self.replies);
                }
                if index + 1 == run.end as usize {
                    self.reply_ends.push(self.replies.mark());
                    let number = self.reply_ends.len() as u32;
                    run.is_ungated = executor.end_run(self.origin, number, &mut self.news);
                    if let Some(next) = runs.next() {
                        run = next;
                    }
                }
            }
        }
    }

    /// Every run with the place of its replies in [`Parcel::replies`].
    pub fn answers(&self) -> impl Iterator<Item = (RunHeader, std::ops::Range<Mark>)> + '_ {
        let starts = std::iter::once(Mark::default()).chain(self.reply_ends.iter().copied());
        let places = starts.zip(self.reply_ends.iter().copied());
        self.runs.iter().zip(places).map(|(run, (start, end))| (*run, start..end))
    }

    /// Lets `news` go home before all replies.
    pub fn begin_with(&mut self, news: Vec<News>) {
        self.news.extend(news.into_iter().map(|news| (0, news)));
    }

    /// Takes out what it tells, in order, each with the number of runs whose replies stand before it.
    pub fn take_news(&mut self) -> Vec<(u32, News)> {
        std::mem::take(&mut self.news)
    }

    /// The replies of all runs.
    pub fn replies(&self) -> &ReplyBuffer {
        &self.replies
    }

    /// Empties it for its next use; what it holds beyond the usual is given back.
    pub fn clear(&mut self) {
        self.calls.clear();
        self.requests.clear();
        self.attachments.clear();
        self.runs.clear();
        self.replies.clear();
        self.reply_ends.clear();
    }
}
