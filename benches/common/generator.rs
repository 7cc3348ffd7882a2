//! A registered connection that sends encoded requests and checks each reply.

use std::io::{self, Write};
use std::net::SocketAddr;
use std::time::Duration;

use serde_pickle::Value;

use crate::raw_client::{self, RawClient, Reply, head, int, push_request};
use crate::wire::{self, CommitIds, Object};

/// A server that says nothing for so long fails the benchmark. Python's queue
/// of committers lets a writer wait for seconds, which is a result, not a failure.
const PATIENCE: Duration = Duration::from_mins(1);

/// Why the benchmark cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("{method} was answered by {error}")]
    ErrorReply { method: &'static str, error: String },
    #[error("{method}: {what}")]
    Unexpected { method: &'static str, what: String },
    #[error("{0}")]
    Setup(String),
}

/// One client of a server.
pub struct Connection {
    client: RawClient,
    last_id: i32,
    last_transaction: i32,
    out: Vec<u8>,
}

impl Connection {
    /// Connects and registers for storage 1.
    pub fn open(address: SocketAddr, read_only: bool) -> Result<Self, Failure> {
        let mut client = RawClient::open(address, "1", read_only)?;
        client.parts().0.set_read_timeout(Some(PATIENCE))?;
        Ok(Self {
            client,
            last_id: 0,
            last_transaction: 0,
            out: Vec::new(),
        })
    }

    /// For loops that do their own reading and writing.
    pub fn client(&mut self) -> &mut RawClient {
        &mut self.client
    }

    /// Oids that nothing else uses.
    pub fn new_oids(&mut self) -> Result<Vec<[u8; 8]>, Failure> {
        let value = self.call("new_oids", &wire::one(b"Kd"))?;
        let Value::List(oids) = value else {
            return Err(unexpected("new_oids", &value));
        };
        oids.iter().map(|oid| expect_tid("new_oids", oid)).collect()
    }

    /// Commits a new revision of the objects and moves their serials on.
    pub fn commit(&mut self, objects: &mut [Object], record: &[u8]) -> Result<[u8; 8], Failure> {
        let ids = self.next_commit();
        self.out.clear();
        wire::push_commit(&mut self.out, ids, objects, record);
        self.send()?;
        self.finish(ids, objects)
    }

    /// Awaits the vote and ends the commit.
    pub fn finish(&mut self, ids: CommitIds, objects: &mut [Object]) -> Result<[u8; 8], Failure> {
        match self.reply("vote", ids.vote)? {
            Value::List(serials) if serials.is_empty() => {}
            Value::None => {}
            other => return Err(unexpected("vote", &other)),
        }
        self.out.clear();
        wire::push_finish(&mut self.out, ids);
        self.send()?;
        let tid = expect_tid("tpc_finish", &self.reply("tpc_finish", ids.finish)?)?;
        for object in objects {
            if tid <= object.serial {
                return Err(Failure::Unexpected {
                    method: "tpc_finish",
                    what: "a tid that is not above the last one".into(),
                });
            }
            object.serial = tid;
        }
        Ok(tid)
    }

    /// Ids that this connection has not used; the stock client too counts up.
    pub fn next_commit(&mut self) -> CommitIds {
        self.last_transaction += 1;
        self.last_id += 2;
        CommitIds {
            transaction: self.last_transaction,
            vote: self.last_id - 1,
            finish: self.last_id,
        }
    }

    /// Calls and returns the reply's value.
    pub fn call(&mut self, method: &'static str, arguments: &[u8]) -> Result<Value, Failure> {
        self.last_id += 1;
        self.out.clear();
        push_request(&mut self.out, &int(self.last_id), false, method, arguments);
        self.send()?;
        self.reply(method, self.last_id)
    }

    fn send(&mut self) -> io::Result<()> {
        self.client.parts().0.write_all(&self.out)
    }

    /// The reply with the given id; invalidations before it are dropped.
    fn reply(&mut self, method: &'static str, id: i32) -> Result<Value, Failure> {
        let (stream, frames) = self.client.parts();
        loop {
            while let Some(payload) = frames.next()? {
                match head(payload) {
                    Some(head) if head.method != b".reply" => {}
                    Some(head) if head.int_id() == Some(id) => return value(method, payload),
                    _ => return Err(misplaced(method, payload)),
                }
            }
            frames.fill(stream)?;
        }
    }
}

fn value(method: &'static str, payload: &[u8]) -> Result<Value, Failure> {
    match raw_client::decode(payload)? {
        Reply::Value(value) => Ok(value),
        Reply::Error(error) => Err(Failure::ErrorReply { method, error }),
    }
}

/// The failure that a reply stands for which is an error or not the one awaited.
pub fn misplaced(method: &'static str, payload: &[u8]) -> Failure {
    match value(method, payload) {
        Err(failure) => failure,
        Ok(value) => unexpected(method, &value),
    }
}

fn unexpected(method: &'static str, value: &Value) -> Failure {
    // A record of 1 kB is not worth printing in full.
    let what = value.to_string().chars().take(200).collect::<String>();
    Failure::Unexpected {
        method,
        what: format!("an unexpected reply {what}"),
    }
}

/// The tid, or oid, that a reply is.
pub fn expect_tid(method: &'static str, value: &Value) -> Result<[u8; 8], Failure> {
    if let Value::Bytes(bytes) = value
        && let Ok(tid) = <[u8; 8]>::try_from(bytes.as_slice())
    {
        return Ok(tid);
    }
    Err(unexpected(method, value))
}
