//! CLIENT LIST, KILL and UNBLOCK: what concerns the connections of all workers.
#![forbid(unsafe_code)]

use tessera_engine::command::CommandError;
use tessera_proto::{Args, ReplyBuffer, ReplyWriter, parse_i64};

use super::{
    After, Asked, Code, Everywhere, SessionContext,
    client_line::{Sizes, client_line},
    parts::{bulk_of, integer_of},
};
use crate::{
    gather::Merge,
    net::{CloseMode, ConnectionId},
    session::Session,
    waiting::End,
    worker::Worker,
};

pub(super) const FAMILY: &[(&str, Code)] = &[
    ("client|kill", Code::Everywhere(&Everywhere { ask: ask_kill, part: kill_part })),
    ("client|list", Code::Everywhere(&Everywhere { ask: ask_list, part: list_part })),
    ("client|unblock", Code::Everywhere(&Everywhere { ask: ask_unblock, part: unblock_part })),
];

/// The kinds of clients that filters tell apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Normal,
    Replica,
    Primary,
    Pubsub,
}

impl Kind {
    /// What a client is. There is no replication yet.
    fn of(session: &Session) -> Self {
        if session.has_subscriptions() { Self::Pubsub } else { Self::Normal }
    }

    fn parse(name: &[u8]) -> Result<Self, CommandError> {
        match name.to_ascii_lowercase().as_slice() {
            b"normal" => Ok(Self::Normal),
            b"slave" | b"replica" => Ok(Self::Replica),
            b"master" | b"primary" => Ok(Self::Primary),
            b"pubsub" => Ok(Self::Pubsub),
            _ => Err(CommandError::text(format!(
                "ERR Unknown client type '{}'",
                String::from_utf8_lossy(name)
            ))),
        }
    }
}

/// Which clients are meant; every condition given must hold.
#[derive(Debug, Default)]
struct Filter {
    id: Option<u64>,
    kind: Option<Kind>,
    peer: Option<Vec<u8>>,
    local: Option<Vec<u8>>,
    age_min_s: Option<i64>,
}

impl Filter {
    fn matches(&self, session: &Session, now_us: i64) -> bool {
        let age_s = (now_us - session.created_us) / 1_000_000;
        self.id.is_none_or(|id| id == session.id)
            && self.kind.is_none_or(|kind| kind == Kind::of(session))
            && self.peer.as_deref().is_none_or(|peer| peer == session.peer.as_bytes())
            && self.local.as_deref().is_none_or(|local| local == session.local.as_bytes())
            && self.age_min_s.is_none_or(|age| age_s >= age)
    }
}

/// What CLIENT KILL asks for.
struct Kill {
    filter: Filter,
    /// The client that asks is spared.
    skips_self: bool,
    /// One address and nothing else: answered by OK or an error instead of a count.
    is_old_form: bool,
}

impl Kill {
    /// CLIENT KILL address | filter value …
    fn parse(args: &Args<'_>) -> Result<Self, CommandError> {
        if args.len() == 3 {
            let filter = Filter { peer: Some(args[2].to_vec()), ..Filter::default() };
            return Ok(Self { filter, skips_self: false, is_old_form: true });
        }
        let mut kill = Self { filter: Filter::default(), skips_self: true, is_old_form: false };
        for at in (2..args.len()).step_by(2) {
            let value = args.get(at + 1).ok_or(CommandError::Syntax)?;
            kill.set(&args[at], value)?;
        }
        Ok(kill)
    }

    fn set(&mut self, option: &[u8], value: &[u8]) -> Result<(), CommandError> {
        let filter = &mut self.filter;
        match option.to_ascii_lowercase().as_slice() {
            b"id" => filter.id = Some(parse_id(value)?),
            b"type" => filter.kind = Some(Kind::parse(value)?),
            b"addr" => filter.peer = Some(value.to_vec()),
            b"laddr" => filter.local = Some(value.to_vec()),
            b"maxage" => filter.age_min_s = Some(parse_age(value)?),
            b"user" if value == b"default" => {}
            b"user" => {
                return Err(CommandError::text(format!(
                    "ERR No such user '{}'",
                    String::from_utf8_lossy(value)
                )));
            }
            b"skipme" => match value.to_ascii_lowercase().as_slice() {
                b"yes" => self.skips_self = true,
                b"no" => self.skips_self = false,
                _ => return Err(CommandError::Syntax),
            },
            _ => return Err(CommandError::Syntax),
        }
        Ok(())
    }
}

fn parse_id(text: &[u8]) -> Result<u64, CommandError> {
    let number = parse_i64(text).filter(|&id| id > 0).and_then(|id| u64::try_from(id).ok());
    number.ok_or(CommandError::text("ERR client-id should be greater than 0"))
}

fn parse_age(text: &[u8]) -> Result<i64, CommandError> {
    let age = parse_i64(text)
        .ok_or(CommandError::text("ERR maxage is not an integer or out of range"))?;
    match age {
        1.. => Ok(age),
        _ => Err(CommandError::text("ERR maxage should be greater than 0")),
    }
}

