//! Commands of the connection: greeting, authentication and the client's own state.
//!
//! The server executes them, since they work on sessions and need no keyspace: their code stands in
//! `server/src/session_commands`, found by a row's full name. The rows are here so that one table
//! describes every command.
#![forbid(unsafe_code)]

use super::prelude::*;

/// Harmless at any time.
const ANY_TIME: u32 = LOADING | STALE;
/// What every connection may do for itself, but a script may not.
const OWN: u32 = NOSCRIPT | LOADING | STALE;
/// Acts on other connections.
const OTHERS: u32 = OWN | ADMIN;
/// Establishing or ending a session.
const HANDSHAKE: u32 = OWN | FAST | NO_AUTH | ALLOW_BUSY;

commands! { Connection;
    /// Authenticates the connection with a password, or as a named user.
    "auth" "1.0.0", AtLeast(2), HANDSHAKE, KeySpec::NONE, Session, session;
    /// Commands about client connections.
    "client" "2.4.0", AtLeast(2), NONE, KeySpec::NONE, Session, [
        /// Says whether the keys that the next command reads are cached.
        "caching" "6.0.0", Exactly(3), OWN, KeySpec::NONE, Session, session;
        /// Answers which client is told of keys that this one caches.
        "getredir" "6.0.0", Exactly(2), OWN, KeySpec::NONE, Session, session;
        /// Answers the name of this connection, or nothing.
        "getname" "2.6.9", Exactly(2), OWN, KeySpec::NONE, Session, session;
        /// Lists the subcommands.
        "help" "5.0.0", Exactly(2), ANY_TIME, KeySpec::NONE, Session, session;
        /// Answers the number that identifies this connection.
        "id" "5.0.0", Exactly(2), OWN, KeySpec::NONE, Session, session;
        /// Describes this connection.
        "info" "6.2.0", Exactly(2), OWN, KeySpec::NONE, Session, session;
        /// Closes connections, chosen by address, number, type or other filters.
        "kill" "2.4.0", AtLeast(3), OTHERS, KeySpec::NONE, Session, session;
        /// Describes all connections, or those that match.
        "list" "2.4.0", AtLeast(2), OTHERS, KeySpec::NONE, Session, session;
        /// Exempts this connection from eviction of clients, or ends that.
        "no-evict" "7.0.0", Exactly(3), OTHERS, KeySpec::NONE, Session, session;
        /// Lets this connection's commands leave access times as they are, or ends that.
        "no-touch" "7.2.0", Exactly(3), OWN, KeySpec::NONE, Session, session;
        /// Holds back the commands of all clients for a time.
        "pause" "3.0.0", AtLeast(3), OTHERS, KeySpec::NONE, Session, session;
        /// Turns this connection's replies on or off, or skips the next one.
        "reply" "3.2.0", Exactly(3), OWN, KeySpec::NONE, Session, session;
        /// Records the name or version of the client's library.
        "setinfo" "7.2.0", Exactly(4), OWN, KeySpec::NONE, Session, session;
        /// Names this connection.
        "setname" "2.6.9", Exactly(3), OWN, KeySpec::NONE, Session, session;
        /// Lets the server tell this client which of the keys that it caches have changed, or ends that.
        "tracking" "6.0.0", AtLeast(3), OWN, KeySpec::NONE, Session, session;
        /// Answers what was asked for by CLIENT TRACKING.
        "trackinginfo" "6.2.0", Exactly(2), OWN, KeySpec::NONE, Session, session;
        /// Ends the wait of a blocked client, as by timeout or with an error.
        "unblock" "5.0.0", AtLeast(3), OTHERS, KeySpec::NONE, Session, session;
        /// Lets paused clients go on.
        "unpause" "6.2.0", Exactly(2), OTHERS, KeySpec::NONE, Session, session;
    ];
    /// Answers its argument.
    "echo" "1.0.0", Exactly(2), ANY_TIME | FAST, KeySpec::NONE, Session, session;
    /// Opens the conversation: protocol version, authentication and name.
    "hello" "6.0.0", AtLeast(1), HANDSHAKE, KeySpec::NONE, Session, session;
    /// Answers PONG or its argument: the server is alive.
    "ping" "1.0.0", AtLeast(1), FAST, KeySpec::NONE, Session, session;
    /// Closes the connection.
    "quit" "1.0.0", AtLeast(1), HANDSHAKE | DEPRECATED, KeySpec::NONE, Session, session;
    /// Brings the connection back to its first state.
    "reset" "6.2.0", Exactly(1), HANDSHAKE, KeySpec::NONE, Session, session;
    /// Chooses the database for the commands that follow.
    "select" "1.0.0", Exactly(2), ANY_TIME | FAST, KeySpec::NONE, Session, session;
    /// Waits until replicas have what the connection has written.
    "wait" "3.0.0", Exactly(3), BLOCKING, KeySpec::NONE, Session, session;
    /// Waits until what the connection has written is in the append-only logs.
    "waitaof" "7.2.0", Exactly(4), BLOCKING, KeySpec::NONE, Session, session;
}
