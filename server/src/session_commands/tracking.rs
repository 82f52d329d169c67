//! CLIENT TRACKING, CACHING, GETREDIR and TRACKINGINFO.
#![forbid(unsafe_code)]

use tessera_engine::{command::CommandError, notice::Client};
use tessera_proto::{Args, ReplyWriter, parse_i64};

use super::{Asked, Code, Everywhere, SessionContext};
use crate::{gather::Merge, tracking::Tracking, worker::Worker};

pub(super) const FAMILY: &[(&str, Code)] = &[
    ("client|caching", Code::Local(caching)),
    ("client|getredir", Code::Local(getredir)),
    ("client|tracking", Code::Everywhere(&Everywhere { ask: ask_tracking, part: tracking_part })),
    ("client|trackinginfo", Code::Local(trackinginfo)),
];

/// CLIENT TRACKING ON | OFF [REDIRECT id] [PREFIX prefix …] [BCAST] [OPTIN] [OPTOUT] [NOLOOP]:
/// answered when every shard knows.
fn ask_tracking(cx: &mut SessionContext<'_>, args: &Args<'_>) -> Result<Asked, CommandError> {
    let asked = parse(cx, args)?;
    let is_on = match args[2].to_ascii_lowercase().as_slice() {
        b"on" => true,
        b"off" => false,
        _ => return Err(CommandError::Syntax),
    };
    let was_on = cx.session.tracking.is_some();
    let told = if is_on {
        let tracking = Tracking::on(cx.session.tracking.as_deref(), asked)?;
        let told = register(cx.session.client, &tracking.prefixes);
        cx.session.tracking = Some(Box::new(tracking));
        told
    } else {
        cx.session.tracking = None;
        unregister(cx.session.client)
    };
    count(cx, was_on);
    if !is_on && !was_on {
        cx.reply().ok();
        return Ok(Asked::Answered);
    }
    Ok(Asked::Workers { args: told, merge: Merge::AllOk })
}

fn parse(cx: &SessionContext<'_>, args: &Args<'_>) -> Result<Tracking, CommandError> {
    let mut asked = Tracking::default();
    let mut words = args.iter().skip(3);
    while let Some(word) = words.next() {
        match word.to_ascii_lowercase().as_slice() {
            b"bcast" => asked.broadcast = true,
            b"optin" => asked.opt_in = true,
            b"optout" => asked.opt_out = true,
            b"noloop" => asked.no_loop = true,
            b"prefix" => asked.prefixes.push(words.next().ok_or(CommandError::Syntax)?.to_vec()),
            b"redirect" => {
                let number = words.next().ok_or(CommandError::Syntax)?;
                if asked.redirect.is_some() {
                    return Err(CommandError::text(
                        "ERR A client can only redirect to a single other client",
                    ));
                }
                let number = parse_i64(number).ok_or(CommandError::NotAnInteger)?;
                // The client has to be there now.
                let id =
                    u64::try_from(number).ok().filter(|&id| cx.shared.clients.find(id).is_some());
                asked.redirect = Some(id.ok_or(CommandError::text(
                    "ERR The client ID you want redirect to does not exist",
                ))?);
            }
            _ => return Err(CommandError::Syntax),
        }
    }
    Ok(asked)
}

/// Keeps the figure of clients that track keys.
fn count(cx: &SessionContext<'_>, was_on: bool) {
    let figure = &cx.shared.metrics.worker(cx.worker).counters.tracking_clients;
    match (was_on, cx.session.tracking.is_some()) {
        (false, true) => figure.set(figure.get() + 1),
        (true, false) => figure.set(figure.get().saturating_sub(1)),
        _ => {}
    }
}

fn told(sign: &[u8], client: Client) -> Vec<Vec<u8>> {
    let number = |number: u64| number.to_string().into_bytes();
    vec![sign.to_vec(), number(client.worker.into()), number(client.connection)]
}

/// The arguments with which shards are told of a client that tracks keys.
fn register(client: Client, prefixes: &[Vec<u8>]) -> Vec<Vec<u8>> {
    let mut args = told(b"+", client);
    args.extend(prefixes.iter().cloned());
    args
}

/// The arguments with which shards are told that it does so no more.
pub(crate) fn unregister(client: Client) -> Vec<Vec<u8>> {
    told(b"-", client)
}

/// Ends it without an answer (RESET): what all shards have to be told.
pub(super) fn leave(cx: &mut SessionContext<'_>) -> Option<Vec<Vec<u8>>> {
    cx.session.tracking.take()?;
    count(cx, true);
    Some(unregister(cx.session.client))
}

