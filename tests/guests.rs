//! Commands for the shards of workers that are between two turns, which are executed by whoever has
//! them: nothing of what an owner does for its shard may be missing.

use std::{
    iter,
    sync::{
        Mutex,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    thread,
    time::Duration,
};

use tempfile::TempDir;

use crate::{
    harness::{Client, Reply, Server, on_1_2_and_4_shards},
    log_control::{kill, start, turn_off, turn_on},
};

on_1_2_and_4_shards!(
    what_is_written_on_a_guest_is_there_for_everybody,
    a_guest_follows_the_configuration,
    deadlines_set_on_a_guest_pass_by_themselves,
    changes_of_a_guest_are_told_as_soon_as_somebody_listens,
    a_pipeline_over_guests_is_answered_in_order,
    long_commands_are_left_to_the_owner,
    long_and_short_commands_of_one_pipeline_keep_their_order,
    what_is_written_while_the_log_is_turned_on_is_in_it,
    what_was_written_when_a_save_begins_is_in_it,
    commands_in_parts_execute_where_all_their_shards_are,
);

/// How many commands were executed on shards of other workers.
fn guest_operations(client: &mut Client) -> u64 {
    let Reply::Bulk(info) = client.call(["INFO", "shards"]) else { panic!("INFO answers text") };
    let text = String::from_utf8_lossy(&info).into_owned();
    let counts = text.split("guest_operations=").skip(1);
    counts
        .map(|rest| rest.split(',').next().expect("a count").parse::<u64>().expect("digits"))
        .sum()
}

/// With one client that waits for each reply, the other workers sleep most of the time.
fn check_guests(client: &mut Client, shards: usize) {
    let count = guest_operations(client);
    assert_eq!(count > 0, shards > 1, "{count} commands on guests of {shards} shards");
}

fn what_is_written_on_a_guest_is_there_for_everybody(shards: usize) {
    let server = Server::start(shards);
    let mut client = server.connect();
    let key = |n: usize| format!("key:{n}");
    for n in 0..400 {
        assert_eq!(client.call(["SET", &key(n), &n.to_string()]), Reply::ok());
        if n % 3 == 0 {
            assert_eq!(client.call(["DEL", &key(n)]), Reply::Integer(1));
        }
        if n % 3 == 1 {
            assert_eq!(client.call(["INCR", &key(n)]), Reply::Integer(n as i64 + 1));
        }
    }
    check_guests(&mut client, shards);
    let mut others: Vec<Client> = (0..4).map(|_| server.connect()).collect();
    for n in 0..400 {
        let expected = match n % 3 {
            0 => Reply::NullBulk,
            1 => Reply::bulk((n + 1).to_string()),
            _ => Reply::bulk(n.to_string()),
        };
        assert_eq!(others[n % 4].call(["GET", &key(n)]), expected, "{}", key(n));
    }
    assert_eq!(client.call(["DBSIZE"]), Reply::Integer(266));
}

fn a_guest_follows_the_configuration(shards: usize) {
    let server = Server::start(shards);
    let mut client = server.connect();
    for n in 0..60 {
        let (entries, encoding) = if n % 2 == 0 { ("1", "hashtable") } else { ("8", "listpack") };
        client.call(["CONFIG", "SET", "hash-max-listpack-entries", entries]);
        for slot in 0..4 {
            let key = format!("hash:{n}:{slot}");
            assert_eq!(client.call(["HSET", &key, "a", "1", "b", "2"]), Reply::Integer(2));
            assert_eq!(client.call(["OBJECT", "ENCODING", &key]), Reply::bulk(encoding), "{key}");
        }
    }
    check_guests(&mut client, shards);
}

fn deadlines_set_on_a_guest_pass_by_themselves(shards: usize) {
    let server = Server::start(shards);
    let mut client = server.connect();
    for n in 0..100 {
        let set = client.call(["SET", &format!("key:{n}"), "soon gone", "PX", "30"]);
        assert_eq!(set, Reply::ok());
    }
    check_guests(&mut client, shards);
    // DBSIZE counts what is there, whether or not its deadline has passed.
    let is_empty = |client: &mut Client| client.call(["DBSIZE"]) == Reply::Integer(0);
    let has_passed = (0..400).any(|_| {
        thread::sleep(Duration::from_millis(25));
        is_empty(&mut client)
    });
    assert!(has_passed, "keys stay although their deadlines have passed");
}

fn changes_of_a_guest_are_told_as_soon_as_somebody_listens(shards: usize) {
    let server = Server::start(shards);
    let (mut client, mut listener) = (server.connect(), server.connect());
    let key = |n: usize| format!("key:{n}");
    for n in 0..100 {
        client.call(["SET", &key(n), "before"]);
    }
    check_guests(&mut client, shards);
    listener.call(["PSUBSCRIBE", "__keyevent@0__:*"]);
    client.call(["CONFIG", "SET", "notify-keyspace-events", "EA"]);
    for n in 0..100 {
        client.call(["SET", &key(n), "after"]);
        let told = listener.receive().into_items();
        assert_eq!(told[2..], [Reply::bulk("__keyevent@0__:set"), Reply::bulk(key(n))]);
    }
}

fn a_pipeline_over_guests_is_answered_in_order(shards: usize) {
    let server = Server::start(shards);
    let mut client = server.connect();
    for round in 0..50 {
        for n in 0..40 {
            client.push(["SET", &format!("key:{n}"), &format!("{round}:{n}")]);
            client.push(["GET", &format!("key:{n}")]);
            if n % 7 == 0 {
                client.push(["MGET", "key:0", &format!("key:{n}")]);
            }
        }
        client.flush();
        for n in 0..40 {
            assert_eq!(client.receive(), Reply::ok());
            assert_eq!(client.receive(), Reply::bulk(format!("{round}:{n}")));
            if n % 7 == 0 {
                let both = [format!("{round}:0"), format!("{round}:{n}")];
                let both = both.iter().map(Reply::bulk).collect();
                assert_eq!(client.receive(), Reply::Array(both));
            }
        }
    }
    for n in 0..100 {
        client.call(["SET", &format!("key:{n}"), "one by one"]);
    }
    check_guests(&mut client, shards);
}

/// Lists of which some are long, in keys of all shards.
fn fill_lists(client: &mut Client) {
    let element = "x".repeat(100);
    for n in 0..16 {
        let elements = if n % 2 == 0 { 1 } else { 500 };
        let command = ["RPUSH".to_owned(), format!("list:{n}")];
        let elements = std::iter::repeat_n(element.clone(), elements);
        assert_eq!(client.call(command.into_iter().chain(elements)).into_integer() > 1, n % 2 == 1);
    }
}

fn long_commands_are_left_to_the_owner(shards: usize) {
    let server = Server::start(shards);
    let mut client = server.connect();
    fill_lists(&mut client);
    let mut length_of_all = |first: usize| {
        let before = guest_operations(&mut client);
        for n in (first..16).step_by(2).cycle().take(80) {
            let list = client.call(["LRANGE", &format!("list:{n}"), "0", "-1"]).into_items();
            assert_eq!(list.len(), if first == 0 { 1 } else { 500 });
        }
        guest_operations(&mut client) - before
    };
    assert_eq!(length_of_all(0) > 0, shards > 1, "short ones are executed on guests");
    assert_eq!(length_of_all(1), 0, "long ones are not");
}

fn long_and_short_commands_of_one_pipeline_keep_their_order(shards: usize) {
    let server = Server::start(shards);
    let mut clients: Vec<Client> = (0..3).map(|_| server.connect()).collect();
    fill_lists(&mut clients[0]);
    for _ in 0..30 {
        for client in &mut clients {
            for n in 0..48 {
                client.push(["LRANGE", &format!("list:{}", n % 16), "0", "-1"]);
                client.push(["LINDEX", &format!("list:{}", n * 5 % 16), "0"]);
            }
            client.flush();
        }
        for client in &mut clients {
            for n in 0..48 {
                let list = client.receive().into_items();
                assert_eq!(list.len(), if n % 2 == 0 { 1 } else { 500 }, "list {}", n % 16);
                assert_eq!(client.receive(), Reply::bulk("x".repeat(100)));
            }
        }
    }
}

/// Keys that each writer goes through, on all shards.
const KEYS: usize = 16;

/// A client that waits for each reply, and so leaves the other workers asleep: it writes rising numbers
/// to its keys in turn.
#[derive(Default)]
struct Writer {
    /// The last number that was acknowledged, by the key.
    acknowledged: Mutex<[i64; KEYS]>,
}

impl Writer {
    fn write(&self, name: usize, mut client: Client, stop: &AtomicBool) {
        for number in 1.. {
            for slot in 0..KEYS {
                if stop.load(SeqCst) {
                    return;
                }
                let set = client.call(["SET", &Self::key(name, slot), &number.to_string()]);
                assert_eq!(set, Reply::ok());
                self.acknowledged.lock().expect("whole")[slot] = number;
            }
        }
    }

    fn key(name: usize, slot: usize) -> String {
        format!("writer:{name}:{slot}")
    }

    fn acknowledged(&self) -> [i64; KEYS] {
        *self.acknowledged.lock().expect("whole")
    }
}

/// What the keys of a writer hold.
fn found(server: &Server, name: usize) -> [i64; KEYS] {
    let mut client = server.connect();
    let keys: Vec<String> = (0..KEYS).map(|slot| Writer::key(name, slot)).collect();
    let all = iter::once("MGET").chain(keys.iter().map(String::as_str));
    let values = client.call(all).into_items();
    let number = |value: &Reply| match value {
        Reply::Bulk(digits) => String::from_utf8_lossy(digits).parse().expect("digits"),
        _ => 0,
    };
    values.iter().map(number).collect::<Vec<_>>().try_into().expect("a value for each key")
}

/// Runs `change` while two clients write, one command at a time.
fn while_writing(server: &Server, change: impl FnOnce(&[Writer; 2])) -> [[i64; KEYS]; 2] {
    let writers = <[Writer; 2]>::default();
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        for (name, writer) in writers.iter().enumerate() {
            let (client, stop) = (server.connect(), &stop);
            scope.spawn(move || writer.write(name, client, stop));
        }
        change(&writers);
        stop.store(true, SeqCst);
    });
    writers.map(|writer| writer.acknowledged())
}

