//! The command table: one row per command, from which everything else follows.
//!
//! A row names a command's arity, flags, keys, way over the shards, and function. Routing, checks
//! before execution, COMMAND INFO and GETKEYS and the statistics read the row (what COMMAND DOCS says
//! besides stands in [`docs`](super::docs)); no other place
//! lists commands. The family files (`string.rs`, `generic.rs`, …) hold the rows, written with
//! [`commands!`](crate::commands), and the functions in the same order.
//!
//! Invariants (tested below): names are unique and lower case; the arity admits the row's keys;
//! every row is found by its name in any case.
#![forbid(unsafe_code)]

use std::sync::LazyLock;

use tessera_proto::Args;

use super::{
    context::Context, effect::Effect, error::CommandError, keys::KeySpec, names::NameIndex,
};

/// How many arguments a command takes, its own name included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arity {
    /// This many, no more and no fewer.
    Exactly(usize),
    /// This many or more.
    AtLeast(usize),
}

impl Arity {
    /// Whether `count` arguments, the name included, are right.
    pub fn admits(self, count: usize) -> bool {
        match self {
            Self::Exactly(wanted) => count == wanted,
            Self::AtLeast(wanted) => count >= wanted,
        }
    }

    /// COMMAND INFO's form: negative when more are allowed.
    pub fn as_redis(self) -> i64 {
        match self {
            Self::Exactly(count) => count as i64,
            Self::AtLeast(count) => -(count as i64),
        }
    }
}

/// What a command is and needs, as a set of bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Flags(pub u32);

impl Flags {
    /// Whether any bit of `bits` (see [`flag`]) is set here.
    pub const fn has(self, bits: u32) -> bool {
        self.0 & bits != 0
    }
}

/// The bits of [`Flags`] under the names that rows use.
pub mod flag {

    /// Nothing particular.
    pub const NONE: u32 = 0;
    /// May change the keyspace.
    pub const WRITE: u32 = 1;
    /// Only reads the keyspace.
    pub const READONLY: u32 = 1 << 1;
    /// Refused when memory is short.
    pub const DENYOOM: u32 = 1 << 2;
    /// For operators.
    pub const ADMIN: u32 = 1 << 3;
    /// Publish/subscribe.
    pub const PUBSUB: u32 = 1 << 4;
    /// Not from scripts.
    pub const NOSCRIPT: u32 = 1 << 5;
    /// May wait for data.
    pub const BLOCKING: u32 = 1 << 6;
    /// Allowed while data is loaded.
    pub const LOADING: u32 = 1 << 7;
    /// Allowed on a replica with stale data.
    pub const STALE: u32 = 1 << 8;
    /// Not shown to MONITOR.
    pub const SKIP_MONITOR: u32 = 1 << 9;
    /// Not kept in the slow log.
    pub const SKIP_SLOWLOG: u32 = 1 << 10;
    /// Constant or logarithmic time.
    pub const FAST: u32 = 1 << 11;
    /// Allowed before AUTH.
    pub const NO_AUTH: u32 = 1 << 12;
    /// Allowed while a script runs too long.
    pub const ALLOW_BUSY: u32 = 1 << 13;
    /// Not inside MULTI.
    pub const NO_MULTI: u32 = 1 << 14;
    /// Keys cannot be told from positions alone.
    pub const MOVABLE_KEYS: u32 = 1 << 15;
    /// Dangerous in careless hands.
    pub const DANGEROUS: u32 = 1 << 16;
    /// Concerns keys whatever they hold (ACL category @keyspace).
    pub const KEYSPACE: u32 = 1 << 17;
    /// Concerns the connection (ACL category @connection).
    pub const CONNECTION: u32 = 1 << 18;
    /// Reads or changes keys that its arguments do not name (SCAN, RANDOMKEY).
    pub const TOUCHES_ARBITRARY_KEYS: u32 = 1 << 19;
    /// Kept for old clients only.
    pub const DEPRECATED: u32 = 1 << 20;
    /// Allowed on a slot that is being imported, as if ASKING came before.
    pub const ASKING: u32 = 1 << 21;

    /// May change something although it is not said to write: scripts, PUBLISH.
    pub const MAY_REPLICATE: u32 = 1 << 22;
    /// May be called without any key although it has places for them.
    pub const NO_MANDATORY_KEYS: u32 = 1 << 23;

