//! Counters inside reports, and what every daemon counts of itself.

use std::fs;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use serde::ser::{Serialize, SerializeMap, Serializer};

use crate::metrics::Sample;

/// Counters of one part; in JSON an object of names and values.
#[derive(Debug, Clone, Default)]
pub struct Counted(pub Vec<Sample>);

impl Serialize for Counted {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for sample in &self.0 {
            map.serialize_entry(sample.name, &sample.value)?;
        }
        map.end()
    }
}

crate::metrics! {
    /// What a daemon counts of itself.
    pub struct OwnMetrics {
        ready: Gauge = "Whether the daemon is ready (1), as /readyz says.",
        stuck_threads: Gauge = "Threads that work on one thing for longer than stuck_timeout.",
        config_reloads_total: Counter = "Times the configuration was read anew and wholly taken.",
        config_reloads_failed_total: Counter = "Times the configuration was read anew and refused, or not wholly taken.",
        config_refused: Gauge = "Whether the configuration that was read anew last was refused, or not wholly taken (1).",
        log_lines_lost_total: Counter = "Log lines that could not be written in time.",
    }
}

impl OwnMetrics {
    /// The configuration was read anew, and wholly `taken` or not.
    pub fn reloaded(&self, taken: bool) {
        self.config_refused.set((!taken).into());
        match taken {
            true => self.config_reloads_total.inc(),
            false => self.config_reloads_failed_total.inc(),
        }
    }
}

crate::metrics! {
    /// What the system says of the process.
    pub struct ProcessMetrics {
        process_start_time_seconds: Gauge = "When the process started, seconds since the Unix epoch.",
        process_resident_memory_bytes: Gauge = "Memory of the process that is in RAM.",
        process_open_fds: Gauge = "Descriptors that are open.",
        process_threads: Gauge = "Threads of the process.",
    }
}

/// What a daemon knows of itself.
#[derive(Debug)]
pub struct Own {
    /// When it started.
    pub started: Instant,
    /// The same in seconds since the Unix epoch.
    pub started_unix: u64,
    /// What it counts.
    pub metrics: OwnMetrics,
}

impl Default for Own {
    fn default() -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        Own {
            started: Instant::now(),
            started_unix: since.map_or(0, |since| since.as_secs()),
            metrics: OwnMetrics::default(),
        }
    }
}

/// What the system says of this process.
#[derive(Debug)]
pub struct Process;

impl Process {
    /// Its figures now; what the system does not tell is 0.
    pub fn each(own: &Own) -> Vec<Sample> {
        let metrics = ProcessMetrics::default();
        metrics.process_start_time_seconds.set(own.started_unix);
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name))?;
            line.split_whitespace().next()?.parse::<u64>().ok()
        };
        let resident = field("VmRSS:").unwrap_or(0) * 1024;
        metrics.process_resident_memory_bytes.set(resident);
        metrics.process_threads.set(field("Threads:").unwrap_or(0));
        let open = fs::read_dir("/proc/self/fd").map_or(0, Iterator::count);
        metrics.process_open_fds.set(open as u64);
        metrics.each()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_system_tells() {
        let samples = Process::each(&Own::default());
        assert!(samples.iter().all(|sample| sample.value > 0), "{samples:?}");
        let json = serde_json::to_value(Counted(samples)).unwrap();
        assert!(json["process_threads"].as_u64().unwrap() > 0);
    }
}
