//! Asks a running server how it is, by the greeting `ruok`.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use crate::config::{Address, ZeoSection};
use crate::wire;

/// How long connecting and each answer may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// More than that is no answer.
const MAX_ANSWER_BYTES: u64 = 16 << 20;

/// The address, and a line for each storage.
pub fn storages(zeo: &ZeoSection) -> Result<String, String> {
    let address = &zeo.address;
    if zeo.ssl.is_some() {
        return Ok(format!("{address}, encrypted"));
    }
    let answer = match address {
        Address::Tcp { port: 0, .. } => {
            return Ok("a port that the system chose; its log says which".to_owned());
        }
        Address::Tcp { host, port } => {
            let host = host.as_deref().unwrap_or("localhost");
            connected(host, *port).and_then(ruok)
        }
        Address::Unix(path) => UnixStream::connect(path).and_then(|stream| {
            stream.set_read_timeout(Some(PATIENCE))?;
            ruok(stream)
        }),
    };
    let answer = answer.map_err(|error| format!("{address}: {error}"))?;
    described(&answer).map(|lines| format!("{address}{lines}"))
}

fn connected(host: &str, port: u16) -> io::Result<TcpStream> {
    use std::net::ToSocketAddrs as _;
    let mut last_error = io::Error::from(io::ErrorKind::NotFound);
    for address in (host, port).to_socket_addrs()? {
        match TcpStream::connect_timeout(&address, PATIENCE) {
            Ok(stream) => {
                stream.set_read_timeout(Some(PATIENCE))?;
                return Ok(stream);
            }
            Err(error) => last_error = error,
        }
    }
    Err(last_error)
}

fn ruok(mut stream: impl Read + Write) -> io::Result<Vec<u8>> {
    read_frame(&mut stream)?;
    let mut question = Vec::new();
    wire::put_frame(&mut question, b"ruok");
    stream.write_all(&question)?;
    read_frame(&mut stream)
}

fn read_frame(stream: &mut impl Read) -> io::Result<Vec<u8>> {
    let mut header = [0; wire::FRAME_HEADER_BYTES];
    stream.read_exact(&mut header)?;
    let length = u64::from(u32::from_be_bytes(header));
    let mut payload = Vec::new();
    if length <= MAX_ANSWER_BYTES {
        stream.take(length).read_to_end(&mut payload)?;
    }
    if payload.len() as u64 == length {
        Ok(payload)
    } else {
        Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "this is no ZEO server",
        ))
    }
}

fn described(answer: &[u8]) -> Result<String, String> {
    let status: serde_json::Map<String, serde_json::Value> = serde_json::from_slice(answer)
        .map_err(|error| format!("its status is unreadable: {error}"))?;
    let line = |(name, status): (&String, &serde_json::Value)| {
        let count = |key: &str| {
            status
                .get(key)
                .and_then(serde_json::Value::as_u64)
                .unwrap_or(0)
        };
        let last = status
            .get("last-transaction")
            .and_then(serde_json::Value::as_str);
        format!(
            "\n  storage {name}: {} connections, {} commits, last transaction {}",
            count("connections"),
            count("commits"),
            last.unwrap_or("unknown")
        )
    };
    Ok(status.iter().map(line).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_becomes_a_line_for_each_storage() {
        let answer =
            br#"{"1": {"connections": 2, "commits": 3, "last-transaction": "00ff"}, "b": {}}"#;
        let lines = described(answer).unwrap();
        assert_eq!(
            lines,
            "\n  storage 1: 2 connections, 3 commits, last transaction 00ff\
             \n  storage b: 0 connections, 0 commits, last transaction unknown"
        );
        assert!(
            described(b"HTTP/1.1 400")
                .unwrap_err()
                .contains("unreadable")
        );
    }

    #[test]
    fn a_frame_that_is_cut_short_or_too_long_is_refused() {
        let read = |bytes: &[u8]| read_frame(&mut &bytes[..]);
        assert_eq!(read(b"\0\0\0\x02Z5").unwrap(), b"Z5");
        assert!(read(b"\0\0\0\x03Z5").is_err());
        assert!(read(b"HTTP/1.1").is_err());
    }
}
