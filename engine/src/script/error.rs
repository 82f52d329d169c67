//! Errors as scripts see them: tables with a field `err`, and what becomes of one that nobody caught.
#![forbid(unsafe_code)]

use super::lua::{Kind, Returns, Stack};

/// Pushes the error that `text` describes: `-CODE message` as it is, anything else as a message of
/// the code ERR.
pub(super) fn push_error(stack: &mut Stack<'_>, text: &[u8]) {
    let (code, message): (&[u8], &[u8]) = match text.strip_prefix(b"-") {
        Some(text) => match text.iter().position(|&byte| byte == b' ') {
            Some(space) => (&text[..space], &text[space + 1..]),
            None => (b"ERR", text),
        },
        None => (b"ERR", text),
    };
    let message = trimmed(message);
    stack.push_table(0, 4);
    stack.push_string(&[code, b" ", message].concat());
    stack.raw_set_field(-2, b"err");
}

/// Pushes an error that has been counted where it came from, so that it is not counted again.
pub(super) fn push_counted_error(stack: &mut Stack<'_>, text: &[u8]) {
    push_error(stack, text);
    stack.push_boolean(true);
    stack.raw_set_field(-2, b"ignore_error_stats_update");
}

fn trimmed(text: &[u8]) -> &[u8] {
    let is_end = |byte: &u8| matches!(byte, b'\r' | b'\n');
    let start = text.iter().position(|byte| !is_end(byte)).unwrap_or(text.len());
    let end = text.iter().rposition(|byte| !is_end(byte)).map_or(start, |last| last + 1);
    &text[start..end]
}

/// What every error of a script passes through where it is raised: makes it a table, and notes the
/// line of the script that is to blame, which for a native function is its caller's.
pub(super) fn handler(stack: &mut Stack<'_>) -> Returns {
    let mut position = stack.position(1);
    if position.as_ref().is_some_and(|position| position.is_native) {
        position = stack.position(2);
    }
    stack.set_top(1);
    if stack.kind(1) != Kind::Table {
        let text = [b"ERR ", described(stack, 1).as_slice()].concat();
        stack.push_table(0, 3);
        stack.push_string(&text);
        stack.raw_set_field(-2, b"err");
    }
    if let Some(position) = position
        && !stack.is_protected(-1)
    {
        stack.push_string(&position.source);
        stack.raw_set_field(-2, b"source");
        stack.push_integer(position.line.into());
        stack.raw_set_field(-2, b"line");
    }
    Ok(1)
}

/// A value as `tostring` shows it, without asking metamethods.
pub(super) fn described(stack: &mut Stack<'_>, index: i32) -> Vec<u8> {
    match stack.kind(index) {
        Kind::String | Kind::Number => stack.text(index).unwrap_or_default().to_vec(),
        Kind::Boolean => if stack.boolean(index) { "true" } else { "false" }.into(),
        kind => kind.name().into(),
    }
}

/// An error that nobody caught, as its fields say.
pub(super) struct Uncaught {
    /// The error with its code in front, without a `-`.
    pub(super) text: Vec<u8>,
    /// The failure of a command is counted there already.
    pub(super) is_counted: bool,
}

/// Reads the error on top of the stack: its text, and where in which script it happened.
pub(super) fn uncaught(stack: &mut Stack<'_>, script: &str) -> Uncaught {
    if stack.kind(-1) != Kind::Table {
        let text = described(stack, -1);
        let start = &text[..text.len().min(100)];
        let text = [b"ERR Error running script ", script.as_bytes(), b", ", start].concat();
        return Uncaught { text, is_counted: false };
    }
    let mut field = |name: &[u8]| {
        stack.raw_get_field(-1, name);
        let text = stack.text(-1).map(<[u8]>::to_vec);
        stack.pop(1);
        text
    };
    let text = field(b"err").unwrap_or_else(|| b"ERR unknown error".to_vec());
    let (source, line) = (field(b"source"), field(b"line"));
    let text = match (source, line) {
        (Some(source), Some(line)) => {
            [&text, &b" script: "[..], script.as_bytes(), b", on ", &source, b":", &line, b"."]
                .concat()
        }
        _ => text,
    };
    stack.raw_get_field(-1, b"ignore_error_stats_update");
    let is_counted = stack.boolean(-1);
    stack.pop(1);
    Uncaught { text, is_counted }
}

/// `pcall` as scripts written for older versions expect it: an error that is one of our tables is
/// handed out as its text.
pub(super) fn pcall(stack: &mut Stack<'_>) -> Returns {
    let top = stack.top();
    if top == 0 {
        return stack.fail_argument(1, "value expected");
    }
    stack.push_boolean(true);
    stack.insert(1);
    if stack.call(top - 1, super::lua::ALL_RESULTS, 0).is_ok() {
        return Ok(stack.top());
    }
    stack.remove(1);
    if stack.kind(-1) == Kind::Table {
        stack.raw_get_field(-1, b"err");
        if matches!(stack.kind(-1), Kind::String | Kind::Number) {
            stack.remove(-2);
        } else {
            stack.pop(1);
        }
    }
    stack.push_boolean(false);
    stack.insert(1);
    Ok(2)
}
