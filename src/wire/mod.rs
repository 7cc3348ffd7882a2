//! Bytes to typed messages and back; no I/O, no storage, no clock.
//!
//! ```text
//! bytes -> next_frame -> ClientHello::parse            (first frame)
//!                     -> decode -> Message -> Request  (every other frame)
//! Reply, Exception, ServerCall -> encode_reply, encode_error, encode_call -> bytes
//! ```
//!
//! and as a client of another server, the same the other way round:
//!
//! ```text
//! Request -> encode_request -> bytes
//! bytes -> next_frame -> Format::of_server                  (first frame)
//!                     -> decode_server -> ServerMessage     (every other frame)
//! ```
//!
//! A message is a 4-tuple (id, flag, method, arguments) in one of two formats,
//! agreed in the handshake. Both formats are read into one fixed-size list of
//! arguments, from which `request/` builds the typed request, so a method is
//! described once. What stock clients send is read without an allocation per
//! field (`pickle/fast`, `msgpack/read`); any other legal pickle goes through
//! the machine of `pickle/machine`, which executes nothing and whose memory is
//! bounded by the constants beside it.

mod cursor;
mod encoder;
mod exception;
mod frame;
mod handshake;
mod msgpack;
mod pickle;
mod record_class;
mod remote_exception;
mod reply;
mod request;
mod server_message;
mod value;

pub use encoder::EncodeError;
pub use exception::Exception;
pub use frame::{FRAME_HEADER_BYTES, FrameError, FrameStep, next_frame, put_frame};
pub use handshake::{ClientHello, Format, GreetingError, HandshakeError, is_tls};
pub use pickle::{
    PickleError, PickleFault, read_dict_lenient, read_prefix, read_value, write_value,
};
pub use record_class::class_name;
pub use remote_exception::RemoteException;
pub use reply::{Conflict, LEADERSHIP, Reply, ServerCall, encode_call, encode_error, encode_reply};
pub use request::{
    DecodeError, Message, MessageId, Method, Request, TransactionKey, decode, encode_heartbeat,
    encode_request,
};
pub use server_message::{ServerFault, ServerMessage, ServerNotice, decode_server};
pub use value::{Value, prefix_matches};
