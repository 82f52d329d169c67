//! What a command did, for the chores that follow every write: counting the changes, and recording the
//! command in the journal as it was sent, unless it has said what to record instead.
//!
//! Telling which keys have changed is the command's own business ([`super::Context::notify`]), since only
//! it knows.
#![forbid(unsafe_code)]

/// What a command did to the keyspace. The shard counts and records by it, so that no command can
/// forget to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Effect {
    /// The keyspace is as it was.
    Unchanged,
    /// So many changes, as `rdb_changes_since_last_save` counts them.
    Changed(u64),
    /// The command has found nothing and waits; it has written nothing. So many changes it has made
    /// on the way, none as a rule (XREADGROUP makes its consumer).
    Waits(u64),
}

impl Effect {
    /// One change if `changed`.
    pub fn changed_if(changed: bool) -> Self {
        Self::count(u64::from(changed))
    }

    /// `changes` changes, or none.
    pub fn count(changes: u64) -> Self {
        if changes == 0 { Self::Unchanged } else { Self::Changed(changes) }
    }
}
