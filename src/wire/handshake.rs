use super::frame::FRAME_HEADER_BYTES;

/// How messages are written on a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Format {
    /// Pickle protocol 3: `Z5`.
    Pickle,
    /// MessagePack: `M5`.
    Msgpack,
}

impl Format {
    /// What the server says first, and a client repeats to agree.
    pub const fn greeting(self) -> &'static [u8] {
        match self {
            Self::Pickle => b"Z5",
            Self::Msgpack => b"M5",
        }
    }
}

/// A server's first frame that names no protocol of ours.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the server speaks the protocol \"{protocol}\"; a server of ZEO 5 or later is needed")]
pub struct GreetingError {
    /// What the server sent, escaped and shortened.
    pub protocol: String,
}

impl Format {
    /// The format that a client answers to a server's first frame. A newer
    /// protocol than ours is answered with ours, as ZEO's client does.
    pub fn of_server(greeting: &[u8]) -> Result<Self, GreetingError> {
        const PROTOCOL: &[u8] = b"5";
        match greeting.split_first() {
            Some((b'Z', version)) if version >= PROTOCOL => Ok(Self::Pickle),
            Some((b'M', version)) if version >= PROTOCOL => Ok(Self::Msgpack),
            _ => Err(GreetingError {
                protocol: shortened(greeting),
            }),
        }
    }
}

/// The first frame of a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientHello {
    /// A ZEO client, and the format that it will write.
    Speak(Format),
    /// A monitor that asks for the status as JSON and nothing else.
    Ruok,
}

/// A first frame that names no protocol of ours.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the client asks for the protocol \"{protocol}\", which is not served")]
pub struct HandshakeError {
    /// What the client sent, escaped and shortened.
    pub protocol: String,
}

/// So much of an unknown protocol's name is shown.
const SHOWN_BYTES: usize = 40;

impl ClientHello {
    /// Reads the payload of a client's first frame.
    pub fn parse(payload: &[u8]) -> Result<Self, HandshakeError> {
        match payload {
            b"Z5" => Ok(Self::Speak(Format::Pickle)),
            b"M5" => Ok(Self::Speak(Format::Msgpack)),
            b"ruok" => Ok(Self::Ruok),
            _ => Err(HandshakeError {
                protocol: shortened(payload),
            }),
        }
    }
}

/// What a peer called its protocol, for a message.
fn shortened(payload: &[u8]) -> String {
    let start = payload.get(..SHOWN_BYTES);
    let mut protocol = start.unwrap_or(payload).escape_ascii().to_string();
    if start.is_some_and(|start| start.len() < payload.len()) {
        protocol.push_str("...");
    }
    protocol
}

/// Are these the first bytes of a client that begins a TLS handshake? As a
/// frame's length they would be too much for a greeting.
pub fn is_tls(start: [u8; FRAME_HEADER_BYTES]) -> bool {
    const HANDSHAKE_RECORD: [u8; 2] = [0x16, 3];
    start.starts_with(&HANDSHAKE_RECORD)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn knows_both_formats_and_the_monitor() {
        for format in [Format::Pickle, Format::Msgpack] {
            assert_eq!(
                ClientHello::parse(format.greeting()),
                Ok(ClientHello::Speak(format))
            );
        }
        assert_eq!(ClientHello::parse(b"ruok"), Ok(ClientHello::Ruok));
    }

    #[test]
    fn a_client_answers_what_it_can_speak() {
        assert_eq!(Format::of_server(b"Z5"), Ok(Format::Pickle));
        assert_eq!(Format::of_server(b"M5"), Ok(Format::Msgpack));
        assert_eq!(Format::of_server(b"Z6"), Ok(Format::Pickle));
        for old in [&b"Z4"[..], b"Z309", b"Z3101", b"X5", b"5", b""] {
            assert!(Format::of_server(old).is_err(), "{old:?}");
        }
    }

    #[test]
    fn tells_tls_from_a_length() {
        assert!(is_tls([0x16, 3, 1, 2]) && is_tls([0x16, 3, 3, 0]));
        assert!(!is_tls([0, 0, 0, 2]) && !is_tls([0x16, 2, 3, 3]));
    }

    #[test]
    fn names_a_foreign_protocol_shortened() {
        let error = ClientHello::parse(b"Z4").unwrap_err();
        assert_eq!(error.protocol, "Z4");
        let error = ClientHello::parse(&[0xff; 4000]).unwrap_err();
        assert!(error.protocol.len() < 200 && error.protocol.ends_with("..."));
        assert!(ClientHello::parse(b"").is_err());
    }
}
