//! SUBSCRIBE and its like, and PUBSUB.
//!
//! A connection's worker keeps what it has subscribed to, and so knows the counts of the
//! confirmations as soon as the command comes. Subscriptions take effect at the shards that serve the
//! channels; when all of these have answered, the confirmations are written (see `crate::pubsub`).
#![forbid(unsafe_code)]

use std::collections::BTreeSet;

use bytes::Bytes;
use tessera_engine::{
    command::{Command, CommandError},
    notice::{
        Client,
        audience::{Audience, Kind},
    },
    transaction::ShardMap,
};
use tessera_proto::{Args, Protocol, ReplyBuffer, ReplyWriter, glob_matches, parse_i64};

use super::{
    Asked, Code, Everywhere, SessionContext,
    parts::{bulk_of, integer_of},
};
use crate::{
    gather::Merge,
    pubsub::{homes, subscriptions::Subscriptions},
    session::Session,
    worker::Worker,
};

pub(super) const FAMILY: &[(&str, Code)] = &[
    ("psubscribe", Code::Everywhere(&Everywhere { ask: ask_psubscribe, part: change_part })),
    ("pubsub|channels", Code::Everywhere(&Everywhere { ask: ask_channels, part: names_part })),
    ("pubsub|numpat", Code::Everywhere(&Everywhere { ask: ask_numpat, part: numpat_part })),
    ("pubsub|numsub", Code::Everywhere(&Everywhere { ask: ask_numsub, part: numsub_part })),
    ("pubsub|shardchannels", Code::Everywhere(&Everywhere { ask: ask_sharded, part: names_part })),
    ("pubsub|shardnumsub", Code::Everywhere(&Everywhere { ask: ask_snumsub, part: numsub_part })),
    ("punsubscribe", Code::Everywhere(&Everywhere { ask: ask_punsubscribe, part: change_part })),
    ("ssubscribe", Code::Everywhere(&Everywhere { ask: ask_ssubscribe, part: change_part })),
    ("subscribe", Code::Everywhere(&Everywhere { ask: ask_subscribe, part: change_part })),
    ("sunsubscribe", Code::Everywhere(&Everywhere { ask: ask_sunsubscribe, part: change_part })),
    ("unsubscribe", Code::Everywhere(&Everywhere { ask: ask_unsubscribe, part: change_part })),
];

/// What may be executed in RESP2 while the connection has subscriptions: a client could not tell the
/// replies of anything else from messages.
pub(crate) fn permit_confined(command: &Command) -> Result<(), CommandError> {
    const PERMITTED: [&str; 9] = [
        "ping",
        "subscribe",
        "ssubscribe",
        "psubscribe",
        "unsubscribe",
        "sunsubscribe",
        "punsubscribe",
        "quit",
        "reset",
    ];
    if PERMITTED.contains(&command.full_name) {
        return Ok(());
    }
    Err(CommandError::text(format!(
        "ERR Can't execute '{}': only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / PING / QUIT / RESET are \
         allowed in this context",
        command.full_name
    )))
}

/// The letter by which parts name a kind.
fn letter(kind: Kind) -> &'static [u8] {
    match kind {
        Kind::Channel => b"c",
        Kind::Pattern => b"p",
        Kind::Sharded => b"s",
    }
}

fn kind_of(letter: &[u8]) -> Kind {
    match letter {
        b"p" => Kind::Pattern,
        b"s" => Kind::Sharded,
        _ => Kind::Channel,
    }
}

/// The arguments with which a shard is told of subscriptions that begin or end.
fn change(begins: bool, kind: Kind, client: Client) -> Vec<Vec<u8>> {
    let number = |number: u64| number.to_string().into_bytes();
    let sign: &[u8] = if begins { b"+" } else { b"-" };
    vec![
        sign.to_vec(),
        letter(kind).to_vec(),
        number(client.worker.into()),
        number(client.connection),
    ]
}

/// One part for each shard that serves any of `names`, with the names that it serves.
fn parts<'n>(
    map: ShardMap,
    begins: bool,
    kind: Kind,
    client: Client,
    names: impl Iterator<Item = &'n Bytes>,
) -> Vec<(u32, Vec<Vec<u8>>)> {
    let mut parts: Vec<(u32, Vec<Vec<u8>>)> = Vec::new();
    for name in names {
        for shard in homes(map, kind, name) {
            let at = parts.iter().position(|(known, _)| *known == shard).unwrap_or_else(|| {
                parts.push((shard, change(begins, kind, client)));
                parts.len() - 1
            });
            parts[at].1.push(name.to_vec());
        }
    }
    parts.sort_by_key(|(shard, _)| *shard);
    parts
}

