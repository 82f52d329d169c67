//! Options that hold one of a few names, as Rust enumerations.

use super::table::Setting;
use super::value::Value;

/// Declares an enumeration with the names that its variants have in a configuration file.
macro_rules! choices {
    ($($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $text:literal,)* })*) => {
        $(
            $(#[$doc])*
            #[derive(Debug, Clone, Copy, PartialEq, Eq)]
            pub enum $name { $($(#[$variant_doc])* $variant,)* }

            impl $name {
                /// The names, in the order in which an error lists them.
                pub const NAMES: &'static [&'static str] = &[$($text),*];

                /// The name in a configuration file.
                pub fn name(self) -> &'static str {
                    match self { $($name::$variant => $text),* }
                }
            }

            impl Setting for $name {
                fn to_value(&self) -> Value {
                    Value::Choice(self.name())
                }

                fn from_value(value: Value) -> Option<Self> {
                    match value {
                        $(Value::Choice($text) => Some($name::$variant),)*
                        _ => None,
                    }
                }
            }
        )*
    };
}

choices! {
    /// When the append-only log is made durable.
    AppendFsync {
        /// Once a second.
        EverySec = "everysec",
        /// Before anybody reads an answer that depends on it.
        Always = "always",
        /// When the operating system likes.
        No = "no",
    }

    /// The least severe lines that reach the log.
    LogLevel {
        /// Everything.
        Debug = "debug",
        /// Also rare but useful information.
        Verbose = "verbose",
        /// What production wants.
        Notice = "notice",
        /// Only what needs attention.
        Warning = "warning",
        /// No lines at all.
        Nothing = "nothing",
    }

    /// Which keys give way when memory reaches its bound.
    MaxmemoryPolicy {
        /// Approximately the least recently used of those with a deadline.
        VolatileLru = "volatile-lru",
        /// Approximately the least frequently used of those with a deadline.
        VolatileLfu = "volatile-lfu",
        /// Any of those with a deadline.
        VolatileRandom = "volatile-random",
        /// Those whose deadline is nearest.
        VolatileTtl = "volatile-ttl",
        /// Approximately the least recently used.
        AllkeysLru = "allkeys-lru",
        /// Approximately the least frequently used.
        AllkeysLfu = "allkeys-lfu",
        /// Any.
        AllkeysRandom = "allkeys-random",
        /// None: writes are refused.
        NoEviction = "noeviction",
    }

    /// Who may do something that is dangerous in the wrong hands.
    ProtectedAction {
        /// Nobody.
        No = "no",
        /// Every client.
        Yes = "yes",
        /// Clients of this machine: loopback and UNIX sockets.
        Local = "local",
    }

    /// Which service manager started the process.
    Supervised {
        /// Upstart.
        Upstart = "upstart",
        /// systemd, told of readiness through `NOTIFY_SOCKET`.
        Systemd = "systemd",
        /// Found out from the environment.
        Auto = "auto",
        /// None.
        No = "no",
    }
}

impl ProtectedAction {
    /// Whether a client may act; `local` says that it is on this machine.
    pub fn allows(self, local: bool) -> bool {
        match self {
            ProtectedAction::No => false,
            ProtectedAction::Yes => true,
            ProtectedAction::Local => local,
        }
    }
}