/// Every worker gets the client that asks, which closes last and by itself, then the command.
fn ask_kill(cx: &mut SessionContext<'_>, args: &Args<'_>) -> Result<Asked, CommandError> {
    let kill = Kill::parse(args)?;
    let dies_itself = !kill.skips_self && kill.filter.matches(cx.session, cx.now_us);
    if dies_itself {
        cx.after = After::Close;
    }
    let is_old_form = kill.is_old_form;
    let finish = move |parts: &[ReplyBuffer], reply: &mut ReplyWriter<'_>| {
        let killed = parts.iter().map(integer_of).sum::<i64>() + i64::from(dies_itself);
        match killed {
            0 if is_old_form => reply.error("ERR No such client"),
            _ if is_old_form => reply.ok(),
            _ => reply.integer(killed),
        }
    };
    Ok(Asked::Workers { args: passed_on(cx, args), merge: Merge::Custom(Box::new(finish)) })
}

fn kill_part(worker: &mut Worker, args: &Args<'_>, reply: &mut ReplyWriter<'_>) {
    let (asking, args) = (parse_i64(&args[0]), args.tail(1));
    // The asking worker has parsed the same arguments, so this cannot fail.
    let Ok(kill) = Kill::parse(&args) else { return reply.integer(0) };
    let now_us = worker.now_us;
    let doomed: Vec<ConnectionId> = worker
        .network
        .connections()
        .filter(|(_, connection)| asking != Some(connection.session.id as i64))
        .filter(|(_, connection)| !connection.is_closing())
        .filter(|(_, connection)| kill.filter.matches(&connection.session, now_us))
        .map(|(id, _)| id)
        .collect();
    for &id in &doomed {
        worker.network.close(id, CloseMode::Now);
    }
    reply.integer(doomed.len() as i64);
}

/// What CLIENT LIST asks for.
#[derive(Debug, Default)]
struct List {
    kind: Option<Kind>,
    /// Only these, in this order.
    ids: Option<Vec<u64>>,
}

impl List {
    /// CLIENT LIST [TYPE kind | ID id …]
    fn parse(args: &Args<'_>) -> Result<Self, CommandError> {
        let option = args.get(2).map(<[u8]>::to_ascii_lowercase);
        match (option.as_deref(), args.len()) {
            (None, _) => Ok(Self::default()),
            (Some(b"type"), 4) => Ok(Self { kind: Some(Kind::parse(&args[3])?), ids: None }),
            (Some(b"id"), 4..) => {
                let ids: Option<Vec<u64>> = args.iter().skip(3).map(parse_listed_id).collect();
                let ids = ids.ok_or(CommandError::text("ERR Invalid client ID"))?;
                Ok(Self { kind: None, ids: Some(ids) })
            }
            _ => Err(CommandError::Syntax),
        }
    }

    fn matches(&self, session: &Session) -> bool {
        self.kind.is_none_or(|kind| kind == Kind::of(session))
            && self.ids.as_ref().is_none_or(|ids| ids.contains(&session.id))
    }

    /// Lines of all workers in the order asked for: as the identifiers were given, or by age.
    fn sort(&self, lines: &mut [(u64, String)]) {
        let place = |id: u64| match &self.ids {
            Some(ids) => ids.iter().position(|&asked| asked == id).unwrap_or(usize::MAX) as u64,
            None => id,
        };
        lines.sort_by_key(|(id, _)| place(*id));
    }
}

/// Numbers that no client can have are passed over, as in Redis.
fn parse_listed_id(text: &[u8]) -> Option<u64> {
    parse_i64(text).map(|id| u64::try_from(id).unwrap_or(0))
}

fn ask_list(_: &mut SessionContext<'_>, args: &Args<'_>) -> Result<Asked, CommandError> {
    let list = List::parse(args)?;
    let finish = move |parts: &[ReplyBuffer], reply: &mut ReplyWriter<'_>| {
        let mut lines: Vec<(u64, String)> = parts.iter().flat_map(lines_of).collect();
        list.sort(&mut lines);
        let text: String = lines.into_iter().map(|(_, line)| line + "\n").collect();
        reply.verbatim("txt", text.as_bytes());
    };
    let args = args.iter().map(<[u8]>::to_vec).collect();
    Ok(Asked::Workers { args, merge: Merge::Custom(Box::new(finish)) })
}

/// The lines of one worker's answer with their clients' numbers.
fn lines_of(part: &ReplyBuffer) -> Vec<(u64, String)> {
    let text = String::from_utf8_lossy(&bulk_of(part)).into_owned();
    let id_of = |line: &str| line.strip_prefix("id=")?.split(' ').next()?.parse().ok();
    text.lines().filter_map(|line| Some((id_of(line)?, line.to_owned()))).collect()
}

fn list_part(worker: &mut Worker, args: &Args<'_>, reply: &mut ReplyWriter<'_>) {
    let list = List::parse(args).unwrap_or_default();
    let mut text = String::new();
    for (id, connection) in worker.network.connections() {
        let session = &connection.session;
        if !list.matches(session) || connection.is_closing() {
            continue;
        }
        text.push_str(&client_line(session, Sizes::of(id, connection), worker.now_us));
        text.push('\n');
    }
    reply.bulk(text.as_bytes());
}

