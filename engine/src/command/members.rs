//! What the commands on hashes, sets and sorted sets have in common: walking over members with a
//! cursor, and drawing members at random.
#![forbid(unsafe_code)]

use std::collections::BTreeSet;

use tessera_proto::{Args, ReplyWriter, glob, number::parse_i64};

use super::CommandError;
pub(super) use super::generic::parse_cursor;
use crate::{sys::random::Random, types::Element};

/// Members that a scan looks at unless COUNT says otherwise.
const COUNT_DEFAULT: usize = 10;

/// What HSCAN, SSCAN or ZSCAN shall find: the options behind `key cursor`.
pub(super) struct ScanOptions<'a> {
    /// About how many members to look at.
    pub(super) count: usize,
    pattern: Option<&'a [u8]>,
    /// NOVALUES or NOSCORES: fields or members alone.
    pub(super) alone: bool,
}

impl<'a> ScanOptions<'a> {
    /// `alone` is the word by which HSCAN and ZSCAN leave out what belongs to a member.
    pub(super) fn parse(args: &Args<'a>, alone: Option<&str>) -> Result<Self, CommandError> {
        let mut options = Self { count: COUNT_DEFAULT, pattern: None, alone: false };
        let mut rest = args.iter().skip(3);
        while let Some(word) = rest.next() {
            if alone.is_some_and(|alone| word.eq_ignore_ascii_case(alone.as_bytes())) {
                options.alone = true;
                continue;
            }
            let value = rest.next().ok_or(CommandError::Syntax)?;
            if word.eq_ignore_ascii_case(b"COUNT") {
                let count = parse_i64(value).ok_or(CommandError::NotAnInteger)?;
                let count = usize::try_from(count).ok().filter(|&count| count > 0);
                options.count = count.ok_or(CommandError::Syntax)?;
            } else if word.eq_ignore_ascii_case(b"MATCH") {
                options.pattern = Some(value);
            } else {
                return Err(CommandError::Syntax);
            }
        }
        Ok(options)
    }

    /// Whether the pattern admits the member.
    pub(super) fn admits(&self, member: &Element<'_>) -> bool {
        self.pattern.is_none_or(|pattern| {
            pattern == b"*" || member.with_bytes(|member| glob::matches(pattern, member))
        })
    }
}

/// Answers a walk: `walk` writes the elements, and returns the next cursor and their number.
pub(super) fn reply_scan(
    reply: &mut ReplyWriter<'_>,
    walk: impl FnOnce(&mut ReplyWriter<'_>) -> (u64, usize),
) {
    // The cursor stands first in the reply and is known last.
    let mut elements = tessera_proto::ReplyBuffer::new();
    let mut inner = ReplyWriter::new(&mut elements, reply.protocol());
    let (cursor, len) = walk(&mut inner);
    reply.array(2);
    reply.bulk(itoa::Buffer::new().format(cursor).as_bytes());
    reply.array(len);
    reply.raw(&elements.to_vec());
}

/// Answers a walk over what does not exist.
pub(super) fn reply_empty_scan(reply: &mut ReplyWriter<'_>) {
    reply.array(2);
    reply.bulk(b"0");
    reply.array(0);
}

/// How many members at random a client wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Draw {
    /// So many different ones at most.
    Distinct(usize),
    /// So many, the same again perhaps.
    Repeated(usize),
}

impl Draw {
    /// A count, negative for members that may come again.
    pub(super) fn parse(text: &[u8]) -> Result<Self, CommandError> {
        match parse_i64(text) {
            None => Err(CommandError::NotAnInteger),
            Some(i64::MIN) => Err(CommandError::text(
                "ERR value is out of range, value must between -9223372036854775807 and \
                 9223372036854775807",
            )),
            Some(count @ 0..) => Ok(Self::Distinct(count as usize)),
            Some(count) => Ok(Self::Repeated(count.unsigned_abs() as usize)),
        }
    }

    /// Refuses a count whose double does not fit, for replies with two elements a member.
    pub(super) fn doubled(self) -> Result<Self, CommandError> {
        let (Self::Distinct(count) | Self::Repeated(count)) = self;
        if count > i64::MAX as usize / 2 {
            return Err(CommandError::text("ERR value is out of range"));
        }
        Ok(self)
    }

    /// How many members that makes of `len`.
    pub(super) fn take(self, len: usize) -> usize {
        match self {
            Self::Distinct(count) => count.min(len),
            Self::Repeated(_) if len == 0 => 0,
            Self::Repeated(count) => count,
        }
    }

    /// Calls `each` with the indexes drawn among `len`: as many as [`Self::take`] says.
    pub(super) fn indexes(self, len: usize, random: &mut Random, each: impl FnMut(usize)) {
        match self {
            Self::Distinct(count) if count >= len => (0..len).for_each(each),
            Self::Distinct(count) => distinct(len, count, random).into_iter().for_each(each),
            Self::Repeated(_) if len == 0 => {}
            Self::Repeated(count) => {
                (0..count).map(|_| random.below(len as u64) as usize).for_each(each);
            }
        }
    }
}

/// `count` different numbers below `len`, every such set equally likely (Floyd's algorithm, in
/// Bentley, "Programming Pearls: a sample of brilliance", 1987).
fn distinct(len: usize, count: usize, random: &mut Random) -> BTreeSet<usize> {
    let mut drawn = BTreeSet::new();
    for last in len - count..len {
        let number = random.below(last as u64 + 1) as usize;
        if !drawn.insert(number) {
            drawn.insert(last);
        }
    }
    drawn
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distinct_draws_are_distinct_and_even() {
        let mut random = Random::from_seed(3);
        let mut seen = [0_u32; 10];
        for _ in 0..3000 {
            let drawn = distinct(10, 3, &mut random);
            assert_eq!(drawn.len(), 3);
            drawn.into_iter().for_each(|number| seen[number] += 1);
        }
        assert!(seen.iter().all(|&count| (700..1100).contains(&count)), "{seen:?}");
    }

    #[test]
    fn counts_say_whether_members_repeat() {
        assert_eq!(Draw::parse(b"3"), Ok(Draw::Distinct(3)));
        assert_eq!(Draw::parse(b"-3"), Ok(Draw::Repeated(3)));
        assert!(Draw::parse(b"x").is_err());
        assert!(Draw::parse(b"-9223372036854775808").is_err());
        assert_eq!((Draw::Distinct(5).take(3), Draw::Repeated(5).take(3)), (3, 5));
        assert_eq!(Draw::Repeated(5).take(0), 0);
    }
}
