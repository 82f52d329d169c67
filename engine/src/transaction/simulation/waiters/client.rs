//! Clients: what they send, and how it is said to a shard.

use std::collections::VecDeque;

use tessera_proto::RequestBatch;

use super::model::{Called, Op, Outcome};

/// Names of keys: the even ones are lists, the odd ones streams. Of 2, 3 or 4 shards the first two of
/// each kind are on different ones.
const NAMES: [&str; 6] = ["a", "s", "b", "t", "c", "x"];

/// The name of a key.
pub(super) fn name(key: usize) -> &'static str {
    NAMES[key]
}

/// How many keys there are at most.
pub(super) const KEYS: usize = NAMES.len();

/// Whether a key holds a stream.
pub(super) fn is_stream(key: usize) -> bool {
    key % 2 == 1
}

/// The requests that say `op`: several for a unit.
pub(super) fn requests(op: &Op) -> RequestBatch {
    let mut batch = RequestBatch::new();
    for line in lines(op) {
        batch.push_slices(line.split(' ').map(str::as_bytes));
    }
    batch
}

fn lines(op: &Op) -> Vec<String> {
    let names = |keys: &[usize]| keys.iter().map(|&key| name(key)).collect::<Vec<_>>().join(" ");
    match op {
        Op::Push { key, value } if is_stream(*key) => {
            vec![format!("XADD {} * v {value}", name(*key))]
        }
        Op::Push { key, value } => vec![format!("RPUSH {} {value}", name(*key))],
        Op::Pop { key } => vec![format!("LPOP {}", name(*key))],
        Op::Look { keys } => keys.iter().map(|&key| format!("LRANGE {} 0 -1", name(key))).collect(),
        Op::Move { from, to } => vec![format!("LMOVE {} {} LEFT RIGHT", name(*from), name(*to))],
        Op::WaitMove { from, to } => {
            vec![format!("BLMOVE {} {} LEFT RIGHT 0", name(*from), name(*to))]
        }
        Op::WaitPop { keys } => vec![format!("BLPOP {} 0", names(keys))],
        Op::WaitRead { keys } => {
            let new = vec![">"; keys.len()].join(" ");
            vec![format!("XREADGROUP GROUP g c BLOCK 0 STREAMS {} {new}", names(keys))]
        }
        Op::Unit(ops) => ops.iter().flat_map(lines).collect(),
    }
}

/// The values in a reply. Names, ids, lengths and null are none.
pub(super) fn numbers(reply: &[u8]) -> Vec<u32> {
    let text = String::from_utf8_lossy(reply);
    assert!(!text.starts_with('-'), "no command fails: {text}");
    let lines = text.lines().filter(|line| !line.starts_with(['*', '$', ':']));
    lines.filter_map(|line| line.parse().ok()).collect()
}

/// A client and its connection.
pub(super) struct Client {
    /// The worker that serves it.
    pub(super) worker: usize,
    /// How long it thinks before it sends, in steps.
    pace: u64,
    /// When the last reply came.
    thinks_since: u64,
    /// What it has still to send.
    script: VecDeque<Vec<Op>>,
    /// What has arrived and is not executed, by number.
    pub(super) input: VecDeque<usize>,
    calls: Vec<Called>,
    /// Calls whose outcome the client knows.
    replied: usize,
    /// A command over lent shards is under way, or waits.
    pub(super) is_stopped: bool,
    /// It is gone.
    pub(super) has_left: bool,
}

impl Client {
    pub(super) fn new(worker: usize, script: Vec<Vec<Op>>, pace: u64) -> Self {
        Self {
            worker,
            pace,
            thinks_since: 0,
            script: script.into(),
            input: VecDeque::new(),
            calls: Vec::new(),
            replied: 0,
            is_stopped: false,
            has_left: false,
        }
    }

    pub(super) fn op(&self, number: usize) -> &Op {
        &self.calls[number].op
    }

    /// Whether the client has all replies and more to send.
    fn has_more(&self) -> bool {
        !self.has_left && self.replied == self.calls.len() && !self.script.is_empty()
    }

    /// Whether it has, and has thought enough.
    pub(super) fn may_send(&self, now: u64) -> bool {
        self.has_more() && now >= self.thinks_since + self.pace
    }

    /// Whether nothing is left to be done for it, unless it waits.
    pub(super) fn is_settled(&self) -> bool {
        let waits = self.calls.get(self.replied).is_none_or(|call| call.waited < u64::MAX);
        !self.has_more() && (self.has_left || waits)
    }

    /// Sends its next pipeline.
    pub(super) fn send(&mut self, now: u64) {
        for op in self.script.pop_front().into_iter().flatten() {
            self.input.push_back(self.calls.len());
            let (waited, returned) = (u64::MAX, u64::MAX);
            self.calls.push(Called { op, invoked: now, waited, returned, outcome: Outcome::Waits });
        }
    }

    /// A command waits from now on.
    pub(super) fn waits(&mut self, number: usize, now: u64) {
        self.calls[number].waited = now;
    }

    /// The outcome of a command is there. The client hears of it once all before it is there too.
    pub(super) fn complete(&mut self, number: usize, outcome: Outcome, now: u64) {
        let call = &mut self.calls[number];
        assert_eq!(call.outcome, Outcome::Waits, "a command has one outcome");
        call.outcome = outcome;
        call.waited = call.waited.min(now);
        while let Some(call) = self.calls.get_mut(self.replied)
            && call.outcome != Outcome::Waits
        {
            (call.returned, self.thinks_since) = (now, now);
            self.replied += 1;
        }
    }

    /// What has been executed of its commands, and what waits.
    pub(super) fn history(&self) -> Vec<Called> {
        let waits = self.calls.get(self.replied).is_some_and(|call| call.waited < u64::MAX);
        let count = self.replied + usize::from(waits);
        self.calls[..count].to_vec()
    }
}
