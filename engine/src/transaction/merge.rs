//! Joins the replies of a command's parts into the one reply that Redis gives.
//!
//! Parts are numbered as [`super::parts`] gives them out: in ascending order of their shards. If any
//! part is an error, the reply is the error of the lowest-numbered part that has one.
#![forbid(unsafe_code)]

use tessera_proto::{Protocol, ReplyBuffer, ReplyWriter, buffer::Elements, parse_i64};

use super::ShardId;

/// How parts become a reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Merge {
    /// Integers are added up.
    Sum,
    /// Every part is OK.
    AllOk,
    /// Every part is an array with an element for each of its keys. `order` names for each key of
    /// the command the part that has the next element.
    Elements {
        /// Numbers of parts, in the order of the keys.
        order: Vec<u16>,
    },
    /// Every part is an array of any length; the arrays one behind the other.
    Join,
    /// One part: a cursor of shard `shard` and an array. The cursor is made the server's.
    Cursor {
        /// The shard that answers.
        shard: ShardId,
        /// Number of shards.
        shards: u32,
    },
    /// Parts in pairs, a number of keys and a random key, for every shard. `draw` chooses among
    /// the keys with the weight of their shard's number.
    Random {
        /// A random 64-bit number.
        draw: u64,
    },
}

impl Merge {
    /// Appends the reply that `parts` make together to `out`.
    pub fn finish(&self, parts: &[ReplyBuffer], protocol: Protocol, out: &mut ReplyBuffer) {
        if let Some(error) = parts.iter().find(|part| head(part).first() == Some(&b'-')) {
            return out.append(error);
        }
        let mut reply = ReplyWriter::new(out, protocol);
        match self {
            Self::Sum => reply.integer(parts.iter().filter_map(integer).sum()),
            Self::AllOk => reply.simple("OK"),
            Self::Elements { order } => {
                reply.array(order.len());
                interleave(order, parts, out);
            }
            Self::Join => {
                reply.array(parts.iter().filter_map(integer).sum::<i64>() as usize);
                for part in parts {
                    out.append_tail(part, first_line(part));
                }
            }
            Self::Cursor { shard, shards } => {
                for part in parts {
                    cursor(part, *shard, *shards, out, protocol);
                }
            }
            Self::Random { draw } => match random(parts, *draw) {
                Some(part) => out.append(part),
                None => reply.null(),
            },
        }
    }
}

/// The first bytes of a reply: at least its first line, unless the reply is empty.
fn head(part: &ReplyBuffer) -> &[u8] {
    part.chunks().next().unwrap_or_default()
}

/// The length of a reply's first line, its CRLF included.
fn first_line(part: &ReplyBuffer) -> usize {
    head(part).iter().position(|&byte| byte == b'\n').map_or(0, |at| at + 1)
}

/// The number on a reply's first line: an integer's value, an aggregate's or a bulk's length.
fn integer(part: &ReplyBuffer) -> Option<i64> {
    let line = head(part).get(1..first_line(part).checked_sub(2)?)?;
    parse_i64(line)
}

/// The elements of all parts in the order of the keys.
fn interleave(order: &[u16], parts: &[ReplyBuffer], out: &mut ReplyBuffer) {
    let mut elements: Vec<Elements<'_>> = parts.iter().map(ReplyBuffer::elements).collect();
    for part in order.iter().map(|&part| usize::from(part)) {
        if let Some(place) = elements.get_mut(part).and_then(Iterator::next) {
            out.append_range(&parts[part], place);
        }
    }
}

/// The server's cursor for the `internal` cursor of `shard`: 0 once the last shard is done.
fn outer_cursor(internal: u64, shard: ShardId, shards: u32) -> u64 {
    match internal {
        0 if shard + 1 == shards => 0,
        0 => u64::from(shard) + 1,
        _ => internal * u64::from(shards) + u64::from(shard),
    }
}

/// The shard and its own cursor behind the server's cursor, over `shards` shards.
pub fn inner_cursor(outer: u64, shards: u32) -> (ShardId, u64) {
    ((outer % u64::from(shards)) as ShardId, outer / u64::from(shards))
}