    /// Names as COMMAND INFO lists them, in Redis's order.
    pub const REDIS_NAMES: [(u32, &str); 19] = [
        (WRITE, "write"),
        (READONLY, "readonly"),
        (DENYOOM, "denyoom"),
        (ADMIN, "admin"),
        (PUBSUB, "pubsub"),
        (NOSCRIPT, "noscript"),
        (BLOCKING, "blocking"),
        (LOADING, "loading"),
        (STALE, "stale"),
        (SKIP_MONITOR, "skip_monitor"),
        (SKIP_SLOWLOG, "skip_slowlog"),
        (ASKING, "asking"),
        (FAST, "fast"),
        (NO_AUTH, "no_auth"),
        (MAY_REPLICATE, "may_replicate"),
        (NO_MULTI, "no_multi"),
        (MOVABLE_KEYS, "movablekeys"),
        (ALLOW_BUSY, "allow_busy"),
        (NO_MANDATORY_KEYS, "no_mandatory_keys"),
    ];
}

/// The family a command belongs to: COMMAND DOCS' group and its ACL category.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Group {
    /// Keys of any type.
    Generic,
    /// Strings.
    String,
    /// Lists.
    List,
    /// Sets.
    Set,
    /// Sorted sets.
    SortedSet,
    /// Hashes.
    Hash,
    /// Strings as arrays of bits.
    Bitmap,
    /// Strings as sketches that estimate how many elements they have seen.
    HyperLogLog,
    /// Sorted sets of places on Earth.
    Geo,
    /// Streams.
    Stream,
    /// Connections.
    Connection,
    /// Publish/subscribe.
    Pubsub,
    /// Scripts and libraries of functions.
    Scripting,
    /// Transactions.
    Transactions,
    /// The server itself.
    Server,
}

impl Group {
    /// COMMAND DOCS' name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Generic => "generic",
            Self::String => "string",
            Self::List => "list",
            Self::Set => "set",
            Self::SortedSet => "sorted-set",
            Self::Hash => "hash",
            Self::Bitmap => "bitmap",
            Self::HyperLogLog => "hyperloglog",
            Self::Geo => "geo",
            Self::Stream => "stream",
            Self::Connection => "connection",
            Self::Pubsub => "pubsub",
            Self::Scripting => "scripting",
            Self::Transactions => "transactions",
            Self::Server => "server",
        }
    }
}

/// How a command goes over the shards.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// To the one shard that owns its keys; if several own them, these are gathered and it executes over
    /// them as one step (`transaction::gathered`).
    Owner,
    /// To the shard that owns the slot of the channel, the first argument, which is no key
    /// (PUBLISH).
    Channel,
    /// A part per key, each answering an integer; the reply is their sum (DEL).
    SumOfKeys,
    /// A part per key, each answering one element of the reply, in the order of the keys (MGET).
    EachKey,
    /// A part per key (and its value), each answering OK (MSET).
    AllKeysOk,
    /// To every shard; the integers are added up (DBSIZE).
    SumOfShards,
    /// To every shard; all answer OK (FLUSHALL).
    AllShardsOk,
    /// To every shard; the arrays are joined (KEYS).
    JoinOfShards,
    /// From shard to shard by the cursor (SCAN).
    Cursor,
    /// To a shard drawn with the weight of its number of keys (RANDOMKEY).
    RandomShard,
    /// To the shards of its keys together, where it looks for data, and waits if there is none.
    Waiting,
    /// Executed by the connection's own worker: it needs no keyspace.
    Session,
    /// To the script engine of the connection's worker, with the shards of its keys.
    Script,
}

/// The function of a command that works on a shard.
pub type ShardFn = fn(&mut Context<'_>, &Args<'_>) -> Result<Effect, CommandError>;

/// What executes a command.
#[derive(Clone, Copy)]
pub enum Run {
    /// A function over a shard's keyspace.
    Shard(ShardFn),
    /// The server: the function stands in `server/src/session_commands`, found by the row's name.
    Session,
    /// The script engine of a worker.
    Script,
    /// A container of subcommands, each with a row of its own.
    Container,
}

/// One command.
#[derive(Clone, Copy)]
pub struct Command {
    /// Lower case; a subcommand's own name without its container's.
    pub name: &'static str,
    /// For errors and statistics: `set`, `client|kill`. Filled in by the table.
    pub full_name: &'static str,
    /// One sentence for COMMAND DOCS.
    pub summary: &'static str,
    /// The Redis version that brought it.
    pub since: &'static str,
    /// Its family.
    pub group: Group,
    /// How many arguments it takes, names included.
    pub arity: Arity,
    /// What it is and needs.
    pub flags: Flags,
    /// Where its keys stand.
    pub keys: KeySpec,
    /// How it goes over the shards.
    pub way: Way,
    /// What executes it.
    pub run: Run,
    /// Rows of its subcommands, if it is a container.
    pub subcommands: &'static [Command],
    /// Its place in the statistics, from 0 to [`CommandTable::count`] - 1. Filled in by the table.
    pub id: u16,
}

