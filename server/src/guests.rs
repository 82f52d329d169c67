//! Shards of workers that are between two turns, executed upon by whoever has commands for them.
//!
//! A worker spends most of its time in the kernel, to send, to receive and to sleep. Whenever it goes
//! there it leaves its shard in its berth (see `mesh::berth`), and takes it back when its next turn
//! begins. A worker that has commands for that shard then need neither pack nor wake: it takes the
//! shard as a guest, executes the commands as it does those for its own, in whatever order they
//! come, and puts it back at the end of its turn. So a request costs on several shards about what it
//! costs on one; parcels travel when two workers want one shard at the same time.
//!
//! # The one order
//!
//! For the rules of `dispatch` a guest is like the own shard: its commands execute in the second half
//! of a round, after the parcels have taken their places, and only if everything in its owner's
//! mailbox has been executed at a tail that is read *after* the own mailbox's. For whatever a reader
//! has seen took its place in a mailbox before the own tail or was executed before the guest came
//! here, and so what precedes that stands in the guest's mailbox below its tail: there it is found,
//! and the guest goes home, and its commands travel.
//!
//! # What a guest is used for
//!
//! The owner leaves its shard only when nothing hangs on it: nobody hears of its changes, no log is
//! written, nothing is saved or loaded (see [`Worker::may_moor`]). Others execute only plain commands
//! on it: such as read and change the keys that they name ([`is_plain`]). So nothing is left for the
//! owner to do afterwards, except what time brings, for which it wakes by itself within a second.
//!
//! While a guest is here its owner can do nothing with it. So what is executed meanwhile is short: of
//! commands that take long for a long value, those whose values are not ([`is_short`]). Long ones for
//! a guest travel to its owner, long ones for the own shard wait until the guests are at home, and a
//! guest that its owner wants goes home between parcels, between batches of a pipeline, and between
//! groups of connections.
//!
//! Invariants:
//! - guests are here only within a turn, and are all at home before a cut, since a cut draws its line
//!   through the owner's mailbox;
//! - a guest that its owner wants goes home before the next command is executed on it that has not
//!   been looked at yet;
//! - a guest follows the configuration of this turn: one that was left with another goes home.
#![forbid(unsafe_code)]

use std::sync::atomic::{AtomicU64, Ordering};

use tessera_engine::{
    command::{
        Command, Run, Way,
        table::{Group, flag},
    },
    shard::Shard,
    sys::clock::SET_BACK_MIN_US,
};
use tessera_proto::Args;

use crate::{
    in_place::OWNED_REQUEST_MIN,
    mesh::{berth::Berth, mailbox::Position},
    net::{Connection, ConnectionId},
    parcel::{CallHeader, Parcel},
    pause::Pause,
    session::{Held, Session},
    worker::Worker,
};

/// Values are small, for a command whose time depends on them, that take so many bytes outside of
/// their entries: some thousand elements, which are read in some tens of microseconds.
const SMALL_BYTES_MAX: usize = 16 << 10;

/// What has been looked at executes before a guest goes home.
pub(crate) const STAYS: &str = "a guest stays until what was looked at for it has executed";

/// Where every worker leaves its shard between its turns.
pub struct Berths(Box<[Moored]>);

#[derive(Default)]
struct Moored {
    berth: Berth<Shard>,
    /// The generation of the configuration that the shard follows, written before it is offered.
    generation: AtomicU64,
}

impl Berths {
    /// Empty berths of `workers` workers.
    pub fn new(workers: usize) -> Self {
        Self((0..workers).map(|_| Moored::default()).collect())
    }

    /// The berth of this worker.
    #[inline]
    pub(crate) fn of(&self, worker: u32) -> &Berth<Shard> {
        &self.0[worker as usize].berth
    }

    /// Notes which configuration the shard follows that `worker` is about to offer.
    pub(crate) fn note_generation(&self, worker: u32, generation: u64) {
        let noted = &self.0[worker as usize].generation;
        // It hardly ever changes, and others read its line.
        if noted.load(Ordering::Relaxed) != generation {
            noted.store(generation, Ordering::Relaxed);
        }
    }

