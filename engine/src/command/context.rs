//! What a command works with while it runs.
#![forbid(unsafe_code)]

use tessera_proto::ReplyWriter;

use crate::{
    keyspace::{Keyspace, events::Class},
    shard::Settings,
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
}

impl Context<'_> {
    /// Reports that `name` happened to `key`, for clients that listen to keyspace notifications.
    /// Without any, this costs one comparison.
    #[inline]
    pub fn notify(&mut self, class: Class, name: &'static str, key: &[u8]) {
        self.keyspace.notify(class, name, key);
    }
}
