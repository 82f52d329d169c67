//! Client-side caching (CLIENT TRACKING): what a connection has asked for, and how it is told that
//! keys have changed.
//!
//! The shards remember who has read which key, and who has asked for which prefixes
//! ([`tessera_engine::keyspace::tracking`]). What they find stale comes to the worker of the client as
//! news of the shard, and so behind the replies that brought the keys (see `pubsub`). Here it is
//! decided whether the client wants to hear of it, and on which connection ([`tell`]; [`directory`] knows
//! which worker has the connection).
#![forbid(unsafe_code)]

pub mod directory;
mod tell;

use tessera_engine::{
    command::{Command, CommandError},
    notice::{ChangedKey, Client},
};

/// What a connection that tracks keys has asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tracking {
    /// BCAST: it hears of all changes of keys with a prefix.
    pub broadcast: bool,
    /// These prefixes; the empty one stands for all keys.
    pub prefixes: Vec<Vec<u8>>,
    /// OPTIN: only what is read after CLIENT CACHING YES is cached.
    pub opt_in: bool,
    /// OPTOUT: everything is, but what is read after CLIENT CACHING NO.
    pub opt_out: bool,
    /// NOLOOP: it does not hear of its own changes.
    pub no_loop: bool,
    /// REDIRECT: the client that hears instead.
    pub redirect: Option<u64>,
    /// That client was gone when it should have heard.
    pub is_broken: bool,
    /// CLIENT CACHING was given for the next command.
    pub caching: bool,
}

impl Tracking {
    /// Whether what the next command reads is cached.
    pub fn caches(&self) -> bool {
        if self.opt_in {
            self.caching
        } else if self.opt_out {
            !self.caching
        } else {
            !self.broadcast
        }
    }

    /// `command` was the next command: CLIENT CACHING is used up, unless that was about clients
    /// itself, or begins a transaction, for all of which it holds.
    pub fn use_up(&mut self, command: &Command) {
        if command.full_name != "multi" && !command.full_name.starts_with("client|") {
            self.caching = false;
        }
    }

    /// Those of `changed` that `client` wants to hear of.
    pub fn heard<'k>(
        &self,
        client: Client,
        changed: &'k [ChangedKey],
    ) -> impl Iterator<Item = &'k [u8]> + use<'k> {
        let no_loop = self.no_loop;
        let own = move |cause: &Option<Client>| no_loop && *cause == Some(client);
        changed.iter().filter(move |(_, cause)| !own(cause)).map(|(key, _)| &**key)
    }

    /// What CLIENT TRACKING ON asks for on top of `before`.
    ///
    /// # Errors
    ///
    /// What is asked for contradicts itself, or what was asked for before.
    pub fn on(before: Option<&Self>, asked: Self) -> Result<Self, CommandError> {
        let refuse = |text: &'static str| Err(CommandError::text(text));
        if !asked.broadcast && !asked.prefixes.is_empty() {
            return refuse("ERR PREFIX option requires BCAST mode to be enabled");
        }
        if before.is_some_and(|before| before.broadcast != asked.broadcast) {
            return refuse(
                "ERR You can't switch BCAST mode on/off before disabling tracking for this client, \
                 and then re-enabling it with a different mode.",
            );
        }
        if asked.broadcast && (asked.opt_in || asked.opt_out) {
            return refuse("ERR OPTIN and OPTOUT are not compatible with BCAST");
        }
        if asked.opt_in && asked.opt_out {
            return refuse("ERR You can't specify both OPTIN mode and OPTOUT mode");
        }
        if before.is_some_and(|b| asked.opt_in && b.opt_out || asked.opt_out && b.opt_in) {
            return refuse(
                "ERR You can't switch OPTIN/OPTOUT mode before disabling tracking for this client, \
                 and then re-enabling it with a different mode.",
            );
        }
        let known = before.map_or(&[][..], |before| &before.prefixes);
        check_prefixes(known, &asked.prefixes)?;
        let mut prefixes = known.to_vec();
        prefixes.extend(asked.prefixes);
        if asked.broadcast && prefixes.is_empty() {
            prefixes.push(Vec::new());
        }
        Ok(Self { prefixes, is_broken: false, caching: false, ..asked })
    }
}

