//! Everything at once: transfers and moves by commands, transactions and scripts, from clients that
//! vanish, are killed or unblocked in the middle of them; scripts that run too long and are killed;
//! pauses, saves, and settings that change. Two sums must stand all that: money in accounts, and tokens
//! in lists, spread over all shards. And everybody is answered: who is not within a minute hangs.

use std::{
    io::{self, ErrorKind},
    sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    thread,
    time::Duration,
};

use fastrand::Rng;

use crate::harness::{Client, Reply, Server, ServerKind, on_1_2_and_4_shards, scaled};

on_1_2_and_4_shards!(nothing_is_lost_in_turmoil, nothing_is_lost_in_turmoil_with_a_log,);

const ACCOUNTS: usize = 8;
const MONEY: i64 = 100;
const LISTS: usize = 6;
const TOKENS: usize = 24;
const WORKERS: usize = 5;

/// Moves money between two accounts that it names.
const TRANSFER: &str =
    "redis.call('DECRBY', KEYS[1], ARGV[1]) redis.call('INCRBY', KEYS[2], ARGV[1])";
/// Moves money between accounts of which it names none, after a while.
const SLOW_TRANSFER: &str = "local sum = 0 for i = 1, tonumber(ARGV[4]) do sum = sum + i end \
    redis.call('DECRBY', ARGV[1], ARGV[3]) redis.call('INCRBY', ARGV[2], ARGV[3]) return sum";
/// Moves a token from a list that it names to one that it does not.
const MOVE: &str = "local token = redis.call('LPOP', KEYS[1]) \
    if token then redis.call('RPUSH', ARGV[1], token) end return token";
/// Reads, and never ends.
const ENDLESS: &str = "redis.call('GET', KEYS[1]) while true do end";

fn nothing_is_lost_in_turmoil(shards: usize) {
    let server = Server::builder(shards).option("busy-reply-threshold", 10);
    stand_turmoil(&server.start());
}

fn nothing_is_lost_in_turmoil_with_a_log(shards: usize) {
    let server = Server::builder(shards).option("busy-reply-threshold", 10);
    stand_turmoil(&server.option("appendonly", "yes").start());
}

fn account(n: usize) -> String {
    format!("account:{n}")
}

fn list(n: usize) -> String {
    format!("tokens:{n}")
}

fn stand_turmoil(server: &Server) {
    if !ServerKind::under_test().is_tessera() {
        return;
    }
    fill(server);
    let [over, quiet] = [(); 2].map(|()| AtomicBool::new(false));
    let (over, quiet, checks) = (&over, &quiet, &AtomicUsize::new(0));
    thread::scope(|scope| {
        let workers: Vec<_> = (0..WORKERS)
            .map(|_| scope.spawn(|| Worker::connect(server).work(scaled(120))))
            .collect();
        let mut others: Vec<_> = [kill as Disruption, run_endlessly, disturb]
            .map(|disruption| scope.spawn(move || disrupt(server, over, disruption)))
            .into();
        others.push(scope.spawn(move || {
            while !over.load(SeqCst) {
                checks.fetch_add(usize::from(is_whole(&mut server.connect())), SeqCst);
            }
        }));
        // Others wait for what it ends.
        scope.spawn(move || disrupt(server, quiet, end_scripts));
        let join_all = |threads: Vec<thread::ScopedJoinHandle<'_, ()>>| {
            threads.into_iter().map(thread::ScopedJoinHandle::join).collect::<Vec<_>>()
        };
        let mut outcomes = join_all(workers);
        over.store(true, SeqCst);
        outcomes.extend(join_all(others));
        quiet.store(true, SeqCst);
        for outcome in outcomes {
            outcome.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        }
    });
    assert!(checks.load(SeqCst) > 0, "nobody has looked while it went on");
    // A client that has left may have left a script, which ends by itself.
    let mut client = server.connect();
    assert!((0..1_000).any(|_| {
        thread::sleep(Duration::from_millis(10));
        is_whole(&mut client)
    }));
}

fn fill(server: &Server) {
    let mut client = server.connect();
    for n in 0..ACCOUNTS {
        client.call(["SET", &account(n), &MONEY.to_string()]);
    }
    for token in 0..TOKENS {
        client.call(["RPUSH", &list(token % LISTS), &token.to_string()]);
    }
}

/// Whether all money and all tokens are there, in one reading; false if the server was too busy to say.
fn is_whole(client: &mut Client) -> bool {
    client.push(["MULTI"]);
    let accounts: Vec<String> = (0..ACCOUNTS).map(account).collect();
    client.push(["MGET"].into_iter().chain(accounts.iter().map(String::as_str)));
    (0..LISTS).for_each(|n| client.push(["LRANGE", &list(n), "0", "-1"]));
    client.push(["EXEC"]);
    client.flush();
    let replies = client.receive_all(LISTS + 3);
    let Some(Reply::Array(mut read)) = replies.last().cloned() else { return false };
    let money = read.remove(0).into_items().into_iter().map(number).sum::<i64>();
    assert_eq!(money, MONEY * ACCOUNTS as i64);
    let mut tokens: Vec<i64> = read.into_iter().flat_map(Reply::into_items).map(number).collect();
    tokens.sort_unstable();
    assert_eq!(tokens, (0..TOKENS as i64).collect::<Vec<_>>());
    true
}

fn number(reply: Reply) -> i64 {
    reply.into_text().parse().expect("a number")
}

/// What is done to the server besides.
type Disruption = fn(&mut Client, &mut Rng);

