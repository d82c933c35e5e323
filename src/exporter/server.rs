//! The socket.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::families::Group;
use super::http::{Asked, Head, MAX_HEAD, Status, answer, parse};
use super::text::{CONTENT_TYPE, render};
use crate::util::serve::{Server, Service};

crate::metrics! {
    /// What the exporter counts.
    pub struct ExporterMetrics {
        requests_total: Counter = "Requests answered.",
        requests_bad_total: Counter = "Requests that could not be read, or for what there is not.",
        connections_refused_total: Counter = "Connections refused because there were too many.",
        connections_dropped_total: Counter = "Connections ended because they took too long.",
    }
}

/// What is shown; called on connections' threads, side by side. May wait for the daemon, for a
/// bounded time.
pub trait Exhibit: Send + Sync + 'static {
    /// All metrics; an error when the daemon does not answer.
    fn metrics(&self) -> Result<Vec<Group>, Ill>;

    /// Whether the daemon answers at all.
    fn alive(&self) -> Result<(), Ill>;

    /// Whether it is ready; else the reasons.
    fn ready(&self) -> Result<(), Ill>;
}

/// Why not, a line each.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ill(pub Vec<String>);

/// Connections at a time.
const MAX_CONNECTIONS: usize = 16;

/// The time a connection has for its request, and again for taking the answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// A running exporter. Dropping it ends all connections.
#[derive(Debug)]
pub struct Exporter {
    _server: Server,
    address: SocketAddr,
}

impl Exporter {
    /// Listens on `address`.
    ///
    /// # Errors
    /// The address cannot be had; it is in the text.
    pub fn start(
        address: SocketAddr,
        metrics: Arc<ExporterMetrics>,
        exhibit: Arc<dyn Exhibit>,
    ) -> io::Result<Self> {
        let cannot = |error: io::Error| {
            let text = format!("cannot listen on metrics_address {address}: {error}");
            io::Error::new(error.kind(), text)
        };
        let listener = TcpListener::bind(address).map_err(cannot)?;
        let address = listener.local_addr().map_err(cannot)?;
        let host = Arc::new(Host {
            metrics,
            exhibit,
            patience: PATIENCE,
        });
        let server = Server::start("exporter", listener, MAX_CONNECTIONS, host).map_err(cannot)?;
        Ok(Exporter {
            _server: server,
            address,
        })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

struct Host {
    metrics: Arc<ExporterMetrics>,
    exhibit: Arc<dyn Exhibit>,
    patience: Duration,
}

impl Host {
    /// Reads one request. The whole of it has one deadline: a byte now and then gains nothing.
    fn read(&self, mut stream: &TcpStream) -> io::Result<Option<Head>> {
        let deadline = Instant::now() + self.patience;
        let mut bytes = Vec::with_capacity(1024);
        let mut chunk = [0; 1024];
        loop {
            match parse(&bytes) {
                Head::More => {}
                head => return Ok(Some(head)),
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(ErrorKind::TimedOut.into());
            }
            stream.set_read_timeout(Some(left))?;
            match stream.read(&mut chunk) {
                Ok(0) => return Ok(None),
                Ok(read) => {
                    let room = MAX_HEAD - bytes.len();
                    bytes.extend_from_slice(&chunk[..read.min(room)]);
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Sends the answer, which has one deadline too.
    fn write(&self, mut stream: &TcpStream, mut answer: &[u8]) -> io::Result<()> {
        let deadline = Instant::now() + self.patience;
        while !answer.is_empty() {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(ErrorKind::TimedOut.into());
            }
            stream.set_write_timeout(Some(left))?;
            match stream.write(answer) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(written) => answer = &answer[written..],
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn answer(&self, asked: &Asked) -> Vec<u8> {
        const PLAIN: &str = "text/plain; charset=utf-8";
        let health = |health: Result<(), Ill>| match health {
            Ok(()) => (Status::Ok, PLAIN, "ok\n".to_owned()),
            Err(Ill(reasons)) => (Status::Unavailable, PLAIN, lines(&reasons)),
        };
        let (status, kind, body) = match asked.path.as_str() {
            "/metrics" => match self.exhibit.metrics() {
                Ok(groups) => (Status::Ok, CONTENT_TYPE, render(&groups)),
                Err(Ill(reasons)) => (Status::Unavailable, PLAIN, lines(&reasons)),
            },
            "/healthz" => health(self.exhibit.alive()),
            "/readyz" => health(self.exhibit.ready()),
            _ => {
                self.metrics.requests_bad_total.inc();
                let text = "there are /metrics, /healthz and /readyz\n";
                (Status::NotFound, PLAIN, text.to_owned())
            }
        };
        answer(status, kind, &body, asked.head_only)
    }

    fn talk(&self, stream: &TcpStream) -> io::Result<()> {
        // Counted first, so that an answer shows the request it is for.
        let answer = match self.read(stream)? {
            None => return Ok(()),
            Some(Head::Asked(asked)) => {
                self.metrics.requests_total.inc();
                self.answer(&asked)
            }
            Some(Head::Refused(status)) => {
                self.metrics.requests_bad_total.inc();
                answer(status, "text/plain", "", false)
            }
            Some(Head::More) => return Ok(()),
        };
        self.write(stream, &answer)
    }
}

fn lines(lines: &[String]) -> String {
    lines.iter().map(|line| format!("{line}\n")).collect()
}

impl Service<TcpStream> for Host {
    fn serve(&self, stream: &TcpStream) {
        if let Err(error) = self.talk(stream) {
            if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) {
                self.metrics.connections_dropped_total.inc();
            } else {
                log::debug!("a connection of the exporter broke: {error}");
            }
        }
    }

    fn refuse(&self, mut stream: &TcpStream) {
        self.metrics.connections_refused_total.inc();
        let answer = answer(
            Status::Unavailable,
            "text/plain",
            "too many connections\n",
            false,
        );
        if let Err(error) = stream
            .set_nonblocking(true)
            .and_then(|()| stream.write_all(&answer))
        {
            log::debug!("a connection of the exporter is refused and not told: {error}");
        }
    }
}

#[cfg(test)]
mod tests;
