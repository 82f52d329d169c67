//! What can be said against a request before it executes, and where it goes if there is nothing.
#![forbid(unsafe_code)]

use tessera_engine::command::{Command, CommandError, table::flag};
use tessera_proto::Args;

use super::InPlace;
use crate::{
    pause::Pause,
    route::Route,
    session::{Held, Session},
    session_commands,
};

impl InPlace<'_> {
    /// Everything that can be said against a request before it runs.
    #[inline]
    pub(super) fn check(
        &mut self,
        session: &Session,
        args: &Args<'_>,
    ) -> Result<(&'static Command, Route), (Option<&'static Command>, CommandError)> {
        let command = match self.commands.resolve(args) {
            Ok(command) => command,
            Err(error) => return Err((self.commands.find(&args[0]), error)),
        };
        if !session.authenticated
            && !command.flags.has(flag::NO_AUTH)
            && self.shared.wants_password()
        {
            let error = CommandError::text("NOAUTH Authentication required.");
            return Err((Some(command), error));
        }
        if session.is_confined
            && let Err(error) = session_commands::pubsub::permit_confined(command)
        {
            return Err((Some(command), error));
        }
        if command.flags.has(self.care)
            && let Err(error) = session_commands::permit(command, self.shared, session.is_local)
        {
            return Err((Some(command), error));
        }
        if (self.is_loading || self.busy.is_some())
            && let Some(error) = self.hold_up(command)
        {
            return Err((Some(command), error));
        }
        if session.queue.is_some() {
            return check_in_multi(command).map_err(|error| (Some(command), error));
        }
        match self.map.route(command, args, self.positions) {
            Ok(route) => Ok((command, self.by_couplings(command, args, route))),
            Err(error) => Err((Some(command), error)),
        }
    }

    /// Where a command goes that would go to `route` if no keys were coupled.
    #[inline]
    fn by_couplings(&mut self, command: &Command, args: &Args<'_>, route: Route) -> Route {
        let Some(couplings) = self.couplings else { return route };
        couplings.route(self.map, (command, args, route), self.splitter, self.positions)
    }

    /// A request that was routed before: since then, its keys may have been coupled.
    #[inline]
    pub(super) fn routed_again(&mut self, session: &Session, bytes: &[u8], held: Held) -> Held {
        if self.couplings.is_none() {
            return held;
        }
        let args = session.parser.args(bytes);
        Held { route: self.by_couplings(held.command, &args, held.route), ..held }
    }

    /// Why a command is refused while a script runs too long, or data is loaded.
    #[cold]
    fn hold_up(&self, command: &Command) -> Option<CommandError> {
        if let Some(busy) = self.busy
            && !command.flags.has(flag::ALLOW_BUSY)
        {
            return Some(CommandError::text(busy.text()));
        }
        let is_refused = self.is_loading && !command.flags.has(flag::LOADING);
        is_refused.then(|| CommandError::text("LOADING Redis is loading the dataset in memory"))
    }

    /// Whether the request that was parsed last, in `bytes`, waits for the end of a pause.
    #[inline]
    pub(super) fn is_held_up(&self, session: &Session, held: &Held, bytes: &[u8]) -> bool {
        match self.pause {
            Pause::Off => false,
            Pause::Uncaptured => self.would_preserve(session, held, bytes),
            pause => pause.holds(held.command),
        }
    }

    /// Whether the request would change what a save, which has too much to preserve already, has not
    /// captured yet. Of other shards it is not known what is captured, so their budget decides.
    #[cold]
    fn would_preserve(&self, session: &Session, held: &Held, bytes: &[u8]) -> bool {
        match held.route {
            _ if !self.pause.holds(held.command) => false,
            Route::Shard(shard) if !self.is_over_budget(shard) => false,
            Route::Shard(shard) if shard == self.own && self.shard.is_here() => {
                let args = session.parser.args(bytes);
                let mut positions = Vec::new();
                let found = held.command.keys.positions(&args, &mut positions);
                let (database, keyspace) = (session.database as usize, &self.shard.keyspace);
                let is_lacking = |&at: &usize| keyspace.is_to_be_captured(database, &args[at]);
                found.is_err() || positions.iter().any(is_lacking)
            }
            _ => true,
        }
    }

    /// Whether `shard` has more to preserve for a save than it may.
    fn is_over_budget(&self, shard: u32) -> bool {
        let is_own = shard == self.own && self.shard.is_here();
        let is_full = |max: usize| is_own && self.shard.keyspace.preserved_bytes() >= max;
        self.preserve_bytes_max.is_some_and(is_full) || self.shared.saves.is_over_budget(shard)
    }
}

/// What a refusal does to a connection in MULTI: EXEC will fail, and if it is EXEC itself that was
/// refused (BUSY, LOADING), the transaction is over; it says so outside of MULTI too, as in Redis.
/// Answers the error for the client.
pub(super) fn refused_in_multi(
    session: &mut Session,
    command: Option<&'static Command>,
    error: CommandError,
) -> CommandError {
    if command.is_none_or(|command| command.full_name != "exec") {
        if let Some(queue) = &mut session.queue {
            queue.abort();
        }
        return error;
    }
    (session.queue, session.watch) = (None, None);
    let text = error.to_string();
    let reason = text.strip_prefix("ERR ").unwrap_or(&text);
    CommandError::text(format!("EXECABORT Transaction discarded because of: {reason}"))
}

/// What can be said against a command of a connection in MULTI; it is not routed before EXEC.
#[cold]
fn check_in_multi(command: &'static Command) -> Result<(&'static Command, Route), CommandError> {
    if command.flags.has(flag::NO_MULTI) {
        return Err(CommandError::text("ERR Command not allowed inside a transaction"));
    }
    Ok((command, Route::Session))
}