    fn generation(&self, worker: u32) -> u64 {
        self.0[worker as usize].generation.load(Ordering::Relaxed)
    }
}

/// The guests of one worker.
pub(crate) struct Guests {
    /// By the number of the shard.
    shards: Box<[Option<Box<Shard>>]>,
    /// The numbers of those that are here.
    here: Vec<u32>,
    /// The second half of a round is under way, in which commands may execute on them.
    may_run: bool,
}

impl Guests {
    pub(crate) fn new(shards: usize) -> Self {
        Self { shards: (0..shards).map(|_| None).collect(), here: Vec::new(), may_run: false }
    }

    /// Whether commands may execute on guests now.
    #[inline]
    pub(crate) fn may_run(&self) -> bool {
        self.may_run
    }

    /// Whether there is none.
    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.here.is_empty()
    }

    /// Whether an owner wants one of them.
    #[inline]
    pub(crate) fn is_one_wanted(&self, berths: &Berths) -> bool {
        self.here.iter().any(|&shard| berths.of(shard).is_wanted())
    }

    /// Whether this shard is a guest.
    #[inline]
    pub(crate) fn has(&self, shard: u32) -> bool {
        !self.here.is_empty() && self.shards[shard as usize].is_some()
    }

    /// Whether commands may execute on this shard now.
    #[inline]
    pub(crate) fn may_run_on(&self, shard: u32) -> bool {
        self.may_run && self.has(shard)
    }

    /// A guest, if it is one.
    #[inline]
    pub(crate) fn get(&self, shard: u32) -> Option<&Shard> {
        self.shards[shard as usize].as_deref()
    }

    /// A guest to execute on, if it is one.
    #[inline]
    pub(crate) fn get_mut(&mut self, shard: u32) -> Option<&mut Shard> {
        self.shards[shard as usize].as_deref_mut()
    }

    fn take(&mut self, shard: u32) -> Option<Box<Shard>> {
        self.here.retain(|&here| here != shard);
        self.shards[shard as usize].take()
    }
}

/// Whether a command does nothing but read and change the keys that it names.
#[inline]
pub(crate) fn is_plain(command: &Command) -> bool {
    matches!(command.way, Way::Owner | Way::SumOfKeys | Way::EachKey | Way::AllKeysOk)
        && matches!(command.run, Run::Shard(_))
        && !command.flags.has(flag::BLOCKING | flag::PUBSUB | flag::ADMIN)
}

/// Whether a request, which is the last one parsed of `bytes`, takes no longer than a few tens of
/// microseconds on `shard`.
#[inline]
pub(crate) fn is_short(shard: &Shard, session: &Session, held: &Held, bytes: &[u8]) -> bool {
    is_quick(held.command)
        || finds_little(shard, held.command, session.database, &session.parser.args(bytes))
}

/// The same for a call of a parcel.
fn is_short_call(shard: &Shard, header: &CallHeader, args: &Args<'_>) -> bool {
    is_quick(header.command) || finds_little(shard, header.command, header.database, args)
}

/// Whether a command takes no longer for a long value than for a short one.
#[inline]
fn is_quick(Command { flags, group, .. }: &Command) -> bool {
    flags.has(flag::FAST) || (*group == Group::String && flags.has(flag::WRITE))
}

/// Whether the values of a call's keys are small, and there are no others that it reads.
fn finds_little(
    shard: &Shard,
    Command { keys, flags, .. }: &Command,
    database: u32,
    args: &Args<'_>,
) -> bool {
    let size = |at: usize| shard.keyspace.outside_bytes(database as usize, &args[at]);
    if flags.has(flag::TOUCHES_ARBITRARY_KEYS) {
        return false;
    }
    if let Some(at) = keys.single() {
        return size(at) <= SMALL_BYTES_MAX;
    }
    let mut positions = Vec::new();
    keys.positions(args, &mut positions).is_ok()
        && positions.into_iter().map(size).sum::<usize>() <= SMALL_BYTES_MAX
}

