//! The coming and going of a worker's clients, and the end of them all when the server stops.
#![forbid(unsafe_code)]

use std::mem;

use tessera_engine::notice::Client;
use tessera_proto::{Protocol, ReplyWriter};

use super::Worker;
use crate::{
    net::{CloseMode, ConnectionId, NetEvent},
    session::{Session, Standing},
};

/// What a client of another machine reads while `protected-mode` is on and no password is set.
const PROTECTED: &str = "DENIED Tessera is running in protected mode because protected mode is \
    enabled and no password is set for the default user. In this mode connections are only \
    accepted from the loopback interface. To connect from other machines, set a password with \
    'CONFIG SET requirepass' or the option 'requirepass', or turn the protection off with \
    'CONFIG SET protected-mode no' sent from the machine itself if nobody else can reach its port.";

impl Worker {
    /// Takes up what has happened to connections.
    pub(super) fn take_events(&mut self) {
        while let Some(event) = self.network.take_event() {
            match event {
                NetEvent::Opened(id) => self.open(id),
                NetEvent::Readable(id) => self.make_ready(id),
                NetEvent::Ended(id) => self.end(id),
                NetEvent::Closed(id, _) => self.forget(id),
            }
        }
    }

    fn open(&mut self, id: ConnectionId) {
        let config = self.config.get();
        let no_password = config.requirepass.is_empty();
        let is_protected = config.protected_mode && no_password;
        let Some(connection) = self.network.connection(id) else { return };
        let client = self.shared.next_client_id();
        let (peer, local) = (connection.peer.to_string(), connection.local.to_string());
        let is_near = connection.peer.is_loopback();
        connection.session = Session::new(client, peer, local, self.now_us, no_password);
        connection.session.client = Client { worker: self.own, connection: id.number() };
        connection.session.is_local = is_near;
        self.shared.clients.add(client, connection.session.client);
        self.metrics.counters.connections_received.add(1);
        if is_protected && !is_near {
            connection.session.standing = Standing::Finished;
            ReplyWriter::new(&mut connection.output, Protocol::Resp2).error(PROTECTED);
            self.network.mark_dirty(id);
            self.network.close(id, CloseMode::AfterReply);
        }
    }

    fn make_ready(&mut self, id: ConnectionId) {
        let Some(connection) = self.network.connection(id) else { return };
        if connection.session.standing == Standing::Idle {
            connection.session.standing = Standing::Ready;
            self.ready.push(id);
        }
    }

    /// The peer sends no more. As in Redis its connection is closed once the commands that it had
    /// sent are answered.
    fn end(&mut self, id: ConnectionId) {
        let Some(connection) = self.network.connection(id) else { return };
        connection.session.is_ended = true;
        if connection.session.wait.is_some() {
            return self.abandon_wait(id);
        }
        if connection.session.awaits_ack {
            return self.abandon_ack(id);
        }
        if connection.session.standing == Standing::Idle {
            connection.session.standing = Standing::Ready;
            self.ready.push(id);
        }
    }

    fn forget(&mut self, id: ConnectionId) {
        self.forget_wait(id);
        self.forget_ack(id);
        let Some(connection) = self.network.connection(id) else { return };
        connection.session.standing = Standing::Finished;
        self.shared.clients.remove(connection.session.id);
        let session = &connection.session;
        let (has_registered, monitors) =
            (session.has_subscriptions() || session.tracking.is_some(), session.monitors);
        if has_registered {
            self.take_leave(id);
        }
        if monitors {
            self.count_monitors();
        }
    }

    /// The server is to stop: accepts nobody, and closes each connection once what was received
    /// from it is answered.
    pub(super) fn wind_up(&mut self) {
        if !mem::replace(&mut self.is_winding_up, true) {
            self.network.stop_accepting();
            // Clients that go on sending would never be done.
            let ids: Vec<ConnectionId> = self.network.connections().map(|(id, _)| id).collect();
            ids.into_iter().for_each(|id| self.network.pause_receive(id));
        }
        let waiting = self.network.connections().filter(|(_, open)| open.session.wait.is_some());
        let waiting: Vec<ConnectionId> = waiting.map(|(id, _)| id).collect();
        waiting.into_iter().for_each(|id| self.abandon_wait(id));
        self.abandon_acks();
        let is_settled = |session: &Session| {
            session.replies.is_empty()
                && matches!(session.standing, Standing::Idle | Standing::Finished)
        };
        let settled: Vec<ConnectionId> = self
            .network
            .connections()
            .filter(|(_, connection)| is_settled(&connection.session))
            .map(|(id, _)| id)
            .collect();
        for id in settled {
            self.network.close(id, CloseMode::AfterReply);
        }
        let is_logged = self.log.as_ref().is_none_or(|log| log.is_settled(&self.shard));
        if self.network.is_empty() && self.outboxes.is_quiet() && is_logged && !self.is_done {
            self.is_done = true;
            self.shared.stop.worker_done();
        }
    }

    /// Clients that wait with a command.
    pub(super) fn blocked_clients(&self) -> usize {
        self.paused_clients() + self.waits.len() + self.acks.len()
    }
}
