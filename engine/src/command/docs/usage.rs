//! The notation of arguments in the files of [`docs`](super), and its parser.
//!
//! | written | meaning |
//! |---|---|
//! | `value` | a string that the user gives, called `value` |
//! | `count:int` | an integer; also `:double`, `:pattern`, `:time` (Unix time), `:string` |
//! | `key#0` | a key, found by the command's first key specification |
//! | `NX`, `'*'` | a word as it stands, called by its own name in lower case |
//! | `change:CH` | a word as it stands, called otherwise |
//! | `EX=seconds:int` | an argument behind a word |
//! | `store/key`, `addr/'ip:port'` | called otherwise than it is shown |
//! | `[x]` | may be left out |
//! | `x...` | once or several times |
//! | `EX=x*` | several times, each behind its word |
//! | `pair(a b)` | arguments that go together |
//! | `choice(a \| b)` | one of several |
//! | `x@6.2.0`, `x!6.2.0` | since, and deprecated since, a version |
//!
//! Words in capitals or in quotes are sent as they stand, others are names; one in capitals that a
//! type follows is a name too.
#![forbid(unsafe_code)]

use std::iter::Peekable;

/// Why a usage cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UsageError {
    /// Something else stands where this should.
    #[error("{wanted} is expected before {found:?}")]
    Unexpected {
        /// What should stand there.
        wanted: &'static str,
        /// What does; empty at the end.
        found: String,
    },
    /// A type, or a number, that there is not.
    #[error("unknown {0:?}")]
    Unknown(&'static str),
}

/// One argument of a command, or a group of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Argument {
    /// What it is called.
    pub name: String,
    /// What it is.
    pub kind: Kind,
    /// What hints show, where that is not the name.
    pub display: Option<&'static str>,
    /// The key specification that finds it, if it holds keys or tells of them.
    pub key_spec: Option<u8>,
    /// The word before it; of a [`Kind::Word`] the word itself.
    pub token: Option<&'static str>,
    /// The version that brought it, if it is younger than the command.
    pub since: Option<&'static str>,
    /// The version since which it should not be used.
    pub deprecated_since: Option<&'static str>,
    /// It may be left out.
    pub is_optional: bool,
    /// It may stand several times.
    pub is_multiple: bool,
    /// When it stands several times, its token stands before each.
    pub repeats_token: bool,
}

/// What an argument is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Any bytes.
    String,
    /// An integer.
    Integer,
    /// A number with a fraction.
    Double,
    /// The name of a key.
    Key,
    /// A pattern of names.
    Pattern,
    /// An instant, as Unix time.
    UnixTime,
    /// A word as it stands.
    Word,
    /// One of these.
    OneOf(Vec<Argument>),
    /// All of these, in this order.
    Block(Vec<Argument>),
}

impl Kind {
    /// COMMAND DOCS' name.
    pub fn name(&self) -> &'static str {
        match self {
            Self::String => "string",
            Self::Integer => "integer",
            Self::Double => "double",
            Self::Key => "key",
            Self::Pattern => "pattern",
            Self::UnixTime => "unix-time",
            Self::Word => "pure-token",
            Self::OneOf(_) => "oneof",
            Self::Block(_) => "block",
        }
    }

    /// The arguments inside, if it is a group.
    pub fn arguments(&self) -> Option<&[Argument]> {
        match self {
            Self::OneOf(arguments) | Self::Block(arguments) => Some(arguments),
            _ => None,
        }
    }

    fn named(name: &'static str) -> Result<Self, UsageError> {
        Ok(match name {
            "string" => Self::String,
            "int" => Self::Integer,
            "double" => Self::Double,
            "pattern" => Self::Pattern,
            "time" => Self::UnixTime,
            _ => return Err(UsageError::Unknown(name)),
        })
    }
}

impl Argument {
    fn new(name: &str, kind: Kind) -> Self {
        Self {
            name: name.to_owned(),
            kind,
            display: None,
            key_spec: None,
            token: None,
            since: None,
            deprecated_since: None,
            is_optional: false,
            is_multiple: false,
            repeats_token: false,
        }
    }

    /// A word as it stands.
    fn word(name: &str, token: &'static str) -> Self {
        Self { token: Some(token), ..Self::new(name, Kind::Word) }
    }
}

