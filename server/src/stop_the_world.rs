//! What the server itself does over all shards while every worker stands still: DEBUG RELOAD, and the
//! save at the server's end (SHUTDOWN and signals).
//!
//! All shards are lent to one worker (see `loan`), so it is one step at one instant, however long it
//! takes to write or read the whole file.
//!
//! Invariant: without a log, nobody gets a shard back after the save at the end. So nothing is
//! acknowledged that the file does not hold.
#![forbid(unsafe_code)]

use std::io;

use tessera_engine::{
    command::CommandError, persist::rdb::Collision, script::Libraries, transaction::ShardSet,
};
use tessera_proto::{Args, ReplyBuffer, ReplyWriter};

use crate::{
    dispatch::Advance,
    libraries,
    loading::at_once::GatheredLoad,
    loan::Work,
    net::{Connection, ConnectionId},
    replies::NO_SHARD,
    saving::{self, Why, at_once::save_at_once, drive::NOBODY},
    session::Held,
    session_commands::{After, PART_PROTOCOL},
    worker::Worker,
};

/// What is done while the world stands still.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum StopTheWorld {
    /// DEBUG RELOAD.
    Reload(Reload),
    /// The keys are saved, and then the server ends.
    SaveAndStop {
        /// Also if they cannot be saved.
        is_forced: bool,
    },
}

/// The options of DEBUG RELOAD.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Reload {
    saves: bool,
    flushes: bool,
    collision: Collision,
}

impl Reload {
    fn parse(args: &Args<'_>) -> Result<Self, CommandError> {
        let mut reload = Self { saves: true, flushes: true, collision: Collision::Refuse };
        for option in args.iter().skip(2) {
            match option.to_ascii_lowercase().as_slice() {
                b"nosave" => reload.saves = false,
                b"noflush" => reload.flushes = false,
                b"merge" => reload.collision = Collision::Replace,
                _ => {
                    return Err(CommandError::text(
                        "ERR DEBUG RELOAD only supports the MERGE, NOFLUSH and NOSAVE options.",
                    ));
                }
            }
        }
        Ok(reload)
    }
}

/// What a client reads whose SHUTDOWN fails.
const CANNOT_EXIT: &str = "ERR Errors trying to SHUTDOWN. Check logs.";

/// How SHUTDOWN is meant.
struct Shutdown {
    saves: bool,
    is_forced: bool,
}

impl Shutdown {
    /// SHUTDOWN [NOSAVE | SAVE] [NOW] [FORCE] [ABORT]. `saves_at_end`: it saves also without a word
    /// about it.
    fn parse(args: &Args<'_>, saves_at_end: bool) -> Result<Self, CommandError> {
        let options: Vec<Vec<u8>> = args.iter().skip(1).map(<[u8]>::to_ascii_lowercase).collect();
        let has = |wanted: &[u8]| options.iter().any(|option| option == wanted);
        let known: [&[u8]; 5] = [b"nosave", b"save", b"now", b"force", b"abort"];
        let is_known = options.iter().all(|option| known.contains(&option.as_slice()));
        if !is_known || (has(b"abort") && options.len() > 1) || (has(b"save") && has(b"nosave")) {
            return Err(CommandError::Syntax);
        }
        if has(b"abort") {
            return Err(CommandError::text("ERR No shutdown in progress."));
        }
        let saves = has(b"save") || (saves_at_end && !has(b"nosave"));
        Ok(Self { saves, is_forced: has(b"force") })
    }
}

impl Worker {
    /// DEBUG RELOAD in a round: it goes through a cut.
    pub(crate) fn run_reload(&mut self, id: ConnectionId, held: Held, _: bool) -> Option<Advance> {
        Some(self.hold(id, held, Advance::Cut))
    }

