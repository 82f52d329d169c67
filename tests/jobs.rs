//! Job queues as they are in use: BullMQ and Bull of Node's world and Celery of Python's, unmodified, with
//! workers in processes of their own. They lean on scripts over many keys, blocking pops, streams,
//! publish/subscribe and transactions at once, on keys that lie on any shard.

use std::process::Command;
use std::time::Duration;

use crate::harness::{Server, ServerKind, node_with, python_with, run_to_end};

const LIMIT: Duration = Duration::from_secs(300);
const SHARDS: usize = 4;

const BULL: [&str; 2] = ["bull@4.16.5", "ioredis@5.8.2"];
const BULLMQ: [&str; 2] = ["bullmq@6.7.0", "ioredis@5.8.2"];
const CELERY: [&str; 3] = ["celery[redis]==5.7.0", "redis==6.4.0", "packaging==26.3"];
/// Where the programs of this folder are.
const PROGRAMS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/clients");

/// Runs a driver against a server of its own until it says that it is done.
#[track_caller]
fn drive(mut command: Command, server: &Server) {
    let done = run_to_end(command.arg(server.port().to_string()), LIMIT);
    assert!(done.success && done.stdout == "done\n", "{}\n{}", done.stdout, done.stderr);
}

fn server() -> Server {
    Server::start(if ServerKind::under_test().is_tessera() { SHARDS } else { 1 })
}

/// Runs a driver of Node's with these packages.
#[track_caller]
fn drive_node(name: &str, packages: &[&str]) {
    let Some((node, folder)) = node_with(name, packages) else { return };
    let server = server();
    let mut command = Command::new(node);
    command.arg(format!("{PROGRAMS}/{name}.js")).env("NODE_PATH", folder.join("node_modules"));
    drive(command, &server);
}

#[test]
fn bullmq_does_every_job_once_and_recovers_those_of_a_killed_worker() {
    drive_node("bullmq", &BULLMQ);
}

#[test]
fn bull_does_every_job_once_and_recovers_that_of_a_killed_worker() {
    drive_node("bull", &BULL);
}

#[test]
fn celery_does_every_task_and_recovers_that_of_a_killed_worker() {
    let Some(python) = python_with("celery", &CELERY) else { return };
    let server = server();
    let mut command = Command::new(python);
    command.arg(format!("{PROGRAMS}/celery_driver.py")).env("PYTHONDONTWRITEBYTECODE", "1");
    drive(command, &server);
}
