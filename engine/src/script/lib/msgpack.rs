//! The library `cmsgpack`: MessagePack, as Salvatore Sanfilippo's lua-cmsgpack writes and reads it.
#![forbid(unsafe_code)]

use super::{
    super::lua::{Kind, Native, Raised, Returns, Stack, truncated},
    push_functions,
};

const FUNCTIONS: [(&str, Native); 4] = [
    ("pack", pack),
    ("unpack", unpack),
    ("unpack_one", unpack_one),
    ("unpack_limit", unpack_limit),
];
/// Tables nested deeper are packed as nil.
const NESTING_MAX: usize = 16;

/// Pushes the library.
pub(in crate::script) fn push_library(stack: &mut Stack<'_>) {
    push_functions(stack, &FUNCTIONS);
    for (name, text) in [
        ("_NAME", "cmsgpack"),
        ("_VERSION", "lua-cmsgpack 0.4.0"),
        ("_COPYRIGHT", "Copyright (C) 2012, Redis Ltd."),
        ("_DESCRIPTION", "MessagePack C implementation for Lua"),
    ] {
        stack.push_string(text.as_bytes());
        stack.raw_set_field(-2, name.as_bytes());
    }
}

/// `cmsgpack.pack(values…)`: the values one behind the other.
fn pack(stack: &mut Stack<'_>) -> Returns {
    let count = stack.top();
    if count == 0 {
        return stack.fail_argument(0, "MessagePack pack needs input.");
    }
    let mut out = Vec::new();
    for at in 1..=count {
        if !stack.reserve(1) {
            return stack.fail_argument(0, "Too many arguments for MessagePack pack.");
        }
        stack.push_copy(at);
        pack_value(stack, &mut out, 0)?;
    }
    stack.push_string(&out);
    Ok(1)
}

/// Packs the value on top of the stack and removes it.
fn pack_value(stack: &mut Stack<'_>, out: &mut Vec<u8>, level: usize) -> Result<(), Raised> {
    match stack.kind(-1) {
        Kind::String => pack_string(stack.string(-1).unwrap_or_default(), out),
        Kind::Boolean => out.push(if stack.boolean(-1) { 0xc3 } else { 0xc2 }),
        Kind::Number => pack_number(stack.number(-1).unwrap_or(0.0), out),
        Kind::Table if level < NESTING_MAX => {
            if !stack.reserve(4) {
                return stack.fail("stack overflow (in function mp_encode_lua_table)");
            }
            match list_len(stack) {
                Some(len) => pack_list(stack, out, len, level)?,
                None => pack_map(stack, out, level)?,
            }
        }
        _ => out.push(0xc0),
    }
    stack.pop(1);
    Ok(())
}

/// A header of one byte for less than `few`, else one of these codes with 16 or 32 bits behind.
fn pack_len(
    len: usize,
    (few, short): (usize, u8),
    (code_16, code_32): (u8, u8),
    out: &mut Vec<u8>,
) {
    match (u16::try_from(len), u32::try_from(len)) {
        _ if len < few => out.push(short | len as u8),
        (Ok(len), _) => {
            out.push(code_16);
            out.extend(len.to_be_bytes());
        }
        (_, len) => {
            out.push(code_32);
            out.extend(len.unwrap_or(u32::MAX).to_be_bytes());
        }
    }
}

fn pack_string(text: &[u8], out: &mut Vec<u8>) {
    match u8::try_from(text.len()) {
        Ok(len @ 32..) => out.extend([0xd9, len]),
        _ => pack_len(text.len(), (32, 0xa0), (0xda, 0xdb), out),
    }
    out.extend_from_slice(text);
}

fn pack_number(number: f64, out: &mut Vec<u8>) {
    let integer = truncated(number);
    #[expect(clippy::cast_precision_loss, reason = "compared, to see whether it is exact")]
    if integer as f64 == number {
        return pack_integer(integer, out);
    }
    let single = number as f32;
    if f64::from(single) == number {
        out.push(0xca);
        out.extend(single.to_be_bytes());
    } else {
        out.push(0xcb);
        out.extend(number.to_be_bytes());
    }
}

fn pack_integer(number: i64, out: &mut Vec<u8>) {
    // The lowest bytes of the number, the highest of them first.
    let mut with = |code: u8, bytes: usize| {
        out.push(code);
        out.extend_from_slice(&number.to_be_bytes()[8 - bytes..]);
    };
    match number {
        -32..=127 => out.push(number as u8),
        128..=0xff => with(0xcc, 1),
        0x100..=0xffff => with(0xcd, 2),
        0x1_0000..=0xffff_ffff => with(0xce, 4),
        0x1_0000_0000.. => with(0xcf, 8),
        -0x80..=-33 => with(0xd0, 1),
        -0x8000..=-0x81 => with(0xd1, 2),
        -0x8000_0000..=-0x8001 => with(0xd2, 4),
        ..=-0x8000_0001 => with(0xd3, 8),
    }
}

