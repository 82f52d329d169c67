//! Commands that concern several shards: all of a worker's connections that wait with one take their
//! places together, in one cut through all mailboxes (see `cut`).
//!
//! - A command in independent parts (MGET, MSET, DEL, FLUSHALL) becomes a request for each part; the
//!   [`Gather`] at the command's place in the reply queue joins the answers. The parts run on their
//!   shards at their own time, but nothing stands between their places: so nobody sees half a MSET.
//! - If all shards of such a command are here, the own one and guests, no parts travel: they execute
//!   in place, one after the other ([`Worker::run_parts`]).
//! - A command that asks all workers (CLIENT LIST, INFO) goes the same way.
//! - A command that needs its keys together (RENAME) has the shards lent (see `loan`).
//!
//! Invariants:
//! - what goes through a cut takes a place in every mailbox that it concerns, the own one included;
//!   all parts of a cut for one shard stand in one parcel, in the order in which they were packed,
//!   which for each connection is the order of its program, and what is borrowed stands behind them;
//! - it is packed only when there are credits for all of it, so that nobody is kept out for long:
//!   while the way is closed nothing happens but the taking of places;
//! - parts in place have one moment, that of the round's tails: the shards have been here since before
//!   the first of these was read, and nobody else executes anything on them until all parts have
//!   executed. A cut lies before all these tails or behind all of them, as for any own run.
#![forbid(unsafe_code)]

use std::mem;

use tessera_engine::transaction::Route;
use tessera_proto::{Args, ReplyBuffer};

use crate::{
    dispatch::Advance,
    faults::{self, Rule},
    gather::{Count, Gather, Merge},
    guests::{STAYS, is_plain, is_short, may_visit},
    in_place::Stop,
    monitor,
    net::{Connection, ConnectionId},
    parcel::{Addressee, CallHeader},
    pause::Pause,
    session::Held,
    worker::Worker,
};

impl Worker {
    /// Lets everything that waits for a cut take its places. Answers whether that has brought
    /// anything on.
    pub(crate) fn cut(&mut self) -> bool {
        let is_idle = self.for_cut.is_empty() && self.questions.is_empty() && !self.save_is_due;
        if is_idle && !self.loans.wants_again() && !self.loans.has_promised() {
            return false;
        }
        let mut line = mem::replace(&mut self.for_cut, mem::take(&mut self.spare_line));
        for id in line.drain(..) {
            let advance = self.pack_for_cut(id);
            self.settle(id, advance);
        }
        self.spare_line = line;
        if self.save_is_due {
            self.pack_due_save();
        }
        self.promise_again();
        self.pack_later_questions();
        if !self.outboxes.has_open() && !self.loans.has_promised() {
            return !self.ready.is_empty();
        }
        let heard = self.coupled.heard();
        let Self { shared, outboxes, now_us, .. } = self;
        let mut take_places = || {
            let stamp = shared.aof.epoch();
            outboxes.post_all(*now_us, stamp);
            outboxes.send_borrows(*now_us, stamp)
        };
        let asked =
            if faults::breaks(Rule::Cut) { take_places() } else { shared.cut.through(take_places) };
        self.loans.asked(asked, heard);
        self.outboxes.wake();
        true
    }

    /// Packs the commands at the front of the input that go through the cut.
    fn pack_for_cut(&mut self, id: ConnectionId) -> Advance {
        let mut look = mem::take(&mut self.spare_look);
        let advance = loop {
            let stop = self.in_place(id, false, |here, connection| here.run(connection, &mut look));
            let held = match stop {
                None => break Advance::Finished,
                Some(Stop::With(advance)) => break advance,
                Some(Stop::At(held)) => held,
            };
            let advance = match held.route {
                Route::Parts => self.pack_parts(id, held),
                Route::Session => self.pack_session(id, held),
                Route::Across | Route::Script => Some(self.promise_command(id, held)),
                Route::Shard(_) => Some(Advance::NextRound),
            };
            if let Some(advance) = advance {
                break advance;
            }
            if self.outboxes.has_full() {
                break Advance::NextRound;
            }
        };
        self.spare_look = look;
        advance
    }

    /// Takes the shards that a command in parts concerns as guests, as far as they can be had.
    pub(crate) fn welcome_parts(&mut self, id: ConnectionId, held: &Held) {
        let Some(connection) = self.network.connection(id) else { return };
        if !is_plain(held.command) {
            return;
        }
        let args = connection.session.parser.args(connection.input.bytes());
        let Ok(concerned) = self.splitter.shards(self.map, held.command, &args) else { return };
        let own = self.own;
        let mut others = concerned.iter().filter(|&shard| shard != own);
        // One that cannot be had is enough for the command to go through a cut.
        let _ = others.all(|shard| self.welcomes(id, held, shard));
    }

