//! The keeper: a thread that makes segments, since opening, allocating and syncing files blocks.
//!
//! It touches no data: it is asked for files by name and hands over their descriptors.
#![forbid(unsafe_code)]

use std::{
    io,
    os::fd::OwnedFd,
    sync::mpsc::{self, Receiver, Sender},
    thread,
};

use tessera_engine::journal::record::RecordBuffer;

use super::DataDirectory;
use crate::runtime::wake::Doorbell;

/// A segment that is wanted.
struct Order {
    name: String,
    segment: u32,
    block: RecordBuffer,
    bytes: u64,
    to: Sender<Made>,
    bell: Doorbell,
}

/// A segment that was made, or why not.
pub(super) struct Made {
    pub(super) segment: u32,
    pub(super) file: io::Result<OwnedFd>,
}

/// Where segments are ordered.
pub(super) struct Keeper(Sender<Order>);

impl Keeper {
    /// Starts the thread. It ends when nobody can order any more.
    pub(super) fn start(directory: DataDirectory) -> io::Result<Self> {
        let (orders, wanted) = mpsc::channel::<Order>();
        thread::Builder::new().name("log-keeper".into()).spawn(move || {
            for order in wanted {
                let file = directory.make_segment(&order.name, &order.block, order.bytes);
                // A worker that is gone needs no segment.
                let _ = order.to.send(Made { segment: order.segment, file });
                order.bell.ring();
            }
        })?;
        Ok(Self(orders))
    }

    /// A counter for one worker, whose bell rings when something lies on it.
    pub(super) fn counter(&self, bell: Doorbell) -> Counter {
        let (to, made) = mpsc::channel();
        Counter { orders: self.0.clone(), to, made, bell }
    }
}

/// One worker's end.
pub(super) struct Counter {
    orders: Sender<Order>,
    to: Sender<Made>,
    made: Receiver<Made>,
    bell: Doorbell,
}

impl Counter {
    pub(super) fn order(&self, name: String, segment: u32, block: RecordBuffer, bytes: u64) {
        let (to, bell) = (self.to.clone(), self.bell.clone());
        let order = Order { name, segment, block, bytes, to, bell };
        if self.orders.send(order).is_err() {
            let file = Err(io::Error::other("the thread that makes segments has ended"));
            // The other end is held here.
            let _ = self.to.send(Made { segment, file });
        }
    }

    pub(super) fn take(&self) -> Option<Made> {
        self.made.try_recv().ok()
    }
}
