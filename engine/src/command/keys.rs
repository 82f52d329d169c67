//! Where the keys stand among a command's arguments, and what the command does to them.
//!
//! One specification serves routing, COMMAND GETKEYS, COMMAND INFO and access rules.
#![forbid(unsafe_code)]

use std::ops::BitOr;

use tessera_proto::{Args, number::parse_i64};

use super::error::CommandError;

/// What a command does to a key, as a set of bits under Redis's names: one of RO, RW, OW, RM for
/// the key as a whole, and any of ACCESS, UPDATE, INSERT, DELETE for the user's data in it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Access(u8);

impl Access {
    /// Nothing is known.
    pub const NONE: Self = Self(0);
    /// Reads the value, changes nothing.
    pub const RO: Self = Self(1);
    /// Reads and changes the value.
    pub const RW: Self = Self(1 << 1);
    /// Overwrites the value without reading it.
    pub const OW: Self = Self(1 << 2);
    /// Removes the key.
    pub const RM: Self = Self(1 << 3);
    /// Returns, copies or computes from the user's data.
    pub const ACCESS: Self = Self(1 << 4);
    /// Changes the user's data.
    pub const UPDATE: Self = Self(1 << 5);
    /// Adds data without touching what is there.
    pub const INSERT: Self = Self(1 << 6);
    /// Removes data.
    pub const DELETE: Self = Self(1 << 7);

    /// Names as COMMAND INFO lists them.
    pub const NAMES: [(Self, &'static str); 8] = [
        (Self::RO, "RO"),
        (Self::RW, "RW"),
        (Self::OW, "OW"),
        (Self::RM, "RM"),
        (Self::ACCESS, "access"),
        (Self::UPDATE, "update"),
        (Self::INSERT, "insert"),
        (Self::DELETE, "delete"),
    ];

    /// Both sets together; `|` in constants.
    pub const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether any bit of `other` is set here.
    pub const fn has(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    /// Whether the key or its value may be changed: an exclusive lock is needed.
    pub const fn writes(self) -> bool {
        self.0 & !(Self::RO.0 | Self::ACCESS.0) != 0
    }

    /// The names of the bits set.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        Self::NAMES.into_iter().filter(move |&(bit, _)| self.has(bit)).map(|(_, name)| name)
    }
}

impl BitOr for Access {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        self.with(other)
    }
}

