//! Programs that others wrote: load generators and client libraries complete without an error.

use std::process::Command;
use std::time::Duration;

use crate::harness::{
    Finished, Server, find_program, node_with, on_1_2_and_4_shards, python_with, run_to_end,
    scaled, skip,
};

on_1_2_and_4_shards!(redis_benchmark, redis_cli, memtier, redis_py, ioredis, node_redis);

const LIMIT: Duration = Duration::from_secs(300);

const REDIS_PY: &str = "redis==8.1.0";
const IOREDIS: &str = "ioredis@6.0.0";
const NODE_REDIS: &str = "redis@6.3.1";

#[track_caller]
fn check(done: &Finished) {
    let said = format!("{}\n{}", done.stdout, done.stderr);
    assert!(done.success, "{said}");
    let error = said.lines().find(|line| {
        let line = line.to_lowercase();
        line.contains("error") || line.contains("-err") || line.contains("traceback")
    });
    assert_eq!(error, None, "{said}");
}

/// The default list of tests, without and with a pipeline.
fn redis_benchmark(shards: usize) {
    let Some(program) = find_program("redis-benchmark") else {
        return skip("redis-benchmark is not installed");
    };
    let server = Server::start(shards);
    for pipeline in ["1", "16"] {
        let mut command = Command::new(&program);
        command.args(["-p", &server.port().to_string(), "-P", pipeline, "-c", "20", "-q"]);
        let requests = scaled(2_000).to_string();
        let done = run_to_end(command.args(["-n", &requests, "-r", "1000"]), LIMIT);
        check(&done);
        for test in ["PING_INLINE", "SET", "LPUSH", "SADD", "ZPOPMIN", "LRANGE_600", "MSET"] {
            let found = done.stdout.contains(&format!("{test}: ")) || done.stdout.contains(test);
            assert!(found, "{test} was run:\n{}", done.stdout);
        }
    }
}

fn redis_cli(shards: usize) {
    let Some(program) = find_program("redis-cli") else {
        return skip("redis-cli is not installed");
    };
    let server = Server::start(shards);
    let ask = |args: &[&str]| {
        let mut command = Command::new(&program);
        command.args(["-p", &server.port().to_string()]).args(args);
        let done = run_to_end(&mut command, LIMIT);
        assert!(done.success, "{}{}", done.stdout, done.stderr);
        done.stdout
    };
    assert_eq!(ask(&["SET", "k", "v"]), "OK\n");
    assert_eq!(ask(&["GET", "k"]), "v\n");
    assert_eq!(ask(&["-3", "GET", "k"]), "v\n");
    assert_eq!(ask(&["--scan"]), "k\n");
    assert!(ask(&["--bigkeys"]).contains("Sampled 1 keys"));
    assert!(ask(&["INFO"]).contains("redis_version:"));
}

fn memtier(shards: usize) {
    let Some(program) = find_program("memtier_benchmark") else {
        return skip("memtier_benchmark is not installed (Debian has no package: it is optional)");
    };
    let server = Server::start(shards);
    for (pipeline, protocol) in [("1", "redis"), ("16", "resp2"), ("8", "resp3")] {
        let mut command = Command::new(&program);
        command.args(["-s", "127.0.0.1", "-p", &server.port().to_string(), "-P", protocol]);
        command.args(["--pipeline", pipeline, "-t", "2", "-c", "10", "--hide-histogram"]);
        command.args(["-n", &scaled(1_000).to_string(), "--ratio", "1:5", "-d", "64"]);
        let done = run_to_end(command.arg("--key-maximum=1000"), LIMIT);
        assert!(done.success, "{}\n{}", done.stdout, done.stderr);
        let said = format!("{}{}", done.stdout, done.stderr);
        assert!(said.contains("Totals"), "{said}");
        assert!(!said.contains("handle error response"), "{said}");
        assert!(!said.contains("connection dropped"), "{said}");
    }
}

fn redis_py(shards: usize) {
    let Some(python) = python_with("redis-py", &[REDIS_PY]) else { return };
    let server = Server::start(shards);
    let mut command = Command::new(python);
    command.args(["-c", include_str!("clients/redis_py.py"), &server.port().to_string()]);
    let done = run_to_end(&mut command, LIMIT);
    check(&done);
    assert_eq!(done.stdout, "done\n");
}

fn ioredis(shards: usize) {
    run_in_node(shards, IOREDIS, include_str!("clients/ioredis.js"));
}

fn node_redis(shards: usize) {
    run_in_node(shards, NODE_REDIS, include_str!("clients/node_redis.js"));
}

/// Runs `script` with `package` against a server of its own, until it says that it is done.
fn run_in_node(shards: usize, package: &str, script: &str) {
    let Some((node, folder)) = node_with("node", &[package]) else { return };
    let server = Server::start(shards);
    let mut command = Command::new(node);
    command.args(["-e", script, &server.port().to_string()]);
    let done = run_to_end(command.current_dir(&folder), LIMIT);
    check(&done);
    assert_eq!(done.stdout, "done\n");
}
