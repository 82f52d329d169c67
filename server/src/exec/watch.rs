//! WATCH: the shards of the keys remember who watches them.
//!
//! It goes through a cut like everything over several shards: all keys are watched from one instant on,
//! and the OK stands behind that. What the shards remember is a mark that they set when a key changes
//! (`tessera_engine::keyspace::watch`); the connection keeps it with the names of the keys
//! (`tessera_engine::transaction::exec`), and takes both to EXEC.
#![forbid(unsafe_code)]

use tessera_engine::transaction::ShardSet;
use tessera_proto::{Args, ReplyWriter, RequestBatch};

use crate::{
    dispatch::Advance,
    gather::{Count, Gather, Merge},
    monitor,
    net::{Connection, ConnectionId},
    parcel::{Addressee, Attachment, CallHeader},
    session::Held,
    worker::Worker,
};

impl Worker {
    /// WATCH in the second half of a round.
    pub(crate) fn run_watch(&mut self, id: ConnectionId, held: Held, _: bool) -> Option<Advance> {
        Some(self.hold(id, held, Advance::Cut))
    }

    /// WATCH on its way into a cut.
    pub(crate) fn pack_watch(&mut self, id: ConnectionId, held: Held) -> Option<Advance> {
        let connection = self.network.connection(id)?;
        let Connection { input, session, .. } = connection;
        let args = session.parser.args(input.bytes());
        let (ticket, header) =
            (session.replies.next_ticket(), CallHeader::of_part(held.command, session));
        let watch = session.watch.get_or_insert_default();
        let mut fresh = RequestBatch::new();
        fresh.add(&args, 0);
        let mut keys = ShardSet::default();
        let is_dirty = watch.is_dirty();
        for key in args.iter().skip(1) {
            keys.insert(self.map.owner(key));
        }
        if !keys.iter().all(|shard| self.outboxes.has_room(shard)) {
            return Some(Advance::NoCredit);
        }
        // One that is dirty already can only fail.
        for key in args.iter().skip(1).filter(|_| !is_dirty) {
            if watch.add(session.database, key) {
                fresh.add_slice(key);
            }
        }
        fresh.end_request();
        let mut parts = 0;
        if let Some(args) = fresh.get(0).filter(|args| args.len() > 1) {
            let (outboxes, watcher) = (&mut self.outboxes, watch.watcher().clone());
            let mut give = |shard, args: &Args<'_>| {
                let to = Addressee { connection: id, ticket, part: parts };
                let attachment = Attachment::Watcher(watcher.clone());
                outboxes.push(shard, to, header, args);
                outboxes.attach(shard, attachment);
                parts += 1;
            };
            self.splitter.split_keys(self.map, header.command, &args, &mut give);
        }
        let line = self.is_monitored.then(|| {
            let args = session.parser.args(input.bytes());
            monitor::line(self.now_us, session.database, &session.peer, held.command, &args)
        });
        input.consume(held.consumed);
        let discard = session.discards_reply();
        session.note(held.command, self.now_us);
        if parts > 0 {
            let gather = Gather::new(Merge::AllOk, session.protocol, parts as usize);
            let gather = gather.counted(Count::begun(held.command, 0));
            session.replies.gather(gather, discard);
            self.show_if_any(line);
            return None;
        }
        self.metrics.executed(held.command, 0, None);
        if !discard {
            let Connection { output, session, .. } = connection;
            let protocol = session.protocol;
            let out = session.replies.sink(output, &mut self.pool);
            ReplyWriter::new(out, protocol).ok();
        }
        self.show_if_any(line);
        None
    }
}
