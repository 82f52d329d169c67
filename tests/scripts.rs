//! Scripts and functions over TCP: keys on any shard, declared or not, as one step; scripts that run
//! too long; replies and errors as redis-server gives them.

mod answers;

use std::{
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use crate::harness::{Client, Reply, Server, on_1_2_and_4_shards, redis_server, scaled};

on_1_2_and_4_shards!(
    scripts_reach_keys_they_have_not_declared,
    calls_work_in_callbacks_over_shards,
    what_a_script_wrote_before_it_starts_over_is_undone,
    scripts_are_known_to_all_once_loaded,
    pipelined_commands_stay_behind_a_script,
    libraries_are_known_to_all_at_once,
    transfers_are_atomic_for_readers,
    a_long_script_makes_others_busy_and_can_be_killed,
    a_script_that_has_written_cannot_be_killed,
    a_long_script_does_not_harm_what_came_with_it,
    a_long_script_ends_transactions,
    monitors_see_a_script_and_its_commands,
    databases_are_selected_for_the_script_alone,
    libraries_are_saved_and_loaded_at_the_start,
    answers_are_those_of_redis,
);

fn eval(client: &mut Client, script: &str, keys: &[&str], arguments: &[&str]) -> Reply {
    let count = keys.len().to_string();
    let words = ["EVAL", script, &count].into_iter().chain(keys.iter().copied());
    client.call(words.chain(arguments.iter().copied()))
}

fn databases_are_selected_for_the_script_alone(shards: usize) {
    let server = Server::start(shards);
    let mut client = server.connect();
    let script = "redis.call('select', ARGV[1]) return redis.call('incr', 'k')";
    assert_eq!(eval(&mut client, script, &[], &["15"]), Reply::Integer(1));
    assert_eq!(eval(&mut client, script, &[], &["15"]), Reply::Integer(2));
    assert_eq!(client.run("EXISTS k"), Reply::Integer(0));
    client.run("CONFIG RESETSTAT");
    for beyond in ["16", "99", "-1"] {
        let refused = eval(&mut client, script, &[], &[beyond]);
        assert!(
            matches!(&refused, Reply::Error(text) if text.contains("DB index is out of range"))
        );
    }
    let stats = |client: &mut Client, section: &str, name: &str| {
        let text = client.call(["INFO", section]).into_text();
        text.lines().find(|line| line.starts_with(name)).map(str::to_owned).unwrap_or_default()
    };
    assert_eq!(stats(&mut client, "errorstats", "errorstat_ERR"), "errorstat_ERR:count=3");
    for command in ["cmdstat_select", "cmdstat_eval"] {
        let line = stats(&mut client, "commandstats", command);
        assert!(line.contains("calls=3,") && line.ends_with("failed_calls=3"), "{line}");
    }
}

fn scripts_reach_keys_they_have_not_declared(shards: usize) {
    let server = Server::start(shards);
    let mut client = server.connect();
    let write = "for i = 1, 100 do redis.call('set', 'key:' .. i, i) end \
                 redis.call('rename', 'key:1', 'other') return redis.call('dbsize')";
    for _ in 0..3 {
        assert_eq!(eval(&mut client, write, &[], &[]), Reply::Integer(100));
        assert_eq!(client.run("DEL other"), Reply::Integer(1));
    }
    let read = "local sum = 0 for i = 2, 100 do sum = sum + redis.call('get', 'key:' .. i) end \
                return sum";
    assert_eq!(eval(&mut client, read, &["key:2"], &[]), Reply::Integer(5049));
    assert_eq!(client.run("GET key:100"), Reply::bulk("100"));
}

fn calls_work_in_callbacks_over_shards(shards: usize) {
    let server = Server::start(shards);
    let mut client = server.connect();
    let script = "local seen = {} \
        for i = 1, 8 do redis.call('set', 'k' .. i, 9 - i) end \
        local names = {} for i = 1, 8 do names[i] = 'k' .. i end \
        table.sort(names, function(a, b) \
            return tonumber(redis.call('get', a)) < tonumber(redis.call('get', b)) end) \
        local text = string.gsub('k1 k2 k3', '%w+', function(k) return redis.call('get', k) end) \
        local ok, value = pcall(function() return redis.call('get', 'k7') end) \
        local co = coroutine.wrap(function() coroutine.yield(redis.call('get', 'k6')) end) \
        return {table.concat(names, ' '), text, value, co()}";
    let wanted = ["k8 k7 k6 k5 k4 k3 k2 k1", "8 7 6", "2", "3"].map(Reply::bulk).to_vec();
    for _ in 0..2 {
        assert_eq!(eval(&mut client, script, &["k1"], &[]), Reply::Array(wanted.clone()));
    }
}

/// The first run meets the other shards only when it has written; what counts is written once.
fn what_a_script_wrote_before_it_starts_over_is_undone(shards: usize) {
    let server = Server::start(shards);
    let mut client = server.connect();
    for number in 0..20 {
        let script = format!(
            "redis.call('incr', KEYS[1]) redis.call('rpush', 'list{number}', 1) \
             for i = 1, 30 do redis.call('incr', 'n' .. i) end return {number}"
        );
        let key = format!("own{number}");
        assert_eq!(eval(&mut client, &script, &[&key], &[]), Reply::Integer(number));
        assert_eq!(client.run(&format!("GET {key}")), Reply::bulk("1"));
        assert_eq!(client.run(&format!("LLEN list{number}")), Reply::Integer(1));
        assert_eq!(client.run("GET n7"), Reply::bulk((number + 1).to_string()));
    }
}

fn scripts_are_known_to_all_once_loaded(shards: usize) {
    let server = Server::start(shards);
    let mut first = server.connect();
    let sha = first.call(["SCRIPT", "LOAD", "return KEYS[1]"]).into_text();
    let mut others: Vec<Client> = (0..8).map(|_| server.connect()).collect();
    for (number, client) in others.iter_mut().enumerate() {
        let key = format!("k{number}");
        let reply = client.call(["EVALSHA", &sha.to_uppercase(), "1", &key]);
        assert_eq!(reply, Reply::bulk(&key));
        assert_eq!(
            client.call(["SCRIPT", "EXISTS", &sha, "no"]),
            Reply::Array(vec![Reply::Integer(1), Reply::Integer(0)])
        );
    }
    assert_eq!(first.run("SCRIPT FLUSH"), Reply::ok());
    for client in &mut others {
        let reply = client.call(["EVALSHA", &sha, "1", "k"]);
        let error = "NOSCRIPT No matching script. Please use EVAL.";
        assert_eq!(reply, Reply::Error(error.into()));
    }
}

fn pipelined_commands_stay_behind_a_script(shards: usize) {
    let server = Server::start(shards);
    let mut client = server.connect();
    let script = "redis.call('set', KEYS[2], redis.call('get', KEYS[1])) return 1";
    for number in 0..scaled(50) {
        let value = number.to_string();
        client.push(["SET", "from", &value]);
        client.push(["EVAL", script, "2", "from", "to"]);
        client.push(["GET", "to"]);
        client.push(["SET", "to", "gone"]);
        client.flush();
        let replies = client.receive_all(4);
        let wanted = [Reply::ok(), Reply::Integer(1), Reply::bulk(&value), Reply::ok()];
        assert_eq!(replies, wanted);
    }
}

fn libraries_are_known_to_all_at_once(shards: usize) {
    let server = Server::start(shards);
    let mut first = server.connect();
    let code = |reply: &str| {
        format!(
            "#!lua name=mylib\nredis.register_function('hello', function(keys, args) return \
             {{'{reply}', keys[1], args[1]}} end)"
        )
    };
    let load = |client: &mut Client, reply: &str| {
        assert_eq!(
            client.call(["FUNCTION", "LOAD", "REPLACE", &code(reply)]),
            Reply::bulk("mylib")
        );
    };
    load(&mut first, "one");
    let payload = first.run("FUNCTION DUMP").into_bytes();
    let mut others: Vec<Client> = (0..8).map(|_| server.connect()).collect();
    let mut say = |wanted: &str| {
        for (number, client) in others.iter_mut().enumerate() {
            let key = format!("k{number}");
            let reply = client.call(["FCALL", "hello", "1", &key, "x"]);
            let items = [wanted, &key, "x"].map(Reply::bulk).to_vec();
            assert_eq!(reply, Reply::Array(items));
        }
    };
    say("one");
    load(&mut first, "two");
    say("two");
    assert_eq!(first.run("FUNCTION DELETE mylib"), Reply::ok());
    assert_eq!(first.run("FCALL hello 0"), Reply::Error("ERR Function not found".into()));
    let restored = first.call([&b"FUNCTION"[..], b"RESTORE", &payload]);
    assert_eq!(restored, Reply::ok());
    say("one");
}

/// Transfers between accounts on all shards, by scripts, while others read all accounts.
fn transfers_are_atomic_for_readers(shards: usize) {
    const ACCOUNTS: usize = 8;
    let server = Server::start(shards);
    let names: Vec<String> = (0..ACCOUNTS).map(|number| format!("account:{number}")).collect();
    let mut client = server.connect();
    for name in &names {
        client.call(["SET", name, "100"]);
    }
    let script = "local from, to, amount = KEYS[1], KEYS[2], tonumber(ARGV[1]) \
                  if tonumber(redis.call('get', from)) < amount then return 0 end \
                  redis.call('decrby', from, amount) redis.call('incrby', to, amount) return 1";
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        for reader in 0..2 {
            let (server, names, is_over) = (&server, &names, &is_over);
            scope.spawn(move || {
                let mut client = server.connect();
                let mut reads = 0;
                while !is_over.load(Ordering::Relaxed) || reads == 0 {
                    let words = ["MGET"].into_iter().chain(names.iter().map(String::as_str));
                    let balances = client.call(words).into_items();
                    let balance =
                        |reply: Reply| reply.into_text().parse::<i64>().expect("a number");
                    let sum: i64 = balances.into_iter().map(balance).sum();
                    assert_eq!(sum, 100 * ACCOUNTS as i64, "reader {reader}");
                    reads += 1;
                }
            });
        }
        let writers: Vec<_> = (0..3)
            .map(|seed| {
                let (server, names) = (&server, &names);
                scope.spawn(move || {
                    let mut random = fastrand::Rng::with_seed(seed);
                    let mut client = server.connect();
                    for _ in 0..scaled(150) {
                        let (from, to) = (random.usize(..ACCOUNTS), random.usize(..ACCOUNTS));
                        let keys = [names[from].as_str(), &names[to]];
                        eval(&mut client, script, &keys, &[&random.u8(1..60).to_string()]);
                    }
                })
            })
            .collect();
        writers.into_iter().for_each(|writer| writer.join().expect("a writer ends"));
        is_over.store(true, Ordering::Relaxed);
    });
}