    /// DEBUG RELOAD on its way into a cut.
    pub(crate) fn pack_reload(&mut self, id: ConnectionId, held: Held) -> Option<Advance> {
        let Connection { input, session, .. } = self.network.connection(id)?;
        match Reload::parse(&session.parser.args(input.bytes())) {
            Ok(reload) => self.pack_stop_the_world(id, held, StopTheWorld::Reload(reload)),
            Err(error) => Some(self.refuse(id, held, &error)),
        }
    }

    /// SHUTDOWN in a round: it ends the server at once, or goes through a cut to save first.
    pub(crate) fn run_shutdown(
        &mut self,
        id: ConnectionId,
        held: Held,
        _: bool,
    ) -> Option<Advance> {
        match self.shutdown_wanted(id)? {
            Err(error) => Some(self.refuse(id, held, &error)),
            Ok(Shutdown { is_forced: false, .. }) if self.shared.aof.is_beginning() => {
                tracing::warn!("Writing initial AOF, can't exit");
                Some(self.refuse(id, held, &CommandError::text(CANNOT_EXIT)))
            }
            Ok(Shutdown { saves: true, .. }) => Some(self.hold(id, held, Advance::Cut)),
            Ok(Shutdown { saves: false, .. }) => {
                tracing::warn!("User requested shutdown...");
                let connection = self.network.connection(id)?;
                connection.input.consume(held.consumed);
                self.shared.stop.shutdown().request();
                self.wake_all();
                // Redis answers nothing to a SHUTDOWN that succeeds: the connection just ends.
                Some(Advance::Finished)
            }
        }
    }

    /// SHUTDOWN on its way into a cut.
    pub(crate) fn pack_shutdown(&mut self, id: ConnectionId, held: Held) -> Option<Advance> {
        match self.shutdown_wanted(id)? {
            Ok(Shutdown { saves: true, is_forced }) => {
                self.pack_stop_the_world(id, held, StopTheWorld::SaveAndStop { is_forced })
            }
            // Answered in a round.
            Ok(_) | Err(_) => Some(Advance::NextRound),
        }
    }

    fn shutdown_wanted(&mut self, id: ConnectionId) -> Option<Result<Shutdown, CommandError>> {
        let saves_at_end = self.saves_at_end();
        let is_loading = self.shared.loading.is_active();
        let Connection { input, session, .. } = self.network.connection(id)?;
        let wanted = Shutdown::parse(&session.parser.args(input.bytes()), saves_at_end);
        // Half of a file must not take the place of the whole.
        Some(wanted.map(|wanted| Shutdown { saves: wanted.saves && !is_loading, ..wanted }))
    }

    /// Lets work over all shards go into the next cut.
    fn pack_stop_the_world(
        &mut self,
        id: ConnectionId,
        held: Held,
        work: StopTheWorld,
    ) -> Option<Advance> {
        let shards = ShardSet::all(self.map.shards());
        if self.loans.is_under_way() {
            return Some(Advance::NoLoan);
        }
        if !self.outboxes.may_borrow(shards) {
            return Some(Advance::NoCredit);
        }
        let Connection { input, session, .. } = self.network.connection(id)?;
        let discard = session.discards_reply();
        let ticket = session.replies.wait(NO_SHARD, discard);
        input.consume(held.consumed);
        session.note(held.command, self.now_us);
        self.promise_unit(id, ticket, shards, Work::StopTheWorld(work));
        Some(Advance::Across)
    }

    /// A signal has asked the server to end: it does, or saves first if there are save points.
    pub(crate) fn heed_signal(&mut self) {
        if self.has_heeded_signal || !self.shared.stop.signal().is_requested() {
            return;
        }
        let shards = ShardSet::all(self.map.shards());
        if !self.saves_at_end() {
            self.has_heeded_signal = true;
            self.shared.stop.shutdown().request();
            self.wake_all();
        } else if !self.loans.is_under_way() && self.outboxes.may_borrow(shards) {
            self.has_heeded_signal = true;
            let work = StopTheWorld::SaveAndStop { is_forced: false };
            self.promise_unit(NOBODY, 0, shards, Work::StopTheWorld(work));
        }
    }

