//! Scripts that are suspended: where they stand, and how they go on.
#![forbid(unsafe_code)]

use tessera_engine::{script::Progress, shard::Shard};
use tessera_proto::{Mark, ReplyBuffer, RequestBatch};

use super::host::{Stage, Watch};
use crate::{exec, net::ConnectionId, parcel::CallHeader, worker::Worker};

/// A script that has been suspended.
pub(super) struct Suspended {
    pub(super) connection: ConnectionId,
    pub(super) ticket: u64,
    pub(super) header: CallHeader,
    pub(super) request: RequestBatch,
    pub(super) answer: ReplyBuffer,
    pub(super) watch: Watch,
    /// Its SHA1, or the function's name.
    pub(super) name: String,
    pub(super) over: Over,
}

/// What a script that is suspended runs over.
pub(super) enum Over {
    /// The own shard alone.
    Shard(Option<Box<Shard>>),
    /// Shards that are lent.
    Loans,
    /// Those of the transaction that it is a part of, which is told to it when it stands still too.
    Transaction(Option<exec::Suspended>),
}

impl Worker {
    /// Goes on with the script that is suspended, for a while.
    pub(crate) fn resume_script(&mut self) {
        let Some(mut suspended) = self.scripts.suspended.take() else { return };
        let progress = self.resume_over(&mut suspended);
        self.show_all();
        match progress {
            Progress::Suspended => self.scripts.suspended = Some(suspended),
            Progress::Done(_) | Progress::NeedsShards => self.end_script(suspended, progress),
        }
    }

    fn resume_over(&mut self, suspended: &mut Suspended) -> Progress {
        let Suspended { connection, watch, answer, over, .. } = suspended;
        let stage = match over {
            Over::Shard(Some(shard)) => Stage::Kept(shard),
            Over::Transaction(Some(rest)) => rest.alone_mut().map_or(Stage::Lent, Stage::Alone),
            _ => Stage::Lent,
        };
        self.with_host(stage, Some(*connection), (watch, None), |engine, host| {
            engine.resume(host, answer)
        })
    }

    /// A suspended script has ended: its connection gets the reply and goes on, and so does all that
    /// has waited for its shards.
    fn end_script(&mut self, suspended: Suspended, progress: Progress) {
        self.shared.scripts.end_slow(self.own);
        let Suspended { connection, ticket, header, request, answer, watch, name, over } =
            suspended;
        if progress != Progress::NeedsShards {
            let ended = (&watch, progress, &answer);
            self.note_script(Some(connection), &header, &request, ended);
        }
        let is_over_loans = matches!(over, Over::Loans);
        let over = match over {
            Over::Transaction(Some(rest)) => {
                self.resume_transaction(rest, &answer);
                return self.pool.put(answer);
            }
            over => over,
        };
        if progress == Progress::NeedsShards {
            self.undo_script(over, name);
            self.pool.put(answer);
            self.start_over_with_all((connection, ticket), header, request);
        } else {
            self.give_back(over);
            let whole = Mark::default()..answer.mark();
            self.arrive(connection, ticket, 0, (&answer, whole));
            self.pool.put(answer);
            self.let_go_on(connection);
        }
        if is_over_loans {
            self.execute_units();
        } else {
            self.serve_waiting();
        }
    }

    /// Takes back what a script has written that starts over with all shards.
    fn undo_script(&mut self, mut over: Over, name: String) {
        if let Over::Shard(Some(shard)) = &mut over {
            self.scripts.undo.roll_back(|_, work| work(shard));
        } else {
            let gathered = self.loans.gathered_mut();
            let undo = &mut self.scripts.undo;
            undo.roll_back(|id, work| gathered.get_mut(id).into_iter().for_each(&mut *work));
        }
        self.give_back(over);
        self.scripts.remember_wide(name);
    }

    /// Gives the own shard back that a script has run over.
    fn give_back(&mut self, over: Over) {
        if let Over::Shard(Some(mut shard)) = over {
            shard.end_unit();
            self.put_back(shard);
        }
    }
}
