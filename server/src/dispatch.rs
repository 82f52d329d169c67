//! How a worker brings the commands of its connections to the shards: rounds.
//!
//! # The one order
//!
//! Commands of one connection must take effect in the order sent, on all shards and for every
//! observer, although shards run in parallel. Every shard has one mailbox whose places are totally
//! ordered, and the rules are:
//!
//! - (a) a *run* is the longest stretch of a connection's commands that go to one shard. Runs of a
//!   connection take their places in the order of its program. In one round a connection gives
//!   runs for other shards in ascending order of the shards, and then one for the own shard; a run
//!   that would break the ascent belongs to the next round. All runs of a round for one shard
//!   travel in one parcel, which takes one place, and the parcels take their places in ascending
//!   order too.
//! - (b) the owner of a mailbox never passes a place that is taken and not yet filled.
//! - (c) a run for the worker's own shard executes in place, in the second half of the round. After
//!   the parcels have taken their places the worker reads its own mailbox's tail and first serves
//!   everything before it. If something before the tail is not filled yet, or the shard is lent, own
//!   runs wait (their connections keep their turn), while other connections' runs go out.
//!   A shard whose owner sleeps can be a guest, and then counts as an own one (see `guests`).
//! - (d) what concerns several shards takes its places in a *cut* (see `several`, `cut`): no worker is
//!   then between taking the first place of a round and reading its tail. Its connection's later
//!   commands belong to later rounds, or stand behind it in the same cut. If all these shards are
//!   here, as the own one and guests, it executes in place like an own run (see `several`).
//!
//! Why this is enough: let a writer's W1 stand before its W2, and a reader's R2, which saw W2, stand
//! before its R1, on whatever shards. W1 took its place (or, on its own shard, executed) before W2
//! took its place or executed; R2 executed after W2; R1 took its place after R2 took its own. If
//! R1 executes in place, it does so after a tail that was read later than R2's place was taken has
//! been served, and W1's place is before that tail. So R1 executes after W1.
//!
//! In other words, every command has a moment: when its place was taken, for an own run when the tail
//! was read, and for what goes through a cut, the cut. These moments rise along each connection and
//! along what each shard executes, so all commands stand in one line. No moment of a round lies
//! within a cut, so what takes many places there has one moment for all of them: it is atomic. (Own
//! runs may execute after a later cut; they stand before its place in their shard's mailbox.)
//!
//! `tessera_engine::transaction::round` is this rule as data, and its simulation tests it.
//!
//! # Backpressure
//!
//! A parcel needs a credit of its destination. A connection whose run finds none is stalled, so
//! that nothing of it overtakes, and goes on when a parcel comes home; the worker itself never
//! waits.
#![forbid(unsafe_code)]

use std::mem;

use tessera_engine::transaction::round::{Blocked, FirstHalf, SecondHalf};

use crate::{
    client_limits::output_limit,
    faults::{self, Rule},
    in_place::{AHEAD_MAX, Ahead, InPlace, OWNED_REQUEST_MIN, Stop},
    mesh::mailbox::Position,
    monitor,
    net::{CloseMode, Connection, ConnectionId},
    parcel::{Addressee, CallHeader},
    route::Route,
    saving::drive::Saving,
    session::{Held, Session, Standing},
    worker::Worker,
};

/// A connection that cannot go on is not read further when it holds so many bytes: what its client
/// sends beyond waits in the kernel, and then at the client.
const STALLED_INPUT_MAX: usize = 256 << 10;

/// How far a connection came in one round.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Advance {
    /// Its input holds no further complete request.
    Idle,
    /// Its next command belongs to the next round.
    NextRound,
    /// Its next command waits for a place in the own mailbox that is taken and not filled, or for
    /// the end of a pause: it is tried again in the next turn.
    NextTurn,
    /// Its next command waits until nothing of its group is left that was looked at.
    Apart,
    /// Its next command waits for a credit.
    NoCredit,
    /// Its next command concerns several shards and waits for a cut.
    Cut,
    /// Its next command needs shards together, and waits for the end of the loan under way.
    NoLoan,
    /// Its command over shards that are lent is under way; it goes on when that has executed.
    Across,
    /// It executes nothing more.
    Finished,
    /// It does not read its replies, and more of them wait than it is allowed.
    Overrun,
}

