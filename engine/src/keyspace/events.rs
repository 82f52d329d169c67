//! The one signal that a key has changed, and who hears it.
//!
//! Every command calls `notify` exactly for the keys that it really changed, and so do expiry and
//! eviction; what concerns whole databases is reported by [`Events::flushed`] and
//! [`Events::swapped`]. With nobody listening, which is the normal case, a report costs one
//! comparison of a mask.
//!
//! A listener is a bit in the mask and a table of its own:
//! - keyspace notifications: the bits of the wanted [`Class`]es; the events wait here until the
//!   shard makes messages of them (`notice`);
//! - client tracking: [`Listener::TRACKING`], and the table `tracking`;
//! - watched keys: [`Listener::WATCH`], and the table `watched`; of databases that are flushed or
//!   swapped the keyspace tells it by `touch`, since what counts is which keys were there;
//! - keys that blocked clients wait for: [`Listener::AWAITED`], and the table `awaited`;
//! - [`Listener::LIMITED`] hears of nothing: it makes the one test before every command, whether the
//!   mask is empty, say also that memory is limited;
//! - a further one: a bit in [`Listener`], a table as a field of [`Events`], and a line in `tell`,
//!   `flushed` and `swapped`. The owner of the table keeps the bit true to it with
//!   [`Events::listen`]: set while the table holds anything. A listener hears of all changes
//!   ([`Class::is_change`]), whatever classes are wanted.
//!
//! `tell` runs in the middle of a command, while an entry may be borrowed: it may note what happened
//! in its own table, and nothing else.
//!
//! Invariants:
//! - only events whose class the configuration asks for are kept;
//! - at most [`PENDING_MAX`] wait; what comes on top is counted and lost, since notifications may be
//!   lost but memory may not run out;
//! - what is noted for a client that tracks keys is never lost: beyond its bound it becomes "all
//!   keys" (see `tracking`).
#![forbid(unsafe_code)]

use std::ops::BitOr;

use super::{
    awaited::{Awaited, DatabaseKey},
    tracking::Tracking,
    watch::{WatchTable, Watcher, Watchers},
};
use crate::notice::Client;

/// The most events that wait for the server. One command makes at most a few a key.
pub const PENDING_MAX: usize = 1 << 16;

/// Classes of events, and the two channels they go to, as a set of bits: the letters of
/// `notify-keyspace-events`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Class(u16);

impl Class {
    /// Nothing.
    pub const NONE: Self = Self(0);
    /// `K`: deliver on `__keyspace@<db>__` channels.
    pub const KEYSPACE: Self = Self(1);
    /// `E`: deliver on `__keyevent@<db>__` channels.
    pub const KEYEVENT: Self = Self(1 << 1);
    /// `g`: events of any type, such as del and expire.
    pub const GENERIC: Self = Self(1 << 2);
    /// `$`: strings.
    pub const STRING: Self = Self(1 << 3);
    /// `l`: lists.
    pub const LIST: Self = Self(1 << 4);
    /// `s`: sets.
    pub const SET: Self = Self(1 << 5);
    /// `h`: hashes.
    pub const HASH: Self = Self(1 << 6);
    /// `z`: sorted sets.
    pub const SORTED_SET: Self = Self(1 << 7);
    /// `x`: a key was removed because its deadline passed.
    pub const EXPIRED: Self = Self(1 << 8);
    /// `e`: a key was removed to make room.
    pub const EVICTED: Self = Self(1 << 9);
    /// `t`: streams.
    pub const STREAM: Self = Self(1 << 10);
    /// `m`: a key was read that does not exist. Not part of `A`.
    pub const MISS: Self = Self(1 << 11);
    /// `d`: events that modules define.
    pub const MODULE: Self = Self(1 << 12);
    /// `n`: a key was created. Not part of `A`.
    pub const NEW: Self = Self(1 << 13);
    /// `A`: all that happens to keys but misses and creations.
    pub const ALL: Self = Self(0b1_0111_1111_1100);

    /// The bits, as the configuration keeps them.
    pub const fn bits(self) -> u16 {
        self.0
    }

    /// The classes of these bits; those of no class are dropped.
    pub const fn from_bits(bits: u16) -> Self {
        Self(bits & 0x3fff)
    }

