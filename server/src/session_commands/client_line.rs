//! One client as CLIENT LIST and CLIENT INFO show it.
#![forbid(unsafe_code)]

use std::fmt::Write as _;

use tessera_engine::notice::audience::Kind;

use super::tracking::redirection;
use crate::{
    net::{Connection, ConnectionId},
    session::{Session, Standing},
};

/// What a connection holds, in bytes.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Sizes {
    /// Input that is not executed yet.
    pub input: usize,
    /// Memory for input that holds none.
    pub input_free: usize,
    /// Output that is not sent yet.
    pub output: usize,
    /// Everything together.
    pub total: usize,
    /// Received since the connection was made.
    pub received: u64,
    /// Sent since the connection was made.
    pub sent: u64,
    /// The connection's place at its worker, where Redis shows the file descriptor.
    pub place: u64,
}

impl Sizes {
    /// What `connection` holds now.
    pub(crate) fn of(id: ConnectionId, connection: &Connection<Session>) -> Self {
        let (input, output) = (connection.input.len(), connection.pending_output());
        Self {
            input,
            input_free: connection.input.memory().saturating_sub(input),
            output,
            total: size_of::<Connection<Session>>() + connection.input.memory() + output,
            received: connection.received,
            sent: connection.sent,
            place: u64::from(id.index),
        }
    }
}

/// The output that Redis keeps in a client's own buffer; what is beyond it Redis lists in blocks of
/// this size, and shows as `oll` and `omem`, by which slow readers are found.
const OWN_OUTPUT_BYTES: usize = 16 << 10;

/// The fields in Redis's order, without a line end.
pub(super) fn client_line(session: &Session, sizes: Sizes, now_us: i64) -> String {
    let seconds_since = |then_us: i64| (now_us - then_us).max(0) / 1_000_000;
    let command = session.last_command.map_or("NULL", |command| command.full_name);
    let subscriptions = session.subscriptions.as_deref();
    let listed_output = sizes.output.saturating_sub(OWN_OUTPUT_BYTES);
    let count = |kind| subscriptions.map_or(0, |own| own.names(kind).len());
    let mut line = String::with_capacity(320);
    // Writing to a String cannot fail.
    let _ = write!(
        line,
        "id={} addr={} laddr={} fd={} name={} age={} idle={} flags={} db={} sub={} psub={} ssub={} \
         multi={} watch={} qbuf={} qbuf-free={} argv-mem=0 multi-mem={} rbs=0 rbp=0 obl={} oll={} \
         omem={} tot-mem={} events={} cmd={command} user=default redir={} resp={} lib-name={} \
         lib-ver={} tot-net-in={} tot-net-out={} tot-cmds={}",
        session.id,
        session.peer,
        session.local,
        sizes.place,
        session.name,
        seconds_since(session.created_us),
        seconds_since(session.active_us),
        flags(session),
        session.database,
        count(Kind::Channel),
        count(Kind::Pattern),
        count(Kind::Sharded),
        session.queue.as_ref().map_or(-1, |queue| queue.len() as i64),
        session.watch.as_ref().map_or(0, |watch| watch.len()),
        sizes.input,
        sizes.input_free,
        queued_bytes(session),
        sizes.output - listed_output,
        listed_output.div_ceil(OWN_OUTPUT_BYTES),
        listed_output,
        sizes.total + queued_bytes(session),
        if sizes.output > 0 { "rw" } else { "r" },
        redirection(session.tracking.as_deref()),
        session.protocol.version(),
        session.library_name,
        session.library_version,
        sizes.received,
        sizes.sent,
        session.commands,
    );
    line
}

/// What a name in one of a session's lists takes besides itself, about.
const NAME_BYTES: usize = 64;

