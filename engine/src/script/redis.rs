//! The table `redis`, also called `server`: what scripts can ask of their server.
#![forbid(unsafe_code)]

use tessera_proto::{Args, Protocol, float::F64Text};

use super::{
    convert::push_reply,
    error::{push_counted_error, push_error},
    lua::{Kind, Native, Raised, Returns, Stack},
    run::{LogLevel, Run, find},
    sha1::sha1_hex,
};
use crate::command::table;

/// The version of Redis whose commands and replies are given, for scripts and for INFO.
pub const REDIS_VERSION: &str = "7.2.4";
/// The same as `0xMMmmpp`.
const REDIS_VERSION_NUM: i64 = 0x0007_0204;
/// The version of Valkey whose additions are known.
const VALKEY_VERSION: &str = "8.0.0";
const VALKEY_VERSION_NUM: i64 = 0x0008_0000;
/// This server's own name.
const SERVER_NAME: &str = "tessera";

/// Functions of all scripts.
const FUNCTIONS: [(&str, Native); 9] = [
    ("call", call),
    ("pcall", pcall),
    ("setresp", set_resp),
    ("sha1hex", sha1hex),
    ("error_reply", error_reply),
    ("status_reply", status_reply),
    ("set_repl", set_repl),
    ("acl_check_cmd", acl_check_cmd),
    ("log", log),
];
/// Functions of EVAL's scripts only.
const EVAL_FUNCTIONS: [(&str, Native); 3] =
    [("breakpoint", no_debugger), ("debug", nothing), ("replicate_commands", yes)];

const LOG_LEVELS: [(&str, i64); 4] =
    [("LOG_DEBUG", 0), ("LOG_VERBOSE", 1), ("LOG_NOTICE", 2), ("LOG_WARNING", 3)];
const REPLICATION: [(&str, i64); 5] =
    [("REPL_NONE", 0), ("REPL_AOF", 1), ("REPL_SLAVE", 2), ("REPL_REPLICA", 2), ("REPL_ALL", 3)];

/// Pushes the table as scripts have it.
pub(super) fn push_api(stack: &mut Stack<'_>, is_eval: bool) {
    stack.push_table(0, 40);
    let own: &[(&str, Native)] = if is_eval { &EVAL_FUNCTIONS } else { &[] };
    for (name, function) in FUNCTIONS.iter().chain(own) {
        stack.push_native(*function);
        stack.raw_set_field(-2, name.as_bytes());
    }
    for (name, value) in LOG_LEVELS.iter().chain(&REPLICATION) {
        stack.push_integer(*value);
        stack.raw_set_field(-2, name.as_bytes());
    }
    set_versions(stack);
}

/// Pushes the table as a library has it while it is loaded.
pub(super) fn push_load_api(stack: &mut Stack<'_>, register_function: Native) {
    stack.push_table(0, 12);
    for (name, function) in [("register_function", register_function), ("log", log)] {
        stack.push_native(function);
        stack.raw_set_field(-2, name.as_bytes());
    }
    for (name, value) in LOG_LEVELS {
        stack.push_integer(value);
        stack.raw_set_field(-2, name.as_bytes());
    }
    set_versions(stack);
}

fn set_versions(stack: &mut Stack<'_>) {
    for (name, value) in
        [("REDIS_VERSION_NUM", REDIS_VERSION_NUM), ("VALKEY_VERSION_NUM", VALKEY_VERSION_NUM)]
    {
        stack.push_integer(value);
        stack.raw_set_field(-2, name.as_bytes());
    }
    for (name, value) in [
        ("REDIS_VERSION", REDIS_VERSION),
        ("VALKEY_VERSION", VALKEY_VERSION),
        ("SERVER_NAME", SERVER_NAME),
    ] {
        stack.push_string(value.as_bytes());
        stack.raw_set_field(-2, name.as_bytes());
    }
}

/// Raises an error table with this text.
fn raise<T>(stack: &mut Stack<'_>, text: &str) -> Result<T, Raised> {
    push_error(stack, text.as_bytes());
    Err(Raised::Value)
}

/// `redis.call`: a command's reply; raises its error.
fn call(stack: &mut Stack<'_>) -> Returns {
    if execute(stack) { Err(Raised::Value) } else { Ok(1) }
}

/// `redis.pcall`: a command's reply, its error too.
fn pcall(stack: &mut Stack<'_>) -> Returns {
    execute(stack);
    Ok(1)
}

/// Executes the command that the arguments say and pushes its reply. Answers whether that is an
/// error.
fn execute(stack: &mut Stack<'_>) -> bool {
    let is_error = stack.with_run(|stack, run| {
        if let Err(text) = read_command(stack, run) {
            push_error(stack, text.as_bytes());
            return true;
        }
        stack.set_top(0);
        if let Err(text) = run.execute() {
            push_counted_error(stack, text.as_bytes());
            return true;
        }
        match run.state.reply.as_slice() {
            Some(reply) => push_reply(stack, reply),
            None => push_reply(stack, &run.state.reply.to_vec()),
        }
    });
    is_error.unwrap_or_else(|| {
        push_error(stack, b"redis.call/pcall can only be called inside a script invocation");
        true
    })
}

/// Takes the arguments of a function for a command: strings, and numbers with the fewest digits.
fn read_command(stack: &mut Stack<'_>, run: &mut Run<'_>) -> Result<(), &'static str> {
    let request = &mut run.state.request;
    request.clear();
    let count = stack.top();
    if count == 0 {
        return Err("Please specify at least one argument for this call");
    }
    for at in 1..=count {
        match stack.kind(at) {
            Kind::String => request.add_slice(stack.string(at).unwrap_or_default()),
            Kind::Number => {
                request.add_slice(F64Text::new(stack.number(at).unwrap_or(0.0)).as_bytes());
            }
            _ => {
                request.clear();
                return Err("Command arguments must be strings or integers");
            }
        }
    }
    request.end_request();
    Ok(())
}

