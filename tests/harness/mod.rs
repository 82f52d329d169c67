//! What every black-box test stands on: a server process of its own and a client of its own.
//!
//! The client speaks RESP by code of this folder alone, never by `tessera-proto`: a fault of the
//! server's parser must not be hidden by the same fault in the test.
//!
//! Environment:
//! - `TESSERA_TEST_SERVER=/path/to/server` runs the suite against another server. With
//!   redis-server that shows which expectations are Redis's own; what only Tessera promises is
//!   then skipped, with a line that says so.
//! - `TESSERA_TEST_SCALE=N` multiplies the work of the long tests (default 1).

mod client;
mod libraries;
mod port;
mod programs;
mod reply;
mod server;
mod transcript;

pub(crate) use client::Client;
pub(crate) use libraries::{node_with, python_with};
pub(crate) use port::PortClaim;
pub(crate) use programs::{Finished, find_program, redis_server, rivals, run_to_end, skip};
pub(crate) use reply::{Reply, read_reply};
pub(crate) use server::{Builder, Server, ServerKind, program_under_test};

/// Multiplies `amount` by `TESSERA_TEST_SCALE`.
pub(crate) fn scaled(amount: usize) -> usize {
    amount * env_number("TESSERA_TEST_SCALE", 1)
}

/// The number in environment variable `name`, or `default` when it is not set.
///
/// # Panics
/// When the variable is set to something that is not a number: a typing error must not silently
/// shrink a test run.
pub(crate) fn env_number(name: &str, default: usize) -> usize {
    match std::env::var(name) {
        Ok(text) => text.parse().unwrap_or_else(|_| panic!("{name}={text:?} is not a number")),
        Err(_) => default,
    }
}

/// Declares each named function `fn(shards: usize)` as three tests: with 1, 2 and 4 shards.
///
/// Against a foreign server, which knows no shards, only the first of them does anything.
macro_rules! on_1_2_and_4_shards {
    ($($name:ident),+ $(,)?) => {$(
        mod $name {
            #[test]
            fn on_1_shard() {
                super::$name(1);
            }

            #[test]
            fn on_2_shards() {
                if $crate::harness::ServerKind::under_test().is_tessera() {
                    super::$name(2);
                }
            }

            #[test]
            fn on_4_shards() {
                if $crate::harness::ServerKind::under_test().is_tessera() {
                    super::$name(4);
                }
            }
        }
    )+};
}
pub(crate) use on_1_2_and_4_shards;
