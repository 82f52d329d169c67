//! MULTI, EXEC, DISCARD, WATCH, UNWATCH: rows only. What they do concerns the connection, and the
//! server does it (`session_commands::transactions`).
#![forbid(unsafe_code)]

use super::prelude::*;

/// Allowed where most is not, and not from scripts.
const ALWAYS: u32 = NOSCRIPT | LOADING | STALE;

commands! { Transactions;
    /// Drops the queued commands.
    "discard" "2.0.0", Exactly(1), ALWAYS | FAST | ALLOW_BUSY, KeySpec::NONE, Session, session;
    /// Executes the queued commands as one step.
    "exec" "1.2.0", Exactly(1), ALWAYS | SKIP_SLOWLOG, KeySpec::NONE, Session, session;
    /// Queues the commands that follow, until EXEC.
    "multi" "1.2.0", Exactly(1), ALWAYS | FAST | NO_MULTI | ALLOW_BUSY, KeySpec::NONE, Session, session;
    /// Watches no key any more.
    "unwatch" "2.2.0", Exactly(1), ALWAYS | FAST | ALLOW_BUSY, KeySpec::NONE, Session, session;
    /// Lets the next EXEC do nothing if one of the keys has changed by then.
    "watch" "2.2.0", AtLeast(2), ALWAYS | FAST | NO_MULTI | ALLOW_BUSY, KeySpec::ALL.used(Access::RO), Session, session;
}
