//! Tests of the reply writer.

use proptest::prelude::*;

use super::*;
use crate::fuzz::replies_are_read_back;

fn written(protocol: Protocol, write: impl FnOnce(&mut ReplyWriter<'_>)) -> String {
    let mut buffer = ReplyBuffer::new();
    write(&mut ReplyWriter::new(&mut buffer, protocol));
    String::from_utf8(buffer.to_vec()).unwrap()
}

/// Checks what is written in RESP2 and in RESP3.
fn check(write: impl Fn(&mut ReplyWriter<'_>), resp2: &str, resp3: &str) {
    assert_eq!(written(Protocol::Resp2, &write), resp2);
    assert_eq!(written(Protocol::Resp3, &write), resp3);
}

/// Checks what is the same in both.
fn both(write: impl Fn(&mut ReplyWriter<'_>), expected: &str) {
    check(write, expected, expected);
}

#[test]
fn lines_integers_and_strings_are_the_same_in_both() {
    both(|reply| reply.ok(), "+OK\r\n");
    both(|reply| reply.simple("PONG"), "+PONG\r\n");
    both(|reply| reply.error("ERR no such key"), "-ERR no such key\r\n");
    both(|reply| reply.bulk(b""), "$0\r\n\r\n");
    both(|reply| reply.bulk(b"ab\r\n"), "$4\r\nab\r\n\r\n");
    both(|reply| reply.bulk_integer(-42), "$3\r\n-42\r\n");
    both(|reply| reply.bulk_fmt(format_args!("{}:{}", 1, 2)), "$3\r\n1:2\r\n");
    both(|reply| reply.bulk_fmt(format_args!("plain")), "$5\r\nplain\r\n");
    both(|reply| reply.bulk_double(0.5), "$3\r\n0.5\r\n");
    both(|reply| reply.raw(b"+raw\r\n"), "+raw\r\n");
}

#[test]
fn integers_of_every_length_are_written() {
    for value in [0, 1, 2, 9, 10, 99, 100, 12345, i64::MAX, -1, -10, i64::MIN] {
        both(|reply| reply.integer(value), &format!(":{value}\r\n"));
    }
    both(|reply| reply.count(7), ":7\r\n");
    both(|reply| reply.count(usize::MAX), ":9223372036854775807\r\n");
}

#[test]
fn headers_of_every_length_are_written() {
    for len in [0, 9, 10, 99, 100, 1000, 123_456] {
        both(|reply| reply.array(len), &format!("*{len}\r\n"));
        let value = "v".repeat(len);
        both(|reply| reply.bulk(value.as_bytes()), &format!("${len}\r\n{value}\r\n"));
    }
}

#[test]
fn line_ends_cannot_split_a_line_reply() {
    both(|reply| reply.error("ERR a\r\n+OK"), "-ERR a  +OK\r\n");
    both(|reply| reply.simple("a\nb"), "+a b\r\n");
    let mut buffer = ReplyBuffer::new();
    ReplyWriter::new(&mut buffer, Protocol::Resp2).error_bytes(b"ERR \xff\n");
    assert_eq!(buffer.to_vec(), b"-ERR \xff \r\n");
}

#[test]
fn nothing_has_one_form_in_version_3() {
    check(|reply| reply.null(), "$-1\r\n", "_\r\n");
    check(|reply| reply.null_array(), "*-1\r\n", "_\r\n");
}

#[test]
fn aggregates_fall_back_to_arrays() {
    check(|reply| reply.map(2), "*4\r\n", "%2\r\n");
    check(|reply| reply.set(2), "*2\r\n", "~2\r\n");
    check(|reply| reply.push(3), "*3\r\n", ">3\r\n");
}

#[test]
fn attributes_are_left_out_of_version_2() {
    let write = |reply: &mut ReplyWriter<'_>| {
        if reply.attribute(1) {
            reply.simple("ttl");
            reply.integer(5);
        }
        reply.ok();
    };
    check(write, "+OK\r\n", "|1\r\n+ttl\r\n:5\r\n+OK\r\n");
}

#[test]
fn scalars_fall_back_to_strings_and_integers() {
    check(|reply| reply.double(1.5), "$3\r\n1.5\r\n", ",1.5\r\n");
    check(|reply| reply.double(f64::NEG_INFINITY), "$4\r\n-inf\r\n", ",-inf\r\n");
    check(|reply| reply.double(f64::NAN), "$3\r\nnan\r\n", ",nan\r\n");
    check(|reply| reply.double(3.0), "$1\r\n3\r\n", ",3\r\n");
    check(|reply| reply.boolean(true), ":1\r\n", "#t\r\n");
    check(|reply| reply.boolean(false), ":0\r\n", "#f\r\n");
    check(|reply| reply.big_number("-123"), "$4\r\n-123\r\n", "(-123\r\n");
    check(|reply| reply.verbatim("txt", b"hi"), "$2\r\nhi\r\n", "=6\r\ntxt:hi\r\n");
    check(|reply| reply.verbatim("m", b""), "$0\r\n\r\n", "=4\r\nm  :\r\n");
}

#[test]
fn a_deferred_length_is_inserted_before_the_contents() {
    for len in [0, 1, 9, 10, 100] {
        let write = |reply: &mut ReplyWriter<'_>| {
            let begun = reply.deferred();
            (0..len).for_each(|_| reply.integer(7));
            reply.finish_array(begun, len);
            reply.ok();
        };
        both(write, &format!("*{len}\r\n{}+OK\r\n", ":7\r\n".repeat(len)));
    }
}

#[test]
fn deferred_aggregates_nest_and_fall_back() {
    let write = |reply: &mut ReplyWriter<'_>| {
        let outer = reply.deferred();
        let inner = reply.deferred();
        (0..12).for_each(|_| reply.integer(7));
        reply.finish_set(inner, 12);
        reply.ok();
        reply.finish_map(outer, 1);
        let push = reply.deferred();
        reply.finish_push(push, 0);
    };
    let inner = ":7\r\n".repeat(12);
    check(
        write,
        &format!("*2\r\n*12\r\n{inner}+OK\r\n*0\r\n"),
        &format!("%1\r\n~12\r\n{inner}+OK\r\n>0\r\n"),
    );
}

#[test]
fn long_strings_go_out_by_reference_within_a_deferred_array() {
    let value = Bytes::from(vec![b'x'; SPLICE_MIN_BYTES]);
    let mut buffer = ReplyBuffer::new();
    let mut reply = ReplyWriter::new(&mut buffer, Protocol::Resp2);
    reply.ok();
    let begun = reply.deferred();
    reply.bulk_owned(value.clone());
    reply.bulk_owned(Bytes::from_static(b"short"));
    reply.finish_array(begun, 1000);
    let chunks: Vec<_> = buffer.chunks().collect();
    assert_eq!(chunks[0], b"+OK\r\n*1000\r\n$16384\r\n");
    assert_eq!(chunks[1].as_ptr(), value.as_ptr());
    assert_eq!(chunks[2], b"\r\n$5\r\nshort\r\n");
}

#[test]
fn protocols_have_their_numbers() {
    for protocol in [Protocol::Resp2, Protocol::Resp3] {
        assert_eq!(Protocol::from_version(i64::from(protocol.version())), Some(protocol));
    }
    assert_eq!(Protocol::from_version(4), None);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn a_plain_reader_reads_back_what_is_written(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        replies_are_read_back(&bytes);
    }
}
