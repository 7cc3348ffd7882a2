use std::fs;

use rustix::process::{Resource, getrlimit};
use rustix::time::{ClockId, clock_gettime};
use serde::Serialize;

/// This process, as the system sees it. What it does not tell is 0.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Process {
    /// Its id.
    pub pid: u32,
    /// Memory that it holds.
    pub resident_bytes: u64,
    /// Files and sockets that it has open.
    pub open_files: u64,
    /// As many as it may have.
    pub max_open_files: u64,
    /// Time of the processors that it took.
    pub cpu_seconds: f64,
}

impl Process {
    /// Now.
    pub fn this() -> Self {
        let cpu = clock_gettime(ClockId::ProcessCPUTime);
        let cpu = std::time::Duration::try_from(cpu).unwrap_or_default();
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        Self {
            pid: std::process::id(),
            resident_bytes: resident_bytes(&status).unwrap_or(0),
            open_files: fs::read_dir("/proc/self/fd").map_or(0, |files| files.count() as u64),
            max_open_files: getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX),
            cpu_seconds: cpu.as_secs_f64(),
        }
    }
}

/// From the line `VmRSS:     1234 kB` (source: proc_pid_status(5)).
fn resident_bytes(status: &str) -> Option<u64> {
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kibibytes: u64 = line.trim().strip_suffix(" kB")?.parse().ok()?;
    Some(kibibytes * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_is_seen() {
        let process = Process::this();
        assert!(process.resident_bytes > 1 << 20, "{process:?}");
        assert!(process.open_files > 2, "{process:?}");
        assert!(process.max_open_files >= process.open_files, "{process:?}");
        assert!(process.cpu_seconds > 0.0, "{process:?}");
    }

    #[test]
    fn memory_is_read_from_its_line() {
        let status = "VmHWM:\t  99 kB\nVmRSS:\t   2048 kB\n";
        assert_eq!(resident_bytes(status), Some(2 << 20));
        assert_eq!(resident_bytes("VmRSS:\t2048 pages\n"), None);
    }
}
