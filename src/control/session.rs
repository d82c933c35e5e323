//! The conversation with one client.

use std::io::{self, BufReader, BufWriter, ErrorKind, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use serde_json::{Value, json};

use super::desk::{Answer, Desk, Fed, Feed};
use super::lines::{Read, read};
use super::reply::{Code, Greeting, Refusal, Reply, line};
use super::request::{Bad, Request};
use super::server::ControlMetrics;
use super::{IDLE_TIMEOUT, MAX_REQUEST, WRITE_TIMEOUT};
use crate::util::serve::is_gone;

/// How often a client that watches and is told nothing is looked at.
const LOOK: Duration = Duration::from_millis(500);

pub struct Session<'a> {
    stream: &'a UnixStream,
    desk: &'a dyn Desk,
    metrics: &'a ControlMetrics,
    out: BufWriter<&'a UnixStream>,
}

impl<'a> Session<'a> {
    pub fn new(
        stream: &'a UnixStream,
        desk: &'a dyn Desk,
        metrics: &'a ControlMetrics,
    ) -> io::Result<Self> {
        stream.set_read_timeout(Some(IDLE_TIMEOUT))?;
        stream.set_write_timeout(Some(WRITE_TIMEOUT))?;
        Ok(Session {
            stream,
            desk,
            metrics,
            out: BufWriter::with_capacity(16 << 10, stream),
        })
    }

    /// Until the client has had enough, is too slow, or is cut off.
    pub fn run(&mut self, greeting: &Greeting) {
        match self.converse(greeting) {
            Ok(()) => {}
            Err(error) if is_timeout(&error) => self.metrics.clients_dropped_total.inc(),
            // It went away while it was told something.
            Err(error) => log::debug!("a client of the control socket is gone: {error}"),
        }
    }

    fn converse(&mut self, greeting: &Greeting) -> io::Result<()> {
        self.out.write_all(&line(greeting))?;
        self.out.flush()?;
        let mut from = BufReader::new(self.stream);
        let mut request = Vec::new();
        loop {
            match read(&mut from, &mut request, MAX_REQUEST)? {
                Read::End => return Ok(()),
                Read::Line => {}
                Read::TooLong => {
                    // Where the next request begins is not known.
                    self.metrics.requests_malformed_total.inc();
                    let why = format_args!("a request has at most {MAX_REQUEST} bytes");
                    return self.end(Err(Refusal::new(Code::BadRequest, why)));
                }
            }
            if request.trim_ascii().is_empty() {
                continue;
            }
            let answer = match Request::decode(&request) {
                Ok(request) => {
                    self.metrics.requests_total.inc();
                    self.desk.answer(request)
                }
                Err(bad) => {
                    self.metrics.requests_malformed_total.inc();
                    let code = match bad {
                        Bad::Version(_) => Code::BadVersion,
                        Bad::Request(_) => Code::BadRequest,
                    };
                    Err(Refusal::new(code, bad))
                }
            };
            match answer {
                Ok(Answer::Done(value)) => self.end(Ok(value))?,
                Ok(Answer::Items(items)) => self.items(items)?,
                Ok(Answer::Feed(feed)) => return self.feed(feed),
                Err(refusal) => self.end(Err(refusal))?,
            }
        }
    }

    fn end(&mut self, result: Result<Value, Refusal>) -> io::Result<()> {
        let reply = result.map_or_else(Reply::Failed, Reply::Done);
        self.out.write_all(&line(&reply))?;
        self.out.flush()
    }

    fn items(&mut self, items: Box<dyn Iterator<Item = Value>>) -> io::Result<()> {
        let mut count = 0u64;
        for item in items {
            self.out.write_all(&line(&Reply::Item(item)))?;
            count += 1;
        }
        self.end(Ok(json!({"rows": count})))
    }

    fn feed(&mut self, mut feed: Box<dyn Feed>) -> io::Result<()> {
        loop {
            match feed.next(LOOK) {
                Fed::Items(items) => {
                    for item in items {
                        self.out.write_all(&line(&Reply::Item(item)))?;
                    }
                    self.out.flush()?;
                }
                Fed::Nothing if is_gone(self.stream.as_fd()) => return Ok(()),
                Fed::Nothing => {}
                Fed::End => return self.end(Ok(Value::Null)),
            }
        }
    }
}

fn is_timeout(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut)
}
