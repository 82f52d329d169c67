//! A client and its connection: sends its script in pipelines and notes when each reply came.

use std::collections::VecDeque;

use super::check::{Effect, Operation};

/// What a client asks of one key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action {
    Read,
    Write(u32),
}

/// One command: what it does to which keys.
#[derive(Clone, Debug)]
pub(super) struct Command {
    pub(super) parts: Vec<(usize, Action)>,
    /// It needs its keys together: over several shards these are lent. Otherwise it goes in parts.
    pub(super) together: bool,
    /// It does not declare its last key.
    pub(super) hidden: bool,
}

pub(super) struct Connection {
    /// The worker that the connection lives on.
    pub(super) worker: usize,
    /// Whether a command over lent shards is under way, so that nothing may leave.
    pub(super) stopped: bool,
    script: VecDeque<Vec<Command>>,
    /// What has arrived at the worker and not left yet, with numbers by the order sent.
    pub(super) input: VecDeque<(usize, Command)>,
    sent: Vec<Sent>,
    /// Commands whose reply has reached the client.
    replied: usize,
}

struct Sent {
    invoked: u64,
    returned: Option<u64>,
    effects: Vec<(usize, Option<Effect>)>,
}

impl Connection {
    pub(super) fn new(worker: usize, pipelines: Vec<Vec<Command>>) -> Self {
        let script = pipelines.into();
        let (input, sent) = (VecDeque::new(), Vec::new());
        Connection { worker, stopped: false, script, input, sent, replied: 0 }
    }

    /// Whether the client has everything it asked for and more to ask.
    pub(super) fn may_send(&self) -> bool {
        self.replied == self.sent.len() && !self.script.is_empty()
    }

    pub(super) fn is_finished(&self) -> bool {
        self.replied == self.sent.len() && self.script.is_empty()
    }

    /// How many commands the client has sent so far.
    pub(super) fn sent(&self) -> usize {
        self.sent.len()
    }

    /// The client writes its next pipeline.
    pub(super) fn send(&mut self, now: u64) {
        for command in self.script.pop_front().into_iter().flatten() {
            let effects = command.parts.iter().map(|&(key, _)| (key, None)).collect();
            self.input.push_back((self.sent.len(), command));
            self.sent.push(Sent { invoked: now, returned: None, effects });
        }
    }

    /// The result of one part is there. The client hears of it once all before it is there too.
    pub(super) fn complete(&mut self, command: usize, part: usize, effect: Effect, now: u64) {
        let previous = self.sent[command].effects[part].1.replace(effect);
        assert_eq!(previous, None, "a part is executed once");
        while let Some(sent) = self.sent.get_mut(self.replied) {
            if sent.effects.iter().any(|(_, effect)| effect.is_none()) {
                break;
            }
            sent.returned = Some(now);
            self.replied += 1;
        }
    }

    /// The finished operations, in the order sent.
    pub(super) fn operations(&self) -> Vec<Operation> {
        let finished = |sent: &Sent| {
            let effects = sent.effects.iter().map(|&(key, effect)| Some((key, effect?)));
            Some(Operation {
                invoked: sent.invoked,
                returned: sent.returned?,
                effects: effects.collect::<Option<_>>()?,
                atomic: true,
            })
        };
        self.sent.iter().map_while(finished).collect()
    }
}
