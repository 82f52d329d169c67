//! The libraries that Redis adds to Lua, written anew on [`super::lua::Stack`]: their functions take
//! and give what those of Redis do, to the byte.
#![forbid(unsafe_code)]

pub(super) mod bits;
pub(super) mod json;
pub(super) mod msgpack;
pub(super) mod structs;

use super::lua::{Native, Stack};

/// Pushes a table of functions.
fn push_functions(stack: &mut Stack<'_>, functions: &[(&str, Native)]) {
    stack.push_table(0, functions.len());
    for (name, function) in functions {
        stack.push_native(*function);
        stack.raw_set_field(-2, name.as_bytes());
    }
}