/// Calls until the reply is one that `is_it` takes, with patience.
fn wait_for(client: &mut Client, line: &str, is_it: impl Fn(&Reply) -> bool) -> Reply {
    for _ in 0..3_000 {
        let reply = client.run(line);
        if is_it(&reply) {
            return reply;
        }
        thread::sleep(Duration::from_millis(10));
    }
    panic!("'{line}' has not come to what was waited for");
}

fn is_busy(reply: &Reply) -> bool {
    matches!(reply, Reply::Error(text) if text.starts_with("BUSY "))
}

fn a_long_script_makes_others_busy_and_can_be_killed(shards: usize) {
    let server = Server::builder(shards).option("busy-reply-threshold", 10).start();
    for keys in [&["a"][..], &["a", "b", "c", "d"]] {
        let (mut long, mut other) = (server.connect(), server.connect());
        let count = keys.len().to_string();
        long.push(["EVAL", "while true do end", &count].iter().chain(keys));
        long.flush();
        wait_for(&mut other, "PING", is_busy);
        assert!(is_busy(&other.run("GET a")), "all commands are refused");
        assert!(is_busy(&other.run("FUNCTION KILL")), "a script is no function");
        assert_eq!(other.run("SCRIPT KILL"), Reply::ok());
        let Reply::Error(text) = long.receive() else { panic!("a killed script is an error") };
        assert!(text.starts_with("ERR Script killed by user with SCRIPT KILL."), "{text}");
        wait_for(&mut other, "PING", |reply| !is_busy(reply));
        assert_eq!(
            other.run("SCRIPT KILL"),
            Reply::Error("NOTBUSY No scripts in execution right now.".into())
        );
        assert!(long.run("GET a").is_null());
    }
}