/// Waits until every key of the writers has been written again.
fn await_writes(writers: &[Writer; 2]) {
    let before: Vec<_> = writers.iter().map(Writer::acknowledged).collect();
    let has_gone_on = |writer: &Writer, before: &[i64; KEYS]| {
        writer.acknowledged().iter().zip(before).all(|(now, before)| *now > before + 1)
    };
    while !writers.iter().zip(&before).all(|(writer, before)| has_gone_on(writer, before)) {
        thread::sleep(Duration::from_millis(1));
    }
}

fn what_is_written_while_the_log_is_turned_on_is_in_it(shards: usize) {
    let directory = TempDir::new().expect("a directory");
    let server = start(shards, directory.path(), "no", "always");
    let acknowledged = while_writing(&server, |writers| {
        await_writes(writers);
        check_guests(&mut server.connect(), shards);
        for _ in 0..4 {
            turn_on(&server);
            await_writes(writers);
            turn_off(&server);
            await_writes(writers);
        }
        turn_on(&server);
        await_writes(writers);
    });
    kill(server);
    let server = start(shards, directory.path(), "yes", "always");
    for (name, expected) in acknowledged.iter().enumerate() {
        assert_eq!(found(&server, name), *expected, "writer {name}");
    }
}

fn what_was_written_when_a_save_begins_is_in_it(shards: usize) {
    let directory = TempDir::new().expect("a directory");
    for _ in 0..4 {
        let server = start(shards, directory.path(), "no", "no");
        server.connect().run("FLUSHALL");
        let mut before = Vec::new();
        let acknowledged = while_writing(&server, |writers| {
            await_writes(writers);
            check_guests(&mut server.connect(), shards);
            before = writers.iter().map(Writer::acknowledged).collect();
            assert_eq!(server.connect().run("SAVE"), Reply::ok());
            await_writes(writers);
        });
        kill(server);
        let server = start(shards, directory.path(), "no", "no");
        for (name, (least, most)) in before.iter().zip(&acknowledged).enumerate() {
            let found = found(&server, name);
            let is_between = |slot: usize| least[slot] <= found[slot] && found[slot] <= most[slot];
            assert!((0..KEYS).all(is_between), "writer {name}: {least:?}, {found:?}, {most:?}");
            // Numbers were written to the keys in turn: a point in time has two neighbours at most.
            assert!(found.is_sorted_by(|a, b| a >= b), "no moment: {found:?}");
            assert!(found[0] - found[KEYS - 1] <= 1, "no moment: {found:?}");
        }
    }
}

