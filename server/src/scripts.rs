//! Scripts and functions at a worker: where they run, how they are suspended and go on.
//!
//! A script runs at its connection's worker. If the keys that it names are on the own shard, it runs
//! there, in its connection's turn; else the shards are lent to this worker (see `loan`), and it is a
//! unit over them. A script that names no key runs over the own shard first.
//!
//! A script that meets a key of a shard that is not here ends; what it has written is undone
//! ([`Undo`]); and it runs once more over all shards. The worker remembers such scripts by name and
//! asks for all shards at once from then on.
//!
//! While a script is suspended (it has run longer than `busy-reply-threshold`), the shards that it
//! runs over stay with it: commands for them wait, or are refused with BUSY, by all workers.
//!
//! Invariants:
//! - one script runs or is suspended at a worker at a time;
//! - nobody sees a shard between the beginning of a script and its end, or its undoing;
//! - a connection whose script is under way executes nothing else until it has ended.
#![forbid(unsafe_code)]

mod host;
mod prepare;
pub mod shared;
mod suspended;

use std::{
    collections::{HashMap, HashSet, VecDeque},
    mem,
    sync::Arc,
    time::{Duration, Instant},
};

use tessera_engine::{
    command::CommandError,
    script::{
        Ended, Invocation, Libraries, Library, Progress, ScriptEngine, ScriptFlags, Sha1Hex, Undo,
        read_metadata,
    },
    transaction::{Missing, ShardSet},
};
use tessera_proto::{Args, ReplyBuffer, ReplyWriter, RequestBatch};

use self::{
    host::{Host, LoadHost, Stage, Watch},
    prepare::{Prepared, Target},
    shared::Busy,
    suspended::{Over, Suspended},
};
use crate::{
    dispatch::Advance,
    exec, monitor,
    net::{Connection, ConnectionId},
    parcel::CallHeader,
    replies::NO_SHARD,
    server::Shared,
    session::{Held, Session},
    worker::Worker,
};

/// Compiled scripts that a worker keeps at most.
const COMPILED_MAX: usize = 1_000;
/// Names of scripts that need all shards which a worker remembers at most.
const WIDE_MAX: usize = 10_000;

/// A worker's scripts.
pub struct Scripts {
    engine: ScriptEngine,
    /// Scripts that are compiled, with what they declare.
    known: HashMap<Sha1Hex, ScriptFlags>,
    /// The same, the oldest first.
    compiled: VecDeque<Sha1Hex>,
    /// How often all scripts had been forgotten when this worker last looked.
    flushes: u64,
    libraries: Arc<Libraries>,
    library_changes: u64,
    /// Scripts and functions that need more shards than they say.
    wide: HashSet<String>,
    undo: Undo,
    session: Box<Session>,
    /// Scratch space for a request.
    request: RequestBatch,
    /// The script that is suspended.
    suspended: Option<Suspended>,
}

/// What has come of a script that was started.
enum Ran {
    Done { watch: Watch, progress: Progress },
    Suspended(Watch),
    NeedsShards,
}

impl Scripts {
    /// No scripts yet.
    pub fn new(seed: u64) -> Self {
        Self {
            engine: ScriptEngine::new(seed),
            known: HashMap::new(),
            compiled: VecDeque::new(),
            flushes: 0,
            libraries: Arc::default(),
            library_changes: 0,
            wide: HashSet::new(),
            undo: Undo::default(),
            session: Box::new(Session::new(0, String::new(), String::new(), 0, true)),
            request: RequestBatch::new(),
            suspended: None,
        }
    }

    /// Whether a script is suspended.
    pub(crate) fn is_suspended(&self) -> bool {
        self.suspended.is_some()
    }

    /// Memory of the Lua states, in bytes: that of EVAL's scripts, and that of functions.
    pub fn used_bytes(&self) -> (usize, usize) {
        self.engine.used_bytes()
    }

    /// Gives back what SCRIPT FLUSH and FUNCTION DELETE have made superfluous since, even if no
    /// script runs here any more.
    pub(crate) fn tidy(&mut self, shared: &Shared) {
        if !self.is_suspended() {
            self.follow_flushes(shared);
            self.follow_libraries(shared);
        }
    }

    /// Runs the code of a library that is to be loaded.
    ///
    /// # Errors
    ///
    /// Why it cannot be loaded.
    pub(crate) fn load_library(&mut self, code: &[u8]) -> Result<Library, CommandError> {
        let error = |text: String| CommandError::text(format!("ERR {text}"));
        if self.is_suspended() {
            return Err(error("a function that runs keeps the engine".into()));
        }
        let metadata = read_metadata(code).map_err(error)?;
        self.engine.load(code, metadata, &mut LoadHost::new()).map_err(error)
    }

