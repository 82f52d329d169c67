//! SCRIPT and FUNCTION: what is known to all workers, and what runs too long.
#![forbid(unsafe_code)]

use tessera_engine::{
    command::CommandError,
    persist::rdb::{functions, payload},
    script::{Libraries, Library, RestorePolicy, Sha1Hex},
};
use tessera_proto::{Args, glob_matches};

use super::{Code, SessionContext};
use crate::scripts::{Scripts, shared::Killed};

pub(super) const FAMILY: &[(&str, Code)] = &[
    ("function|delete", Code::Libraries(function_delete)),
    ("function|dump", Code::Local(function_dump)),
    ("function|flush", Code::Libraries(function_flush)),
    ("function|kill", Code::Local(|cx, _| kill(cx, false))),
    ("function|list", Code::Local(function_list)),
    ("function|load", Code::Libraries(function_load)),
    ("function|restore", Code::Libraries(function_restore)),
    ("function|stats", Code::Local(function_stats)),
    ("script|debug", Code::Local(script_debug)),
    ("script|exists", Code::Local(script_exists)),
    ("script|flush", Code::Local(script_flush)),
    ("script|kill", Code::Local(|cx, _| kill(cx, true))),
    ("script|load", Code::Local(script_load)),
    ("script|show", Code::Local(script_show)),
];

fn text(text: impl Into<std::borrow::Cow<'static, str>>) -> CommandError {
    CommandError::text(text)
}

/// The worker's scripts; these commands are not for scripts.
fn scripts<'c>(cx: &'c mut SessionContext<'_>) -> Result<&'c mut Scripts, CommandError> {
    cx.scripts.as_deref_mut().ok_or(text("ERR This Redis command is not allowed from script"))
}

/// ASYNC or SYNC, if anything: there is nothing that would take long.
fn check_mode(args: &Args<'_>, unknown: &'static str) -> Result<(), CommandError> {
    let is_mode =
        |word: &[u8]| [&b"SYNC"[..], b"ASYNC"].iter().any(|w| word.eq_ignore_ascii_case(w));
    match args.get(2) {
        None => Ok(()),
        Some(word) if args.len() == 3 && is_mode(word) => Ok(()),
        Some(_) => Err(text(unknown)),
    }
}

/// Too many arguments of a subcommand of FUNCTION.
fn wrong_number(subcommand: &[u8]) -> CommandError {
    let subcommand = String::from_utf8_lossy(&subcommand[..subcommand.len().min(128)]);
    text(format!(
        "ERR unknown subcommand or wrong number of arguments for '{subcommand}'. Try FUNCTION HELP."
    ))
}

/// SCRIPT LOAD script.
fn script_load(cx: &mut SessionContext<'_>, args: &Args<'_>) -> Result<(), CommandError> {
    let shared = cx.shared;
    let sha = scripts(cx)?.load_script(shared, &args[2])?;
    cx.reply().bulk(sha.as_bytes());
    Ok(())
}

/// SCRIPT EXISTS sha1 [sha1 …].
fn script_exists(cx: &mut SessionContext<'_>, args: &Args<'_>) -> Result<(), CommandError> {
    let shared = cx.shared;
    let mut reply = cx.reply();
    reply.array(args.len() - 2);
    for sha in args.iter().skip(2) {
        let text = Sha1Hex::parse(sha).and_then(|sha| shared.scripts.text(&sha));
        reply.integer(text.is_some().into());
    }
    Ok(())
}

/// SCRIPT FLUSH [ASYNC | SYNC].
fn script_flush(cx: &mut SessionContext<'_>, args: &Args<'_>) -> Result<(), CommandError> {
    check_mode(args, "ERR SCRIPT FLUSH only support SYNC|ASYNC option")?;
    cx.shared.scripts.flush();
    cx.reply().ok();
    Ok(())
}

/// SCRIPT SHOW sha1.
fn script_show(cx: &mut SessionContext<'_>, args: &Args<'_>) -> Result<(), CommandError> {
    let code = Sha1Hex::parse(&args[2]).and_then(|sha| cx.shared.scripts.text(&sha));
    let code = code.ok_or(text("NOSCRIPT No matching script. Please use EVAL."))?;
    cx.reply().bulk(&code);
    Ok(())
}

/// SCRIPT DEBUG YES | SYNC | NO: there is no debugger.
fn script_debug(cx: &mut SessionContext<'_>, args: &Args<'_>) -> Result<(), CommandError> {
    let is = |word: &str| args[2].eq_ignore_ascii_case(word.as_bytes());
    if is("no") {
        cx.reply().ok();
        return Ok(());
    }
    Err(text(match is("yes") || is("sync") {
        true => "ERR the debugger of scripts is not supported",
        false => "ERR Use SCRIPT DEBUG YES/SYNC/NO",
    }))
}

