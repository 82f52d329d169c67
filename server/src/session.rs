//! What the server knows of one client connection, apart from its bytes.
//!
//! A session is owned by the worker that serves the connection and is touched by no other.
//! Commands that change it (HELLO, AUTH, SELECT, CLIENT …) stand in `session_commands`.
#![forbid(unsafe_code)]

use tessera_engine::{
    command::Command,
    notice::Client,
    shard::Caller,
    transaction::exec::{Queue, Watch},
};
use tessera_proto::{Protocol, RequestParser};

use crate::{
    pubsub::subscriptions::Subscriptions, replies::ReplyQueue, route::Route, tracking::Tracking,
    waiting::Wait,
};

/// CLIENT REPLY's modes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ReplyMode {
    /// Every command is answered.
    #[default]
    On,
    /// No command is answered.
    Off,
    /// The next command is not answered.
    SkipNext,
}

/// Where a connection stands between its commands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Standing {
    /// It has nothing to execute; bytes from the client make it ready.
    #[default]
    Idle,
    /// It is in the worker's list of connections to serve.
    Ready,
    /// Its next command waits for a place: of its worker's own mailbox, for a credit of another
    /// shard, or for the end of a pause.
    Stalled,
    /// It executes nothing more: a protocol error, QUIT, or a lost peer.
    Finished,
}

/// A request that has been parsed and routed, and could not be executed yet.
#[derive(Clone, Copy)]
pub struct Held {
    /// Its length in the input, which still holds it.
    pub consumed: usize,
    /// Its row.
    pub command: &'static Command,
    /// Where it goes.
    pub route: Route,
    /// It waits for the end of CLIENT PAUSE.
    pub is_paused: bool,
}

/// The state of one connection.
pub struct Session {
    /// The client's number: unique in the life of the server, growing.
    pub id: u64,
    /// The client as shards know it.
    pub client: Client,
    /// The peer as CLIENT LIST shows it.
    pub peer: String,
    /// The server's end of the connection.
    pub local: String,
    /// The peer is on this machine.
    pub is_local: bool,
    /// CLIENT SETNAME.
    pub name: String,
    /// CLIENT SETINFO LIB-NAME.
    pub library_name: String,
    /// CLIENT SETINFO LIB-VER.
    pub library_version: String,
    /// SELECT.
    pub database: u32,
    /// HELLO.
    pub protocol: Protocol,
    /// Whether commands other than AUTH and HELLO are allowed.
    pub authenticated: bool,
    /// It has subscriptions and speaks RESP2, so it may do little else.
    pub is_confined: bool,
    /// What it has subscribed to; nothing rather than none.
    pub subscriptions: Option<Box<Subscriptions>>,
    /// CLIENT TRACKING.
    pub tracking: Option<Box<Tracking>>,
    /// MONITOR.
    pub monitors: bool,
    /// CLIENT NO-EVICT.
    pub no_evict: bool,
    /// CLIENT NO-TOUCH.
    pub no_touch: bool,
    /// CLIENT REPLY.
    pub reply_mode: ReplyMode,
    /// When the connection was made, in microseconds since the Unix epoch.
    pub created_us: i64,
    /// When it last sent a command.
    pub active_us: i64,
    /// The last command, for CLIENT LIST.
    pub last_command: Option<&'static Command>,
    /// Commands executed.
    pub commands: u64,
    /// Since when more output waits than the soft limit allows, in microseconds since the Unix
    /// epoch.
    pub over_soft_limit_us: Option<i64>,
    /// Where its execution stands.
    pub standing: Standing,
    /// The peer sends no more.
    pub is_ended: bool,
    /// The incremental parser of its input.
    pub parser: RequestParser,
    /// The command that waits for data.
    pub wait: Option<Wait>,
    /// It waits with WAIT or WAITAOF.
    pub awaits_ack: bool,
    /// The request that waits to be executed.
    pub held: Option<Held>,
    /// Replies that have not come yet, and those behind them.
    pub replies: ReplyQueue,
    /// MULTI: the commands that wait for EXEC.
    pub queue: Option<Box<Queue>>,
    /// WATCH: keys that must not change before EXEC.
    pub watch: Option<Box<Watch>>,
}

impl Session {
    /// A new connection's session, allowed to do everything if `authenticated`.
    pub fn new(id: u64, peer: String, local: String, now_us: i64, authenticated: bool) -> Self {
        Self {
            id,
            client: Client::default(),
            peer,
            local,
            is_local: false,
            name: String::new(),
            library_name: String::new(),
            library_version: String::new(),
            database: 0,
            protocol: Protocol::Resp2,
            authenticated,
            is_confined: false,
            subscriptions: None,
            tracking: None,
            monitors: false,
            no_evict: false,
            no_touch: false,
            reply_mode: ReplyMode::On,
            created_us: now_us,
            active_us: now_us,
            last_command: None,
            commands: 0,
            over_soft_limit_us: None,
            standing: Standing::Idle,
            is_ended: false,
            parser: RequestParser::new(),
            wait: None,
            awaits_ack: false,
            held: None,
            replies: ReplyQueue::default(),
            queue: None,
            watch: None,
        }
    }

    /// Whether the reply of the command that is about to run is thrown away. Moves CLIENT REPLY
    /// SKIP on, so it is asked once for each command.
    #[inline]
    pub fn discards_reply(&mut self) -> bool {
        match self.reply_mode {
            ReplyMode::On => false,
            ReplyMode::Off => true,
            ReplyMode::SkipNext => {
                self.reply_mode = ReplyMode::On;
                true
            }
        }
    }

    /// Whether it has subscribed to anything.
    pub fn has_subscriptions(&self) -> bool {
        self.subscriptions.is_some()
    }

    /// To be called when its subscriptions or its protocol have changed.
    pub fn update_confinement(&mut self) {
        self.is_confined = self.has_subscriptions() && self.protocol == Protocol::Resp2;
    }

    /// Who executes the next command, and whether what it reads is cached.
    #[inline]
    pub fn caller(&self) -> Caller {
        let caches = self.tracking.as_ref().is_some_and(|tracking| tracking.caches());
        Caller { client: self.client, caches, may_wait: false, is_script: false }
    }

    /// The same, when the next command, `command`, executes at once.
    #[inline]
    pub fn take_caller(&mut self, command: &Command) -> Caller {
        let caches = match &mut self.tracking {
            None => false,
            Some(tracking) => {
                let caches = tracking.caches();
                tracking.use_up(command);
                caches
            }
        };
        Caller { client: self.client, caches, may_wait: false, is_script: false }
    }

    /// Notes a command that was just executed or sent to its shard: nothing is held any more.
    #[inline]
    pub fn note(&mut self, command: &'static Command, now_us: i64) {
        self.held = None;
        if let Some(tracking) = &mut self.tracking {
            tracking.use_up(command);
        }
        self.commands += 1;
        self.last_command = Some(command);
        self.active_us = now_us;
    }

    /// RESET: back to the state of a new connection, `authenticated` as for a new one.
    pub fn reset(&mut self, authenticated: bool) {
        self.database = 0;
        self.protocol = Protocol::Resp2;
        self.authenticated = authenticated;
        self.no_evict = false;
        self.no_touch = false;
        self.reply_mode = ReplyMode::On;
        self.monitors = false;
        self.name.clear();
        self.queue = None;
        self.watch = None;
        self.update_confinement();
    }
}

impl Default for Session {
    /// The session of a connection that is about to be opened.
    fn default() -> Self {
        Self::new(0, String::new(), String::new(), 0, false)
    }
}
