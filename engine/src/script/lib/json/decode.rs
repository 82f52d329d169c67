//! `cjson.decode`: JSON to values.
#![forbid(unsafe_code)]

use super::{
    super::super::lua::{Raised, Returns, Stack},
    Setting,
};

/// What stands at one place of the text.
enum Token {
    ObjectBegin,
    ObjectEnd,
    ArrayBegin,
    ArrayEnd,
    /// Its text is in [`Decoder::text`].
    String,
    Number(f64),
    Boolean(bool),
    Null,
    Colon,
    Comma,
    End,
    Error(&'static str),
}

impl Token {
    /// Its name in errors.
    fn name(&self) -> &'static str {
        match self {
            Self::ObjectBegin => "T_OBJ_BEGIN",
            Self::ObjectEnd => "T_OBJ_END",
            Self::ArrayBegin => "T_ARR_BEGIN",
            Self::ArrayEnd => "T_ARR_END",
            Self::String => "T_STRING",
            Self::Number(_) => "T_NUMBER",
            Self::Boolean(_) => "T_BOOLEAN",
            Self::Null => "T_NULL",
            Self::Colon => "T_COLON",
            Self::Comma => "T_COMMA",
            Self::End => "T_END",
            Self::Error(text) => text,
        }
    }
}

struct Decoder {
    json: Vec<u8>,
    at: usize,
    /// Where the last token begins, or where it is wrong.
    token_at: usize,
    /// The last string.
    text: Vec<u8>,
    depth: i32,
    max_depth: i32,
    invalid_numbers: bool,
}

/// `cjson.decode(text)`
pub(super) fn decode(stack: &mut Stack<'_>) -> Returns {
    if stack.top() != 1 {
        return stack.fail_argument(1, "expected 1 argument");
    }
    let json = stack.check_text(1)?;
    if json.len() >= 2 && json[..2].contains(&0) {
        return stack.fail("JSON parser does not support UTF-16 or UTF-32");
    }
    let mut decoder = Decoder {
        json,
        at: 0,
        token_at: 0,
        text: Vec::new(),
        depth: 0,
        max_depth: Setting::DecodeMaxDepth.get(stack),
        invalid_numbers: Setting::DecodeInvalidNumbers.get(stack) != 0,
    };
    let token = decoder.next();
    decoder.value(stack, &token)?;
    match decoder.next() {
        Token::End => Ok(1),
        token => decoder.unexpected(stack, "the end", &token),
    }
}

impl Decoder {
    /// The byte `ahead` of the current place; 0 behind the end.
    fn byte(&self, ahead: usize) -> u8 {
        self.json.get(self.at + ahead).copied().unwrap_or(0)
    }

    fn unexpected<T>(
        &self,
        stack: &mut Stack<'_>,
        wanted: &str,
        token: &Token,
    ) -> Result<T, Raised> {
        let (found, at) = (token.name(), self.token_at + 1);
        stack.fail(&format!("Expected {wanted} but found {found} at character {at}"))
    }

    /// Pushes the value that begins with `token`.
    fn value(&mut self, stack: &mut Stack<'_>, token: &Token) -> Result<(), Raised> {
        match token {
            Token::String => stack.push_string(&self.text),
            Token::Number(number) => stack.push_number(*number),
            Token::Boolean(value) => stack.push_boolean(*value),
            Token::ObjectBegin => return self.object(stack),
            Token::ArrayBegin => return self.array(stack),
            Token::Null => stack.push_null(),
            _ => return self.unexpected(stack, "value", token),
        }
        Ok(())
    }

    fn descend(&mut self, stack: &mut Stack<'_>) -> Result<(), Raised> {
        self.depth += 1;
        if self.depth > self.max_depth || !stack.reserve(3) {
            return stack.fail(&format!(
                "Found too many nested data structures ({}) at character {}",
                self.depth, self.at
            ));
        }
        Ok(())
    }

