//! `redis.register_function`: what a library calls while it is loaded.
#![forbid(unsafe_code)]

use super::{
    error::push_error,
    flags::ScriptFlags,
    library::{Function, check_name},
    lua::{Kind, Raised, Returns, Stack},
};

/// What a library has registered so far.
#[derive(Debug, Default)]
pub(super) struct Registrations {
    /// The number of the load, which the functions are kept under.
    pub(super) load: u64,
    pub(super) functions: Vec<Function>,
}

/// The name under which a function's callback is kept.
pub(super) fn kept_name(load: u64, function: &[u8]) -> Vec<u8> {
    [b"function ", load.to_string().as_bytes(), b" ", function].concat()
}

/// `register_function(name, callback)` or `register_function{function_name=…, callback=…,
/// description=…, flags=…}`
pub(super) fn register_function(stack: &mut Stack<'_>) -> Returns {
    match register(stack) {
        Ok(()) => Ok(0),
        Err(text) => {
            push_error(stack, text.as_bytes());
            Err(Raised::Value)
        }
    }
}

fn register(stack: &mut Stack<'_>) -> Result<(), String> {
    let is_loading = stack.with_run(|_, run| run.state.loading.is_some()).unwrap_or(false);
    if !is_loading {
        return Err("server.register_function can only be called on FUNCTION LOAD command".into());
    }
    // The callback is left on top of the stack.
    let function = match stack.top() {
        1 => read_named(stack)?,
        2 => read_positional(stack)?,
        _ => return Err("wrong number of arguments to server.register_function".into()),
    };
    check_name(&function.name)?;
    let load = stack.with_run(|_, run| {
        let registrations = run.state.loading.get_or_insert_default();
        if registrations.functions.iter().any(|known| known.name == function.name) {
            return Err("Function already exists in the library");
        }
        registrations.functions.push(function.clone());
        Ok(registrations.load)
    });
    let load = load.unwrap_or(Ok(0))?;
    stack.keep(&kept_name(load, &function.name));
    Ok(())
}

fn read_positional(stack: &mut Stack<'_>) -> Result<Function, String> {
    let name = stack
        .text(1)
        .map(<[u8]>::to_vec)
        .ok_or("first argument to server.register_function must be a string")?;
    if stack.kind(2) != Kind::Function {
        return Err("second argument to server.register_function must be a function".into());
    }
    Ok(Function { name, description: None, flags: ScriptFlags::NONE })
}

fn read_named(stack: &mut Stack<'_>) -> Result<Function, String> {
    if stack.kind(1) != Kind::Table {
        return Err(
            "calling server.register_function with a single argument is only applicable to \
                    Lua table (representing named arguments)."
                .into(),
        );
    }
    let (mut name, mut description, mut flags) = (None, None, ScriptFlags::NONE);
    // Below the key and the value that are looked at.
    stack.push_nil();
    stack.push_nil();
    while stack.next(1) {
        let key = stack.string(-2).map(<[u8]>::to_ascii_lowercase);
        match key.as_deref() {
            Some(b"function_name") => name = Some(read_text(stack, "function_name")?),
            Some(b"description") => description = Some(read_text(stack, "description")?),
            Some(b"callback") => {
                if stack.kind(-1) != Kind::Function {
                    return Err("callback argument given to server.register_function must be a \
                                function"
                        .into());
                }
                stack.push_copy(-1);
                stack.replace(2);
            }
            Some(b"flags") => flags = read_flags(stack)?,
            Some(_) => return Err("unknown argument given to server.register_function".into()),
            None => {
                return Err(
                    "named argument key given to server.register_function is not a string".into()
                );
            }
        }
        stack.pop(1);
    }
    let name = name.ok_or("server.register_function must get a function name argument")?;
    stack.set_top(2);
    if stack.kind(2) != Kind::Function {
        return Err("server.register_function must get a callback argument".into());
    }
    Ok(Function { name, description, flags })
}

fn read_text(stack: &mut Stack<'_>, argument: &str) -> Result<Vec<u8>, String> {
    stack.text(-1).map(<[u8]>::to_vec).ok_or_else(|| {
        format!("{argument} argument given to server.register_function must be a string")
    })
}

/// The list of names on top of the stack.
fn read_flags(stack: &mut Stack<'_>) -> Result<ScriptFlags, String> {
    if stack.kind(-1) != Kind::Table {
        return Err("flags argument to server.register_function must be a table representing \
                    function flags"
            .into());
    }
    let mut flags = ScriptFlags::NONE;
    for index in 1.. {
        stack.raw_get_index(-1, index);
        let name = stack.text(-1).map(<[u8]>::to_vec);
        let is_end = stack.kind(-1) == Kind::Nil;
        stack.pop(1);
        if is_end {
            break;
        }
        flags = name.and_then(|name| flags.with(&name, true)).ok_or("unknown flag given")?;
    }
    Ok(flags)
}
