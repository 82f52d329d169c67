//! Commands on streams.
//!
//! Unlike other collections a stream stays when its last entry goes, so it is reached by functions
//! of its own ([`read`], [`update`], [`update_or_create`]). What a command does to a group is
//! recorded entry by entry ([`record`]), since its own arguments would do something else at another
//! time.
#![forbid(unsafe_code)]

mod add;
mod claim;
mod entries;
mod fetch;
mod group;
mod ids;
mod info;
mod long;
mod pending;
mod record;
#[cfg(test)]
mod tests;
pub(crate) mod wait;

use super::{collection::reply_element, keys::Place, prelude::*};
use crate::{
    keyspace::{Body, Deadline, Keyspace, NewBody, Slot},
    types::{
        Stream, StreamId,
        stream::{Entries, Entry},
    },
    value::Object,
};
use add::{xadd, xtrim};
use claim::{xautoclaim, xclaim};
use entries::{xdel, xlen, xrange, xrevrange, xsetid};
use fetch::{stream_keys, xread, xreadgroup};
use group::{
    xack, xgroup_create, xgroup_createconsumer, xgroup_delconsumer, xgroup_destroy, xgroup_help,
    xgroup_setid,
};
use info::{xinfo_consumers, xinfo_groups, xinfo_help, xinfo_stream};
use pending::xpending;

const READ: KeySpec = KeySpec::FIRST.used(Access::RO.with(Access::ACCESS));
const LOOK: KeySpec = KeySpec::FIRST.used(Access::RO);
const UPDATE: KeySpec = KeySpec::FIRST.used(Access::RW.with(Access::UPDATE));
const DELETE: KeySpec = KeySpec::FIRST.used(Access::RW.with(Access::DELETE));
const STREAMS: KeySpec =
    KeySpec::at(Place::Custom(stream_keys)).used(Access::RO.with(Access::ACCESS));
const GROUP_READ: KeySpec = KeySpec::SECOND.used(Access::RO.with(Access::ACCESS));
const GROUP_INSERT: KeySpec = KeySpec::SECOND.used(Access::RW.with(Access::INSERT));
const GROUP_UPDATE: KeySpec = KeySpec::SECOND.used(Access::RW.with(Access::UPDATE));
const GROUP_DELETE: KeySpec = KeySpec::SECOND.used(Access::RW.with(Access::DELETE));

commands! { Stream;
    /// Acknowledges entries: they are pending no longer.
    "xack" "5.0.0", AtLeast(4), WRITE | FAST, UPDATE, Owner, xack;
    /// Adds an entry.
    "xadd" "5.0.0", AtLeast(5), WRITE | DENYOOM | FAST, UPDATE, Owner, xadd;
    /// Gives entries that have been pending for long to another consumer.
    "xautoclaim" "6.2.0", AtLeast(6), WRITE | FAST, DELETE, Owner, xautoclaim;
    /// Gives pending entries to another consumer.
    "xclaim" "5.0.0", AtLeast(6), WRITE | FAST, UPDATE, Owner, xclaim;
    /// Deletes entries.
    "xdel" "5.0.0", AtLeast(3), WRITE | FAST, DELETE, Owner, xdel;
    /// Commands about the groups of a stream.
    "xgroup" "5.0.0", AtLeast(2), NONE, KeySpec::NONE, Session, [
        /// Creates a group.
        "create" "5.0.0", AtLeast(5), WRITE | DENYOOM, GROUP_INSERT, Owner, xgroup_create;
        /// Creates a consumer in a group.
        "createconsumer" "6.2.0", Exactly(5), WRITE | DENYOOM, GROUP_INSERT, Owner, xgroup_createconsumer;
        /// Removes a consumer from its group.
        "delconsumer" "5.0.0", Exactly(5), WRITE, GROUP_DELETE, Owner, xgroup_delconsumer;
        /// Removes a group.
        "destroy" "5.0.0", Exactly(4), WRITE, GROUP_DELETE, Owner, xgroup_destroy;
        /// Lists the subcommands.
        "help" "5.0.0", Exactly(2), LOADING | STALE, KeySpec::NONE, Owner, xgroup_help;
        /// Sets the entry behind which a group reads on.
        "setid" "5.0.0", AtLeast(5), WRITE, GROUP_UPDATE, Owner, xgroup_setid;
    ];
    /// Commands that tell about streams.
    "xinfo" "5.0.0", AtLeast(2), NONE, KeySpec::NONE, Session, [
        /// Lists the consumers of a group.
        "consumers" "5.0.0", Exactly(4), READONLY, GROUP_READ, Owner, xinfo_consumers;
        /// Lists the groups of a stream.
        "groups" "5.0.0", Exactly(3), READONLY, GROUP_READ, Owner, xinfo_groups;
        /// Lists the subcommands.
        "help" "5.0.0", Exactly(2), LOADING | STALE, KeySpec::NONE, Owner, xinfo_help;
        /// Answers figures about a stream.
        "stream" "5.0.0", AtLeast(3), READONLY, GROUP_READ, Owner, xinfo_stream;
    ];
    /// Answers the number of entries.
    "xlen" "5.0.0", Exactly(2), READONLY | FAST, LOOK, Owner, xlen;
    /// Answers what a group's consumers have not acknowledged.
    "xpending" "5.0.0", AtLeast(3), READONLY, READ, Owner, xpending;
    /// Answers the entries of a range of ids.
    "xrange" "5.0.0", AtLeast(4), READONLY, READ, Owner, xrange;
    /// Answers the entries behind given ids of several streams, and waits for some if it must.
    "xread" "5.0.0", AtLeast(4), BLOCKING | READONLY | MOVABLE_KEYS, STREAMS, Waiting, xread;
    /// Answers what a group has not read of several streams, or what a consumer has not acknowledged.
    "xreadgroup" "5.0.0", AtLeast(7), BLOCKING | WRITE | MOVABLE_KEYS, STREAMS, Waiting, xreadgroup;
    /// Answers the entries of a range of ids, the last first.
    "xrevrange" "5.0.0", AtLeast(4), READONLY, READ, Owner, xrevrange;
    /// Sets what a stream remembers of its ids.
    "xsetid" "5.0.0", AtLeast(3), WRITE | DENYOOM | FAST, UPDATE, Owner, xsetid;
    /// Removes the oldest entries.
    "xtrim" "5.0.0", AtLeast(4), WRITE, DELETE, Owner, xtrim;
}

