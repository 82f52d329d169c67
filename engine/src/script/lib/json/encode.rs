//! `cjson.encode`: values to JSON.
#![forbid(unsafe_code)]

use super::{
    super::super::{
        lua::{Kind, Raised, Returns, Stack},
        number::general,
    },
    Setting,
};

/// The settings in force, and the text so far.
struct Encoder {
    out: Vec<u8>,
    sparse_convert: bool,
    sparse_ratio: i32,
    sparse_safe: i32,
    max_depth: i32,
    invalid_numbers: i32,
    precision: usize,
}

/// `cjson.encode(value)`
pub(super) fn encode(stack: &mut Stack<'_>) -> Returns {
    if stack.top() != 1 {
        return stack.fail_argument(1, "expected 1 argument");
    }
    let mut encoder = Encoder {
        out: Vec::new(),
        sparse_convert: Setting::SparseConvert.get(stack) != 0,
        sparse_ratio: Setting::SparseRatio.get(stack),
        sparse_safe: Setting::SparseSafe.get(stack),
        max_depth: Setting::EncodeMaxDepth.get(stack),
        invalid_numbers: Setting::EncodeInvalidNumbers.get(stack),
        precision: usize::try_from(Setting::NumberPrecision.get(stack)).unwrap_or(14),
    };
    encoder.value(stack, 0)?;
    stack.push_string(&encoder.out);
    Ok(1)
}

fn refuse<T>(stack: &mut Stack<'_>, kind: Kind, reason: &str) -> Result<T, Raised> {
    stack.fail(&format!("Cannot serialise {}: {reason}", kind.name()))
}

impl Encoder {
    /// Writes the value on top of the stack, which stays there.
    fn value(&mut self, stack: &mut Stack<'_>, depth: i32) -> Result<(), Raised> {
        match stack.kind(-1) {
            Kind::String => self.string(stack.string(-1).unwrap_or_default()),
            Kind::Number => self.number(stack, -1)?,
            Kind::Boolean if stack.boolean(-1) => self.out.extend(b"true"),
            Kind::Boolean => self.out.extend(b"false"),
            Kind::Nil => self.out.extend(b"null"),
            Kind::Table => self.table(stack, depth + 1)?,
            _ if stack.is_null(-1) => self.out.extend(b"null"),
            kind => return refuse(stack, kind, "type not supported"),
        }
        Ok(())
    }

    fn string(&mut self, text: &[u8]) {
        self.out.reserve(text.len() + 2);
        self.out.push(b'"');
        for &byte in text {
            match byte {
                b'"' | b'\\' | b'/' => self.out.extend([b'\\', byte]),
                0x08 => self.out.extend(b"\\b"),
                b'\t' => self.out.extend(b"\\t"),
                b'\n' => self.out.extend(b"\\n"),
                0x0c => self.out.extend(b"\\f"),
                b'\r' => self.out.extend(b"\\r"),
                0..=0x1f | 0x7f => self.out.extend(format!("\\u{byte:04x}").as_bytes()),
                _ => self.out.push(byte),
            }
        }
        self.out.push(b'"');
    }

    /// Writes the number at `index`.
    fn number(&mut self, stack: &mut Stack<'_>, index: i32) -> Result<(), Raised> {
        let number = stack.number(index).unwrap_or(0.0);
        match (number.is_finite(), self.invalid_numbers) {
            (true, _) | (false, 1) => {
                let text = general(number, self.precision);
                // The sign of what is no number means nothing.
                self.out.extend(if number.is_nan() { b"nan" } else { text.as_bytes() });
            }
            (false, 0) => return refuse(stack, Kind::Number, "must not be NaN or Inf"),
            (false, _) => self.out.extend(b"null"),
        }
        Ok(())
    }

    fn table(&mut self, stack: &mut Stack<'_>, depth: i32) -> Result<(), Raised> {
        if depth > self.max_depth || !stack.reserve(3) {
            return stack.fail(&format!("Cannot serialise, excessive nesting ({depth})"));
        }
        match self.list_len(stack)? {
            Some(len) if len > 0 => self.list(stack, len, depth),
            _ => self.object(stack, depth),
        }
    }

    /// The length of the table on top of the stack as a list: its greatest index, if all its keys
    /// are integers from 1 on and are not too far apart.
    fn list_len(&self, stack: &mut Stack<'_>) -> Result<Option<i32>, Raised> {
        let (mut max, mut count) = (0_i32, 0_i64);
        stack.push_nil();
        while stack.next(-2) {
            let key = stack.number(-2).filter(|_| stack.kind(-2) == Kind::Number);
            let Some(key) = key.filter(|key| key.floor() == *key && *key >= 1.0) else {
                stack.pop(2);
                return Ok(None);
            };
            // An index beyond 32 bits is far away in any case.
            max = max.max(if key > f64::from(i32::MAX) { i32::MAX } else { key as i32 });
            count += 1;
            stack.pop(1);
        }
        let is_sparse = self.sparse_ratio > 0
            && i64::from(max) > count * i64::from(self.sparse_ratio)
            && max > self.sparse_safe;
        match is_sparse {
            false => Ok(Some(max)),
            true if self.sparse_convert => Ok(None),
            true => refuse(stack, Kind::Table, "excessively sparse array"),
        }
    }

    fn list(&mut self, stack: &mut Stack<'_>, len: i32, depth: i32) -> Result<(), Raised> {
        self.out.push(b'[');
        for index in 1..=len {
            if index > 1 {
                self.out.push(b',');
            }
            stack.raw_get_index(-1, index);
            self.value(stack, depth)?;
            stack.pop(1);
        }
        self.out.push(b']');
        Ok(())
    }

    fn object(&mut self, stack: &mut Stack<'_>, depth: i32) -> Result<(), Raised> {
        self.out.push(b'{');
        let mut is_first = true;
        stack.push_nil();
        while stack.next(-2) {
            if !std::mem::take(&mut is_first) {
                self.out.push(b',');
            }
            match stack.kind(-2) {
                Kind::Number => {
                    self.out.push(b'"');
                    self.number(stack, -2)?;
                    self.out.push(b'"');
                }
                Kind::String => self.string(stack.string(-2).unwrap_or_default()),
                kind => return refuse(stack, kind, "table key must be a number or string"),
            }
            self.out.push(b':');
            self.value(stack, depth)?;
            stack.pop(1);
        }
        self.out.push(b'}');
        Ok(())
    }
}
