//! The listening sockets, as redis.conf describes them.
//!
//! Every worker has a socket of its own on each address, joined by SO_REUSEPORT, so that accepting
//! is not one worker's burden; [`Board`](super::Board) then evens out what the kernel's hash left
//! uneven. A Unix socket cannot be joined; the first worker listens and the board does the rest.
//!
//! SO_REUSEPORT would let a second server of the same user bind the same port and steal half of the
//! connections. So the first socket of each address is bound without it, which fails if anyone has
//! the port, and joins the group only then.
//!
//! Options of a connection (no delay, keepalive) are set on the listener, as Linux lets connections
//! inherit them: that saves four system calls a connection.

#![forbid(unsafe_code)]

use std::{
    fs, io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs},
    os::{
        fd::OwnedFd,
        unix::fs::{FileTypeExt, PermissionsExt},
    },
    path::{Path, PathBuf},
    time::Duration,
};

use socket2::{Domain, Protocol, SockAddr, Socket, TcpKeepalive, Type};

/// One word of the `bind` directive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BindAddress {
    /// An address, a host name, `*` for all IPv4 or `::*` for all IPv6 addresses.
    pub host: String,
    /// Written with a leading `-`: ignored if this machine does not have it.
    pub optional: bool,
}

impl BindAddress {
    /// Reads one word of the directive.
    pub fn parse(word: &str) -> BindAddress {
        match word.strip_prefix('-') {
            Some(host) => BindAddress { host: host.to_owned(), optional: true },
            None => BindAddress { host: word.to_owned(), optional: false },
        }
    }
}

/// Where and how to listen.
#[derive(Clone, Debug)]
pub struct ListenConfig {
    /// Empty: do not listen on TCP.
    pub bind: Vec<BindAddress>,
    /// `None`: do not listen on TCP (`port 0` of redis.conf). 0: any free port, for tests.
    pub port: Option<u16>,
    /// `unixsocket` and `unixsocketperm`.
    pub unix_socket: Option<(PathBuf, Option<u32>)>,
    /// `tcp-backlog`.
    pub backlog: i32,
    /// `tcp-keepalive` in seconds, 0 for none.
    pub keepalive: u32,
    /// This process listens on the port already, so finding it taken is no mistake.
    pub joins: bool,
}

impl Default for ListenConfig {
    /// What redis-server does without a configuration file.
    fn default() -> ListenConfig {
        ListenConfig {
            bind: ["*", "-::*"].map(BindAddress::parse).into(),
            port: Some(6379),
            unix_socket: None,
            backlog: 511,
            keepalive: 300,
            joins: false,
        }
    }
}

/// A listening socket of one worker.
#[derive(Debug)]
pub struct Listener {
    /// The socket, bound and listening.
    pub socket: OwnedFd,
    /// What it is bound to.
    pub address: ListenAddress,
}

/// What a worker listens at from now on instead of its TCP addresses so far.
///
/// An address that stays keeps its socket: closing it would reset whoever waits in its backlog.
#[derive(Debug, Default)]
pub struct Relocation {
    /// Listeners at new addresses.
    pub opened: Vec<Listener>,
    /// Addresses that stay.
    pub kept: Vec<SocketAddr>,
}

/// Where a listener listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ListenAddress {
    Tcp(SocketAddr),
    Unix(PathBuf),
}

/// Why the server cannot listen where it was told to.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    #[error(
        "Could not create server TCP listening socket {address}: {call}: {source}{}",
        cure(source)
    )]
    Tcp { address: String, call: &'static str, source: io::Error },
    #[error("Could not create server TCP listening socket {host}: {source}. Cure: correct `bind`")]
    Name { host: String, source: io::Error },
    #[error("Failed opening Unix socket {}: {source}", path.display())]
    Unix { path: PathBuf, source: io::Error },
    #[error("Configured to not listen anywhere, exiting. Cure: set `port`, `bind` or `unixsocket`")]
    Nowhere,
}

fn cure(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::AddrInUse => {
            ". Cure: another process listens there; stop it (`ss -ltnp` shows it) or choose another `port`"
        }
        io::ErrorKind::AddrNotAvailable => {
            ". Cure: this machine does not have the address; correct `bind`, or write `-` before it to ignore that"
        }
        io::ErrorKind::PermissionDenied => {
            ". Cure: ports below 1024 need CAP_NET_BIND_SERVICE; choose another `port`"
        }
        _ => "",
    }
}

