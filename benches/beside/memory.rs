//! What a process takes of the memory.

use std::fs;

use crate::generator::Failure;

/// The most that a process has had in memory, in bytes.
pub fn peak_bytes(pid: u32) -> Result<u64, Failure> {
    field(pid, "VmHWM:")
}

/// What a process has in memory, in bytes.
pub fn resident_bytes(pid: u32) -> Result<u64, Failure> {
    field(pid, "VmRSS:")
}

fn field(pid: u32, name: &str) -> Result<u64, Failure> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    status
        .lines()
        .find_map(|line| line.strip_prefix(name)?.trim().strip_suffix("kB"))
        .and_then(|text| text.trim().parse::<u64>().ok())
        .map(|kilobytes| kilobytes * 1024)
        .ok_or_else(|| Failure::Setup(format!("/proc/{pid}/status has no {name}")))
}

/// For people.
pub fn megabytes(bytes: u64) -> String {
    format!(
        "{:.1} MB",
        f64::from(u32::try_from(bytes >> 10).unwrap_or(u32::MAX)) / 1024.0
    )
}
