//! Looking ahead: requests are parsed, checked and routed, and their memory is asked for, before the
//! first of them executes.
//!
//! Invariant: a batch holds only requests that the head of [`in_place`](super) allows; whatever ends
//! it is told ([`End`]) and not done yet.
#![forbid(unsafe_code)]

use tessera_engine::{
    command::{Command, CommandError},
    keyspace::KeyHash,
};
use tessera_proto::{ProtocolError, Span, Step};

use super::{AHEAD_MAX, InPlace, OWNED_REQUEST_MIN};
use crate::{
    cross_protocol::is_foreign,
    exec::is_queued,
    guests::{Guests, is_short, may_visit},
    net::Connection,
    own_shard::OwnShard,
    route::Route,
    session::{Held, Session},
};

/// A request that has been looked at.
#[derive(Clone, Copy)]
pub(super) struct Looked {
    pub(super) command: &'static Command,
    /// Its first byte in the input.
    pub(super) start: usize,
    /// Its length in the input.
    pub(super) consumed: usize,
    /// The end of its arguments in [`Ahead::spans`].
    pub(super) spans_end: usize,
    /// The hash of its key, if it has just one.
    pub(super) hash: Option<KeyHash>,
    /// The shard that it is for: the own one, or a guest.
    pub(super) shard: u32,
}

/// A batch of requests that have been looked at; scratch space of a worker.
#[derive(Default)]
pub(crate) struct Ahead {
    pub(super) requests: Vec<Looked>,
    pub(super) spans: Vec<Span>,
    /// The database of the connection.
    pub(super) database: usize,
    /// What ended the batch, if it has been looked at and not executed.
    pub(super) end: Option<End>,
}

impl Ahead {
    /// How many requests have been looked at.
    pub(crate) fn len(&self) -> usize {
        self.requests.len()
    }

    /// Asks for the memory of the entries.
    #[inline]
    pub(crate) fn fetch(&self, own: &OwnShard, guests: &Guests) {
        for looked in &self.requests {
            if let Some(hash) = looked.hash {
                // The own shard may be away while guests are here.
                let shard = match guests.get(looked.shard) {
                    Some(guest) => guest,
                    None => own,
                };
                shard.keyspace.prefetch_entry(self.database, hash);
            }
        }
    }

    /// Drops what was not executed: its connection is gone.
    pub(crate) fn forget(&mut self) {
        self.requests.clear();
        self.spans.clear();
        self.end = None;
    }
}

/// What ended a batch.
pub(super) enum End {
    /// It is full.
    Full,
    /// The input ends, and lacks so many bytes for the next request.
    Input { missing: usize },
    /// The next request is not for here.
    Held(Held),
    /// The next request is queued for EXEC.
    Queued { consumed: usize, command: &'static Command },
    /// The next request is an empty line or array.
    Empty { consumed: usize },
    /// The next request is answered with an error.
    Refused { consumed: usize, command: Option<&'static Command>, error: CommandError },
    /// The next request is one of another protocol.
    Foreign,
    /// What follows is not the protocol.
    Broken(ProtocolError),
}

impl InPlace<'_> {
    /// Looks at the front of the input for a group, before any of the group executes.
    pub(crate) fn look(&mut self, connection: &mut Connection<Session>, ahead: &mut Ahead) {
        let end = self.look_ahead(connection, ahead);
        ahead.end = Some(end);
    }

    /// Parses and routes requests as long as they are for here, and asks for their memory.
    #[inline]
    pub(super) fn look_ahead(
        &mut self,
        connection: &mut Connection<Session>,
        ahead: &mut Ahead,
    ) -> End {
        ahead.database = connection.session.database as usize;
        let Connection { input, session, .. } = connection;
        let bytes = input.bytes();
        let mut at = 0;
        if let Some(held) = session.held {
            let held = self.routed_again(session, bytes, held);
            if !self.is_here(session, &held, bytes) {
                return End::Held(held);
            }
            session.held = None;
            at = self.take_up(session, bytes, 0, held, ahead);
        }
        while ahead.requests.len() < AHEAD_MAX {
            let consumed = match session.parser.parse(&bytes[at..], self.limits) {
                Ok(Step::Request { consumed }) => consumed,
                Ok(Step::NeedMore { missing }) => return End::Input { missing },
                Err(error) => return End::Broken(error),
            };
            let args = session.parser.args(&bytes[at..]);
            if args.is_empty() {
                return End::Empty { consumed };
            }
            let (command, route) = match self.check(session, &args) {
                Ok(checked) => checked,
                Err((None, _)) if is_foreign(&args) => return End::Foreign,
                Err((command, error)) => return End::Refused { consumed, command, error },
            };
            if session.queue.is_some() && is_queued(command) {
                return End::Queued { consumed, command };
            }
            let held = Held { consumed, command, route, is_paused: false };
            if !self.is_here(session, &held, &bytes[at..]) {
                return End::Held(held);
            }
            at = self.take_up(session, bytes, at, held, ahead);
        }
        End::Full
    }

    /// Whether the request that was parsed last, in `bytes`, can be executed in a batch.
    #[inline]
    fn is_here(&self, session: &Session, held: &Held, bytes: &[u8]) -> bool {
        let Route::Shard(shard) = held.route else { return false };
        let may_run = match shard == self.own {
            true => self.may_run && !self.waits_for_guests(session, held, bytes),
            false => {
                self.guests.may_run_on(shard)
                    && may_visit(session, held)
                    && is_short(self.shard(shard), session, held, bytes)
            }
        };
        may_run
            && held.consumed < OWNED_REQUEST_MIN
            && session.parser.borrows_input()
            && !self.is_held_up(session, held, bytes)
    }

    /// Whether the request that was parsed last, in `bytes`, takes so long that guests go home first.
    #[inline]
    pub(super) fn waits_for_guests(&self, session: &Session, held: &Held, bytes: &[u8]) -> bool {
        !self.guests.is_empty() && !is_short(self.shard, session, held, bytes)
    }

    /// Adds the request that was parsed last, at `at`, to the batch and asks for its bucket; answers
    /// where the next one begins.
    #[inline]
    fn take_up(
        &self,
        session: &Session,
        bytes: &[u8],
        at: usize,
        held: Held,
        ahead: &mut Ahead,
    ) -> usize {
        let Held { consumed, command, route, .. } = held;
        let shard = if let Route::Shard(shard) = route { shard } else { self.own };
        let args = session.parser.args(&bytes[at..]);
        let key = command.keys.single().map(|key| &args[key]);
        let hash = key.map(|key| self.shard(shard).keyspace.prefetch(ahead.database, key));
        ahead.spans.extend_from_slice(session.parser.spans());
        let spans_end = ahead.spans.len();
        ahead.requests.push(Looked { command, start: at, consumed, spans_end, hash, shard });
        at + consumed
    }
}