    /// The transaction stands still of which a script has been suspended.
    pub(crate) fn keep_transaction(&mut self, transaction: exec::Suspended) {
        if let Some(suspended) = &mut self.suspended {
            suspended.over = Over::Transaction(Some(transaction));
        }
    }

    fn remember_wide(&mut self, name: String) {
        if self.wide.len() >= WIDE_MAX {
            self.wide.clear();
        }
        self.wide.insert(name);
    }
}

impl Worker {
    /// Runs the script that the command at the front of the input asks for, if that can be done here
    /// and now. Answers how the connection goes on if that is not with its next command.
    pub(crate) fn run_script(
        &mut self,
        id: ConnectionId,
        held: Held,
        may_run: bool,
    ) -> Option<Advance> {
        let mut request = mem::take(&mut self.scripts.request);
        let advance = self.run_request(id, held, may_run, &mut request);
        request.clear();
        self.scripts.request = request;
        advance
    }

    fn run_request(
        &mut self,
        id: ConnectionId,
        held: Held,
        may_run: bool,
        request: &mut RequestBatch,
    ) -> Option<Advance> {
        let Connection { input, session, .. } = self.network.connection(id)?;
        request.push(&session.parser.args(input.bytes()));
        let header = CallHeader::new(held.command, session);
        let args = request.get(0)?;
        if self.scripts.is_suspended() {
            return Some(self.hold(id, held, Advance::NextTurn));
        }
        let prepared = match self.scripts.prepare(&self.shared, held.command.name, &args) {
            Ok(prepared) => prepared,
            Err(error) => return Some(self.refuse(id, held, &error)),
        };
        if let Err(error) = prepared.permit_memory(&self.shared) {
            return Some(self.refuse(id, held, &error));
        }
        if self.pause.holds_script(held.command, prepared.target.flags()) {
            return Some(self.hold_paused(id, held));
        }
        let shards = self.shards_of(&prepared, &args);
        let is_own = shards.is_empty() || shards.single() == Some(self.own);
        if !is_own {
            return Some(self.hold(id, held, Advance::Cut));
        }
        if !may_run || !self.shard.is_here() {
            return Some(self.hold(id, held, Advance::NextTurn));
        }
        let peer = self.is_monitored.then(|| session_of(self, id)).flatten().unwrap_or_default();
        let mut answer = self.pool.take();
        let ran = self.start_here(&header, &prepared, (&args, id, &peer), &mut answer);
        self.show_all();
        if matches!(ran, Ran::NeedsShards) {
            self.pool.put(answer);
            return Some(self.hold(id, held, Advance::Cut));
        }
        if let Ran::Done { watch, progress } = &ran {
            self.note_script(Some(id), &header, request, (watch, *progress, &answer));
        }
        let Connection { input, output, session, .. } = self.network.connection(id)?;
        let discard = session.discards_reply();
        input.consume(held.consumed);
        session.note(held.command, self.now_us);
        if let Ran::Suspended(watch) = ran {
            let ticket = session.replies.wait(NO_SHARD, discard);
            let request = mem::take(request);
            let over = Over::Shard(self.shard.lend());
            let name = prepared.target.name();
            let connection = id;
            let suspended =
                Suspended { connection, ticket, header, request, answer, watch, name, over };
            self.scripts.suspended = Some(suspended);
            return Some(Advance::Across);
        }
        if !discard {
            session.replies.sink(output, &mut self.pool).append(&answer);
        }
        self.pool.put(answer);
        None
    }

    /// Leaves a request at the front of the input.
    pub(crate) fn hold(&mut self, id: ConnectionId, held: Held, advance: Advance) -> Advance {
        if let Some(connection) = self.network.connection(id) {
            connection.session.held = Some(Held { is_paused: false, ..held });
        }
        advance
    }

    /// Leaves a request at the front of the input until CLIENT PAUSE has ended.
    pub(crate) fn hold_paused(&mut self, id: ConnectionId, held: Held) -> Advance {
        if let Some(connection) = self.network.connection(id) {
            connection.session.held = Some(Held { is_paused: true, ..held });
        }
        Advance::NextTurn
    }

    /// The shards that a script is known to need; none if any will do.
    fn shards_of(&self, prepared: &Prepared, args: &Args<'_>) -> ShardSet {
        if self.map.shards() == 1 {
            return ShardSet::default();
        }
        if !self.scripts.wide.is_empty() && self.scripts.wide.contains(&prepared.target.name()) {
            return ShardSet::all(self.map.shards());
        }
        let keys = || prepared.keys.clone().map(|at| &args[at]);
        let mut shards: ShardSet = keys().map(|key| self.map.owner(key)).collect();
        shards.extend(self.reached_by_keys(keys()));
        shards
    }