    /// Executes a command in parts in place, if all shards that it concerns are here and commands may
    /// execute on them. Answers whether that was so.
    pub(crate) fn run_parts(&mut self, id: ConnectionId, held: Held) -> bool {
        let Some(connection) = self.network.connection(id) else { return false };
        let Connection { input, output, session, .. } = connection;
        if self.pause != Pause::Off || !may_visit(session, &held) {
            return false;
        }
        let args = session.parser.args(input.bytes());
        let (own, own_shard, guests) = (self.own, &mut *self.shard, &mut self.guests);
        let may_run_on = |shard| {
            let here = match shard == own {
                true => Some(&*own_shard),
                false => guests.get(shard).filter(|_| guests.may_run()),
            };
            here.is_some_and(|here| is_short(here, session, &held, input.bytes()))
        };
        match self.splitter.shards(self.map, held.command, &args) {
            Ok(concerned) if concerned.iter().all(may_run_on) => {}
            _ => return false,
        }
        self.stopwatch.start();
        let header = CallHeader::new(held.command, session);
        let replies = &mut self.part_replies;
        let (mut count, mut error) = (0, None);
        let mut give = |shard, command, args: &Args<'_>| {
            if replies.len() == count {
                replies.push(ReplyBuffer::default());
            }
            let here = match shard == own {
                true => &mut *own_shard,
                false => guests.get_mut(shard).expect(STAYS),
            };
            let call = CallHeader { command, ..header };
            let outcome = here.execute(&call.call(*args), &mut replies[count]);
            error = error.take().or(outcome.err());
            count += 1;
        };
        let random = &mut self.random;
        let draw = || random.next_u64();
        let Ok(merge) = self.splitter.split(self.map, held.command, &args, draw, &mut give) else {
            return false;
        };
        let nanos = self.stopwatch.lap_ns();
        self.metrics.executed(held.command, nanos, error.as_ref());
        self.metrics.counters.guest_commands.add(1);
        if self.watch.is_slow(nanos) {
            let client = (session.peer.as_str(), session.name.as_str());
            self.watch.note(&self.shared, held.command, &args, (self.now_us, nanos), client);
        }
        let line = self.is_monitored.then(|| {
            monitor::line(self.now_us, session.database, &session.peer, held.command, &args)
        });
        if !session.discards_reply() {
            let out = session.replies.sink(output, &mut self.pool);
            merge.finish(&replies[..count], session.protocol, out);
        }
        replies[..count].iter_mut().for_each(ReplyBuffer::clear);
        input.consume(held.consumed);
        session.note(held.command, self.now_us);
        self.show_if_any(line);
        true
    }

    /// Packs the parts of a command. Answers how the connection goes on if that is not with its next
    /// command.
    fn pack_parts(&mut self, id: ConnectionId, held: Held) -> Option<Advance> {
        let connection = self.network.connection(id)?;
        let Connection { input, session, .. } = connection;
        let args = session.parser.args(input.bytes());
        let concerned = match self.splitter.shards(self.map, held.command, &args) {
            Ok(concerned) => concerned,
            Err(error) => return Some(self.refuse(id, held, &error)),
        };
        if !concerned.iter().all(|shard| self.outboxes.has_room(shard)) {
            return Some(Advance::NoCredit);
        }
        let ticket = session.replies.next_ticket();
        let header = CallHeader::of_part(held.command, session);
        self.stopwatch.start();
        let (outboxes, random) = (&mut self.outboxes, &mut self.random);
        let mut parts = 0;
        let mut give = |shard, command, args: &Args<'_>| {
            let to = Addressee { connection: id, ticket, part: parts };
            outboxes.push(shard, to, CallHeader { command, ..header }, args);
            parts += 1;
        };
        let draw = || random.next_u64();
        let merge = match self.splitter.split(self.map, held.command, &args, draw, &mut give) {
            Ok(merge) => merge,
            Err(error) => return Some(self.refuse(id, held, &error)),
        };
        let line = self.is_monitored.then(|| {
            monitor::line(self.now_us, session.database, &session.peer, held.command, &args)
        });
        let shown = self.watch.shown(held.command, &args);
        let nanos = self.stopwatch.lap_ns();
        let count = Count { shown, ..Count::begun(held.command, nanos) };
        let gather =
            Gather::new(Merge::Parts(merge), session.protocol, parts as usize).counted(count);
        let discard = session.discards_reply();
        session.replies.gather(gather, discard);
        input.consume(held.consumed);
        session.note(held.command, self.now_us);
        self.show_if_any(line);
        None
    }
}