pub(super) fn tracking_part(worker: &mut Worker, args: &Args<'_>, reply: &mut ReplyWriter<'_>) {
    let number = |at: usize| args.get(at).and_then(parse_i64).unwrap_or(-1);
    let client = Client { worker: number(1) as u32, connection: number(2) as u64 };
    // What has happened so far is told to those who tracked keys then.
    worker.shard.keyspace.audience_mut();
    let events = &mut worker.shard.keyspace.events;
    if &args[0] == b"+" {
        events.track(client, args.iter().skip(3));
    } else {
        events.untrack(client);
    }
    reply.ok();
}

/// CLIENT CACHING YES | NO: for the next command.
fn caching(cx: &mut SessionContext<'_>, args: &Args<'_>) -> Result<(), CommandError> {
    let Some(tracking) = cx.session.tracking.as_deref_mut().filter(|t| t.opt_in || t.opt_out)
    else {
        return Err(CommandError::text(
            "ERR CLIENT CACHING can be called only when the client is in tracking mode with OPTIN or \
             OPTOUT mode enabled",
        ));
    };
    match args[2].to_ascii_lowercase().as_slice() {
        b"yes" if tracking.opt_in => tracking.caching = true,
        b"no" if tracking.opt_out => tracking.caching = true,
        b"yes" => {
            return Err(CommandError::text(
                "ERR CLIENT CACHING YES is only valid when tracking is enabled in OPTIN mode.",
            ));
        }
        b"no" => {
            return Err(CommandError::text(
                "ERR CLIENT CACHING NO is only valid when tracking is enabled in OPTOUT mode.",
            ));
        }
        _ => return Err(CommandError::Syntax),
    }
    cx.reply().ok();
    Ok(())
}

/// The number that stands for where invalidations go.
pub(super) fn redirection(tracking: Option<&Tracking>) -> i64 {
    tracking.map_or(-1, |tracking| tracking.redirect.unwrap_or(0) as i64)
}

/// CLIENT GETREDIR: the client that hears instead, 0 for none, -1 without tracking.
fn getredir(cx: &mut SessionContext<'_>, _: &Args<'_>) -> Result<(), CommandError> {
    let number = redirection(cx.session.tracking.as_deref());
    cx.reply().integer(number);
    Ok(())
}

/// CLIENT TRACKINGINFO.
fn trackinginfo(cx: &mut SessionContext<'_>, _: &Args<'_>) -> Result<(), CommandError> {
    let mut reply = ReplyWriter::new(cx.out, cx.session.protocol);
    let tracking = cx.session.tracking.as_deref();
    let flags = flags(tracking);
    reply.map(3);
    reply.bulk(b"flags");
    reply.set(flags.len());
    flags.iter().for_each(|flag| reply.bulk(flag.as_bytes()));
    reply.bulk(b"redirect");
    reply.integer(redirection(tracking));
    reply.bulk(b"prefixes");
    let prefixes = tracking.map_or(&[][..], |tracking| &tracking.prefixes);
    reply.array(prefixes.len());
    prefixes.iter().for_each(|prefix| reply.bulk(prefix));
    Ok(())
}

fn flags(tracking: Option<&Tracking>) -> Vec<&'static str> {
    let Some(tracking) = tracking else { return vec!["off"] };
    [
        (true, "on"),
        (tracking.broadcast, "bcast"),
        (tracking.opt_in, "optin"),
        (tracking.opt_in && tracking.caching, "caching-yes"),
        (tracking.opt_out, "optout"),
        (tracking.opt_out && tracking.caching, "caching-no"),
        (tracking.no_loop, "noloop"),
        (tracking.is_broken, "broken_redirect"),
    ]
    .into_iter()
    .filter_map(|(is_set, flag)| is_set.then_some(flag))
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_come_in_the_order_of_redis() {
        assert_eq!(flags(None), ["off"]);
        let tracking =
            Tracking { opt_in: true, caching: true, no_loop: true, ..Tracking::default() };
        assert_eq!(flags(Some(&tracking)), ["on", "optin", "caching-yes", "noloop"]);
        let tracking = Tracking { broadcast: true, is_broken: true, ..Tracking::default() };
        assert_eq!(flags(Some(&tracking)), ["on", "bcast", "broken_redirect"]);
        assert_eq!(redirection(None), -1);
        assert_eq!(redirection(Some(&Tracking { redirect: Some(7), ..Tracking::default() })), 7);
    }
}