/// `redis.sha1hex(text)`
fn sha1hex(stack: &mut Stack<'_>) -> Returns {
    if stack.top() != 1 {
        return raise(stack, "wrong number of arguments");
    }
    let digest = sha1_hex(stack.text(1).unwrap_or_default());
    stack.push_string(digest.as_bytes());
    Ok(1)
}

fn is_one_string(stack: &mut Stack<'_>) -> bool {
    let is_right = stack.top() == 1 && stack.kind(1) == Kind::String;
    if !is_right {
        push_error(stack, b"wrong number or type of arguments");
    }
    is_right
}

/// `redis.error_reply(text)`
fn error_reply(stack: &mut Stack<'_>) -> Returns {
    if is_one_string(stack) {
        let text = stack.string(1).unwrap_or_default();
        let text = if text.starts_with(b"-") { text.to_vec() } else { [b"-", text].concat() };
        push_error(stack, &text);
    }
    Ok(1)
}

/// `redis.status_reply(text)`
fn status_reply(stack: &mut Stack<'_>) -> Returns {
    if is_one_string(stack) {
        stack.push_table(0, 1);
        stack.push_copy(1);
        stack.raw_set_field(-2, b"ok");
    }
    Ok(1)
}

/// `redis.set_repl(flags)`: checked, and else without effect, since what is logged is what the
/// commands did, and to leave any of it out would break the promise that a log gives.
fn set_repl(stack: &mut Stack<'_>) -> Returns {
    if stack.top() != 1 {
        return raise(stack, "server.set_repl() requires one argument.");
    }
    match stack.integer(1) {
        Some(0..=3) => Ok(0),
        _ => raise(
            stack,
            "Invalid replication flags. Use REPL_AOF, REPL_REPLICA, REPL_ALL or REPL_NONE.",
        ),
    }
}

/// `redis.acl_check_cmd(command, arguments…)`
fn acl_check_cmd(stack: &mut Stack<'_>) -> Returns {
    let checked = stack.with_run(|stack, run| {
        read_command(stack, run)?;
        let Some(args) = run.state.request.get(0) else { return Err(INVALID) };
        let container = table().find(&args[0]).ok_or(INVALID)?;
        let command = find(&args).unwrap_or(container);
        Ok(run.host.permits(command, &Args::clone(&args)))
    });
    match checked.unwrap_or(Err(INVALID)) {
        Ok(is_allowed) => {
            stack.push_boolean(is_allowed);
            Ok(1)
        }
        Err(text) => raise(stack, text),
    }
}

const INVALID: &str = "Invalid command passed to server.acl_check_cmd()";

/// `redis.log(level, text…)`
fn log(stack: &mut Stack<'_>) -> Returns {
    let count = stack.top();
    if count < 2 {
        return raise(stack, "server.log() requires two arguments or more.");
    }
    let level = match stack.integer(1) {
        None => return raise(stack, "First argument must be a number (log level)."),
        Some(0) => LogLevel::Debug,
        Some(1) => LogLevel::Verbose,
        Some(2) => LogLevel::Notice,
        Some(3) => LogLevel::Warning,
        Some(_) => return raise(stack, "Invalid log level."),
    };
    let texts: Vec<Vec<u8>> =
        (2..=count).filter_map(|at| stack.text(at).map(<[u8]>::to_vec)).collect();
    stack.with_run(|_, run| run.host.log(level, &texts.join(&b' ')));
    Ok(0)
}

/// `redis.setresp(version)`
fn set_resp(stack: &mut Stack<'_>) -> Returns {
    if stack.top() != 1 {
        return raise(stack, "server.setresp() requires one argument.");
    }
    let protocol = match stack.integer(1) {
        Some(2) => Protocol::Resp2,
        Some(3) => Protocol::Resp3,
        _ => return raise(stack, "RESP version must be 2 or 3."),
    };
    stack.with_run(|_, run| run.state.inner = protocol);
    Ok(0)
}

/// `redis.breakpoint()`: there is no debugger, so none has stopped.
fn no_debugger(stack: &mut Stack<'_>) -> Returns {
    stack.push_boolean(false);
    Ok(1)
}

/// `redis.debug(…)`: there is no debugger that could show it.
fn nothing(_: &mut Stack<'_>) -> Returns {
    Ok(0)
}

/// `redis.replicate_commands()`: that is how it always is.
fn yes(stack: &mut Stack<'_>) -> Returns {
    stack.push_boolean(true);
    Ok(1)
}

/// `math.random([low,] high)` with the generator of `lrand48`.
pub(super) fn random(stack: &mut Stack<'_>) -> Returns {
    let fraction = stack.with_run(|_, run| run.state.random.fraction()).unwrap_or(0.0);
    let number = match stack.top() {
        0 => fraction,
        count @ (1 | 2) => {
            let int = |number: i64| f64::from(number as i32);
            let low = if count == 2 { int(stack.check_integer(1)?) } else { 1.0 };
            let high = int(stack.check_integer(count)?);
            if low > high {
                return stack.fail_argument(count, "interval is empty");
            }
            (fraction * (high - low + 1.0)).floor() + low
        }
        _ => return stack.fail("wrong number of arguments"),
    };
    stack.push_number(number);
    Ok(1)
}

/// `math.randomseed(seed)`
pub(super) fn random_seed(stack: &mut Stack<'_>) -> Returns {
    let seed = stack.check_integer(1)? as i32;
    stack.with_run(|_, run| run.state.random.seed(seed));
    Ok(0)
}