/// A script that keeps the shard when it is suspended, and commands of others that were received with
/// it: nobody may reach for the shard that is away.
fn a_long_script_does_not_harm_what_came_with_it(shards: usize) {
    let server = Server::builder(shards).option("busy-reply-threshold", 10).start();
    for script in
        [&["EVAL", "while true do end", "0"][..], &["EVAL", "while true do end", "1", "a"]]
    {
        let (mut sleeper, mut long) = (server.connect(), server.connect());
        let mut others: Vec<Client> = (0..6).map(|_| server.connect()).collect();
        // What is sent meanwhile is received in one turn.
        sleeper.push(["DEBUG", "SLEEP", "0.2"]);
        sleeper.flush();
        thread::sleep(Duration::from_millis(50));
        let (before, after) = others.split_at_mut(3);
        let ask = |client: &mut Client| {
            client.push(["GET", "a"]);
            client.push(["GET", "b"]);
            client.flush();
        };
        before.iter_mut().for_each(ask);
        long.push(script);
        long.flush();
        after.iter_mut().for_each(ask);
        assert_eq!(sleeper.receive(), Reply::ok());
        wait_for(&mut sleeper, "PING", is_busy);
        assert_eq!(sleeper.run("SCRIPT KILL"), Reply::ok());
        assert!(matches!(long.receive(), Reply::Error(_)));
        // What had been sent to the shard's owner before it was known to be busy has waited there.
        for client in &mut others {
            let replies = client.receive_all(2);
            assert!(replies.iter().all(|it| it.is_null() || is_busy(it)), "{replies:?}");
        }
        wait_for(&mut sleeper, "PING", |reply| !is_busy(reply));
    }
}

