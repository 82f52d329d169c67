//! Doing again what records say.
//!
//! The shard that replays must not know the time yet: it compares deadlines with the time 0, so that
//! none passes while it replays (see `journal`, and `Shard::begin_loading`). A record that it refuses
//! means that the log is not the history of what it was applied to; going on would end in something that
//! never was.
//!
//! Libraries of functions belong to the whole server and not to a shard: commands that have changed
//! them are handed on in their order, for whoever loads libraries.
#![forbid(unsafe_code)]

use tessera_proto::{Args, Protocol, ReplyBuffer};

use crate::{
    command::{Command, CommandError, Run, table},
    journal::record::Record,
    shard::{Call, Caller, Shard},
};

/// Why a record could not be done again.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReplayError {
    /// It names a database that there is not.
    #[error("it is for database {0}, and there are fewer (see the option 'databases')")]
    Database(u32),
    /// It names no command of shards.
    #[error("'{0}' is not a command that changes keys")]
    Unknown(String),
    /// The command answered with an error.
    #[error("'{name}' was refused: {error}")]
    Refused {
        /// The command.
        name: String,
        /// What it answered.
        error: CommandError,
    },
}

/// A FUNCTION command that has changed the libraries: its arguments, the name first.
pub type FunctionCommand = Vec<Vec<u8>>;

/// Applies records to a shard.
#[derive(Default)]
pub struct Replay {
    replies: ReplyBuffer,
    functions: Vec<FunctionCommand>,
}

impl Replay {
    /// Does to `shard` what `record` says.
    ///
    /// # Errors
    ///
    /// See [`ReplayError`]; the shard is then as it was before the record.
    pub fn apply(&mut self, shard: &mut Shard, record: &Record<'_>) -> Result<(), ReplayError> {
        let (args, database) = (record.args(), record.head.database);
        if is_of_functions(&args) {
            self.functions.push(args.iter().map(<[u8]>::to_vec).collect());
            return Ok(());
        }
        if database as usize >= shard.settings().databases {
            return Err(ReplayError::Database(database));
        }
        let command = command_of(&args)?;
        let (protocol, caller) = (Protocol::Resp2, Caller::default());
        let call = Call { command, args, database, protocol, no_touch: false, caller };
        let outcome = shard.execute(&call, &mut self.replies);
        self.replies.clear();
        outcome.map(drop).map_err(|error| ReplayError::Refused { name: name_of(&args), error })
    }

    /// The commands that have changed libraries, in their order.
    pub fn into_functions(self) -> Vec<FunctionCommand> {
        self.functions
    }
}

/// Whether a record with these arguments has changed the libraries of functions.
pub fn is_of_functions(args: &Args<'_>) -> bool {
    args.get(0).is_some_and(|name| name.eq_ignore_ascii_case(b"FUNCTION"))
}

/// The command that a record with these arguments does again.
///
/// # Errors
///
/// There is none that changes keys, or not with so many arguments.
pub fn command_of(args: &Args<'_>) -> Result<&'static Command, ReplayError> {
    match table().resolve(args) {
        Ok(command) if matches!(command.run, Run::Shard(_)) => Ok(command),
        _ => Err(ReplayError::Unknown(name_of(args))),
    }
}

fn name_of(args: &Args<'_>) -> String {
    String::from_utf8_lossy(&args[0]).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        journal::record::{RecordBuffer, RecordHead, encode},
        shard::Settings,
    };

    fn apply(shard: &mut Shard, database: u32, words: &[&str]) -> Result<(), ReplayError> {
        let mut bytes = RecordBuffer::new();
        let head = RecordHead { sequence: 1, stamp: 1, database };
        encode(&mut bytes, head, words.len(), words.iter().map(|word| word.as_bytes()));
        let mut spans = Vec::new();
        let (record, _) = Record::read(&bytes, &mut spans).expect("a record");
        Replay::default().apply(shard, &record)
    }

    #[test]
    fn a_record_is_done_to_its_database() {
        let mut shard = Shard::new(1, Settings::default());
        apply(&mut shard, 3, &["SET", "k", "v", "PXAT", "5"]).expect("a deadline that is far away");
        assert_eq!((shard.keyspace.len(0), shard.keyspace.len(3)), (0, 1));
    }

    #[test]
    fn changes_of_libraries_are_handed_on() {
        let mut shard = Shard::new(1, Settings::default());
        let mut bytes = RecordBuffer::new();
        let words: [&[u8]; 3] = [b"FUNCTION", b"DELETE", b"mylib"];
        let head = RecordHead { sequence: 1, stamp: 1, database: 0 };
        encode(&mut bytes, head, words.len(), words.into_iter());
        let mut spans = Vec::new();
        let (record, _) = Record::read(&bytes, &mut spans).expect("a record");
        let mut replay = Replay::default();
        assert_eq!(replay.apply(&mut shard, &record), Ok(()));
        assert_eq!(replay.into_functions(), [words.map(<[u8]>::to_vec).to_vec()]);
    }

    #[test]
    fn what_cannot_be_done_again_is_named() {
        let mut shard = Shard::new(1, Settings::default());
        assert_eq!(apply(&mut shard, 16, &["SET", "k", "v"]), Err(ReplayError::Database(16)));
        let refusals = [
            (&["CLIENT", "ID"][..], "'CLIENT' is not a command that changes keys"),
            (&["NOSUCH", "k"], "'NOSUCH' is not a command that changes keys"),
            (&["SET", "k"], "'SET' is not a command that changes keys"),
            (
                &["INCRBY", "k", "x"],
                "'INCRBY' was refused: ERR value is not an integer or out of range",
            ),
        ];
        for (words, text) in refusals {
            let error = apply(&mut shard, 0, words).expect_err("refused");
            assert_eq!(error.to_string(), text);
        }
        assert!(shard.keyspace.is_empty());
    }
}