/// `*2`, the cursor as a bulk string, and the rest as it is.
fn cursor(
    part: &ReplyBuffer,
    shard: ShardId,
    shards: u32,
    out: &mut ReplyBuffer,
    protocol: Protocol,
) {
    let bytes = head(part);
    let length_line = first_line(part);
    let digits_at = bytes[length_line..]
        .iter()
        .position(|&byte| byte == b'\n')
        .map_or(bytes.len(), |at| length_line + at + 1);
    let digits: &[u8] = bytes[digits_at..].split(|&byte| byte == b'\r').next().unwrap_or_default();
    let internal = std::str::from_utf8(digits).ok().and_then(|text| text.parse().ok()).unwrap_or(0);
    let rest = digits_at + digits.len() + 2;
    let mut reply = ReplyWriter::new(out, protocol);
    reply.array(2);
    reply.bulk(outer_cursor(internal, shard, shards).to_string().as_bytes());
    out.append_tail(part, rest);
}

fn random(parts: &[ReplyBuffer], draw: u64) -> Option<&ReplyBuffer> {
    let candidates: Vec<(u64, &ReplyBuffer)> = parts
        .chunks_exact(2)
        .filter(|pair| head(&pair[1]).first() == Some(&b'$') && !head(&pair[1]).starts_with(b"$-1"))
        .map(|pair| (integer(&pair[0]).unwrap_or(0).max(1) as u64, &pair[1]))
        .collect();
    let total: u64 = candidates.iter().map(|(weight, _)| weight).sum();
    let mut left = draw.checked_rem(total)?;
    for (weight, key) in candidates {
        if left < weight {
            return Some(key);
        }
        left -= weight;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn merged(merge: &Merge, parts: &[&str]) -> String {
        let buffer = |part: &&str| {
            let mut buffer = ReplyBuffer::new();
            buffer.extend(part.as_bytes());
            buffer
        };
        let parts: Vec<ReplyBuffer> = parts.iter().map(buffer).collect();
        let mut out = ReplyBuffer::new();
        merge.finish(&parts, Protocol::Resp2, &mut out);
        String::from_utf8(out.to_vec()).unwrap()
    }

    #[test]
    fn integers_are_added_up() {
        assert_eq!(merged(&Merge::Sum, &[":2\r\n", ":0\r\n", ":40\r\n"]), ":42\r\n");
    }

    #[test]
    fn elements_stand_in_the_order_of_the_keys() {
        let parts = ["*2\r\n$1\r\na\r\n$1\r\nc\r\n", "*2\r\n$-1\r\n$1\r\nd\r\n"];
        let merge = Merge::Elements { order: vec![0, 1, 0, 1] };
        assert_eq!(merged(&merge, &parts), "*4\r\n$1\r\na\r\n$-1\r\n$1\r\nc\r\n$1\r\nd\r\n");
    }

    #[test]
    fn arrays_are_joined() {
        let parts = ["*2\r\n$1\r\na\r\n$1\r\nb\r\n", "*0\r\n", "*1\r\n$1\r\nc\r\n"];
        assert_eq!(merged(&Merge::Join, &parts), "*3\r\n$1\r\na\r\n$1\r\nb\r\n$1\r\nc\r\n");
    }

    #[test]
    fn the_first_error_is_the_reply() {
        let parts = [":1\r\n", "-OOM no\r\n", "-ERR later\r\n"];
        assert_eq!(merged(&Merge::Sum, &parts), "-OOM no\r\n");
    }

    #[test]
    fn a_cursor_leads_through_all_shards_and_back() {
        let reply = |shard, internal: u64| {
            let text = internal.to_string();
            let part = format!("*2\r\n${}\r\n{text}\r\n*0\r\n", text.len());
            merged(&Merge::Cursor { shard, shards: 3 }, &[&part])
        };
        assert_eq!(reply(0, 0), "*2\r\n$1\r\n1\r\n*0\r\n");
        assert_eq!(reply(1, 7), "*2\r\n$2\r\n22\r\n*0\r\n");
        assert_eq!(inner_cursor(22, 3), (1, 7));
        assert_eq!(reply(2, 0), "*2\r\n$1\r\n0\r\n*0\r\n");
    }

    #[test]
    fn a_random_key_comes_from_shards_by_their_weight() {
        let parts = [":3\r\n", "$1\r\na\r\n", ":0\r\n", "$-1\r\n", ":1\r\n", "$1\r\nb\r\n"];
        let key = |draw| merged(&Merge::Random { draw }, &parts);
        assert_eq!((key(2), key(3)), ("$1\r\na\r\n".into(), "$1\r\nb\r\n".into()));
        assert_eq!(merged(&Merge::Random { draw: 5 }, &[":0\r\n", "$-1\r\n"]), "$-1\r\n");
    }
}
