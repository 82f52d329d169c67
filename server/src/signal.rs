//! Signals: SIGTERM and SIGINT ask the server to stop; the second one ends it at once.
//!
//! A thread of its own waits for them and does nothing else, so no code of ours runs in a signal
//! handler. SIGPIPE is ignored: Rust's runtime sees to that before `main`, and sends ask for no
//! signal besides.

#![forbid(unsafe_code)]

use std::{
    io, process,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

use signal_hook::{
    consts::{SIGINT, SIGTERM},
    iterator::Signals,
    low_level::signal_name,
};

/// Exit status of a server that was told twice to stop.
const EXIT_INSISTED: i32 = 1;

/// Whether the server is to stop. Clones share the answer.
#[derive(Clone, Debug, Default)]
pub struct Shutdown {
    requested: Arc<AtomicBool>,
}

impl Shutdown {
    /// Whether somebody asked. One load; workers look once a turn.
    #[inline]
    pub fn is_requested(&self) -> bool {
        self.requested.load(Ordering::Acquire)
    }

    /// Takes the request back, as it could not be met.
    pub fn withdraw(&self) {
        self.requested.store(false, Ordering::Release);
    }

    /// Asks the server to stop, as SHUTDOWN does. Whoever sleeps must be woken by the caller.
    pub fn request(&self) {
        self.requested.store(true, Ordering::Release);
    }
}

/// Watches for SIGTERM and SIGINT from now on. The first one requests the shutdown and then calls
/// `wake`, which must end the sleep of all workers; the second one ends the process at once.
pub fn watch(shutdown: Shutdown, wake: impl Fn() + Send + 'static) -> io::Result<()> {
    watch_for(&[SIGTERM, SIGINT], shutdown, wake, || process::exit(EXIT_INSISTED))
}

fn watch_for(
    signals: &[i32],
    shutdown: Shutdown,
    wake: impl Fn() + Send + 'static,
    insist: impl Fn() + Send + 'static,
) -> io::Result<()> {
    let mut signals = Signals::new(signals)?;
    thread::Builder::new().name("signals".to_owned()).spawn(move || {
        for signal in signals.forever() {
            let name = signal_name(signal).unwrap_or("a signal");
            if shutdown.is_requested() {
                tracing::warn!("Received {name} again: exiting now");
                insist();
            } else {
                tracing::warn!("Received {name} scheduling shutdown...");
                shutdown.request();
                wake();
            }
        }
    })?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use signal_hook::{consts::SIGUSR2, low_level::raise};

    use super::*;

    #[test]
    fn the_first_signal_requests_and_the_second_insists() {
        let shutdown = Shutdown::default();
        let (told, heard) = mpsc::channel();
        let (wake, insist) = (told.clone(), told);
        watch_for(
            &[SIGUSR2],
            shutdown.clone(),
            move || wake.send("wake").unwrap(),
            move || insist.send("insist").unwrap(),
        )
        .expect("a handler");
        assert!(!shutdown.is_requested());
        raise(SIGUSR2).expect("a signal to ourselves");
        assert_eq!(heard.recv(), Ok("wake"));
        assert!(shutdown.is_requested());
        raise(SIGUSR2).expect("a signal to ourselves");
        assert_eq!(heard.recv(), Ok("insist"));
    }
}
