//! Clients that go too far: idle for longer than `timeout`, or not reading their replies.
//!
//! The hard limit of `client-output-buffer-limit` is checked as replies are written; the soft one
//! and the time out are looked at a few times a second, since they are counted in seconds.
#![forbid(unsafe_code)]

use crate::{
    config::BufferLimit,
    net::{CloseMode, Connection, ConnectionId},
    session::{Session, Standing},
    worker::Worker,
};

impl Worker {
    /// Disconnects a client for which more output waits than it is allowed.
    #[cold]
    pub(crate) fn disconnect_overrun(&mut self, id: ConnectionId) {
        let Some(connection) = self.network.connection(id) else { return };
        if connection.is_closing() {
            return;
        }
        let waiting = connection.pending_output();
        let session = &connection.session;
        tracing::warn!(
            "Client id={} addr={} scheduled to be closed ASAP for overcoming of output buffer \
             limits: {waiting} bytes wait to be read.",
            session.id,
            session.peer
        );
        self.metrics.counters.output_buffer_disconnections.add(1);
        self.network.close(id, CloseMode::Now);
    }

    /// Disconnects clients that have been idle, or over the soft limit, for too long.
    pub(crate) fn check_clients(&mut self) {
        let idle_max_us = i64::from(self.config.get().timeout) * 1_000_000;
        if idle_max_us == 0 && self.output_limits.iter().all(|limit| limit.soft_bytes == 0) {
            return;
        }
        let now_us = self.now_us;
        let ids: Vec<ConnectionId> = self.network.connections().map(|(id, _)| id).collect();
        for id in ids {
            let Some(connection) = self.network.connection(id) else { continue };
            let limit = output_limit(&self.output_limits, &connection.session);
            let soft_max_us = i64::try_from(limit.soft_seconds).unwrap_or(i64::MAX / 2) * 1_000_000;
            let over_us = over_soft_limit(connection, limit.soft_bytes, now_us);
            let session = &connection.session;
            // One whose command is held up or under way elsewhere is not idle, nor is one that waits
            // for messages.
            let is_waiting = !session.replies.is_empty()
                || session.has_subscriptions()
                || session.monitors
                || matches!(session.standing, Standing::Ready | Standing::Stalled);
            if over_us.is_some_and(|over_us| over_us >= soft_max_us) {
                self.disconnect_overrun(id);
            } else if idle_max_us > 0
                && !is_waiting
                && now_us - connection.session.active_us > idle_max_us
            {
                self.network.close(id, CloseMode::Now);
            }
        }
    }
}

/// How much output may wait for a client, by its class; `limits` are those of normal clients, replicas
/// and subscribers.
#[inline]
pub(crate) fn output_limit<'l>(limits: &'l [BufferLimit; 3], session: &Session) -> &'l BufferLimit {
    if session.has_subscriptions() {
        &limits[2]
    } else if session.monitors && limits[0].hard_bytes == 0 {
        // Who sees all commands and does not read them must not cost memory without bound.
        &limits[1]
    } else {
        &limits[0]
    }
}

/// For how many microseconds a client has been over the soft limit without a break.
fn over_soft_limit(
    connection: &mut Connection<Session>,
    soft_bytes: u64,
    now_us: i64,
) -> Option<i64> {
    let is_over = connection.is_over_limit(soft_bytes);
    let since = &mut connection.session.over_soft_limit_us;
    if !is_over {
        *since = None;
    }
    is_over.then(|| now_us - *since.get_or_insert(now_us))
}
