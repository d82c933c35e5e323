//! What the agent's control socket and exporter answer.
//!
//! Rows are read here, on the client's thread, a few thousand at a time; everything else is asked
//! of the main loop, so that an answer also proves that it runs.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use super::live::Live;
use crate::app::daemon::{self, ill};
use crate::control::{Answer, Calls, Code, Desk, Fed, Feed, Refusal, Request};
use crate::dispatch::onlook::{Onlooker, Seen};
use crate::dispatch::{Filter, Hub, LaneHandle, Quarantined};
use crate::event::topic;
use crate::exporter::{self, Exhibit, Group, Ill};
use crate::handler::json;
use crate::replica::RowKey;
use crate::status::topics;
use crate::util::printable;

/// Rows looked at in one go: the hub's lock is held for so many.
const STEP: usize = 4096;

/// The desk of an agent. Cheap to clone.
#[derive(Clone)]
pub struct AgentDesk {
    pub live: Calls<Live>,
    pub hub: Arc<Hub>,
}

impl Desk for AgentDesk {
    fn answer(&self, request: Request) -> Result<Answer, Refusal> {
        match request {
            Request::Status {} => self.status(),
            Request::Watch { tables, topics } => Ok(self.watch(Filter {
                tables,
                topics,
                ..Filter::default()
            })),
            Request::Get { table, key } => self.get(&table, key.as_deref()),
            Request::TopicsList {} => {
                let subscribed = self.live.ask(|live| live.topics())?;
                let topics = topics(&self.hub, subscribed);
                Ok(items(topics.into_iter().map(|topic| json!(topic))))
            }
            Request::TopicsAdd { topic } => {
                topic::check(&topic).map_err(|why| invalid(&topic, why))?;
                let name = topic.clone();
                let added = self.live.ask(move |live| live.agent.add_topic(&name))?;
                let changed = added.map_err(|why| invalid(&topic, why))?;
                Ok(Answer::Done(json!({"changed": changed})))
            }
            Request::TopicsRemove { topic } => {
                topic::check(&topic).map_err(|why| invalid(&topic, why))?;
                if topic == crate::event::SEND_ALL {
                    return Err(invalid(&topic, "it goes to all and cannot be left out"));
                }
                let changed = self.live.ask(move |live| live.agent.remove_topic(&topic))?;
                Ok(Answer::Done(json!({"changed": changed})))
            }
            Request::Resync { handler } => {
                let name = handler.clone();
                let asked = self
                    .live
                    .ask(move |live| live.agent.resync(name.as_deref()))?;
                match (asked, handler) {
                    (false, Some(name)) => Err(no_handler(&name)),
                    _ => Ok(Answer::Done(Value::Null)),
                }
            }
            Request::QuarantineList { handler } => {
                let handles = self.handles(handler.as_deref())?;
                let rows = handles.into_iter().flat_map(|handle| quarantine(&handle));
                Ok(items(rows))
            }
            Request::QuarantineRelease {
                handler,
                table,
                key,
            } => {
                let handles = self.handles(handler.as_deref())?;
                let released = handles
                    .iter()
                    .map(|handle| release(handle, table.as_deref(), key.as_deref()));
                Ok(Answer::Done(json!({"released": released.sum::<usize>()})))
            }
            Request::LogLevel { level } => daemon::log_level(&self.live, level, Live::level),
        }
    }
}

/// What one handler has in quarantine, an item each.
fn quarantine(handle: &LaneHandle) -> Vec<Value> {
    let rows = handle.quarantine().into_iter();
    let item = |(name, held): (RowKey, Quarantined)| {
        json!({
            "handler": handle.name(),
            "table": *name.table,
            "key": *name.key,
            "reason": held.reason,
            "seconds": held.since.elapsed().as_secs(),
            "version": held.version,
            "lasting": held.lasting,
        })
    };
    rows.map(item).collect()
}

/// Releases what is named; says how many rows.
fn release(handle: &LaneHandle, table: Option<&str>, key: Option<&str>) -> usize {
    let (Some(table), key) = (table, key) else {
        return handle.release_all();
    };
    let rows = handle.quarantine().into_iter().map(|(name, _)| name);
    let named =
        rows.filter(|name| *name.table == *table && key.is_none_or(|key| *name.key == *key));
    let released = named.filter(|name| handle.release(&name.table, &name.key));
    released.count()
}

fn invalid(topic: &str, why: impl std::fmt::Display) -> Refusal {
    let topic = printable::name(topic, 64);
    Refusal::new(Code::Invalid, format_args!("topic {topic}: {why}"))
}

