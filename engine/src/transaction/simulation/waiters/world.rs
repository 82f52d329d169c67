//! All workers, mailboxes and clients, and who moves next.

use std::collections::VecDeque;

use tessera_proto::{Protocol, ReplyBuffer, RequestBatch};

use super::{
    client::{Client, KEYS, is_stream, name, numbers},
    model::{History, Outcome},
    worker::{Message, Origin, Worker},
};
use crate::{
    command::table,
    shard::{Call, Caller, Settings as ShardSettings, Shard},
    transaction::{ShardMap, simulation::random::Random},
};

/// A part of the rules that a test breaks, to see that the model objects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// A client waits, and nobody is told that its keys are coupled.
    Unannounced,
    /// A worker hears of couplings while something is packed that was routed without them.
    HearWhilePacked,
    /// What is needed of couplings is one step of them.
    OneStepOnly,
    /// Waiters are served with the next unit, and not at the end of the one that brought something.
    ServeLater,
    /// Time is over for a client whose waiter somebody may have claimed.
    TimeOutUnclaimed,
    /// A client leaves whose waiter somebody may have claimed.
    LeaveUnclaimed,
    /// A waiter can be claimed again.
    AnsweredTwice,
    /// A connection goes on while its command waits.
    GoOnWhileWaiting,
    /// Who came last is served first.
    LastFirst,
}

/// What a simulation is made of, beside its clients.
#[derive(Clone, Copy, Debug)]
pub(super) struct Settings {
    pub(super) workers: usize,
    pub(super) fault: Option<Fault>,
}

/// What the workers share with each other and with the clients.
pub(super) struct Shared {
    pub(super) settings: Settings,
    pub(super) map: ShardMap,
    pub(super) now: u64,
    pub(super) mailboxes: Vec<VecDeque<Message>>,
    pub(super) clients: Vec<Client>,
}

impl Shared {
    pub(super) fn has_fault(&self, fault: Fault) -> bool {
        self.settings.fault == Some(fault)
    }

    /// The outcome of a command is there.
    pub(super) fn complete(&mut self, origin: Origin, outcome: Outcome) {
        self.clients[origin.client].complete(origin.number, outcome, self.now);
    }
}

/// Far beyond what any of the workloads needs.
const STEPS_MAX: u64 = 100_000;

/// Runs until every client has all its replies, or waits; answers what happened.
pub(super) fn run(
    settings: Settings,
    clients: Vec<Client>,
    mut random: Random,
) -> Result<History, String> {
    let mut shared = Shared {
        settings,
        map: ShardMap::new(settings.workers),
        now: 0,
        mailboxes: (0..settings.workers).map(|_| VecDeque::new()).collect(),
        clients,
    };
    let mut workers: Vec<Worker> =
        (0..settings.workers).map(|own| Worker::new(own, shard(own, &shared), &shared)).collect();
    // Now and then one worker gets no time.
    let (mut stopped, patience) = (None, random.between(5, 120));
    while !is_settled(&shared, &workers) {
        shared.now += 1;
        if shared.now > STEPS_MAX {
            return Err("the workers wait for each other".to_owned());
        }
        if random.one_in(patience) {
            stopped = random.one_in(2).then(|| random.below(workers.len()));
        }
        let choice = random.below(shared.clients.len() + 4 * workers.len());
        if let Some(client) = shared.clients.get_mut(choice) {
            if client.may_send(shared.now) {
                client.send(shared.now);
            }
            continue;
        }
        let worker = choice % workers.len();
        if stopped != Some(worker) {
            workers[worker].step(&mut shared, &mut random);
        }
    }
    let mut left = vec![Vec::new(); KEYS];
    for (own, worker) in workers.into_iter().enumerate() {
        let Some(mut shard) = worker.into_shard() else { continue };
        for key in (0..KEYS).filter(|&key| is_own(key, own, &shared)) {
            left[key] = held(&mut shard, key);
        }
    }
    let connections = shared.clients.iter().map(Client::history).collect();
    Ok(History { connections, left })
}

fn is_settled(shared: &Shared, workers: &[Worker]) -> bool {
    shared.clients.iter().all(Client::is_settled)
        && shared.mailboxes.iter().all(VecDeque::is_empty)
        && workers.iter().all(Worker::is_quiet)
}

/// The shard of a worker, with the groups of its streams.
fn shard(own: usize, shared: &Shared) -> Box<Shard> {
    let settings = ShardSettings { databases: 1, ..ShardSettings::default() };
    let mut shard = Box::new(Shard::new(own as u64, settings));
    shard.advance_clock_us(1_700_000_000_000_000);
    if shared.has_fault(Fault::LastFirst) {
        shard.serve_last_first();
    }
    for key in (0..KEYS).filter(|&key| is_own(key, own, shared) && is_stream(key)) {
        execute(&mut shard, &format!("XGROUP CREATE {} g $ MKSTREAM", name(key)));
    }
    shard
}

fn is_own(key: usize, own: usize, shared: &Shared) -> bool {
    shared.map.owner(name(key).as_bytes()) as usize == own
}

/// What a key holds; of a stream, what its group has not read.
fn held(shard: &mut Shard, key: usize) -> Vec<u32> {
    let line = match is_stream(key) {
        true => format!("XREADGROUP GROUP g end STREAMS {} >", name(key)),
        false => format!("LRANGE {} 0 -1", name(key)),
    };
    numbers(&execute(shard, &line))
}

fn execute(shard: &mut Shard, line: &str) -> Vec<u8> {
    let mut batch = RequestBatch::new();
    batch.push_slices(line.split(' ').map(str::as_bytes));
    let args = batch.get(0).expect("one request");
    let command = table().resolve(&args).expect("a command");
    let (protocol, caller) = (Protocol::Resp2, Caller::default());
    let call = Call { command, args, database: 0, protocol, no_touch: false, caller };
    let mut out = ReplyBuffer::new();
    let _ = shard.execute(&call, &mut out);
    out.to_vec()
}
