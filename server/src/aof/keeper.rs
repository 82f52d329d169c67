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
pub(super) struct Wanted {
    pub(super) name: String,
    pub(super) segment: u32,
    pub(super) block: RecordBuffer,
    pub(super) bytes: u64,
    /// Whether its bytes are written as zeros (see [`DataDirectory::make_segment`]).
    pub(super) zeroed: bool,
}

struct Order {
    wanted: Wanted,
    to: Sender<Made>,
    bell: Doorbell,
}

/// A segment that was made, or why not.
pub(super) struct Made {
    pub(super) segment: u32,
    pub(super) file: io::Result<OwnedFd>,
}

/// Where workers order segments; the thread runs as long as any of them can.
pub(super) struct Keeper(Sender<Order>);

impl Keeper {
    /// Starts the thread. It ends when nobody can order any more.
    pub(super) fn start(directory: DataDirectory) -> io::Result<Self> {
        let (orders, wanted) = mpsc::channel::<Order>();
        thread::Builder::new().name("log-keeper".into()).spawn(move || {
            for Order { wanted, to, bell } in wanted {
                let Wanted { name, segment, block, bytes, zeroed } = wanted;
                let file = directory.make_segment(&name, &block, bytes, zeroed);
                // A worker that is gone needs no segment.
                let _ = to.send(Made { segment, file });
                bell.ring();
            }
        })?;
        Ok(Self(orders))
    }

    /// One worker's end, whose bell rings when a segment was made for it.
    pub(super) fn orders(&self, bell: Doorbell) -> SegmentOrders {
        let (to, made) = mpsc::channel();
        SegmentOrders { orders: self.0.clone(), to, made, bell }
    }
}

/// One worker's end: what it has ordered, and what was made of it.
pub(super) struct SegmentOrders {
    orders: Sender<Order>,
    to: Sender<Made>,
    made: Receiver<Made>,
    bell: Doorbell,
}

impl SegmentOrders {
    /// Orders a segment. It is taken when it is made; or why it could not be.
    pub(super) fn order(&self, wanted: Wanted) {
        let segment = wanted.segment;
        let order = Order { wanted, to: self.to.clone(), bell: self.bell.clone() };
        if self.orders.send(order).is_err() {
            let file = Err(io::Error::other("the thread that makes segments has ended"));
            // The other end is held here.
            let _ = self.to.send(Made { segment, file });
        }
    }

    /// What was made first of what has not been taken.
    pub(super) fn take(&self) -> Option<Made> {
        self.made.try_recv().ok()
    }
}
