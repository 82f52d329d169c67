//! What executes the commands of a script: the own shard, or several that are gathered.
#![forbid(unsafe_code)]

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use tessera_engine::{
    command::{Command, CommandError, Run, table::flag},
    script::{LogLevel, NeedsShards, ScriptEngine, ScriptHost, Undo, Verdict},
    shard::{Call, Shard},
    transaction::{Gathered, Route, ShardId, ShardMap, ShardSet, couplings::Couplings},
};
use tessera_proto::{Args, ReplyBuffer, ReplyWriter};

use super::{Scripts, prepare::Prepared, shared::About};
use crate::{
    memory::OUT_OF_MEMORY,
    metrics::WorkerMetrics,
    monitor,
    net::ConnectionId,
    server::Shared,
    session::Session,
    session_commands::{After, Code, Codes, SessionContext, Sizes, permit_write},
    slowlog,
    stopwatch::Stopwatch,
    worker::Worker,
};

/// The shards that a script runs over.
pub(super) enum Place<'a> {
    /// One.
    One { id: ShardId, shard: &'a mut Shard },
    /// Several.
    Several(&'a mut Gathered),
}

/// Where a script's worker finds these shards.
pub(super) enum Stage<'a> {
    /// The own shard, which is here.
    Own,
    /// The own shard, which the script has kept while it was suspended.
    Kept(&'a mut Shard),
    /// The shards that are lent to the worker.
    Lent,
    /// Those of a transaction over the own shard alone.
    Alone(&'a mut Gathered),
}

/// A script's time, and what is known of it.
pub(super) struct Watch {
    /// When it began.
    pub(super) since: Instant,
    /// From when on it is too long.
    pub(super) threshold: Option<Duration>,
    /// It has been too long.
    pub(super) is_slow: bool,
    /// It can be suspended.
    pub(super) may_wait: bool,
    /// A script of EVAL, no function.
    pub(super) is_eval: bool,
    /// Commands that it has called.
    pub(super) commands: u64,
    /// The time that its commands see, in microseconds since the Unix epoch.
    pub(super) now_us: i64,
    /// There was no memory to be had when it began.
    pub(super) is_out_of_memory: bool,
}

/// What a script runs over.
pub(super) struct Host<'a> {
    pub(super) place: Place<'a>,
    pub(super) map: ShardMap,
    /// Keys that are coupled, if any are.
    pub(super) couplings: Option<&'a Couplings>,
    pub(super) positions: &'a mut Vec<usize>,
    /// Where writes are noted, if it may have to start over.
    pub(super) undo: Option<&'a mut Undo>,
    pub(super) watch: &'a mut Watch,
    /// What runs, as long as it is not slow.
    pub(super) about: Option<(&'a Prepared, &'a Args<'a>)>,
    /// Takes note of its commands that are slow, as called by `client`: its address and its name.
    pub(super) slow: &'a slowlog::Watch,
    pub(super) client: (&'a str, &'a str),
    /// Where lines for MONITOR go, if anybody monitors.
    pub(super) shown: Option<&'a mut Vec<Bytes>>,
    pub(super) worker: u32,
    pub(super) shared: &'a Arc<Shared>,
    pub(super) metrics: &'a WorkerMetrics,
    pub(super) stopwatch: &'a mut Stopwatch,
    pub(super) codes: &'a Codes,
    /// What session commands of scripts work on.
    pub(super) session: &'a mut Session,
}

impl Worker {
    /// Lets `work` be done with the host of a script that `client` has called, over the shards of
    /// `stage`. What it writes is noted, to be undone, unless no shard is missing.
    pub(super) fn with_host<T>(
        &mut self,
        stage: Stage<'_>,
        client: Option<ConnectionId>,
        (watch, about): (&mut Watch, Option<(&Prepared, &Args<'_>)>),
        work: impl FnOnce(&mut ScriptEngine, &mut Host<'_>) -> T,
    ) -> T {
        let Self { scripts, shard, loans, map, own, .. } = self;
        let Scripts { engine, undo, session, .. } = scripts;
        let place = match stage {
            Stage::Own => Place::One { id: *own, shard: &mut *shard },
            Stage::Kept(shard) => Place::One { id: *own, shard },
            Stage::Lent => Place::Several(loans.gathered_mut()),
            Stage::Alone(gathered) => Place::Several(gathered),
        };
        let has_all = match &place {
            Place::One { .. } => map.shards() == 1,
            Place::Several(gathered) => gathered.has(ShardSet::all(map.shards())),
        };
        let connection = client.and_then(|id| self.network.connection(id));
        let names = connection.map(|open| (open.session.peer.as_str(), open.session.name.as_str()));
        let mut host = Host {
            place,
            map: *map,
            couplings: self.coupled.any(),
            positions: &mut self.positions,
            undo: (!has_all).then_some(undo),
            watch,
            about,
            slow: &self.watch,
            client: names.unwrap_or_default(),
            shown: self.is_monitored.then_some(&mut self.shown),
            worker: *own,
            shared: &self.shared,
            metrics: &self.metrics,
            stopwatch: &mut self.stopwatch,
            codes: &self.codes,
            session,
        };
        work(engine, &mut host)
    }
}

impl Host<'_> {
    /// Notes what a command that writes may change.
    fn note_writes(&mut self, call: &Call<'_>) {
        let Some(undo) = self.undo.as_deref_mut() else { return };
        match &mut self.place {
            Place::One { id, shard } => undo.before(*id, shard, call, |_| true),
            Place::Several(gathered) => {
                let map = self.map;
                for (id, shard) in gathered.iter_mut() {
                    undo.before(id, shard, call, |key| map.owner(key) == id);
                }
            }
        }
    }

    /// Whether all that the command needs is here.
    fn has_all(&mut self, call: &Call<'_>) -> bool {
        self.has_keys(call) && self.has_coupled(call)
    }

    /// Whether the shards are here that serving those needs who wait for what the command fills.
    fn has_coupled(&mut self, call: &Call<'_>) -> bool {
        let Some(couplings) = self.couplings else { return true };
        let (command, args) = (call.command, &call.args);
        let reached = couplings.reached_by(self.map, command, args, self.positions);
        match &self.place {
            Place::One { id, .. } => reached.iter().all(|shard| shard == *id),
            Place::Several(gathered) => gathered.has(reached),
        }
    }

    fn has_keys(&mut self, call: &Call<'_>) -> bool {
        match &mut self.place {
            Place::One { .. } if self.map.shards() == 1 => true,
            Place::One { id, .. } => {
                // A command whose arguments are wrong says so on any shard.
                match self.map.route(call.command, &call.args, self.positions) {
                    Ok(Route::Shard(owner)) => owner == *id,
                    Ok(_) => false,
                    Err(_) => true,
                }
            }
            Place::Several(gathered) => match gathered.concerned(call.command, &call.args) {
                Ok(shards) => gathered.has(shards),
                Err(_) => true,
            },
        }
    }

    fn execute_on_shards(
        &mut self,
        call: &Call<'_>,
        out: &mut ReplyBuffer,
    ) -> Result<(), NeedsShards> {
        if !self.has_all(call) {
            return Err(NeedsShards);
        }
        if call.command.flags.has(flag::WRITE) {
            if self.watch.is_slow && !self.shared.scripts.may_write(self.worker) {
                // It has been killed, and ends as soon as it is asked.
                ReplyWriter::new(out, call.protocol).error("ERR the script has been killed");
                return Ok(());
            }
            self.note_writes(call);
        }
        let outcome = match &mut self.place {
            Place::One { shard, .. } => shard.execute(call, out),
            Place::Several(gathered) => gathered.execute(call, out).map_err(|_| NeedsShards)?,
        };
        self.note(call, outcome.as_ref().err());
        Ok(())
    }

    /// Shows a command to those who monitor.
    #[inline]
    fn show(&mut self, call: &Call<'_>) {
        if let Some(shown) = self.shown.as_deref_mut() {
            let (now_us, database) = (self.watch.now_us, call.database);
            shown.extend(monitor::line(now_us, database, "lua", call.command, &call.args));
        }
    }

    /// Counts a command that has been executed, and notes it if it was slow.
    #[inline]
    fn note(&mut self, call: &Call<'_>, error: Option<&CommandError>) {
        self.watch.commands += 1;
        let nanos = self.stopwatch.lap_ns();
        self.metrics.executed(call.command, nanos, error);
        if self.slow.is_slow(nanos) {
            let at = (self.watch.now_us, nanos);
            self.slow.note(self.shared, call.command, &call.args, at, self.client);
        }
    }

    /// Executes a command that needs no shard, on a session that scripts have for that; answers whether
    /// it succeeds.
    fn execute_on_session(&mut self, call: &Call<'_>, out: &mut ReplyBuffer) -> bool {
        let Some(Code::Local(function) | Code::Waiting { now: function, .. }) =
            self.codes.get(call.command)
        else {
            let text = format!("ERR '{}' cannot be called from scripts", call.command.full_name);
            ReplyWriter::new(out, call.protocol).error(&text);
            return false;
        };
        self.session.database = call.database;
        self.session.protocol = call.protocol;
        let before = out.mark();
        let mut context = SessionContext {
            session: self.session,
            out,
            shared: self.shared,
            worker: self.worker as usize,
            map: self.map,
            now_us: self.watch.now_us,
            sizes: Sizes::default(),
            after: After::GoOn,
            answers_anyway: false,
            scripts: None,
            waits_for: None,
        };
        let outcome = function(&mut context, &call.args);
        if let Err(error) = &outcome {
            out.truncate(before);
            ReplyWriter::new(out, call.protocol).error(&error.to_string());
        }
        self.note(call, outcome.as_ref().err());
        outcome.is_ok()
    }

    /// The script has become slow.
    #[cold]
    fn become_slow(&mut self, has_written: bool) {
        let Watch { since, is_eval, .. } = *self.watch;
        let name = self.about.map_or_else(String::new, |(prepared, _)| prepared.target.name());
        let command = self.about.map_or_else(Vec::new, |(_, args)| shortened(args));
        tracing::warn!(
            "Slow script detected: still in execution after {} milliseconds. You can try killing \
             the script using the {} command. Script name is: {name}.",
            since.elapsed().as_millis(),
            if is_eval { "SCRIPT KILL" } else { "FUNCTION KILL" },
        );
        let about = About { name, is_eval, command, since };
        self.shared.scripts.begin_slow(self.worker, about, has_written);
        self.watch.is_slow = true;
    }
}

/// The arguments of a command as FUNCTION STATS shows them.
fn shortened(args: &Args<'_>) -> Vec<Vec<u8>> {
    args.iter().map(<[u8]>::to_vec).collect()
}

impl ScriptHost for Host<'_> {
    fn execute(&mut self, call: &Call<'_>, out: &mut ReplyBuffer) -> Result<(), NeedsShards> {
        self.show(call);
        match call.command.run {
            Run::Shard(_) => return self.execute_on_shards(call, out),
            Run::Session => _ = self.execute_on_session(call, out),
            Run::Script | Run::Container => {
                let text = "ERR This Redis command is not allowed from script";
                ReplyWriter::new(out, call.protocol).error(text);
            }
        }
        Ok(())
    }

    fn select(&mut self, call: &Call<'_>, out: &mut ReplyBuffer) -> Option<u32> {
        self.show(call);
        self.execute_on_session(call, out).then_some(self.session.database)
    }

    fn refusal(&mut self, call: &Call<'_>, allows_oom: bool, has_written: bool) -> Option<String> {
        // One that has written goes on: half a script must not be stopped.
        if has_written {
            return None;
        }
        let flags = call.command.flags;
        if self.watch.is_out_of_memory && !allows_oom && flags.has(flag::DENYOOM) {
            return Some(format!("-{OUT_OF_MEMORY}"));
        }
        let may_fail = self.shared.saves.has_failed() || self.shared.aof.is_failing();
        if !flags.has(flag::WRITE) || !may_fail {
            return None;
        }
        // With the dash: what has none gets a code of its own.
        permit_write(self.shared).err().map(|error| format!("-{error}"))
    }

    fn refused(&mut self, command: Option<&'static Command>, text: &str) {
        let text = text.strip_prefix('-').unwrap_or(text);
        let has_code = text.split(' ').next().is_some_and(|word| word == word.to_uppercase());
        let text = if has_code { text.to_owned() } else { format!("ERR {text}") };
        self.metrics.refused(command, &CommandError::text(text));
    }

    fn verdict(&mut self, has_written: bool) -> Verdict {
        if !self.watch.is_slow {
            let is_due = |limit: Duration| self.watch.since.elapsed() >= limit;
            if !self.watch.threshold.is_some_and(is_due) {
                return Verdict::GoOn;
            }
            self.become_slow(has_written);
        }
        if self.shared.scripts.is_killed(self.worker) {
            let text = match self.watch.is_eval {
                true => "Script killed by user with SCRIPT KILL.",
                false => "Script killed by user with FUNCTION KILL.",
            };
            return Verdict::Fail(text);
        }
        if self.watch.may_wait { Verdict::Wait } else { Verdict::GoOn }
    }

    fn log(&mut self, level: LogLevel, text: &[u8]) {
        write_log(level, text);
    }
}

/// Writes a line of a script to the log.
pub(super) fn write_log(level: LogLevel, text: &[u8]) {
    let text = String::from_utf8_lossy(text);
    match level {
        LogLevel::Debug => tracing::trace!("{text}"),
        LogLevel::Verbose => tracing::debug!("{text}"),
        LogLevel::Notice => tracing::info!("{text}"),
        LogLevel::Warning => tracing::warn!("{text}"),
    }
}

/// What a library has while it is loaded: the log, and little time.
pub(super) struct LoadHost {
    since: Instant,
    limit: Option<Duration>,
}

/// How long FUNCTION LOAD may take, as in Redis.
const LOAD_TIME_MAX: Duration = Duration::from_millis(500);

impl LoadHost {
    /// For FUNCTION LOAD.
    pub(super) fn new() -> Self {
        Self { since: Instant::now(), limit: Some(LOAD_TIME_MAX) }
    }

    /// For a library that has been loaded elsewhere, in time.
    pub(super) fn patient() -> Self {
        Self { since: Instant::now(), limit: None }
    }
}

impl ScriptHost for LoadHost {
    fn execute(&mut self, _: &Call<'_>, _: &mut ReplyBuffer) -> Result<(), NeedsShards> {
        Err(NeedsShards)
    }

    fn verdict(&mut self, _: bool) -> Verdict {
        match self.limit {
            Some(limit) if self.since.elapsed() > limit => Verdict::Fail("FUNCTION LOAD timeout"),
            _ => Verdict::GoOn,
        }
    }

    fn log(&mut self, level: LogLevel, text: &[u8]) {
        write_log(level, text);
    }
}
