//! Scripts and libraries of functions: their rows.
//!
//! The server executes them, with the worker's script engine (see [`crate::script`]): what runs a
//! script needs shards to run it over, and what loads one is for all workers.
#![forbid(unsafe_code)]

use tessera_proto::parse_i64;

use super::{Place, prelude::*};

/// Runs a script or a function.
const RUNS: u32 =
    NOSCRIPT | SKIP_MONITOR | STALE | MAY_REPLICATE | NO_MANDATORY_KEYS | MOVABLE_KEYS;
/// The same, and it writes nothing.
const READS: u32 = NOSCRIPT | SKIP_MONITOR | STALE | NO_MANDATORY_KEYS | MOVABLE_KEYS | READONLY;
/// A number of keys, none perhaps, and the keys.
const KEYS: KeySpec = KeySpec::at(Place::Custom(key_positions));

commands! { Scripting;
    /// Runs a script.
    "eval" "2.6.0", AtLeast(3), RUNS, KEYS.used(ALL_ACCESS), Script, script;
    /// Runs a script that writes nothing.
    "eval_ro" "7.0.0", AtLeast(3), READS, KEYS.used(READ_ACCESS), Script, script;
    /// Runs a script by its SHA1 digest.
    "evalsha" "2.6.0", AtLeast(3), RUNS, KEYS.used(ALL_ACCESS), Script, script;
    /// Runs a script that writes nothing by its SHA1 digest.
    "evalsha_ro" "7.0.0", AtLeast(3), READS, KEYS.used(READ_ACCESS), Script, script;
    /// Calls a function.
    "fcall" "7.0.0", AtLeast(3), RUNS, KEYS.used(ALL_ACCESS), Script, script;
    /// Calls a function that writes nothing.
    "fcall_ro" "7.0.0", AtLeast(3), READS, KEYS.used(READ_ACCESS), Script, script;
    /// Commands about libraries of functions.
    "function" "7.0.0", AtLeast(2), NONE, KeySpec::NONE, Session, [
        /// Removes a library.
        "delete" "7.0.0", Exactly(3), WRITE | NOSCRIPT, KeySpec::NONE, Session, session;
        /// Answers all libraries in serialized form.
        "dump" "7.0.0", Exactly(2), NOSCRIPT, KeySpec::NONE, Session, session;
        /// Removes all libraries.
        "flush" "7.0.0", AtLeast(2), WRITE | NOSCRIPT, KeySpec::NONE, Session, session;
        /// Lists the subcommands.
        "help" "7.0.0", Exactly(2), LOADING | STALE, KeySpec::NONE, Session, session;
        /// Ends the function that runs.
        "kill" "7.0.0", Exactly(2), NOSCRIPT | ALLOW_BUSY, KeySpec::NONE, Session, session;
        /// Lists the libraries.
        "list" "7.0.0", AtLeast(2), NOSCRIPT, KeySpec::NONE, Session, session;
        /// Loads a library.
        "load" "7.0.0", AtLeast(3), WRITE | DENYOOM | NOSCRIPT, KeySpec::NONE, Session, session;
        /// Loads libraries from their serialized form.
        "restore" "7.0.0", AtLeast(3), WRITE | DENYOOM | NOSCRIPT, KeySpec::NONE, Session, session;
        /// Tells of the function that runs.
        "stats" "7.0.0", Exactly(2), NOSCRIPT | ALLOW_BUSY, KeySpec::NONE, Session, session;
    ];
    /// Commands about scripts.
    "script" "2.6.0", AtLeast(2), NONE, KeySpec::NONE, Session, [
        /// Would turn the debugger on, which there is not.
        "debug" "3.2.0", Exactly(3), NOSCRIPT, KeySpec::NONE, Session, session;
        /// Tells which of some scripts are known.
        "exists" "2.6.0", AtLeast(3), NOSCRIPT, KeySpec::NONE, Session, session;
        /// Forgets all scripts.
        "flush" "2.6.0", AtLeast(2), NOSCRIPT, KeySpec::NONE, Session, session;
        /// Lists the subcommands.
        "help" "5.0.0", Exactly(2), LOADING | STALE, KeySpec::NONE, Session, session;
        /// Ends the script that runs.
        "kill" "2.6.0", Exactly(2), NOSCRIPT | ALLOW_BUSY, KeySpec::NONE, Session, session;
        /// Makes a script known by its SHA1 digest.
        "load" "2.6.0", Exactly(3), NOSCRIPT | STALE, KeySpec::NONE, Session, session;
        /// Answers a script's text.
        "show" "8.0.0", Exactly(3), NOSCRIPT, KeySpec::NONE, Session, session;
    ];
}

const READ_ACCESS: Access = Access::RO.with(Access::ACCESS);
const ALL_ACCESS: Access = Access::RW.with(Access::ACCESS).with(Access::UPDATE);

/// How many keys a call names.
///
/// # Errors
///
/// No number, a negative one, or more than there are arguments.
pub fn key_count(args: &Args<'_>) -> Result<usize, CommandError> {
    let count = parse_i64(&args[2]).ok_or(CommandError::NotAnInteger)?;
    let rest = args.len() - 3;
    match usize::try_from(count) {
        Ok(count) if count <= rest => Ok(count),
        Ok(_) => Err(CommandError::text("ERR Number of keys can't be greater than number of args")),
        Err(_) if count > 0 => {
            Err(CommandError::text("ERR Number of keys can't be greater than number of args"))
        }
        Err(_) => Err(CommandError::text("ERR Number of keys can't be negative")),
    }
}

fn key_positions(args: &Args<'_>, positions: &mut Vec<usize>) -> Result<(), CommandError> {
    let count = key_count(args)?;
    positions.extend(3..3 + count);
    Ok(())
}