/// Bytes that a client holds: what it has sent and has not read, and what its session keeps.
pub(crate) fn client_bytes(id: ConnectionId, connection: &Connection<Session>) -> usize {
    let session = &connection.session;
    let subscriptions = session.subscriptions.as_deref();
    let subscribed: usize = [Kind::Channel, Kind::Pattern, Kind::Sharded]
        .into_iter()
        .map(|kind| subscriptions.map_or(0, |own| own.names(kind).len()))
        .sum();
    let watched = session.watch.as_ref().map_or(0, |watch| watch.len());
    let names = (subscribed + watched) * NAME_BYTES;
    Sizes::of(id, connection).total + queued_bytes(session) + names
}

/// Bytes that commands in MULTI take.
fn queued_bytes(session: &Session) -> usize {
    session.queue.as_ref().map_or(0, |queue| queue.memory_bytes())
}

/// The client's state, a letter each.
fn flags(session: &Session) -> String {
    let tracking = session.tracking.as_deref();
    let states = [
        (session.monitors, 'O'),
        (session.has_subscriptions(), 'P'),
        (session.queue.is_some(), 'x'),
        (session.wait.is_some() || session.awaits_ack, 'b'),
        (tracking.is_some(), 't'),
        (tracking.is_some_and(|tracking| tracking.is_broken), 'R'),
        (tracking.is_some_and(|tracking| tracking.broadcast), 'B'),
        (session.watch.as_ref().is_some_and(|watch| watch.is_dirty()), 'd'),
        (session.standing == Standing::Finished, 'c'),
        (session.peer.starts_with('/'), 'U'),
        (session.no_evict, 'e'),
        (session.no_touch, 'T'),
    ];
    let letters: String = states.iter().filter(|(set, _)| *set).map(|(_, letter)| letter).collect();
    if letters.is_empty() { "N".into() } else { letters }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn session() -> Session {
        Session::new(7, "127.0.0.1:5000".into(), "127.0.0.1:6379".into(), 1_000_000, true)
    }

    #[test]
    fn fields_come_in_the_order_of_redis() {
        let mut session = session();
        session.name = "app".into();
        let line = client_line(&session, Sizes { input: 26, ..Sizes::default() }, 9_500_000);
        let start = "id=7 addr=127.0.0.1:5000 laddr=127.0.0.1:6379 fd=0 name=app age=8 idle=8 \
                     flags=N db=0 sub=0 psub=0 ssub=0 multi=-1 watch=0 qbuf=26 ";
        assert!(line.starts_with(start), "{line}");
        assert!(line.contains(" cmd=NULL user=default redir=-1 resp=2 lib-name= lib-ver= "));
        assert!(!line.contains('\n'));
    }

    #[test]
    fn output_beyond_a_buffer_is_listed() {
        let shown = |output| {
            let line = client_line(&session(), Sizes { output, ..Sizes::default() }, 0);
            let at = line.find(" obl=").expect("obl");
            line[at + 1..].split(" cmd=").next().expect("cmd").to_owned()
        };
        assert_eq!(shown(0), "obl=0 oll=0 omem=0 tot-mem=0 events=r");
        assert_eq!(shown(16_384), "obl=16384 oll=0 omem=0 tot-mem=0 events=rw");
        assert_eq!(shown(40_000), "obl=16384 oll=2 omem=23616 tot-mem=0 events=rw");
    }

    /// The fields of Redis 7.2, and behind them those of Valkey 8.
    #[test]
    fn all_fields_of_redis_are_shown_in_its_order() {
        let wanted = "id addr laddr fd name age idle flags db sub psub ssub multi watch qbuf qbuf-free \
                      argv-mem multi-mem rbs rbp obl oll omem tot-mem events cmd user redir resp \
                      lib-name lib-ver tot-net-in tot-net-out tot-cmds";
        let line = client_line(&session(), Sizes::default(), 0);
        let names: Vec<&str> =
            line.split(' ').filter_map(|field| Some(field.split_once('=')?.0)).collect();
        assert_eq!(names.join(" "), wanted);
    }

    #[test]
    fn states_are_letters() {
        let mut session = session();
        session.no_touch = true;
        session.no_evict = true;
        assert_eq!(flags(&session), "eT");
        session.peer = "/tmp/socket:0".into();
        assert_eq!(flags(&session), "UeT");
    }
}