fn a_long_script_ends_transactions(shards: usize) {
    let server = Server::builder(shards).option("busy-reply-threshold", 10).start();
    let (mut long, mut other) = (server.connect(), server.connect());
    let (mut refused, mut spoilt) = (server.connect(), server.connect());
    refused.transcript("MULTI => +OK");
    refused.transcript("SET a 1 => +QUEUED");
    long.push(["EVAL", "while true do end", "0"]);
    long.flush();
    wait_for(&mut other, "PING", is_busy);
    let Reply::Error(text) = refused.run("EXEC") else { panic!("EXEC does not wait") };
    assert!(text.starts_with("EXECABORT Transaction discarded because of: BUSY "), "{text}");
    spoilt.transcript("MULTI => +OK");
    assert!(is_busy(&spoilt.run("SET a 1")));
    other.run("SCRIPT KILL");
    wait_for(&mut other, "PING", |reply| !is_busy(reply));
    spoilt.transcript("SET a 1 => +QUEUED");
    spoilt.transcript("EXEC => -EXECABORT Transaction discarded because of previous errors.");
    for client in [&mut refused, &mut spoilt] {
        client.transcript("GET a => nil");
    }
}

fn a_script_that_has_written_cannot_be_killed(shards: usize) {
    let server = Server::builder(shards).option("busy-reply-threshold", 10).start();
    let (mut long, mut other) = (server.connect(), server.connect());
    let script = "redis.call('set', KEYS[1], 1) local start = os.clock() \
                  while os.clock() - start < 0.3 do end return redis.call('get', KEYS[1])";
    long.push(["EVAL", script, "1", "a"]);
    long.flush();
    wait_for(&mut other, "PING", is_busy);
    if let Reply::Error(text) = other.run("SCRIPT KILL") {
        assert!(text.starts_with("UNKILLABLE ") || text.starts_with("NOTBUSY "), "{text}");
    } else {
        panic!("a script that has written was killed");
    }
    assert_eq!(long.receive(), Reply::bulk("1"));
    wait_for(&mut other, "PING", |reply| !is_busy(reply));
    assert_eq!(other.run("GET a"), Reply::bulk("1"));
}

fn libraries_are_saved_and_loaded_at_the_start(shards: usize) {
    let directory = tempfile::tempdir().expect("a directory");
    let start = || Server::builder(shards).option("dir", directory.path().display()).start();
    let server = start();
    let mut client = server.connect();
    let code = "#!lua name=kept\nredis.register_function('f', function() return 'kept' end)";
    assert_eq!(client.call(["FUNCTION", "LOAD", code]), Reply::bulk("kept"));
    assert_eq!(client.run("SET a 1"), Reply::ok());
    assert_eq!(client.run("SAVE"), Reply::ok());
    drop((client, server));
    let server = start();
    let mut client = server.connect();
    assert_eq!(client.run("FCALL f 0"), Reply::bulk("kept"));
    assert_eq!(client.run("GET a"), Reply::bulk("1"));
}

fn monitors_see_a_script_and_its_commands(shards: usize) {
    let server = Server::start(shards);
    let (mut watcher, mut client) = (server.connect(), server.connect());
    assert_eq!(watcher.run("MONITOR"), Reply::ok());
    let script = "return redis.call('set', KEYS[1], redis.call('get', 'other'))";
    client.call(["SET", "other", "1"]);
    assert_eq!(eval(&mut client, script, &["a"], &[]), Reply::ok());
    client.run("GET a");
    let wanted = ["\"SET\" ", "\"EVAL\" ", "lua] \"get\" ", "lua] \"set\" ", "\"GET\" "];
    for part in wanted {
        let Reply::Simple(line) = watcher.receive() else { panic!("a line is a status") };
        assert!(line.contains(part), "{line} instead of {part}");
    }
}

/// Every script of the list answers the same, byte for byte, as on redis-server 7.0, but for words
/// that Valkey has changed.
fn answers_are_those_of_redis(shards: usize) {
    let Some(redis) = redis_server() else { return };
    let server = Server::start(shards);
    for protocol in ["2", "3"] {
        let (mut theirs, mut ours) = (redis.connect(), server.connect());
        theirs.call(["HELLO", protocol]);
        ours.call(["HELLO", protocol]);
        let mut failures = Vec::new();
        for script in answers::SCRIPTS {
            let call = ["EVAL", script, "2", "k1", "k2", "a1", "a2"];
            theirs.call(call);
            ours.call(call);
            let wanted = answers::in_words_of_valkey(theirs.raw());
            if wanted != ours.raw() {
                failures.push(format!(
                    "{script}\n  redis: {}\n  ours:  {}",
                    wanted.escape_ascii(),
                    ours.raw().escape_ascii()
                ));
            }
        }
        assert!(failures.is_empty(), "{} differ:\n{}", failures.len(), failures.join("\n"));
    }
}
