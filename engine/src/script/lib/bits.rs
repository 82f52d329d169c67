//! The library `bit`: operations on 32 bits, as in Mike Pall's Lua BitOp.
#![forbid(unsafe_code)]

use super::{
    super::lua::{Kind, Native, Raised, Returns, Stack},
    push_functions,
};

const FUNCTIONS: [(&str, Native); 12] = [
    ("tobit", |stack| unary(stack, |bits| bits)),
    ("bnot", |stack| unary(stack, |bits| !bits)),
    ("bswap", |stack| unary(stack, u32::swap_bytes)),
    ("band", |stack| fold(stack, |a, b| a & b)),
    ("bor", |stack| fold(stack, |a, b| a | b)),
    ("bxor", |stack| fold(stack, |a, b| a ^ b)),
    ("lshift", |stack| shift(stack, |bits, by| bits << by)),
    ("rshift", |stack| shift(stack, |bits, by| bits >> by)),
    ("arshift", |stack| shift(stack, |bits, by| (bits.cast_signed() >> by).cast_unsigned())),
    ("rol", |stack| shift(stack, u32::rotate_left)),
    ("ror", |stack| shift(stack, u32::rotate_right)),
    ("tohex", to_hex),
];

/// Pushes the library.
pub(in crate::script) fn push_library(stack: &mut Stack<'_>) {
    push_functions(stack, &FUNCTIONS);
}

/// The lowest 32 bits of a number, which is rounded to the nearest integer, halves to even: adding
/// 2^52 + 2^51 moves them to the end of the mantissa, and that is what BitOp defines them by.
fn bits(stack: &mut Stack<'_>, at: i32) -> Result<u32, Raised> {
    let shifted = stack.check_number(at)? + 6_755_399_441_055_744.0;
    Ok(shifted.to_bits() as u32)
}

fn push(stack: &mut Stack<'_>, bits: u32) -> Returns {
    stack.push_integer(bits.cast_signed().into());
    Ok(1)
}

fn unary(stack: &mut Stack<'_>, operation: fn(u32) -> u32) -> Returns {
    let bits = bits(stack, 1)?;
    push(stack, operation(bits))
}

fn fold(stack: &mut Stack<'_>, operation: fn(u32, u32) -> u32) -> Returns {
    let mut folded = bits(stack, 1)?;
    for at in (2..=stack.top()).rev() {
        folded = operation(folded, bits(stack, at)?);
    }
    push(stack, folded)
}

fn shift(stack: &mut Stack<'_>, operation: fn(u32, u32) -> u32) -> Returns {
    let (shifted, by) = (bits(stack, 1)?, bits(stack, 2)? & 31);
    push(stack, operation(shifted, by))
}

/// `tohex(number [, digits])`: a negative number of digits asks for capitals.
fn to_hex(stack: &mut Stack<'_>) -> Returns {
    let number = bits(stack, 1)?;
    let digits = match stack.kind(2) {
        Kind::None => 8,
        _ => bits(stack, 2)?.cast_signed(),
    };
    let all = if digits < 0 { format!("{number:08X}") } else { format!("{number:08x}") };
    let count = digits.unsigned_abs().min(8) as usize;
    stack.push_string(&all.as_bytes()[8 - count..]);
    Ok(1)
}
