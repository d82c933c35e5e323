//! What the publisher service's control socket and exporter answer. Everything is asked of the main
//! loop, so that an answer also proves that it runs.

use serde_json::json;

use super::live::Live;
use crate::app::daemon::{self, ill};
use crate::control::{Answer, Calls, Code, Desk, Refusal, Request};
use crate::exporter::{self, Exhibit, Group, Ill};

/// The desk of a publisher service.
pub struct PublisherDesk {
    pub live: Calls<Live>,
}

impl Desk for PublisherDesk {
    fn answer(&self, request: Request) -> Result<Answer, Refusal> {
        match request {
            Request::Status {} => {
                let report = self.live.ask(|live| live.report())?;
                Ok(Answer::Done(json!(report)))
            }
            Request::LogLevel { level } => daemon::log_level(&self.live, level, Live::level),
            Request::Watch { .. }
            | Request::Get { .. }
            | Request::TopicsList {}
            | Request::TopicsAdd { .. }
            | Request::TopicsRemove { .. }
            | Request::Resync { .. }
            | Request::QuarantineList { .. }
            | Request::QuarantineRelease { .. } => Err(Refusal::new(
                Code::Unsupported,
                "a publisher service has no such thing; ask an agent",
            )),
        }
    }
}

impl Exhibit for PublisherDesk {
    fn metrics(&self) -> Result<Vec<Group>, Ill> {
        let report = self.live.ask(|live| live.report()).map_err(ill)?;
        Ok(exporter::service(&report))
    }

    fn alive(&self) -> Result<(), Ill> {
        self.live.ask(|_| ()).map_err(ill)
    }

    fn ready(&self) -> Result<(), Ill> {
        let reasons = self.live.ask(|live| live.look()).map_err(ill)?;
        match reasons.is_empty() {
            true => Ok(()),
            false => Err(Ill(reasons)),
        }
    }
}
