//! Blobs are packed with their records as Python packs them. `ZEOD_PACK_BLOB_DATABASES`
//! says how many databases are compared; 500 take about ten minutes.

#[path = "support/python_env.rs"]
mod python_env;
#[path = "support/python_script.rs"]
mod python_script;

use std::time::Duration;

#[test]
fn blobs_are_packed_as_python_packs_them() {
    let databases = python_script::number("ZEOD_PACK_BLOB_DATABASES", 25);
    let limit = Duration::from_mins(5) + Duration::from_secs(3) * databases;
    python_script::run("pack/blobs.py", &[databases.to_string()], limit);
}