impl From<Blocked> for Advance {
    fn from(blocked: Blocked) -> Self {
        match blocked {
            Blocked::NextRound => Self::NextRound,
            Blocked::OwnMail => Self::NextTurn,
            Blocked::Credit => Self::NoCredit,
        }
    }
}

impl Worker {
    /// Serves all connections that have something to execute, round by round, and between the rounds
    /// what concerns several shards.
    pub(crate) fn run_rounds(&mut self) {
        loop {
            while !self.ready.is_empty() {
                self.run_round();
            }
            self.send_all_home();
            if !self.cut() {
                return;
            }
            // The own parts stand in the own mailbox.
            self.serve_mail();
        }
    }

    fn run_round(&mut self) {
        let mut round = mem::replace(&mut self.ready, mem::take(&mut self.spare_ready));
        if self.map.shards() > 1 {
            round.retain(|&id| self.send_runs(id));
        }
        let (tail, stamp) = self.take_places();
        let may_skip = faults::breaks(Rule::OwnMailFirst) && self.shard.is_here();
        let half = SecondHalf::begin(may_skip || self.serve_mail_before(tail));
        self.align_guests(tail);
        if self.shard.is_here() {
            self.shard.keyspace.journal.set_stamp(stamp);
        }
        let mut rest = round.as_slice();
        while !rest.is_empty() {
            let group = rest.len().min(self.looks.len());
            self.run_group(&rest[..group], half);
            rest = &rest[group..];
            self.release_wanted();
        }
        self.dismiss_guests();
        round.clear();
        self.spare_ready = round;
    }

    /// Lets the parcels take their places, and then reads the own mailbox's tail. Answers that, and
    /// the epoch of the round.
    fn take_places(&mut self) -> (Position, u64) {
        if self.map.shards() == 1 {
            return (self.mail.tail(), self.shared.aof.epoch());
        }
        self.shared.cut.enter(self.own);
        let stamp = self.shared.aof.epoch();
        self.outboxes.post_news();
        self.outboxes.post_all(self.now_us, stamp);
        let tail = self.mail.tail();
        self.admit_guests(stamp);
        self.shared.cut.leave(self.own);
        self.outboxes.wake();
        (tail, stamp)
    }

    /// The second half of a round for some connections: looks at the requests of all of them, and
    /// asks for their memory, before the first one executes.
    fn run_group(&mut self, group: &[ConnectionId], half: SecondHalf) {
        let may_run = half.admit_own().is_ok() && self.shard.is_here();
        let mut looks = mem::take(&mut self.looks);
        let mut apart = mem::take(&mut self.apart);
        let mut looked = 0;
        for (&id, look) in group.iter().zip(&mut looks) {
            if group.len() == 1 || looked >= AHEAD_MAX {
                break;
            }
            self.in_place(id, may_run, |here, connection| here.look(connection, look));
            looked += look.len();
        }
        if may_run || self.guests.may_run() {
            looks.iter().for_each(|look| look.fetch(&self.shard, &self.guests));
        }
        for (&id, look) in group.iter().zip(&mut looks) {
            let advance = self.run_own(id, half, look, false);
            look.forget();
            match advance {
                Advance::Apart => apart.push(id),
                _ => self.settle(id, advance),
            }
            self.deliver();
        }
        for id in apart.drain(..) {
            let mut look = mem::take(&mut looks[0]);
            let advance = self.run_own(id, half, &mut look, true);
            look.forget();
            looks[0] = look;
            self.settle(id, advance);
            self.deliver();
        }
        (self.looks, self.apart) = (looks, apart);
    }

