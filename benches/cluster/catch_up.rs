//! How nodes get what they lack, and how much of it has to travel.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::cluster::network::Network;
use crate::cluster::status::View;
use crate::cluster::{Cluster, Settings};
use crate::database::{self, FILL_BYTES};
use crate::generator::{Connection, Failure};
use crate::wire::{self, Object};

const MEGABYTE: u64 = 1 << 20;
/// Objects in each transaction that is missed: 100 kB.
const OBJECTS: usize = 100;
/// What an object of the large database takes, about.
const OBJECT_BYTES: u64 = 640;
const PATIENCE: Duration = Duration::from_mins(20);
const POLL: Duration = Duration::from_millis(20);
/// Places at which an old copy differs.
const SPOTS: u64 = 50;
/// At least one byte of so many is an object's fill.
const FILL_SHARE: usize = 4;

/// A node is away while `megabytes` are written; once the log has them all, and once it has not.
pub fn missed(directory: &Path, megabytes: usize) -> Result<(), Failure> {
    for (name, settings) in [
        ("with a log of all of it", "    log-size 8GB\n"),
        ("with a log of a part of it", "    log-size 64MB\n"),
    ] {
        let place = directory.join(if settings.contains("8GB") {
            "log"
        } else {
            "file"
        });
        fs::create_dir(&place)?;
        let settings = Settings {
            replication: settings.to_owned(),
            ..Settings::default()
        };
        let mut cluster = Cluster::start(&place, Network::Loopback, 3, settings)?;
        let leader = cluster.await_leader();
        let away = (leader + 1) % 3;
        cluster.nodes[away].stop()?;
        let before = length(&cluster, leader)?;
        let writing = write(&cluster, leader, megabytes as u64 * MEGABYTE)?;
        let leader = cluster.await_leader();
        cluster.command(leader, &["snapshot"])?;
        let bytes = length(&cluster, leader)? - before;
        let copied = copy_time(&data(&cluster, leader), before)?;
        let begun = Instant::now();
        cluster.start_node(away)?;
        await_length(&mut cluster, away, leader)?;
        let took = begun.elapsed();
        let moved = caught_up(&cluster, away);
        println!(
            "{} MB were missed, {name}: caught up in {took:.1?}, {:.0} MB/s; cp and sync of that much {copied:.1?}; \
             written in {writing:.1?}; {} MB came from the file",
            bytes / MEGABYTE,
            rate(bytes, took),
            moved / MEGABYTE
        );
        cluster.stop()?;
        fs::remove_dir_all(place)?;
    }
    Ok(())
}

/// A database that is there already: the first node takes it as it is, the second copies all of it, the
/// third has a copy that is one hundredth behind, and the fourth one that differs in one hundredth.
pub fn resync(directory: &Path, megabytes: usize) -> Result<(), Failure> {
    let size = megabytes as u64 * MEGABYTE;
    let original = directory.join("original.fs");
    database::write(&original, size / OBJECT_BYTES)
        .map_err(|error| Failure::Setup(format!("writing the database: {error}")))?;
    let mut cluster = Cluster::prepare(directory, Network::Loopback, Settings::default())?;
    fs::rename(&original, data(&cluster, 0))?;
    let old_length = length(&cluster, 0)?;
    println!("a database of {} MB", old_length / MEGABYTE);
    cluster.begin()?;
    write(&cluster, 0, old_length / 100)?;

    let plain = |_: &Path| Ok(());
    join(&mut cluster, "an empty node", plain)?;
    let first = data(&cluster, 0);
    let old = |path: &Path| {
        fs::copy(&first, path)?;
        OpenOptions::new()
            .write(true)
            .open(path)?
            .set_len(old_length)
    };
    join(&mut cluster, "a node with a copy that is 1 % behind", old)?;
    let other = |path: &Path| {
        fs::copy(&first, path)?;
        differ(path, old_length)
    };
    join(
        &mut cluster,
        "a node with a copy that differs in 1 %",
        other,
    )?;
    Ok(cluster.stop()?)
}

