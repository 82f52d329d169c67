//! The Redis serialization protocol, versions 2 and 3: requests in, replies out.
//!
//! What: an incremental parser of requests that leaves the arguments where they are in the input,
//! a writer of replies, and the small pure functions that the protocol's users share (numbers as
//! Redis reads and writes them, glob patterns, key hash slots).
//!
//! Why apart: nothing here does I/O or knows a command, so sessions, log replay, simulation, fuzz
//! targets and benches all drive the same code.
//!
//! Map:
//! - [`request`]: [`RequestParser`], fed with the bytes of one connection; `inline` splits the lines
//!   that people type into telnet;
//! - [`args`]: [`Args`], the arguments of one request; [`batch`]: [`RequestBatch`], requests copied
//!   out of the input so that another thread can run them;
//! - [`reply`]: [`ReplyWriter`], every reply type of both protocol versions; [`buffer`]:
//!   [`ReplyBuffer`], the bytes it writes, with large values spliced in by reference;
//! - [`limits`], [`error`]: what a client may send and what it is told otherwise;
//! - [`number`], [`float`], [`glob`], [`slot`]: pure functions.
//!
//! ```
//! use tessera_proto::{Limits, Protocol, ReplyBuffer, ReplyWriter, RequestParser, Step};
//!
//! let input = b"*2\r\n$4\r\nECHO\r\n$2\r\nhi\r\n";
//! let mut parser = RequestParser::new();
//! assert_eq!(parser.parse(input, &Limits::default()), Ok(Step::Request { consumed: 22 }));
//!
//! let mut replies = ReplyBuffer::new();
//! ReplyWriter::new(&mut replies, Protocol::Resp2).bulk(&parser.args(input)[1]);
//! assert_eq!(replies.to_vec(), b"$2\r\nhi\r\n");
//! ```
//!
//! Invariants:
//! - no unsafe code, no I/O, no clock, no command names;
//! - no input makes anything here panic or take memory that its sender has not paid for in bytes;
//! - splitting the input anywhere changes neither the requests nor the error.
#![forbid(unsafe_code)]

pub mod args;
pub mod batch;
pub mod buffer;
pub mod error;
pub mod float;
#[cfg(any(test, feature = "fuzz"))]
pub mod fuzz;
pub mod glob;
mod inline;
pub mod limits;
pub mod number;
pub mod reply;
pub mod request;
pub mod slot;

pub use args::{Args, Span};
pub use batch::RequestBatch;
pub use buffer::{Mark, ReplyBuffer};
pub use error::ProtocolError;
pub use glob::matches as glob_matches;
pub use inline::split_arguments;
pub use limits::Limits;
pub use number::parse_i64;
pub use reply::{Deferred, Protocol, ReplyWriter};
pub use request::{RequestParser, Step};
pub use slot::key_slot;
