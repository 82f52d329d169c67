//! The world of the simulation: workers whose steps are drawn at random, and their disk.
#![forbid(unsafe_code)]

use std::collections::{BTreeSet, VecDeque};

use tessera_proto::{Args, Protocol, ReplyBuffer};

use super::clients::{Clients, Id};
use crate::{
    command::{table, testing::lay_out},
    persist::{
        doubt::Doubt,
        epoch::Epochs,
        log::{LogIdentity, LogWriter, SyncPolicy},
        manifest::{FILE_NAME, Manifest, segment_name},
        recovery::{Loaded, NewShards, Plan, Progress, RecoveryError, load, plan, read_manifest},
    },
    shard::{Call, Caller, Settings, Shard},
    sys::{
        disk::{
            Directory, DiskEvent,
            simulated::{SimDisk, SimLog},
        },
        random::Random,
    },
};

const CLIENTS: usize = 6;
const SHARDS_MAX: u64 = 4;

/// A mistake that is made on purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Faulty {
    Not,
    /// Answers leave before what they tell of is durable.
    AnswersAtOnce,
    /// A round begins while another worker is still in one of the epoch before.
    OverlappingEpochs,
    /// A worker says that it has run an epoch while parcels of it wait.
    ClosesEarly,
    /// While a log cannot be written reads are answered at once, whatever they have seen.
    ReadsLeaveEarly,
}

/// What was tried.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Outcome {
    pub(super) told: u64,
    pub(super) units: u64,
    pub(super) kept: u64,
    pub(super) lost: u64,
    pub(super) failures: u64,
    /// Reads that were answered although a log could not be written.
    pub(super) spared: u64,
}

impl Outcome {
    pub(super) fn add(&mut self, other: &Self) {
        self.told += other.told;
        self.units += other.units;
        self.kept += other.kept;
        self.lost += other.lost;
        self.failures += other.failures;
        self.spared += other.spared;
    }
}

/// What a client asks of one shard.
#[derive(Clone, Debug)]
enum Request {
    Write(Id),
    Look(Id),
}

/// A request in a mailbox.
#[derive(Clone, Debug)]
struct Parcel {
    stamp: u64,
    client: usize,
    request: Request,
    /// The writes that are acknowledged when it is done.
    acknowledges: Vec<Id>,
}

/// What a client is to be told.
#[derive(Debug)]
struct Answer {
    client: usize,
    /// The epoch that must be durable first.
    hold: u64,
    acknowledges: Vec<Id>,
    saw: Option<Id>,
}

struct Worker {
    shard: Shard,
    mailbox: VecDeque<Parcel>,
    taken: u64,
    served: u64,
    /// The epoch of the round that it is in.
    round: Option<u64>,
    /// Up to here the mailbox must be served before the epoch before the present one is run.
    ran_at: Option<u64>,
    writer: LogWriter,
    log: SimLog,
    answers: VecDeque<Answer>,
    /// What may be lost while a log cannot be written.
    doubt: Option<Doubt>,
}

pub(super) struct World {
    pub(super) disk: SimDisk,
    pub(super) outcome: Outcome,
    random: Random,
    policy: SyncPolicy,
    /// `appendfsync` is changed now and then.
    changes_policy: bool,
    faulty: Faulty,
    workers: Vec<Worker>,
    epochs: Epochs,
    clients: Clients,
    /// The last epoch that has a record on any shard.
    data_epoch: u64,
    now_us: i64,
    accepts: bool,
}

impl World {
    pub(super) fn new(seed: u64, policy: SyncPolicy, faulty: Faulty) -> Self {
        let mut world = Self {
            disk: SimDisk::new(seed),
            outcome: Outcome::default(),
            random: Random::from_seed(seed ^ 0x5eed),
            policy,
            changes_policy: false,
            faulty,
            workers: Vec::new(),
            epochs: Epochs::new(1, &[0]),
            clients: Clients::new(CLIENTS),
            data_epoch: 0,
            now_us: 1,
            accepts: true,
        };
        let shards = 1 + world.random.below(SHARDS_MAX) as usize;
        let empty = (0..shards as u64).map(|n| Shard::new(n, Settings::default())).collect();
        world.begin(Manifest::default(), empty);
        world
    }

    /// From now on `appendfsync` is changed now and then.
    pub(super) fn change_policy(&mut self) {
        self.changes_policy = true;
    }