/// That no prefix of a client begins with another one: it would be told of a key twice.
fn check_prefixes(known: &[Vec<u8>], given: &[Vec<u8>]) -> Result<(), CommandError> {
    let overlap = |one: &[u8], other: &[u8]| one.starts_with(other) || other.starts_with(one);
    let text = |prefix: &[u8]| String::from_utf8_lossy(prefix).into_owned();
    let refuse = |prefix: &[u8], kind: &str, other: &[u8]| {
        Err(CommandError::text(format!(
            "ERR Prefix '{}' overlaps with {kind} prefix '{}'. Prefixes for a single client must not \
             overlap.",
            text(prefix),
            text(other)
        )))
    };
    for (at, prefix) in given.iter().enumerate() {
        if let Some(other) = known.iter().find(|other| overlap(prefix, other)) {
            return refuse(prefix, "an existing", other);
        }
        if let Some(other) = given[at + 1..].iter().find(|other| overlap(prefix, other)) {
            return refuse(prefix, "another provided", other);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use tessera_engine::command::table;

    use super::*;

    fn get() -> &'static Command {
        table().find(b"get").unwrap()
    }

    #[test]
    fn what_is_cached_follows_the_mode_and_the_word_before_the_command() {
        let caches = |tracking: &mut Tracking| {
            let caches = tracking.caches();
            tracking.use_up(get());
            caches
        };
        let mut all = Tracking::default();
        assert!(caches(&mut all) && caches(&mut all));
        let mut some = Tracking { opt_in: true, ..Tracking::default() };
        assert!(!caches(&mut some));
        some.caching = true;
        assert!(caches(&mut some) && !caches(&mut some));
        let mut most = Tracking { opt_out: true, caching: true, ..Tracking::default() };
        assert!(!caches(&mut most) && caches(&mut most));
        let mut none = Tracking { broadcast: true, ..Tracking::default() };
        assert!(!caches(&mut none));
    }

    #[test]
    fn commands_about_clients_leave_the_word_for_the_next_one() {
        let mut some = Tracking { opt_in: true, caching: true, ..Tracking::default() };
        let client = table().find(b"client").unwrap();
        let id = client.subcommands.iter().find(|row| row.name == "id").unwrap();
        some.use_up(id);
        assert!(some.caches());
    }

    #[test]
    fn own_changes_are_heard_of_unless_they_are_not_wanted() {
        let own = Client { worker: 1, connection: 2 };
        let changed: [ChangedKey; 2] =
            [(Box::from(&b"a"[..]), Some(own)), (Box::from(&b"b"[..]), None)];
        let heard = |no_loop| {
            let tracking = Tracking { no_loop, ..Tracking::default() };
            tracking.heard(own, &changed).map(<[u8]>::to_vec).collect::<Vec<_>>()
        };
        assert_eq!(heard(false), [b"a", b"b"]);
        assert_eq!(heard(true), [b"b"]);
    }

    #[test]
    fn contradictions_are_refused() {
        let on = |before: Option<&Tracking>, asked: Tracking| {
            Tracking::on(before, asked).map_err(|error| error.to_string())
        };
        let broadcast = |prefixes: &[&[u8]]| Tracking {
            broadcast: true,
            prefixes: prefixes.iter().map(|prefix| prefix.to_vec()).collect(),
            ..Tracking::default()
        };
        let prefixes = vec![b"a".to_vec()];
        for (before, asked, error) in [
            (None, Tracking { prefixes, ..Tracking::default() }, "ERR PREFIX option requires"),
            (Some(broadcast(&[])), Tracking::default(), "ERR You can't switch BCAST mode"),
            (None, Tracking { opt_in: true, ..broadcast(&[]) }, "ERR OPTIN and OPTOUT are not"),
            (
                None,
                Tracking { opt_in: true, opt_out: true, ..Tracking::default() },
                "ERR You can't specify both",
            ),
            (
                Some(Tracking { opt_in: true, ..Tracking::default() }),
                Tracking { opt_out: true, ..Tracking::default() },
                "ERR You can't switch OPTIN/OPTOUT",
            ),
            (
                Some(broadcast(&[b"foo"])),
                broadcast(&[b"foobar"]),
                "ERR Prefix 'foobar' overlaps with an existing prefix 'foo'.",
            ),
            (
                None,
                broadcast(&[b"a", b"ab"]),
                "ERR Prefix 'a' overlaps with another provided prefix 'ab'.",
            ),
        ] {
            let refused = on(before.as_ref(), asked).unwrap_err();
            assert!(refused.starts_with(error), "{refused}");
        }
        assert_eq!(on(None, broadcast(&[])).unwrap().prefixes, [b""]);
        let more = on(Some(&broadcast(&[b"a"])), broadcast(&[b"b"])).unwrap();
        assert_eq!(more.prefixes, [b"a", b"b"]);
    }
}