/// What has to be told to shards when a connection is gone.
pub(crate) fn farewell(
    map: ShardMap,
    client: Client,
    subscriptions: &Subscriptions,
) -> Vec<(u32, Vec<Vec<u8>>)> {
    let ended = |kind| parts(map, false, kind, client, subscriptions.names(kind).iter());
    [Kind::Channel, Kind::Pattern, Kind::Sharded].into_iter().flat_map(ended).collect()
}

/// Begins or ends the subscriptions named in a part.
pub(super) fn change_part(worker: &mut Worker, args: &Args<'_>, reply: &mut ReplyWriter<'_>) {
    let args: Vec<&[u8]> = args.iter().collect();
    change_audience(worker.shard.keyspace.audience_mut(), &args);
    reply.ok();
}

/// The same for the audience of a shard.
pub(crate) fn change_audience(audience: &mut Audience, args: &[&[u8]]) {
    let number = |at: usize| args.get(at).copied().and_then(parse_i64).unwrap_or(-1);
    let client = Client { worker: number(2) as u32, connection: number(3) as u64 };
    let (begins, kind) = (args[0] == b"+", kind_of(args[1]));
    for name in args.iter().skip(4) {
        if begins {
            audience.subscribe(kind, &Bytes::copy_from_slice(name), client);
        } else {
            audience.unsubscribe(kind, name, client);
        }
    }
}

/// Whether a command begins or ends subscriptions.
pub(crate) fn changes_subscriptions(command: &Command) -> bool {
    command.full_name.ends_with("subscribe")
}

/// Writes one confirmation.
fn confirm(reply: &mut ReplyWriter<'_>, what: &str, name: Option<&[u8]>, count: usize) {
    reply.push(3);
    reply.bulk(what.as_bytes());
    match name {
        Some(name) => reply.bulk(name),
        None => reply.null(),
    }
    reply.count(count);
}

/// Asks the shards, and confirms when they have answered.
fn ask_shards(
    cx: &mut SessionContext<'_>,
    changed: Vec<(u32, Vec<Vec<u8>>)>,
    confirmed: ReplyBuffer,
) -> Asked {
    cx.session.update_confinement();
    // Confirmations are pushes, which CLIENT REPLY does not hold back.
    cx.answers_anyway = true;
    if changed.is_empty() {
        cx.out.append(&confirmed);
        return Asked::Answered;
    }
    let finish = move |_: &[ReplyBuffer], reply: &mut ReplyWriter<'_>| {
        reply.buffer_mut().append(&confirmed);
    };
    Asked::Parts { parts: changed, merge: Merge::Custom(Box::new(finish)) }
}

/// The subscriptions and what clients are told about them, side by side.
fn subscribe(cx: &mut SessionContext<'_>, args: &Args<'_>, what: &str, kind: Kind) -> Asked {
    let mut confirmed = ReplyBuffer::new();
    let mut reply = ReplyWriter::new(&mut confirmed, cx.session.protocol);
    let own = cx.session.subscriptions.get_or_insert_default();
    let was_empty = own.is_empty();
    let mut new = Vec::new();
    for name in args.iter().skip(1) {
        let name = Bytes::copy_from_slice(name);
        if own.add(kind, name.clone()) {
            new.push(name.clone());
        }
        confirm(&mut reply, what, Some(&name), own.shown_count(kind));
    }
    if was_empty {
        let subscribers = &cx.shared.metrics.worker(cx.worker).counters.pubsub_clients;
        subscribers.set(subscribers.get() + 1);
    }
    let changed = parts(cx.map, true, kind, cx.session.client, new.iter());
    ask_shards(cx, changed, confirmed)
}

fn unsubscribe(cx: &mut SessionContext<'_>, args: &Args<'_>, what: &str, kind: Kind) -> Asked {
    let mut confirmed = ReplyBuffer::new();
    let mut reply = ReplyWriter::new(&mut confirmed, cx.session.protocol);
    let mut own = cx.session.subscriptions.take().unwrap_or_default();
    let was_empty = own.is_empty();
    let names: Vec<Bytes> = match args.len() {
        1 => own.names(kind).iter().cloned().collect(),
        _ => args.iter().skip(1).map(Bytes::copy_from_slice).collect(),
    };
    if names.is_empty() {
        confirm(&mut reply, what, None, own.shown_count(kind));
    }
    let mut ended = Vec::new();
    for name in names {
        let was_there = own.remove(kind, &name);
        confirm(&mut reply, what, Some(&name), own.shown_count(kind));
        if was_there {
            ended.push(name);
        }
    }
    let changed = parts(cx.map, false, kind, cx.session.client, ended.iter());
    match own.is_empty() {
        false => cx.session.subscriptions = Some(own),
        true if !was_empty => count_out(cx),
        true => {}
    }
    ask_shards(cx, changed, confirmed)
}

