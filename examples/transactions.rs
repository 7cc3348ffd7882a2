//! Lists the transactions of a `Data.fs` without disturbing a server that has
//! it open: `cargo run --example transactions -- PATH`.

use std::error::Error;
use std::sync::Arc;

use zeod::disk::RealDisk;
use zeod::storage::Storage;
use zeod::storage::file::{FileOptions, FileStorage};

fn main() -> Result<(), Box<dyn Error>> {
    let path = std::env::args_os()
        .nth(1)
        .ok_or("the path of a Data.fs is missing")?;
    let options = FileOptions {
        read_only: true,
        ..FileOptions::new(path)
    };
    let storage = FileStorage::open(Arc::new(RealDisk), options)?;
    let mut transactions = storage.iterate(None, None)?;
    while let Some(meta) = transactions.next_transaction()? {
        let mut records = transactions.records()?;
        let mut count = 0;
        while records.next_record()?.is_some() {
            count += 1;
        }
        let user = String::from_utf8_lossy(&meta.user);
        let description = String::from_utf8_lossy(&meta.description);
        let tid = meta.tid.unwrap_or_default();
        println!("{tid}  {count:6} objects  {user}  {description}");
    }
    Ok(())
}