impl Command {
    /// The access categories of COMMAND INFO and ACL, without their `@`, in Redis's order.
    pub fn categories(&self) -> impl Iterator<Item = &'static str> {
        let flags = self.flags;
        [
            (self.group == Group::Generic || flags.has(flag::KEYSPACE), "keyspace"),
            (flags.has(flag::READONLY), "read"),
            (flags.has(flag::WRITE), "write"),
            (self.group == Group::Set, "set"),
            (self.group == Group::SortedSet, "sortedset"),
            (self.group == Group::List, "list"),
            (self.group == Group::Hash, "hash"),
            (self.group == Group::String, "string"),
            (self.group == Group::Bitmap, "bitmap"),
            (self.group == Group::HyperLogLog, "hyperloglog"),
            (self.group == Group::Geo, "geo"),
            (self.group == Group::Stream, "stream"),
            (flags.has(flag::PUBSUB), "pubsub"),
            (flags.has(flag::ADMIN), "admin"),
            (flags.has(flag::FAST), "fast"),
            (!flags.has(flag::FAST), "slow"),
            (flags.has(flag::BLOCKING), "blocking"),
            (flags.has(flag::DANGEROUS | flag::ADMIN), "dangerous"),
            (self.group == Group::Connection || flags.has(flag::CONNECTION), "connection"),
            (self.group == Group::Transactions, "transaction"),
            (self.group == Group::Scripting, "scripting"),
        ]
        .into_iter()
        .filter_map(|(belongs, name)| belongs.then_some(name))
    }
}

/// Writes the rows of one family as `pub static ROWS`.
///
/// A row is `"name" "since", arity, flags, keys, way, function;` under its summary as doc comment.
/// The function is a [`ShardFn`], or the word `session` where the server holds the code, `script` where
/// the script engine runs it, or `[…rows…]` for a container.
#[macro_export]
macro_rules! commands {
    ($group:ident; $($rows:tt)*) => {
        /// The rows of this family.
        pub static ROWS: &[$crate::command::table::Command] =
            $crate::command_rows!($group [] $($rows)*);
    };
}

/// The rows of [`commands!`] one by one.
#[doc(hidden)]
#[macro_export]
macro_rules! command_rows {
    ($group:ident [$($done:tt)*]) => { &[$($done)*] };
    ($group:ident [$($done:tt)*]
     $(#[doc = $summary:literal])+
     $name:literal $since:literal, $arity:expr, $flags:expr, $keys:expr, $way:ident, $run:tt;
     $($rest:tt)*) => {
        $crate::command_rows!($group [$($done)*
            $crate::command::table::Command {
                name: $name,
                full_name: $name,
                summary: concat!($($summary),+),
                since: $since,
                group: $crate::command::table::Group::$group,
                arity: $arity,
                flags: $crate::command::table::Flags($flags),
                keys: $keys,
                way: $crate::command::table::Way::$way,
                run: $crate::command_run!($run),
                subcommands: $crate::command_subcommands!($group $run),
                id: 0,
            },
        ] $($rest)*)
    };
}

/// What executes a row of [`commands!`].
#[doc(hidden)]
#[macro_export]
macro_rules! command_run {
    (session) => {
        $crate::command::table::Run::Session
    };
    (script) => {
        $crate::command::table::Run::Script
    };
    ([$($rows:tt)*]) => {
        $crate::command::table::Run::Container
    };
    ($function:tt) => {
        $crate::command::table::Run::Shard($function)
    };
}

/// The subcommands of a row of [`commands!`].
#[doc(hidden)]
#[macro_export]
macro_rules! command_subcommands {
    ($group:ident [$($rows:tt)*]) => {
        $crate::command_rows!($group [] $($rows)*)
    };
    ($group:ident $function:tt) => {
        &[]
    };
}

/// Every family's rows.
static FAMILIES: &[&[Command]] = &[
    super::string::ROWS,
    super::list::ROWS,
    super::hash::ROWS,
    super::set::ROWS,
    super::zset::ROWS,
    super::bitmap::ROWS,
    super::hyperloglog::ROWS,
    super::geo::ROWS,
    super::stream::ROWS,
    super::generic::ROWS,
    super::sort::ROWS,
    super::connection::ROWS,
    super::pubsub::ROWS,
    super::scripting::ROWS,
    super::transactions::ROWS,
    super::server::ROWS,
];

/// All commands, found by name.
pub struct CommandTable {
    commands: Vec<Command>,
    index: NameIndex,
    count: usize,
}

static TABLE: LazyLock<CommandTable> = LazyLock::new(CommandTable::build);

/// The table of this program. Workers keep the reference, so that the hot path asks only once.
pub fn table() -> &'static CommandTable {
    &TABLE
}