/// The positions of a command's keys. Positions count the command's name as 0.
#[derive(Clone, Copy, Debug)]
pub enum Place {
    /// No keys.
    None,
    /// From `first` to `last` (negative: counted from the end, -1 being the last argument), every
    /// `step`-th argument.
    Range {
        /// Position of the first key.
        first: usize,
        /// Position of the last, or from the end when negative.
        last: isize,
        /// Distance between two keys.
        step: usize,
    },
    /// A number of keys at `count`, then the keys; before them perhaps a key of its own at
    /// `destination` (ZUNIONSTORE).
    Counted {
        /// Position of the number.
        count: usize,
        /// Position of a destination key.
        destination: Option<usize>,
    },
    /// The first argument, and further ones found by a function, which appends their positions
    /// (SORT's and GEORADIUS's STORE).
    FirstAnd(fn(&Args<'_>, &mut Vec<usize>)),
    /// Found by a function, which appends the positions.
    Custom(fn(&Args<'_>, &mut Vec<usize>) -> Result<(), CommandError>),
}

/// Where a command's keys stand and what it does to them.
#[derive(Clone, Copy, Debug)]
pub struct KeySpec {
    /// Where they stand.
    pub place: Place,
    /// What happens to the first key.
    pub first: Access,
    /// What happens to the others.
    pub rest: Access,
    /// What happens to the keys where that depends on the arguments (SET with GET); `first` and
    /// `rest` then say the most that may happen.
    pub varies: Option<fn(&Args<'_>) -> Access>,
}

impl KeySpec {
    /// No keys.
    pub const NONE: Self = Self::at(Place::None);
    /// The argument behind the name is the one key.
    pub const FIRST: Self = Self::at(Place::Range { first: 1, last: 1, step: 1 });
    /// The first two arguments are keys (RENAME).
    pub const FIRST_TWO: Self = Self::at(Place::Range { first: 1, last: 2, step: 1 });
    /// Every argument is a key (DEL).
    pub const ALL: Self = Self::at(Place::Range { first: 1, last: -1, step: 1 });
    /// Keys and values in turn (MSET).
    pub const PAIRS: Self = Self::at(Place::Range { first: 1, last: -1, step: 2 });
    /// The argument behind the subcommand is the one key (OBJECT ENCODING).
    pub const SECOND: Self = Self::at(Place::Range { first: 2, last: 2, step: 1 });

    /// Keys at `place`, of which nothing else is said.
    pub const fn at(place: Place) -> Self {
        Self { place, first: Access::NONE, rest: Access::NONE, varies: None }
    }

    /// All keys are used like this.
    pub const fn used(self, access: Access) -> Self {
        Self { first: access, rest: access, ..self }
    }

    /// The keys behind the first are used like this.
    pub const fn then(self, access: Access) -> Self {
        Self { rest: access, ..self }
    }

    /// The arguments decide how the keys are used.
    pub const fn varying(self, access: fn(&Args<'_>) -> Access) -> Self {
        Self { varies: Some(access), ..self }
    }

    /// Whether there are no keys at all.
    pub fn is_none(&self) -> bool {
        matches!(self.place, Place::None)
    }

    /// The position of the only key, where the specification fixes it: the fast way for most.
    #[inline]
    pub fn single(&self) -> Option<usize> {
        match self.place {
            Place::Range { first, last, .. } if last == first as isize => Some(first),
            _ => None,
        }
    }

    /// Appends the positions of the keys in `args` to `positions`, in order.
    ///
    /// # Errors
    ///
    /// A number of keys that is no number, not positive or more than there are arguments.
    pub fn positions(
        &self,
        args: &Args<'_>,
        positions: &mut Vec<usize>,
    ) -> Result<(), CommandError> {
        match self.place {
            Place::None => {}
            Place::Range { first, last, step } => {
                let last = match usize::try_from(last) {
                    Ok(last) => last,
                    Err(_) => args.len().saturating_add_signed(last),
                };
                positions.extend((first..=last.min(args.len() - 1)).step_by(step));
            }
            Place::Counted { count, destination } => {
                positions.extend(destination);
                let keys = counted_keys(args, count)?;
                positions.extend(count + 1..=count + keys);
            }
            Place::FirstAnd(find) => {
                positions.push(1);
                find(args, positions);
            }
            Place::Custom(find) => find(args, positions)?,
        }
        Ok(())
    }

    /// What a call with `args` does to its `nth` key, counted from 0.
    pub fn access(&self, args: &Args<'_>, nth: usize) -> Access {
        match self.varies {
            Some(decide) => decide(args),
            None if nth == 0 => self.first,
            None => self.rest,
        }
    }

    /// First key, last key and step as COMMAND INFO shows them; zeros without fixed positions.
    pub fn as_redis(&self) -> (i64, i64, i64) {
        match self.place {
            Place::Range { first, last, step } => (first as i64, last as i64, step as i64),
            Place::FirstAnd(_) => (1, 1, 1),
            Place::Counted { destination: Some(at), .. } => (at as i64, at as i64, 1),
            Place::None | Place::Counted { .. } | Place::Custom(_) => (0, 0, 0),
        }
    }

    /// How many arguments a call has at least if its keys are there, the name included.
    pub fn fewest_arguments(&self) -> usize {
        match self.place {
            Place::None | Place::Custom(_) => 1,
            Place::FirstAnd(_) => 2,
            Place::Range { first, last, .. } => first.max(usize::try_from(last).unwrap_or(0)) + 1,
            Place::Counted { count, destination } => count.max(destination.unwrap_or(0)) + 1,
        }
    }
}

/// The number of keys that the argument at `count` announces.
///
/// # Errors
///
/// Not an integer, not positive, or more than the arguments behind it.
pub fn counted_keys(args: &Args<'_>, count: usize) -> Result<usize, CommandError> {
    match args.get(count).and_then(parse_i64) {
        None => Err(CommandError::NotAnInteger),
        Some(number) if number <= 0 => {
            Err(CommandError::text("ERR numkeys should be greater than 0"))
        }
        Some(number) => usize::try_from(number)
            .ok()
            .filter(|&keys| keys < args.len() - count)
            .ok_or(CommandError::Syntax),
    }
}