    fn object(&mut self, stack: &mut Stack<'_>) -> Result<(), Raised> {
        self.descend(stack)?;
        stack.push_table(0, 0);
        let mut token = self.next();
        if let Token::ObjectEnd = token {
            self.depth -= 1;
            return Ok(());
        }
        loop {
            if !matches!(token, Token::String) {
                return self.unexpected(stack, "object key string", &token);
            }
            stack.push_string(&self.text);
            token = self.next();
            if !matches!(token, Token::Colon) {
                return self.unexpected(stack, "colon", &token);
            }
            token = self.next();
            self.value(stack, &token)?;
            stack.raw_set(-3);
            match self.next() {
                Token::ObjectEnd => break,
                Token::Comma => token = self.next(),
                token => return self.unexpected(stack, "comma or object end", &token),
            }
        }
        self.depth -= 1;
        Ok(())
    }

    fn array(&mut self, stack: &mut Stack<'_>) -> Result<(), Raised> {
        self.descend(stack)?;
        stack.push_table(0, 0);
        let mut token = self.next();
        if let Token::ArrayEnd = token {
            self.depth -= 1;
            return Ok(());
        }
        for index in 1.. {
            self.value(stack, &token)?;
            stack.raw_set_index(-2, index);
            match self.next() {
                Token::ArrayEnd => break,
                Token::Comma => token = self.next(),
                token => return self.unexpected(stack, "comma or array end", &token),
            }
        }
        self.depth -= 1;
        Ok(())
    }

    fn error(&mut self, text: &'static str) -> Token {
        self.token_at = self.at;
        Token::Error(text)
    }

    fn next(&mut self) -> Token {
        while matches!(self.byte(0), b' ' | b'\t' | b'\n' | b'\r') {
            self.at += 1;
        }
        self.token_at = self.at;
        let single = match self.byte(0) {
            b'{' => Token::ObjectBegin,
            b'}' => Token::ObjectEnd,
            b'[' => Token::ArrayBegin,
            b']' => Token::ArrayEnd,
            b',' => Token::Comma,
            b':' => Token::Colon,
            // A zero in the text ends it.
            0 => return Token::End,
            b'"' => return self.string(),
            b'-' | b'0'..=b'9' => {
                if !self.invalid_numbers && self.is_invalid_number() {
                    return self.error("invalid number");
                }
                return self.number();
            }
            b'f' | b'i' | b'I' | b'n' | b'N' | b't' | b'+' => return self.word(),
            _ => return self.error("invalid token"),
        };
        self.at += 1;
        single
    }

    fn word(&mut self) -> Token {
        for (word, token) in [
            (&b"true"[..], Token::Boolean(true)),
            (b"false", Token::Boolean(false)),
            (b"null", Token::Null),
        ] {
            if self.json[self.at..].starts_with(word) {
                self.at += word.len();
                return token;
            }
        }
        if self.invalid_numbers && self.is_invalid_number() {
            return self.number();
        }
        self.error("invalid token")
    }

    /// Whether what begins here is a number for C's `strtod` and none for JSON.
    fn is_invalid_number(&self) -> bool {
        let sign = usize::from(self.byte(0) == b'-');
        match (self.byte(0), self.byte(sign)) {
            (b'+', _) => true,
            (_, b'0') => {
                let next = self.byte(sign + 1);
                next | 0x20 == b'x' || next.is_ascii_digit()
            }
            (_, byte) if byte <= b'9' => false,
            _ => {
                let word = self.json.get(self.at + sign..self.at + sign + 3).unwrap_or_default();
                word.eq_ignore_ascii_case(b"inf") || word.eq_ignore_ascii_case(b"nan")
            }
        }
    }

    fn number(&mut self) -> Token {
        match leading_number(&self.json[self.at..]) {
            Some((number, len)) => {
                self.at += len;
                Token::Number(number)
            }
            None => self.error("invalid number"),
        }
    }

    fn string(&mut self) -> Token {
        self.at += 1;
        self.text.clear();
        loop {
            match self.byte(0) {
                b'"' => break,
                0 => return self.error("unexpected end of string"),
                b'\\' => {
                    let escaped = match self.byte(1) {
                        byte @ (b'"' | b'\\' | b'/') => byte,
                        b'b' => 0x08,
                        b't' => b'\t',
                        b'n' => b'\n',
                        b'f' => 0x0c,
                        b'r' => b'\r',
                        b'u' => match self.unicode_escape() {
                            Some(()) => continue,
                            None => return self.error("invalid unicode escape code"),
                        },
                        _ => return self.error("invalid escape code"),
                    };
                    self.text.push(escaped);
                    self.at += 2;
                }
                byte => {
                    self.text.push(byte);
                    self.at += 1;
                }
            }
        }
        self.at += 1;
        Token::String
    }

