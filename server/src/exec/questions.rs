//! Commands of a transaction that ask all workers (INFO, CLIENT LIST).
//!
//! They are decided at their turn in the transaction, and asked in the next cut; the reply of the EXEC
//! waits for the answers ([`Pieces`]).
#![forbid(unsafe_code)]

use std::mem;

use tessera_engine::{command::Command, transaction::ShardId};
use tessera_proto::{Mark, ReplyBuffer, ReplyWriter};

use crate::{
    gather::{Gather, Merge},
    net::{Connection, ConnectionId},
    parcel::{Addressee, CallHeader},
    worker::Worker,
};

/// Whom a question goes to, and what each is asked.
pub(super) type Asks = Vec<(ShardId, Vec<Vec<u8>>)>;

/// A question to workers, asked by a command of a transaction.
pub(crate) struct Question {
    connection: ConnectionId,
    /// The place of the transaction's reply.
    ticket: u64,
    header: CallHeader,
    /// Whom to ask what.
    parts: Asks,
    /// The number of the first part's answer.
    first_part: u32,
}

/// The reply of a transaction that asks all workers: what is there, and what the answers become.
#[derive(Default)]
pub(super) struct Pieces {
    /// For each question: how its answers become a reply, where that stands in the reply, and how
    /// many answers there are.
    questions: Vec<(Merge, Mark, usize)>,
    /// The calls to be sent: whom to ask what.
    calls: Vec<(CallHeader, Asks)>,
}

impl Worker {
    /// Notes a question of a transaction, and that its answer stands at `mark` of the reply.
    pub(super) fn note_question(
        &mut self,
        id: ConnectionId,
        command: &'static Command,
        (parts, merge): (Asks, Merge),
        mark: Mark,
        pieces: &mut Pieces,
    ) {
        if let Some(connection) = self.network.connection(id) {
            let header = CallHeader::new(command, &connection.session);
            pieces.questions.push((merge, mark, parts.len()));
            pieces.calls.push((header, parts));
        }
    }

    /// Lets the questions of a transaction go out with the next cut, and its reply wait for the
    /// answers.
    pub(super) fn ask_later(
        &mut self,
        id: ConnectionId,
        ticket: u64,
        pieces: Pieces,
        answer: &mut ReplyBuffer,
    ) {
        let Pieces { questions, calls } = pieces;
        if questions.is_empty() {
            return;
        }
        let Some(Connection { session, .. }) = self.network.connection(id) else { return };
        let asked: Vec<ShardId> =
            calls.iter().flat_map(|(_, parts)| parts.iter().map(|part| part.0)).collect();
        let (protocol, known) = (session.protocol, mem::take(answer));
        let finish = move |parts: &[ReplyBuffer], reply: &mut ReplyWriter<'_>| {
            let mut from = Mark::default();
            let mut answers = parts;
            for (merge, at, count) in questions {
                reply.buffer_mut().append_range(&known, from..at);
                from = at;
                let (parts, rest) = answers.split_at(count);
                merge.finish(parts, protocol, reply.buffer_mut());
                answers = rest;
            }
            reply.buffer_mut().append_range(&known, from..known.mark());
        };
        let gather = Gather::new(Merge::Custom(Box::new(finish)), protocol, asked.len());
        session.replies.gather_at(ticket, gather.from_shards(asked));
        let mut first_part = 0;
        for (header, parts) in calls {
            let count = parts.len() as u32;
            self.questions.push(Question { connection: id, ticket, header, parts, first_part });
            first_part += count;
        }
    }

    /// Packs the questions of transactions for the next cut, as far as there is room.
    pub(crate) fn pack_later_questions(&mut self) {
        let mut waiting = mem::take(&mut self.questions);
        waiting.retain(|question| {
            let Question { connection, ticket, header, parts, first_part } = question;
            if !parts.iter().all(|(shard, _)| self.outboxes.has_room(*shard)) {
                return true;
            }
            self.pack_later_question((*connection, *ticket), *header, parts, *first_part);
            false
        });
        self.questions = waiting;
    }

    fn pack_later_question(
        &mut self,
        (connection, ticket): (ConnectionId, u64),
        header: CallHeader,
        parts: &[(ShardId, Vec<Vec<u8>>)],
        first_part: u32,
    ) {
        let mut request = mem::take(&mut self.made_up);
        for (part, (shard, args)) in (first_part..).zip(parts) {
            request.clear();
            request.push_slices(args.iter().map(Vec::as_slice));
            if let Some(args) = request.get(0) {
                let to = Addressee { connection, ticket, part };
                self.outboxes.push(*shard, to, header, &args);
            }
        }
        self.made_up = request;
    }
}