    /// Whether an event of this class tells that its key has changed. A miss does not, and the
    /// creation of a key is told besides what created it.
    pub const fn is_change(self) -> bool {
        self.0 & (Self::MISS.0 | Self::NEW.0) == 0
    }

    /// The letters in the order in which CONFIG GET shows them.
    const LETTERS: [(Self, char); 14] = [
        (Self::GENERIC, 'g'),
        (Self::STRING, '$'),
        (Self::LIST, 'l'),
        (Self::SET, 's'),
        (Self::HASH, 'h'),
        (Self::SORTED_SET, 'z'),
        (Self::EXPIRED, 'x'),
        (Self::EVICTED, 'e'),
        (Self::STREAM, 't'),
        (Self::MODULE, 'd'),
        (Self::NEW, 'n'),
        (Self::KEYSPACE, 'K'),
        (Self::KEYEVENT, 'E'),
        (Self::MISS, 'm'),
    ];

    /// Whether any bit of `other` is set here.
    #[inline]
    pub const fn has(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    /// The classes that the letters name; nothing if one of them is unknown.
    pub fn parse(letters: &str) -> Option<Self> {
        letters.chars().try_fold(Self::NONE, |classes, letter| match letter {
            'A' => Some(classes | Self::ALL),
            _ => Self::LETTERS
                .iter()
                .find(|(_, known)| *known == letter)
                .map(|&(class, _)| classes | class),
        })
    }

    /// The letters that name these classes, `A` standing for all it covers.
    pub fn letters(self) -> String {
        let all = self.0 & Self::ALL.0 == Self::ALL.0;
        let shown = |class: Self| self.has(class) && !(all && Self::ALL.has(class));
        let single = Self::LETTERS.iter().filter(|(class, _)| shown(*class)).map(|(_, c)| *c);
        all.then_some('A').into_iter().chain(single).collect()
    }
}

impl BitOr for Class {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// Something that happened to a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// Its class.
    pub class: Class,
    /// Its name, as clients read it.
    pub name: &'static str,
    /// The database of the key.
    pub database: u32,
    /// The key.
    pub key: Box<[u8]>,
}

/// Who hears of every change of a key, besides keyspace notifications: a bit each in the mask.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Listener(u32);

impl Listener {
    /// Clients that cache keys (see [`Tracking`]).
    pub const TRACKING: Self = Self(1 << 16);
    /// Clients that watch keys (see [`WatchTable`]).
    pub const WATCH: Self = Self(1 << 17);
    /// Clients that wait for keys (see [`Awaited`]).
    pub const AWAITED: Self = Self(1 << 18);
    /// Memory is limited: the shard looks after that before each command. It hears of nothing.
    pub const LIMITED: Self = Self(1 << 19);
    /// Those that hear of changes.
    const ANY: u32 = Self::TRACKING.0 | Self::WATCH.0 | Self::AWAITED.0;
}

/// The bits of the mask that are classes.
const CLASS_BITS: u32 = 0xffff;

/// What happens to the keys of one shard, as far as somebody listens.
#[derive(Debug)]
pub struct Events {
    /// The classes that are kept, and the bits of the listeners.
    wanted: u32,
    /// Something may wait to be told.
    waiting: bool,
    pending: Vec<Event>,
    lost: u64,
    /// What happens, while it is to be told elsewhere, and the mask that is in force otherwise.
    overheard: Option<(Vec<Event>, u32)>,
    /// Who the running command is executed for.
    cause: Option<Client>,
    /// Keys that clients cache.
    pub tracking: Tracking,
    /// Keys that clients watch.
    watched: WatchTable,
    /// Keys that clients wait for.
    awaited: Awaited,
}

impl Events {
    /// Nobody listens. Hash functions follow from `seed`.
    pub fn new(seed: u64) -> Self {
        Self {
            wanted: 0,
            waiting: false,
            pending: Vec::new(),
            lost: 0,
            overheard: None,
            cause: None,
            tracking: Tracking::new(seed),
            watched: WatchTable::new(seed),
            awaited: Awaited::new(seed),
        }
    }

