//! Makes of a message what the service is handed, or what the client is answered at once.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::RequestMetrics;
use crate::event::{Action, Event, EventBatch, codec};
use crate::publisher::submit::{Answer, Code, Head, Refusal, Reply, Request, SubmitError};
use crate::publisher::submit::{VERSION, check};
use crate::util::rate::RateLimit;

/// A request that was read.
pub(super) struct Taken {
    pub head: Head,
    pub events: EventBatch,
    pub versions: Vec<Option<u64>>,
    /// The events that no publisher would take.
    pub refused: Vec<Refusal>,
}

/// Log lines about requests that cannot be read.
const LINES: u32 = 5;
const LINES_INTERVAL: Duration = Duration::from_secs(60);

/// Stands where an event was refused. It names no row and no topic, so that whoever would publish
/// it by mistake finds that it cannot be.
const NO_EVENT: Event<'static> = Event {
    table: "",
    key: "",
    action: Action::Other(""),
    value: None,
    topic: Some(""),
    stamp: None,
};

pub(super) struct Desk {
    max_event: usize,
    metrics: Arc<RequestMetrics>,
    lines: RateLimit,
}

impl Desk {
    pub fn new(max_event: usize, metrics: Arc<RequestMetrics>) -> Self {
        Desk {
            max_event,
            metrics,
            lines: RateLimit::new(LINES, LINES_INTERVAL),
        }
    }

    /// Reads a request; the answer when it cannot be read.
    pub fn take(&self, payload: &[u8]) -> Result<Taken, Answer> {
        let request = Request::decode(payload).map_err(|error| self.malformed(payload, error))?;
        let count = request.count();
        let mut taken = Taken {
            head: request.head,
            events: EventBatch::with_capacity(count, payload.len()),
            versions: Vec::with_capacity(count),
            refused: Vec::new(),
        };
        for (item, number) in request.items().zip(request.head.first..) {
            let event = match self.event(item.payload, item.version) {
                Ok(event) => event,
                Err((code, reason)) => {
                    self.metrics.request_events_refused_total.inc();
                    taken.refused.push(Refusal {
                        number,
                        code,
                        reason,
                    });
                    NO_EVENT
                }
            };
            // A request is far smaller than a batch may be.
            taken.events.push(&event);
            taken.versions.push(item.version);
        }
        Ok(taken)
    }

    fn event<'a>(
        &self,
        payload: &'a [u8],
        version: Option<u64>,
    ) -> Result<Event<'a>, (Code, String)> {
        if payload.len() > self.max_event {
            let (len, max) = (payload.len(), self.max_event);
            let why = format!("{len} bytes are more than the {max} of max_message_size");
            return Err((Code::TooLarge, why));
        }
        let event = codec::decode(payload).map_err(|error| (Code::Malformed, error.to_string()))?;
        check(&event, version)?;
        Ok(Event {
            stamp: None,
            ..event
        })
    }

    /// Counts and logs what cannot be read, and says what to answer.
    pub fn malformed(&self, payload: &[u8], error: SubmitError) -> Answer {
        self.metrics.requests_malformed_total.inc();
        if let Some(permit) = self.lines.permit(Instant::now()) {
            log::warn!("a publishing client sent what is no request: {error}{permit}");
        }
        let (tag, first) = Request::peek(payload);
        let reply = match error {
            SubmitError::Version(_) => Reply::Unsupported {
                versions: vec![VERSION],
            },
            error => Reply::Malformed {
                reason: error.to_string(),
            },
        };
        Answer { tag, first, reply }
    }
}
