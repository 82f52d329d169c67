//! Repeating the commands of one of Redis's append-only files over shards that are all here.
//!
//! The file holds requests as clients send them, with lines of notes that begin with `#` in between.
//! SELECT names the database of what follows; what stands between MULTI and EXEC counts only
//! together.
//!
//! The shards' clocks stand at 0 meanwhile (as for the own log's replay): a key whose deadline has
//! passed may yet be read or kept by a command behind it, and was removed by a DEL where it was
//! removed.
#![forbid(unsafe_code)]

use tessera_engine::{
    command::{Run, table},
    shard::{Call, Caller},
    transaction::Gathered,
};
use tessera_proto::{
    Args, Limits, Protocol, ReplyBuffer, RequestBatch, RequestParser, Step, parse_i64,
};

/// Repeated commands after which a step ends, so that the caller may look at the clock.
const COMMANDS_A_STEP: usize = 64;

/// Repeats one file.
pub(super) struct AofReplay {
    parser: RequestParser,
    limits: Limits,
    buffer: Vec<u8>,
    at: usize,
    /// Bytes of the file that are done with; a transaction that is not whole is not.
    done: u64,
    /// Bytes of the file that are parsed.
    parsed: u64,
    database: u32,
    /// What stands behind MULTI so far.
    transaction: Option<RequestBatch>,
    replies: ReplyBuffer,
    commands: u64,
    refused: u64,
    /// FUNCTION commands, which the caller repeats: no command in the file depends on them, since it
    /// holds what functions have done and not that they were called.
    functions: Vec<Vec<Vec<u8>>>,
}

/// How a step has ended.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum AofStep {
    /// It goes on.
    More,
    /// More bytes of the file are needed.
    NeedMore,
}

impl AofReplay {
    /// Repeats the commands of a file from its byte `start` on.
    pub(super) fn new(start: u64) -> Self {
        let limits = Limits { query_buffer_max: usize::MAX, ..Limits::default() };
        Self {
            parser: RequestParser::new(),
            limits: Limits { bulk_max: u64::from(u32::MAX), ..limits },
            buffer: Vec::new(),
            at: 0,
            done: start,
            parsed: start,
            database: 0,
            transaction: None,
            replies: ReplyBuffer::new(),
            commands: 0,
            refused: 0,
            functions: Vec::new(),
        }
    }

    /// The FUNCTION commands that have been found since this was asked last.
    pub(super) fn take_functions(&mut self) -> Vec<Vec<Vec<u8>>> {
        std::mem::take(&mut self.functions)
    }

    /// The file's next bytes.
    pub(super) fn supply(&mut self, bytes: &[u8]) {
        self.buffer.drain(..self.at);
        self.at = 0;
        self.buffer.extend_from_slice(bytes);
    }

    /// Where in the file everything is done with: at the file's end, unless its tail was torn off.
    pub(super) fn done(&self) -> u64 {
        self.done
    }

    /// Commands repeated, and how many of them the shards refused.
    pub(super) fn counts(&self) -> (u64, u64) {
        (self.commands, self.refused)
    }

    /// Repeats some commands.
    ///
    /// # Errors
    ///
    /// What is wrong with the file.
    pub(super) fn step(&mut self, shards: &mut Gathered) -> Result<AofStep, String> {
        for _ in 0..COMMANDS_A_STEP {
            let input = &self.buffer[self.at..];
            let consumed = if !self.parser.is_midway() && input.first() == Some(&b'#') {
                match input.iter().position(|&byte| byte == b'\n') {
                    Some(end) => end + 1,
                    None => return Ok(AofStep::NeedMore),
                }
            } else {
                match self.parser.parse(input, &self.limits).map_err(|error| self.broken(&error))? {
                    Step::NeedMore { .. } => return Ok(AofStep::NeedMore),
                    Step::Request { consumed } => {
                        self.take_request(shards)?;
                        consumed
                    }
                }
            };
            self.at += consumed;
            self.parsed += consumed as u64;
            if self.transaction.is_none() {
                self.done = self.parsed;
            }
        }
        Ok(AofStep::More)
    }

    /// Does, or puts off, what the request that was parsed last says.
    fn take_request(&mut self, shards: &mut Gathered) -> Result<(), String> {
        let parser = std::mem::take(&mut self.parser);
        let buffer = std::mem::take(&mut self.buffer);
        let args = parser.args(&buffer[self.at..]);
        let outcome = self.take(&args, shards);
        (self.parser, self.buffer) = (parser, buffer);
        outcome
    }

    fn take(&mut self, args: &Args<'_>, shards: &mut Gathered) -> Result<(), String> {
        let Some(name) = args.get(0) else { return Ok(()) };
        let is = |wanted: &[u8]| name.eq_ignore_ascii_case(wanted);
        if is(b"MULTI") {
            self.transaction = Some(RequestBatch::new());
        } else if is(b"EXEC") {
            let transaction = self.transaction.take().unwrap_or_default();
            for args in transaction.iter() {
                self.run(&args, shards)?;
            }
        } else if let Some(transaction) = &mut self.transaction {
            transaction.push(args);
        } else {
            self.run(args, shards)?;
        }
        Ok(())
    }

