//! A mailbox in which taking a place and filling it are separate steps, as they are between cores.

use std::collections::VecDeque;

/// Like the server's mailbox, without threads: `tail`, `head` and positions mean the same.
pub(super) struct SimMailbox<T> {
    slots: VecDeque<Slot<T>>,
    head: u64,
}

enum Slot<T> {
    Taken,
    Filled(T),
    /// Received out of turn, which only a planted fault does.
    Gone,
}

impl<T> SimMailbox<T> {
    pub(super) fn new() -> Self {
        SimMailbox { slots: VecDeque::new(), head: 0 }
    }

    pub(super) fn take(&mut self) -> u64 {
        self.slots.push_back(Slot::Taken);
        self.tail() - 1
    }

    pub(super) fn fill(&mut self, place: u64, message: T) {
        let slot = &mut self.slots[(place - self.head) as usize];
        assert!(matches!(slot, Slot::Taken), "a place is filled once");
        *slot = Slot::Filled(message);
    }

    pub(super) fn tail(&self) -> u64 {
        self.head + self.slots.len() as u64
    }

    pub(super) fn head(&self) -> u64 {
        self.head
    }

    /// Whether all places that are taken have been passed.
    pub(super) fn is_drained(&self) -> bool {
        self.slots.is_empty()
    }

    /// The next message, unless its place is unfilled or there is none.
    pub(super) fn next(&mut self) -> Option<T> {
        if !matches!(self.slots.front(), Some(Slot::Filled(_))) {
            return None;
        }
        let Some(Slot::Filled(message)) = self.slots.pop_front() else {
            unreachable!("the front was just seen to be filled")
        };
        self.head += 1;
        while matches!(self.slots.front(), Some(Slot::Gone)) {
            self.slots.pop_front();
            self.head += 1;
        }
        Some(message)
    }

    /// The planted fault against rule (b): the first message that is there, whatever is before it.
    pub(super) fn next_passing_unfilled(&mut self) -> Option<T> {
        if let Some(message) = self.next() {
            return Some(message);
        }
        let filled = self.slots.iter_mut().find(|slot| matches!(slot, Slot::Filled(_)))?;
        match std::mem::replace(filled, Slot::Gone) {
            Slot::Filled(message) => Some(message),
            Slot::Taken | Slot::Gone => None,
        }
    }
}
