//! Configuration in redis-server's own syntax.
//!
//! `arguments` reads the command line, `load` the files (`split` their lines, `glob` the patterns of
//! `include`); `table` gives the shape of an option's row, `options` and `unbuilt` the rows, `value`,
//! `special` and `choices` the forms of values, `cpus` the default of `shards`; `store` is what the
//! running server shares and CONFIG works on; `rewrite` writes the file back.
//!
//! A new option is a row in `options`, or moves there from `unbuilt`.
//!
//! One row for each option drives reading, CONFIG GET, SET and REWRITE; nothing else in the server
//! knows an option by its name.

#![forbid(unsafe_code)]

mod arguments;
mod choices;
mod cpus;
mod glob;
mod load;
mod options;
mod rewrite;
mod special;
mod split;
mod store;
mod table;
mod unbuilt;
mod value;

pub use arguments::{Invocation, Sources, USAGE, parse_arguments};
pub use choices::{AppendFsync, LogLevel, MaxmemoryPolicy, ProtectedAction, Supervised};
pub use cpus::available_cpus;
pub use load::{LoadError, Loaded, load};
pub use options::{Config, SHARDS_MAX};
pub(crate) use special::format_percentile;
pub use split::{UnbalancedQuotes, quote, split_line};
pub use store::{ApplyChange, ConfigReader, ConfigStore, RewriteError, SetError, get};
pub use table::{Flags, Row, find};
pub use value::BufferLimit;
pub(crate) use value::parse_memory;
