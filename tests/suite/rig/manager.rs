//! The service manager, played by the test.

use std::os::unix::net::UnixDatagram;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tempfile::TempDir;

use super::process::Process;
use super::wait_for;

/// The notify socket of a service manager.
pub struct Manager {
    folder: TempDir,
    told: Arc<Mutex<Vec<String>>>,
}

impl Manager {
    pub fn new() -> Manager {
        let folder = tempfile::tempdir().unwrap();
        let socket = UnixDatagram::bind(folder.path().join("notify")).unwrap();
        let told = Arc::<Mutex<Vec<String>>>::default();
        let heard = Arc::clone(&told);
        // Ends with the test's process.
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(length) = socket.recv(&mut buffer) {
                let text = String::from_utf8_lossy(&buffer[..length]).into_owned();
                heard.lock().unwrap().push(text);
            }
        });
        Manager { folder, told }
    }

    /// Starts a daemon as a service manager does.
    pub fn start(&self, mut command: Command, watchdog: Option<Duration>) -> Process {
        command.env("NOTIFY_SOCKET", self.folder.path().join("notify"));
        if let Some(time) = watchdog {
            command.env("WATCHDOG_USEC", time.as_micros().to_string());
        }
        Process::start(command)
    }

    pub fn told(&self) -> Vec<String> {
        self.told.lock().unwrap().clone()
    }

    /// How many messages begin with this.
    pub fn count(&self, start: &str) -> usize {
        let told = self.told();
        told.iter().filter(|text| text.starts_with(start)).count()
    }

    #[track_caller]
    pub fn hears(&self, start: &str, count: usize) {
        wait_for(&format!("{start} is told {count} times"), || {
            self.count(start) >= count
        });
    }
}