    /// Begins a run of the server with these shards.
    fn begin(&mut self, mut manifest: Manifest, shards: Vec<Shard>) {
        let count = shards.len();
        let run = self.random.next_u64();
        let first_epoch = manifest.begin(run, count).first_epoch;
        self.disk.replace(FILE_NAME, &manifest.to_bytes()).expect("the manifest is written");
        self.epochs = Epochs::new(first_epoch, &vec![0; count]);
        self.data_epoch = 0;
        self.workers = (0..count as u32)
            .zip(shards)
            .map(|(number, mut shard)| {
                let identity = LogIdentity { run, shard: number, shards: count as u32 };
                let name_of = move |segment| segment_name(run, number, segment);
                let mut log = SimLog::new(self.disk.clone(), name_of);
                let writer = LogWriter::new(identity, self.policy, 0, &mut log);
                shard.keyspace.journal.start(0, first_epoch, writer.room());
                Worker {
                    shard,
                    mailbox: VecDeque::new(),
                    taken: 0,
                    served: 0,
                    round: None,
                    ran_at: None,
                    writer,
                    log,
                    answers: VecDeque::new(),
                    doubt: None,
                }
            })
            .collect();
    }

    /// Takes so many steps a worker.
    pub(super) fn run(&mut self, steps: usize) {
        for _ in 0..steps * self.workers.len() {
            let worker = self.random.below(self.workers.len() as u64) as usize;
            self.step(worker);
        }
    }

    /// Lets everything that is under way come to its end.
    pub(super) fn settle(&mut self) {
        self.accepts = false;
        for _ in 0..200 {
            self.now_us += 500_000;
            self.run(20);
            let done = |worker: &Worker| {
                worker.writer.is_settled()
                    && worker.shard.keyspace.journal.is_empty()
                    && worker.mailbox.is_empty()
            };
            if self.workers.iter().all(done) {
                break;
            }
        }
        self.accepts = true;
    }

    pub(super) fn is_failing(&self) -> bool {
        self.workers.iter().any(|worker| worker.writer.failure().is_some())
    }

    fn step(&mut self, at: usize) {
        self.now_us += self.random.below(5_000) as i64;
        if self.changes_policy && self.random.below(150) == 0 {
            let policies = [SyncPolicy::Always, SyncPolicy::EverySecond, SyncPolicy::Never];
            self.policy = policies[self.random.below(3) as usize];
        }
        match self.random.below(10) {
            0 | 1 => self.begin_round(at),
            2..=4 => self.act(at),
            5 => self.workers[at].round = None,
            6 => self.serve(at),
            7 => self.log_turn(at),
            8 => self.complete(at),
            _ if self.random.below(4) == 0 => self.cut(at),
            _ => self.answer(at),
        }
    }

    fn begin_round(&mut self, at: usize) {
        let epoch = self.epochs.current();
        if self.workers[at].round.is_none() && (self.is_left(epoch) || self.overlaps()) {
            self.workers[at].round = Some(epoch);
        }
    }

    fn overlaps(&self) -> bool {
        self.faulty == Faulty::OverlappingEpochs
    }

    /// Whether nobody is in a round of an epoch before `epoch`.
    fn is_left(&self, epoch: u64) -> bool {
        self.workers.iter().all(|worker| worker.round.is_none_or(|round| round >= epoch))
    }

    /// Does something for a client within the round.
    fn act(&mut self, at: usize) {
        let Some(stamp) = self.workers[at].round else { return };
        if !self.accepts {
            return;
        }
        let count = self.workers.len();
        let client = self.client_of(at);
        let looks = self.random.below(3) == 0 && self.clients.len() > 0;
        let (id, acknowledges) = if looks || self.is_failing() {
            if self.clients.len() == 0 {
                return;
            }
            let recent = self.clients.len().min(12) as u64;
            (self.clients.len() - 1 - self.random.below(recent) as usize, Vec::new())
        } else {
            let ids = self.clients.write(client, 1);
            (ids[0], ids)
        };
        let request = if acknowledges.is_empty() { Request::Look(id) } else { Request::Write(id) };
        let parcel = Parcel { stamp, client, request, acknowledges };
        if id % count == at {
            // What stands in the own mailbox comes first.
            while !self.workers[at].mailbox.is_empty() {
                self.serve(at);
            }
            self.execute(at, parcel);
        } else {
            self.post(id % count, parcel);
        }
    }

    /// A client of worker `at`. Clients stay with their worker as long as it runs.
    fn client_of(&mut self, at: usize) -> usize {
        let count = self.workers.len();
        let own = (self.clients.count() - at).div_ceil(count) as u64;
        at + self.random.below(own) as usize * count
    }

    fn post(&mut self, to: usize, parcel: Parcel) {
        self.workers[to].taken += 1;
        self.workers[to].mailbox.push_back(parcel);
    }

