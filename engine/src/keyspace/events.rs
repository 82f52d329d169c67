//! Keyspace notifications: what happened to which key, for clients that asked to hear of it.
//!
//! A command reports each event where it happens. With notifications off, which is the normal case,
//! that costs one comparison; otherwise the event waits here until the server fetches it, behind the
//! command that caused it.
//!
//! Invariants:
//! - only events whose class the configuration asks for are kept;
//! - at most [`PENDING_MAX`] wait; what comes on top is counted and lost, since notifications may be
//!   lost but memory may not run out.
#![forbid(unsafe_code)]

use std::ops::BitOr;

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

/// The events of one shard that wait for delivery.
#[derive(Debug, Default)]
pub struct Events {
    wanted: Class,
    pending: Vec<Event>,
    lost: u64,
}

impl Events {
    /// Keeps the events of these classes from now on. Without a channel to go to, none are kept.
    pub fn configure(&mut self, classes: Class) {
        let delivered = classes.has(Class::KEYSPACE | Class::KEYEVENT);
        self.wanted = if delivered { classes } else { Class::NONE };
    }

    /// Notes that `name` happened to `key`.
    #[inline]
    pub fn report(&mut self, class: Class, name: &'static str, database: usize, key: &[u8]) {
        if self.wanted.has(class) {
            self.keep(class, name, database, key);
        }
    }

    #[cold]
    fn keep(&mut self, class: Class, name: &'static str, database: usize, key: &[u8]) {
        if self.pending.len() == PENDING_MAX {
            self.lost += 1;
            return;
        }
        self.pending.push(Event { class, name, database: database as u32, key: key.into() });
    }

    /// Whether nothing waits.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.pending.is_empty()
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
        let mut events = Events::default();
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
        let mut events = Events::default();
        events.configure(Class::ALL | Class::KEYSPACE);
        for _ in 0..PENDING_MAX + 3 {
            events.report(Class::STRING, "set", 0, b"k");
        }
        assert_eq!((events.take().len(), events.lost()), (PENDING_MAX, 3));
    }
}
