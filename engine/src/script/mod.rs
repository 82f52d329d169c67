//! Scripts and functions in Lua: compiled, run, suspended, without sockets and threads.
//!
//! # Map
//!
//! ```text
//! lua           the stack as a safe type; the only unsafe code
//!   machine     a state with its memory, its fibre and its time limit
//!   guards      tables that scripts cannot change, limits of the C stack
//! sandbox       what scripts find in their global variables
//! redis         the table `redis`: call, pcall, log, …
//! run           a running script and its commands; the host that executes them
//! convert       replies to values and back
//! error         errors as tables, and their text for the client
//! engine        compiled scripts, and the one that is under way
//! library       libraries of functions, as a value that workers share
//! register      what a library calls while it is loaded
//! undo          takes back what a script has written that must start over
//! flags, sha1   a script's first line, and its name
//! lib           cjson, cmsgpack, struct, bit
//! ```
//!
//! # Decisions
//!
//! - A script runs to its end as one step of its worker, on a fibre of its own (see
//!   `lua::machine` for why), with everything it may touch at hand: its host is one shard, or
//!   several that are gathered at the worker. So a call of a command never waits, and works inside
//!   `pcall`, `sort` and `gsub`.
//! - A script may touch keys that it has not declared. If its host does not have them, the script
//!   ends ([`Progress::NeedsShards`]), what it has written is undone, and it starts over with all
//!   shards. Until then nobody can have seen anything of it, since its shard stands still.
//! - Lua's state belongs to the worker and outlives scripts; what a script could leave behind in it
//!   is bounded by the sandbox: global variables and libraries cannot be changed.
#![deny(unsafe_code)]

mod convert;
mod engine;
mod error;
mod flags;
mod lib;
mod library;
mod lua;
mod number;
mod redis;
mod register;
mod run;
mod sandbox;
mod sha1;
#[cfg(test)]
mod tests;
mod undo;

pub use engine::{Ended, Invocation, Progress, ScriptEngine};
pub use flags::{ScriptFlags, read_shebang};
pub use library::{Function, Libraries, Library, Metadata, RestorePolicy, read_metadata};
pub use redis::REDIS_VERSION;
pub use run::{LogLevel, NeedsShards, ScriptHost, Verdict};
pub use sha1::{Sha1Hex, sha1_hex};
pub use undo::Undo;