/// One client less has subscriptions.
fn count_out(cx: &SessionContext<'_>) {
    let subscribers = &cx.shared.metrics.worker(cx.worker).counters.pubsub_clients;
    subscribers.set(subscribers.get().saturating_sub(1));
}

/// Ends all subscriptions without confirming it (RESET): what the shards have to be told.
pub(super) fn leave(cx: &mut SessionContext<'_>) -> Vec<(u32, Vec<Vec<u8>>)> {
    let Some(own) = cx.session.subscriptions.take() else { return Vec::new() };
    if !own.is_empty() {
        count_out(cx);
    }
    farewell(cx.map, cx.session.client, &own)
}

fn ask_subscribe(cx: &mut SessionContext<'_>, args: &Args<'_>) -> Result<Asked, CommandError> {
    Ok(subscribe(cx, args, "subscribe", Kind::Channel))
}

fn ask_psubscribe(cx: &mut SessionContext<'_>, args: &Args<'_>) -> Result<Asked, CommandError> {
    Ok(subscribe(cx, args, "psubscribe", Kind::Pattern))
}

fn ask_ssubscribe(cx: &mut SessionContext<'_>, args: &Args<'_>) -> Result<Asked, CommandError> {
    Ok(subscribe(cx, args, "ssubscribe", Kind::Sharded))
}

fn ask_unsubscribe(cx: &mut SessionContext<'_>, args: &Args<'_>) -> Result<Asked, CommandError> {
    Ok(unsubscribe(cx, args, "unsubscribe", Kind::Channel))
}

fn ask_punsubscribe(cx: &mut SessionContext<'_>, args: &Args<'_>) -> Result<Asked, CommandError> {
    Ok(unsubscribe(cx, args, "punsubscribe", Kind::Pattern))
}

fn ask_sunsubscribe(cx: &mut SessionContext<'_>, args: &Args<'_>) -> Result<Asked, CommandError> {
    Ok(unsubscribe(cx, args, "sunsubscribe", Kind::Sharded))
}

/// PUBSUB CHANNELS [pattern].
fn ask_channels(_: &mut SessionContext<'_>, args: &Args<'_>) -> Result<Asked, CommandError> {
    ask_names(args, Kind::Channel)
}

/// PUBSUB SHARDCHANNELS [pattern].
fn ask_sharded(_: &mut SessionContext<'_>, args: &Args<'_>) -> Result<Asked, CommandError> {
    ask_names(args, Kind::Sharded)
}

fn ask_names(args: &Args<'_>, kind: Kind) -> Result<Asked, CommandError> {
    if args.len() > 3 {
        return Err(CommandError::unknown_subcommand("pubsub", &args[1]));
    }
    let finish = |parts: &[ReplyBuffer], reply: &mut ReplyWriter<'_>| {
        // Some channels are known to all shards.
        let texts: Vec<Vec<u8>> = parts.iter().map(bulk_of).collect();
        let names: BTreeSet<&[u8]> = texts.iter().flat_map(|text| unpacked(text)).collect();
        reply.array(names.len());
        names.into_iter().for_each(|name| reply.bulk(name));
    };
    let pattern = args.get(2).unwrap_or(b"*").to_vec();
    let args = vec![letter(kind).to_vec(), pattern];
    Ok(Asked::Workers { args, merge: Merge::Custom(Box::new(finish)) })
}

/// The names of one kind that match, packed.
fn names_part(worker: &mut Worker, args: &Args<'_>, reply: &mut ReplyWriter<'_>) {
    let (kind, pattern) = (kind_of(&args[0]), &args[1]);
    let audience = worker.shard.keyspace.audience_mut();
    let mut packed = Vec::new();
    for name in audience.names(kind).filter(|name| glob_matches(pattern, name)) {
        packed.extend_from_slice(&(name.len() as u32).to_le_bytes());
        packed.extend_from_slice(name);
    }
    reply.bulk(&packed);
}

/// The texts that were packed, each behind its length.
fn unpacked(mut packed: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let (len, rest) = packed.split_first_chunk::<4>()?;
        let (text, rest) = rest.split_at_checked(u32::from_le_bytes(*len) as usize)?;
        packed = rest;
        Some(text)
    })
}

/// PUBSUB NUMSUB [channel …].
fn ask_numsub(_: &mut SessionContext<'_>, args: &Args<'_>) -> Result<Asked, CommandError> {
    Ok(ask_listeners(args, Kind::Channel))
}

/// PUBSUB SHARDNUMSUB [channel …].
fn ask_snumsub(_: &mut SessionContext<'_>, args: &Args<'_>) -> Result<Asked, CommandError> {
    Ok(ask_listeners(args, Kind::Sharded))
}

