//! A blocking client: commands out, replies in, and the raw bytes for whoever wants those.
//!
//! Every wait is bounded by [`REPLY_TIMEOUT`], far beyond what a loaded machine needs: a hang is a
//! failed test, never a stuck one.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

use super::reply::{Reply, read_reply};

/// How long a reply may take before the test fails.
pub(crate) const REPLY_TIMEOUT: Duration = Duration::from_secs(60);

/// One connection. Dropping it closes it.
pub(crate) struct Client {
    input: BufReader<TcpStream>,
    output: Vec<u8>,
    raw: Vec<u8>,
}

impl Client {
    pub(crate) fn connect(address: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(REPLY_TIMEOUT))?;
        stream.set_write_timeout(Some(REPLY_TIMEOUT))?;
        Ok(Client { input: BufReader::new(stream), output: Vec::new(), raw: Vec::new() })
    }

    /// Sends one command and waits for its reply.
    #[track_caller]
    pub(crate) fn call<I>(&mut self, args: I) -> Reply
    where
        I: IntoIterator<Item: AsRef<[u8]>>,
    {
        self.push(args);
        self.flush();
        self.receive()
    }

    /// [`call`](Self::call) with the words of one line.
    #[track_caller]
    pub(crate) fn run(&mut self, line: &str) -> Reply {
        self.call(line.split_ascii_whitespace())
    }

    /// Puts one command into the pipeline; nothing is sent before [`flush`](Self::flush).
    pub(crate) fn push<I>(&mut self, args: I)
    where
        I: IntoIterator<Item: AsRef<[u8]>>,
    {
        let args: Vec<_> = args.into_iter().collect();
        encode(&mut self.output, &args);
    }

    #[track_caller]
    pub(crate) fn flush(&mut self) {
        let output = std::mem::take(&mut self.output);
        self.send_raw(&output).expect("the server takes what is sent");
    }

    /// [`flush`](Self::flush) for a server that may have ended.
    pub(crate) fn try_flush(&mut self) -> io::Result<()> {
        let output = std::mem::take(&mut self.output);
        self.send_raw(&output)
    }

    /// Sends `bytes` as they are.
    pub(crate) fn send_raw(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.input.get_mut().write_all(bytes)
    }

    /// Waits for the next reply.
    #[track_caller]
    pub(crate) fn receive(&mut self) -> Reply {
        self.try_receive().unwrap_or_else(|error| panic!("no reply: {error}"))
    }

    /// Waits for the next reply; a closed connection or broken RESP is an error.
    pub(crate) fn try_receive(&mut self) -> io::Result<Reply> {
        self.raw.clear();
        read_reply(&mut self.input, &mut self.raw)
    }

    #[track_caller]
    pub(crate) fn receive_all(&mut self, count: usize) -> Vec<Reply> {
        (0..count).map(|_| self.receive()).collect()
    }

    /// The bytes of the reply received last.
    pub(crate) fn raw(&self) -> &[u8] {
        &self.raw
    }

    /// Whether the server has closed the connection; waits until it says something.
    pub(crate) fn is_closed(&mut self) -> bool {
        match self.input.fill_buf() {
            Ok(bytes) => bytes.is_empty(),
            Err(error) => error.kind() == io::ErrorKind::ConnectionReset,
        }
    }

    /// All that the server sends until it closes the connection.
    pub(crate) fn read_to_end(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        match self.input.read_to_end(&mut bytes) {
            Ok(_) => bytes,
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => bytes,
            Err(error) => panic!("the server did not close the connection: {error}"),
        }
    }

    /// Closes this side's sending half; replies can still be read.
    pub(crate) fn finish_sending(&mut self) {
        self.input.get_ref().shutdown(Shutdown::Write).expect("an open connection");
    }

    pub(crate) fn stream(&self) -> &TcpStream {
        self.input.get_ref()
    }

    pub(crate) fn local_address(&self) -> SocketAddr {
        self.stream().local_addr().expect("a connected socket")
    }
}

/// Appends the command in RESP to `output`.
pub(crate) fn encode(output: &mut Vec<u8>, args: &[impl AsRef<[u8]>]) {
    output.extend_from_slice(format!("*{}\r\n", args.len()).as_bytes());
    for arg in args {
        let arg = arg.as_ref();
        output.extend_from_slice(format!("${}\r\n", arg.len()).as_bytes());
        output.extend_from_slice(arg);
        output.extend_from_slice(b"\r\n");
    }
}
