//! The library `cjson`: JSON, as Mark Pulford's Lua CJSON 2.1 writes and reads it.
//!
//! Every table of the library, that of `cjson.new()` too, has its own settings; its functions share
//! them as a list, their upvalue.
#![forbid(unsafe_code)]

mod decode;
mod encode;

use super::super::lua::{Kind, Native, Raised, Returns, Stack, upvalue};

const FUNCTIONS: [(&str, Native); 10] = [
    ("encode", encode::encode),
    ("decode", decode::decode),
    ("encode_sparse_array", encode_sparse_array),
    ("encode_max_depth", |stack| integer_option(stack, Setting::EncodeMaxDepth, i32::MAX)),
    ("decode_max_depth", |stack| integer_option(stack, Setting::DecodeMaxDepth, i32::MAX)),
    ("encode_number_precision", |stack| integer_option(stack, Setting::NumberPrecision, 14)),
    ("encode_keep_buffer", |stack| switch_option(stack, Setting::KeepBuffer)),
    ("encode_invalid_numbers", encode_invalid_numbers),
    ("decode_invalid_numbers", |stack| switch_option(stack, Setting::DecodeInvalidNumbers)),
    ("new", new),
];

/// A setting's place in the list.
#[derive(Clone, Copy)]
enum Setting {
    SparseConvert = 1,
    SparseRatio,
    SparseSafe,
    EncodeMaxDepth,
    DecodeMaxDepth,
    /// Off, on, or `null` in their place.
    EncodeInvalidNumbers,
    DecodeInvalidNumbers,
    /// Without effect here: how memory is used is not a script's business.
    KeepBuffer,
    NumberPrecision,
}

/// What the settings are at first, in their order.
const DEFAULTS: [i32; 9] = [0, 2, 10, 1000, 1000, 0, 1, 1, 14];

impl Setting {
    fn get(self, stack: &mut Stack<'_>) -> i32 {
        stack.raw_get_index(upvalue(1), self as i32);
        let value = stack.integer(-1).and_then(|value| i32::try_from(value).ok()).unwrap_or(0);
        stack.pop(1);
        value
    }

    fn set(self, stack: &mut Stack<'_>, value: i32) {
        stack.push_integer(value.into());
        stack.raw_set_index(upvalue(1), self as i32);
    }
}

/// Pushes the library with settings of its own.
pub(in crate::script) fn push_library(stack: &mut Stack<'_>) {
    stack.push_table(0, FUNCTIONS.len() + 3);
    stack.push_table(DEFAULTS.len(), 0);
    for (index, value) in (1..).zip(DEFAULTS) {
        stack.push_integer(value.into());
        stack.raw_set_index(-2, index);
    }
    for (name, function) in FUNCTIONS {
        stack.push_copy(-1);
        stack.push_closure(function, 1);
        stack.raw_set_field(-3, name.as_bytes());
    }
    stack.pop(1);
    stack.push_null();
    stack.raw_set_field(-2, b"null");
    for (name, text) in [("_NAME", "cjson"), ("_VERSION", "2.1.0")] {
        stack.push_string(text.as_bytes());
        stack.raw_set_field(-2, name.as_bytes());
    }
}

/// `cjson.new()`: the library once more, with settings of its own.
fn new(stack: &mut Stack<'_>) -> Returns {
    if !stack.reserve(8) {
        return stack.fail("stack overflow");
    }
    push_library(stack);
    Ok(1)
}

/// Sees to it that there are just `count` arguments, nil for those that are missing.
fn take_arguments(stack: &mut Stack<'_>, count: i32) -> Result<(), Raised> {
    if stack.top() > count {
        return stack.fail_argument(count + 1, "found too many arguments");
    }
    stack.set_top(count);
    Ok(())
}

/// Sets an integer from the argument at `at`, if there is one, and pushes what is in force.
fn set_integer(
    stack: &mut Stack<'_>,
    at: i32,
    setting: Setting,
    (min, max): (i32, i32),
) -> Result<(), Raised> {
    if stack.kind(at) != Kind::Nil {
        let value = stack.check_integer(at)? as i32;
        if !(min..=max).contains(&value) {
            let message = format!("expected integer between {min} and {max}");
            return stack.fail_argument(1, &message);
        }
        setting.set(stack, value);
    }
    let value = setting.get(stack);
    stack.push_integer(value.into());
    Ok(())
}

/// Sets one of `names` from the argument at `at`, if there is one, and pushes what is in force: the
/// first two as booleans.
fn set_choice(
    stack: &mut Stack<'_>,
    at: i32,
    setting: Setting,
    names: &[&str],
) -> Result<(), Raised> {
    match stack.kind(at) {
        Kind::Nil => {}
        Kind::Boolean => {
            let value = stack.boolean(at);
            setting.set(stack, value.into());
        }
        _ => {
            let name = stack.check_text(at)?;
            let Some(value) = names.iter().position(|known| known.as_bytes() == name) else {
                let name = String::from_utf8_lossy(&name).into_owned();
                return stack.fail_argument(at, &format!("invalid option '{name}'"));
            };
            setting.set(stack, i32::try_from(value).unwrap_or(0));
        }
    }
    match setting.get(stack) {
        value @ (0 | 1) => stack.push_boolean(value == 1),
        value => {
            let name = usize::try_from(value).ok().and_then(|value| names.get(value));
            stack.push_string(name.unwrap_or(&"").as_bytes());
        }
    }
    Ok(())
}

const SWITCH: [&str; 2] = ["off", "on"];

fn integer_option(stack: &mut Stack<'_>, setting: Setting, max: i32) -> Returns {
    take_arguments(stack, 1)?;
    set_integer(stack, 1, setting, (1, max))?;
    Ok(1)
}

fn switch_option(stack: &mut Stack<'_>, setting: Setting) -> Returns {
    take_arguments(stack, 1)?;
    set_choice(stack, 1, setting, &SWITCH)?;
    Ok(1)
}

/// `cjson.encode_sparse_array([convert [, ratio [, safe]]])`
fn encode_sparse_array(stack: &mut Stack<'_>) -> Returns {
    take_arguments(stack, 3)?;
    set_choice(stack, 1, Setting::SparseConvert, &SWITCH)?;
    set_integer(stack, 2, Setting::SparseRatio, (0, i32::MAX))?;
    set_integer(stack, 3, Setting::SparseSafe, (0, i32::MAX))?;
    Ok(3)
}

/// `cjson.encode_invalid_numbers([setting])`
fn encode_invalid_numbers(stack: &mut Stack<'_>) -> Returns {
    take_arguments(stack, 1)?;
    set_choice(stack, 1, Setting::EncodeInvalidNumbers, &["off", "on", "null"])?;
    Ok(1)
}
