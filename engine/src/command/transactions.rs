//! MULTI, EXEC, DISCARD, WATCH, UNWATCH: rows only. What they do concerns the connection, and the
//! server does it (`session_commands::transactions`).
#![forbid(unsafe_code)]

use super::prelude::*;

/// Allowed where most is not, and not from scripts.
const ALWAYS: u32 = NOSCRIPT | LOADING | STALE;

commands! { Transactions;
    /// Discards a transaction.
    "discard" "2.0.0", Exactly(1), ALWAYS | FAST | ALLOW_BUSY, KeySpec::NONE, Session, session;
    /// Executes all commands in a transaction.
    "exec" "1.2.0", Exactly(1), ALWAYS | SKIP_SLOWLOG, KeySpec::NONE, Session, session;
    /// Starts a transaction.
    "multi" "1.2.0", Exactly(1), ALWAYS | FAST | NO_MULTI | ALLOW_BUSY, KeySpec::NONE, Session, session;
    /// Forgets about watched keys of a transaction.
    "unwatch" "2.2.0", Exactly(1), ALWAYS | FAST | ALLOW_BUSY, KeySpec::NONE, Session, session;
    /// Monitors changes to keys to determine the execution of a transaction.
    "watch" "2.2.0", AtLeast(2), ALWAYS | FAST | NO_MULTI | ALLOW_BUSY, KeySpec::ALL.used(Access::RO), Session, session;
}
