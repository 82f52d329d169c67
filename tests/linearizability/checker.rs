//! The search for an order, after Wing and Gong, with Lowe's memory of dead ends.
//!
//! State of the search: how many events of each client are placed, and the key's value. An event
//! may come next when it is its client's next, and no unplaced event ended before it began.

use std::collections::HashSet;
use std::time::Instant;

use crate::harness::Reply;

/// A command on the one key of a history.
#[derive(Clone, Debug)]
pub(super) enum Operation {
    Get,
    Set(Vec<u8>),
    SetIfAbsent(Vec<u8>),
    GetSet(Vec<u8>),
    Append(Vec<u8>),
    Delete,
    GetDelete,
    Length,
}

type Value = Option<Vec<u8>>;

impl Operation {
    pub(super) fn command(&self, key: &str) -> Vec<Vec<u8>> {
        let (name, value) = match self {
            Operation::Get => ("GET", None),
            Operation::Set(value) => ("SET", Some(value)),
            Operation::SetIfAbsent(value) => ("SETNX", Some(value)),
            Operation::GetSet(value) => ("GETSET", Some(value)),
            Operation::Append(value) => ("APPEND", Some(value)),
            Operation::Delete => ("DEL", None),
            Operation::GetDelete => ("GETDEL", None),
            Operation::Length => ("STRLEN", None),
        };
        [name.as_bytes().to_vec(), key.as_bytes().to_vec()]
            .into_iter()
            .chain(value.cloned())
            .collect()
    }

    /// The reply that the command must get on `value`, and the value after it.
    fn apply(&self, value: &Value) -> (Reply, Value) {
        let old = || value.as_ref().map_or(Reply::NullBulk, Reply::bulk);
        let length = |value: &Value| value.as_ref().map_or(0, |bytes| bytes.len() as i64);
        match self {
            Operation::Get => (old(), value.clone()),
            Operation::Set(new) => (Reply::ok(), Some(new.clone())),
            Operation::SetIfAbsent(new) => match value {
                None => (Reply::Integer(1), Some(new.clone())),
                some => (Reply::Integer(0), some.clone()),
            },
            Operation::GetSet(new) => (old(), Some(new.clone())),
            Operation::Append(tail) => {
                let all = Some([value.as_deref().unwrap_or_default(), tail].concat());
                (Reply::Integer(length(&all)), all)
            }
            Operation::Delete => (Reply::Integer(i64::from(value.is_some())), None),
            Operation::GetDelete => (old(), None),
            Operation::Length => (Reply::Integer(length(value)), value.clone()),
        }
    }
}

/// A command that has been run: it took effect between `begin` and `end`.
#[derive(Debug)]
pub(super) struct Event {
    pub(super) operation: Operation,
    pub(super) reply: Reply,
    pub(super) begin: Instant,
    pub(super) end: Instant,
}

/// Whether one order of all events explains every reply. `history` has one list a client, in
/// program order; the key is absent at first.
pub(super) fn explain(history: &[Vec<Event>]) -> bool {
    let start = (vec![0; history.len()], None);
    let mut dead_ends = HashSet::from([start.clone()]);
    let mut open = vec![start];
    while let Some((placed, value)) = open.pop() {
        if placed.iter().zip(history).all(|(&count, events)| count == events.len()) {
            return true;
        }
        for client in candidates(history, &placed) {
            let event = &history[client][placed[client]];
            let (reply, after) = event.operation.apply(&value);
            if reply == event.reply {
                let mut placed = placed.clone();
                placed[client] += 1;
                let state = (placed, after);
                if dead_ends.insert(state.clone()) {
                    open.push(state);
                }
            }
        }
    }
    false
}

/// Clients whose next event may be the next of all.
fn candidates(history: &[Vec<Event>], placed: &[usize]) -> Vec<usize> {
    let next = |client: usize| history[client].get(placed[client]);
    // A client's later events end later: the earliest end is among the next ones.
    let earliest_end = (0..history.len()).filter_map(|client| Some(next(client)?.end)).min();
    (0..history.len())
        .filter(|&client| {
            next(client).zip(earliest_end).is_some_and(|(event, end)| event.begin <= end)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// A history from (operation, reply, begin, end), the times in arbitrary units.
    fn history(clients: &[&[(Operation, Reply, u64, u64)]]) -> Vec<Vec<Event>> {
        let zero = Instant::now();
        let at = |time: u64| zero + Duration::from_secs(time);
        let event = |(operation, reply, begin, end): &(Operation, Reply, u64, u64)| Event {
            operation: operation.clone(),
            reply: reply.clone(),
            begin: at(*begin),
            end: at(*end),
        };
        clients.iter().map(|events| events.iter().map(event).collect()).collect()
    }

    fn set(value: &str) -> Operation {
        Operation::Set(value.into())
    }

    #[test]
    fn overlapping_commands_may_stand_in_either_order() {
        for seen in [Reply::NullBulk, Reply::bulk("1")] {
            let one = [(set("1"), Reply::ok(), 0, 10)];
            let two = [(Operation::Get, seen, 5, 6)];
            assert!(explain(&history(&[&one, &two])));
        }
    }

    #[test]
    fn a_stale_read_is_found() {
        let one = [(set("1"), Reply::ok(), 0, 1)];
        let two = [(Operation::Get, Reply::NullBulk, 2, 3)];
        assert!(!explain(&history(&[&one, &two])));
    }

    #[test]
    fn a_lost_update_is_found() {
        let one = [(Operation::Append(b"a".into()), Reply::Integer(1), 0, 5)];
        let two = [(Operation::Append(b"b".into()), Reply::Integer(1), 0, 5)];
        assert!(!explain(&history(&[&one, &two])));
    }

    #[test]
    fn a_write_seen_and_then_unseen_is_found() {
        let writer = [(set("1"), Reply::ok(), 0, 10)];
        let first = [(Operation::Get, Reply::bulk("1"), 1, 2)];
        let second = [(Operation::Get, Reply::NullBulk, 3, 4)];
        assert!(!explain(&history(&[&writer, &first, &second])));
        assert!(explain(&history(&[&writer, &second, &first[..0]])));
    }

    #[test]
    fn program_order_inside_a_pipeline_is_kept() {
        // Both were sent at once, so time alone would allow either order.
        let one = [(set("1"), Reply::ok(), 0, 5), (Operation::Get, Reply::NullBulk, 0, 6)];
        assert!(!explain(&history(&[&one])));
    }

    #[test]
    fn a_key_set_twice_if_absent_is_found() {
        let once = |value: &str| Operation::SetIfAbsent(value.into());
        let one = [(once("1"), Reply::Integer(1), 0, 5)];
        let two = [(once("2"), Reply::Integer(1), 0, 5)];
        assert!(!explain(&history(&[&one, &two])));
    }
}