/// The length of the table on top of the stack if its keys are the integers from 1 on.
fn list_len(stack: &mut Stack<'_>) -> Option<usize> {
    let bottom = stack.top();
    let (mut count, mut max) = (0_usize, 0_usize);
    stack.push_nil();
    while stack.next(-2) {
        stack.pop(1);
        let key = stack.number(-1).filter(|_| stack.kind(-1) == Kind::Number);
        let index =
            key.filter(|&key| key >= 1.0 && key <= f64::from(i32::MAX) && key.fract() == 0.0);
        let Some(index) = index else {
            stack.set_top(bottom);
            return None;
        };
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "checked")]
        {
            max = max.max(index as usize);
        }
        count += 1;
    }
    (max == count).then_some(count)
}

fn pack_list(
    stack: &mut Stack<'_>,
    out: &mut Vec<u8>,
    len: usize,
    level: usize,
) -> Result<(), Raised> {
    pack_len(len, (16, 0x90), (0xdc, 0xdd), out);
    for index in 1..=i32::try_from(len).unwrap_or(i32::MAX) {
        stack.raw_get_index(-1, index);
        pack_value(stack, out, level + 1)?;
    }
    Ok(())
}

fn pack_map(stack: &mut Stack<'_>, out: &mut Vec<u8>, level: usize) -> Result<(), Raised> {
    let mut len = 0;
    stack.push_nil();
    while stack.next(-2) {
        stack.pop(1);
        len += 1;
    }
    pack_len(len, (16, 0x80), (0xde, 0xdf), out);
    stack.push_nil();
    while stack.next(-2) {
        stack.push_copy(-2);
        pack_value(stack, out, level + 1)?;
        pack_value(stack, out, level + 1)?;
    }
    Ok(())
}

/// Why packed bytes cannot be read.
enum Broken {
    Missing,
    Format,
    Nested,
    NoKey,
}

/// Packed bytes that are read.
struct Reader<'b> {
    rest: &'b [u8],
}

impl<'b> Reader<'b> {
    fn take(&mut self, count: usize) -> Result<&'b [u8], Broken> {
        let (taken, rest) = self.rest.split_at_checked(count).ok_or(Broken::Missing)?;
        self.rest = rest;
        Ok(taken)
    }

    /// An unsigned integer of so many bytes.
    fn unsigned(&mut self, bytes: usize) -> Result<u64, Broken> {
        Ok(self.take(bytes)?.iter().fold(0, |value, &byte| value << 8 | u64::from(byte)))
    }

    fn len(&mut self, bytes: usize) -> Result<usize, Broken> {
        self.unsigned(bytes).map(|len| usize::try_from(len).unwrap_or(usize::MAX))
    }

    /// Reads a value and pushes it.
    fn value(&mut self, stack: &mut Stack<'_>) -> Result<(), Broken> {
        if !stack.reserve(4) {
            return Err(Broken::Nested);
        }
        let code = self.take(1)?[0];
        match code {
            0x00..=0x7f => stack.push_integer(code.into()),
            0xe0.. => stack.push_integer(code.cast_signed().into()),
            0xcc => push_unsigned(stack, self.unsigned(1)?),
            0xcd => push_unsigned(stack, self.unsigned(2)?),
            0xce => push_unsigned(stack, self.unsigned(4)?),
            // Two's complement, as lua-cmsgpack hands it to Lua.
            0xcf => stack.push_integer(self.unsigned(8)?.cast_signed()),
            0xd0 => stack.push_integer((self.unsigned(1)? as u8).cast_signed().into()),
            0xd1 => stack.push_integer((self.unsigned(2)? as u16).cast_signed().into()),
            0xd2 => stack.push_integer((self.unsigned(4)? as u32).cast_signed().into()),
            0xd3 => stack.push_integer(self.unsigned(8)?.cast_signed()),
            0xc0 => stack.push_nil(),
            0xc2 | 0xc3 => stack.push_boolean(code == 0xc3),
            0xca => stack.push_number(f32::from_bits(self.unsigned(4)? as u32).into()),
            0xcb => stack.push_number(f64::from_bits(self.unsigned(8)?)),
            0xa0..=0xbf => self.string(stack, usize::from(code & 0x1f))?,
            0xd9 => {
                let len = self.len(1)?;
                self.string(stack, len)?;
            }
            0xda => {
                let len = self.len(2)?;
                self.string(stack, len)?;
            }
            0xdb => {
                let len = self.len(4)?;
                self.string(stack, len)?;
            }
            0x90..=0x9f => self.list(stack, usize::from(code & 0xf))?,
            0xdc => {
                let len = self.len(2)?;
                self.list(stack, len)?;
            }
            0xdd => {
                let len = self.len(4)?;
                self.list(stack, len)?;
            }
            0x80..=0x8f => self.map(stack, usize::from(code & 0xf))?,
            0xde => {
                let len = self.len(2)?;
                self.map(stack, len)?;
            }
            0xdf => {
                let len = self.len(4)?;
                self.map(stack, len)?;
            }
            0xc1 | 0xc4..=0xc9 | 0xd4..=0xd8 => return Err(Broken::Format),
        }
        Ok(())
    }

    fn string(&mut self, stack: &mut Stack<'_>, len: usize) -> Result<(), Broken> {
        stack.push_string(self.take(len)?);
        Ok(())
    }

    fn list(&mut self, stack: &mut Stack<'_>, len: usize) -> Result<(), Broken> {
        stack.push_table(0, 0);
        for index in 1..=i32::try_from(len).unwrap_or(i32::MAX) {
            self.value(stack)?;
            stack.raw_set_index(-2, index);
        }
        Ok(())
    }

    fn map(&mut self, stack: &mut Stack<'_>, len: usize) -> Result<(), Broken> {
        stack.push_table(0, 0);
        for _ in 0..len {
            self.value(stack)?;
            self.value(stack)?;
            if !stack.raw_set(-3) {
                return Err(Broken::NoKey);
            }
        }
        Ok(())
    }
}