/// Opens the listeners of all workers: one list a worker, in which the same place is the same address.
/// Lists of later workers are shorter if there is a Unix socket, which stands last.
pub fn open(config: &ListenConfig, workers: usize) -> Result<Vec<Vec<Listener>>, ListenError> {
    let mut lists: Vec<Vec<Listener>> = (0..workers).map(|_| Vec::new()).collect();
    if let Some(port) = config.port {
        for bind in &config.bind {
            open_tcp(config, bind, port, &mut lists)?;
        }
    }
    if let (Some((path, mode)), Some(first)) = (&config.unix_socket, lists.first_mut()) {
        first.push(open_unix(path, *mode, config.backlog)?);
    }
    if lists.first().is_some_and(Vec::is_empty) {
        return Err(ListenError::Nowhere);
    }
    Ok(lists)
}

/// What all workers have to do to listen as in `after` instead of as in `before`.
pub fn relocate(
    before: &ListenConfig,
    after: &ListenConfig,
    workers: usize,
) -> Result<Vec<Relocation>, ListenError> {
    let joins = before.port == after.port;
    let stays = |bind: &BindAddress| joins && before.bind.iter().any(|old| old.host == bind.host);
    let (staying, moving): (Vec<_>, Vec<_>) = after.bind.iter().cloned().partition(stays);
    let port = after.port.unwrap_or(0);
    let resolved = staying.iter().filter_map(|bind| resolve(&bind.host, port).ok());
    let kept: Vec<SocketAddr> = resolved.collect();
    let lists = match after.port {
        Some(_) if !moving.is_empty() => {
            let config = ListenConfig { bind: moving, unix_socket: None, joins, ..after.clone() };
            open(&config, workers)?
        }
        _ => (0..workers).map(|_| Vec::new()).collect(),
    };
    Ok(lists.into_iter().map(|opened| Relocation { opened, kept: kept.clone() }).collect())
}

/// Sets `tcp-keepalive` on a listener, for connections accepted from now on, or on a connection:
/// the first probe after `seconds`, three probes a third of that apart, as Redis has it.
pub fn set_keepalive(socket: &Socket, seconds: u32) -> io::Result<()> {
    socket.set_keepalive(seconds > 0)?;
    if seconds == 0 {
        return Ok(());
    }
    let keepalive = TcpKeepalive::new()
        .with_time(Duration::from_secs(seconds.into()))
        .with_interval(Duration::from_secs((seconds / 3).max(1).into()))
        .with_retries(3);
    socket.set_tcp_keepalive(&keepalive)
}

fn open_tcp(
    config: &ListenConfig,
    bind: &BindAddress,
    port: u16,
    lists: &mut [Vec<Listener>],
) -> Result<(), ListenError> {
    let mut address = match resolve(&bind.host, port) {
        Ok(address) => address,
        Err(_) if bind.optional => return Ok(()),
        Err(source) => return Err(ListenError::Name { host: bind.host.clone(), source }),
    };
    for (worker, list) in lists.iter_mut().enumerate() {
        let (socket, bound) = match listen_tcp(address, config, worker == 0 && !config.joins) {
            Ok(opened) => opened,
            Err((_, error)) if bind.optional && is_unavailable(&error) => return Ok(()),
            Err((call, source)) => {
                return Err(ListenError::Tcp { address: address.to_string(), call, source });
            }
        };
        // The later workers join the port that the first one got.
        address = bound;
        list.push(Listener { socket: socket.into(), address: ListenAddress::Tcp(bound) });
    }
    Ok(())
}

fn resolve(host: &str, port: u16) -> io::Result<SocketAddr> {
    match host {
        "*" => return Ok(SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), port)),
        "::*" => return Ok(SocketAddr::new(IpAddr::V6(Ipv6Addr::UNSPECIFIED), port)),
        _ => {}
    }
    (host, port).to_socket_addrs()?.next().ok_or_else(|| io::ErrorKind::NotFound.into())
}

/// Which errors a `-` before an address forgives: those that say the machine does not have it.
fn is_unavailable(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(
            libc::EADDRNOTAVAIL
                | libc::EAFNOSUPPORT
                | libc::EPROTONOSUPPORT
                | libc::ENOPROTOOPT
                | libc::EPFNOSUPPORT
                | libc::ESOCKTNOSUPPORT
        )
    )
}

type Call<T> = Result<T, (&'static str, io::Error)>;

fn listen_tcp(
    address: SocketAddr,
    config: &ListenConfig,
    first: bool,
) -> Call<(Socket, SocketAddr)> {
    let named = |call| move |error| (call, error);
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))
        .map_err(named("socket"))?;
    if address.is_ipv6() {
        socket.set_only_v6(true).map_err(named("setsockopt IPV6_V6ONLY"))?;
    }
    socket.set_reuse_address(true).map_err(named("setsockopt SO_REUSEADDR"))?;
    socket.set_reuse_port(!first).map_err(named("setsockopt SO_REUSEPORT"))?;
    socket.bind(&address.into()).map_err(named("bind"))?;
    socket.set_reuse_port(true).map_err(named("setsockopt SO_REUSEPORT"))?;
    socket.set_tcp_nodelay(true).map_err(named("setsockopt TCP_NODELAY"))?;
    set_keepalive(&socket, config.keepalive).map_err(named("setsockopt SO_KEEPALIVE"))?;
    socket.listen(config.backlog).map_err(named("listen"))?;
    let bound = socket.local_addr().map_err(named("getsockname"))?;
    Ok((socket, bound.as_socket().unwrap_or(address)))
}

