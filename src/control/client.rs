//! The client's side of the control socket.

use std::io::{self, BufReader, ErrorKind, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;

use super::lines::{Read, read};
use super::reply::{Greeting, Refusal, Reply};
use super::request::Request;
use super::{ANSWER_TIMEOUT, MAX_REPLY, PROTOCOL, WRITE_TIMEOUT};

/// What can go wrong, named by what the caller can do.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The daemon does not run, or has another `run_dir`; start it, or name its socket.
    #[error("nothing listens on {}", .0.display())]
    Down(PathBuf),
    /// The user may not; be root, or a member of the group.
    #[error("no permission to use {}", .0.display())]
    Forbidden(PathBuf),
    /// Tool and daemon are of different releases; use matching ones.
    #[error("{} speaks protocol version {theirs}, this program version {PROTOCOL}", path.display())]
    Version {
        /// The socket.
        path: PathBuf,
        /// What the daemon speaks.
        theirs: u32,
    },
    /// The daemon refused.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// Something else listens there, or the connection broke.
    #[error("{}: {why}", path.display())]
    Broken {
        /// The socket.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
}

/// A connection to a daemon.
#[derive(Debug)]
pub struct Client {
    path: PathBuf,
    stream: BufReader<UnixStream>,
    greeting: Greeting,
    line: Vec<u8>,
}

impl Client {
    /// Connects and reads the greeting.
    pub fn connect(path: &Path) -> Result<Self, ClientError> {
        let stream = UnixStream::connect(path).map_err(|error| match error.kind() {
            ErrorKind::NotFound | ErrorKind::ConnectionRefused => ClientError::Down(path.into()),
            ErrorKind::PermissionDenied => ClientError::Forbidden(path.into()),
            _ => broken(path, &error),
        })?;
        stream
            .set_read_timeout(Some(ANSWER_TIMEOUT))
            .and_then(|()| stream.set_write_timeout(Some(WRITE_TIMEOUT)))
            .map_err(|error| broken(path, &error))?;
        let mut client = Client {
            path: path.into(),
            stream: BufReader::new(stream),
            greeting: Greeting {
                fanfare: String::new(),
                version: String::new(),
                protocol: PROTOCOL,
            },
            line: Vec::new(),
        };
        client.greeting = client.read()?;
        match client.greeting.protocol {
            PROTOCOL => Ok(client),
            theirs => Err(ClientError::Version {
                path: path.into(),
                theirs,
            }),
        }
    }

    /// What the daemon said of itself.
    pub fn greeting(&self) -> &Greeting {
        &self.greeting
    }

    /// Asks for something that may take as long as it takes, such as a watch: then no silence is
    /// too long.
    pub fn be_patient(&mut self) -> Result<(), ClientError> {
        let set = self.stream.get_ref().set_read_timeout(None);
        set.map_err(|error| broken(&self.path, &error))
    }

    /// Asks, gives each item to `item`, and then the end. `item` may say that it has had enough
    /// (`false`); the connection is then of no more use.
    pub fn ask(
        &mut self,
        request: &Request,
        mut item: impl FnMut(Value) -> bool,
    ) -> Result<Value, ClientError> {
        let sent = self.stream.get_mut().write_all(request.encode().as_bytes());
        // A daemon that refuses the connection has said why, and does not read.
        if let Err(error) = sent
            && error.kind() != ErrorKind::BrokenPipe
        {
            return Err(broken(&self.path, &error));
        }
        loop {
            match self.read()? {
                Reply::Item(value) => {
                    if !item(value) {
                        return Ok(Value::Null);
                    }
                }
                Reply::Done(value) => return Ok(value),
                Reply::Failed(refusal) => return Err(refusal.into()),
            }
        }
    }

    fn read<T: serde::de::DeserializeOwned>(&mut self) -> Result<T, ClientError> {
        let why = match read(&mut self.stream, &mut self.line, MAX_REPLY) {
            Ok(Read::Line) => match serde_json::from_slice(&self.line) {
                Ok(value) => return Ok(value),
                Err(error) => format!("this is no fanfare daemon: {error}"),
            },
            Ok(Read::End) => "the daemon ended the connection".into(),
            Ok(Read::TooLong) => "an answer is too long".into(),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                format!("no answer within {}", seconds(ANSWER_TIMEOUT))
            }
            Err(error) => error.to_string(),
        };
        Err(ClientError::Broken {
            path: self.path.clone(),
            why,
        })
    }
}

fn seconds(time: Duration) -> String {
    format!("{} s", time.as_secs_f64())
}

fn broken(path: &Path, error: &io::Error) -> ClientError {
    ClientError::Broken {
        path: path.into(),
        why: error.to_string(),
    }
}
