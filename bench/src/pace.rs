//! Load at a fixed rate over several connections, with the latency of every request.
//!
//! Why not a load tool: those that are there either send as fast as they can, or print percentiles
//! of a whole run only; here the run ends when the server has done something.
//!
//! A request is sent when it is due, on a connection that waits for nothing. Where all of them wait,
//! it is late, and its latency counts from when it was due: so a pause of the server is seen by every
//! request that falls into it, and not by one for each connection alone.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

/// A pause after which a server counts as dead.
const SILENCE_MAX: Duration = Duration::from_secs(60);

/// Latencies of requests.
pub(crate) struct Latencies {
    /// When the load began.
    pub(crate) start: Instant,
    /// By when they were due: seconds since the start, milliseconds.
    requests: Vec<(f64, f64)>,
    /// Milliseconds, in order.
    sorted: Vec<f64>,
}

impl Latencies {
    fn new(start: Instant, mut requests: Vec<(f64, f64)>) -> Self {
        requests.sort_by(|one, other| one.0.total_cmp(&other.0));
        let mut sorted: Vec<f64> = requests.iter().map(|&(_, latency)| latency).collect();
        sorted.sort_by(f64::total_cmp);
        Self { start, requests, sorted }
    }

    /// The latency in milliseconds that the part `part` of all requests does not exceed.
    pub(crate) fn at(&self, part: f64) -> f64 {
        let last = self.sorted.len().saturating_sub(1) as f64;
        self.sorted.get((last * part).round() as usize).copied().unwrap_or(0.0)
    }

    /// How many there are.
    pub(crate) fn count(&self) -> usize {
        self.sorted.len()
    }

    /// Those of requests that were due between two moments, in seconds.
    pub(crate) fn between(&self, from: f64, to: f64) -> Self {
        let within = self.requests.iter().filter(|(due, _)| (from..=to).contains(due));
        Self::new(self.start, within.copied().collect())
    }

    /// The worst latency of each stretch of `seconds`.
    pub(crate) fn worst_of_each(&self, seconds: f64) -> Vec<(f64, f64)> {
        let stretch = |due: f64| (due / seconds).floor();
        let stretches = self.requests.chunk_by(|one, other| stretch(one.0) == stretch(other.0));
        let worst = |all: &[(f64, f64)]| all.iter().map(|it| it.1).fold(0.0, f64::max);
        stretches.map(|all| (stretch(all[0].0) * seconds, worst(all))).collect()
    }
}

/// One connection with at most one request on its way.
struct Lane {
    stream: TcpStream,
    /// When the request on its way was due.
    due: Option<Instant>,
    input: Vec<u8>,
}

/// Load at `rate` requests a second over `connections` connections, until `is_over` says so, which
/// hears how long it has gone on. `write` appends the n-th request, whose reply is one line or a
/// bulk string.
pub(crate) fn run(
    address: SocketAddr,
    connections: usize,
    rate: f64,
    mut write: impl FnMut(u64, &mut Vec<u8>),
    is_over: impl Fn(Duration) -> bool,
) -> io::Result<Latencies> {
    let mut lanes =
        (0..connections).map(|_| Lane::open(address)).collect::<io::Result<Vec<_>>>()?;
    let mut free: VecDeque<usize> = (0..connections).collect();
    let mut busy: Vec<usize> = Vec::new();
    let (mut latencies, mut output) = (Vec::new(), Vec::new());
    let (start, mut sent, mut heard) = (Instant::now(), 0u64, Instant::now());
    let mut stops = false;
    while !stops || !busy.is_empty() {
        busy.retain(|&lane| match lanes[lane].receive() {
            Ok(Some(latency)) => {
                latencies.push(Ok(latency));
                free.push_back(lane);
                heard = Instant::now();
                false
            }
            Ok(None) => true,
            Err(error) => {
                latencies.push(Err(error));
                false
            }
        });
        let due = start + Duration::from_secs_f64(sent as f64 / rate);
        if !stops && Instant::now() >= due {
            stops = is_over(start.elapsed());
            if let Some(lane) = free.pop_front() {
                output.clear();
                write(sent, &mut output);
                lanes[lane].send(&output, due)?;
                busy.push(lane);
                sent += 1;
            }
        }
        if heard.elapsed() > SILENCE_MAX {
            return Err(ErrorKind::TimedOut.into());
        }
    }
    let requests = latencies.into_iter().collect::<io::Result<Vec<(Instant, f64)>>>()?;
    let since_start = |(due, latency): (Instant, f64)| ((due - start).as_secs_f64(), latency);
    Ok(Latencies::new(start, requests.into_iter().map(since_start).collect()))
}

impl Lane {
    fn open(address: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        Ok(Self { stream, due: None, input: Vec::new() })
    }

    fn send(&mut self, request: &[u8], due: Instant) -> io::Result<()> {
        self.due = Some(due);
        // Requests are far smaller than a socket's buffer, and only one is on its way.
        self.stream.write_all(request)
    }

    /// When the request on its way was due and its latency in milliseconds, if its reply is here.
    fn receive(&mut self) -> io::Result<Option<(Instant, f64)>> {
        let mut bytes = [0; 4096];
        match self.stream.read(&mut bytes) {
            Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
            Ok(len) => self.input.extend_from_slice(&bytes[..len]),
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(None),
            Err(error) => return Err(error),
        }
        if !is_whole(&self.input)? {
            return Ok(None);
        }
        self.input.clear();
        Ok(self.due.take().map(|due| (due, due.elapsed().as_secs_f64() * 1e3)))
    }
}

/// Whether `reply` is all of a line or a bulk string.
fn is_whole(reply: &[u8]) -> io::Result<bool> {
    let Some(line) = reply.iter().position(|&byte| byte == b'\n').map(|end| &reply[..end - 1])
    else {
        return Ok(false);
    };
    match line.split_first() {
        Some((b'-', text)) => Err(io::Error::other(String::from_utf8_lossy(text).into_owned())),
        Some((b'$', len)) => {
            let len = std::str::from_utf8(len).ok().and_then(|len| len.parse::<i64>().ok());
            let body = usize::try_from(len.ok_or(ErrorKind::InvalidData)?);
            Ok(body.map_or(true, |body| reply.len() >= line.len() + 2 + body + 2))
        }
        _ => Ok(true),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replies_are_told_from_their_beginnings() {
        for whole in ["+OK\r\n", ":5\r\n", "$-1\r\n", "$2\r\nab\r\n", "$0\r\n\r\n"] {
            assert!(is_whole(whole.as_bytes()).unwrap());
            assert!(!is_whole(&whole.as_bytes()[..whole.len() - 1]).unwrap(), "{whole}");
        }
        assert!(is_whole(b"-ERR no\r\n").is_err());
    }

    #[test]
    fn percentiles_are_those_of_sorted_latencies() {
        let at = |n: u32| (f64::from(n) / 100.0, f64::from(n));
        let latencies = Latencies::new(Instant::now(), (0..=1000).rev().map(at).collect());
        assert_eq!(
            (latencies.at(0.5), latencies.at(0.999), latencies.at(1.0)),
            (500.0, 999.0, 1000.0)
        );
        assert_eq!(latencies.count(), 1001);
        let some = latencies.between(1.0, 2.0);
        assert_eq!((some.count(), some.at(0.0), some.at(1.0)), (101, 100.0, 200.0));
        assert_eq!(some.worst_of_each(0.75), [(0.75, 149.0), (1.5, 200.0)]);
        assert_eq!(Latencies::new(Instant::now(), Vec::new()).at(0.5), 0.0);
    }
}