/// The arguments for all workers: the number of the client that asks, then the command's own.
fn passed_on(cx: &SessionContext<'_>, args: &Args<'_>) -> Vec<Vec<u8>> {
    let asking = cx.session.id.to_string().into_bytes();
    std::iter::once(asking).chain(args.iter().map(<[u8]>::to_vec)).collect()
}

/// CLIENT UNBLOCK id [TIMEOUT | ERROR]: whether the client waited.
fn ask_unblock(_: &mut SessionContext<'_>, args: &Args<'_>) -> Result<Asked, CommandError> {
    if !matches!(
        args.get(3).map(<[u8]>::to_ascii_lowercase).as_deref(),
        None | Some(b"timeout" | b"error")
    ) {
        return Err(CommandError::text("ERR CLIENT UNBLOCK reason should be TIMEOUT or ERROR"));
    }
    parse_i64(&args[2]).ok_or(CommandError::NotAnInteger)?;
    Ok(Asked::Workers {
        args: args.iter().map(<[u8]>::to_vec).collect(),
        merge: Merge::Parts(tessera_engine::transaction::merge::Merge::Sum),
    })
}

fn unblock_part(worker: &mut Worker, args: &Args<'_>, reply: &mut ReplyWriter<'_>) {
    let number = parse_i64(&args[2]).and_then(|number| u64::try_from(number).ok());
    let by_error = args.get(3).is_some_and(|reason| reason.eq_ignore_ascii_case(b"error"));
    let end = if by_error { End::Error } else { End::Timeout };
    let found = worker.network.connections().find(|(_, open)| Some(open.session.id) == number);
    let stopped = found
        .map(|(id, _)| id)
        .is_some_and(|id| worker.stop_waiting(id, None, end) || worker.stop_ack(id, end));
    reply.integer(stopped.into());
}

#[cfg(test)]
mod tests {
    use tessera_proto::RequestBatch;

    use super::*;

    fn with_args<T>(line: &str, run: impl FnOnce(&Args<'_>) -> T) -> T {
        let mut batch = RequestBatch::new();
        batch.push_slices(line.split(' ').map(str::as_bytes));
        run(&batch.get(0).unwrap())
    }

    fn kill(line: &str) -> Result<Kill, String> {
        with_args(line, |args| Kill::parse(args).map_err(|error| error.to_string()))
    }

    fn session(id: u64) -> Session {
        Session::new(id, format!("127.0.0.1:{id}"), "127.0.0.1:6379".into(), 0, true)
    }

    #[test]
    fn all_conditions_must_hold() {
        let kill =
            kill("client kill ID 5 ADDR 127.0.0.1:5 TYPE normal MAXAGE 2 SKIPME no").unwrap();
        assert!(!kill.skips_self && !kill.is_old_form);
        assert!(kill.filter.matches(&session(5), 2_000_000));
        assert!(!kill.filter.matches(&session(5), 1_999_999));
        assert!(!kill.filter.matches(&session(6), 2_000_000));
    }

    #[test]
    fn a_lone_address_is_the_old_form() {
        let kill = kill("client kill 127.0.0.1:9").unwrap();
        assert!(kill.is_old_form && !kill.skips_self);
        assert!(kill.filter.matches(&session(9), 0));
    }

    #[test]
    fn wrong_filters_are_refused() {
        let cases = [
            ("client kill ID 0", "ERR client-id should be greater than 0"),
            ("client kill ID x", "ERR client-id should be greater than 0"),
            ("client kill TYPE odd", "ERR Unknown client type 'odd'"),
            ("client kill USER bob", "ERR No such user 'bob'"),
            ("client kill MAXAGE 0", "ERR maxage should be greater than 0"),
            ("client kill MAXAGE z", "ERR maxage is not an integer or out of range"),
            ("client kill ID 1 SKIPME", "ERR syntax error"),
            ("client kill SKIPME maybe", "ERR syntax error"),
            ("client kill WHAT 1", "ERR syntax error"),
        ];
        for (line, expected) in cases {
            assert_eq!(kill(line).err().as_deref(), Some(expected), "{line}");
        }
    }

    #[test]
    fn lists_keep_the_order_of_the_numbers_asked_for() {
        let list = with_args("client list id 3 1 -4 2", |args| List::parse(args).unwrap());
        let mut lines: Vec<(u64, String)> = [1, 2, 3].map(|id| (id, String::new())).into();
        list.sort(&mut lines);
        assert_eq!(lines.iter().map(|(id, _)| *id).collect::<Vec<_>>(), [3, 1, 2]);
        assert!(list.matches(&session(2)) && !list.matches(&session(4)));
    }

    #[test]
    fn wrong_lists_are_refused() {
        let list = |line| with_args(line, |args| List::parse(args).unwrap_err().to_string());
        assert_eq!(list("client list id x"), "ERR Invalid client ID");
        assert_eq!(list("client list type x"), "ERR Unknown client type 'x'");
        assert_eq!(list("client list id"), "ERR syntax error");
        assert_eq!(list("client list what ever"), "ERR syntax error");
    }
}
