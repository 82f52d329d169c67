//! Telling the service manager that started us how far we are (`supervised`).
//!
//! systemd passes the path of a datagram socket in `NOTIFY_SOCKET`; upstart wants the process to
//! stop itself when it is ready, and sets `UPSTART_JOB`. With `auto` whichever is found is served.
//! Nothing here can fail the start: a manager that hears nothing says so itself.
#![forbid(unsafe_code)]

use std::{
    env,
    ffi::{OsStr, OsString},
    io,
    os::{
        linux::net::SocketAddrExt,
        unix::{
            ffi::OsStrExt,
            net::{SocketAddr, UnixDatagram},
        },
    },
};

use nix::sys::signal::{Signal, raise};

use crate::config::Supervised;

/// Says that clients are served from now on.
pub(crate) fn announce_ready(mode: Supervised) {
    let socket = env::var_os("NOTIFY_SOCKET");
    let is_upstart = env::var_os("UPSTART_JOB").is_some();
    match (mode, socket) {
        (Supervised::Systemd | Supervised::Auto, Some(socket)) => {
            tell_systemd(&socket, "STATUS=Ready to accept connections\nREADY=1\n");
        }
        (Supervised::Systemd, None) => {
            tracing::warn!("systemd supervision requested, but NOTIFY_SOCKET not found");
        }
        (Supervised::Upstart | Supervised::Auto, _) if is_upstart => {
            tracing::info!("supervised by upstart, will stop to signal readiness");
            if let Err(error) = raise(Signal::SIGSTOP) {
                tracing::warn!("cannot tell upstart of readiness: {error}");
            }
        }
        (Supervised::Upstart, _) => {
            tracing::warn!("upstart supervision requested, but UPSTART_JOB not found");
        }
        (Supervised::Auto | Supervised::No, _) => {}
    }
}

/// Says that the server is about to end, where the manager wants to know.
pub(crate) fn announce_stop(mode: Supervised) {
    if let (Supervised::Systemd | Supervised::Auto, Some(socket)) =
        (mode, env::var_os("NOTIFY_SOCKET"))
    {
        tell_systemd(&socket, "STOPPING=1\n");
    }
}

fn tell_systemd(socket: &OsString, message: &str) {
    if let Err(error) = notify(socket, message) {
        tracing::warn!("cannot notify systemd at {}: {error}", socket.display());
    }
}

/// Sends `message` to a socket named by a path, or in the abstract namespace behind an `@`.
fn notify(socket: &OsStr, message: &str) -> io::Result<()> {
    let address = match socket.as_bytes().strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name)?,
        None => SocketAddr::from_pathname(socket)?,
    };
    UnixDatagram::unbound()?.send_to_addr(message.as_bytes(), &address)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn received(address: &SocketAddr, name: &str) -> Vec<u8> {
        let socket = UnixDatagram::bind_addr(address).unwrap();
        notify(OsStr::new(name), "READY=1\n").unwrap();
        let mut bytes = [0; 64];
        let length = socket.recv(&mut bytes).unwrap();
        bytes[..length].to_vec()
    }

    #[test]
    fn a_socket_may_have_a_path() {
        let path = env::temp_dir().join(format!("tessera-notify-{}", std::process::id()));
        let address = SocketAddr::from_pathname(&path).unwrap();
        let bytes = received(&address, path.to_str().unwrap());
        std::fs::remove_file(&path).unwrap();
        assert_eq!(bytes, b"READY=1\n");
    }

    #[test]
    fn a_socket_may_be_abstract() {
        let name = format!("tessera-notify-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&name).unwrap();
        assert_eq!(received(&address, &format!("@{name}")), b"READY=1\n");
    }

    #[test]
    fn nobody_listening_is_an_error_and_no_panic() {
        assert!(notify(OsStr::new("/no/such/socket"), "READY=1\n").is_err());
    }
}