    /// Takes an escape of a character of UTF-16, or of two that are one of Unicode, as UTF-8.
    fn unicode_escape(&mut self) -> Option<()> {
        let first = self.hexadecimal(2)?;
        let (character, len) = match first {
            0xd800..=0xdbff => {
                let second = (self.byte(6) == b'\\' && self.byte(7) == b'u')
                    .then(|| self.hexadecimal(8))
                    .flatten()
                    .filter(|second| (0xdc00..=0xdfff).contains(second))?;
                (((first & 0x3ff) << 10 | (second & 0x3ff)) + 0x1_0000, 12)
            }
            0xdc00..=0xdfff => return None,
            _ => (first, 6),
        };
        let mut utf8 = [0; 4];
        let character = char::from_u32(character)?;
        self.text.extend_from_slice(character.encode_utf8(&mut utf8).as_bytes());
        self.at += len;
        Some(())
    }

    /// Four hexadecimal digits.
    fn hexadecimal(&self, ahead: usize) -> Option<u32> {
        (0..4).try_fold(0, |value, digit| {
            Some(value << 4 | char::from(self.byte(ahead + digit)).to_digit(16)?)
        })
    }
}

/// The number at the start of `text` as C's `strtod` finds it, and its length.
fn leading_number(text: &[u8]) -> Option<(f64, usize)> {
    let sign = usize::from(matches!(text.first(), Some(b'-' | b'+')));
    let body = &text[sign..];
    let starts =
        |word: &[u8]| body.len() >= word.len() && body[..word.len()].eq_ignore_ascii_case(word);
    let (magnitude, len) = if starts(b"infinity") {
        (f64::INFINITY, 8)
    } else if starts(b"inf") {
        (f64::INFINITY, 3)
    } else if starts(b"nan") {
        (f64::NAN, 3)
    } else if let Some(found) = leading_hexadecimal(body) {
        found
    } else {
        let len = decimal_len(body)?;
        (std::str::from_utf8(&body[..len]).ok()?.parse().ok()?, len)
    };
    let is_negative = text.first() == Some(&b'-');
    Some((if is_negative { -magnitude } else { magnitude }, sign + len))
}

/// The length of the decimal number at the start of `text`.
fn decimal_len(text: &[u8]) -> Option<usize> {
    let digits = |from: usize| text[from..].iter().take_while(|byte| byte.is_ascii_digit()).count();
    let whole = digits(0);
    let mut len = whole;
    if text.get(len) == Some(&b'.') {
        let fraction = digits(len + 1);
        if whole + fraction == 0 {
            return None;
        }
        len += 1 + fraction;
    } else if whole == 0 {
        return None;
    }
    if matches!(text.get(len), Some(b'e' | b'E')) {
        let sign = usize::from(matches!(text.get(len + 1), Some(b'-' | b'+')));
        let from = len + 1 + sign;
        let exponent = if from <= text.len() { digits(from) } else { 0 };
        if exponent > 0 {
            len = from + exponent;
        }
    }
    Some(len)
}

/// A hexadecimal number at the start of `text`, if there is one, and its length.
fn leading_hexadecimal(text: &[u8]) -> Option<(f64, usize)> {
    let prefix = text.get(..2)?;
    if !prefix.eq_ignore_ascii_case(b"0x") || !text.get(2)?.is_ascii_hexdigit() {
        return None;
    }
    // The longest start that is a number: few bytes, for JSON that nearly never has it.
    let is_part = |byte: &&u8| byte.is_ascii_hexdigit() || b".pP+-".contains(byte);
    let end = 2 + text[2..].iter().take_while(is_part).count();
    let mut lower = text[..end.min(64)].to_ascii_lowercase();
    while lower.len() > 2 {
        if let Some(number) = tessera_proto::float::parse_f64(&lower) {
            return Some((number, lower.len()));
        }
        lower.pop();
    }
    None
}
