//! A running script: what it may do, and the commands that it executes.
#![forbid(unsafe_code)]

use tessera_proto::{Args, Protocol, ReplyBuffer, ReplyWriter, RequestBatch, parse_i64};

use super::{engine::Ended, flags::ScriptFlags, register::Registrations};
use crate::{
    command::{Command, Run as Code, table, table::flag},
    shard::{Call, Caller},
};

/// Whether a script may go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It may.
    GoOn,
    /// It is to be suspended, so that its worker can look after others.
    Wait,
    /// It is to fail with this text, and nothing can catch that.
    Fail(&'static str),
}

/// A command needs keys of a shard that its host does not have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NeedsShards;

/// How serious a line in the log is, as scripts number it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum LogLevel {
    /// `redis.LOG_DEBUG`
    Debug,
    /// `redis.LOG_VERBOSE`
    Verbose,
    /// `redis.LOG_NOTICE`
    Notice,
    /// `redis.LOG_WARNING`
    Warning,
}

/// What executes the commands of a script, and decides over its life. A shard, several shards
/// gathered, or a test.
pub trait ScriptHost {
    /// Executes a command, which has been checked, and appends its reply.
    ///
    /// # Errors
    ///
    /// It needs keys that are not here. Nothing has been done then, and the script ends.
    fn execute(&mut self, call: &Call<'_>, out: &mut ReplyBuffer) -> Result<(), NeedsShards>;

    /// Executes SELECT; answers the database of the commands that follow, if that succeeds.
    fn select(&mut self, call: &Call<'_>, out: &mut ReplyBuffer) -> Option<u32> {
        select(&call.args, DATABASES_USUAL, &mut ReplyWriter::new(out, call.protocol))
    }

    /// Why a command is refused at this moment, if it is: a user without permission, no memory, a
    /// disk that fails. `has_written` tells whether the script has written before.
    fn refusal(&mut self, call: &Call<'_>, allows_oom: bool, has_written: bool) -> Option<String> {
        let _ = (call, allows_oom, has_written);
        None
    }

    /// A command, if there is one of that name, is refused with this text.
    fn refused(&mut self, command: Option<&'static Command>, text: &str) {
        let _ = (command, text);
    }

    /// Whether the script's user may execute a command (`redis.acl_check_cmd`).
    fn permits(&mut self, command: &'static Command, args: &Args<'_>) -> bool {
        let _ = (command, args);
        true
    }

    /// Asked every so many instructions, and again after the script has waited.
    fn verdict(&mut self, has_written: bool) -> Verdict {
        let _ = has_written;
        Verdict::GoOn
    }

    /// Writes a line to the server's log.
    fn log(&mut self, level: LogLevel, text: &[u8]);
}

/// What a script's run needs from one stretch to the next.
pub(super) struct RunState {
    /// The script's SHA1, or the function's name.
    pub(super) name: String,
    /// The database in force, which SELECT changes.
    pub(super) database: u32,
    /// The version of replies to the script's commands (`redis.setresp`).
    pub(super) inner: Protocol,
    /// The version of the script's own reply.
    pub(super) outer: Protocol,
    /// CLIENT NO-TOUCH.
    pub(super) no_touch: bool,
    /// Who has called the script.
    pub(super) caller: Caller,
    /// Only commands that do not write.
    pub(super) is_read_only: bool,
    pub(super) flags: ScriptFlags,
    /// It has executed a command that may write.
    pub(super) has_written: bool,
    /// It has met keys that are not here: it ends, whatever it does.
    pub(super) needs_shards: bool,
    /// What the script's reply is.
    pub(super) ended: Ended,
    /// What is registered, while a library is loaded.
    pub(super) loading: Option<Registrations>,
    /// The generator of `math.random`.
    pub(super) random: Random48,
    /// A command on its way, and its reply.
    pub(super) request: RequestBatch,
    pub(super) reply: ReplyBuffer,
}

impl RunState {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            name: String::new(),
            database: 0,
            inner: Protocol::Resp2,
            outer: Protocol::Resp2,
            no_touch: false,
            caller: Caller::default(),
            is_read_only: false,
            flags: ScriptFlags::default(),
            has_written: false,
            needs_shards: false,
            ended: Ended::Well,
            loading: None,
            random: Random48(seed & Random48::MASK),
            request: RequestBatch::new(),
            reply: ReplyBuffer::default(),
        }
    }
}

/// A stretch of a run: its state, with what is lent to it.
pub(super) struct Run<'h> {
    pub(super) state: &'h mut RunState,
    pub(super) host: &'h mut dyn ScriptHost,
    /// Where the script's reply goes.
    pub(super) out: &'h mut ReplyBuffer,
}

