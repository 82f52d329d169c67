//! Requests of another protocol: a web browser that was made to send its requests here.
//!
//! Why: a page of anybody can have a browser post a text of its choice to any address that the browser
//! reaches, this server's on a private network among them. The lines of the text would be taken for
//! inline commands, and the header of the request would only be answered with errors. So whatever says
//! `POST` or `Host:`, which such a request cannot help to say before its text, is the last that is read
//! from its connection.
#![forbid(unsafe_code)]

use std::sync::atomic::{AtomicI64, Ordering};

use tessera_proto::Args;

/// How long nothing is said after a warning, since an attacker decides how often there is a cause.
const QUIET_US: i64 = 60_000_000;

/// Whether these words begin a request of HTTP, or stand in its header.
pub(crate) fn is_foreign(args: &Args<'_>) -> bool {
    args[0].eq_ignore_ascii_case(b"post") || args[0].eq_ignore_ascii_case(b"host:")
}

/// Tells the operator whose connection is closed, unless it was told not long ago.
#[cold]
pub(crate) fn warn(peer: &str, now_us: i64) {
    static LAST_US: AtomicI64 = AtomicI64::new(i64::MIN);
    if is_due(&LAST_US, now_us) {
        tracing::warn!(
            "Possible SECURITY ATTACK detected: {peer} has sent POST or Host:, as a web browser does \
             that was made to send commands here. Its connection is closed."
        );
    }
}

fn is_due(last_us: &AtomicI64, now_us: i64) -> bool {
    let last = last_us.load(Ordering::Relaxed);
    // A clock that was set back must not silence this for longer.
    let is_quiet = (0..QUIET_US).contains(&now_us.saturating_sub(last));
    // Of two workers that warn at once one does.
    !is_quiet
        && last_us.compare_exchange(last, now_us, Ordering::Relaxed, Ordering::Relaxed).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_warning_is_followed_by_a_minute_of_silence() {
        let last_us = AtomicI64::new(i64::MIN);
        let start = 1_000 * QUIET_US;
        assert!(is_due(&last_us, start));
        assert!(!is_due(&last_us, start) && !is_due(&last_us, start + QUIET_US - 1));
        assert!(is_due(&last_us, start + QUIET_US));
        assert!(is_due(&last_us, start), "the clock was set back");
    }
}
