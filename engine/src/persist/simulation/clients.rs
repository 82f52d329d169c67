//! What clients do and what they know, and whether what comes back agrees with it.
#![forbid(unsafe_code)]

use std::collections::BTreeSet;

/// The number of a write: its key is made from it.
pub(super) type Id = usize;

/// A key that was written once.
#[derive(Clone, Debug, Default)]
pub(super) struct Write {
    /// What its client had written or seen before.
    after: Vec<Id>,
    /// All keys of the same unit.
    unit: Vec<Id>,
    /// Some client was told that it is there.
    told: bool,
    /// It came back after a crash, so it must always come back.
    came_back: bool,
    /// It did not.
    lost: bool,
}

/// A connection.
#[derive(Clone, Debug, Default)]
struct Client {
    /// What its next write comes after: what it wrote last, and what it has seen since.
    context: Vec<Id>,
}

/// All clients together.
#[derive(Debug)]
pub(super) struct Clients {
    clients: Vec<Client>,
    writes: Vec<Write>,
}

impl Clients {
    pub(super) fn new(count: usize) -> Self {
        Self { clients: vec![Client::default(); count], writes: Vec::new() }
    }

    pub(super) fn count(&self) -> usize {
        self.clients.len()
    }

    /// A client sends a unit of `count` writes; answers the first number, the others follow it.
    pub(super) fn write(&mut self, client: usize, count: usize) -> Vec<Id> {
        let first = self.writes.len();
        let unit: Vec<Id> = (first..first + count).collect();
        let after = std::mem::replace(&mut self.clients[client].context, unit.clone());
        let write = Write { after, unit: unit.clone(), ..Write::default() };
        self.writes.extend(std::iter::repeat_n(write, count));
        unit
    }

    /// How many writes there were.
    pub(super) fn len(&self) -> usize {
        self.writes.len()
    }

    /// A client reads that its writes are done.
    pub(super) fn acknowledged(&mut self, ids: &[Id]) {
        ids.iter().for_each(|&id| self.writes[id].told = true);
    }

    /// A client reads that a key is there.
    pub(super) fn saw(&mut self, client: usize, id: Id) {
        self.writes[id].told = true;
        self.clients[client].context.push(id);
    }

    /// How many writes somebody was told of.
    pub(super) fn told(&self) -> usize {
        self.writes.iter().filter(|write| write.told).count()
    }

    /// Compares with what came back after a crash, and goes on from there.
    pub(super) fn recover(
        &mut self,
        present: &BTreeSet<Id>,
        told_lasts: bool,
    ) -> Result<(), String> {
        for (id, write) in self.writes.iter().enumerate() {
            let is_there = present.contains(&id);
            if is_there && write.lost {
                return Err(format!("{id} was cut off and has come back later"));
            }
            if !is_there && write.came_back {
                return Err(format!("{id} came back once and is gone now"));
            }
            if !is_there && write.told && told_lasts && !write.lost {
                return Err(format!("a client was told of {id}, and it is gone"));
            }
            if !is_there {
                continue;
            }
            if let Some(part) = write.unit.iter().find(|part| !present.contains(part)) {
                return Err(format!("{id} is there, and {part} of the same unit is not"));
            }
            if let Some(cause) = write.after.iter().find(|cause| !present.contains(cause)) {
                return Err(format!("{id} is there, and {cause}, which was before it, is not"));
            }
        }
        for (id, write) in self.writes.iter_mut().enumerate() {
            write.came_back = present.contains(&id);
            write.lost = !write.came_back;
        }
        self.clients.iter_mut().for_each(|client| client.context.clear());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn recover(clients: &mut Clients, present: &[Id], told_lasts: bool) -> Result<(), String> {
        clients.recover(&present.iter().copied().collect(), told_lasts)
    }

    #[test]
    fn each_promise_that_is_broken_is_noticed() {
        let history = || {
            let mut clients = Clients::new(2);
            clients.write(0, 1);
            clients.write(0, 2);
            clients.saw(1, 0);
            clients.write(1, 1);
            clients
        };
        for prefix in [&[][..], &[0], &[0, 1, 2], &[0, 3], &[0, 1, 2, 3]] {
            assert_eq!(recover(&mut history(), prefix, false), Ok(()));
        }
        for (present, told_lasts) in
            [(&[0, 1][..], false), (&[1, 2], false), (&[3], false), (&[], true)]
        {
            assert!(recover(&mut history(), present, told_lasts).is_err(), "{present:?}");
        }
        let mut clients = history();
        assert_eq!(recover(&mut clients, &[0], false), Ok(()));
        assert!(recover(&mut clients, &[], false).is_err());
        assert!(recover(&mut clients, &[0, 1, 2], false).is_err());
    }
}