    /// Keeps the events of these classes from now on. Without a channel to go to, none are kept.
    pub fn configure(&mut self, classes: Class) {
        let delivered = classes.has(Class::KEYSPACE | Class::KEYEVENT);
        let classes = if delivered { u32::from(classes.0) } else { 0 };
        self.wanted = self.wanted & !CLASS_BITS | classes;
    }

    /// The classes that are kept.
    pub fn classes(&self) -> Class {
        Class::from_bits(self.wanted as u16)
    }

    /// Tells `listener` of all changes from now on, or no more.
    pub fn listen(&mut self, listener: Listener, is_listening: bool) {
        self.wanted = self.wanted & !listener.0 | if is_listening { listener.0 } else { 0 };
    }

    /// Whether anything is to be looked after besides the command that runs: somebody listens, or
    /// memory is limited. The one question that is asked before every command.
    #[inline]
    pub fn is_attended(&self) -> bool {
        self.wanted != 0
    }

    /// Whether anybody listens to anything.
    #[inline]
    pub fn is_observed(&self) -> bool {
        self.wanted & !Listener::LIMITED.0 != 0
    }

    /// Whether memory is limited.
    #[inline]
    pub fn is_limited(&self) -> bool {
        self.wanted & Listener::LIMITED.0 != 0
    }

    /// Takes up a client that tracks keys (see [`Tracking::register`]).
    pub fn track<'p>(&mut self, client: Client, prefixes: impl Iterator<Item = &'p [u8]>) {
        self.tracking.register(client, prefixes);
        self.listen(Listener::TRACKING, true);
    }

    /// Forgets a client that tracked keys.
    pub fn untrack(&mut self, client: Client) {
        self.tracking.unregister(client);
        self.listen(Listener::TRACKING, self.tracking.has_clients());
    }

    /// How many events wait.
    pub fn len(&self) -> usize {
        self.pending.len()
    }

    /// Keeps only the first `len` of the events that wait.
    pub fn truncate(&mut self, len: usize) {
        self.pending.truncate(len);
    }

    /// Marks `watcher` when `key` of `database` changes.
    pub fn watch(&mut self, database: usize, key: &[u8], watcher: &Watcher) {
        self.with_watched(|watched| watched.watch(database, key, watcher));
    }

    /// Forgets that `watcher` watches `key`.
    pub fn unwatch(&mut self, database: usize, key: &[u8], watcher: &Watcher) {
        self.with_watched(|watched| watched.unwatch(database, key, watcher));
    }

    /// Whether any key is watched.
    #[inline]
    pub fn is_watched(&self) -> bool {
        self.wanted & Listener::WATCH.0 != 0
    }

    /// How many keys are watched.
    pub fn watched(&self) -> usize {
        self.watched.len()
    }

    /// Takes away who watches a key that is moved to another shard.
    pub fn take_watchers(&mut self, database: usize, key: &[u8]) -> Option<Watchers> {
        self.with_watched(|watched| watched.take(database, key))
    }

    /// Adds those who watch a key that comes from another shard.
    pub fn put_watchers(&mut self, database: usize, key: &[u8], watchers: Watchers) {
        self.with_watched(|watched| watched.put(database, key, watchers));
    }

    /// Marks those who watch a key of `database` for which `is_changed` holds.
    pub fn touch(&mut self, database: usize, is_changed: impl Fn(&[u8]) -> bool) {
        self.with_watched(|watched| watched.changed_where(database, is_changed));
    }

    /// Drops some of what is remembered of clients that watch no more.
    pub fn sweep_watched(&mut self, count: usize) {
        self.with_watched(|watched| watched.sweep(count));
    }

    /// Changes the table of watched keys and keeps its bit true to it.
    fn with_watched<T>(&mut self, change: impl FnOnce(&mut WatchTable) -> T) -> T {
        let changed = change(&mut self.watched);
        self.listen(Listener::WATCH, !self.watched.is_empty());
        changed
    }

    /// One client more waits for `key`.
    pub fn await_key(&mut self, database: u32, key: &[u8]) {
        self.awaited.add(database, key);
        self.listen(Listener::AWAITED, true);
    }