/// A piece of the notation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Piece {
    /// A name, a number, or a word in capitals.
    Name(&'static str),
    /// A word in quotes, without them.
    Quoted(&'static str),
    /// `...`
    Dots,
    /// Any other character.
    Mark(char),
}

/// Reads the arguments that stand in `lines`.
///
/// # Errors
///
/// What stands there is not in the notation.
pub(super) fn parse(lines: &[&'static str]) -> Result<Vec<Argument>, UsageError> {
    let pieces = lines.iter().flat_map(|line| pieces(line)).collect::<Vec<_>>();
    let mut parser = Parser { pieces: pieces.into_iter().peekable() };
    let mut arguments = Vec::new();
    while parser.pieces.peek().is_some() {
        arguments.push(parser.argument()?);
    }
    Ok(arguments)
}

/// Cuts a line into its pieces.
fn pieces(line: &'static str) -> Vec<Piece> {
    let mut pieces = Vec::new();
    let mut rest = line.trim_start();
    while let Some(first) = rest.chars().next() {
        let (piece, len) = if rest.starts_with("...") {
            (Piece::Dots, 3)
        } else if let Some((quoted, _)) =
            rest.strip_prefix('\'').and_then(|rest| rest.split_once('\''))
        {
            (Piece::Quoted(quoted), quoted.len() + 2)
        } else {
            match name_len(rest) {
                0 => (Piece::Mark(first), first.len_utf8()),
                len => (Piece::Name(&rest[..len]), len),
            }
        };
        pieces.push(piece);
        rest = rest[len..].trim_start();
    }
    pieces
}

/// The length of the name, number or version at the start of `text`. A dot belongs to it between
/// digits only.
fn name_len(text: &str) -> usize {
    let bytes = text.as_bytes();
    let belongs = |at: usize| match bytes[at] {
        b'.' => at > 0 && bytes.get(at + 1).is_some_and(u8::is_ascii_digit),
        byte => byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_',
    };
    (0..bytes.len()).find(|&at| !belongs(at)).unwrap_or(bytes.len())
}

/// Whether a name is a word in capitals.
fn is_capitals(name: &str) -> bool {
    name.bytes().any(|byte| byte.is_ascii_uppercase())
        && !name.bytes().any(|byte| byte.is_ascii_lowercase())
}

struct Parser<I: Iterator<Item = Piece>> {
    pieces: Peekable<I>,
}

impl<I: Iterator<Item = Piece>> Parser<I> {
    fn accept(&mut self, mark: char) -> bool {
        self.pieces.next_if_eq(&Piece::Mark(mark)).is_some()
    }

    fn expect(&mut self, mark: char, wanted: &'static str) -> Result<(), UsageError> {
        if self.accept(mark) { Ok(()) } else { Err(self.unexpected(wanted)) }
    }

    fn unexpected(&mut self, wanted: &'static str) -> UsageError {
        let found = match self.pieces.peek() {
            Some(Piece::Name(text) | Piece::Quoted(text)) => (*text).to_owned(),
            Some(Piece::Dots) => "...".to_owned(),
            Some(Piece::Mark(mark)) => mark.to_string(),
            None => String::new(),
        };
        UsageError::Unexpected { wanted, found }
    }

    fn name(&mut self, wanted: &'static str) -> Result<&'static str, UsageError> {
        match self.pieces.peek() {
            Some(&Piece::Name(name)) => {
                self.pieces.next();
                Ok(name)
            }
            _ => Err(self.unexpected(wanted)),
        }
    }

    /// One argument, perhaps in brackets.
    fn argument(&mut self) -> Result<Argument, UsageError> {
        if !self.accept('[') {
            return self.mandatory();
        }
        let argument = Argument { is_optional: true, ..self.mandatory()? };
        self.expect(']', "]")?;
        Ok(argument)
    }

    fn mandatory(&mut self) -> Result<Argument, UsageError> {
        let mut argument = match self.pieces.next_if(|piece| matches!(piece, Piece::Quoted(_))) {
            Some(Piece::Quoted(word)) => self.behind_word(word)?,
            _ => {
                let name = self.name("an argument")?;
                let is_typed = self.pieces.peek() == Some(&Piece::Mark(':'));
                if is_capitals(name) && !is_typed {
                    self.behind_word(name)?
                } else {
                    self.named(name)?
                }
            }
        };
        self.read_suffixes(&mut argument)?;
        Ok(argument)
    }

    /// A word as it stands, or what follows it.
    fn behind_word(&mut self, word: &'static str) -> Result<Argument, UsageError> {
        if !self.accept('=') {
            return Ok(Argument::word(&word.to_ascii_lowercase(), word));
        }
        let name = self.name("a name")?;
        Ok(Argument { token: Some(word), ..self.named(name)? })
    }

    /// What stands behind a name: its type, or the arguments that it is the name of.
    fn named(&mut self, name: &'static str) -> Result<Argument, UsageError> {
        if self.accept('(') {
            return Ok(Argument::new(name, self.group()?));
        }
        let display = if self.accept('/') { Some(self.shown()?) } else { None };
        let mut argument = Argument { display, ..Argument::new(name, Kind::String) };
        if self.accept(':') {
            match self.pieces.next_if(|piece| matches!(piece, Piece::Quoted(_))) {
                Some(Piece::Quoted(token)) => return Ok(Argument::word(name, token)),
                _ => match self.name("a type")? {
                    token if is_capitals(token) => return Ok(Argument::word(name, token)),
                    kind => argument.kind = Kind::named(kind)?,
                },
            }
        }
        if self.accept('#') {
            let number = self.name("a number")?;
            argument.key_spec = Some(number.parse().map_err(|_| UsageError::Unknown(number))?);
            if argument.kind == Kind::String {
                argument.kind = Kind::Key;
            }
        }
        Ok(argument)
    }

    /// What hints show, in quotes where it is no name.
    fn shown(&mut self) -> Result<&'static str, UsageError> {
        match self.pieces.next_if(|piece| matches!(piece, Piece::Quoted(_))) {
            Some(Piece::Quoted(text)) => Ok(text),
            _ => self.name("what is shown"),
        }
    }

    /// The arguments of a group, behind its opening bracket, and the closing one.
    fn group(&mut self) -> Result<Kind, UsageError> {
        let mut arguments = vec![self.argument()?];
        if self.pieces.peek() == Some(&Piece::Mark('|')) {
            while self.accept('|') {
                arguments.push(self.argument()?);
            }
            self.expect(')', ")")?;
            return Ok(Kind::OneOf(arguments));
        }
        while !self.accept(')') {
            arguments.push(self.argument()?);
        }
        Ok(Kind::Block(arguments))
    }

    fn read_suffixes(&mut self, argument: &mut Argument) -> Result<(), UsageError> {
        if self.accept('@') {
            argument.since = Some(self.name("a version")?);
        }
        if self.accept('!') {
            argument.deprecated_since = Some(self.name("a version")?);
        }
        argument.repeats_token = self.accept('*');
        let has_dots = self.pieces.next_if_eq(&Piece::Dots).is_some();
        argument.is_multiple = argument.repeats_token || has_dots;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The arguments written again, to be compared with what was read.
    fn written(arguments: &[Argument], between: &str) -> String {
        arguments.iter().map(write).collect::<Vec<_>>().join(between)
    }

    fn write(argument: &Argument) -> String {
        let name = &argument.name;
        let token = argument.token.unwrap_or_default();
        let before = if token.is_empty() { String::new() } else { format!("'{token}'=") };
        let body = match &argument.kind {
            Kind::Word => format!("{name}:'{token}'"),
            Kind::OneOf(inner) => format!("{before}{name}({})", written(inner, " | ")),
            Kind::Block(inner) => format!("{before}{name}({})", written(inner, " ")),
            leaf => {
                let shown = argument.display.map(|shown| format!("/'{shown}'")).unwrap_or_default();
                let kind = match leaf {
                    Kind::Integer => ":int",
                    Kind::Double => ":double",
                    Kind::Pattern => ":pattern",
                    Kind::UnixTime => ":time",
                    Kind::Key => "",
                    _ => ":string",
                };
                let spec = argument.key_spec.map(|spec| format!("#{spec}")).unwrap_or_default();
                format!("{before}{name}{shown}{kind}{spec}")
            }
        };
        let since = argument.since.map(|since| format!("@{since}")).unwrap_or_default();
        let until = argument.deprecated_since.map(|since| format!("!{since}")).unwrap_or_default();
        let times = match (argument.repeats_token, argument.is_multiple) {
            (true, _) => "*",
            (_, true) => "...",
            _ => "",
        };
        let all = format!("{body}{since}{until}{times}");
        if argument.is_optional { format!("[{all}]") } else { all }
    }

    #[test]
    fn usages_are_read() {
        for (usage, meaning) in [
            ("key#0 value", "key#0 value:string"),
            ("[NX]", "[nx:'NX']"),
            ("all:'*' increment:INCR ID:string...", "all:'*' increment:'INCR' ID:string..."),
            ("[expiry(EX=s:int | KEEP@6.0.0)]", "[expiry('EX'=s:int | keep:'KEEP'@6.0.0)]"),
            ("data(score:double member)...", "data(score:double member:string)..."),
            ("[GET=p/pattern:pattern#1*]", "['GET'=p/'pattern':pattern#1*]"),
            (
                "[BY=by(m | 'x'=y)@6.2.0!7.0.0...]",
                "['BY'=by(m:string | 'x'=y:string)@6.2.0!7.0.0...]",
            ),
            ("addr/'ip:port'", "addr/'ip:port':string"),
            ("", ""),
        ] {
            let read = parse(&[usage]).expect(usage);
            assert_eq!(written(&read, " "), meaning);
        }
    }

    #[test]
    fn lines_are_one_usage() {
        let [one, two] = [&["a(b c)", "d"][..], &["a(b", "c) d"]].map(parse);
        assert_eq!(one, two);
        assert_eq!(one.map(|arguments| arguments.len()), Ok(2));
    }

    #[test]
    fn what_is_not_in_the_notation_is_refused() {
        for usage in [
            "[a", "a]", "(a)", "a(b | c", "a(", "a(b | )", "a:nosuch", "a#x", "=a", "A=", "a@",
            "a | b",
        ] {
            assert!(parse(&[usage]).is_err(), "{usage}");
        }
    }
}
