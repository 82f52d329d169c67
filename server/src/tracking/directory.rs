//! Which worker serves which client: for those who name clients by their numbers.
//!
//! Why a lock: connections come and go rarely beside commands, and only CLIENT TRACKING with REDIRECT,
//! and invalidations that are redirected, look here.
#![forbid(unsafe_code)]

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use tessera_engine::notice::Client;

/// All connected clients by their numbers.
#[derive(Debug, Default)]
pub struct Directory(Mutex<HashMap<u64, Client>>);

impl Directory {
    /// A client has come.
    pub fn add(&self, id: u64, client: Client) {
        self.lock().insert(id, client);
    }

    /// A client is gone.
    pub fn remove(&self, id: u64) {
        self.lock().remove(&id);
    }

    /// Where a client is, if it is connected.
    pub fn find(&self, id: u64) -> Option<Client> {
        self.lock().get(&id).copied()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<u64, Client>> {
        // Each critical section leaves the map whole.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_are_found_while_they_are_here() {
        let (directory, client) = (Directory::default(), Client { worker: 2, connection: 9 });
        directory.add(5, client);
        assert_eq!((directory.find(5), directory.find(6)), (Some(client), None));
        directory.remove(5);
        assert_eq!(directory.find(5), None);
    }
}
