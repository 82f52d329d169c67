//! HELLO, AUTH, PING, ECHO, SELECT, QUIT, RESET: opening, checking and ending a conversation.
#![forbid(unsafe_code)]

use tessera_engine::command::CommandError;
use tessera_proto::{Args, Protocol, ReplyBuffer, ReplyWriter, parse_i64};

use super::{
    After, Asked, Code, Everywhere, OnWorker, SessionContext, client::check_name, pubsub, tracking,
};
use crate::{acks, gather::Merge, info::REDIS_VERSION, session::ReplyMode, worker::Worker};

/// WAIT and WAITAOF.
const ACK: Code = Code::Waiting {
    now: acks::answer_now,
    on_worker: &OnWorker { run: Worker::run_ack, pack: Worker::pack_ack },
};

pub(super) const FAMILY: &[(&str, Code)] = &[
    ("auth", Code::Local(auth)),
    ("echo", Code::Local(echo)),
    ("hello", Code::Local(hello)),
    ("ping", Code::Local(ping)),
    ("quit", Code::Local(quit)),
    ("reset", Code::Everywhere(&Everywhere { ask: ask_reset, part: reset_part })),
    ("select", Code::Local(select)),
    ("wait", ACK),
    ("waitaof", ACK),
];

/// The only user as long as there are no access lists.
const DEFAULT_USER: &[u8] = b"default";

/// AUTH [user] password.
fn auth(cx: &mut SessionContext<'_>, args: &Args<'_>) -> Result<(), CommandError> {
    let (user, password) = match args.len() {
        2 if cx.shared.config.current().requirepass.is_empty() => {
            return Err(CommandError::text(
                "ERR AUTH <password> called without any password configured for the default user. \
                 Are you sure your configuration is correct?",
            ));
        }
        2 => (DEFAULT_USER, &args[1]),
        3 => (&args[1], &args[2]),
        _ => return Err(CommandError::Syntax),
    };
    authenticate(cx, user, password)?;
    cx.reply().ok();
    Ok(())
}

/// Admits the session if user and password are right. Without a configured password every
/// password is right for the default user, as in Redis.
fn authenticate(
    cx: &mut SessionContext<'_>,
    user: &[u8],
    password: &[u8],
) -> Result<(), CommandError> {
    let config = cx.shared.config.current();
    let expected = &config.requirepass;
    if user == DEFAULT_USER && (expected.is_empty() || equal_in_any_time(expected, password)) {
        cx.session.authenticated = true;
        return Ok(());
    }
    cx.shared.metrics.worker(cx.worker).counters.auth_failures.add(1);
    Err(CommandError::text("WRONGPASS invalid username-password pair or user is disabled."))
}

/// Compares without stopping at the first difference, so that the time taken tells nothing about
/// how much of a guess was right.
fn equal_in_any_time(expected: &[u8], given: &[u8]) -> bool {
    let mut difference = expected.len() ^ given.len();
    for (at, byte) in given.iter().enumerate() {
        difference |= usize::from(byte ^ expected[at % expected.len()]);
    }
    difference == 0
}

/// ECHO text.
fn echo(cx: &mut SessionContext<'_>, args: &Args<'_>) -> Result<(), CommandError> {
    cx.reply().bulk(&args[1]);
    Ok(())
}

/// HELLO [version [AUTH user password] [SETNAME name]]: everything is checked before anything
/// changes, except that a right password stays right.
fn hello(cx: &mut SessionContext<'_>, args: &Args<'_>) -> Result<(), CommandError> {
    let protocol = match args.get(1) {
        Some(version) => Some(protocol_version(version)?),
        None => None,
    };
    let options = HelloOptions::parse(args)?;
    if let Some((user, password)) = options.login {
        authenticate(cx, user, password)?;
    }
    if !cx.session.authenticated && cx.shared.wants_password() {
        return Err(CommandError::text(
            "NOAUTH HELLO must be called with the client already authenticated, otherwise the \
             HELLO <proto> AUTH <user> <pass> option can be used to authenticate the client and \
             select the RESP protocol version at the same time",
        ));
    }
    if let Some(name) = options.name {
        cx.session.name = name;
    }
    if let Some(protocol) = protocol {
        cx.session.protocol = protocol;
        cx.session.update_confinement();
    }
    greet(cx);
    Ok(())
}

fn protocol_version(text: &[u8]) -> Result<Protocol, CommandError> {
    let version = parse_i64(text)
        .ok_or(CommandError::text("ERR Protocol version is not an integer or out of range"))?;
    Protocol::from_version(version)
        .ok_or(CommandError::text("NOPROTO unsupported protocol version"))
}

/// What may follow HELLO's version.
#[derive(Default)]
struct HelloOptions<'a> {
    login: Option<(&'a [u8], &'a [u8])>,
    name: Option<String>,
}