/// SCRIPT KILL and FUNCTION KILL.
fn kill(cx: &mut SessionContext<'_>, is_eval: bool) -> Result<(), CommandError> {
    match cx.shared.scripts.kill(is_eval) {
        Killed::Yes => cx.reply().ok(),
        Killed::NoneRuns => return Err(text("NOTBUSY No scripts in execution right now.")),
        Killed::HasWritten => {
            return Err(text(
                "UNKILLABLE Sorry the script already executed write commands against the dataset. \
                 You can either wait the script termination or kill the server in a hard way using \
                 the SHUTDOWN NOSAVE command.",
            ));
        }
        Killed::OtherKind => {
            let busy = cx.shared.scripts.busy().map_or("BUSY", |busy| busy.text());
            return Err(text(busy));
        }
    }
    Ok(())
}

/// FUNCTION LOAD [REPLACE] code.
fn function_load(cx: &mut SessionContext<'_>, args: &Args<'_>) -> Result<(), CommandError> {
    let last = args.len() - 1;
    let mut replaces = false;
    for option in args.iter().take(last).skip(2) {
        if !option.eq_ignore_ascii_case(b"REPLACE") {
            let option = String::from_utf8_lossy(option);
            return Err(text(format!("ERR Unknown option given: {option}")));
        }
        replaces = true;
    }
    let shared = cx.shared;
    let mut name = Vec::new();
    // Other workers wait for the lock only if they change libraries too.
    shared.scripts.change_libraries(|libraries| {
        refuse_taken(libraries, &args[last], replaces)?;
        let library = scripts(cx)?.load_library(&args[last])?;
        name.clone_from(&library.name);
        with(libraries, library, replaces)
    })?;
    cx.reply().bulk(&name);
    Ok(())
}

/// That a library's name is free is said before its code runs.
fn refuse_taken(libraries: &Libraries, code: &[u8], replaces: bool) -> Result<(), CommandError> {
    let metadata = tessera_engine::script::read_metadata(code)
        .map_err(|error| text(format!("ERR {error}")))?;
    if !replaces && libraries.get(&metadata.name).is_some() {
        let name = String::from_utf8_lossy(&metadata.name);
        return Err(text(format!("ERR Library '{name}' already exists")));
    }
    Ok(())
}

fn with(
    libraries: &Libraries,
    library: Library,
    replaces: bool,
) -> Result<Libraries, CommandError> {
    libraries.with(library, replaces).map_err(|error| text(format!("ERR {error}")))
}

/// FUNCTION DELETE library.
fn function_delete(cx: &mut SessionContext<'_>, args: &Args<'_>) -> Result<(), CommandError> {
    cx.shared.scripts.change_libraries(|libraries| {
        libraries.without(&args[2]).ok_or(text("ERR Library not found"))
    })?;
    cx.reply().ok();
    Ok(())
}

/// FUNCTION FLUSH [ASYNC | SYNC].
fn function_flush(cx: &mut SessionContext<'_>, args: &Args<'_>) -> Result<(), CommandError> {
    if args.len() > 3 {
        return Err(wrong_number(&args[1]));
    }
    check_mode(args, "ERR FUNCTION FLUSH only supports SYNC|ASYNC option")?;
    cx.shared.scripts.change_libraries(|_| Ok::<_, CommandError>(Libraries::default()))?;
    cx.reply().ok();
    Ok(())
}

/// FUNCTION DUMP.
fn function_dump(cx: &mut SessionContext<'_>, _: &Args<'_>) -> Result<(), CommandError> {
    let (_, libraries) = cx.shared.scripts.libraries();
    let compress = cx.shared.config.current().rdbcompression;
    let codes = libraries.iter().map(|library| library.code.as_slice());
    let payload = functions::dump(codes, compress);
    cx.reply().bulk(&payload);
    Ok(())
}

/// FUNCTION RESTORE payload [FLUSH | APPEND | REPLACE].
fn function_restore(cx: &mut SessionContext<'_>, args: &Args<'_>) -> Result<(), CommandError> {
    if args.len() > 4 {
        return Err(wrong_number(&args[1]));
    }
    let policy = match args.get(3).map(<[u8]>::to_ascii_lowercase).as_deref() {
        None | Some(b"append") => RestorePolicy::Append,
        Some(b"replace") => RestorePolicy::Replace,
        Some(b"flush") => RestorePolicy::Flush,
        Some(_) => {
            return Err(text(
                "ERR Wrong restore policy given, value should be either FLUSH, APPEND or REPLACE.",
            ));
        }
    };
    let content = payload::verify(&args[2])
        .map_err(|_| text("ERR DUMP payload version or checksum are wrong"))?;
    let codes = functions::libraries_of(content).map_err(|error| text(format!("ERR {error}")))?;
    let shared = cx.shared;
    shared.scripts.change_libraries(|libraries| {
        let mut restored = Libraries::default();
        for code in &codes {
            refuse_taken(&restored, code, false)?;
            let library = scripts(cx)?.load_library(code)?;
            restored = with(&restored, library, false)?;
        }
        join(libraries, restored, policy)
    })?;
    cx.reply().ok();
    Ok(())
}

