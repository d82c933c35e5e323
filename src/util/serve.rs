//! A listening socket and a bounded number of clients, a thread each.
//!
//! For sockets that operators and their programs use: few clients, now and then. A client that is
//! slow or hostile costs its own thread and nothing else, and one too many is told so.

use std::io::{self, ErrorKind};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::poll;
use super::rate::RateLimit;
use super::thread::{Ending, Handle, Thread};
use super::waker::{self, Inbox};

/// A socket that connections come from.
pub trait Listener: AsFd + Send + 'static {
    /// One connection.
    type Stream: Stream;

    /// The next connection, without waiting.
    fn next(&self) -> io::Result<Self::Stream>;

    /// Makes [`Listener::next`] not wait.
    fn prepare(&self) -> io::Result<()>;
}

/// One connection, which can be cut from elsewhere.
pub trait Stream: Sized + Send + 'static {
    /// Another handle of the same connection.
    fn again(&self) -> io::Result<Self>;

    /// Cuts the connection: whoever reads or writes it is woken.
    fn cut(&self);
}

macro_rules! sockets {
    ($($listener:ty, $stream:ty;)*) => {$(
        impl Listener for $listener {
            type Stream = $stream;

            fn next(&self) -> io::Result<$stream> {
                self.accept().map(|(stream, _)| stream)
            }

            fn prepare(&self) -> io::Result<()> {
                self.set_nonblocking(true)
            }
        }

        impl Stream for $stream {
            fn again(&self) -> io::Result<Self> {
                self.try_clone()
            }

            fn cut(&self) {
                // Fails only when the other side has cut it already.
                let _ = self.shutdown(Shutdown::Both);
            }
        }
    )*};
}

sockets! {
    UnixListener, UnixStream;
    TcpListener, TcpStream;
}

/// What is done with connections.
pub trait Service<S>: Send + Sync + 'static {
    /// Serves one client, on a thread of its own. The connection is cut when it returns.
    fn serve(&self, stream: &S);

    /// Tells a client that there are too many. Must not wait.
    fn refuse(&self, stream: &S);
}

/// How long the end waits for clients' threads, whose connections are cut.
const CLOSE_WITHIN: Duration = Duration::from_millis(500);

/// The wait after a connection could not be accepted, as when no descriptor is left: the listener
/// stays readable, and trying again at once would only heat the machine.
const BROKEN: Duration = Duration::from_secs(1);

/// A running server. Dropping it cuts every connection and waits for the threads.
#[derive(Debug)]
pub struct Server {
    _thread: Handle,
}

impl Server {
    /// Serves at most `max` clients of `listener` at a time, on threads called `name`.
    ///
    /// # Errors
    /// No thread or descriptor is left.
    pub fn start<L: Listener>(
        name: &'static str,
        listener: L,
        max: usize,
        service: Arc<impl Service<L::Stream>>,
    ) -> io::Result<Self> {
        listener.prepare()?;
        let (bell, inbox) = waker::channel()?;
        let acceptor = Acceptor {
            name,
            listener,
            max,
            service,
            clients: Vec::new(),
            complaints: RateLimit::new(3, Duration::from_secs(60)),
        };
        let thread = Thread::spawn(name, move || acceptor.run(inbox))?;
        let ending = Ending {
            tell: Box::new(move || _ = bell.send(())),
            // Its own wait for the clients included.
            within: 2 * CLOSE_WITHIN,
            late: "the thread that takes connections does not end; left behind",
        };
        Ok(Server {
            _thread: Handle::new(thread, ending),
        })
    }
}

struct Client<S: Stream> {
    stream: S,
    thread: Thread,
}

struct Acceptor<L: Listener, T> {
    name: &'static str,
    listener: L,
    max: usize,
    service: Arc<T>,
    clients: Vec<Client<L::Stream>>,
    complaints: RateLimit,
}

/// Cuts the connection however its thread ends: another handle of it is kept until somebody looks.
struct Cut<S: Stream>(S);

impl<S: Stream> Drop for Cut<S> {
    fn drop(&mut self) {
        self.0.cut();
    }
}

