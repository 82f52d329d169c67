//! Requests that cannot be understood.
//!
//! Every one of them ends the connection: after a length that makes no sense nobody knows where the
//! next request begins. The texts are those of Redis, as client libraries and their tests match
//! them.

/// Why the input is not a request. `Display` is what the client reads after `-ERR `.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ProtocolError {
    /// No line feed within [`inline_max`](crate::Limits::inline_max) bytes.
    #[error("Protocol error: too big inline request")]
    InlineTooBig,
    /// A quote that is not closed, or is followed by something other than a blank.
    #[error("Protocol error: unbalanced quotes in request")]
    UnbalancedQuotes,
    /// The number of arguments is followed by no carriage return.
    #[error("Protocol error: too big mbulk count string")]
    MultibulkCountTooBig,
    /// The number of arguments is no number, or too large.
    #[error("Protocol error: invalid multibulk length")]
    InvalidMultibulkLength,
    /// Too many arguments for a client that has not authenticated.
    #[error("Protocol error: unauthenticated multibulk length")]
    UnauthenticatedMultibulkLength,
    /// The length of an argument is followed by no carriage return.
    #[error("Protocol error: too big bulk count string")]
    BulkCountTooBig,
    /// An argument that does not begin with a dollar sign, but with this byte.
    #[error("Protocol error: expected '$', got '{}'", printable(*.0))]
    ExpectedDollar(u8),
    /// The length of an argument is no number, negative or too large.
    #[error("Protocol error: invalid bulk length")]
    InvalidBulkLength,
    /// Too long an argument for a client that has not authenticated.
    #[error("Protocol error: unauthenticated bulk length")]
    UnauthenticatedBulkLength,
    /// The request is longer than [`query_buffer_max`](crate::Limits::query_buffer_max). Redis
    /// closes the connection without a word then, so this text is for the log.
    #[error("Protocol error: query buffer limit reached")]
    RequestTooBig,
}

impl ProtocolError {
    /// Whether the connection is closed without telling the client why.
    #[must_use]
    pub fn is_silent(self) -> bool {
        self == Self::RequestTooBig
    }
}

/// The offending byte as it may stand within an error line: bytes that would end the line, and the
/// zero byte, become a blank.
fn printable(byte: u8) -> char {
    if matches!(byte, b'\r' | b'\n' | 0) { ' ' } else { char::from(byte) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_byte_that_stands_for_the_dollar_is_shown() {
        let text = ProtocolError::ExpectedDollar(b'f').to_string();
        assert_eq!(text, "Protocol error: expected '$', got 'f'");
    }

    #[test]
    fn a_line_end_cannot_break_the_error_line() {
        for byte in [b'\r', b'\n', 0] {
            let text = ProtocolError::ExpectedDollar(byte).to_string();
            assert_eq!(text, "Protocol error: expected '$', got ' '");
        }
    }

    #[test]
    fn only_an_oversized_request_is_refused_in_silence() {
        assert!(ProtocolError::RequestTooBig.is_silent());
        assert!(!ProtocolError::InvalidBulkLength.is_silent());
    }
}
