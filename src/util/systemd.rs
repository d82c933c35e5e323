//! What the service manager is told: `sd_notify` by hand, a datagram of `NAME=value` lines.
//!
//! Not libsystemd: that would link a library for sending a datagram.

use std::env;
use std::ffi::OsStr;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::process;
use std::time::Duration;

use super::rate::RateLimit;

/// Longest text of a status line, bytes.
const STATUS_MAX: usize = 512;

/// Tells the service manager how it goes; silent where there is none.
#[derive(Debug)]
pub struct Notifier {
    manager: Option<(UnixDatagram, SocketAddr)>,
    watchdog: Option<Duration>,
    complaints: RateLimit,
}

impl Notifier {
    /// As the service manager asked for in the environment: `NOTIFY_SOCKET`, `WATCHDOG_USEC` and
    /// `WATCHDOG_PID`.
    ///
    /// # Errors
    /// There is a `NOTIFY_SOCKET` that no socket can have, or no descriptor is left.
    pub fn from_env() -> io::Result<Self> {
        let usec = env::var("WATCHDOG_USEC").ok();
        let pid = env::var("WATCHDOG_PID").ok();
        Notifier::new(
            env::var_os("NOTIFY_SOCKET").as_deref(),
            interval(usec.as_deref(), pid.as_deref(), process::id()),
        )
    }

    /// Tells the socket of this name; `@name` is an abstract one.
    fn new(name: Option<&OsStr>, watchdog: Option<Duration>) -> io::Result<Self> {
        let manager = match name.map(OsStr::as_bytes) {
            None | Some([]) => None,
            Some(name) => {
                let address = match name {
                    [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
                    path => SocketAddr::from_pathname(OsStr::from_bytes(path))?,
                };
                let socket = UnixDatagram::unbound()?;
                // A service manager that is stuck must not stop us.
                socket.set_nonblocking(true)?;
                Some((socket, address))
            }
        };
        Ok(Notifier {
            // Without a socket there is nothing to feed.
            watchdog: watchdog.filter(|_| manager.is_some()),
            manager,
            complaints: RateLimit::new(3, Duration::from_secs(600)),
        })
    }

    /// Within which time [`Notifier::alive`] must be called, again and again; `None` when nobody
    /// watches.
    pub fn watchdog(&self) -> Option<Duration> {
        self.watchdog
    }

    /// The service is up, or up again after a reload.
    pub fn ready(&self, status: &str) {
        self.send(&format!("READY=1\nSTATUS={}", line(status)));
    }

    /// One line for `systemctl status`.
    pub fn status(&self, status: &str) {
        self.send(&format!("STATUS={}", line(status)));
    }

    /// The configuration is being read again; [`Notifier::ready`] must follow.
    pub fn reloading(&self) {
        let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
        let micros = now.tv_sec * 1_000_000 + now.tv_nsec / 1_000;
        self.send(&format!("RELOADING=1\nMONOTONIC_USEC={micros}"));
    }

    /// The service is ending.
    pub fn stopping(&self) {
        self.send("STOPPING=1\nSTATUS=stopping");
    }

    /// Feeds the watchdog, where there is one.
    pub fn alive(&self) {
        if self.watchdog.is_some() {
            self.send("WATCHDOG=1");
        }
    }

    fn send(&self, message: &str) {
        let Some((socket, address)) = &self.manager else {
            return;
        };
        if let Err(error) = socket.send_to_addr(message.as_bytes(), address)
            && let Some(permit) = self.complaints.permit(std::time::Instant::now())
        {
            log::warn!("the service manager cannot be told: {error}{permit}");
        }
    }
}

/// One line without anything that would begin another.
fn line(text: &str) -> String {
    super::printable::text(text, STATUS_MAX).to_string()
}

/// The watchdog's time, where it is meant for the process `own`.
fn interval(usec: Option<&str>, pid: Option<&str>, own: u32) -> Option<Duration> {
    if pid.is_some_and(|pid| pid.trim().parse() != Ok(own)) {
        return None;
    }
    let usec: u64 = usec?.trim().parse().ok()?;
    (usec > 0).then(|| Duration::from_micros(usec))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn receive(socket: &UnixDatagram) -> String {
        socket
            .set_read_timeout(Some(Duration::from_secs(5)))
            .unwrap();
        let mut buffer = [0; 2048];
        let length = socket.recv(&mut buffer).unwrap();
        String::from_utf8(buffer[..length].to_vec()).unwrap()
    }

    #[test]
    fn a_path_and_an_abstract_name_are_told_the_same() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let name = format!("fanfare-test-{}", folder.path().display());
        let by_name = SocketAddr::from_abstract_name(&name).unwrap();
        for (socket, name) in [
            (
                UnixDatagram::bind(&path).unwrap(),
                path.to_str().unwrap().to_owned(),
            ),
            (
                UnixDatagram::bind_addr(&by_name).unwrap(),
                format!("@{name}"),
            ),
        ] {
            let second = Some(Duration::from_secs(1));
            let notifier = Notifier::new(Some(name.as_ref()), second).unwrap();
            notifier.ready("2 publishers\nWATCHDOG=trigger");
            assert_eq!(
                receive(&socket),
                "READY=1\nSTATUS=2 publishers\\nWATCHDOG=trigger"
            );
            notifier.reloading();
            let told = receive(&socket);
            let (word, micros) = told.split_once("\nMONOTONIC_USEC=").unwrap();
            assert_eq!(word, "RELOADING=1");
            assert!(micros.parse::<u64>().unwrap() > 0);
            notifier.alive();
            assert_eq!(receive(&socket), "WATCHDOG=1");
            notifier.stopping();
            assert_eq!(receive(&socket), "STOPPING=1\nSTATUS=stopping");
        }
    }

    #[test]
    fn without_a_manager_it_is_silent() {
        for name in [None, Some(OsStr::new(""))] {
            let notifier = Notifier::new(name, Some(Duration::from_secs(1))).unwrap();
            assert_eq!(notifier.watchdog(), None);
            notifier.ready("");
        }
    }

    #[test]
    fn one_that_is_gone_or_full_holds_up_nobody() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        let second = Some(Duration::from_secs(1));
        let notifier = Notifier::new(Some(path.as_os_str()), second).unwrap();
        for _ in 0..10_000 {
            notifier.alive();
        }
        drop(socket);
        notifier.alive();
    }

    #[test]
    fn the_watchdog_is_for_one_process() {
        let second = Some(Duration::from_secs(1));
        assert_eq!(interval(Some("1000000"), None, 7), second);
        assert_eq!(interval(Some("1000000"), Some("7"), 7), second);
        assert_eq!(interval(Some("1000000"), Some("8"), 7), None);
        assert_eq!(interval(Some("0"), None, 7), None);
        assert_eq!(interval(Some("soon"), None, 7), None);
        assert_eq!(interval(None, None, 7), None);
    }
}