    /// The shards that have to be lent for the script that `args` ask for.
    ///
    /// # Errors
    ///
    /// As the command would answer.
    pub(crate) fn script_shards(
        &mut self,
        held: Held,
        args: &Args<'_>,
    ) -> Result<ShardSet, CommandError> {
        let prepared = self.scripts.prepare(&self.shared, held.command.name, args)?;
        let shards = self.shards_of(&prepared, args);
        Ok(if shards.is_empty() { ShardSet::all(self.map.shards()) } else { shards })
    }

    /// Starts a script over the own shard.
    fn start_here(
        &mut self,
        header: &CallHeader,
        prepared: &Prepared,
        (args, id, client): (&Args<'_>, ConnectionId, &str),
        answer: &mut ReplyBuffer,
    ) -> Ran {
        let mut watch = self.watch_of(prepared, true);
        let lines = self.shown.len();
        if self.is_monitored {
            let line =
                |name| monitor::line(self.now_us, header.database, name, header.command, args);
            self.shown.extend(line(client));
        }
        self.scripts.undo.clear();
        self.shard.begin_unit();
        let about = (&mut watch, Some((prepared, args)));
        let progress = self.with_host(Stage::Own, Some(id), about, |engine, host| {
            start(engine, header, prepared, args, host, answer)
        });
        if progress == Progress::NeedsShards {
            let Self { scripts, shard, .. } = self;
            scripts.undo.roll_back(|_, work| work(&mut *shard));
            self.shown.truncate(lines);
            self.scripts.remember_wide(prepared.target.name());
        }
        if progress != Progress::Suspended {
            self.shard.end_unit();
        }
        self.took(progress, watch)
    }

    /// Starts a script over the shards that are lent.
    fn start_over_loans(
        &mut self,
        header: &CallHeader,
        prepared: &Prepared,
        (args, client): (&Args<'_>, Option<ConnectionId>),
        (answer, may_wait): (&mut ReplyBuffer, bool),
    ) -> Ran {
        let mut watch = self.watch_of(prepared, may_wait);
        let lines = self.shown.len();
        self.scripts.undo.clear();
        let about = (&mut watch, Some((prepared, args)));
        let progress = self.with_host(Stage::Lent, client, about, |engine, host| {
            start(engine, header, prepared, args, host, answer)
        });
        if progress == Progress::NeedsShards {
            let gathered = self.loans.gathered_mut();
            let undo = &mut self.scripts.undo;
            undo.roll_back(|id, work| gathered.get_mut(id).into_iter().for_each(&mut *work));
            self.shown.truncate(lines);
            self.scripts.remember_wide(prepared.target.name());
        }
        self.took(progress, watch)
    }

    fn watch_of(&self, prepared: &Prepared, may_wait: bool) -> Watch {
        let threshold = self.config.get().busy_reply_threshold;
        Watch {
            since: Instant::now(),
            threshold: (threshold > 0).then(|| Duration::from_millis(threshold)),
            is_slow: false,
            may_wait,
            is_eval: matches!(prepared.target, Target::Script(..)),
            commands: 0,
            now_us: self.now_us,
            is_out_of_memory: self.shared.memory.is_exhausted(),
        }
    }

    /// Takes up how far a script has come.
    fn took(&mut self, progress: Progress, watch: Watch) -> Ran {
        match progress {
            Progress::Suspended => return Ran::Suspended(watch),
            Progress::Done(_) | Progress::NeedsShards => {
                if watch.is_slow {
                    self.shared.scripts.end_slow(self.own);
                }
            }
        }
        match progress {
            Progress::NeedsShards => Ran::NeedsShards,
            _ => Ran::Done { watch, progress },
        }
    }

    /// Runs a script as a unit over the shards that are lent. Answers whether it has ended; if not,
    /// it is suspended, and its unit ends when it does.
    ///
    /// # Errors
    ///
    /// It needs more shards; what it has done is undone.
    pub(crate) fn run_script_unit(
        &mut self,
        (connection, ticket): (ConnectionId, u64),
        header: &CallHeader,
        request: &RequestBatch,
        answer: &mut ReplyBuffer,
    ) -> Result<bool, Missing> {
        let Some(args) = request.get(0) else { return Ok(true) };
        if self.scripts.is_suspended() {
            // The one that is suspended keeps the engine.
            let busy = self.shared.scripts.busy().unwrap_or(Busy::Script);
            ReplyWriter::new(answer, header.protocol).error(busy.text());
            return Ok(true);
        }
        let prepared = match self.scripts.prepare(&self.shared, header.command.name, &args) {
            Ok(prepared) => prepared,
            Err(error) => {
                ReplyWriter::new(answer, header.protocol).error(&error.to_string());
                return Ok(true);
            }
        };
        let ran =
            self.start_over_loans(header, &prepared, (&args, Some(connection)), (answer, true));
        self.show_all();
        match ran {
            Ran::Done { watch, progress } => {
                self.note_script(Some(connection), header, request, (&watch, progress, answer));
                Ok(true)
            }
            Ran::NeedsShards => Err(Missing::All),
            Ran::Suspended(watch) => {
                let mut kept = RequestBatch::new();
                kept.push(&args);
                self.scripts.suspended = Some(Suspended {
                    connection,
                    ticket,
                    header: *header,
                    request: kept,
                    answer: mem::take(answer),
                    watch,
                    name: prepared.target.name(),
                    over: Over::Loans,
                });
                Ok(false)
            }
        }
    }

    /// Runs a script within a transaction, over the shards that are lent, which are all that there
    /// are. Answers whether it has ended; if not, it is suspended, and the transaction with it.
    pub(crate) fn run_script_inside(
        &mut self,
        client: Option<(ConnectionId, u64)>,
        header: &CallHeader,
        args: &Args<'_>,
        answer: &mut ReplyBuffer,
    ) -> bool {
        let prepared = self.scripts.prepare(&self.shared, header.command.name, args);
        let permitted = prepared.and_then(|it| it.permit_memory(&self.shared).map(|()| it));
        let prepared = match permitted {
            Ok(prepared) => prepared,
            Err(error) => {
                ReplyWriter::new(answer, header.protocol).error(&error.to_string());
                return true;
            }
        };
        let id = client.map(|(id, _)| id);
        let mut own = self.pool.take();
        let ran =
            self.start_over_loans(header, &prepared, (args, id), (&mut own, client.is_some()));
        let mut request = RequestBatch::new();
        request.push(args);
        match (ran, client) {
            (Ran::Done { watch, progress }, _) => {
                self.note_script(id, header, &request, (&watch, progress, &own));
            }
            (Ran::Suspended(watch), Some((connection, ticket))) => {
                self.scripts.suspended = Some(Suspended {
                    connection,
                    ticket,
                    header: *header,
                    request,
                    answer: own,
                    watch,
                    name: prepared.target.name(),
                    over: Over::Transaction(None),
                });
                return false;
            }
            (Ran::NeedsShards | Ran::Suspended(_), _) => {
                own.clear();
                let text = "ERR a script in a transaction lacks shards";
                ReplyWriter::new(&mut own, header.protocol).error(text);
            }
        }
        answer.append(&own);
        self.pool.put(own);
        true
    }

    /// Counts a script that has ended, and notes it if it was slow.
    fn note_script(
        &mut self,
        client: Option<ConnectionId>,
        header: &CallHeader,
        request: &RequestBatch,
        (watch, progress, answer): (&Watch, Progress, &ReplyBuffer),
    ) {
        if let Some(connection) = client.and_then(|id| self.network.connection(id)) {
            connection.session.commands += watch.commands;
        }
        let nanos = u64::try_from(watch.since.elapsed().as_nanos()).unwrap_or(u64::MAX);
        let ended = if let Progress::Done(ended) = progress { ended } else { Ended::Well };
        let id = usize::from(header.command.id);
        self.metrics.record_call(id, nanos, ended != Ended::Well);
        self.metrics.record_latency(id, nanos);
        if ended == Ended::Failed {
            let text = answer.to_vec();
            let text = text.strip_prefix(b"-").unwrap_or(&text);
            self.metrics.record_error(text.trim_ascii_end());
        }
        if self.watch.is_slow(nanos)
            && let Some(args) = request.get(0)
        {
            self.note_slow(client, header.command, &args, nanos);
        }
        self.stopwatch.start();
    }
}

/// A client's address, for MONITOR.
fn session_of(worker: &mut Worker, id: ConnectionId) -> Option<String> {
    Some(worker.network.connection(id)?.session.peer.clone())
}

/// Starts a script.
fn start(
    engine: &mut ScriptEngine,
    header: &CallHeader,
    prepared: &Prepared,
    args: &Args<'_>,
    host: &mut Host<'_>,
    answer: &mut ReplyBuffer,
) -> Progress {
    let all: smallvec::SmallVec<[&[u8]; 16]> = args.iter().collect();
    let invocation = Invocation {
        keys: &all[prepared.keys.clone()],
        arguments: &all[prepared.keys.end..],
        database: header.database,
        protocol: header.protocol,
        no_touch: header.no_touch,
        caller: header.caller,
        is_read_only: prepared.is_read_only,
    };
    match &prepared.target {
        Target::Script(sha, flags) => engine.eval((*sha, *flags), &invocation, host, answer),
        Target::Function(library, function) => {
            let loaded = engine.prepare_library(library, &mut LoadHost::patient());
            if let Err(text) = loaded {
                ReplyWriter::new(answer, header.protocol).error(&format!("ERR {text}"));
                return Progress::Done(Ended::Failed);
            }
            engine.call((library, function), &invocation, host, answer)
        }
    }
}