/// Every command has keys on all shards, so none executes elsewhere than in parts.
fn commands_in_parts_execute_where_all_their_shards_are(shards: usize) {
    const ROUNDS: usize = 200;
    let server = Server::start(shards);
    let mut client = server.connect();
    // Of sixteen tags, some belong to each shard.
    let keys = |round: usize| (0..16).map(move |tag| format!("{{tag:{tag}}}:{round}"));
    for round in 0..ROUNDS {
        let mut set = vec!["MSET".to_owned()];
        set.extend(keys(round).flat_map(|key| [key.clone(), format!("value of {key}")]));
        assert_eq!(client.call(&set), Reply::ok());
        let mut get = vec!["MGET".to_owned(), "nothing".to_owned()];
        get.extend(keys(round));
        let found = client.call(&get).into_items();
        let values = keys(round).map(|key| Reply::bulk(format!("value of {key}")));
        assert_eq!(found, [Reply::NullBulk].into_iter().chain(values).collect::<Vec<_>>());
        let mut gone = vec!["DEL".to_owned()];
        gone.extend(keys(round).step_by(2));
        assert_eq!(client.call(&gone), Reply::Integer(8));
    }
    check_guests(&mut client, shards);
    let Reply::Bulk(stats) = client.call(["INFO", "commandstats"]) else { panic!("INFO is text") };
    let stats = String::from_utf8_lossy(&stats).into_owned();
    for command in ["mset", "mget", "del"] {
        let line = format!("cmdstat_{command}:calls={ROUNDS},");
        assert!(stats.contains(&line), "a command in parts is one call: {stats}");
    }
    assert_eq!(client.call(["DBSIZE"]), Reply::Integer(8 * ROUNDS as i64));
}