/// What is loaded, and what is restored, together.
fn join(
    libraries: &Libraries,
    restored: Libraries,
    policy: RestorePolicy,
) -> Result<Libraries, CommandError> {
    let mut joined = match policy {
        RestorePolicy::Flush => return Ok(restored),
        RestorePolicy::Append | RestorePolicy::Replace => libraries.clone(),
    };
    // All that are replaced go before any of the new ones come, which may take over their functions.
    for library in restored.iter() {
        match (joined.without(&library.name), policy) {
            (Some(rest), RestorePolicy::Replace) => joined = rest,
            (Some(_), _) => {
                let name = String::from_utf8_lossy(&library.name);
                return Err(text(format!("ERR Library {name} already exists")));
            }
            (None, _) => {}
        }
    }
    for library in restored.iter() {
        let Library { name, code, functions } = &**library;
        let copy = Library { name: name.clone(), code: code.clone(), functions: functions.clone() };
        joined = with(&joined, copy, false)?;
    }
    Ok(joined)
}

/// FUNCTION LIST [LIBRARYNAME pattern] [WITHCODE].
fn function_list(cx: &mut SessionContext<'_>, args: &Args<'_>) -> Result<(), CommandError> {
    let (mut pattern, mut has_code) = (None, false);
    let mut rest = args.iter().skip(2);
    while let Some(word) = rest.next() {
        if !has_code && word.eq_ignore_ascii_case(b"WITHCODE") {
            has_code = true;
        } else if pattern.is_none() && word.eq_ignore_ascii_case(b"LIBRARYNAME") {
            pattern = Some(rest.next().ok_or(text("ERR library name argument was not given"))?);
        } else {
            let word = String::from_utf8_lossy(word);
            return Err(text(format!("ERR Unknown argument {word}")));
        }
    }
    let (_, libraries) = cx.shared.scripts.libraries();
    let is_wanted = |library: &&std::sync::Arc<Library>| {
        let lower = |bytes: &[u8]| bytes.to_ascii_lowercase();
        pattern.is_none_or(|pattern| glob_matches(&lower(pattern), &lower(&library.name)))
    };
    let mut reply = cx.reply();
    reply.array(libraries.iter().filter(is_wanted).count());
    for library in libraries.iter().filter(is_wanted) {
        reply.map(if has_code { 4 } else { 3 });
        reply.bulk(b"library_name");
        reply.bulk(&library.name);
        reply.bulk(b"engine");
        reply.bulk(b"LUA");
        reply.bulk(b"functions");
        reply.array(library.functions.len());
        for function in &library.functions {
            reply.map(3);
            reply.bulk(b"name");
            reply.bulk(&function.name);
            reply.bulk(b"description");
            match &function.description {
                Some(description) => reply.bulk(description),
                None => reply.null(),
            }
            reply.bulk(b"flags");
            reply.set(function.flags.names().count());
            function.flags.names().for_each(|name| reply.simple(name));
        }
        if has_code {
            reply.bulk(b"library_code");
            reply.bulk(&library.code);
        }
    }
    Ok(())
}

/// FUNCTION STATS.
fn function_stats(cx: &mut SessionContext<'_>, _: &Args<'_>) -> Result<(), CommandError> {
    let running = cx.shared.scripts.running();
    if running.as_ref().is_some_and(|about| about.is_eval) {
        let busy = cx.shared.scripts.busy().map_or("BUSY", |busy| busy.text());
        return Err(text(busy));
    }
    let (_, libraries) = cx.shared.scripts.libraries();
    let mut reply = cx.reply();
    reply.map(2);
    reply.bulk(b"running_script");
    match running {
        None => reply.null(),
        Some(about) => {
            reply.map(3);
            reply.bulk(b"name");
            reply.bulk(about.name.as_bytes());
            reply.bulk(b"command");
            reply.array(about.command.len());
            about.command.iter().for_each(|argument| reply.bulk(argument));
            reply.bulk(b"duration_ms");
            reply.integer(i64::try_from(about.since.elapsed().as_millis()).unwrap_or(i64::MAX));
        }
    }
    reply.bulk(b"engines");
    reply.map(1);
    reply.bulk(b"LUA");
    reply.map(2);
    reply.bulk(b"libraries_count");
    reply.count(libraries.len());
    reply.bulk(b"functions_count");
    reply.count(libraries.function_count());
    Ok(())
}
