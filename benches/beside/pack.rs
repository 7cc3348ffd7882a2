//! Commits beside a pack.

use std::fs::{self, File};
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::commits::{Committer, Latencies, Plan, Rounds};
use crate::database;
use crate::generator::{Connection, Failure};
use crate::memory;
use crate::server;

/// Packs a copy of one database in each round.
pub fn run(
    directory: &Path,
    plan: &Plan,
    objects: u64,
    python: Option<&Path>,
) -> Result<(), Failure> {
    let original = directory.join("original.fs");
    database::write(&original, objects)
        .map_err(|error| Failure::Setup(format!("writing the database: {error}")))?;
    let size = fs::metadata(&original)?.len();
    println!("pack: {objects} objects in {}", memory::megabytes(size));
    let mut rounds = Rounds::default();
    for round in 1..=plan.rounds {
        let place = directory.join(format!("pack-{round}"));
        copy(&original, &place)?;
        let (alone, beside) = one_round(&place, plan)?;
        rounds.add(&alone, &beside);
        fs::remove_dir_all(place)?;
    }
    rounds.print();
    pack_alone(&original, &directory.join("alone"))?;
    if let Some(python) = python {
        let place = directory.join("python");
        copy(&original, &place)?;
        pack_by_python(python, &place.join("Data.fs"))?;
    }
    Ok(())
}

/// How long it takes when nothing else is done, as Python's is measured.
fn pack_alone(original: &Path, place: &Path) -> Result<(), Failure> {
    copy(original, place)?;
    let server = server::start(place)?;
    let mut packer = Connection::open(server.address(), false)?;
    let begun = Instant::now();
    packer.call("pack", &pack_arguments())?;
    println!(
        "zeod, without commits: {:.1?}, peak {}",
        begun.elapsed(),
        memory::megabytes(memory::peak_bytes(server.pid())?)
    );
    server.stop()?;
    Ok(fs::remove_dir_all(place)?)
}

fn copy(original: &Path, place: &Path) -> Result<(), Failure> {
    fs::create_dir(place)?;
    let path = place.join("Data.fs");
    fs::copy(original, &path)?;
    // Else the system would write it while commits are measured.
    File::open(&path)?.sync_all()?;
    let index = original.with_extension("fs.index");
    fs::copy(index, place.join("Data.fs.index"))?;
    Ok(())
}

fn one_round(place: &Path, plan: &Plan) -> Result<(Latencies, Latencies), Failure> {
    let server = server::start(place)?;
    let mut committer = Committer::new(server.address(), plan)?;
    let mut packer = Connection::open(server.address(), false)?;
    let before = memory::resident_bytes(server.pid())?;
    let mut alone = committer.alone()?;
    let is_over = AtomicBool::new(false);
    let mut took = Duration::ZERO;
    let beside = thread::scope(|scope| {
        let packing = scope.spawn(|| {
            let begun = Instant::now();
            let reply = packer.call("pack", &pack_arguments());
            is_over.store(true, Ordering::Relaxed);
            reply.map(|_| begun.elapsed())
        });
        let beside = committer.run(|| !is_over.load(Ordering::Relaxed));
        took = packing.join().expect("the packer panicked")?;
        beside
    })?;
    let peak = memory::peak_bytes(server.pid())?;
    alone.add(&committer.alone()?);
    for line in server.stderr().lines().filter(|line| line.contains("pack")) {
        println!("  {line}");
    }
    println!(
        "  took {took:.2?}; memory {} before, peak {}; now {}",
        memory::megabytes(before),
        memory::megabytes(peak),
        memory::megabytes(fs::metadata(place.join("Data.fs"))?.len())
    );
    server.stop()?;
    Ok((alone, beside))
}

/// (now minus a day, wait for the end).
fn pack_arguments() -> Vec<u8> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let time = (now.as_secs_f64() - 86_400.0).to_be_bytes();
    let mut arguments = vec![b'G'];
    arguments.extend_from_slice(&time);
    arguments.extend_from_slice(b"\x88\x86");
    arguments
}

fn pack_by_python(python: &Path, path: &Path) -> Result<(), Failure> {
    const SCRIPT: &str = "
import resource, sys, time
from ZODB.FileStorage import FileStorage
from ZODB.serialize import referencesf
storage = FileStorage(sys.argv[1])
begun = time.time()
storage.pack(time.time() - 86400, referencesf)
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(f'Python: {time.time() - begun:.1f} s, peak {peak // 1024} MB, now {storage.getSize()} bytes')
storage.close()
";
    let output = Command::new(python)
        .args(["-c", SCRIPT])
        .arg(path)
        .output()?;
    print!("{}", String::from_utf8_lossy(&output.stdout));
    if output.status.success() {
        return Ok(());
    }
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    Err(Failure::Setup(format!("Python's pack failed: {error}")))
}