/// Whether the next request of a connection may execute on a guest.
#[inline]
pub(crate) fn may_visit(session: &Session, held: &Held) -> bool {
    is_plain(held.command)
        && held.consumed < OWNED_REQUEST_MIN
        && session.parser.borrows_input()
        && session.tracking.is_none()
}

impl Worker {
    /// Whether the next command of a connection, which is for `shard`, is going to execute here in
    /// the second half of the round, on a guest.
    #[inline]
    pub(crate) fn welcomes(&mut self, id: ConnectionId, held: &Held, shard: u32) -> bool {
        let may_be_here = self.guests.has(shard) || self.shared.berths.of(shard).is_offered();
        may_be_here && self.welcomes_to(id, held, shard)
    }

    fn welcomes_to(&mut self, id: ConnectionId, held: &Held, shard: u32) -> bool {
        let Some(connection) = self.network.connection(id) else { return false };
        let may_visit = self.pause == Pause::Off && may_visit(&connection.session, held);
        if !self.guests.has(shard) {
            let may_come = may_visit && !self.outboxes.has_open_for(shard);
            if !may_come || !self.invite(shard) {
                return false;
            }
        }
        let welcomes = may_visit && self.is_short_on_guest(id, held, shard);
        if !welcomes {
            // A parcel is going to its owner.
            self.send_home(shard);
        }
        welcomes
    }

    fn is_short_on_guest(&mut self, id: ConnectionId, held: &Held, shard: u32) -> bool {
        let Some(Connection { input, session, .. }) = self.network.connection(id) else {
            return false;
        };
        self.guests.get(shard).is_some_and(|guest| is_short(guest, session, held, input.bytes()))
    }

    /// Takes the shard of a worker that is between two turns, if nothing waits for that worker.
    fn invite(&mut self, shard: u32) -> bool {
        if !self.outboxes.is_drained(shard) {
            return false;
        }
        let berths = &self.shared.berths;
        let Some(mut guest) = berths.of(shard).borrow() else { return false };
        // One with a time to come was left before the machine's clock was set back.
        let is_ahead = guest.keyspace.clock().now_us() > self.now_us + SET_BACK_MIN_US;
        let is_current = berths.generation(shard) == self.config.generation();
        if is_ahead || !is_current {
            if berths.of(shard).give_back(guest) {
                self.outboxes.wake_later(shard);
            }
            return false;
        }
        // What has been seen on either shard has passed on both.
        let latest_us = guest.keyspace.clock().now_us().max(self.now_us);
        self.shard.advance_clock_us(latest_us);
        guest.advance_clock_us(self.shard.clock_us().unwrap_or(latest_us));
        self.guests.shards[shard as usize] = Some(guest);
        self.guests.here.push(shard);
        true
    }

    /// Begins the second half of a round for the guests: of those whose owners have mail nothing
    /// executes. Called after the own mailbox's tail was read, and before the next cut.
    #[inline]
    pub(crate) fn admit_guests(&mut self, stamp: u64) {
        if !self.guests.here.is_empty() {
            self.admit_guests_here(stamp);
        }
    }

    fn admit_guests_here(&mut self, stamp: u64) {
        self.send_home_those(|worker, shard| {
            let berths = &worker.shared.berths;
            let is_current = berths.generation(shard) == worker.config.generation();
            // In this order: see the head of `mesh::berth`.
            !is_current || !worker.outboxes.is_drained(shard) || berths.of(shard).is_wanted()
        });
        let Guests { shards, here, may_run } = &mut self.guests;
        for &shard in here.iter() {
            if let Some(guest) = &mut shards[shard as usize] {
                guest.keyspace.journal.set_stamp(stamp);
            }
        }
        *may_run = true;
    }

    /// After the own mail before `tail` was served: what has passed on one shard has passed on all
    /// that are here. If a place in the mailbox is not filled yet nothing executes on guests, since
    /// what their owners tell this worker's clients may stand behind it.
    #[inline]
    pub(crate) fn align_guests(&mut self, tail: Position) {
        if !self.guests.here.is_empty() {
            self.align_guests_here(tail);
        }
    }