fn open_unix(path: &Path, mode: Option<u32>, backlog: i32) -> Result<Listener, ListenError> {
    let failed = |source| ListenError::Unix { path: path.to_owned(), source };
    remove_stale_socket(path).map_err(failed)?;
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None).map_err(failed)?;
    socket.bind(&SockAddr::unix(path).map_err(failed)?).map_err(failed)?;
    if let Some(mode) = mode {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).map_err(failed)?;
    }
    socket.listen(backlog).map_err(failed)?;
    Ok(Listener { socket: socket.into(), address: ListenAddress::Unix(path.to_owned()) })
}

/// Removes the socket that an earlier run left behind, and nothing else than a socket.
fn remove_stale_socket(path: &Path) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Ok(found) if found.file_type().is_socket() => fs::remove_file(path),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn loopback(host: &str, port: u16) -> ListenConfig {
        ListenConfig {
            bind: host.split(' ').map(BindAddress::parse).collect(),
            port: Some(port),
            ..ListenConfig::default()
        }
    }

    fn port_of(listener: &Listener) -> u16 {
        match &listener.address {
            ListenAddress::Tcp(address) => address.port(),
            ListenAddress::Unix(_) => panic!("a TCP listener"),
        }
    }

    #[test]
    fn every_worker_listens_on_the_same_port() {
        let lists = open(&loopback("127.0.0.1", 0), 3).expect("a free port");
        assert_eq!(lists.len(), 3);
        assert!(lists.iter().all(|list| port_of(&list[0]) == port_of(&lists[0][0])));
    }

    #[test]
    fn a_port_in_use_is_an_error_that_names_the_address() {
        let lists = open(&loopback("127.0.0.1", 0), 2).expect("a free port");
        let port = port_of(&lists[0][0]);
        let error = open(&loopback("127.0.0.1", port), 2).expect_err("the port is taken");
        let text = error.to_string();
        let start = format!(
            "Could not create server TCP listening socket 127.0.0.1:{port}: bind: Address already in use"
        );
        assert!(text.starts_with(&start), "{text}");
        assert!(text.contains("Cure"), "{text}");
    }

    #[test]
    fn an_optional_address_that_is_missing_is_ignored() {
        // TEST-NET-1, which no machine has.
        let lists = open(&loopback("127.0.0.1 -192.0.2.1", 0), 1).expect("one address");
        assert_eq!(lists[0].len(), 1);
        assert!(open(&loopback("192.0.2.1", 0), 1).is_err());
        assert!(matches!(open(&loopback("-192.0.2.1", 0), 1), Err(ListenError::Nowhere)));
    }

    #[test]
    fn keepalive_and_no_delay_are_set_as_redis_does() {
        let mut lists = open(&loopback("127.0.0.1", 0), 1).expect("a free port");
        let socket = Socket::from(lists.remove(0).remove(0).socket);
        assert!(socket.keepalive().unwrap() && socket.tcp_nodelay().unwrap());
        assert_eq!(socket.tcp_keepalive_time().unwrap(), Duration::from_secs(300));
        assert_eq!(socket.tcp_keepalive_interval().unwrap(), Duration::from_secs(100));
        assert_eq!(socket.tcp_keepalive_retries().unwrap(), 3);
        set_keepalive(&socket, 0).unwrap();
        assert!(!socket.keepalive().unwrap());
    }

    #[test]
    fn a_unix_socket_gets_its_mode_and_replaces_a_stale_one() {
        let path = std::env::temp_dir().join(format!("tessera-listener-{}", std::process::id()));
        let config = ListenConfig {
            port: None,
            unix_socket: Some((path.clone(), Some(0o700))),
            ..ListenConfig::default()
        };
        drop(open(&config, 2).expect("a new socket"));
        let lists = open(&config, 2).expect("the stale socket is replaced");
        assert_eq!((lists[0].len(), lists[1].len()), (1, 0));
        let mode = fs::metadata(&path).expect("the socket").permissions().mode();
        assert_eq!(mode & 0o777, 0o700);
        fs::remove_file(&path).expect("our socket");
    }
}
