//! Libraries of functions, as far as there are any: none can be loaded yet.
//!
//! What concerns all libraries works all the same and finds none, so that tools that clean a server
//! up or look it over run through.
#![forbid(unsafe_code)]

use super::{help, prelude::*};

commands! { Scripting;
    /// Commands about libraries of functions.
    "function" "7.0.0", AtLeast(2), NONE, KeySpec::NONE, Session, [
        /// Removes all libraries.
        "flush" "7.0.0", AtLeast(2), WRITE | NOSCRIPT, KeySpec::NONE, Owner, flush;
        /// Lists the subcommands.
        "help" "7.0.0", Exactly(2), LOADING | STALE, KeySpec::NONE, Owner, function_help;
        /// Lists the libraries.
        "list" "7.0.0", AtLeast(2), NOSCRIPT, KeySpec::NONE, Owner, list;
    ];
}

/// FUNCTION FLUSH [ASYNC | SYNC].
fn flush(cx: &mut Context<'_>, args: &Args<'_>) -> Result<Effect, CommandError> {
    let is_mode =
        |word: &[u8]| word.eq_ignore_ascii_case(b"ASYNC") || word.eq_ignore_ascii_case(b"SYNC");
    if args.len() > 3 || args.get(2).is_some_and(|word| !is_mode(word)) {
        return Err(CommandError::text("ERR FUNCTION FLUSH only supports SYNC|ASYNC option"));
    }
    cx.reply.ok();
    Ok(Effect::Unchanged)
}

/// FUNCTION HELP.
fn function_help(cx: &mut Context<'_>, _: &Args<'_>) -> Result<Effect, CommandError> {
    let subcommands = [
        ("FLUSH [ASYNC|SYNC]", "Remove all libraries."),
        ("LIST [LIBRARYNAME pattern] [WITHCODE]", "List the libraries."),
    ];
    help::reply(&mut cx.reply, "FUNCTION", &subcommands);
    Ok(Effect::Unchanged)
}

/// FUNCTION LIST [LIBRARYNAME pattern] [WITHCODE].
fn list(cx: &mut Context<'_>, args: &Args<'_>) -> Result<Effect, CommandError> {
    let (mut has_pattern, mut has_code) = (false, false);
    let mut rest = args.iter().skip(2);
    while let Some(word) = rest.next() {
        if !has_code && word.eq_ignore_ascii_case(b"WITHCODE") {
            has_code = true;
        } else if !has_pattern && word.eq_ignore_ascii_case(b"LIBRARYNAME") {
            has_pattern = true;
            rest.next().ok_or(CommandError::text("ERR library name argument was not given"))?;
        } else {
            let word = String::from_utf8_lossy(word);
            return Err(CommandError::text(format!("ERR Unknown argument {word}")));
        }
    }
    cx.reply.array(0);
    Ok(Effect::Unchanged)
}

#[cfg(test)]
mod tests {
    use crate::command::testing::Bench;

    #[test]
    fn there_are_no_libraries() {
        Bench::new().expect(&[
            ("FUNCTION FLUSH", "OK"),
            ("FUNCTION FLUSH async", "OK"),
            ("FUNCTION FLUSH now", "-ERR FUNCTION FLUSH only supports SYNC|ASYNC option"),
            ("FUNCTION FLUSH SYNC SYNC", "-ERR FUNCTION FLUSH only supports SYNC|ASYNC option"),
            ("FUNCTION LIST", "[]"),
            ("FUNCTION LIST WITHCODE LIBRARYNAME l*", "[]"),
            ("FUNCTION LIST LIBRARYNAME", "-ERR library name argument was not given"),
            ("FUNCTION LIST ALL", "-ERR Unknown argument ALL"),
            ("FUNCTION LOAD x", "-ERR unknown subcommand 'LOAD'. Try FUNCTION HELP."),
        ]);
    }
}