    /// The first half of a round for one connection: packs its runs for other shards, in ascending
    /// order of the shards. Answers whether its next command is one for the second half.
    fn send_runs(&mut self, id: ConnectionId) -> bool {
        let mut half = FirstHalf::default();
        let mut look = mem::take(&mut self.spare_look);
        let advance = loop {
            let stop = self.in_place(id, false, |here, connection| here.run(connection, &mut look));
            let held = match stop {
                None => break Advance::Finished,
                Some(Stop::With(advance)) => break advance,
                Some(Stop::At(held)) => held,
            };
            match held.route {
                Route::Shard(shard) if shard != self.own => {
                    if self.welcomes(id, &held, shard) {
                        self.spare_look = look;
                        return true;
                    }
                    match half.admit(shard, |to| self.outboxes.has_room(to)) {
                        Ok(()) => self.pack(id, held, shard),
                        Err(Blocked::NextRound) if self.may_break_order(shard) => {
                            self.pack(id, held, shard);
                        }
                        Err(blocked) => break blocked.into(),
                    }
                }
                route => {
                    if route == Route::Parts {
                        self.welcome_parts(id, &held);
                    }
                    self.spare_look = look;
                    return true;
                }
            }
        };
        self.spare_look = look;
        self.settle(id, advance);
        false
    }

    /// Whether a test has asked for commands that do not wait for their round.
    #[inline(always)]
    fn may_break_order(&self, shard: u32) -> bool {
        faults::breaks(Rule::ProgramOrder) && self.outboxes.has_room(shard)
    }

    /// The second half of a round for one connection: executes its commands for the own shard, or
    /// one that concerns several shards.
    ///
    /// What may take long, or keep the own shard when it is suspended, does so only `apart`: when
    /// nothing is left of what was looked at for other connections, and no guest waits for its end.
    fn run_own(
        &mut self,
        id: ConnectionId,
        half: SecondHalf,
        look: &mut Ahead,
        apart: bool,
    ) -> Advance {
        loop {
            let may_run = half.admit_own().is_ok() && self.shard.is_here();
            let stop = self.in_place(id, may_run, |here, connection| here.run(connection, look));
            self.deliver();
            let held = match stop {
                None => return Advance::Finished,
                Some(Stop::With(advance)) => return advance,
                Some(Stop::At(held)) => held,
            };
            // It has stopped although it may run: it takes long, and guests are here.
            let waits_for_guests = may_run && held.route == Route::Shard(self.own);
            if runs_apart(&held) || waits_for_guests {
                if !apart {
                    return Advance::Apart;
                }
                self.make_time();
            }
            if waits_for_guests {
                continue;
            }
            match held.route {
                Route::Shard(shard) if shard == self.own => return Advance::NextTurn,
                // A guest on which nothing executes any more goes home with the turn.
                Route::Shard(shard) if self.guests.has(shard) => return Advance::NextTurn,
                Route::Shard(_) => return Advance::NextRound,
                Route::Session => {
                    if let Some(advance) = self.run_session(id, held, may_run) {
                        return advance;
                    }
                }
                Route::Script => {
                    if let Some(advance) = self.run_script(id, held, may_run) {
                        return advance;
                    }
                }
                Route::Parts if may_run && self.run_parts(id, held) => {}
                Route::Parts | Route::Across => return Advance::Cut,
            }
        }
    }

