//! The library `struct`: values to bytes and back by a format, as in Roberto Ierusalimschy's struct.
//!
//! A format is a sequence of options: `b B h H l L T` integers of 1, 2, 8 bytes (lower case signed),
//! `iN IN` integers of N bytes, `f d` floats, `s` a string with a zero behind, `cN` N bytes, `x` a
//! byte of padding; `>` and `<` set the order of bytes, `!N` the alignment, blanks mean nothing.
#![forbid(unsafe_code)]

use super::{
    super::lua::{Kind, Native, Raised, Returns, Stack, truncated},
    push_functions,
};

const FUNCTIONS: [(&str, Native); 3] = [("pack", pack), ("unpack", unpack), ("size", size)];
/// Most bytes of an integer.
const INTEGER_BYTES_MAX: usize = 32;
/// The alignment of `!` without a number.
const ALIGNMENT: usize = 8;

/// Pushes the library.
pub(in crate::script) fn push_library(stack: &mut Stack<'_>) {
    push_functions(stack, &FUNCTIONS);
}

/// A format that is read option by option.
struct Format {
    text: Vec<u8>,
    at: usize,
    is_big: bool,
    align: usize,
}

/// An option with the bytes that its value takes, where the option says so.
struct Item {
    option: u8,
    size: usize,
}

impl Format {
    fn read(stack: &mut Stack<'_>) -> Result<Self, Raised> {
        let mut text = stack.check_text(1)?;
        // Formats end at a zero, as strings of C do.
        text.truncate(text.iter().position(|&byte| byte == 0).unwrap_or(text.len()));
        Ok(Self { text, at: 0, is_big: false, align: 1 })
    }

    /// The next option, unless the format is at its end.
    fn next(&mut self, stack: &mut Stack<'_>) -> Result<Option<Item>, Raised> {
        let Some(&option) = self.text.get(self.at) else { return Ok(None) };
        self.at += 1;
        let size = match option {
            b'b' | b'B' | b'x' => 1,
            b'h' | b'H' => 2,
            b'f' => 4,
            b'l' | b'L' | b'T' | b'd' => 8,
            b'c' => self.number(stack, 1)?,
            b'i' | b'I' => {
                let size = self.number(stack, 4)?;
                if size > INTEGER_BYTES_MAX {
                    return stack.fail(&format!(
                        "integral size {size} is larger than limit of {INTEGER_BYTES_MAX}"
                    ));
                }
                size
            }
            _ => 0,
        };
        Ok(Some(Item { option, size }))
    }

    /// The decimal number that follows, or `default`.
    fn number(&mut self, stack: &mut Stack<'_>, default: usize) -> Result<usize, Raised> {
        let digits = self.text[self.at..].iter().take_while(|byte| byte.is_ascii_digit()).count();
        if digits == 0 {
            return Ok(default);
        }
        let text = &self.text[self.at..self.at + digits];
        self.at += digits;
        let number = text.iter().try_fold(0_i32, |number, digit| {
            number.checked_mul(10)?.checked_add(i32::from(digit - b'0'))
        });
        match number {
            Some(number) => Ok(usize::try_from(number).unwrap_or(0)),
            None => stack.fail("integral size overflow"),
        }
    }

    /// Bytes of padding before an item at `position`.
    fn padding(&self, position: usize, item: &Item) -> usize {
        if item.size == 0 || item.option == b'c' {
            return 0;
        }
        let size = item.size.min(self.align);
        size.wrapping_sub(position & size.wrapping_sub(1)) & size.wrapping_sub(1)
    }

    /// An option that is no value.
    fn control(&mut self, stack: &mut Stack<'_>, option: u8) -> Result<(), Raised> {
        match option {
            b' ' => {}
            b'>' => self.is_big = true,
            b'<' => self.is_big = false,
            b'!' => {
                let align = self.number(stack, ALIGNMENT)?;
                if !align.is_power_of_two() {
                    return stack.fail(&format!("alignment {align} is not a power of 2"));
                }
                self.align = align;
            }
            _ => {
                let message = [b"invalid format option '", &[option][..], b"'"].concat();
                stack.push_string(&message);
                return Err(Raised::Argument(1));
            }
        }
        Ok(())
    }

    /// `bytes`, the lowest first, in the order of bytes that the format asks for, or back.
    fn ordered(&self, mut bytes: Vec<u8>) -> Vec<u8> {
        if self.is_big {
            bytes.reverse();
        }
        bytes
    }
}

const fn is_integer(option: u8) -> bool {
    matches!(option, b'b' | b'B' | b'h' | b'H' | b'l' | b'L' | b'T' | b'i' | b'I')
}

/// `struct.pack(format, values…)`
fn pack(stack: &mut Stack<'_>) -> Returns {
    let mut format = Format::read(stack)?;
    let mut packed = Vec::new();
    let mut arg = 2;
    // The first argument that is missing is nil to the original.
    stack.push_nil();
    // The size counts from where the string of values begins.
    while let Some(item) = format.next(stack)? {
        packed.resize(packed.len() + format.padding(packed.len(), &item), 0);
        match item.option {
            option if is_integer(option) => {
                let bytes = integer_bytes(stack.check_number(arg)?, item.size);
                packed.extend(format.ordered(bytes));
                arg += 1;
            }
            b'x' => packed.push(0),
            b'f' => {
                let number = stack.check_number(arg)? as f32;
                packed.extend(format.ordered(number.to_le_bytes().into()));
                arg += 1;
            }
            b'd' => {
                let number = stack.check_number(arg)?;
                packed.extend(format.ordered(number.to_le_bytes().into()));
                arg += 1;
            }
            option @ (b'c' | b's') => {
                let text = stack.check_text(arg)?;
                arg += 1;
                let size = if item.size == 0 { text.len() } else { item.size };
                if text.len() < size {
                    return stack.fail_argument(arg, "string too short");
                }
                packed.extend_from_slice(&text[..size]);
                if option == b's' {
                    packed.push(0);
                }
            }
            option => format.control(stack, option)?,
        }
    }
    stack.push_string(&packed);
    Ok(1)
}

