//! The limit: what a server could do at best that answers without looking.
//!
//! Blocking threads, one per connection, that read in bulk, find each
//! message's id and method, and answer all complete frames of one read with
//! one write. A commit costs one append of as many bytes as were stored and one
//! fdatasync; nothing is batched across connections. Only connections that
//! registered read-only are told of commits, so that the writers' rows show
//! the commits alone.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use crate::raw_client::{FrameReader, Head, Z5, head, push_frame};
use crate::wire::{self, RECORD_BYTES};

/// The first argument that makes the bench's own program this server.
pub const SUBCOMMAND: &str = "limit-server";

/// An append of more than this is cut: no row stores that much at once.
const MAX_APPEND_BYTES: usize = 1 << 20;
/// Flag and name of a successful reply; they stand behind its message id.
const REPLY: &[u8] = b"K\x00X\x06\x00\x00\x00.reply";
/// The pickle of True.
const NEW_TRUE: u8 = 0x88;
const OIDS_PER_CALL: u64 = 100;

/// Serves until stdin ends, which it does when the bench has gone.
pub fn main(file: &Path, address_file: &Path) -> io::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let shared = Arc::new(Shared::new(file)?);
    fs::write(address_file, format!("zeo {}\n", listener.local_addr()?))?;
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let shared = Arc::clone(&shared);
            thread::spawn(move || {
                // A client that leaves ends its thread; that is no failure.
                let _ = Connection::new(stream, shared).and_then(Connection::serve);
            });
        }
    });
    io::stdin().read_to_end(&mut Vec::new())?;
    Ok(())
}

/// What all connections share.
struct Shared {
    file: File,
    /// `loadBefore`'s answer behind the message id.
    load_answer: Vec<u8>,
    append: Vec<u8>,
    last_tid: AtomicU64,
    last_oid: AtomicU64,
    listeners: Mutex<Vec<Arc<Mutex<TcpStream>>>>,
}

impl Shared {
    fn new(file: &Path) -> io::Result<Self> {
        let first_tid = 1_u64 << 56;
        let mut load_answer = REPLY.to_vec();
        wire::push_bytes(&mut load_answer, &wire::record());
        wire::push_bytes(&mut load_answer, &first_tid.to_be_bytes());
        load_answer.extend_from_slice(b"N\x87t.");
        Ok(Self {
            file: OpenOptions::new().append(true).create(true).open(file)?,
            load_answer,
            append: vec![b'x'; MAX_APPEND_BYTES],
            last_tid: AtomicU64::new(first_tid),
            last_oid: AtomicU64::new(0),
            listeners: Mutex::new(Vec::new()),
        })
    }

    fn commit(&self, size_bytes: usize) -> io::Result<[u8; 8]> {
        let size_bytes = size_bytes.clamp(RECORD_BYTES, MAX_APPEND_BYTES);
        (&self.file).write_all(&self.append[..size_bytes])?;
        self.file.sync_data()?;
        Ok((self.last_tid.fetch_add(1, Ordering::Relaxed) + 1).to_be_bytes())
    }

    /// Tells the listeners of a commit and forgets those that are gone.
    fn broadcast(&self, tid: [u8; 8]) {
        let mut message = Vec::new();
        push_frame(&mut message, |out| {
            out.extend_from_slice(b"\x80\x03(K\x00K\x01X\x15\x00\x00\x00invalidateTransaction");
            wire::push_bytes(out, &tid);
            out.push(b']');
            wire::push_bytes(out, &[0; 8]);
            out.extend_from_slice(b"a\x86t.");
        });
        lock(&self.listeners).retain(|stream| lock(stream).write_all(&message).is_ok());
    }

    fn new_oids(&self, out: &mut Vec<u8>) {
        let first = self.last_oid.fetch_add(OIDS_PER_CALL, Ordering::Relaxed) + 1;
        out.extend_from_slice(b"](");
        for oid in first..first + OIDS_PER_CALL {
            wire::push_bytes(out, &oid.to_be_bytes());
        }
        out.extend_from_slice(b"et.");
    }
}

/// One client.
struct Connection {
    input: TcpStream,
    /// Listeners are written to by the threads of others too.
    output: Arc<Mutex<TcpStream>>,
    shared: Arc<Shared>,
    stored_bytes: usize,
    /// Commits of the current read, to be told once their replies are out.
    committed: Vec<[u8; 8]>,
}

impl Connection {
    fn new(input: TcpStream, shared: Arc<Shared>) -> io::Result<Self> {
        input.set_nodelay(true)?;
        Ok(Self {
            output: Arc::new(Mutex::new(input.try_clone()?)),
            input,
            shared,
            stored_bytes: 0,
            committed: Vec::new(),
        })
    }

    fn serve(mut self) -> io::Result<()> {
        let mut out = Vec::new();
        push_frame(&mut out, |out| out.extend_from_slice(Z5));
        lock(&self.output).write_all(&out)?;
        let mut frames = FrameReader::default();
        let mut greeted = false;
        loop {
            frames.fill(&mut self.input)?;
            out.clear();
            while let Some(payload) = frames.next()? {
                if !greeted {
                    greeted = true;
                } else if let Some(head) = head(payload) {
                    self.answer(&head, payload.len(), &mut out)?;
                }
            }
            if !out.is_empty() {
                lock(&self.output).write_all(&out)?;
            }
            for tid in self.committed.drain(..) {
                self.shared.broadcast(tid);
            }
        }
    }

    fn answer(&mut self, head: &Head<'_>, size: usize, out: &mut Vec<u8>) -> io::Result<()> {
        let shared = &self.shared;
        match head.method {
            b"storea" => self.stored_bytes += size,
            _ if head.flag == 1 => {}
            b"loadBefore" => reply(out, head, |out| out.extend_from_slice(&shared.load_answer)),
            b"vote" => reply_value(out, head, b"]t."),
            b"tpc_finish" => {
                let tid = shared.commit(std::mem::take(&mut self.stored_bytes))?;
                self.committed.push(tid);
                reply_tid(out, head, tid);
            }
            b"register" => {
                if head.arguments.contains(&NEW_TRUE) {
                    lock(&shared.listeners).push(Arc::clone(&self.output));
                }
                let tid = shared.last_tid.load(Ordering::Relaxed);
                reply_tid(out, head, tid.to_be_bytes());
            }
            b"lastTransaction" => {
                let tid = shared.last_tid.load(Ordering::Relaxed);
                reply_tid(out, head, tid.to_be_bytes());
            }
            b"new_oids" => reply(out, head, |out| {
                out.extend_from_slice(REPLY);
                shared.new_oids(out);
            }),
            b"get_info" => reply_value(out, head, b"}t."),
            _ => reply_value(out, head, b"Nt."),
        }
        Ok(())
    }
}

fn reply(out: &mut Vec<u8>, head: &Head<'_>, write: impl FnOnce(&mut Vec<u8>)) {
    push_frame(out, |out| {
        out.extend_from_slice(b"\x80\x03(");
        out.extend_from_slice(head.id);
        write(out);
    });
}

fn reply_value(out: &mut Vec<u8>, head: &Head<'_>, value: &[u8]) {
    reply(out, head, |out| {
        out.extend_from_slice(REPLY);
        out.extend_from_slice(value);
    });
}

fn reply_tid(out: &mut Vec<u8>, head: &Head<'_>, tid: [u8; 8]) {
    reply(out, head, |out| {
        out.extend_from_slice(REPLY);
        wire::push_bytes(out, &tid);
        out.extend_from_slice(b"t.");
    });
}

/// A thread that panicked leaves nothing half done in what is locked here.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