/// The stream that a body is.
fn of(body: Body<'_, Object>) -> Result<&Stream, CommandError> {
    match body {
        Body::Object(Object::Stream(stream)) => Ok(stream),
        _ => Err(CommandError::WrongType),
    }
}

/// The stream at `key`, for a command that reads it; none if there is no key.
fn read<'a>(keyspace: &'a mut Keyspace, key: &[u8]) -> Result<Option<&'a Stream>, CommandError> {
    keyspace.read(key).map(|entry| of(entry.body())).transpose()
}

/// The same for a command that is going to change what it finds: counts neither a hit nor a miss.
fn look<'a>(keyspace: &'a mut Keyspace, key: &[u8]) -> Result<Option<&'a Stream>, CommandError> {
    keyspace.peek(key).map(|entry| of(entry.body())).transpose()
}

/// Lets `change` work on the stream in `slot`; nothing if there is no key.
fn update<R>(
    mut slot: Slot<'_, '_>,
    change: impl FnOnce(&mut Stream) -> Result<R, CommandError>,
) -> Result<Option<R>, CommandError> {
    if slot.is_vacant() {
        return Ok(None);
    }
    let changed = slot.change_object(|object| match object {
        Object::Stream(stream) => change(stream),
        _ => Err(CommandError::WrongType),
    });
    changed.unwrap_or(Err(CommandError::WrongType)).map(Some)
}

/// Lets `change` work on the stream in `slot`, or on a new one if there is no key; a new one whose
/// change fails is not kept.
fn update_or_create<R>(
    slot: Slot<'_, '_>,
    change: impl FnOnce(&mut Stream) -> Result<R, CommandError>,
) -> Result<R, CommandError> {
    if slot.is_vacant() {
        let mut stream = Box::new(Stream::new());
        let result = change(&mut stream)?;
        slot.put(NewBody::Object(Box::new(Object::Stream(stream))), Deadline::Never);
        return Ok(result);
    }
    match update(slot, change)? {
        Some(result) => Ok(result),
        None => unreachable!("the slot is taken"),
    }
}

fn reply_id(reply: &mut ReplyWriter<'_>, id: StreamId) {
    reply.bulk(id.text().as_bytes());
}

/// Writes an entry: its id, and its fields and values.
fn reply_entry(reply: &mut ReplyWriter<'_>, entry: &Entry<'_>) {
    reply.array(2);
    reply_id(reply, entry.id);
    reply.array(2 * entry.len());
    for (field, value) in entry.pairs() {
        reply_element(reply, field);
        reply_element(reply, value);
    }
}

/// Writes an array of entries, at most `count` of them; how many.
fn reply_entries<'e>(
    reply: &mut ReplyWriter<'_>,
    entries: impl Iterator<Item = Entry<'e>>,
    count: Option<usize>,
) -> usize {
    let array = reply.deferred();
    let mut len = 0;
    for entry in entries.take(count.unwrap_or(usize::MAX)) {
        reply_entry(reply, &entry);
        len += 1;
    }
    reply.finish_array(array, len);
    len
}

/// Writes the entry `id`, which exists.
fn reply_entry_of(reply: &mut ReplyWriter<'_>, entries: &Entries, id: StreamId) {
    match entries.get(id) {
        Some(entry) => reply_entry(reply, &entry),
        None => reply.null(),
    }
}

/// What a command says that wants a key and a group of it.
fn no_group(key: &[u8], group: &[u8]) -> CommandError {
    let (key, group) = (String::from_utf8_lossy(key), String::from_utf8_lossy(group));
    CommandError::text(format!("NOGROUP No such key '{key}' or consumer group '{group}'"))
}

/// What a command says that wants a group of a key that exists.
fn no_group_of(key: &[u8], group: &[u8]) -> CommandError {
    let (key, group) = (String::from_utf8_lossy(key), String::from_utf8_lossy(group));
    CommandError::text(format!("NOGROUP No such consumer group '{group}' for key name '{key}'"))
}

/// What XGROUP and XINFO say to arguments that no form of theirs has.
fn bad_subcommand(container: &str, name: &[u8]) -> CommandError {
    let name = String::from_utf8_lossy(&name[..name.len().min(128)]);
    CommandError::text(format!(
        "ERR unknown subcommand or wrong number of arguments for '{name}'. Try {container} HELP."
    ))
}
