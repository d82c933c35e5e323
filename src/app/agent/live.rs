//! The running agent and all that its main loop does with it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::change::Change;
use super::parts::{defaults, lane};
use crate::agent::Agent;
use crate::agent::topics::OPERATOR;
use crate::agent::vigil::{Health, Vigil};
use crate::app::daemon::{self, Reloaded};
use crate::app::logging::Level;
use crate::config::{AgentConfig, Known, Ready, Sources, load_agent};
use crate::control::ControlMetrics;
use crate::event::SEND_ALL;
use crate::exporter::ExporterMetrics;
use crate::handler::registry::Registry;
use crate::status::{AgentReport, AgentView, Own};
use crate::util::systemd::Notifier;

/// What the main loop owns.
pub struct Live {
    pub agent: Agent,
    config: AgentConfig,
    sources: Sources,
    modules: Arc<Registry>,
    own: Own,
    vigil: Vigil,
    health: Health,
    notifier: Notifier,
    told_ready: bool,
    told_status: String,
    level: Level,
    /// What the last reload could not do.
    undone: Vec<String>,
    reloaded: Reloaded,
    pub control: Arc<ControlMetrics>,
    pub exporter: Arc<ExporterMetrics>,
}

impl Live {
    /// A running `agent` that was started by `config`, which was read from `sources`.
    pub fn new(
        agent: Agent,
        config: AgentConfig,
        sources: Sources,
        modules: Arc<Registry>,
        level: Level,
        notifier: Notifier,
    ) -> Self {
        Live {
            agent,
            config,
            sources,
            modules,
            own: Own::default(),
            vigil: Vigil::default(),
            health: Health::default(),
            notifier,
            told_ready: false,
            told_status: String::new(),
            level,
            undone: Vec::new(),
            reloaded: Reloaded::default(),
            control: Arc::default(),
            exporter: Arc::default(),
        }
    }

    /// How often [`Live::tick`] is to be called.
    pub fn interval(&self) -> Duration {
        daemon::interval(&self.notifier)
    }

    /// Looks at everything and tells the service manager. Its watchdog is fed by this, and only
    /// while no thread is stuck.
    pub fn tick(&mut self) {
        self.look();
        if self.health.stuck == 0 {
            self.notifier.alive();
        }
        let status = self.line();
        let ready = self.config.ready == Ready::Started || self.health.is_ready();
        if ready && !self.told_ready {
            self.told_ready = true;
            self.notifier.ready(&status);
            log::debug!("the service manager is told that the agent is up");
        } else if status != self.told_status {
            self.notifier.status(&status);
        }
        self.told_status = status;
    }

    /// The service manager is told that the end has come.
    pub fn stopping(&self) {
        self.notifier.stopping();
    }

    /// How it is now.
    pub fn look(&mut self) -> Health {
        let now = Instant::now();
        let limit = self.config.stuck_timeout;
        self.health = self.vigil.look(&self.agent, limit, now);
        let undone = self.undone.iter();
        let undone = undone.map(|why| format!("not done by the last reload: {why}"));
        self.health.reasons.extend(undone);
        let metrics = &self.own.metrics;
        metrics.ready.set(self.health.is_ready().into());
        metrics.stuck_threads.set(self.health.stuck as u64);
        metrics.log_lines_lost_total.set(self.level.lost());
        self.health.clone()
    }

    /// Forgets deleted objects whose time is over.
    pub fn forget(&self) {
        self.agent.hub().forget(self.config.tombstone_ttl);
    }

    /// The whole of it.
    pub fn report(&mut self) -> AgentReport {
        self.look();
        let view = AgentView {
            own: &self.own,
            vigil: &self.vigil,
            health: &self.health,
            log_level: self.level.get(),
            notices: self.reloaded.notice.iter().cloned().collect(),
            control: self.control.each(),
            exporter: self.exporter.each(),
        };
        AgentReport::new(&self.agent, &view, Instant::now())
    }

