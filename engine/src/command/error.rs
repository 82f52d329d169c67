//! What a command answers when it cannot do its work.
#![forbid(unsafe_code)]

use std::borrow::Cow;

/// A command's failure. `Display` is exactly what the client reads after the `-`.
///
/// The texts are Redis's, since clients compare them.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CommandError {
    /// The key holds another type than the command works on.
    #[error("WRONGTYPE Operation against a key holding the wrong kind of value")]
    WrongType,
    /// An argument, or the value, is not an integer of 64 bits.
    #[error("ERR value is not an integer or out of range")]
    NotAnInteger,
    /// An argument, or the value, is not a number.
    #[error("ERR value is not a valid float")]
    NotAFloat,
    /// The arguments do not follow the command's grammar.
    #[error("ERR syntax error")]
    Syntax,
    /// The command wants a key that exists.
    #[error("ERR no such key")]
    NoSuchKey,
    /// An index lies outside the value.
    #[error("ERR index out of range")]
    IndexOutOfRange,
    /// A count or length that must not be negative.
    #[error("ERR value is out of range, must be positive")]
    MustBePositive,
    /// The value would grow beyond `proto-max-bulk-len`.
    #[error("ERR string exceeds maximum allowed size (proto-max-bulk-len)")]
    StringTooLong,
    /// A database number outside 0 to `databases` - 1.
    #[error("ERR DB index is out of range")]
    DatabaseOutOfRange,
    /// An integer result that does not fit 64 bits.
    #[error("ERR increment or decrement would overflow")]
    Overflow,
    /// Too few or too many arguments for `command`, in lower case (`client|kill` for subcommands).
    #[error("ERR wrong number of arguments for '{command}' command")]
    WrongArity {
        /// The command's full name.
        command: Cow<'static, str>,
    },
    /// An expiry that cannot be represented, for `command`.
    #[error("ERR invalid expire time in '{command}' command")]
    InvalidExpire {
        /// The command's full name.
        command: &'static str,
    },
    /// Any other text, with its code in front (`ERR …`).
    #[error("{0}")]
    Text(Cow<'static, str>),
}

impl CommandError {
    /// An error with a text of its own; `text` begins with its code, as in `ERR no such thing`.
    pub fn text(text: impl Into<Cow<'static, str>>) -> Self {
        Self::Text(text.into())
    }

    /// `ERR unknown command …` with the first arguments quoted, as Redis words it.
    pub fn unknown_command(args: &tessera_proto::Args<'_>) -> Self {
        let mut text = String::from("ERR unknown command '");
        push_limited(&mut text, &args[0], 128);
        text.push_str("', with args beginning with: ");
        let start = text.len();
        for argument in args.iter().skip(1) {
            if text.len() - start >= 128 {
                break;
            }
            let room = 128 - (text.len() - start);
            text.push('\'');
            push_limited(&mut text, argument, room);
            text.push_str("' ");
        }
        Self::Text(text.replace(['\r', '\n'], " ").into())
    }

    /// `ERR unknown subcommand …` for `command` (lower case), as Redis words it.
    pub fn unknown_subcommand(command: &str, subcommand: &[u8]) -> Self {
        // DEBUG has always worded it differently.
        let start = match command {
            "debug" => "ERR unknown subcommand or wrong number of arguments for '",
            _ => "ERR unknown subcommand '",
        };
        let mut text = String::from(start);
        push_limited(&mut text, subcommand, 128);
        text.push_str("'. Try ");
        text.push_str(&command.to_ascii_uppercase());
        text.push_str(" HELP.");
        Self::Text(text.replace(['\r', '\n'], " ").into())
    }
}

fn push_limited(text: &mut String, bytes: &[u8], limit: usize) {
    text.push_str(&String::from_utf8_lossy(&bytes[..bytes.len().min(limit)]));
}