    /// A unit over several shards takes its places while nobody is in a round.
    fn cut(&mut self, at: usize) {
        let stamp = self.epochs.current();
        let quiet = self.workers.iter().all(|worker| worker.round.is_none());
        if !quiet || !self.accepts || self.is_failing() {
            return;
        }
        let client = self.client_of(at);
        let count = 1 + self.random.below(4) as usize;
        let ids = self.clients.write(client, count);
        self.outcome.units += 1;
        for &id in &ids {
            // The last part to be executed acknowledges all in the server; here each does its own.
            let request = Request::Write(id);
            let parcel = Parcel { stamp, client, request, acknowledges: vec![id] };
            self.post(id % self.workers.len(), parcel);
        }
    }

    /// Executes the first parcel of a mailbox.
    fn serve(&mut self, at: usize) {
        if let Some(parcel) = self.workers[at].mailbox.pop_front() {
            self.workers[at].served += 1;
            self.execute(at, parcel);
        }
    }

    fn execute(&mut self, at: usize, parcel: Parcel) {
        let worker = &mut self.workers[at];
        let journal = &mut worker.shard.keyspace.journal;
        journal.set_stamp(parcel.stamp);
        let recorded = journal.sequence();
        let (id, words): (Id, &[&[u8]]) = match parcel.request {
            Request::Write(id) => (id, &[b"SET", b"", b"here"]),
            Request::Look(id) => (id, &[b"EXISTS", b""]),
        };
        let key = key(id);
        let mut words = words.to_vec();
        words[1] = key.as_bytes();
        let (reply, is_spared) = call(&mut worker.shard, &words, worker.doubt.as_ref());
        let is_look = matches!(parcel.request, Request::Look(_));
        let saw = (is_look && reply == b":1\r\n").then_some(id);
        let is_early = self.faulty == Faulty::ReadsLeaveEarly && worker.doubt.is_some() && is_look;
        let journal = &worker.shard.keyspace.journal;
        if journal.sequence() > recorded {
            self.data_epoch = self.data_epoch.max(journal.stamp());
        }
        let Parcel { client, acknowledges, .. } = parcel;
        let hold = if is_spared || is_early { 0 } else { self.data_epoch };
        self.outcome.spared += u64::from(is_spared && self.data_epoch > self.epochs.durable());
        let home = client % self.workers.len();
        self.workers[home].answers.push_back(Answer { client, hold, acknowledges, saw });
    }

    /// Tells clients what they may be told, each in the order of its requests.
    fn answer(&mut self, at: usize) {
        let is_always = self.workers[at].writer.policy() == SyncPolicy::Always;
        let waits = is_always && self.faulty != Faulty::AnswersAtOnce;
        let durable = self.epochs.durable();
        let mut waiting = [false; CLIENTS];
        for answer in std::mem::take(&mut self.workers[at].answers) {
            if waiting[answer.client] || (waits && answer.hold > durable) {
                waiting[answer.client] = true;
                self.workers[at].answers.push_back(answer);
                continue;
            }
            if self.changes_policy && !is_always {
                // Nothing is promised then.
                continue;
            }
            self.clients.acknowledged(&answer.acknowledges);
            if let Some(id) = answer.saw {
                self.clients.saw(answer.client, id);
            }
        }
    }

    /// What a worker does for its log in every turn.
    fn log_turn(&mut self, at: usize) {
        self.workers[at].writer.set_policy(self.policy);
        self.look_for_doubt(at);
        let Worker { writer, shard, .. } = &self.workers[at];
        if writer.wants_epoch(&shard.keyspace.journal, self.now_us)
            && self.epochs.advance().is_some()
        {
            self.workers.iter_mut().for_each(|worker| worker.ran_at = None);
        }
        self.close(at);
        let worker = &mut self.workers[at];
        let journal = &mut worker.shard.keyspace.journal;
        worker.writer.pump(journal, &self.epochs, &mut worker.log, self.now_us);
    }

    /// Looks what may be lost while a log cannot be written.
    fn look_for_doubt(&mut self, at: usize) {
        let has_doubt = self.is_failing() && self.policy == SyncPolicy::Always;
        let durable = self.epochs.durable();
        let Worker { writer, shard, doubt, .. } = &mut self.workers[at];
        let before = doubt.take().filter(|_| has_doubt);
        *doubt = has_doubt.then(|| Doubt::look(before, &shard.keyspace.journal, writer, durable));
    }

    /// Reports that a worker has run the epoch before the present one, if it has.
    fn close(&mut self, at: usize) {
        let current = self.epochs.current();
        let left = self.is_left(current) || self.overlaps();
        if !self.epochs.awaits(at) || !left {
            return;
        }
        let worker = &mut self.workers[at];
        let ran_at = *worker.ran_at.get_or_insert(worker.taken);
        if worker.served >= ran_at || self.faulty == Faulty::ClosesEarly {
            let sequence = worker.shard.keyspace.journal.sequence_until(current - 1);
            self.epochs.ran(at, sequence);
        }
    }