    /// Repeats one command.
    fn run(&mut self, args: &Args<'_>, shards: &mut Gathered) -> Result<(), String> {
        let name = || String::from_utf8_lossy(&args[0]).into_owned();
        if args[0].eq_ignore_ascii_case(b"SELECT") {
            let number =
                args.get(1).and_then(parse_i64).and_then(|number| u32::try_from(number).ok());
            let databases = shards.iter_mut().next().map_or(0, |(_, it)| it.settings().databases);
            self.database =
                number.filter(|&number| (number as usize) < databases).ok_or_else(|| {
                    self.at_byte("it selects a database that the option 'databases' does not have")
                })?;
            return Ok(());
        }
        if args[0].eq_ignore_ascii_case(b"FUNCTION") {
            self.functions.push(args.iter().map(<[u8]>::to_vec).collect());
            return Ok(());
        }
        let command = table().resolve(args).map_err(|error| self.at_byte(&error.to_string()))?;
        let Run::Shard(_) = command.run else {
            return Err(self.at_byte(&format!("'{}' cannot be repeated", name())));
        };
        let database = self.database;
        let (protocol, caller) = (Protocol::Resp2, Caller::default());
        let call = Call { command, args: *args, database, protocol, no_touch: false, caller };
        self.replies.clear();
        let outcome = shards.execute(&call, &mut self.replies);
        self.commands += 1;
        // As in Redis an error is passed over: what is in the file was done once.
        if !matches!(outcome, Ok(Ok(_))) {
            self.refused += 1;
            if self.refused == 1 {
                tracing::warn!("{}", self.at_byte(&format!("'{}' was refused", name())));
            }
        }
        Ok(())
    }

    fn broken(&self, error: &impl std::fmt::Display) -> String {
        self.at_byte(&error.to_string())
    }

    fn at_byte(&self, what: &str) -> String {
        format!("at byte {}: {what}", self.parsed)
    }
}

#[cfg(test)]
mod tests {
    use tessera_engine::{
        shard::{Settings, Shard},
        transaction::ShardMap,
    };

    use super::*;

    fn gathered() -> Gathered {
        let mut gathered = Gathered::new(ShardMap::new(3), 1);
        (0..3).for_each(|id| gathered.put(id, Box::new(Shard::new(7, Settings::default()))));
        gathered
    }

    fn request(line: &str) -> Vec<u8> {
        let words: Vec<&str> = line.split(' ').collect();
        let mut bytes = format!("*{}\r\n", words.len()).into_bytes();
        for word in words {
            bytes.extend_from_slice(format!("${}\r\n{word}\r\n", word.len()).as_bytes());
        }
        bytes
    }

    /// Repeats a file that is shown `window` bytes at a time.
    fn replay(file: &[u8], window: usize, shards: &mut Gathered) -> Result<AofReplay, String> {
        let (mut replay, mut chunks) = (AofReplay::new(0), file.chunks(window));
        loop {
            if replay.step(shards)? == AofStep::NeedMore {
                match chunks.next() {
                    Some(chunk) => replay.supply(chunk),
                    None => return Ok(replay),
                }
            }
        }
    }

    fn len(shards: &mut Gathered, database: usize) -> usize {
        shards.iter_mut().map(|(_, shard)| shard.keyspace.len(database)).sum()
    }

    #[test]
    fn commands_notes_and_transactions_are_repeated() {
        let lines =
            ["SELECT 2", "MSET a 1 b 2 c 3", "MULTI", "RENAME a d", "SELECT 5", "SADD s x", "EXEC"];
        let mut file = b"#TS:1700000000\r\n".to_vec();
        lines.iter().for_each(|line| file.extend(request(line)));
        file.extend(b"#TS:1700000001\r\n");
        file.extend(request("SET e v PXAT 5"));
        for window in [1, 9, 10_000] {
            let mut shards = gathered();
            let replay = replay(&file, window, &mut shards).expect("it is well-formed");
            assert_eq!((len(&mut shards, 2), len(&mut shards, 5)), (3, 2));
            assert_eq!((replay.done(), replay.counts()), (file.len() as u64, (4, 0)));
        }
    }

    #[test]
    fn a_torn_tail_is_not_done() {
        let whole = request("SET a 1");
        let mut torn = whole.clone();
        torn.extend(&request("SET b 2")[..9]);
        let mut open = whole.clone();
        open.extend([request("MULTI"), request("SET b 2")].concat());
        for file in [torn, open] {
            let mut shards = gathered();
            let replay =
                replay(&file, 7, &mut shards).expect("it is well-formed as far as it goes");
            assert_eq!((replay.done(), len(&mut shards, 0)), (whole.len() as u64, 1));
        }
    }

    #[test]
    fn what_cannot_be_repeated_ends_it_with_its_place() {
        let first = request("SET a 1");
        for (bad, text) in [
            (request("NOSUCH x"), "unknown command"),
            (request("SELECT 99"), "'databases'"),
            (request("CLIENT ID"), "'CLIENT' cannot be repeated"),
            (b"*1\r\n:5\r\n".to_vec(), "expected '$'"),
        ] {
            let file = [first.clone(), bad].concat();
            let error = replay(&file, 100, &mut gathered()).err().expect("refused");
            assert!(error.starts_with(&format!("at byte {}: ", first.len())), "{error}");
            assert!(error.contains(text), "{error}");
        }
    }
}