    fn align_guests_here(&mut self, tail: Position) {
        if self.mail.head() < tail {
            self.guests.may_run = false;
        }
        let guests = || self.guests.here.iter().filter_map(|&shard| self.guests.get(shard));
        let clocks = guests().map(|guest| guest.keyspace.clock().now_us());
        let latest_us = clocks.chain(self.shard.clock_us()).fold(self.now_us, i64::max);
        self.shard.advance_clock_us(latest_us);
        let Guests { shards, here, .. } = &mut self.guests;
        for &shard in here.iter() {
            if let Some(guest) = &mut shards[shard as usize] {
                guest.advance_clock_us(latest_us);
            }
        }
    }

    /// Sends all guests home before something that takes long. Nothing that has been looked at is for
    /// one.
    #[inline]
    pub(crate) fn make_time(&mut self) {
        if !self.guests.is_empty() {
            self.send_all_home();
            self.outboxes.wake();
        }
    }

    /// The same before a parcel is executed, if one of its calls takes long.
    #[inline]
    pub(crate) fn make_time_for(&mut self, parcel: &Parcel) {
        if !self.guests.is_empty()
            && parcel.calls().any(|(header, args)| {
                matches!(header.command.run, Run::Session | Run::Script)
                    || !is_short_call(&self.shard, header, &args)
            })
        {
            self.make_time();
        }
    }

    /// Sends the guests home that their owners want. Nothing that has been looked at is for one.
    #[inline]
    pub(crate) fn release_wanted(&mut self) {
        if self.guests.is_one_wanted(&self.shared.berths) {
            self.send_home_those(|worker, shard| worker.shared.berths.of(shard).is_wanted());
            self.outboxes.wake();
        }
    }

    /// Sends those guests home that are to go, by their numbers.
    #[inline]
    fn send_home_those(&mut self, is_to_go: impl Fn(&Self, u32) -> bool) {
        let mut at = 0;
        while let Some(&shard) = self.guests.here.get(at) {
            if is_to_go(self, shard) {
                self.send_home(shard);
            } else {
                at += 1;
            }
        }
    }

    /// Ends the second half of a round for the guests.
    #[inline]
    pub(crate) fn dismiss_guests(&mut self) {
        self.guests.may_run = false;
    }

    /// Sends all guests home.
    #[inline]
    pub(crate) fn send_all_home(&mut self) {
        self.guests.may_run = false;
        while let Some(&shard) = self.guests.here.last() {
            self.send_home(shard);
        }
    }

    fn send_home(&mut self, shard: u32) {
        let Some(guest) = self.guests.take(shard) else { return };
        self.shard.advance_clock_us(guest.keyspace.clock().now_us());
        if self.shared.berths.of(shard).give_back(guest) {
            self.outboxes.wake_later(shard);
        }
    }

    /// Whether this worker's shard may be left to others while it waits.
    pub(crate) fn may_moor(&self) -> bool {
        self.map.shards() > 1
            && self.shard.is_here()
            && self.log.is_none()
            && self.saving.is_none()
            && !self.is_loading
            && self.busy.is_none()
            && !self.outboxes.has_news()
            && self.pause == Pause::Off
            && !self.shared.stop.is_asked()
            && !self.scripts.is_suspended()
            && self.waiting_mail.is_empty()
            && !self.shard.keyspace.events.is_observed()
            && !self.shard.keyspace.has_notices()
    }

    /// Leaves the own shard in its berth while this worker waits.
    #[inline]
    pub(crate) fn moor(&mut self) {
        self.shared.berths.note_generation(self.own, self.config.generation());
        self.shard.offer(self.shared.berths.of(self.own));
    }

    /// Takes the own shard back after a wait, and goes on with what has waited for it.
    #[inline]
    pub(crate) fn unmoor(&mut self) {
        self.shard.reclaim(self.shared.berths.of(self.own));
        if self.shard.take_came_back() {
            self.configure_if_due();
            self.serve_waiting();
        }
    }
}
