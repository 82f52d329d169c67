//! Commands that belong to the worker's own shard, executed where their bytes lie.
//!
//! Why it looks ahead: with more keys than the caches hold, a command waits for memory twice, for
//! its bucket and for its entry, and that is most of its time. So a batch of pipelined requests is
//! parsed first, and the buckets asked for; then the entries; and then the commands run and find
//! both there. Unpipelined requests of several connections are looked at together in the same way.
//!
//! Invariants:
//! - a batch holds only commands of the own shard and of guests (see `guests`), which cannot change how
//!   later requests are parsed, checked or routed; everything else ends it;
//! - what ends a batch is dealt with after the batch has run, so replies keep their order;
//! - what has been looked at is executed, or its connection is gone, before the group's next
//!   round: between rounds nothing is left in any [`Ahead`].
#![forbid(unsafe_code)]

use std::mem;

use bytes::Bytes;
use tessera_engine::{
    command::{Command, CommandError, CommandTable, table::flag},
    keyspace::KeyHash,
    persist::doubt::Doubt,
    shard::{Call, Shard},
    transaction::{couplings::Couplings, parts::Splitter},
};
use tessera_proto::{Args, Limits, ProtocolError, ReplyBuffer, ReplyWriter, Span, Step};

use crate::{
    aof::doubt::spares,
    dispatch::Advance,
    exec::is_queued,
    guests::{Guests, is_short, may_visit},
    metrics::WorkerMetrics,
    monitor,
    net::Connection,
    own_shard::OwnShard,
    pause::Pause,
    replies::{BufferPool, Out},
    route::{Route, ShardMap},
    scripts::shared::Busy,
    server::Shared,
    session::{Held, Session},
    session_commands,
    slowlog::Watch,
    stopwatch::Stopwatch,
};

/// Requests in a batch at most: enough to hide the latency of memory, few enough that what was
/// fetched for the first is still in the nearest cache when it runs. See `tuning.md`.
pub(crate) const AHEAD_MAX: usize = 16;
/// From this length on, a request's own allocation may become the value, so that it is not copied.
pub(crate) const OWNED_REQUEST_MIN: usize = tessera_proto::buffer::SPLICE_MIN_BYTES;

/// What has been looked at executes before a guest goes home.
const STAYS: &str = "a guest stays until what was looked at for it has executed";

/// Why the stretch of commands that a worker executes in place has ended.
pub(crate) enum Stop {
    /// At a request that something else has to be done with; it is held in the session.
    At(Held),
    /// For good, or for this round.
    With(Advance),
}

/// A request that has been looked at.
#[derive(Clone, Copy)]
struct Looked {
    command: &'static Command,
    /// Its first byte in the input.
    start: usize,
    /// Its length in the input.
    consumed: usize,
    /// The end of its arguments in [`Ahead::spans`].
    spans_end: usize,
    /// The hash of its key, if it has just one.
    hash: Option<KeyHash>,
    /// The shard that it is for: the own one, or a guest.
    shard: u32,
}

/// A batch of requests that have been looked at; scratch space of a worker.
#[derive(Default)]
pub(crate) struct Ahead {
    requests: Vec<Looked>,
    spans: Vec<Span>,
    /// The database of the connection.
    database: usize,
    /// What ended the batch, if it has been looked at and not executed.
    end: Option<End>,
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
enum End {
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
    /// What follows is not the protocol.
    Broken(ProtocolError),
}

/// What executing in place needs besides the connection.
pub(crate) struct InPlace<'a> {
    pub(crate) shard: &'a mut OwnShard,
    pub(crate) guests: &'a mut Guests,
    pub(crate) own: u32,
    /// Whether own commands may execute in this round, by rules (a) and (c).
    pub(crate) may_run: bool,
    pub(crate) map: ShardMap,
    pub(crate) commands: &'static CommandTable,
    pub(crate) limits: &'a Limits,
    pub(crate) positions: &'a mut Vec<usize>,
    pub(crate) pool: &'a mut BufferPool,
    pub(crate) metrics: &'a WorkerMetrics,
    pub(crate) stopwatch: &'a mut Stopwatch,
    pub(crate) pause: Pause,
    /// Keys that are coupled, if any are.
    pub(crate) couplings: Option<&'a Couplings>,
    pub(crate) splitter: &'a mut Splitter,
    /// Bytes that commands may preserve for a save.
    pub(crate) preserve_bytes_max: Option<usize>,
    /// A script that runs too long, anywhere.
    pub(crate) busy: Option<Busy>,
    /// Some shard is not loaded yet: no key may be looked at.
    pub(crate) is_loading: bool,
    /// Flags of commands that are not permitted to everyone at any time.
    pub(crate) care: u32,
    /// `client-output-buffer-limit`, hard, in bytes; 0 is none.
    pub(crate) output_bytes_max: u64,
    pub(crate) watch: &'a Watch,
    pub(crate) is_monitored: bool,
    pub(crate) shown: &'a mut Vec<Bytes>,
    pub(crate) shared: &'a Shared,
    pub(crate) now_us: i64,
    /// What may be lost, while a log cannot be written.
    pub(crate) doubt: Option<&'a Doubt>,
}

