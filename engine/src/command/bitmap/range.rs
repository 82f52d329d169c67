//! BITCOUNT and BITPOS: what lies in a stretch of a string, given in bytes or in bits.
#![forbid(unsafe_code)]

use std::ops::Range;

use tessera_proto::number::parse_i64;

use super::Text;
use crate::{command::prelude::*, types::bits};

/// BITCOUNT key [start [end [BYTE | BIT]]].
pub(super) fn bitcount(cx: &mut Context<'_>, args: &Args<'_>) -> Result<Effect, CommandError> {
    let stretch = Stretch::parse(args, 2)?;
    let count = match cx.keyspace.read(&args[1]) {
        None => 0,
        Some(entry) => Text::of(entry.body())?.with_bytes(|bytes| {
            // However long the string is, nothing lies between these.
            if stretch.is_backwards() {
                return 0;
            }
            bits::count_within(bytes, stretch.within(bytes.len()))
        }),
    };
    cx.reply.integer(count as i64);
    Ok(Effect::Unchanged)
}

/// BITPOS key bit [start [end [BYTE | BIT]]]: the position of the first such bit, or -1.
///
/// A clear bit is always found unless an end is given: a string goes on with zeros.
pub(super) fn bitpos(cx: &mut Context<'_>, args: &Args<'_>) -> Result<Effect, CommandError> {
    let bit = match parse_i64(&args[2]).ok_or(CommandError::NotAnInteger)? {
        0 => false,
        1 => true,
        _ => return Err(CommandError::text("ERR The bit argument must be 1 or 0.")),
    };
    let stretch = Stretch::parse(args, 3)?;
    let position = match cx.keyspace.read(&args[1]) {
        None => (!bit).then_some(0),
        Some(entry) => Text::of(entry.body())?.with_bytes(|bytes| {
            let range = stretch.within(bytes.len());
            let behind = (!bit && stretch.end.is_none() && !range.is_empty()).then_some(range.end);
            bits::find(bytes, range, bit).or(behind)
        }),
    };
    cx.reply.integer(position.map_or(-1, |position| position as i64));
    Ok(Effect::Unchanged)
}

/// A stretch of a string; positions count from the end when negative, and both ends belong to it.
struct Stretch {
    start: i64,
    end: Option<i64>,
    /// Positions are of bits, not of bytes.
    in_bits: bool,
}

impl Stretch {
    /// Reads `[start [end [BYTE | BIT]]]` from argument `first` on.
    fn parse(args: &Args<'_>, first: usize) -> Result<Self, CommandError> {
        if args.len() > first + 3 {
            return Err(CommandError::Syntax);
        }
        let number = |text| parse_i64(text).ok_or(CommandError::NotAnInteger);
        let start = args.get(first).map(number).transpose()?.unwrap_or(0);
        let in_bits = match args.get(first + 2) {
            None => false,
            Some(unit) if unit.eq_ignore_ascii_case(b"BYTE") => false,
            Some(unit) if unit.eq_ignore_ascii_case(b"BIT") => true,
            Some(_) => return Err(CommandError::Syntax),
        };
        let end = args.get(first + 1).map(number).transpose()?;
        Ok(Self { start, end, in_bits })
    }

    /// Whether both ends count from the end and pass each other.
    fn is_backwards(&self) -> bool {
        self.start < 0 && self.end.is_some_and(|end| end < 0 && self.start > end)
    }

    /// The bits that it means in a string of `len` bytes.
    fn within(&self, len: usize) -> Range<u64> {
        let unit = if self.in_bits { 1 } else { 8 };
        let units = len as i64 * 8 / unit;
        let from_end = |at: i64| if at < 0 { at.saturating_add(units).max(0) } else { at };
        let start = from_end(self.start);
        let end = from_end(self.end.unwrap_or(-1)).min(units - 1);
        if start > end { 0..0 } else { (start * unit) as u64..((end + 1) * unit) as u64 }
    }
}