#[expect(clippy::cast_precision_loss, reason = "Lua has no other numbers")]
fn push_unsigned(stack: &mut Stack<'_>, number: u64) {
    stack.push_number(number as f64);
}

/// Pushes up to `limit` values that stand from `offset` on; with `tells_rest`, where to go on below
/// them, -1 at the end.
fn unpack_from(stack: &mut Stack<'_>, (limit, offset): (i64, i64), tells_rest: bool) -> Returns {
    let data = stack.check_text(1)?;
    if offset < 0 || limit < 0 {
        return stack.fail(&format!(
            "Invalid request to unpack with offset of {offset} and limit of {}.",
            data.len()
        ));
    }
    let Some(rest) = usize::try_from(offset).ok().and_then(|offset| data.get(offset..)) else {
        return stack
            .fail(&format!("Start offset {offset} greater than input length {}.", data.len()));
    };
    stack.set_top(1);
    let mut reader = Reader { rest };
    let mut count = 0;
    while !reader.rest.is_empty() && i64::from(count) < limit {
        match reader.value(stack) {
            Ok(()) => count += 1,
            Err(Broken::Missing) => return stack.fail("Missing bytes in input."),
            Err(Broken::Format) => return stack.fail("Bad data format in input."),
            Err(Broken::NoKey) => {
                stack.push_string(b"table index is nil");
                return Err(Raised::Value);
            }
            Err(Broken::Nested) => {
                stack.set_top(1);
                return stack.fail(
                    "stack overflow (too many return values at once; use unpack_one or \
                     unpack_limit instead.)",
                );
            }
        }
    }
    if tells_rest {
        let at = data.len() - reader.rest.len();
        let next = if reader.rest.is_empty() { -1 } else { i64::try_from(at).unwrap_or(-1) };
        stack.push_integer(next);
        stack.insert(2);
        count += 1;
    }
    Ok(count)
}

/// `cmsgpack.unpack(bytes)`: all values.
fn unpack(stack: &mut Stack<'_>) -> Returns {
    unpack_from(stack, (i32::MAX.into(), 0), false)
}

/// `cmsgpack.unpack_one(bytes [, offset])`: where to go on, and a value.
fn unpack_one(stack: &mut Stack<'_>) -> Returns {
    let offset = stack.integer_or(2, 0)?;
    unpack_from(stack, (1, offset), true)
}

/// `cmsgpack.unpack_limit(bytes, limit [, offset])`: where to go on, and up to `limit` values.
fn unpack_limit(stack: &mut Stack<'_>) -> Returns {
    let limit = stack.check_integer(2)?;
    let offset = stack.integer_or(3, 0)?;
    let is_all = limit == 0 && offset == 0;
    unpack_from(stack, (if is_all { i32::MAX.into() } else { limit }, offset), !is_all)
}
