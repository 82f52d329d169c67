//! What XREAD and XREADGROUP wait for, key by key.
//!
//! A reader is executed again when a stream has something for it, and only then; so what it wants of
//! each stream is known from its arguments: entries behind an id, or entries that its group has not
//! read.
#![forbid(unsafe_code)]

use tessera_proto::{Args, RequestBatch};

use super::{
    fetch::{Form, ReadQuery},
    ids::parse_strict,
    of, read,
};
use crate::{keyspace::Keyspace, types::StreamId};

/// The arguments of an XREAD that begins to wait, with the ids that `$` stands for at that moment:
/// what is added from then on is what the client waits for.
pub(crate) fn pin_ids(
    args: &Args<'_>,
    mut last_id: impl FnMut(&[u8]) -> Option<StreamId>,
) -> RequestBatch {
    let mut pinned = RequestBatch::new();
    let mut words: Vec<Vec<u8>> = args.iter().map(<[u8]>::to_vec).collect();
    if let Some(query) = ReadQuery::of_waiting(args, Form::Plain) {
        for nth in 0..query.keys {
            let (key_at, id_at) = (query.first_key + nth, query.first_key + query.keys + nth);
            if &args[id_at] == b"$" {
                let id = last_id(&args[key_at]).unwrap_or_default();
                words[id_at] = id.to_string().into_bytes();
            }
        }
    }
    pinned.push_slices(words.iter().map(Vec::as_slice));
    pinned
}

/// The id of the last entry that was ever added to the stream at `key`, if that is one.
pub(crate) fn last_id(keyspace: &mut Keyspace, database: usize, key: &[u8]) -> Option<StreamId> {
    keyspace.select(database, true);
    read(keyspace, key).ok().flatten().map(|stream| stream.entries.last_id)
}

/// The id behind which a waiting XREAD reads the stream at `key`; the lowest, if it names that twice.
pub(crate) fn read_behind(args: &Args<'_>, key: &[u8]) -> StreamId {
    let query = ReadQuery::of_waiting(args, Form::Plain);
    let streams = query.iter().flat_map(|query| query.streams(args));
    let ids =
        streams.filter(|(name, _)| *name == key).filter_map(|(_, id)| parse_strict(id, 0).ok());
    ids.min().unwrap_or(StreamId::MIN)
}

/// The group for which a waiting XREADGROUP reads.
pub(crate) fn group_of<'a>(args: &Args<'a>) -> &'a [u8] {
    let query = ReadQuery::of_waiting(args, Form::Group);
    query.and_then(|query| query.group).map_or(&[], |(group, _)| group)
}

/// The call of a waiting XREADGROUP with those of its streams alone whose keys are `wanted`: while it
/// waits the others have nothing for it.
pub(crate) fn of_streams(args: &Args<'_>, mut wanted: impl FnMut(&[u8]) -> bool) -> RequestBatch {
    let mut left = RequestBatch::new();
    if let Some(query) = ReadQuery::of_waiting(args, Form::Group) {
        let streams: Vec<_> = query.streams(args).filter(|(key, _)| wanted(key)).collect();
        let (keys, ids) = (streams.iter().map(|it| it.0), streams.iter().map(|it| it.1));
        left.push_slices(args.iter().take(query.first_key).chain(keys).chain(ids));
    }
    left
}

/// The id of the last entry that is in the stream at `key` of the selected database; nothing if there
/// is none.
pub(crate) fn last_live_id(keyspace: &mut Keyspace, key: &[u8]) -> Option<StreamId> {
    of(keyspace.peek(key)?.body()).ok()?.entries.last_live_id()
}

/// Why a reader of a group need not wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum News {
    /// There are entries that the group has not read.
    Entries,
    /// The group is gone, or the stream is.
    Gone,
}

/// What there is for readers of `group` at `key` of the selected database, if anything is.
pub(crate) fn news(keyspace: &mut Keyspace, key: &[u8], group: &[u8]) -> Option<News> {
    let stream = keyspace.peek(key).and_then(|entry| of(entry.body()).ok());
    let Some((stream, group)) = stream.and_then(|it| Some((it, it.group(group)?))) else {
        return Some(News::Gone);
    };
    stream.entries.has_after(group.last_id).then_some(News::Entries)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(line: &str) -> RequestBatch {
        let mut batch = RequestBatch::new();
        batch.push_slices(line.split(' ').map(str::as_bytes));
        batch
    }

    fn line(batch: &RequestBatch) -> String {
        let words: Vec<_> = batch.iter().flat_map(|args| args.iter()).collect();
        String::from_utf8(words.join(&b' ')).expect("text")
    }

    #[test]
    fn a_dollar_becomes_the_id_that_it_stands_for() {
        let asked = request("XREAD BLOCK 0 STREAMS a b c $ 5-1 $");
        let last = |key: &[u8]| (key == b"a").then_some(StreamId { ms: 7, seq: 2 });
        let pinned = pin_ids(&asked.get(0).expect("a request"), last);
        assert_eq!(line(&pinned), "XREAD BLOCK 0 STREAMS a b c 7-2 5-1 0-0");
        let args = pinned.get(0).expect("a request");
        assert_eq!(read_behind(&args, b"b"), StreamId { ms: 5, seq: 1 });
        let twice = request("XREAD BLOCK 0 STREAMS a a 9-1 3-1");
        let args = twice.get(0).expect("a request");
        assert_eq!(read_behind(&args, b"a"), StreamId { ms: 3, seq: 1 });
    }

    #[test]
    fn a_reader_of_a_group_is_divided_by_its_streams() {
        let asked =
            request("XREADGROUP GROUP g c COUNT 2 BLOCK 0 STREAMS a b a > > 18446744073709551615");
        let args = asked.get(0).expect("a request");
        assert_eq!(group_of(&args), b"g");
        assert_eq!(
            line(&of_streams(&args, |key| key == b"b")),
            "XREADGROUP GROUP g c COUNT 2 BLOCK 0 STREAMS b >"
        );
    }
}