fn no_handler(name: &str) -> Refusal {
    let name = printable::name(name, 64);
    Refusal::new(Code::NotFound, format_args!("there is no handler {name}"))
}

fn items(items: impl Iterator<Item = Value> + 'static) -> Answer {
    Answer::Items(Box::new(items))
}

impl AgentDesk {
    /// The handler of this name, or all.
    fn handles(&self, name: Option<&str>) -> Result<Vec<LaneHandle>, Refusal> {
        let mut handles = self.live.ask(|live| live.agent.handles())?;
        if let Some(name) = name {
            handles.retain(|handle| handle.name() == name);
            if handles.is_empty() {
                return Err(no_handler(name));
            }
        }
        Ok(handles)
    }

    fn status(&self) -> Result<Answer, Refusal> {
        let (mut report, subscribed) = self.live.ask(|live| (live.report(), live.topics()))?;
        report.topics = topics(&self.hub, subscribed);
        Ok(Answer::Done(json!(report)))
    }

    fn watch(&self, filter: Filter) -> Answer {
        Answer::Feed(Box::new(Changes {
            onlooker: self.hub.onlook(filter),
        }))
    }

    fn get(&self, table: &str, key: Option<&str>) -> Result<Answer, Refusal> {
        let names = match key {
            Some(key) => self
                .hub
                .with_replica(|replica| {
                    let _exists = replica.get(table, key)?;
                    replica.name(table, key)
                })
                .into_iter()
                .collect(),
            None => self.names(table),
        };
        if names.is_empty() {
            let table = printable::name(table, 64);
            return Err(match key {
                Some(key) => {
                    let key = printable::name(key, 128);
                    Refusal::new(
                        Code::NotFound,
                        format_args!("there is no row {key} in table {table}"),
                    )
                }
                None => Refusal::new(
                    Code::NotFound,
                    format_args!("there are no rows in table {table}"),
                ),
            });
        }
        let hub = Arc::clone(&self.hub);
        // One gone meanwhile is left out.
        Ok(items(
            names.into_iter().filter_map(move |name| row(&hub, &name)),
        ))
    }

    /// The keys of `table` in order.
    fn names(&self, table: &str) -> Vec<RowKey> {
        let mut names = Vec::new();
        let mut cursor = self.hub.with_replica(|replica| replica.cursor());
        let mut more = true;
        while more {
            more = self.hub.with_replica(|replica| {
                replica.walk(&mut cursor, STEP, |name, _| {
                    if *name.table == *table {
                        names.push(name.clone());
                    }
                })
            });
        }
        names.sort_unstable();
        names
    }
}

fn row(hub: &Hub, name: &RowKey) -> Option<Value> {
    hub.with_replica(|replica| {
        let row = replica.get(&name.table, &name.key)?;
        let stamp = row.stamp.as_ref();
        Some(json!({
            "table": *name.table,
            "key": *name.key,
            "value": row.value,
            "topic": *row.topic,
            "version": stamp.map(|stamp| stamp.version),
            "unix_micros": stamp.map(|stamp| stamp.unix_micros),
        }))
    })
}

/// Events for `watch`.
struct Changes {
    onlooker: Onlooker,
}

impl Feed for Changes {
    fn next(&mut self, wait: Duration) -> Fed {
        match self.onlooker.next(wait) {
            Seen::Events(events) => {
                let wanted = events.seen(&self.onlooker.filter);
                // As handlers are given them. What is written there is JSON.
                let parsed = |e| serde_json::from_str(&json::event(&e, false)).ok();
                Fed::Items(wanted.filter_map(parsed).collect())
            }
            Seen::Lost(lost) => Fed::Items(vec![json!({"lost": lost})]),
            Seen::Nothing => Fed::Nothing,
            Seen::End => Fed::End,
        }
    }
}

impl Exhibit for AgentDesk {
    fn metrics(&self) -> Result<Vec<Group>, Ill> {
        let report = self.live.ask(|live| live.report()).map_err(ill)?;
        Ok(exporter::agent(&report))
    }

    fn alive(&self) -> Result<(), Ill> {
        self.live.ask(|_| ()).map_err(ill)
    }

    fn ready(&self) -> Result<(), Ill> {
        let health = self.live.ask(|live| live.look()).map_err(ill)?;
        match health.is_ready() {
            true => Ok(()),
            false => Err(Ill(health.reasons)),
        }
    }
}
