//! The open segments of one worker's log: what the log writer submits goes to the worker's ring, or
//! to the keeper.
#![forbid(unsafe_code)]

use std::{
    io,
    os::fd::{AsFd as _, OwnedFd},
};

use tessera_engine::{
    journal::record::RecordBuffer,
    persist::manifest::segment_name,
    sys::disk::{DiskEvent, LogDisk},
};

use super::keeper::{Made, SegmentOrders, Wanted};
use crate::{net::Network, session::Session};

/// Segments that are written to.
pub(super) struct Segments {
    run: u64,
    shard: u32,
    orders: SegmentOrders,
    open: Vec<(u32, OwnedFd)>,
    /// Segments that were ordered and are not here.
    ordered: usize,
    /// Whether segments are wanted that were written with zeros.
    pub(super) zeroed: bool,
    /// What happened without the ring.
    events: Vec<DiskEvent>,
}

impl Segments {
    pub(super) fn new(run: u64, shard: u32, orders: SegmentOrders) -> Self {
        let (open, events) = (Vec::new(), Vec::new());
        Self { run, shard, orders, open, ordered: 0, zeroed: false, events }
    }

    /// What has become of submissions that did not go to the ring.
    pub(super) fn take_event(&mut self) -> Option<DiskEvent> {
        if self.ordered > 0
            && let Some(Made { segment, file }) = self.orders.take()
        {
            self.ordered -= 1;
            let result = file.map(|file| self.open.push((segment, file)));
            return Some(DiskEvent::Made { segment, result });
        }
        self.events.pop()
    }
}

/// The log's disk, as long as the worker's network is at hand.
pub(super) struct RingDisk<'a> {
    pub(super) segments: &'a mut Segments,
    pub(super) network: &'a mut Network<Session>,
}

impl RingDisk<'_> {
    fn file(&self, segment: u32) -> Option<&OwnedFd> {
        self.segments.open.iter().find(|(number, _)| *number == segment).map(|(_, file)| file)
    }
}

impl LogDisk for RingDisk<'_> {
    fn make(&mut self, segment: u32, block: RecordBuffer, bytes: u64) {
        let name = segment_name(self.segments.run, self.segments.shard, segment);
        self.segments.ordered += 1;
        let zeroed = self.segments.zeroed;
        self.segments.orders.order(Wanted { name, segment, block, bytes, zeroed });
    }

    fn write(
        &mut self,
        ticket: u64,
        segment: u32,
        offset: u64,
        bytes: RecordBuffer,
        durable: bool,
    ) {
        let open = self.segments.open.iter().find(|(number, _)| *number == segment);
        match open {
            Some((_, file)) => {
                let file = file.as_fd();
                self.network.write_file(file, (ticket, segment), offset, bytes, durable);
            }
            None => {
                let result = Err(not_open(segment));
                self.segments.events.push(DiskEvent::Written { ticket, bytes, result });
            }
        }
    }

    fn sync(&mut self, segment: u32) {
        let open = self.segments.open.iter().find(|(number, _)| *number == segment);
        match open {
            Some((_, file)) => self.network.sync_file(file.as_fd(), segment),
            None => {
                let result = Err(not_open(segment));
                self.segments.events.push(DiskEvent::Synced { segment, result });
            }
        }
    }

    fn close(&mut self, segment: u32) {
        debug_assert!(self.file(segment).is_some(), "a segment is closed once");
        self.segments.open.retain(|(number, _)| *number != segment);
    }
}

fn not_open(segment: u32) -> io::Error {
    io::Error::other(format!("segment {segment} of the log is not open"))
}