    /// One client fewer waits for `key`.
    pub fn await_no_more(&mut self, database: u32, key: &[u8]) {
        self.awaited.remove(database, key);
        self.listen(Listener::AWAITED, !self.awaited.is_empty());
    }

    /// How many keys are awaited.
    pub fn awaited_keys(&self) -> usize {
        self.awaited.len()
    }

    /// Whether an awaited key has changed.
    #[inline]
    pub fn has_ready(&self) -> bool {
        self.awaited.has_ready()
    }

    /// Takes the awaited keys that have changed, in the order of their changes.
    pub fn take_ready(&mut self) -> Vec<DatabaseKey> {
        self.awaited.take_ready()
    }

    /// Says for whom the next command is executed. Needed only while [`Events::is_observed`].
    pub fn set_cause(&mut self, cause: Option<Client>) {
        self.cause = cause;
    }

    /// Reports that `name` happened to `key`.
    #[inline]
    pub fn report(&mut self, class: Class, name: &'static str, database: usize, key: &[u8]) {
        let listeners = if class.is_change() { Listener::ANY } else { 0 };
        if self.wanted & (u32::from(class.0) | listeners) != 0 {
            self.tell(class, name, database, key);
        }
    }

    #[cold]
    fn tell(&mut self, class: Class, name: &'static str, database: usize, key: &[u8]) {
        if let Some((overheard, _)) = &mut self.overheard {
            let key = key.into();
            return overheard.push(Event { class, name, database: database as u32, key });
        }
        self.waiting = true;
        if self.wanted & u32::from(class.0) != 0 {
            self.keep(class, name, database, key);
        }
        if class.is_change() && self.wanted & Listener::TRACKING.0 != 0 {
            // What time or memory removes, no client has.
            let by_itself = class.has(Class::EXPIRED | Class::EVICTED);
            self.tracking.changed(key, self.cause.filter(|_| !by_itself));
        }
        if class.is_change() && self.wanted & Listener::WATCH.0 != 0 {
            self.with_watched(|watched| watched.changed(database, key));
        }
        if class.is_change() && self.wanted & Listener::AWAITED.0 != 0 {
            self.awaited.changed(database, key);
        }
    }

    fn keep(&mut self, class: Class, name: &'static str, database: usize, key: &[u8]) {
        if self.pending.len() == PENDING_MAX {
            self.lost += 1;
            return;
        }
        self.pending.push(Event { class, name, database: database as u32, key: key.into() });
    }

    /// Keeps from now on whatever is reported instead of telling anyone: keys of other shards are
    /// guests here, and who listens to them is known there.
    pub fn overhear(&mut self) {
        debug_assert!(self.overheard.is_none());
        self.overheard = Some((Vec::new(), self.wanted));
        self.wanted = u32::MAX;
    }

    /// Ends that; hands over what was reported, to be reported where each key lives.
    pub fn end_overhearing(&mut self) -> Vec<Event> {
        let Some((events, wanted)) = self.overheard.take() else { return Vec::new() };
        self.wanted = wanted;
        events
    }

    /// The place behind what has been reported so far and is kept.
    pub(crate) fn mark(&self) -> usize {
        self.kept().len()
    }

    /// Reports that `key` was made by the command that began at `mark`: before anything else that
    /// happened to it since.
    pub(crate) fn report_new(&mut self, mark: usize, database: usize, key: &[u8]) {
        let is_same = |event: &Event| event.database == database as u32 && *event.key == *key;
        // RENAME makes the new key before it tells of the old one.
        let is_same = |event: &Event| is_same(event) || event.name == "rename_from";
        let first = self.kept().iter().skip(mark).position(is_same);
        let end = self.kept().len();
        self.report(Class::NEW, "new", database, key);
        if self.kept().len() > end {
            let place = first.map_or(end, |first| mark + first);
            self.kept_mut()[place..].rotate_right(1);
        }
    }

    fn kept(&self) -> &Vec<Event> {
        self.overheard.as_ref().map_or(&self.pending, |(events, _)| events)
    }

    fn kept_mut(&mut self) -> &mut Vec<Event> {
        self.overheard.as_mut().map_or(&mut self.pending, |(events, _)| events)
    }