    /// Whether the server saves when it ends and nobody says whether it should: if there are save
    /// points, and no log that holds everything (one that was just turned on does not yet).
    fn saves_at_end(&self) -> bool {
        !self.config.get().save.is_empty()
            && !self.shared.loading.is_active()
            && !self.shared.aof.is_complete()
    }

    /// Does work over all shards, which are here.
    pub(crate) fn execute_stop_the_world(
        &mut self,
        work: StopTheWorld,
        answer: &mut ReplyBuffer,
    ) -> After {
        let mut reply = |text: Option<&str>| {
            let mut reply = ReplyWriter::new(answer, PART_PROTOCOL);
            match text {
                None => reply.ok(),
                Some(text) => reply.error(text),
            }
        };
        match work {
            StopTheWorld::Reload(reload) => reply(self.reload(reload).err()),
            StopTheWorld::SaveAndStop { is_forced } => {
                tracing::warn!("Saving the final RDB snapshot before exiting.");
                if self.save_all().is_err() && !is_forced {
                    tracing::warn!("Error trying to save the DB, can't exit.");
                    self.shared.stop.signal().withdraw();
                    self.has_heeded_signal = false;
                    reply(Some(CANNOT_EXIT));
                    return After::GoOn;
                }
                if self.shared.aof.is_on() {
                    // What comes yet is in the log, whose end is waited for.
                    self.shared.stop.shutdown().request();
                } else {
                    self.shared.stop.finish();
                }
                self.wake_all();
                return After::Close;
            }
        }
        After::GoOn
    }

    /// Saves all shards, which are here.
    fn save_all(&mut self) -> io::Result<()> {
        let plan = saving::plan(&self.shared, Why::Asked);
        let gathered = self.loans.gathered_mut();
        let changes = gathered.iter_mut().map(|(_, shard)| shard.changes()).sum();
        let saved = save_at_once(&plan, &libraries::in_rdb_form(&self.shared), gathered);
        match &saved {
            Ok(()) => {
                tracing::info!("DB saved on disk");
                self.shared.saves.note_at_once(plan.began_at_s, changes);
            }
            Err(error) => tracing::warn!("Write error saving DB on disk: {error}"),
        }
        saved
    }

    /// DEBUG RELOAD; what the client reads if it fails.
    fn reload(&mut self, reload: Reload) -> Result<(), &'static str> {
        if reload.saves {
            self.save_all().map_err(|_| "ERR")?;
        }
        let plan = saving::plan(&self.shared, Why::Asked);
        let path = plan.directory.join(&plan.name);
        let gathered = self.loans.gathered_mut();
        if reload.flushes {
            for (_, shard) in gathered.iter_mut() {
                let databases = 0..shard.keyspace.database_count();
                databases.for_each(|database| _ = shard.keyspace.flush(database));
            }
        }
        let mut load = GatheredLoad::new(&path, plan.options.checksum, reload.collision);
        let loaded = loop {
            match load.step(gathered) {
                Ok(false) => {}
                Ok(true) => break Ok(()),
                Err(error) => break Err(error),
            }
        };
        if reload.flushes {
            // Without an error, as it fails for none.
            let _ = self.shared.scripts.change_libraries(|_| Ok::<_, ()>(Libraries::default()));
        }
        let functions = load.take_functions();
        let loaded = loaded
            .and_then(|()| functions.iter().try_for_each(|code| self.load_function(code, true)));
        // Also if that has failed half-way: the log says what is there.
        libraries::record_everything(self.loans.gathered_mut(), &self.shared);
        loaded.map_err(|error| {
            tracing::warn!("DEBUG RELOAD: {}: {error}", path.display());
            "ERR Error trying to load the RDB dump, check server logs."
        })?;
        tracing::warn!("DB reloaded by DEBUG RELOAD");
        Ok(())
    }

    /// Wakes all workers.
    fn wake_all(&self) {
        (0..self.shared.workers).for_each(|worker| self.shared.board.bell(worker).ring());
    }
}