/// The lowest `size` bytes of an integer, the lowest first. Beyond its 64 bits there are zeros.
fn integer_bytes(number: f64, size: usize) -> Vec<u8> {
    let value = if number < 0.0 { truncated(number).cast_unsigned() } else { unsigned(number) };
    let mut bytes = value.to_le_bytes().to_vec();
    bytes.resize(size, 0);
    bytes
}

/// A double that is not negative as C makes an unsigned integer of it on x86-64.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "its purpose")]
fn unsigned(number: f64) -> u64 {
    const TOP: f64 = 9_223_372_036_854_775_808.0;
    if number < TOP {
        number as i64 as u64
    } else {
        truncated(number - TOP).cast_unsigned() ^ 1 << 63
    }
}

/// `struct.unpack(format, bytes [, position])`: the values and the position behind them.
fn unpack(stack: &mut Stack<'_>) -> Returns {
    let mut format = Format::read(stack)?;
    let data = stack.check_text(2)?;
    let position = stack.integer_or(3, 1)?;
    let Some(mut at) = usize::try_from(position).ok().and_then(|at| at.checked_sub(1)) else {
        return stack.fail_argument(3, "offset must be 1 or greater");
    };
    let mut count = 0;
    while let Some(item) = format.next(stack)? {
        at = at.saturating_add(format.padding(at, &item));
        let Some(rest) = data.get(at..).filter(|rest| rest.len() >= item.size) else {
            return stack.fail_argument(2, "data string too short");
        };
        if !stack.reserve(2) {
            return stack.fail("stack overflow (too many results)");
        }
        let mut size = item.size;
        match item.option {
            option if is_integer(option) => {
                let bytes = format.ordered(rest[..size].to_vec());
                stack.push_number(integer_of(&bytes, option.is_ascii_lowercase()));
                count += 1;
            }
            b'x' => {}
            b'f' => {
                let bytes = format.ordered(rest[..size].to_vec());
                let number = f32::from_le_bytes(bytes.try_into().unwrap_or_default());
                stack.push_number(number.into());
                count += 1;
            }
            b'd' => {
                let bytes = format.ordered(rest[..size].to_vec());
                stack.push_number(f64::from_le_bytes(bytes.try_into().unwrap_or_default()));
                count += 1;
            }
            b'c' => {
                if size == 0 {
                    size = previous_size(stack, count)?;
                    count -= 1;
                    if rest.len() < size {
                        return stack.fail_argument(2, "data string too short");
                    }
                }
                stack.push_string(&rest[..size]);
                count += 1;
            }
            b's' => {
                let Some(end) = memchr::memchr(0, rest) else {
                    return stack.fail("unfinished string in data");
                };
                stack.push_string(&rest[..end]);
                size = end + 1;
                count += 1;
            }
            option => format.control(stack, option)?,
        }
        at += size;
    }
    stack.push_integer(i64::try_from(at + 1).unwrap_or(i64::MAX));
    Ok(count + 1)
}

/// The number that was read last, which it takes back: the size of `c0`.
fn previous_size(stack: &mut Stack<'_>, count: i32) -> Result<usize, Raised> {
    match stack.number(-1).filter(|_| count > 0) {
        None => stack.fail("format 'c0' needs a previous size"),
        Some(size) => {
            stack.pop(1);
            Ok(usize::try_from(unsigned(size)).unwrap_or(usize::MAX))
        }
    }
}

/// The integer of `bytes`, the lowest first. Of more than eight, the highest are lost.
#[expect(clippy::cast_precision_loss, reason = "Lua has no other numbers")]
fn integer_of(bytes: &[u8], is_signed: bool) -> f64 {
    let value = bytes.iter().rev().fold(0_u64, |value, &byte| value << 8 | u64::from(byte));
    if !is_signed {
        return value as f64;
    }
    // The place of the sign, as the shift of x86-64 takes it for more than eight bytes.
    let shift = (bytes.len() as u32 * 8).wrapping_sub(1) & 63;
    let mask = u64::MAX << shift;
    let extended = if value & mask == 0 { value } else { value | mask };
    extended.cast_signed() as f64
}

/// `struct.size(format)`
fn size(stack: &mut Stack<'_>) -> Returns {
    let mut format = Format::read(stack)?;
    let mut size = 0;
    while let Some(item) = format.next(stack)? {
        size += format.padding(size, &item);
        match item.option {
            b's' => return stack.fail_argument(1, "option 's' has no fixed size"),
            b'c' if item.size == 0 => {
                return stack.fail_argument(1, "option 'c0' has no fixed size");
            }
            option if option.is_ascii_alphanumeric() => {}
            option => format.control(stack, option)?,
        }
        size += item.size;
    }
    stack.push_integer(i64::try_from(size).unwrap_or(i64::MAX));
    debug_assert_eq!(stack.kind(-1), Kind::Number);
    Ok(1)
}
