//! The checks of the order object to the real server when it breaks a rule of `dispatch` on purpose
//! (see `server/src/faults`).

use std::net::SocketAddr;

use super::{Seen, follow_pointers, read_in_reverse, read_together};
use crate::harness::{Server, ServerKind};

/// Rounds of a check at a time, and how often it is tried: the scheduler may be kind for a while.
const ROUNDS: usize = 100;
const TRIES: usize = 50;

/// Asserts that a check finds a violation in a server with this fault.
#[track_caller]
fn assert_found(fault: &str, shards: usize, check: fn(SocketAddr, usize) -> Seen) {
    if !ServerKind::under_test().is_tessera() {
        return;
    }
    let server = Server::builder(shards).fault(fault).start();
    let found = (0..TRIES).any(|_| check(server.address(), ROUNDS).violations() > 0);
    assert!(found, "{fault}: no violation was found");
}

/// Rule (a). With four shards a connection has several that are not its own.
#[test]
fn places_that_are_not_taken_in_program_order_are_found() {
    assert_found("order-a", 4, read_in_reverse);
    assert_found("order-a", 4, follow_pointers);
}

/// Rule (c).
#[test]
fn own_commands_that_do_not_wait_for_the_own_mail_are_found() {
    for shards in [2, 4] {
        assert_found("order-c", shards, read_in_reverse);
    }
}

/// Rule (d): commands over several shards without a cut.
#[test]
fn sets_that_take_their_places_one_after_the_other_are_found() {
    for shards in [2, 4] {
        assert_found("torn", shards, read_together);
    }
}
