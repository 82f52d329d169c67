//! Reading the answers of workers to a question that went to all of them.
#![forbid(unsafe_code)]

use tessera_proto::{ReplyBuffer, parse_i64};

/// The integer that a worker answered; 0 for anything else.
pub(super) fn integer_of(part: &ReplyBuffer) -> i64 {
    let bytes = bytes_of(part);
    let number = bytes.strip_prefix(b":").and_then(|rest| rest.strip_suffix(b"\r\n"));
    number.and_then(parse_i64).unwrap_or(0)
}

/// The bulk string that a worker answered; empty for anything else.
pub(super) fn bulk_of(part: &ReplyBuffer) -> Vec<u8> {
    let bytes = bytes_of(part);
    let header = bytes.iter().position(|&byte| byte == b'\n').map_or(0, |at| at + 1);
    match bytes.first() {
        Some(b'$') => bytes[header..].strip_suffix(b"\r\n").unwrap_or_default().to_vec(),
        _ => Vec::new(),
    }
}

fn bytes_of(part: &ReplyBuffer) -> Vec<u8> {
    part.chunks().collect::<Vec<_>>().concat()
}

#[cfg(test)]
mod tests {
    use tessera_proto::{Protocol, ReplyWriter};

    use super::*;

    fn written(write: impl FnOnce(&mut ReplyWriter<'_>)) -> ReplyBuffer {
        let mut buffer = ReplyBuffer::default();
        write(&mut ReplyWriter::new(&mut buffer, Protocol::Resp3));
        buffer
    }

    #[test]
    fn what_was_written_is_read() {
        assert_eq!(integer_of(&written(|reply| reply.integer(-42))), -42);
        assert_eq!(bulk_of(&written(|reply| reply.bulk(b"a\r\nb"))), b"a\r\nb");
        assert_eq!(bulk_of(&written(|reply| reply.bulk(b""))), b"");
    }

    #[test]
    fn other_answers_are_nothing() {
        assert_eq!(integer_of(&written(|reply| reply.ok())), 0);
        assert_eq!(bulk_of(&written(|reply| reply.integer(1))), b"");
        assert_eq!(integer_of(&ReplyBuffer::default()), 0);
    }
}