    /// Reports that all keys of `database` are gone.
    pub fn flushed(&mut self, database: usize) {
        self.awaited.all_changed(database);
        if self.wanted & Listener::TRACKING.0 != 0 {
            // Clients that track keys are told of names only, whatever the database.
            self.tracking.flushed();
            self.waiting = true;
        }
    }

    /// Reports that two databases have exchanged their keys. Clients that track keys are told of
    /// names alone, and so, as in Redis, not of this.
    pub fn swapped(&mut self, first: usize, second: usize) {
        self.awaited.all_changed(first);
        self.awaited.all_changed(second);
    }

    /// Remembers that a client has read `key` (see [`Tracking::read`]).
    pub fn read(&mut self, key: &[u8], client: Client, keys_max: usize) {
        self.tracking.read(key, client, keys_max);
        self.waiting |= !self.tracking.is_quiet();
    }

    /// Lets clients that cache keys keep at most `keys_max` (see [`Tracking::shrink`]).
    pub fn shrink_tracking(&mut self, keys_max: usize) {
        self.tracking.shrink(keys_max);
        self.waiting |= !self.tracking.is_quiet();
    }

    /// Whether something may wait to be told, here or in the notices: the one question that is asked
    /// after every stretch of commands.
    #[inline]
    pub(super) fn is_waiting(&self) -> bool {
        self.waiting
    }

    /// Notes that there is something to tell. Only who takes all of it, notices and the answers of
    /// waiters, notes that there is nothing any more.
    pub(crate) fn set_waiting(&mut self, waiting: bool) {
        self.waiting = waiting;
    }

    /// Whether nothing waits to be made a message.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.pending.is_empty() && self.tracking.is_quiet()
    }

    /// Hands over what waits, in the order in which it happened.
    pub fn take(&mut self) -> Vec<Event> {
        std::mem::take(&mut self.pending)
    }

    /// How many events were lost because too many waited.
    pub fn lost(&self) -> u64 {
        self.lost
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn letters_are_read_and_shown_as_redis_does() {
        for (given, shown) in [
            ("", ""),
            ("KEA", "AKE"),
            ("Ex", "xE"),
            ("g$lshzxetdK", "AK"),
            ("Knm", "nKm"),
            ("AKE", "AKE"),
        ] {
            assert_eq!(Class::parse(given).map(Class::letters).as_deref(), Some(shown), "{given}");
        }
        assert_eq!(Class::parse("KEy"), None);
    }

    #[test]
    fn nothing_is_kept_that_nobody_asked_for() {
        let mut events = Events::new(1);
        events.report(Class::STRING, "set", 0, b"k");
        events.configure(Class::STRING);
        events.report(Class::STRING, "set", 0, b"k");
        assert!(events.is_empty());

        events.configure(Class::STRING | Class::KEYEVENT);
        events.report(Class::GENERIC, "del", 0, b"k");
        events.report(Class::STRING, "set", 3, b"k");
        let kept = events.take();
        assert_eq!(kept.len(), 1);
        assert_eq!((kept[0].name, kept[0].database, &*kept[0].key), ("set", 3, &b"k"[..]));
        assert!(events.is_empty());
    }

    #[test]
    fn too_many_events_are_counted_and_lost() {
        let mut events = Events::new(1);
        events.configure(Class::ALL | Class::KEYSPACE);
        for _ in 0..PENDING_MAX + 3 {
            events.report(Class::STRING, "set", 0, b"k");
        }
        assert_eq!((events.take().len(), events.lost()), (PENDING_MAX, 3));
    }

    #[test]
    fn listeners_hear_of_changes_only_and_whatever_the_classes() {
        let mut events = Events::new(1);
        events.read(b"k", Client::default(), 10);
        events.report(Class::STRING, "set", 0, b"k");
        assert!(events.tracking.is_quiet());
        events.listen(Listener::TRACKING, true);
        events.configure(Class::NONE);
        for class in [Class::MISS, Class::NEW] {
            events.report(class, "keymiss", 0, b"k");
        }
        assert!(events.is_empty() && events.is_observed());
        events.report(Class::STRING, "set", 0, b"k");
        assert!(!events.is_empty() && events.take().is_empty());
        events.listen(Listener::TRACKING, false);
        assert!(!events.is_observed());
    }
}