fn ask_listeners(args: &Args<'_>, kind: Kind) -> Asked {
    let names: Vec<Vec<u8>> = args.iter().skip(2).map(<[u8]>::to_vec).collect();
    let asked = std::iter::once(letter(kind).to_vec()).chain(names.iter().cloned()).collect();
    let finish = move |parts: &[ReplyBuffer], reply: &mut ReplyWriter<'_>| {
        let counts: Vec<Vec<u8>> = parts.iter().map(bulk_of).collect();
        reply.array(2 * names.len());
        for (at, name) in names.iter().enumerate() {
            // A shard that does not serve the channel knows nobody; those that do know all.
            let of_part = |part: &Vec<u8>| part.as_chunks::<8>().0.get(at).copied();
            let most = counts.iter().filter_map(of_part).map(u64::from_le_bytes).max();
            reply.bulk(name);
            reply.integer(most.unwrap_or(0) as i64);
        }
    };
    Asked::Workers { args: asked, merge: Merge::Custom(Box::new(finish)) }
}

/// How many clients listen to each name, eight bytes each.
fn numsub_part(worker: &mut Worker, args: &Args<'_>, reply: &mut ReplyWriter<'_>) {
    let kind = kind_of(&args[0]);
    let audience = worker.shard.keyspace.audience_mut();
    let counts = args.iter().skip(1).map(|name| audience.listeners(kind, name) as u64);
    let packed: Vec<u8> = counts.flat_map(u64::to_le_bytes).collect();
    reply.bulk(&packed);
}

/// PUBSUB NUMPAT: every shard knows all patterns.
fn ask_numpat(_: &mut SessionContext<'_>, _: &Args<'_>) -> Result<Asked, CommandError> {
    let finish = |parts: &[ReplyBuffer], reply: &mut ReplyWriter<'_>| {
        reply.integer(parts.iter().map(integer_of).max().unwrap_or(0));
    };
    Ok(Asked::Workers { args: vec![b"numpat".to_vec()], merge: Merge::Custom(Box::new(finish)) })
}

fn numpat_part(worker: &mut Worker, _: &Args<'_>, reply: &mut ReplyWriter<'_>) {
    reply.count(worker.shard.keyspace.audience_mut().count(Kind::Pattern));
}

/// PING of a connection in RESP2 that has subscriptions: in the form of a message.
pub(super) fn pong(session: &Session, text: Option<&[u8]>, reply: &mut ReplyWriter<'_>) -> bool {
    if !session.has_subscriptions() || session.protocol != Protocol::Resp2 {
        return false;
    }
    reply.array(2);
    reply.bulk(b"pong");
    reply.bulk(text.unwrap_or_default());
    true
}

#[cfg(test)]
mod tests {
    use tessera_engine::command::table;

    use super::*;

    #[test]
    fn a_shard_is_told_of_its_own_channels_in_one_part() {
        let map = ShardMap::new(4);
        let client = Client { worker: 3, connection: 1 << 32 };
        let names: Vec<Bytes> = ["a", "b", "{a}c"].map(Bytes::from).into();
        let parts = parts(map, true, Kind::Channel, client, names.iter());
        assert!(parts.is_sorted_by_key(|(shard, _)| *shard));
        for (shard, args) in &parts {
            assert_eq!(args[..4], change(true, Kind::Channel, client));
            assert!(args[4..].iter().all(|name| map.owner(name) == *shard));
        }
        assert_eq!(parts.iter().map(|(_, args)| args.len() - 4).sum::<usize>(), 3);
    }

    #[test]
    fn a_farewell_ends_everything() {
        let mut own = Subscriptions::default();
        own.add(Kind::Channel, "a".into());
        own.add(Kind::Pattern, "*".into());
        let parts = farewell(ShardMap::new(2), Client::default(), &own);
        assert_eq!(parts.len(), 3);
        assert!(parts.iter().all(|(_, args)| args[0] == b"-"));
    }

    #[test]
    fn packed_names_are_read_back() {
        let packed = [&2_u32.to_le_bytes()[..], b"ab", &0_u32.to_le_bytes(), &[9, 0]].concat();
        assert_eq!(unpacked(&packed).collect::<Vec<_>>(), [&b"ab"[..], b""]);
    }

    #[test]
    fn only_a_few_commands_are_permitted_beside_messages() {
        let find = |name: &[u8]| table().find(name).unwrap();
        for name in [&b"ping"[..], b"reset", b"quit", b"unsubscribe", b"ssubscribe"] {
            assert!(permit_confined(find(name)).is_ok());
        }
        assert_eq!(
            permit_confined(find(b"get")).unwrap_err().to_string(),
            "ERR Can't execute 'get': only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / PING / QUIT / RESET \
             are allowed in this context"
        );
    }
}
