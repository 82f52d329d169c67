//! What scripts find in their global variables, and that they cannot change it.
//!
//! Scripts see the real table of global variables through a protected one (see `lua::guards`), and so
//! all libraries in it. Reading a variable that does not exist is an error, as in Redis, since it is
//! nearly always a slip; so is writing any, since it would outlive the script.
#![forbid(unsafe_code)]

use super::{
    error,
    lib::{bits, json, msgpack, structs},
    lua::{Kind, Native, Returns, Stack, machine::Machine},
    redis,
};

/// Global names of Lua's own libraries that are left out: files, output, code of other kinds, and
/// `newproxy`, whose finalisers would run at any time.
const REMOVED: [&str; 7] =
    ["dofile", "loadfile", "print", "newproxy", "require", "module", "debug"];
/// What is left of the library `os`.
const OS_KEPT: &[u8] = b"clock";
/// Libraries, each a table of its own.
const LIBRARIES: [&str; 9] =
    ["string", "table", "math", "os", "coroutine", "cjson", "cmsgpack", "struct", "bit"];
/// Under these names the script engine finds what it needs.
pub(super) const HANDLER: &[u8] = b"error handler";
pub(super) const PROTECTED: &[u8] = b"protected globals";
pub(super) const REAL: &[u8] = b"real globals";
pub(super) const LOADING: &[u8] = b"globals of a library that is loaded";

/// A state for scripts of EVAL or, with `register_function`, for libraries of functions.
pub(super) fn build(register_function: Option<Native>) -> Machine {
    let mut machine = Machine::new();
    machine.open_libraries();
    let mut stack = machine.stack();
    stack.set_top(0);
    stack.install_guards();
    stack.push_globals();
    remove_unsafe(&mut stack);
    add_libraries(&mut stack);
    add_api(&mut stack, register_function.is_none());
    if let Some(register_function) = register_function {
        keep_load_globals(&mut stack, register_function);
    }
    protect_all(&mut stack);
    machine
}

/// Takes away what does not belong into a sandbox, from the globals on top.
fn remove_unsafe(stack: &mut Stack<'_>) {
    for name in REMOVED {
        stack.push_nil();
        stack.raw_set_field(-2, name.as_bytes());
    }
    stack.push_table(0, 1);
    stack.raw_get_field(-2, b"os");
    stack.raw_get_field(-1, OS_KEPT);
    stack.raw_set_field(-3, OS_KEPT);
    stack.pop(1);
    stack.raw_set_field(-2, b"os");
}

fn add_libraries(stack: &mut Stack<'_>) {
    type Push = fn(&mut Stack<'_>);
    let libraries: [(&[u8], Push); 4] = [
        (b"cjson", json::push_library),
        (b"cmsgpack", msgpack::push_library),
        (b"struct", structs::push_library),
        (b"bit", bits::push_library),
    ];
    for (name, push) in libraries {
        push(stack);
        stack.raw_set_field(-2, name);
    }
    stack.raw_get_field(-1, b"math");
    let own: [(&[u8], Native); 2] =
        [(b"random", redis::random), (b"randomseed", redis::random_seed)];
    for (name, function) in own {
        stack.push_native(function);
        stack.raw_set_field(-2, name);
    }
    stack.pop(1);
    stack.push_native(error::pcall);
    stack.raw_set_field(-2, b"pcall");
}

fn add_api(stack: &mut Stack<'_>, is_eval: bool) {
    redis::push_api(stack, is_eval);
    stack.protect();
    stack.push_copy(-1);
    stack.raw_set_field(-3, b"server");
    stack.raw_set_field(-2, b"redis");
    stack.push_native(error::handler);
    stack.keep(HANDLER);
    if is_eval {
        for name in [&b"__redis__err__handler"[..], b"__server__err__handler"] {
            stack.push_native(error::handler);
            stack.raw_set_field(-2, name);
        }
    }
}

/// What a library finds while it is loaded: just enough to register its functions.
fn keep_load_globals(stack: &mut Stack<'_>, register_function: Native) {
    stack.push_table(0, 2);
    redis::push_load_api(stack, register_function);
    stack.push_table(0, 1);
    stack.push_native(nonexistent);
    stack.raw_set_field(-2, b"__index");
    stack.push_copy(-1);
    stack.set_metatable(-3);
    stack.set_metatable(-3);
    stack.protect();
    stack.push_copy(-1);
    stack.raw_set_field(-3, b"server");
    stack.raw_set_field(-2, b"redis");
    stack.keep(LOADING);
}

/// Puts the globals on top, and every library in them, behind a protected table.
fn protect_all(stack: &mut Stack<'_>) {
    for name in LIBRARIES {
        stack.raw_get_field(-1, name.as_bytes());
        debug_assert_eq!(stack.kind(-1), Kind::Table, "library {name}");
        stack.protect();
        stack.raw_set_field(-2, name.as_bytes());
    }
    hide_string_metatable(stack);
    stack.push_table(0, 1);
    stack.push_native(nonexistent);
    stack.raw_set_field(-2, b"__index");
    stack.set_metatable(-2);
    stack.push_copy(-1);
    stack.keep(REAL);
    stack.push_copy(-1);
    stack.protect();
    stack.push_copy(-1);
    stack.keep(PROTECTED);
    stack.push_copy(-1);
    stack.raw_set_field(-3, b"_G");
    stack.set_globals();
    stack.pop(1);
}

/// Methods of strings stay; their metatable is shown as a copy that cannot be changed.
fn hide_string_metatable(stack: &mut Stack<'_>) {
    stack.push_string(b"");
    if stack.push_metatable(-1) {
        stack.push_table(0, 1);
        stack.raw_get_field(-4, b"string");
        stack.raw_set_field(-2, b"__index");
        stack.protect();
        stack.raw_set_field(-2, b"__metatable");
        stack.pop(1);
    }
    stack.pop(1);
}

/// A script has read a variable that does not exist.
fn nonexistent(stack: &mut Stack<'_>) -> Returns {
    match stack.text(2).map(|name| String::from_utf8_lossy(name).into_owned()) {
        Some(name) => {
            stack.fail(&format!("Script attempted to access nonexistent global variable '{name}'"))
        }
        None => stack.fail("A global variable's name must be a string or number"),
    }
}