/// Does something again and again, with a client of its own, until it is over.
fn disrupt(server: &Server, over: &AtomicBool, disruption: Disruption) {
    let (mut client, mut random) = (server.connect(), Rng::new());
    while !over.load(SeqCst) {
        disruption(&mut client, &mut random);
        thread::sleep(Duration::from_millis(random.u64(1..20)));
    }
}

/// Kills or unblocks a worker's client.
fn kill(client: &mut Client, random: &mut Rng) {
    // The list is refused while a script runs too long.
    let Reply::Bulk(text) = client.run("CLIENT LIST") else { return };
    let text = String::from_utf8_lossy(&text).into_owned();
    let workers = text.lines().filter(|line| line.contains(" name=worker "));
    let ids: Vec<&str> =
        workers.filter_map(|line| line.strip_prefix("id=")?.split(' ').next()).collect();
    let Some(id) = random.choice(&ids) else { return };
    let line = match random.u8(0..4) {
        0 => format!("CLIENT KILL ID {id}"),
        1 => format!("CLIENT UNBLOCK {id} ERROR"),
        _ => format!("CLIENT UNBLOCK {id}"),
    };
    client.run(&line);
}

/// Runs a script that somebody else has to end, sometimes within a transaction.
fn run_endlessly(client: &mut Client, random: &mut Rng) {
    thread::sleep(Duration::from_millis(random.u64(0..60)));
    let is_inside = random.bool();
    if is_inside {
        client.push(["MULTI"]);
    }
    let keys = [account(random.usize(0..ACCOUNTS)), list(random.usize(0..LISTS))];
    client.push(["EVAL", ENDLESS, "2", &keys[0], &keys[1]]);
    if is_inside {
        client.push(["EXEC"]);
    }
    client.flush();
    client.receive_all(if is_inside { 3 } else { 1 });
}

fn end_scripts(client: &mut Client, _: &mut Rng) {
    client.run("SCRIPT KILL");
}

/// Changes how the server works.
fn disturb(client: &mut Client, random: &mut Rng) {
    let line = *random
        .choice(&[
            "CLIENT PAUSE 10 WRITE",
            "CLIENT PAUSE 10 ALL",
            "CONFIG SET notify-keyspace-events KEA",
            "CONFIG SET notify-keyspace-events \"\"",
            "CONFIG SET hz 20",
            "CONFIG SET hz 10",
            "BGSAVE",
            "BGREWRITEAOF",
            "SCRIPT FLUSH",
        ])
        .expect("some");
    client.call(line.split(' ').map(|word| word.trim_matches('"')));
}

/// A client that transfers and moves.
struct Worker<'a> {
    server: &'a Server,
    client: Client,
    random: Rng,
}

impl<'a> Worker<'a> {
    fn connect(server: &'a Server) -> Self {
        Self { server, client: named(server), random: Rng::new() }
    }

    fn work(mut self, steps: usize) {
        for _ in 0..steps {
            let outcome = self.step();
            match outcome {
                Ok(()) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => panic!("nobody answers"),
                // It was killed.
                Err(_) => self.client = named(self.server),
            }
        }
    }

    /// A pipeline of a few operations, which it may leave without hearing of it.
    fn step(&mut self) -> io::Result<()> {
        let replies: usize = (0..self.random.usize(1..4)).map(|_| self.push_operation()).sum();
        self.client.try_flush()?;
        if self.random.u8(0..12) == 0 {
            self.client = named(self.server);
            return Ok(());
        }
        (0..replies).try_for_each(|_| self.client.try_receive().map(drop))
    }

    /// Puts one operation into the pipeline; how many replies it has.
    fn push_operation(&mut self) -> usize {
        let [from, to] = [(); 2].map(|()| account(self.random.usize(0..ACCOUNTS)));
        let [source, target] = [(); 2].map(|()| list(self.random.usize(0..LISTS)));
        let amount = self.random.u8(1..10).to_string();
        let turns = if self.random.u8(0..20) == 0 { "2000000" } else { "10" };
        let lines: &[&[&str]] = match self.random.u8(0..10) {
            0 => &[&["MULTI"], &["DECRBY", &from, &amount], &["INCRBY", &to, &amount], &["EXEC"]],
            1 => &[
                &["WATCH", &from, &source],
                &["MULTI"],
                &["INCRBY", &to, &amount],
                &["EVAL", MOVE, "1", &source, &target],
                &["DECRBY", &from, &amount],
                &["EXEC"],
            ],
            2 => &[&["EVAL", TRANSFER, "2", &from, &to, &amount]],
            3 => &[&["EVAL", SLOW_TRANSFER, "0", &from, &to, &amount, turns]],
            4 => &[&["LMOVE", &source, &target, "LEFT", "RIGHT"]],
            5 => &[&["BLMOVE", &source, &target, "RIGHT", "LEFT", "0.05"]],
            6 => &[&["BRPOPLPUSH", &source, &target, "0.05"], &["MGET", &from, &to]],
            7 => &[
                &["MULTI"],
                &["RPOPLPUSH", &source, &target],
                &["BLMOVE", &target, &source, "LEFT", "LEFT", "0"],
                &["EXEC"],
            ],
            8 => &[&["EVAL", MOVE, "1", &source, &target]],
            _ => &[
                &["MGET", &from, &to],
                &["EXISTS", &from, &to, &source],
                &["LRANGE", &source, "0", "-1"],
            ],
        };
        lines.iter().for_each(|line| self.client.push(*line));
        lines.len()
    }
}

/// A client that others know for a worker's.
fn named(server: &Server) -> Client {
    let mut client = server.connect();
    client.push(["CLIENT", "SETNAME", "worker"]);
    client.flush();
    // It may be refused while a script runs too long, or be the end of the client.
    let _named = client.try_receive();
    client
}