impl CommandTable {
    fn build() -> Self {
        let mut next_id = 0;
        let commands: Vec<Command> = FAMILIES
            .iter()
            .flat_map(|rows| rows.iter())
            .map(|row| numbered(row, None, &mut next_id))
            .collect();
        let index = NameIndex::build(&commands);
        Self { commands, index, count: usize::from(next_id) }
    }

    /// The top-level command called `name`, in any case.
    #[inline]
    pub fn find(&self, name: &[u8]) -> Option<&Command> {
        self.index.find(name, &self.commands)
    }

    /// The row that `args` calls: a subcommand's where the command is a container.
    ///
    /// # Errors
    ///
    /// No such command or subcommand, or a number of arguments that its row does not admit.
    #[inline]
    pub fn resolve(&self, args: &Args<'_>) -> Result<&Command, CommandError> {
        let command = self.find(&args[0]).ok_or_else(|| CommandError::unknown_command(args))?;
        let command = match command.run {
            Run::Container if args.len() > 1 => subcommand(command, args)?,
            _ => command,
        };
        if command.arity.admits(args.len()) {
            Ok(command)
        } else {
            Err(CommandError::WrongArity { command: command.full_name.into() })
        }
    }

    /// The top-level commands, family by family.
    pub fn commands(&self) -> &[Command] {
        &self.commands
    }

    /// How many rows there are with subcommands counted; one more than the greatest id.
    pub fn count(&self) -> usize {
        self.count
    }

    /// Every row that can run, subcommands included, by id.
    pub fn all(&self) -> impl Iterator<Item = &Command> {
        self.commands.iter().flat_map(|row| std::iter::once(row).chain(row.subcommands))
    }
}

fn subcommand<'t>(container: &'t Command, args: &Args<'_>) -> Result<&'t Command, CommandError> {
    let name = &args[1];
    container
        .subcommands
        .iter()
        .find(|row| row.name.as_bytes().eq_ignore_ascii_case(name))
        .ok_or_else(|| CommandError::unknown_subcommand(container.name, name))
}

/// A copy of `row` with its number and full name. The few strings and slices made here live as
/// long as the program: the table is built once.
fn numbered(row: &Command, container: Option<&str>, next_id: &mut u16) -> Command {
    let id = *next_id;
    *next_id += 1;
    let full_name = match container {
        Some(container) => Box::leak(format!("{container}|{}", row.name).into_boxed_str()),
        None => row.name,
    };
    let subcommands: Vec<Command> =
        row.subcommands.iter().map(|sub| numbered(sub, Some(row.name), next_id)).collect();
    Command { id, full_name, subcommands: Box::leak(subcommands.into_boxed_slice()), ..*row }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn names_are_unique_and_lower_case() {
        let mut seen = HashSet::new();
        for command in table().all() {
            assert!(seen.insert(command.full_name), "{} stands twice", command.full_name);
            assert_eq!(command.name, command.name.to_ascii_lowercase());
        }
    }

    #[test]
    fn every_row_is_found_by_its_name_in_any_case() {
        for command in table().commands() {
            for name in [command.name.to_string(), command.name.to_ascii_uppercase()] {
                let found = table().find(name.as_bytes()).expect("a row has its own name");
                assert_eq!(found.id, command.id);
            }
        }
        assert!(table().find(b"").is_none());
        assert!(table().find(b"nosuchcommand").is_none());
        assert!(table().find(b"a-name-that-is-longer-than-sixteen-bytes").is_none());
    }

    #[test]
    fn names_that_differ_in_one_byte_are_told_apart() {
        for command in table().commands() {
            for at in 0..command.name.len() {
                for change in [0x01, 0x20, 0x80] {
                    let mut name = command.name.as_bytes().to_vec();
                    name[at] ^= change;
                    let found = table().find(&name).map(|found| found.name.as_bytes().to_vec());
                    let expected = found.is_some().then(|| name.to_ascii_lowercase());
                    assert_eq!(found, expected, "{}", name.escape_ascii());
                }
            }
        }
    }

    #[test]
    fn ids_are_dense() {
        let ids: HashSet<u16> = table().all().map(|command| command.id).collect();
        assert_eq!(ids.len(), table().count());
        assert!(ids.iter().all(|&id| usize::from(id) < table().count()));
    }

    #[test]
    fn the_arity_admits_the_keys_that_the_row_names() {
        for command in table().all() {
            let (Arity::Exactly(fewest) | Arity::AtLeast(fewest)) = command.arity;
            assert!(
                command.keys.fewest_arguments() <= fewest,
                "{} may be called without its keys",
                command.full_name
            );
        }
    }
}
