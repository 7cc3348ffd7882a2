//! Packs a `Data.fs` that nobody has open.
//!
//! `cargo run --release --example pack -- Data.fs [time as a transaction id in hex [no-gc]]`

use std::error::Error;
use std::sync::Arc;
use std::time::SystemTime;

use zeod::disk::RealDisk;
use zeod::storage::Storage;
use zeod::storage::file::{FileOptions, FileStorage};
use zeod::types::Tid;

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let path = arguments.next().ok_or("the path of a Data.fs is missing")?;
    let stop = match arguments.next() {
        Some(hex) => Tid::from_u64(u64::from_str_radix(&hex, 16)?),
        None => Tid::from_time(SystemTime::now()),
    };
    let gc = arguments.next().map(|word| word != "no-gc");
    tracing_subscriber::fmt().with_target(false).init();
    let storage = FileStorage::open(Arc::new(RealDisk), FileOptions::new(path))?;
    println!("{:?}", storage.pack(stop, gc, None)?);
    storage.close()?;
    Ok(())
}
