//! A TCP port that no other test of this machine uses.
//!
//! Binding port 0 and closing it again is not enough: the server listens with SO_REUSEPORT, so a
//! second server on the same port would start without an error and take half of the connections.
//! Each port is therefore claimed by an abstract Unix socket of the same number, which the kernel
//! gives back when the claim is dropped or its process dies.
//!
//! Invariant: ports lie below the ephemeral range (32768 and up on Linux), so that no outgoing
//! connection of the machine takes one between the claim and the server's bind.

use std::net::TcpListener;
use std::ops::Range;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener};

const PORTS: Range<u16> = 20_000..32_000;
const ATTEMPTS_MAX: usize = 1_000;

/// Holds a port for as long as it lives.
pub(crate) struct PortClaim {
    port: u16,
    _claim: UnixListener,
}

impl PortClaim {
    /// Claims a port on which nobody listens now.
    pub(crate) fn new() -> Self {
        (0..ATTEMPTS_MAX)
            .find_map(|_| Self::try_claim(fastrand::u16(PORTS)))
            .expect("a free port between 20000 and 32000")
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    fn try_claim(port: u16) -> Option<Self> {
        let name = SocketAddr::from_abstract_name(format!("tessera-test-port-{port}")).ok()?;
        let claim = UnixListener::bind_addr(&name).ok()?;
        TcpListener::bind(("127.0.0.1", port)).ok()?;
        Some(PortClaim { port, _claim: claim })
    }
}

#[test]
fn a_claimed_port_is_not_claimed_twice() {
    let claim = PortClaim::new();
    assert!(PortClaim::try_claim(claim.port()).is_none());
}
