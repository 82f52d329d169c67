//! Commands that look for keys: KEYS, SCAN, RANDOMKEY.
//!
//! A cursor of SCAN says where to go on in which shard: the shard's own cursor times the number of
//! shards, and the shard's number. So 0 is the start, and small numbers are the starts of the other
//! shards. A shard's own cursor is a position in the order of hashes, which neither growth nor
//! shrinking changes (see `keyspace::table`).
#![forbid(unsafe_code)]

use tessera_proto::{
    glob,
    number::{parse_i64, parse_u64},
};

use crate::{
    command::prelude::*,
    keyspace::EntryRef,
    value::{Object, ValueType, value_type},
};

/// Keys that SCAN looks at unless COUNT says otherwise.
const COUNT_DEFAULT: usize = 10;

/// Where a SCAN stands, over all shards.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ScanPosition {
    /// The number of the shard.
    pub shard: usize,
    /// The shard's own cursor.
    pub cursor: u64,
}

impl ScanPosition {
    /// The position that the cursor `text` means among `shards` shards.
    ///
    /// # Errors
    ///
    /// Not a number of 64 bits without sign.
    pub fn parse(text: &[u8], shards: usize) -> Result<Self, CommandError> {
        // `strtoul`, with which Redis reads it, takes leading zeros too.
        let zeros = text.iter().take_while(|&&byte| byte == b'0').count();
        let digits = match &text[zeros..] {
            b"" if zeros > 0 => b"0",
            digits => digits,
        };
        let number = parse_u64(digits).ok_or(CommandError::text("ERR invalid cursor"))?;
        let shards = shards as u64;
        Ok(Self { shard: (number % shards) as usize, cursor: number / shards })
    }

    /// The cursor as the client sees it: 0 at the start, and beyond the last shard.
    pub fn to_number(self, shards: usize) -> u64 {
        if self.shard == shards {
            return 0;
        }
        self.cursor * shards as u64 + self.shard as u64
    }

    /// The position after a slice that ended at `cursor` in this shard.
    fn after(self, cursor: u64) -> Self {
        match cursor {
            0 => Self { shard: self.shard + 1, cursor: 0 },
            _ => Self { shard: self.shard, cursor },
        }
    }
}

/// The shard to which a SCAN with these arguments goes. A cursor that is no number goes to the first,
/// which answers with the error.
pub fn scan_cursor_shard(args: &Args<'_>, shards: usize) -> usize {
    let position = args.get(1).map(|cursor| ScanPosition::parse(cursor, shards));
    position.and_then(Result::ok).map_or(0, |position| position.shard)
}

/// KEYS pattern.
pub(super) fn keys(cx: &mut Context<'_>, args: &Args<'_>) -> Result<Effect, CommandError> {
    let pattern = &args[1];
    let array = cx.reply.deferred();
    let mut found = 0;
    cx.keyspace.for_each(|entry| {
        if matches(pattern, entry.key()) {
            cx.reply.bulk(entry.key());
            found += 1;
        }
    });
    cx.reply.finish_array(array, found);
    Ok(Effect::Unchanged)
}

/// RANDOMKEY.
pub(super) fn randomkey(cx: &mut Context<'_>, _: &Args<'_>) -> Result<Effect, CommandError> {
    match cx.keyspace.random_key(cx.random) {
        Some(key) => cx.reply.bulk(&key),
        None => cx.reply.null(),
    }
    Ok(Effect::Unchanged)
}

/// SCAN cursor [MATCH pattern] [COUNT count] [TYPE type]: the next cursor, and keys.
pub(super) fn scan(cx: &mut Context<'_>, args: &Args<'_>) -> Result<Effect, CommandError> {
    let shards = cx.settings.shards;
    let position = ScanPosition::parse(&args[1], shards)?;
    let options = Options::parse(args)?;
    let mut keys: Vec<&[u8]> = Vec::new();
    let cursor = cx.keyspace.scan(position.cursor, options.count, |entry| {
        if options.admits(&entry) {
            keys.push(entry.key());
        }
    });
    cx.reply.array(2);
    let mut digits = itoa::Buffer::new();
    cx.reply.bulk(digits.format(position.after(cursor).to_number(shards)).as_bytes());
    cx.reply.array(keys.len());
    for key in keys {
        cx.reply.bulk(key);
    }
    Ok(Effect::Unchanged)
}

/// What SCAN shall find.
struct Options<'a> {
    count: usize,
    pattern: Option<&'a [u8]>,
    /// TYPE; a name that no type has finds nothing.
    of_type: Option<Option<ValueType>>,
}

impl<'a> Options<'a> {
    fn parse(args: &Args<'a>) -> Result<Self, CommandError> {
        let mut options = Self { count: COUNT_DEFAULT, pattern: None, of_type: None };
        let mut rest = args.iter().skip(2);
        while let Some(word) = rest.next() {
            let value = rest.next().ok_or(CommandError::Syntax)?;
            if word.eq_ignore_ascii_case(b"COUNT") {
                let count = parse_i64(value).ok_or(CommandError::NotAnInteger)?;
                let count = usize::try_from(count).ok().filter(|&count| count > 0);
                options.count = count.ok_or(CommandError::Syntax)?;
            } else if word.eq_ignore_ascii_case(b"MATCH") {
                options.pattern = Some(value);
            } else if word.eq_ignore_ascii_case(b"TYPE") {
                options.of_type = Some(ValueType::from_name(value));
            } else {
                return Err(CommandError::Syntax);
            }
        }
        Ok(options)
    }

    fn admits(&self, entry: &EntryRef<'_, Object>) -> bool {
        self.pattern.is_none_or(|pattern| matches(pattern, entry.key()))
            && self.of_type.is_none_or(|wanted| wanted == Some(value_type(&entry.body())))
    }
}

/// Whether the pattern admits the key. A star alone also admits the empty key, which no other
/// pattern with a star does.
fn matches(pattern: &[u8], key: &[u8]) -> bool {
    pattern == b"*" || glob::matches(pattern, key)
}
