//! Black-box tests: the real server process, over real TCP.
#![forbid(unsafe_code)]

mod harness;

mod aof;
mod architecture;
mod backup;
mod bench;
mod blocking;
mod check;
mod collections;
mod command_docs;
mod connection;
mod crash;
mod differential;
mod disk_full;
mod dump;
mod eviction;
mod expire;
mod gate;
mod guests;
mod jobs;
mod keys;
mod linearizability;
mod log_control;
mod observation;
mod order;
mod protocol;
mod pubsub;
mod rdb;
mod save;
mod scan;
mod scripts;
mod specials;
mod startup;
mod stream;
mod string;
mod tools;
mod tracking;
mod transactions;
mod turmoil;
mod usage;
mod waiting;
