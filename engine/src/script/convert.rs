//! Replies become values of Lua, and values of Lua become replies.
#![forbid(unsafe_code)]

use tessera_proto::{Protocol, ReplyWriter, float::parse_f64, parse_i64};

use super::{
    engine::Ended,
    error::{push_counted_error, uncaught},
    lua::{Kind, Stack, truncated},
    run::Run,
};

/// Pushes the reply that `reply` consists of. Answers whether it is an error.
pub(super) fn push_reply(stack: &mut Stack<'_>, reply: &[u8]) -> bool {
    let mut rest = reply;
    push_one(stack, &mut rest);
    reply.first() == Some(&b'-')
}

/// Pushes the first reply of `rest` and moves on to the next one.
fn push_one(stack: &mut Stack<'_>, rest: &mut &[u8]) {
    let (kind, line) = take_line(rest);
    let len = parse_i64(line).and_then(|len| usize::try_from(len).ok());
    let is_room = stack.reserve(6);
    assert!(is_room, "replies are nested a few levels deep");
    match (kind, len) {
        (b'$', Some(len)) => {
            stack.push_string(&rest[..len]);
            *rest = &rest[len + 2..];
        }
        (b':', _) => stack.push_integer(parse_i64(line).unwrap_or(0)),
        (b'*' | b'>', Some(len)) => push_list(stack, rest, len),
        (b'$' | b'*', None) => stack.push_boolean(false),
        (b'+', _) => push_single(stack, b"ok", |stack| stack.push_string(line)),
        (b'-', _) => push_counted_error(stack, &[b"-", line].concat()),
        (b'_', _) => stack.push_nil(),
        (b'#', _) => stack.push_boolean(line == b"t"),
        (b',', _) => {
            let number = parse_f64(line).unwrap_or(f64::NAN);
            push_single(stack, b"double", |stack| stack.push_number(number));
        }
        (b'(', _) => push_single(stack, b"big_number", |stack| stack.push_string(line)),
        (b'=', Some(len)) => push_verbatim(stack, rest, len),
        (b'%', Some(len)) => push_map(stack, rest, len),
        (b'~', Some(len)) => push_set(stack, rest, len),
        (b'|', Some(len)) => {
            for _ in 0..2 * len {
                push_one(stack, rest);
                stack.pop(1);
            }
            push_one(stack, rest);
        }
        _ => stack.push_nil(),
    }
}

fn take_line<'r>(rest: &mut &'r [u8]) -> (u8, &'r [u8]) {
    let end = memchr::memchr(b'\r', rest).unwrap_or(rest.len());
    let (line, behind) = rest.split_at(end);
    *rest = behind.get(2..).unwrap_or_default();
    line.split_first().map_or((b'_', line), |(kind, line)| (*kind, line))
}

/// Pushes a table with one field.
fn push_single(stack: &mut Stack<'_>, name: &[u8], push: impl FnOnce(&mut Stack<'_>)) {
    stack.push_table(0, 1);
    push(stack);
    stack.raw_set_field(-2, name);
}

fn push_list(stack: &mut Stack<'_>, rest: &mut &[u8], len: usize) {
    stack.push_table(len, 0);
    for index in 1..=i32::try_from(len).unwrap_or(i32::MAX) {
        push_one(stack, rest);
        stack.raw_set_index(-2, index);
    }
}

fn push_map(stack: &mut Stack<'_>, rest: &mut &[u8], len: usize) {
    stack.push_table(0, 1);
    stack.push_table(0, len);
    for _ in 0..len {
        push_one(stack, rest);
        push_one(stack, rest);
        stack.raw_set(-3);
    }
    stack.raw_set_field(-2, b"map");
}

fn push_set(stack: &mut Stack<'_>, rest: &mut &[u8], len: usize) {
    stack.push_table(0, 1);
    stack.push_table(0, len);
    for _ in 0..len {
        push_one(stack, rest);
        stack.push_boolean(true);
        stack.raw_set(-3);
    }
    stack.raw_set_field(-2, b"set");
}

/// `=len`, then three letters, a colon and the text.
fn push_verbatim(stack: &mut Stack<'_>, rest: &mut &[u8], len: usize) {
    let (format, text) = rest[..len].split_at(3);
    stack.push_table(0, 1);
    stack.push_table(0, 2);
    stack.push_string(text.get(1..).unwrap_or_default());
    stack.raw_set_field(-2, b"string");
    stack.push_string(format);
    stack.raw_set_field(-2, b"format");
    stack.raw_set_field(-2, b"verbatim_string");
    *rest = &rest[len + 2..];
}

/// Writes the value on top of the stack as the script's reply, and removes it.
pub(super) fn reply_value(stack: &mut Stack<'_>, run: &mut Run<'_>) {
    let inner = run.state.inner;
    let mut reply = ReplyWriter::new(run.out, run.state.outer);
    run.state.ended = Writer { reply: &mut reply, inner }.value(stack);
}

/// Writes the error on top of the stack as the script's reply, and removes it.
pub(super) fn reply_error(stack: &mut Stack<'_>, run: &mut Run<'_>) {
    let error = uncaught(stack, &run.state.name);
    run.state.ended = if error.is_counted { Ended::CommandFailed } else { Ended::Failed };
    ReplyWriter::new(run.out, run.state.outer).error_bytes(&error.text);
    stack.pop(1);
}

