//! What the publisher service's control socket and exporter answer. Everything is asked of the main
//! loop, so that an answer also proves that it runs.

use serde_json::json;

use super::live::Live;
use crate::config::log_filter_fault;
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
            Request::LogLevel { level } => {
                if let Some(level) = &level
                    && let Some(fault) = log_filter_fault(level)
                {
                    return Err(Refusal::new(Code::Invalid, fault));
                }
                let level = self.live.ask(move |live| {
                    if let Some(level) = level {
                        live.level().set(&level);
                        log::info!("an operator has set log_level to {level}");
                    }
                    live.level().get()
                })?;
                Ok(Answer::Done(json!({"level": level})))
            }
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

fn ill(why: Refusal) -> Ill {
    Ill(vec![why.message])
}
