//! The types of collections: what a list, a hash, a set and a sorted set can do, over the encodings
//! that hold them.
//!
//! Types know no keys, deadlines, commands or replies. Each changes its encoding when it outgrows
//! [`Thresholds`], and answers under which name OBJECT ENCODING knows it: that follows Redis's
//! thresholds, also where the representation here changes earlier.
#![forbid(unsafe_code)]

pub mod encoding;
