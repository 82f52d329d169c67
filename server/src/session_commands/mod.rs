//! The commands that the server executes itself: they work on sessions, on the configuration or on
//! all workers, not on a shard's keys.
//!
//! Their rows stand in the engine's command table like all others; the functions are found here by
//! the row's full name, once at the start.
#![forbid(unsafe_code)]

use std::sync::Arc;

mod client;
mod client_line;
mod clients;
mod command;
mod config;
mod connection;
mod debug;
mod docs;
mod help;
mod memory;
mod parts;
pub(crate) mod pubsub;
mod save;
mod scripting;
mod server;
mod slowness;
pub(crate) mod tracking;
mod transactions;

use tessera_engine::{
    command::{Command, CommandError, Run, table, table::flag},
    transaction::ShardMap,
};
use tessera_proto::{Args, Protocol, ReplyBuffer, ReplyWriter};

use crate::{
    dispatch::Advance,
    gather::Merge,
    memory::permit_memory,
    net::ConnectionId,
    saving::drive::Awaited,
    scripts::Scripts,
    server::Shared,
    session::{Held, Session},
    worker::Worker,
};

pub(crate) use client_line::{Sizes, client_bytes};

/// What becomes of the connection after the command.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum After {
    /// It goes on.
    #[default]
    GoOn,
    /// It is closed once its replies are sent.
    Close,
}

/// What a session command works with.
pub struct SessionContext<'a> {
    /// The connection that sent it.
    pub session: &'a mut Session,
    /// Where the reply goes; use [`SessionContext::reply`].
    pub out: &'a mut ReplyBuffer,
    /// What all workers share.
    pub shared: &'a Arc<Shared>,
    /// The number of the connection's worker.
    pub worker: usize,
    /// Which shard owns what.
    pub map: ShardMap,
    /// The worker's time in microseconds since the Unix epoch.
    pub now_us: i64,
    /// What the connection holds besides this request.
    pub(crate) sizes: Sizes,
    /// The worker's scripts; scripts themselves have none.
    pub scripts: Option<&'a mut Scripts>,
    /// What becomes of the connection.
    pub after: After,
    /// The reply comes when this has ended, behind all answers of the workers.
    pub(crate) waits_for: Option<Awaited>,
    /// The reply is sent although CLIENT REPLY said otherwise when the command came.
    pub answers_anyway: bool,
}

impl SessionContext<'_> {
    /// Writes a reply in the session's protocol version.
    pub fn reply(&mut self) -> ReplyWriter<'_> {
        ReplyWriter::new(self.out, self.session.protocol)
    }
}

/// A session command's function.
pub type SessionFn = fn(&mut SessionContext<'_>, &Args<'_>) -> Result<(), CommandError>;

/// What [`Everywhere::ask`] has decided.
pub enum Asked {
    /// The reply is written already: no worker needs to be asked.
    Answered,
    /// Every worker is asked with these arguments; the answers are merged.
    Workers {
        /// The arguments for [`Everywhere::part`], a name first.
        args: Vec<Vec<u8>>,
        /// How the answers become the reply.
        merge: Merge,
    },
    /// Some workers are asked, at most once each, each with its own arguments.
    Parts {
        /// The worker, and the arguments for [`Everywhere::part`].
        parts: Vec<(u32, Vec<Vec<u8>>)>,
        /// How the answers become the reply.
        merge: Merge,
    },
}

/// A command that needs something of every worker (CLIENT LIST, INFO, CONFIG SET).
pub struct Everywhere {
    /// Runs at the connection's worker and says what to ask.
    pub ask: fn(&mut SessionContext<'_>, &Args<'_>) -> Result<Asked, CommandError>,
    /// Runs at every worker, the connection's own included, at its place in the one order.
    pub part: fn(&mut Worker, &Args<'_>, &mut ReplyWriter<'_>),
}

/// A command that works on more of its worker than a session: it deals with the request at the front
/// of the input itself, in its own way over the shards. Both answer how the connection goes on if that
/// is not with its next command.
pub struct OnWorker {
    /// Runs in the second half of a round; the flag says whether commands for the own shard may
    /// execute then. It may ask for a cut.
    pub(crate) run: fn(&mut Worker, ConnectionId, Held, bool) -> Option<Advance>,
    /// Packs what goes through a cut.
    pub(crate) pack: fn(&mut Worker, ConnectionId, Held) -> Option<Advance>,
}