impl<'a> HelloOptions<'a> {
    fn parse(args: &Args<'a>) -> Result<Self, CommandError> {
        let mut options = Self::default();
        let mut at = 2;
        while let Some(option) = args.get(at) {
            match (args.get(at + 1), args.get(at + 2)) {
                (Some(user), Some(password)) if option.eq_ignore_ascii_case(b"auth") => {
                    options.login = Some((user, password));
                    at += 3;
                }
                (Some(name), _) if option.eq_ignore_ascii_case(b"setname") => {
                    options.name = Some(check_name(name)?);
                    at += 2;
                }
                _ => {
                    return Err(CommandError::text(format!(
                        "ERR Syntax error in HELLO option '{}'",
                        String::from_utf8_lossy(option)
                    )));
                }
            }
        }
        Ok(options)
    }
}

/// HELLO's reply. Server and version are Redis's, since clients choose their ways by them; INFO
/// says `server_name:tessera`.
fn greet(cx: &mut SessionContext<'_>) {
    let (version, id) = (cx.session.protocol.version(), cx.session.id);
    let mut reply = cx.reply();
    reply.map(7);
    reply.bulk(b"server");
    reply.bulk(b"redis");
    reply.bulk(b"version");
    reply.bulk(REDIS_VERSION.as_bytes());
    reply.bulk(b"proto");
    reply.integer(version.into());
    reply.bulk(b"id");
    reply.integer(id as i64);
    reply.bulk(b"mode");
    reply.bulk(b"standalone");
    reply.bulk(b"role");
    reply.bulk(b"master");
    reply.bulk(b"modules");
    reply.array(0);
}

/// PING [text].
fn ping(cx: &mut SessionContext<'_>, args: &Args<'_>) -> Result<(), CommandError> {
    let mut reply = ReplyWriter::new(cx.out, cx.session.protocol);
    if args.len() <= 2 && pubsub::pong(cx.session, args.get(1), &mut reply) {
        return Ok(());
    }
    match args.len() {
        1 => cx.reply().simple("PONG"),
        2 => cx.reply().bulk(&args[1]),
        _ => return Err(CommandError::WrongArity { command: "ping".into() }),
    }
    Ok(())
}

/// QUIT: the connection ends once this and all earlier replies are sent.
fn quit(cx: &mut SessionContext<'_>, _: &Args<'_>) -> Result<(), CommandError> {
    cx.reply().ok();
    cx.after = After::Close;
    Ok(())
}

/// RESET.
fn ask_reset(cx: &mut SessionContext<'_>, _: &Args<'_>) -> Result<Asked, CommandError> {
    // It ends CLIENT REPLY OFF, so it is answered itself.
    cx.answers_anyway = cx.session.reply_mode == ReplyMode::Off;
    let without_password = cx.shared.config.current().requirepass.is_empty();
    let mut parts = pubsub::leave(cx);
    if let Some(args) = tracking::leave(cx) {
        parts.extend((0..cx.map.shards() as u32).map(|shard| (shard, args.clone())));
    }
    cx.session.reset(without_password);
    if parts.is_empty() {
        cx.reply().simple("RESET");
        return Ok(Asked::Answered);
    }
    let finish = |_: &[ReplyBuffer], reply: &mut ReplyWriter<'_>| reply.simple("RESET");
    Ok(Asked::Parts { parts, merge: Merge::Custom(Box::new(finish)) })
}

/// A shard is told of subscriptions that end, or that the client tracks keys no more.
fn reset_part(worker: &mut Worker, args: &Args<'_>, reply: &mut ReplyWriter<'_>) {
    match args.len() {
        3 => tracking::tracking_part(worker, args, reply),
        _ => pubsub::change_part(worker, args, reply),
    }
}

/// SELECT index.
fn select(cx: &mut SessionContext<'_>, args: &Args<'_>) -> Result<(), CommandError> {
    let index = parse_i64(&args[1]).ok_or(CommandError::NotAnInteger)?;
    if i32::try_from(index).is_err() {
        return Err(CommandError::text(format!(
            "ERR value is out of range, value must between {} and {}",
            i32::MIN,
            i32::MAX
        )));
    }
    let database = u32::try_from(index).ok();
    let databases = cx.shared.config.current().databases;
    cx.session.database = database
        .filter(|&database| database < databases)
        .ok_or(CommandError::DatabaseOutOfRange)?;
    cx.reply().ok();
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_are_compared_whole() {
        assert!(equal_in_any_time(b"secret", b"secret"));
        for guess in [&b"secre"[..], b"secrets", b"Secret", b"", b"secretsecret"] {
            assert!(!equal_in_any_time(b"secret", guess));
        }
    }

    #[test]
    fn protocol_versions_other_than_2_and_3_are_refused() {
        assert_eq!(protocol_version(b"3").unwrap(), Protocol::Resp3);
        let error = protocol_version(b"4").unwrap_err().to_string();
        assert_eq!(error, "NOPROTO unsupported protocol version");
        let error = protocol_version(b"x").unwrap_err().to_string();
        assert_eq!(error, "ERR Protocol version is not an integer or out of range");
    }
}