/// A node joins with the copy that `prepare` makes at a path.
fn join(
    cluster: &mut Cluster,
    name: &str,
    prepare: impl Fn(&Path) -> io::Result<()>,
) -> Result<(), Failure> {
    let index = cluster.create_node()?;
    prepare(&data(cluster, index))?;
    let begun = Instant::now();
    cluster.start_node(index)?;
    cluster.command(index, &["join", "--replace"])?;
    await_length(cluster, index, 0)?;
    let took = begun.elapsed();
    let size = length(cluster, 0)?;
    let moved = caught_up(cluster, index);
    println!(
        "{name}: {took:.1?}, {} MB moved, {:.2} % of all",
        moved / MEGABYTE,
        percent(moved, size)
    );
    // They would all take their part of each commit.
    cluster.command(0, &["remove", &(index + 1).to_string()])?;
    cluster.nodes[index].stop()?;
    Ok(())
}

/// Gives the objects in a hundredth of a file another content, in some places in front of `end`, and
/// leaves it one that zeod opens: it stops at a damaged one.
fn differ(path: &Path, end: u64) -> io::Result<()> {
    let file = OpenOptions::new().read(true).write(true).open(path)?;
    let mut part = vec![0; usize::try_from(end / 100 / SPOTS).unwrap()];
    for spot in 0..SPOTS {
        let start = end / SPOTS * spot + end / SPOTS / 2;
        file.read_exact_at(&mut part, start)?;
        let changed = refill(&mut part);
        assert!(changed > part.len() / FILL_SHARE, "{changed} bytes");
        file.write_all_at(&part, start)?;
    }
    file.sync_all()
}

/// Overwrites what objects hold beside their references. How many bytes that were.
fn refill(part: &mut [u8]) -> usize {
    let header = database::fill_header();
    let (mut at, mut changed) = (0, 0);
    while let Some(found) = part[at..]
        .windows(header.len())
        .position(|bytes| bytes == header)
    {
        let fill = at + found + header.len();
        let Some(fill) = part.get_mut(fill..fill + FILL_BYTES) else {
            break;
        };
        fill.fill(0x5a);
        changed += FILL_BYTES;
        at += found + header.len() + FILL_BYTES;
    }
    changed
}

/// Commits so many bytes. How long that took.
fn write(cluster: &Cluster, index: usize, bytes: u64) -> Result<Duration, Failure> {
    let begun = Instant::now();
    let record = wire::record();
    let mut connection = Connection::open(cluster.nodes[index].place.clients, false)?;
    let mut objects: Vec<_> = connection
        .new_oids()?
        .into_iter()
        .take(OBJECTS)
        .map(|oid| Object {
            oid,
            serial: [0; 8],
        })
        .collect();
    let end = length(cluster, index)? + bytes;
    while length(cluster, index)? < end {
        connection.commit(&mut objects, &record)?;
    }
    Ok(begun.elapsed())
}

fn data(cluster: &Cluster, index: usize) -> PathBuf {
    cluster.nodes[index].storage(1).join("Data.fs")
}

fn length(cluster: &Cluster, index: usize) -> io::Result<u64> {
    match fs::metadata(data(cluster, index)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(0),
        found => Ok(found?.len()),
    }
}

fn await_length(cluster: &mut Cluster, index: usize, like: usize) -> Result<(), Failure> {
    let deadline = Instant::now() + PATIENCE;
    while length(cluster, index)? != length(cluster, like)? {
        if Instant::now() > deadline || !cluster.nodes[index].is_running() {
            let words = cluster.last_words();
            return Err(Failure::Setup(format!("it does not catch up:\n{words}")));
        }
        sleep(POLL);
    }
    Ok(())
}

/// What `cp` and a sync of the same bytes take.
fn copy_time(path: &Path, from: u64) -> io::Result<Duration> {
    let copy = path.with_extension("copy");
    let begun = Instant::now();
    let mut source = File::open(path)?;
    io::Seek::seek(&mut source, io::SeekFrom::Start(from))?;
    let mut target = File::create(&copy)?;
    io::copy(&mut source, &mut target)?;
    target.sync_all()?;
    let took = begun.elapsed();
    fs::remove_file(copy)?;
    Ok(took)
}

fn caught_up(cluster: &Cluster, index: usize) -> u64 {
    let status = cluster.status(index);
    let view = status.as_ref().and_then(View::of);
    view.map_or(0, |view| view.caught_up_bytes)
}

#[allow(clippy::cast_precision_loss, reason = "for people")]
fn rate(bytes: u64, took: Duration) -> f64 {
    bytes as f64 / MEGABYTE as f64 / took.as_secs_f64()
}

#[allow(clippy::cast_precision_loss, reason = "for people")]
fn percent(part: u64, all: u64) -> f64 {
    part as f64 * 100.0 / all as f64
}
