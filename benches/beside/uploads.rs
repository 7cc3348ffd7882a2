//! Commits beside clients that upload blobs.

use std::io::Write;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::commits::{Committer, Latencies, Plan, Rounds};
use crate::generator::{Connection, Failure};
use crate::memory;
use crate::raw_client::{int, push_request};
use crate::server;
use crate::wire::{self, Object};

/// What ZEO's client sends at once.
const CHUNK_BYTES: usize = 59_000;
/// A record of the class that a pack takes for a blob.
const RECORD: &[u8] = b"\x80\x03cZODB.blob\nBlob\nq\x01.\x80\x03N.";

/// How blobs are uploaded.
#[derive(Debug, Clone, Copy)]
struct Uploads {
    clients: usize,
    chunks: usize,
    /// Between two chunks of one client.
    pause: Duration,
}

/// Commits alone, and beside `clients` that upload blobs of `megabytes`, `rate` MB/s together.
pub fn run(
    directory: &Path,
    plan: &Plan,
    clients: usize,
    megabytes: usize,
    rate: usize,
) -> Result<(), Failure> {
    let place = directory.join("uploads");
    std::fs::create_dir(&place)?;
    let server = server::start(&place)?;
    let chunks = (megabytes << 20).div_ceil(CHUNK_BYTES);
    let pause = match rate {
        0 => Duration::ZERO,
        rate => Duration::from_nanos((clients * CHUNK_BYTES * 1_000_000_000 / (rate << 20)) as u64),
    };
    let uploads = Uploads {
        clients,
        chunks,
        pause,
    };
    println!("uploads: {clients} clients, blobs of {megabytes} MB, {rate} MB/s (0: no limit)");
    let mut committer = Committer::new(server.address(), plan)?;
    let before = memory::resident_bytes(server.pid())?;
    let mut rounds = Rounds::default();
    for _ in 0..plan.rounds {
        let alone = committer.alone()?;
        let beside = beside(server.address(), uploads, &mut committer, plan)?;
        rounds.add(&alone, &beside);
    }
    rounds.print();
    let peak = memory::peak_bytes(server.pid())?;
    println!(
        "memory {} before, peak {}",
        memory::megabytes(before),
        memory::megabytes(peak)
    );
    server.stop()?;
    Ok(())
}

fn beside(
    address: SocketAddr,
    uploads: Uploads,
    committer: &mut Committer<'_>,
    plan: &Plan,
) -> Result<Latencies, Failure> {
    let is_over = AtomicBool::new(false);
    let bytes = AtomicU64::new(0);
    let begun = Instant::now();
    let latencies = thread::scope(|scope| {
        let clients: Vec<_> = (0..uploads.clients)
            .map(|_| scope.spawn(|| upload(address, uploads, &is_over, &bytes)))
            .collect();
        let end = Instant::now() + plan.alone;
        let latencies = committer.run(|| Instant::now() < end);
        is_over.store(true, Ordering::Relaxed);
        for client in clients {
            client.join().expect("a client panicked")?;
        }
        latencies
    })?;
    let megabytes = bytes.load(Ordering::Relaxed) >> 20;
    println!("  {megabytes} MB in {:.1?}", begun.elapsed());
    Ok(latencies)
}

/// Uploads one revision of a blob after the other; the last one is given up.
fn upload(
    address: SocketAddr,
    uploads: Uploads,
    is_over: &AtomicBool,
    bytes: &AtomicU64,
) -> Result<(), Failure> {
    let mut connection = Connection::open(address, false)?;
    let oid = connection.new_oids()?[0];
    let mut object = [Object {
        oid,
        serial: [0; 8],
    }];
    let mut chunk = vec![b'B'];
    chunk.extend_from_slice(&u32::try_from(CHUNK_BYTES).unwrap().to_le_bytes());
    chunk.extend((0..CHUNK_BYTES).map(|at| ((at * 7919) >> 5).to_le_bytes()[0]));
    chunk.push(0x85);
    let mut frame = Vec::new();
    push_request(&mut frame, &int(0), true, "storeBlobChunk", &chunk);
    loop {
        let ids = connection.next_commit();
        let mut out = Vec::new();
        wire::push_begin(&mut out, ids);
        push_request(&mut out, &int(0), true, "storeBlobStart", b")");
        connection.client().send_raw(&out)?;
        for _ in 0..uploads.chunks {
            if is_over.load(Ordering::Relaxed) {
                return Ok(());
            }
            connection.client().parts().0.write_all(&frame)?;
            bytes.fetch_add(CHUNK_BYTES as u64, Ordering::Relaxed);
            thread::sleep(uploads.pause);
        }
        out.clear();
        let mut arguments = Vec::new();
        wire::push_store(&mut arguments, ids, object[0], RECORD);
        push_request(&mut out, &int(0), true, "storeBlobEnd", &arguments);
        wire::push_vote(&mut out, ids);
        connection.client().send_raw(&out)?;
        connection.finish(ids, &mut object)?;
    }
}