struct Writer<'w, 'b> {
    reply: &'w mut ReplyWriter<'b>,
    /// The version in which the script speaks of booleans.
    inner: Protocol,
}

/// Pushes the value of field `name` of the table on top of the stack, if it is of this kind.
fn has(stack: &mut Stack<'_>, name: &[u8], kind: Kind) -> bool {
    stack.raw_get_field(-1, name);
    let is_it = stack.kind(-1) == kind;
    if !is_it {
        stack.pop(1);
    }
    is_it
}

impl Writer<'_, '_> {
    /// Writes the value on top of the stack and removes it. Answers what it is as a whole reply.
    fn value(&mut self, stack: &mut Stack<'_>) -> Ended {
        if !stack.reserve(4) {
            self.reply.error("ERR reached lua stack limit");
            stack.pop(1);
            return Ended::Failed;
        }
        match stack.kind(-1) {
            Kind::String => self.reply.bulk(stack.string(-1).unwrap_or_default()),
            Kind::Number => self.reply.integer(truncated(stack.number(-1).unwrap_or(0.0))),
            Kind::Boolean if self.inner == Protocol::Resp3 => {
                self.reply.boolean(stack.boolean(-1));
            }
            Kind::Boolean if stack.boolean(-1) => self.reply.integer(1),
            Kind::Table => {
                let ended = self.table(stack);
                stack.pop(1);
                return ended;
            }
            _ => self.reply.null(),
        }
        stack.pop(1);
        Ended::Well
    }

    /// Writes the table on top of the stack: by the field that says what it is, or as a list.
    fn table(&mut self, stack: &mut Stack<'_>) -> Ended {
        // What is found is on top of the table.
        if has(stack, b"err", Kind::String) {
            return self.error(stack);
        } else if has(stack, b"ok", Kind::String) {
            let text = stack.string(-1).unwrap_or_default().to_vec();
            self.reply.raw(b"+");
            self.line(&text);
        } else if has(stack, b"double", Kind::Number) {
            self.reply.double(stack.number(-1).unwrap_or(0.0));
        } else if has(stack, b"big_number", Kind::String) {
            let digits = String::from_utf8_lossy(stack.string(-1).unwrap_or_default());
            self.reply.big_number(&digits.replace(['\r', '\n'], " "));
        } else if has(stack, b"verbatim_string", Kind::Table) && self.verbatim(stack) {
        } else if has(stack, b"map", Kind::Table) {
            self.pairs(stack, true);
        } else if has(stack, b"set", Kind::Table) {
            self.pairs(stack, false);
        } else {
            self.list(stack);
            return Ended::Well;
        }
        stack.pop(1);
        Ended::Well
    }

    fn line(&mut self, text: &[u8]) {
        let clean: Vec<u8> =
            text.iter().map(|&b| if matches!(b, b'\r' | b'\n') { b' ' } else { b }).collect();
        self.reply.raw(&clean);
        self.reply.raw(b"\r\n");
    }

    /// An error that the script returns, whose text is on top of its table. The text is all that counts,
    /// not where it was raised.
    fn error(&mut self, stack: &mut Stack<'_>) -> Ended {
        let text = stack.string(-1).unwrap_or_default().to_vec();
        stack.pop(1);
        stack.raw_get_field(-1, b"ignore_error_stats_update");
        let is_counted = stack.boolean(-1);
        stack.pop(1);
        self.reply.error_bytes(&text);
        if is_counted { Ended::CommandFailed } else { Ended::Failed }
    }

    /// The verbatim string whose table is on top of the stack; without one, removes that table.
    fn verbatim(&mut self, stack: &mut Stack<'_>) -> bool {
        let mut text = |name: &[u8]| {
            stack.raw_get_field(-1, name);
            let text = stack.string(-1).map(<[u8]>::to_vec);
            stack.pop(1);
            text
        };
        match (text(b"format"), text(b"string")) {
            (Some(format), Some(text)) => {
                self.reply.verbatim(&String::from_utf8_lossy(&format), &text);
                true
            }
            _ => {
                stack.pop(1);
                false
            }
        }
    }

    /// The keys of the table on top of the stack, with their values in a map.
    fn pairs(&mut self, stack: &mut Stack<'_>, is_map: bool) {
        let begun = self.reply.deferred();
        let mut len = 0;
        stack.push_nil();
        while stack.next(-2) {
            if is_map {
                stack.push_copy(-2);
                self.value(stack);
                self.value(stack);
            } else {
                stack.pop(1);
                stack.push_copy(-1);
                self.value(stack);
            }
            len += 1;
        }
        match is_map {
            true => self.reply.finish_map(begun, len),
            false => self.reply.finish_set(begun, len),
        }
    }

    /// The elements of the table on top of the stack, up to the first that is nil.
    fn list(&mut self, stack: &mut Stack<'_>) {
        let begun = self.reply.deferred();
        let mut len = 0;
        loop {
            stack.raw_get_index(-1, i32::try_from(len + 1).unwrap_or(i32::MAX));
            if stack.kind(-1) == Kind::Nil {
                stack.pop(1);
                break;
            }
            self.value(stack);
            len += 1;
        }
        self.reply.finish_array(begun, len);
    }
}