impl<L: Listener, T: Service<L::Stream>> Acceptor<L, T> {
    fn run(mut self, mut inbox: Inbox<()>) {
        let mut broken = false;
        loop {
            let timeout = broken.then_some(BROKEN);
            let waited = match broken {
                false => poll::readable([inbox.fd(), self.listener.as_fd()], timeout).map(drop),
                true => poll::readable([inbox.fd()], timeout).map(drop),
            };
            if inbox.drain().next().is_some() {
                break;
            }
            let accepted = waited.and_then(|()| self.accept());
            broken = accepted.is_err();
            if let Err(error) = accepted
                && let Some(permit) = self.complaints.permit(Instant::now())
            {
                log::error!("{}: no connection accepted: {error}{permit}", self.name);
            }
        }
        let deadline = Instant::now() + CLOSE_WITHIN;
        for client in &self.clients {
            client.stream.cut();
        }
        for client in &mut self.clients {
            if !client.thread.join_by(deadline) {
                log::error!("a client of {} does not end; left behind", self.name);
            }
        }
    }

    /// Takes all connections that wait.
    fn accept(&mut self) -> io::Result<()> {
        loop {
            let stream = match self.listener.next() {
                Ok(stream) => stream,
                Err(error) => match error.kind() {
                    ErrorKind::WouldBlock => return Ok(()),
                    ErrorKind::Interrupted | ErrorKind::ConnectionAborted => continue,
                    _ => return Err(error),
                },
            };
            self.clients.retain_mut(|client| {
                // Joins what has ended, so that a panic is told.
                !(client.thread.is_finished() && client.thread.join_by(Instant::now()))
            });
            if self.clients.len() >= self.max {
                self.service.refuse(&stream);
                stream.cut();
                continue;
            }
            let (kept, service) = (stream.again()?, Arc::clone(&self.service));
            let thread = Thread::spawn(self.name, move || {
                let stream = Cut(stream);
                service.serve(&stream.0);
            })?;
            self.clients.push(Client {
                stream: kept,
                thread,
            });
        }
    }
}

/// Whether the other side has gone, without waiting and without taking anything it sent.
pub fn is_gone(stream: BorrowedFd<'_>) -> bool {
    use rustix::net::RecvFlags;
    let mut byte = [0; 1];
    let peeked = rustix::net::recv(stream, &mut byte, RecvFlags::PEEK | RecvFlags::DONTWAIT);
    match peeked {
        Ok((_, read)) => read == 0,
        Err(errno) => errno != rustix::io::Errno::AGAIN && errno != rustix::io::Errno::INTR,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::util::testing::{at_most, within};
    use std::io::{Read, Write};

    struct Echo;

    impl Service<UnixStream> for Echo {
        fn serve(&self, mut stream: &UnixStream) {
            let mut byte = [0];
            while let Ok(1) = stream.read(&mut byte) {
                assert!(byte != *b"!", "asked to panic");
                stream.write_all(&byte).unwrap();
            }
        }

        fn refuse(&self, mut stream: &UnixStream) {
            stream.write_all(b"full").unwrap();
        }
    }

    fn ask(stream: &mut UnixStream, byte: u8) -> Option<u8> {
        stream.write_all(&[byte]).ok()?;
        let mut answer = [0];
        stream.read_exact(&mut answer).ok().map(|()| answer[0])
    }

    #[test]
    fn clients_are_bounded_and_the_end_cuts_them() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s");
        let server = Server::start(
            "echo",
            UnixListener::bind(&path).unwrap(),
            2,
            Arc::new(Echo),
        )
        .unwrap();
        let connect = || {
            let stream = UnixStream::connect(&path).unwrap();
            stream
                .set_read_timeout(Some(Duration::from_secs(10)))
                .unwrap();
            stream
        };
        let (mut first, mut second) = (connect(), connect());
        assert_eq!(ask(&mut first, b'a'), Some(b'a'));
        assert_eq!(ask(&mut second, b'b'), Some(b'b'));
        let mut told = String::new();
        connect().read_to_string(&mut told).unwrap();
        assert_eq!(told, "full");
        // One that panics is one less, and the others go on.
        assert_eq!(ask(&mut second, b'!'), None);
        assert_eq!(ask(&mut first, b'c'), Some(b'c'));
        let mut third = None;
        within("a place is free", || {
            let mut stream = connect();
            third = (ask(&mut stream, b'd') == Some(b'd')).then_some(stream);
            third.is_some()
        });
        let mut third = third.unwrap();
        let begun = Instant::now();
        drop(server);
        assert!(begun.elapsed() < at_most(CLOSE_WITHIN));
        assert_eq!(third.read(&mut [0]).unwrap_or(0), 0);
        assert!(is_gone(first.as_fd()));
    }
}
