//! A small blocking RESP2 client: bulk loading, single commands, latencies.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// Commands on their way at once while loading.
const LOAD_DEPTH: usize = 256;
const TIMEOUT: Duration = Duration::from_secs(120);

/// One connection.
pub(crate) struct Client {
    input: BufReader<TcpStream>,
    output: Vec<u8>,
    line: Vec<u8>,
}

impl Client {
    pub(crate) fn connect(address: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(TIMEOUT))?;
        let input = BufReader::with_capacity(1 << 12, stream);
        Ok(Client { input, output: Vec::new(), line: Vec::new() })
    }

    /// Sends one command and returns its reply: a status, a number, a string, or nothing for the
    /// null reply and for aggregates, whose elements are read and dropped.
    ///
    /// # Errors
    /// The connection's, and the server's error replies.
    pub(crate) fn call(&mut self, args: &[&str]) -> io::Result<String> {
        encode(&mut self.output, args.iter().map(|arg| arg.as_bytes()));
        self.flush()?;
        let bytes = self.receive()?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// Sends all commands in pipelines and checks that no reply is an error. `write` appends the
    /// n-th command to the buffer.
    pub(crate) fn load(
        &mut self,
        count: u64,
        mut write: impl FnMut(u64, &mut Vec<u8>),
    ) -> io::Result<()> {
        for first in (0..count).step_by(LOAD_DEPTH) {
            let numbers = first..count.min(first + LOAD_DEPTH as u64);
            numbers.clone().for_each(|n| write(n, &mut self.output));
            self.flush()?;
            for _ in numbers {
                self.receive()?;
            }
        }
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.input.get_mut().write_all(&self.output)?;
        self.output.clear();
        Ok(())
    }

    fn receive(&mut self) -> io::Result<Vec<u8>> {
        self.line.clear();
        self.input.read_until(b'\n', &mut self.line)?;
        let text = self.line.trim_ascii_end();
        let Some((&kind, rest)) = text.split_first() else {
            return Err(io::ErrorKind::UnexpectedEof.into());
        };
        let length = || std::str::from_utf8(rest).ok().and_then(|text| text.parse::<i64>().ok());
        match kind {
            b'+' | b':' => Ok(rest.to_vec()),
            b'-' => Err(io::Error::other(String::from_utf8_lossy(rest).into_owned())),
            b'$' => match length().and_then(|length| usize::try_from(length).ok()) {
                Some(length) => {
                    let mut bytes = vec![0; length + 2];
                    self.input.read_exact(&mut bytes)?;
                    bytes.truncate(length);
                    Ok(bytes)
                }
                None => Ok(Vec::new()),
            },
            b'*' => {
                for _ in 0..length().unwrap_or(0) {
                    self.receive()?;
                }
                Ok(Vec::new())
            }
            _ => Err(io::ErrorKind::InvalidData.into()),
        }
    }
}

/// Appends a command in RESP.
pub(crate) fn encode<'a>(
    output: &mut Vec<u8>,
    args: impl IntoIterator<Item = &'a [u8], IntoIter: ExactSizeIterator>,
) {
    let args = args.into_iter();
    append(output, format_args!("*{}\r\n", args.len()));
    for arg in args {
        append(output, format_args!("${}\r\n", arg.len()));
        output.extend_from_slice(arg);
        output.extend_from_slice(b"\r\n");
    }
}

fn append(output: &mut Vec<u8>, text: std::fmt::Arguments<'_>) {
    // Writing to memory does not fail.
    let _ = output.write_fmt(text);
}

/// The n-th key: 16 bytes, as redis-benchmark's `key:__rand_int__` makes them.
pub(crate) fn key(n: u64) -> String {
    format!("key:{n:012}")
}