    /// One line for `systemctl status`.
    fn line(&self) -> String {
        let sources = self.agent.sources();
        let live = sources.iter().filter(|s| s.metrics.live.get() == 1).count();
        let mut line = format!(
            "{live} of {} publishers connected, {} handlers",
            sources.len(),
            self.agent.lanes().len()
        );
        // Without the times, which would make it another line every second.
        match self.health.reasons.len() {
            0 => line.push_str(", in step"),
            n => line.push_str(&format!(", not in step: {n} reasons, see fanfare status")),
        }
        line.push_str(self.reloaded.told);
        line
    }

    /// Who wants which topic, [`SEND_ALL`] included.
    pub fn topics(&self) -> Vec<(String, Vec<String>)> {
        let mut topics = self.agent.topics();
        topics.push((SEND_ALL.to_owned(), vec![OPERATOR.to_owned()]));
        topics
    }

    /// What is logged.
    pub fn level(&self) -> &Level {
        &self.level
    }

    /// Reads the configuration anew. A bad one is refused as a whole, with all its faults in the
    /// log, and the old one stays.
    pub fn reload(&mut self) {
        self.notifier.reloading();
        let known = Known::new(&self.modules);
        self.reloaded = match load_agent(&self.sources, &known) {
            Ok(new) => match self.take(new) {
                true => Reloaded::default(),
                // What could not be done is among the reasons.
                false => Reloaded::in_part(None),
            },
            Err(faults) => Reloaded::refused(&faults),
        };
        self.own.metrics.reloaded(self.reloaded.told.is_empty());
        self.look();
        // The manager waits for this even where it was never told that the agent is up.
        self.told_status = self.line();
        if self.told_ready || self.config.ready == Ready::Started || self.health.is_ready() {
            self.told_ready = true;
            self.notifier.ready(&self.told_status);
        }
    }

    /// Does what `new` changes; says whether all of it could be done. What is not in force by that is not
    /// taken over: it waits for the next start, or is tried again by the next reload.
    fn take(&mut self, new: AgentConfig) -> bool {
        let mut change = Change::between(&self.config, &new);
        let mut failed: Vec<String> = Vec::new();
        if let Some(level) = &change.log_level {
            daemon::set_level(&self.level, level, &mut change.taken);
        }
        self.config.take_over(&change.taken, &new);
        let selective = self.config.enable_selective_topology_distribution;
        self.agent.set_selective(selective);
        // What is new first: a row that moves to another topic is not missed in between.
        for topic in &change.topics_new {
            if let Err(error) = self.agent.add_topic(topic) {
                failed.push(error.to_string());
                self.config.topics.retain(|known| known != topic);
            }
        }
        self.agent.remove_topics(&change.topics_gone);
        if change.publishers {
            let failures = self.agent.set_publishers(&new.publishers, &defaults(&new));
            self.config.publishers.clone_from(&new.publishers);
            for (endpoint, error) in failures {
                failed.push(error.to_string());
                let publishers = &mut self.config.publishers;
                publishers.retain(|known| *known != endpoint);
            }
        }
        let gone: Vec<&str> = change.handlers_gone.iter().map(String::as_str).collect();
        if !gone.is_empty() {
            log::info!("handlers ended: {}", gone.join(", "));
            self.agent.remove_handlers(&gone);
        }
        for handler in &change.handlers_new {
            let lane = lane(&self.config, handler, &self.modules);
            match self.agent.add_handler(lane) {
                Ok(()) => log::info!("handler {} started", handler.name),
                Err(error) => {
                    failed.push(error.to_string());
                    let handlers = &mut self.config.handler;
                    handlers.retain(|known| known.name != handler.name);
                }
            }
        }
        daemon::put_off(&change.later);
        for warning in new.warnings() {
            log::warn!("{warning}");
        }
        for why in &failed {
            log::error!("{why}");
        }
        log::info!("the configuration is read anew");
        self.undone = failed;
        self.undone.is_empty()
    }
}