impl InPlace<'_> {
    /// Executes requests until one is not for here.
    pub(crate) fn run(&mut self, connection: &mut Connection<Session>, ahead: &mut Ahead) -> Stop {
        // What has been looked at in a group executes first.
        let mut end = ahead.end.take();
        loop {
            let ended = match end.take() {
                Some(end) => end,
                None => {
                    let end = self.look_ahead(connection, ahead);
                    if ahead.len() > 1 {
                        ahead.fetch(self.shard, self.guests);
                    }
                    end
                }
            };
            self.execute_batch(connection, ahead);
            self.look_at_budget();
            if connection.is_over_limit(self.output_bytes_max) {
                return Stop::With(Advance::Overrun);
            }
            if matches!(ended, End::Full) && self.guests.is_one_wanted(&self.shared.berths) {
                return Stop::With(Advance::NextRound);
            }
            if let Some(stop) = self.stop_at(connection, ended) {
                return stop;
            }
        }
    }

    /// A save under way may have as much preserved as it takes: what would add to that waits from the
    /// next request on.
    #[inline]
    fn look_at_budget(&mut self) {
        if let Some(max) = self.preserve_bytes_max
            && self.pause == Pause::Off
            && self.shard.is_here()
            && self.shard.keyspace.preserved_bytes() >= max
        {
            self.pause = Pause::Uncaptured;
        }
    }

    /// Whether `shard` has more to preserve for a save than it may.
    fn is_over_budget(&self, shard: u32) -> bool {
        let is_own = shard == self.own && self.shard.is_here();
        let is_full = |max: usize| is_own && self.shard.keyspace.preserved_bytes() >= max;
        self.preserve_bytes_max.is_some_and(is_full) || self.shared.saves.is_over_budget(shard)
    }

    /// Looks at the front of the input for a group, before any of the group executes.
    pub(crate) fn look(&mut self, connection: &mut Connection<Session>, ahead: &mut Ahead) {
        let end = self.look_ahead(connection, ahead);
        ahead.end = Some(end);
    }

    /// Parses and routes requests as long as they are for here, and asks for their memory.
    #[inline]
    fn look_ahead(&mut self, connection: &mut Connection<Session>, ahead: &mut Ahead) -> End {
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
    fn waits_for_guests(&self, session: &Session, held: &Held, bytes: &[u8]) -> bool {
        !self.guests.is_empty() && !is_short(self.shard, session, held, bytes)
    }

    /// Whether the request that was parsed last, in `bytes`, waits for the end of a pause.
    #[inline]
    fn is_held_up(&self, session: &Session, held: &Held, bytes: &[u8]) -> bool {
        match self.pause {
            Pause::Off => false,
            Pause::Uncaptured => self.would_preserve(session, held, bytes),
            pause => pause.holds(held.command),
        }
    }

    /// Whether the request would change what a save, which has too much to preserve already, has not
    /// captured yet. Of other shards it is not known what is captured, so their budget decides.
    #[cold]
    fn would_preserve(&self, session: &Session, held: &Held, bytes: &[u8]) -> bool {
        match held.route {
            _ if !self.pause.holds(held.command) => false,
            Route::Shard(shard) if !self.is_over_budget(shard) => false,
            Route::Shard(shard) if shard == self.own && self.shard.is_here() => {
                let args = session.parser.args(bytes);
                let mut positions = Vec::new();
                let found = held.command.keys.positions(&args, &mut positions);
                let (database, keyspace) = (session.database as usize, &self.shard.keyspace);
                let is_lacking = |&at: &usize| keyspace.is_to_be_captured(database, &args[at]);
                found.is_err() || positions.iter().any(is_lacking)
            }
            _ => true,
        }
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

    /// The own shard or a guest.
    #[inline]
    fn shard(&self, shard: u32) -> &Shard {
        if shard == self.own {
            return self.shard;
        }
        self.guests.get(shard).expect(STAYS)
    }

    /// Everything that can be said against a request before it runs.
    #[inline]
    fn check(
        &mut self,
        session: &Session,
        args: &Args<'_>,
    ) -> Result<(&'static Command, Route), (Option<&'static Command>, CommandError)> {
        let command = match self.commands.resolve(args) {
            Ok(command) => command,
            Err(error) => return Err((self.commands.find(&args[0]), error)),
        };
        if !session.authenticated
            && !command.flags.has(flag::NO_AUTH)
            && self.shared.wants_password()
        {
            let error = CommandError::text("NOAUTH Authentication required.");
            return Err((Some(command), error));
        }
        if session.is_confined
            && let Err(error) = session_commands::pubsub::permit_confined(command)
        {
            return Err((Some(command), error));
        }
        if command.flags.has(self.care)
            && let Err(error) = session_commands::permit(command, self.shared, session.is_local)
        {
            return Err((Some(command), error));
        }
        if (self.is_loading || self.busy.is_some())
            && let Some(error) = self.hold_up(command)
        {
            return Err((Some(command), error));
        }
        if session.queue.is_some() {
            return check_in_multi(command).map_err(|error| (Some(command), error));
        }
        match self.map.route(command, args, self.positions) {
            Ok(route) => Ok((command, self.by_couplings(command, args, route))),
            Err(error) => Err((Some(command), error)),
        }
    }

    /// Where a command goes that would go to `route` if no keys were coupled.
    #[inline]
    fn by_couplings(&mut self, command: &Command, args: &Args<'_>, route: Route) -> Route {
        let Some(couplings) = self.couplings else { return route };
        couplings.route(self.map, (command, args, route), self.splitter, self.positions)
    }

    /// A request that was routed before: since then, its keys may have been coupled.
    #[inline]
    fn routed_again(&mut self, session: &Session, bytes: &[u8], held: Held) -> Held {
        if self.couplings.is_none() {
            return held;
        }
        let args = session.parser.args(bytes);
        Held { route: self.by_couplings(held.command, &args, held.route), ..held }
    }

    /// Why a command is refused while a script runs too long, or data is loaded.
    #[cold]
    fn hold_up(&self, command: &Command) -> Option<CommandError> {
        if let Some(busy) = self.busy
            && !command.flags.has(flag::ALLOW_BUSY)
        {
            return Some(CommandError::text(busy.text()));
        }
        let is_refused = self.is_loading && !command.flags.has(flag::LOADING);
        is_refused.then(|| CommandError::text("LOADING Redis is loading the dataset in memory"))
    }

    /// Executes the batch and drops its bytes from the input.
    #[inline]
    fn execute_batch(&mut self, connection: &mut Connection<Session>, ahead: &mut Ahead) {
        if ahead.requests.is_empty() {
            return;
        }
        let Connection { input, output, ungated, session, .. } = connection;
        self.stopwatch.start();
        let (mut first, mut consumed) = (0, 0);
        for looked in &ahead.requests {
            let spans = &ahead.spans[first..looked.spans_end];
            let args = Args::new(&input.bytes()[looked.start..], spans);
            match self.doubt {
                None => self.execute(session, output, looked.command, looked.shard, args),
                Some(doubt) => {
                    let out = Out { buffer: output, ungated };
                    self.execute_in_doubt(doubt, session, out, looked.command, looked.shard, args);
                }
            }
            first = looked.spans_end;
            consumed = looked.start + looked.consumed;
        }
        input.consume(consumed);
        ahead.requests.clear();
        ahead.spans.clear();
    }

    /// Executes the one request that is held, and drops its bytes from the input.
    fn execute_held(&mut self, connection: &mut Connection<Session>, held: Held) {
        let Connection { input, output, ungated, session, .. } = connection;
        let parser = mem::take(&mut session.parser);
        let owner = (held.consumed >= OWNED_REQUEST_MIN).then(|| input.take_owned(held.consumed));
        let args = match &owner {
            Some(owner) => parser.args_with_owner(owner),
            None => parser.args(input.bytes()),
        };
        self.stopwatch.start();
        match self.doubt {
            None => self.execute(session, output, held.command, self.own, args),
            Some(doubt) => {
                let out = Out { buffer: output, ungated };
                self.execute_in_doubt(doubt, session, out, held.command, self.own, args);
            }
        }
        if owner.is_none() {
            input.consume(held.consumed);
        }
        session.parser = parser;
        session.held = None;
    }

    /// Deals with what ended a batch; answers why the stretch has ended, if it has.
    fn stop_at(&mut self, connection: &mut Connection<Session>, end: End) -> Option<Stop> {
        let Connection { input, session, .. } = &mut *connection;
        match end {
            End::Full => None,
            End::Input { missing } => {
                input.expect(missing);
                Some(Stop::With(Advance::Idle))
            }
            End::Held(held) => {
                let is_paused = self.is_held_up(session, &held, input.bytes());
                let is_own = held.route == Route::Shard(self.own) && self.may_run;
                if is_own && !is_paused && !self.waits_for_guests(session, &held, input.bytes()) {
                    self.execute_held(connection, held);
                    return None;
                }
                session.held = Some(Held { is_paused, ..held });
                if is_paused {
                    return Some(Stop::With(Advance::NextTurn));
                }
                Some(Stop::At(held))
            }
            End::Empty { consumed } => {
                input.consume(consumed);
                None
            }
            End::Queued { consumed, command } => {
                let args = session.parser.args(input.bytes());
                if let Some(queue) = &mut session.queue {
                    queue.push(command, &args);
                }
                input.consume(consumed);
                self.answer_with(connection, |reply| reply.simple("QUEUED"));
                None
            }
            End::Refused { consumed, command, error } => {
                input.consume(consumed);
                let error = refused_in_multi(session, command, error);
                self.metrics.refused(command, &error);
                self.answer(connection, &error);
                None
            }
            End::Broken(error) => {
                if !error.is_silent() {
                    self.answer(connection, &CommandError::text(format!("ERR {error}")));
                }
                Some(Stop::With(Advance::Finished))
            }
        }
    }

    /// Executes one command; its reply goes where its turn is.
    #[inline]
    fn execute(
        &mut self,
        session: &mut Session,
        output: &mut ReplyBuffer,
        command: &'static Command,
        shard: u32,
        args: Args<'_>,
    ) {
        let discard = session.discards_reply();
        let call = Call {
            command,
            args,
            database: session.database,
            protocol: session.protocol,
            no_touch: session.no_touch,
            caller: session.take_caller(command),
        };
        let out = session.replies.sink(output, self.pool);
        let before = out.mark();
        let shard = match shard == self.own {
            true => &mut **self.shard,
            false => {
                self.metrics.counters.guest_commands.add(1);
                self.guests.get_mut(shard).expect(STAYS)
            }
        };
        let outcome = shard.execute(&call, out);
        if discard {
            out.truncate(before);
        }
        let nanos = self.stopwatch.lap_ns();
        self.metrics.executed(command, nanos, outcome.as_ref().err());
        if self.watch.is_slow(nanos) {
            let client = (session.peer.as_str(), session.name.as_str());
            self.watch.note(self.shared, command, &args, (self.now_us, nanos), client);
            if self.is_monitored {
                let (database, peer) = (session.database, &session.peer);
                self.shown.extend(monitor::line(self.now_us, database, peer, command, &args));
            }
        }
        session.commands += 1;
        session.last_command = Some(command);
    }

    /// Executes one command while a log cannot be written: its reply need not wait at the gate if it
    /// tells nothing that is in doubt.
    #[cold]
    fn execute_in_doubt(
        &mut self,
        doubt: &Doubt,
        session: &mut Session,
        out: Out<'_>,
        command: &'static Command,
        shard: u32,
        args: Args<'_>,
    ) {
        // Alone first, for what it tells is known when it has executed.
        let replies = mem::take(&mut session.replies);
        let mut reply = self.pool.take();
        self.execute(session, &mut reply, command, shard, args);
        session.replies = replies;
        let journal = &self.shard.keyspace.journal;
        let is_ungated = shard == self.own && spares(doubt, command, &args, journal);
        session.replies.answer(out, is_ungated, self.pool, |out| out.append(&reply));
        self.pool.put(reply);
    }

    /// Answers an error in its turn.
    #[cold]
    fn answer(&mut self, connection: &mut Connection<Session>, error: &CommandError) {
        self.answer_with(connection, |reply| reply.error(&error.to_string()));
    }

    /// Answers something in its turn that tells nothing of the keys.
    fn answer_with(
        &mut self,
        connection: &mut Connection<Session>,
        write: impl FnOnce(&mut ReplyWriter<'_>),
    ) {
        let Connection { output, ungated, session, .. } = connection;
        if session.discards_reply() {
            return;
        }
        let protocol = session.protocol;
        let out = Out { buffer: output, ungated };
        session.replies.answer(out, true, self.pool, |out| {
            write(&mut ReplyWriter::new(out, protocol));
        });
    }
}

/// What a refusal does to a connection in MULTI: EXEC will fail, and if it is EXEC itself that was
/// refused (BUSY, LOADING), the transaction is over; it says so outside of MULTI too, as in Redis.
/// Answers the error for the client.
fn refused_in_multi(
    session: &mut Session,
    command: Option<&'static Command>,
    error: CommandError,
) -> CommandError {
    if command.is_none_or(|command| command.full_name != "exec") {
        if let Some(queue) = &mut session.queue {
            queue.abort();
        }
        return error;
    }
    (session.queue, session.watch) = (None, None);
    let text = error.to_string();
    let reason = text.strip_prefix("ERR ").unwrap_or(&text);
    CommandError::text(format!("EXECABORT Transaction discarded because of: {reason}"))
}

/// What can be said against a command of a connection in MULTI; it is not routed before EXEC.
#[cold]
fn check_in_multi(command: &'static Command) -> Result<(&'static Command, Route), CommandError> {
    if command.flags.has(flag::NO_MULTI) {
        return Err(CommandError::text("ERR Command not allowed inside a transaction"));
    }
    Ok((command, Route::Session))
}