/// The code of one session command.
#[derive(Clone, Copy)]
pub enum Code {
    /// Runs at the connection's worker alone.
    Local(SessionFn),
    /// Runs at all workers.
    Everywhere(&'static Everywhere),
    /// Runs at the connection's worker, with all that it has.
    OnWorker(&'static OnWorker),
    /// Changes the libraries of functions: runs at the connection's worker while all shards are
    /// there, so that everybody else stands still. See [`crate::libraries`].
    Libraries(SessionFn),
    /// May wait.
    Waiting {
        /// Answers at once: in MULTI and in scripts.
        now: SessionFn,
        /// Answers when there is something to say.
        on_worker: &'static OnWorker,
    },
}

/// The code of every session command by the row's id.
pub struct Codes {
    codes: Vec<Option<Code>>,
    /// Whether its reply need not wait at the gate.
    ungated: Vec<bool>,
}

/// Commands that ask all workers and tell nothing of keys, libraries and messages. Figures, as INFO
/// shows them, are not held to be what nobody may see before it is durable: an operator needs them
/// most when it is not.
const UNGATED: &[&str] = &[
    "bgrewriteaof",
    "bgsave",
    "client|kill",
    "client|list",
    "client|pause",
    "client|tracking",
    "client|unpause",
    "config|resetstat",
    "config|set",
    "info",
    "latency|histogram",
    "memory|doctor",
    "memory|stats",
    "reset",
];

/// Commands that one worker executes alone and that do tell of such things.
const GATED: &[&str] = &["function|dump", "function|list", "function|stats"];

/// Full names with their code, family by family.
const FAMILIES: &[&[(&str, Code)]] = &[
    client::FAMILY,
    clients::FAMILY,
    command::FAMILY,
    config::FAMILY,
    connection::FAMILY,
    debug::FAMILY,
    help::FAMILY,
    memory::FAMILY,
    save::FAMILY,
    pubsub::FAMILY,
    scripting::FAMILY,
    server::FAMILY,
    slowness::FAMILY,
    tracking::FAMILY,
    transactions::FAMILY,
];

impl Codes {
    /// Joins the rows with their code.
    pub fn build() -> Self {
        let mut codes = vec![None; table().count()];
        let mut ungated = vec![false; table().count()];
        for command in table().all().filter(|row| !matches!(row.run, Run::Shard(_))) {
            let code = FAMILIES
                .iter()
                .flat_map(|family| family.iter())
                .find(|(name, _)| *name == command.full_name)
                .map(|(_, code)| *code);
            codes[usize::from(command.id)] = code;
            ungated[usize::from(command.id)] = match code {
                Some(Code::Local(_)) => !GATED.contains(&command.full_name),
                _ => UNGATED.contains(&command.full_name),
            };
        }
        Self { codes, ungated }
    }

    /// Whether the reply of `command` tells nothing that may be lost with an epoch that is not durable.
    #[inline]
    pub fn is_ungated(&self, command: &Command) -> bool {
        self.ungated[usize::from(command.id)]
    }

    /// The code of `command`, if it is a session command.
    #[inline]
    pub fn get(&self, command: &Command) -> Option<Code> {
        self.codes[usize::from(command.id)]
    }
}

/// The flags of commands for which [`permit`] must be asked.
#[inline]
pub fn care(shared: &Shared) -> u32 {
    // While memory is limited each command that may need some asks whether there is.
    let limited = if shared.memory.limit() == 0 { 0 } else { flag::DENYOOM };
    // PING is refused with the writes, so that who looks after the server by it hears of the cause.
    let unsaved = match shared.saves.has_failed() || shared.aof.is_failing() {
        true => flag::WRITE | flag::FAST,
        false => 0,
    };
    flag::ADMIN | limited | unsaved
}

/// Whether a client may use `command` now: DEBUG is open only to those whom the option
/// `enable-debug-command` names, what may need memory is refused while there is none, and writes
/// while they cannot be saved.
pub fn permit(command: &Command, shared: &Shared, is_local: bool) -> Result<(), CommandError> {
    if command.flags.has(flag::DENYOOM) {
        permit_memory(shared)?;
    }
    if command.flags.has(flag::WRITE) || command.full_name == "ping" {
        return permit_write(shared);
    }
    if !command.full_name.starts_with("debug") {
        return Ok(());
    }
    if shared.config.current().enable_debug_command.allows(is_local) {
        return Ok(());
    }
    Err(CommandError::text(
        "ERR DEBUG command not allowed. If the enable-debug-command option is set to \"local\", you \
         can run it from a local connection, otherwise you need to set this option in the \
         configuration file, and then restart the server.",
    ))
}

/// Whether writes may pass: what was saved last has succeeded, or `stop-writes-on-bgsave-error` does
/// not ask, and the log can be written.
pub(crate) fn permit_write(shared: &Shared) -> Result<(), CommandError> {
    let config = shared.config.current();
    let refuses = config.stop_writes_on_bgsave_error && !config.save.is_empty();
    if !refuses || !shared.saves.has_failed() {
        return match shared.aof.failure() {
            None => Ok(()),
            Some(reason) => {
                let text = format!("MISCONF Errors writing to the AOF file: {reason}");
                Err(CommandError::text(text))
            }
        };
    }
    Err(CommandError::text(
        "MISCONF Redis is configured to save RDB snapshots, but it's currently unable to persist to \
         disk. Commands that may modify the data set are disabled, because this instance is \
         configured to report errors during writes if RDB snapshotting fails \
         (stop-writes-on-bgsave-error option). Please check the Redis logs for details about the \
         RDB error.",
    ))
}

/// The protocol in which workers answer each other's questions.
pub const PART_PROTOCOL: Protocol = Protocol::Resp3;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_has_a_row() {
        let named: usize = FAMILIES.iter().map(|family| family.len()).sum();
        let found = Codes::build().codes.iter().flatten().count();
        assert_eq!(named, found);
    }

    #[test]
    fn every_session_command_has_code() {
        let codes = Codes::build();
        for row in table().all().filter(|row| matches!(row.run, Run::Session)) {
            assert!(codes.get(row).is_some(), "'{}' has no code", row.full_name);
        }
    }

    #[test]
    fn commands_that_need_not_wait_at_the_gate_have_rows() {
        for name in UNGATED.iter().chain(GATED) {
            assert!(table().all().any(|row| row.full_name == *name), "'{name}' is no command");
        }
        let codes = Codes::build();
        let ungated = table().all().filter(|row| codes.is_ungated(row)).count();
        assert!(ungated > UNGATED.len());
        let is_ungated =
            |name: &str| table().all().any(|row| row.full_name == name && codes.is_ungated(row));
        assert!(["ping", "auth", "hello", "info", "client|id"].into_iter().all(is_ungated));
        assert!(!["exec", "get", "subscribe", "function|list"].into_iter().any(is_ungated));
    }
}
