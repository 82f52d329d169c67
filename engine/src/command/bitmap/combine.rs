//! BITOP: strings combined bit by bit.
#![forbid(unsafe_code)]

use bytes::Bytes;

use super::Text;
use crate::{
    command::{prelude::*, string::text::put_bytes},
    keyspace::{Deadline, Keyspace},
    types::bits::Combination,
};

/// BITOP operation destination key [key …]: the length of the result.
pub(super) fn bitop(cx: &mut Context<'_>, args: &Args<'_>) -> Result<Effect, CommandError> {
    let combination = parse_combination(&args[1])?;
    check_sources(combination, args.len() - 3)?;
    let sources: Vec<Bytes> =
        args.iter().skip(3).map(|key| source(cx.keyspace, key)).collect::<Result<_, _>>()?;
    let result = combination.of(&sources);
    let target = &args[2];
    cx.reply.count(result.len());
    if result.is_empty() {
        let removed = cx.keyspace.remove(target);
        if removed {
            cx.notify(Class::GENERIC, "del", target);
        }
        return Ok(Effect::changed_if(removed));
    }
    put_bytes(cx.keyspace.slot(target), result, Deadline::Never);
    cx.notify(Class::STRING, "set", target);
    Ok(Effect::Changed(1))
}

fn parse_combination(name: &[u8]) -> Result<Combination, CommandError> {
    const NAMES: [(&[u8], Combination); 8] = [
        (b"AND", Combination::And),
        (b"OR", Combination::Or),
        (b"XOR", Combination::Xor),
        (b"NOT", Combination::Not),
        (b"DIFF", Combination::Diff),
        (b"DIFF1", Combination::Diff1),
        (b"ANDOR", Combination::AndOr),
        (b"ONE", Combination::One),
    ];
    let found = NAMES.iter().find(|(known, _)| name.eq_ignore_ascii_case(known));
    found.map(|&(_, combination)| combination).ok_or(CommandError::Syntax)
}

/// Some combinations are defined over one source, some over two or more.
fn check_sources(combination: Combination, sources: usize) -> Result<(), CommandError> {
    let name = match combination {
        Combination::Not if sources != 1 => {
            return Err(CommandError::text(
                "ERR BITOP NOT must be called with a single source key.",
            ));
        }
        Combination::Diff => "DIFF",
        Combination::Diff1 => "DIFF1",
        Combination::AndOr => "ANDOR",
        _ => return Ok(()),
    };
    if sources < 2 {
        return Err(CommandError::text(format!(
            "ERR BITOP {name} must be called with at least two source keys."
        )));
    }
    Ok(())
}

/// The string at `key`, empty if there is none: a long one is shared, a short one copied.
fn source(keyspace: &mut Keyspace, key: &[u8]) -> Result<Bytes, CommandError> {
    let Some(entry) = keyspace.read(key) else { return Ok(Bytes::new()) };
    Ok(match Text::of(entry.body())? {
        Text::Long(bytes) => bytes.clone(),
        text => text.with_bytes(Bytes::copy_from_slice),
    })
}
