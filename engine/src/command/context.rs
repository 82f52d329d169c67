//! What a command works with while it runs: its keyspace, its reply, and ways to tell what it does.
#![forbid(unsafe_code)]

use bytes::Bytes;
use tessera_proto::ReplyWriter;

use super::Settings;
use crate::{
    journal::record::Draft,
    keyspace::{Keyspace, events::Class},
    notice::audience::Kind,
    sys::random::Random,
};

/// A running command's surroundings. The fields are apart, so that an entry borrowed from the
/// keyspace and the reply can be used together.
pub struct Context<'a> {
    /// The shard's keys; the connection's database is selected and the time is set.
    pub keyspace: &'a mut Keyspace,
    /// Where the reply goes.
    pub reply: ReplyWriter<'a>,
    /// The limits and thresholds that the configuration sets.
    pub settings: &'a Settings,
    /// The shard's random numbers.
    pub random: &'a mut Random,
    /// Whether the command may wait for data (see [`Effect::Waits`](super::Effect::Waits)).
    pub may_wait: bool,
    /// Whether a script has called the command.
    pub is_script: bool,
}

impl Context<'_> {
    /// Reports that `name` happened to `key`: the one signal that a key has changed. WATCH, client
    /// tracking, waiting clients and keyspace notifications hang on it. With nobody listening it costs
    /// one comparison.
    #[inline]
    pub fn notify(&mut self, class: Class, name: &'static str, key: &[u8]) {
        self.keyspace.notify(class, name, key);
    }

    /// Publishes `payload` on `channel`, one of this shard's; answers how many clients receive it.
    /// They do so when the unit that runs is over: the command, EXEC or the script.
    pub fn publish(&mut self, kind: Kind, channel: &Bytes, payload: &Bytes) -> usize {
        self.keyspace.publish(kind, channel, payload)
    }

    /// Whether effects are recorded: a record whose making costs something is made only then.
    #[inline]
    pub fn records(&self) -> bool {
        self.keyspace.journal.is_on()
    }

    /// Records `arguments`, a command with its name first, as what this command has done, in place
    /// of its own arguments; several calls make several records, in this order.
    ///
    /// For commands whose own arguments would not do the same to the same keys at another time or
    /// with other random numbers. Call it behind everything that may fail, and answer
    /// [`Effect::Changed`](super::Effect); while nothing is recorded it costs one comparison.
    #[inline]
    pub fn record(&mut self, arguments: &[&[u8]]) {
        self.keyspace.record(arguments);
    }

    /// Records that `key` has the deadline `at_ms`, in Unix milliseconds, as what was done.
    pub fn record_deadline(&mut self, key: &[u8], at_ms: i64) {
        if self.records() {
            self.record(&[b"PEXPIREAT", key, itoa::Buffer::new().format(at_ms).as_bytes()]);
        }
    }

    /// A record that is put together argument by argument; it stays empty while nothing is
    /// recorded.
    pub fn draft(&mut self, name: &'static str) -> Draft {
        self.keyspace.journal.draft(name)
    }

    /// Records a draft as [`record`](Self::record) does.
    pub fn record_draft(&mut self, draft: Draft) {
        let database = self.keyspace.selected();
        self.keyspace.journal.record_draft(database, draft);
    }
}
