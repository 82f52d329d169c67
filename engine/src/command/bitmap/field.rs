//! BITFIELD: integers of any width at any bit, read and changed by a list of operations.
//!
//! The list is read whole before anything is done. A list that only reads leaves a missing key
//! missing; any other first makes the string as long as its farthest write needs, even if all its
//! writes then fail for overflow, as in Redis.
#![forbid(unsafe_code)]

use smallvec::SmallVec;
use tessera_proto::number::parse_i64;

use super::{
    Text, edit_bytes,
    single::{bytes_up_to, parse_field_offset},
};
use crate::{
    command::prelude::*,
    types::bits::{FieldType, Overflow},
};

/// One operation of the list.
#[derive(Clone, Copy)]
struct Operation {
    field: FieldType,
    offset: u64,
    action: Action,
}

#[derive(Clone, Copy)]
enum Action {
    Get,
    Set(i64, Overflow),
    Add(i64, Overflow),
}

type Operations = SmallVec<[Operation; 8]>;

/// BITFIELD key [GET type offset | [OVERFLOW WRAP | SAT | FAIL] SET type offset value | INCRBY type
/// offset increment …]: for each operation the integer read, replaced or made.
pub(super) fn bitfield(cx: &mut Context<'_>, args: &Args<'_>) -> Result<Effect, CommandError> {
    let operations = parse(args, cx.settings.bulk_bytes_max)?;
    let Some(len) = operations.iter().filter_map(Operation::bytes_written).max() else {
        return read_all(cx, args, &operations);
    };
    let key = &args[1];
    let slot = cx.keyspace.slot(key);
    let old_len = slot.body().map(Text::of).transpose()?.map(Text::len);
    let has_grown = old_len.is_none_or(|old_len| old_len < len);
    let reply = &mut cx.reply;
    reply.array(operations.len());
    let mut changes: u64 = edit_bytes(slot, len, |bytes| {
        let changed = operations.iter().map(|operation| {
            let outcome = operation.run(bytes);
            match outcome.answer {
                Some(answer) => reply.integer(answer),
                None => reply.null(),
            }
            u64::from(outcome.written && (has_grown || outcome.changed))
        });
        changed.sum()
    });
    if has_grown {
        // Also when every write has failed: the string is longer than before.
        changes = changes.max(1);
    }
    if changes > 0 {
        cx.notify(Class::STRING, "setbit", key);
    }
    Ok(Effect::count(changes))
}

/// BITFIELD_RO key [GET type offset …].
pub(super) fn bitfield_ro(cx: &mut Context<'_>, args: &Args<'_>) -> Result<Effect, CommandError> {
    let operations = parse(args, cx.settings.bulk_bytes_max)?;
    if operations.iter().any(|operation| operation.bytes_written().is_some()) {
        return Err(CommandError::text("ERR BITFIELD_RO only supports the GET subcommand"));
    }
    read_all(cx, args, &operations)
}

/// What BITFIELD does to its key: operations that read alone change nothing.
pub(super) fn bitfield_access(args: &Args<'_>) -> Access {
    let is_write =
        |word: &[u8]| word.eq_ignore_ascii_case(b"SET") || word.eq_ignore_ascii_case(b"INCRBY");
    if args.iter().skip(2).any(is_write) {
        Access::RW | Access::ACCESS | Access::UPDATE
    } else {
        Access::RO | Access::ACCESS
    }
}

fn read_all(
    cx: &mut Context<'_>,
    args: &Args<'_>,
    operations: &Operations,
) -> Result<Effect, CommandError> {
    let reply = &mut cx.reply;
    let mut answer = |bytes: &[u8]| {
        reply.array(operations.len());
        for operation in operations {
            reply.integer(operation.field.get(bytes, operation.offset));
        }
    };
    match cx.keyspace.read(&args[1]) {
        Some(entry) => Text::of(entry.body())?.with_bytes(answer),
        None => answer(b""),
    }
    Ok(Effect::Unchanged)
}

/// What an operation has come to.
struct Outcome {
    /// The integer to answer; none after an overflow that was to fail.
    answer: Option<i64>,
    written: bool,
    changed: bool,
}

impl Operation {
    /// How long a string must be for the operation to write.
    fn bytes_written(&self) -> Option<usize> {
        match self.action {
            Action::Get => None,
            Action::Set(..) | Action::Add(..) => {
                Some(bytes_up_to(self.offset + self.field.bits() - 1))
            }
        }
    }

    fn run(&self, bytes: &mut [u8]) -> Outcome {
        let old = self.field.get(bytes, self.offset);
        let new = match self.action {
            Action::Get => return Outcome { answer: Some(old), written: false, changed: false },
            Action::Set(value, overflow) => self.field.sum(value, 0, overflow),
            Action::Add(increment, overflow) => self.field.sum(old, increment, overflow),
        };
        let Some(new) = new else {
            return Outcome { answer: None, written: false, changed: false };
        };
        self.field.set(bytes, self.offset, new);
        let answer = if matches!(self.action, Action::Set(..)) { old } else { new };
        Outcome { answer: Some(answer), written: true, changed: old != new }
    }
}

fn parse(args: &Args<'_>, bytes_max: usize) -> Result<Operations, CommandError> {
    let mut operations = Operations::new();
    let mut overflow = Overflow::default();
    let mut at = 2;
    while at < args.len() {
        let (word, rest) = (&args[at], args.len() - at - 1);
        let is = |name: &[u8], wanted| rest >= wanted && word.eq_ignore_ascii_case(name);
        if is(b"OVERFLOW", 1) {
            overflow = parse_overflow(&args[at + 1])?;
            at += 2;
            continue;
        }
        let writes = is(b"SET", 3) || is(b"INCRBY", 3);
        if !writes && !is(b"GET", 2) {
            return Err(CommandError::Syntax);
        }
        let field = parse_type(&args[at + 1])?;
        let offset = parse_field_offset(&args[at + 2], field.bits(), bytes_max)?;
        let action = if writes {
            let number = parse_i64(&args[at + 3]).ok_or(CommandError::NotAnInteger)?;
            let adds = is(b"INCRBY", 3);
            if adds { Action::Add(number, overflow) } else { Action::Set(number, overflow) }
        } else {
            Action::Get
        };
        operations.push(Operation { field, offset, action });
        at += if writes { 4 } else { 3 };
    }
    Ok(operations)
}

fn parse_overflow(name: &[u8]) -> Result<Overflow, CommandError> {
    if name.eq_ignore_ascii_case(b"WRAP") {
        Ok(Overflow::Wrap)
    } else if name.eq_ignore_ascii_case(b"SAT") {
        Ok(Overflow::Saturate)
    } else if name.eq_ignore_ascii_case(b"FAIL") {
        Ok(Overflow::Fail)
    } else {
        Err(CommandError::text("ERR Invalid OVERFLOW type specified"))
    }
}

/// `i` or `u` and a number of bits.
fn parse_type(text: &[u8]) -> Result<FieldType, CommandError> {
    let field = match text {
        [b'i', bits @ ..] => parse_i64(bits).and_then(|bits| FieldType::new(true, bits)),
        [b'u', bits @ ..] => parse_i64(bits).and_then(|bits| FieldType::new(false, bits)),
        _ => None,
    };
    field.ok_or(CommandError::text(
        "ERR Invalid bitfield type. Use something like i16 u8. Note that u64 is not supported but \
         i64 is.",
    ))
}