/// What scripts are told that meet a missing shard. Nobody reads it but they themselves.
const MISSING_SHARD: &str = "The script starts over with all keys at hand";

impl Run<'_> {
    /// Whether the script may go on.
    pub(super) fn verdict(&mut self) -> Verdict {
        if self.state.needs_shards {
            return Verdict::Fail(MISSING_SHARD);
        }
        self.host.verdict(self.state.has_written)
    }

    /// Executes the command in `state.request`; its reply is in `state.reply` then.
    ///
    /// # Errors
    ///
    /// The text of the refusal, when the command was not executed.
    pub(super) fn execute(&mut self) -> Result<(), String> {
        let Self { state, host, .. } = self;
        state.reply.clear_keeping(64 << 10);
        if state.needs_shards {
            return Err(MISSING_SHARD.into());
        }
        let Some(args) = state.request.get(0) else { return Err(UNKNOWN.into()) };
        let mut refuse = |command, text: String| {
            host.refused(command, &text);
            Err(text)
        };
        let command = match find(&args) {
            Ok(command) => command,
            Err(text) => return refuse(table().find(&args[0]), text),
        };
        if command.flags.has(flag::NOSCRIPT) {
            return refuse(Some(command), "This Redis command is not allowed from script".into());
        }
        if state.is_read_only && may_change(command) {
            let text = "Write commands are not allowed from read-only scripts.";
            return refuse(Some(command), text.into());
        }
        let call = Call {
            command,
            args,
            database: state.database,
            protocol: state.inner,
            no_touch: state.no_touch,
            caller: Caller { is_script: true, ..state.caller },
        };
        if let Some(text) = host.refusal(&call, state.flags.allows_oom(), state.has_written) {
            host.refused(Some(command), &text);
            return Err(text);
        }
        if command.full_name == "select" {
            state.database = host.select(&call, &mut state.reply).unwrap_or(state.database);
            return Ok(());
        }
        state.has_written |= command.flags.has(flag::WRITE);
        host.execute(&call, &mut state.reply).map_err(|NeedsShards| {
            state.needs_shards = true;
            MISSING_SHARD.into()
        })
    }
}

const UNKNOWN: &str = "Unknown command called from script";

/// The row that a script calls.
pub(super) fn find(args: &Args<'_>) -> Result<&'static Command, String> {
    let rows = table();
    let container = rows.find(&args[0]).ok_or(UNKNOWN)?;
    let command = match (container.run, args.get(1)) {
        (Code::Container, Some(name)) => container
            .subcommands
            .iter()
            .find(|row| row.name.as_bytes().eq_ignore_ascii_case(name))
            .ok_or(UNKNOWN)?,
        _ => container,
    };
    let is_complete = command.arity.admits(args.len()) && !matches!(command.run, Code::Container);
    is_complete.then_some(command).ok_or("Wrong number of args calling command from script".into())
}

/// Commands that write, or tell others something.
fn may_change(command: &Command) -> bool {
    command.flags.has(flag::WRITE | flag::MAY_REPLICATE)
        || matches!(command.name, "publish" | "spublish" | "pfcount")
}

/// SELECT within a script, which ends with it.
fn select(args: &Args<'_>, databases: u32, reply: &mut ReplyWriter<'_>) -> Option<u32> {
    let database = parse_i64(&args[1]).and_then(|number| u32::try_from(number).ok());
    match (database, parse_i64(&args[1])) {
        (Some(database), _) if database < databases => {
            reply.ok();
            return Some(database);
        }
        (_, Some(_)) => reply.error("ERR DB index is out of range"),
        (_, None) => reply.error("ERR value is not an integer or out of range"),
    }
    None
}

/// The default of `databases`.
const DATABASES_USUAL: u32 = 16;

/// The linear congruential generator of POSIX's `lrand48`, which Redis gives to scripts: the same seed
/// gives the same numbers there.
#[derive(Clone, Copy, Debug)]
pub(super) struct Random48(u64);

impl Random48 {
    const MASK: u64 = (1 << 48) - 1;
    /// One more than the greatest number that counts.
    const END: u64 = i32::MAX as u64;

    /// `math.randomseed`.
    pub(super) fn seed(&mut self, seed: i32) {
        self.0 = ((seed as u32 as u64) << 16 | 0x330e) & Self::MASK;
    }

    /// A number from 0 to below 1.
    #[expect(clippy::cast_precision_loss, reason = "31 bits fit")]
    pub(super) fn fraction(&mut self) -> f64 {
        self.0 = (self.0.wrapping_mul(0x5_deec_e66d) + 0xb) & Self::MASK;
        ((self.0 >> 17) % Self::END) as f64 / Self::END as f64
    }
}