    /// The disk has done something.
    fn complete(&mut self, at: usize) {
        let worker = &mut self.workers[at];
        let Some(event) = worker.log.step() else { return };
        let failed = match &event {
            DiskEvent::Made { result, .. }
            | DiskEvent::Written { result, .. }
            | DiskEvent::Synced { result, .. } => result.is_err(),
        };
        self.outcome.failures += u64::from(failed);
        let journal = &mut worker.shard.keyspace.journal;
        worker.writer.complete(event, journal, &mut worker.log, self.now_us);
        let never = worker.writer.policy() == SyncPolicy::Never;
        self.epochs.written(at, worker.writer.written(), never);
        self.epochs.synced(at, worker.writer.durable());
    }

    /// The power fails, the server starts again, and the clients compare.
    pub(super) fn crash_and_recover(&mut self) -> Result<(), String> {
        self.outcome.told += self.clients.told() as u64;
        let mut logs: Vec<SimLog> = self.workers.drain(..).map(|worker| worker.log).collect();
        self.disk.crash(&mut logs);
        let shards = 1 + self.random.below(SHARDS_MAX) as usize;
        let (manifest, loaded) = self.recover(shards).map_err(|error| error.to_string())?;
        let present = present(&loaded);
        let told_lasts = self.changes_policy || self.policy == SyncPolicy::Always;
        self.clients.recover(&present, told_lasts)?;
        self.outcome.kept += present.len() as u64;
        self.outcome.lost += (self.clients.len() - present.len()) as u64;
        self.begin(manifest, loaded);
        Ok(())
    }

    /// A byte of an early group changes, and the server starts again.
    pub(super) fn damage_and_recover(&mut self) -> Result<(), String> {
        let manifest = read_manifest(&self.disk).map_err(|error| error.to_string())?;
        let run = manifest.generations.last().expect("a run").run;
        let shard = self.random.below(self.workers.len() as u64) as u32;
        let offset = 4096 + self.random.below(200) as usize;
        self.workers.clear();
        self.disk.damage(&segment_name(run, shard, 0), offset);
        self.recover(1).map(drop).map_err(|error| error.to_string())
    }

    fn recover(&mut self, shards: usize) -> Result<(Manifest, Vec<Shard>), RecoveryError> {
        let mut manifest = read_manifest(&self.disk)?;
        let plans: Vec<Plan> = manifest
            .generations
            .iter()
            .map(|generation| plan(&self.disk, generation))
            .collect::<Result<_, _>>()?;
        for (generation, plan) in manifest.generations.iter_mut().zip(&plans) {
            generation.end_epoch = Some(plan.end_epoch);
            generation.ends = plan.ends.clone();
        }
        self.disk.replace(FILE_NAME, &manifest.to_bytes())?;
        let owner_of = |key: &[u8], shards: usize| id_of(key) % shards;
        let seed = self.random.next_u64();
        let settings = Settings::default();
        let progress = Progress::default();
        let (nothing, new) =
            (Loaded::default(), NewShards { count: shards, seed, now_us: 0, slots_of: None });
        let loaded = load(&self.disk, nothing, &plans, &settings, new, &owner_of, &progress)?;
        Ok((manifest, loaded.shards))
    }
}

fn key(id: Id) -> String {
    format!("w{id}")
}

fn id_of(key: &[u8]) -> Id {
    std::str::from_utf8(&key[1..]).expect("digits").parse().expect("a number")
}

fn present(shards: &[Shard]) -> BTreeSet<Id> {
    let mut present = BTreeSet::new();
    for shard in shards {
        shard.keyspace.for_each(|entry| _ = present.insert(id_of(entry.key())));
    }
    present
}

/// The reply of a command, and whether it may be told although a log cannot be written.
fn call(shard: &mut Shard, words: &[&[u8]], doubt: Option<&Doubt>) -> (Vec<u8>, bool) {
    let (bytes, spans) = lay_out(words);
    let args = Args::new(&bytes, &spans);
    let command = table().resolve(&args).expect("a command");
    let (protocol, caller) = (Protocol::Resp2, Caller::default());
    let call = Call { command, args, database: 0, protocol, no_touch: false, caller };
    let mut out = ReplyBuffer::new();
    let outcome = shard.execute(&call, &mut out);
    assert!(outcome.is_ok(), "it cannot fail");
    let journal = &shard.keyspace.journal;
    let is_spared = doubt.is_some_and(|doubt| doubt.spares(command, &args, journal));
    (out.to_vec(), is_spared)
}
