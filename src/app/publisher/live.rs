//! The running service and all that its main loop does with it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::vigil::{Health, Vigil};
use super::wire::Wired;
use crate::app::daemon::{self, Reloaded};
use crate::app::logging::Level;
use crate::config::{Known, PublisherConfig, Sources, load_publisher};
use crate::control::ControlMetrics;
use crate::exporter::ExporterMetrics;
use crate::handler::registry::Registry;
use crate::status::{Counted, Own, Part, PeerReport, Process, RefusedTopic, ServiceReport};
use crate::util::systemd::Notifier;

/// Topics in a report.
const TOPICS: usize = 100;

/// What the main loop owns.
pub struct Live {
    pub wired: Wired,
    config: PublisherConfig,
    sources: Sources,
    own: Own,
    vigil: Vigil,
    health: Health,
    notifier: Notifier,
    told_status: String,
    level: Level,
    reloaded: Reloaded,
    pub control: Arc<ControlMetrics>,
    pub exporter: Arc<ExporterMetrics>,
}

impl Live {
    /// A running service that was started by `config`, which was read from `sources`.
    pub fn new(
        wired: Wired,
        config: PublisherConfig,
        sources: Sources,
        level: Level,
        notifier: Notifier,
    ) -> Self {
        Live {
            vigil: Vigil::new(&wired, Instant::now()),
            wired,
            config,
            sources,
            own: Own::default(),
            health: Health::default(),
            notifier,
            told_status: String::new(),
            level,
            reloaded: Reloaded::default(),
            control: Arc::default(),
            exporter: Arc::default(),
        }
    }

    /// How often [`Live::tick`] is to be called.
    pub fn interval(&self) -> Duration {
        daemon::interval(&self.notifier)
    }

    /// The service manager is told that all is bound.
    pub fn started(&mut self) {
        self.told_status = self.line();
        self.notifier.ready(&self.told_status);
        self.tick();
    }

    /// Looks at everything and tells the service manager. Its watchdog is fed by this, and only
    /// while its threads get on.
    pub fn tick(&mut self) {
        self.look();
        if self.health.stuck == 0 {
            self.notifier.alive();
        }
        let status = self.line();
        if status != self.told_status {
            self.notifier.status(&status);
            self.told_status = status;
        }
    }

    /// The service manager is told that the end has come.
    pub fn stopping(&self) {
        self.notifier.stopping();
    }

    /// What is logged.
    pub fn level(&self) -> &Level {
        &self.level
    }

    /// Why the service does not take or send events, a line each; none when it does.
    pub fn look(&mut self) -> Vec<String> {
        let now = Instant::now();
        self.health = self.vigil.look(&self.wired, &self.config, now);
        let metrics = &self.own.metrics;
        metrics.ready.set(self.health.reasons.is_empty().into());
        metrics.stuck_threads.set(self.health.stuck);
        metrics.log_lines_lost_total.set(self.level.lost());
        self.health.reasons.clone()
    }

    /// The whole of it.
    pub fn report(&mut self) -> ServiceReport {
        let reasons = self.look();
        let service = self.wired.service();
        let (subscribers, topics_not_listed) = service.audience.largest(TOPICS);
        let counted = self.wired.counted().into_iter();
        let mut parts: BTreeMap<Part, Counted> = counted
            .map(|(part, samples)| (part, Counted(samples)))
            .collect();
        if let Some(source) = self.wired.sources().first() {
            parts.insert(Part::Workers, Counted(source.metrics.each()));
        }
        parts.insert(Part::Control, Counted(self.control.each()));
        parts.insert(Part::Exporter, Counted(self.exporter.each()));
        parts.insert(Part::Publisher, Counted(self.own.metrics.each()));
        parts.insert(Part::Process, Counted(Process::each(&self.own)));
        let (peers, own, now) = (self.wired.peers(), self.wired.id(), Instant::now());
        ServiceReport {
            version: env!("CARGO_PKG_VERSION"),
            pid: std::process::id(),
            uptime_seconds: self.own.started.elapsed().as_secs(),
            ready: reasons.is_empty(),
            reasons,
            notices: self.reloaded.notice.iter().cloned().collect(),
            log_level: self.level.get(),
            publisher_id: self.wired.id().to_owned(),
            incarnation: service.metrics.incarnation.get(),
            uri: self.wired.uri().to_owned(),
            subscribers,
            topics_not_listed,
            refused: self.refused(),
            peers: peers
                .iter()
                .map(|peer| PeerReport::new(peer, own, now))
                .collect(),
            parts,
        }
    }

    /// What nodes asked for and may not have.
    fn refused(&self) -> Vec<RefusedTopic> {
        let now = Instant::now();
        let latest = self.wired.permits().latest().into_iter();
        let each = latest.map(|refused| RefusedTopic {
            node: refused.node,
            topic: refused.topic,
            subscriptions: refused.subscriptions,
            requests: refused.requests,
            last_seconds: now.saturating_duration_since(refused.last).as_secs(),
        });
        each.collect()
    }

    /// One line for `systemctl status`.
    fn line(&mut self) -> String {
        let line = match self.look().as_slice() {
            [] => format!("sends on {}", self.config.bind),
            [why, ..] => why.clone(),
        };
        line + self.reloaded.told
    }

    /// Reads the configuration anew. A bad one is refused as a whole, with all its faults in the
    /// log. Only what is logged and who may have what can change while the service runs.
    pub fn reload(&mut self) {
        log::info!("SIGHUP: the configuration is read anew");
        self.notifier.reloading();
        self.wired.look_at_keys();
        let modules = Registry::builtin();
        self.reloaded = match load_publisher(&self.sources, &Known::new(&modules)) {
            Ok(new) => self.take(new),
            Err(faults) => Reloaded::refused(&faults),
        };
        self.own.metrics.reloaded(self.reloaded.told.is_empty());
        let status = self.line();
        self.notifier.ready(&status);
        self.told_status = status;
    }

    /// Does what `new` changes, and says whether all of it could be done. What is not in force by that is not
    /// taken over: it waits, and is named as often as it is asked.
    fn take(&mut self, new: PublisherConfig) -> Reloaded {
        let mut done = Reloaded::default();
        let (mut taken, later) = self.config.differs(&new);
        if taken.contains(&"grant") {
            if self.wired.proves() || new.grants().is_open() {
                self.wired.permits().set(new.grants());
            } else {
                let why = "grants take effect at the next start: as this process was started, nobody \
                           proves who it is";
                log::error!("{why}");
                done = Reloaded::in_part(Some(why));
                taken.retain(|key| *key != "grant");
            }
        }
        if taken.contains(&"log_level") {
            daemon::set_level(&self.level, &new.log_level, &mut taken);
        }
        daemon::put_off(&later);
        for warning in new.warnings() {
            log::warn!("{warning}");
        }
        self.config.take_over(&taken, &new);
        done
    }
}
