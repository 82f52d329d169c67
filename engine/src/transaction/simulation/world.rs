//! All workers, mailboxes and connections of a simulation, and who moves next.

use super::{
    check::History,
    connection::Connection,
    guests::Berth,
    mailbox::SimMailbox,
    message::{Batch, Found, Origin},
    random::Random,
    worker::Worker,
};

/// A part of the rules that a test breaks, to see that the checker objects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// Against (a): whatever a connection has sent goes in the first half of one round, so that later
    /// commands may hold places earlier than those before them.
    AllRunsAtOnce,
    /// Against (a): a connection sends to lower shards after higher ones in one round.
    DescendingRuns,
    /// Against (a): the parcels of a round take their places in descending order of the shards.
    DescendingPlaces,
    /// Against (a): a full parcel takes its place while parcels for lower shards are open.
    FullParcelAlone,
    /// Against (a) and (c): own commands execute in the first half, before the places are taken.
    OwnRunsFirst,
    /// Against (b): a consumer takes what is there, whatever should come before it.
    PassUnfilled,
    /// Against (c): the own tail is read before the last round's places were taken, not after.
    TailBeforePlaces,
    /// Against (c): own runs execute although a place before them is not filled.
    OwnDespiteUnfilled,
    /// Against the stop without credit: later runs of the connection go on.
    OvertakeWithoutCredit,
    /// Against (d): what concerns several shards takes its places without a cut.
    NoCut,
    /// Against (d): the way is closed, and those who are taking places are not waited for.
    CutDespiteOthers,
    /// Against (d): a worker takes places although the way is closed.
    EnterClosed,
    /// Against (d): the own part of a command executes at once, and not at a place.
    OwnPartInPlace,
    /// Against (d): loans stand before the parts of the same cut on some shards.
    LoansAmongParts,
    /// A shard is lent and executes commands all the same.
    GoOnWhileLent,
    /// A connection goes on while its unit may still start over.
    GoOnBeforeDone,
    /// What is written on a lent shard does not come back with it.
    ForgetWrites,
    /// Commands execute on a guest although its owner has mail.
    GuestDespiteMail,
    /// Commands execute on a guest although its owner is awake and may have set mail aside.
    GuestDespiteWanted,
    /// The mailboxes of the guests' owners are looked at before the own tail is read.
    GuestsBeforeTail,
}

/// What a simulation is made of, beside its connections.
#[derive(Clone, Copy, Debug)]
pub(super) struct Settings {
    pub(super) workers: usize,
    pub(super) keys: usize,
    /// Batches with requests that a worker may have unanswered at another.
    pub(super) credits: usize,
    /// Requests that make a batch full.
    pub(super) full: usize,
    pub(super) fault: Option<Fault>,
}

/// What the workers share with each other and with the clients.
pub(super) struct Shared {
    pub(super) settings: Settings,
    pub(super) now: u64,
    pub(super) mailboxes: Vec<SimMailbox<Batch>>,
    pub(super) connections: Vec<Connection>,
    /// Which workers are taking places.
    pub(super) taking: Vec<bool>,
    /// A cut is being made.
    pub(super) closed: bool,
    pub(super) served: Vec<Vec<u64>>,
    /// Commands that were executed over lent shards.
    pub(super) together: usize,
    /// Where workers that sleep leave their shards.
    pub(super) berths: Vec<Berth>,
    /// Commands that were executed on guests.
    pub(super) on_guests: usize,
}

impl Shared {
    /// The worker whose shard holds the key.
    pub(super) fn owner(&self, key: usize) -> usize {
        key % self.settings.workers
    }

    /// Results of a command have reached its connection.
    pub(super) fn complete(&mut self, origin: Origin, found: Vec<Found>) {
        for (part, effect) in found {
            let connection = &mut self.connections[origin.connection];
            connection.complete(origin.command, part, effect, self.now);
        }
    }

    pub(super) fn has_fault(&self, fault: Fault) -> bool {
        self.settings.fault == Some(fault)
    }
}

/// What a simulation came to.
pub(super) struct Outcome {
    pub(super) history: History,
    /// For each worker, the places of its mailbox in the order served.
    pub(super) served: Vec<Vec<u64>>,
    /// Commands that were executed over lent shards.
    pub(super) together: usize,
    /// Commands that were executed on guests.
    pub(super) on_guests: usize,
}

pub(super) struct World {
    shared: Shared,
    workers: Vec<Worker>,
    random: Random,
}

/// Far beyond what any of the workloads needs: who gets here waits for something that never comes.
const STEPS_MAX: u64 = 200_000;

impl World {
    pub(super) fn new(settings: Settings, connections: Vec<Connection>, random: Random) -> Self {
        let mailboxes = (0..settings.workers).map(|_| SimMailbox::new()).collect();
        let workers = (0..settings.workers).map(|own| Worker::new(own, settings)).collect();
        let served = vec![Vec::new(); settings.workers];
        let shared = Shared {
            settings,
            now: 0,
            mailboxes,
            connections,
            taking: vec![false; settings.workers],
            closed: false,
            served,
            together: 0,
            berths: (0..settings.workers).map(|_| Berth::default()).collect(),
            on_guests: 0,
        };
        World { shared, workers, random }
    }

    /// Runs until every client has every reply. It is an error if the workers no longer get on.
    pub(super) fn run(mut self) -> Result<Outcome, String> {
        // Now and then one worker gets no time, as if the kernel had taken its core away at that
        // very step: this is what brings unfilled places and full mailboxes about.
        let (mut stopped, patience) = (None, self.random.between(5, 120));
        while !self.shared.connections.iter().all(Connection::is_finished) {
            self.shared.now += 1;
            if self.shared.now > STEPS_MAX {
                return Err("the workers wait for each other".to_owned());
            }
            if self.random.one_in(patience) {
                stopped = self.random.one_in(2).then(|| self.random.below(self.workers.len()));
            }
            self.move_someone(stopped);
        }
        let history = self.shared.connections.iter().map(Connection::operations).collect();
        let Shared { served, together, on_guests, .. } = self.shared;
        Ok(Outcome { history, served, together, on_guests })
    }

    fn move_someone(&mut self, stopped: Option<usize>) {
        let clients = self.shared.connections.len();
        let choice = self.random.below(clients + 3 * self.workers.len());
        if choice < clients {
            let connection = &mut self.shared.connections[choice];
            if connection.may_send() {
                connection.send(self.shared.now);
            }
            return;
        }
        let worker = (choice - clients) % self.workers.len();
        if stopped != Some(worker) {
            self.workers[worker].step(&mut self.shared);
        }
    }
}