    /// Lets `work` be done on the commands at the front of the input.
    pub(crate) fn in_place<T>(
        &mut self,
        id: ConnectionId,
        may_run: bool,
        work: impl FnOnce(&mut InPlace<'_>, &mut Connection<Session>) -> T,
    ) -> Option<T> {
        // One that was killed has input left; none of it is executed.
        let connection = self.network.connection(id).filter(|open| !open.is_closing())?;
        let mut here = InPlace {
            shard: &mut self.shard,
            guests: &mut self.guests,
            own: self.own,
            may_run,
            map: self.map,
            commands: self.commands,
            limits: &self.limits[usize::from(connection.session.authenticated)],
            positions: &mut self.positions,
            pool: &mut self.pool,
            metrics: &self.metrics,
            stopwatch: &mut self.stopwatch,
            pause: self.pause,
            couplings: self.coupled.any(),
            splitter: &mut self.splitter,
            preserve_bytes_max: self.saving.as_ref().map(Saving::budget),
            busy: self.busy,
            is_loading: self.is_loading,
            care: self.care,
            output_bytes_max: output_limit(&self.output_limits, &connection.session).hard_bytes,
            watch: &self.watch,
            is_monitored: self.is_monitored,
            shown: &mut self.shown,
            shared: &self.shared,
            now_us: self.now_us,
            doubt: self.log.as_ref().and_then(|log| log.doubt.as_ref()),
        };
        let before = connection.session.commands;
        let done = work(&mut here, connection);
        if connection.session.commands != before {
            connection.session.active_us = self.now_us;
        }
        self.show_all();
        Some(done)
    }

    /// Puts the command at the front of the input into the parcel for `shard`.
    fn pack(&mut self, id: ConnectionId, held: Held, shard: u32) {
        let Some(connection) = self.network.connection(id) else { return };
        let Connection { input, session, .. } = connection;
        let line = self.is_monitored.then(|| {
            let args = session.parser.args(input.bytes());
            monitor::line(self.now_us, session.database, &session.peer, held.command, &args)
        });
        let discard = session.discards_reply();
        let ticket = match self.outboxes.last(shard) {
            Some(last)
                if last.connection == id && !discard && session.replies.may_extend(last.ticket) =>
            {
                last.ticket
            }
            _ => session.replies.wait(shard, discard),
        };
        let to = Addressee { connection: id, ticket, part: 0 };
        let header = CallHeader::new(held.command, session);
        if held.consumed >= OWNED_REQUEST_MIN {
            let owner = input.take_owned(held.consumed);
            self.outboxes.push(shard, to, header, &session.parser.args_with_owner(&owner));
        } else {
            self.outboxes.push(shard, to, header, &session.parser.args(input.bytes()));
            input.consume(held.consumed);
        }
        session.note(held.command, self.now_us);
        self.show_if_any(line);
        if self.outboxes.is_full(shard) {
            self.shared.cut.enter(self.own);
            self.outboxes.post_up_to(shard, self.now_us, self.shared.aof.epoch());
            self.shared.cut.leave(self.own);
        }
    }

    /// Records where a connection stands after its part of a round.
    pub(crate) fn settle(&mut self, id: ConnectionId, advance: Advance) {
        let Some(connection) = self.network.connection(id) else { return };
        let session = &mut connection.session;
        // Nothing more comes from a peer that has ended: what is executed is all there is.
        let is_over = advance == Advance::Idle && session.is_ended;
        let advance = if is_over { Advance::Finished } else { advance };
        session.standing = match advance {
            Advance::Idle => Standing::Idle,
            Advance::NextRound | Advance::Apart => Standing::Ready,
            Advance::NextTurn
            | Advance::NoCredit
            | Advance::Cut
            | Advance::NoLoan
            | Advance::Across => Standing::Stalled,
            Advance::Finished | Advance::Overrun => Standing::Finished,
        };
        let is_stalled = session.standing == Standing::Stalled;
        let may_close = session.standing == Standing::Finished && session.replies.is_empty();
        let is_full = connection.input.len() > STALLED_INPUT_MAX;
        let is_paused = connection.is_paused();
        let has_output = !connection.output.is_empty();
        if is_stalled && is_full && !is_paused {
            self.network.pause_receive(id);
        } else if is_paused && !is_stalled && !self.is_winding_up {
            self.network.resume_receive(id);
        }
        match advance {
            Advance::NextRound | Advance::Apart => self.ready.push(id),
            Advance::NextTurn => self.next_turn.push(id),
            Advance::NoCredit => {
                self.metrics.counters.credit_stalls.add(1);
                self.without_credit.push(id);
            }
            Advance::Cut => self.for_cut.push(id),
            Advance::NoLoan => self.loans.wait(id),
            Advance::Overrun => return self.disconnect_overrun(id),
            Advance::Idle | Advance::Across | Advance::Finished => {}
        }
        if has_output {
            self.network.mark_dirty(id);
        }
        if may_close {
            self.network.close(id, CloseMode::AfterReply);
        }
    }
}

/// Whether a command may take long, or keep the own shard when it is suspended.
fn runs_apart(held: &Held) -> bool {
    held.route == Route::Script || held.command.full_name == "exec"
}
