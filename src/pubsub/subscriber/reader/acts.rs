//! What the session says is done, and what becomes of the link and of look-ups is told to it.

use std::time::Instant;

use super::{Command, Reader};
use crate::pubsub::api::LinkChange::{Down, Up};
use crate::pubsub::api::PubSubError;
use crate::pubsub::subscriber::link::Signal;
use crate::pubsub::subscriber::names::Known;
use crate::pubsub::subscriber::resolve::Found;
use crate::pubsub::subscriber::session::{Action, Input};

impl Reader {
    pub(super) fn act(&mut self, action: Action) {
        let metrics = &self.parts.source.metrics;
        match action {
            Action::Resolve => self.resolve(),
            Action::Open => self.open(),
            Action::Announce(change) => {
                match change {
                    Up { .. } => {
                        metrics.connects_total.inc();
                        metrics.live.set(1);
                        self.say(log::Level::Info, format_args!("connected"));
                    }
                    Down => {
                        metrics.disconnects_total.inc();
                        metrics.live.set(0);
                        self.say(log::Level::Warn, format_args!("connection lost"));
                    }
                }
                self.parts.follow.link(change, &self.target, Instant::now());
            }
            Action::DropLegacySubscriptions => {
                metrics.legacy.set(0);
                self.drop_legacy_subscriptions();
            }
            // Workers of this host say no hello either, and nobody expects one of them.
            Action::TreatAsLegacy if !self.parts.transport.selects() => {}
            Action::TreatAsLegacy => {
                self.parts.follow.legacy(Instant::now());
                metrics.legacy.set(1);
                self.say(
                    log::Level::Info,
                    format_args!("sends no hello: treated as legacy"),
                );
            }
            Action::SubscribeToHellos => self.subscribe_to_hellos(),
            Action::CountSilence => {
                metrics.silences_total.inc();
                self.say(
                    log::Level::Warn,
                    format_args!("silent for too long, no hello came"),
                );
            }
            Action::CountRefusal => {
                metrics.refusals_total.inc();
                self.say(
                    log::Level::Error,
                    format_args!(
                        "refused: the handshake broke off, the peer may speak another protocol"
                    ),
                );
            }
            Action::CountTimeout => {
                metrics.connects_failed_total.inc();
                let limit = self.parts.options.connect_timeout;
                self.say(
                    log::Level::Warn,
                    format_args!("not connected within {limit:?}"),
                );
            }
        }
    }

    pub(super) fn say(&self, level: log::Level, what: std::fmt::Arguments<'_>) {
        if let Some(permit) = self.lines.permit(Instant::now()) {
            log::log!(level, "{}: {what}{permit}", self.parts.source.uri);
        }
    }

    fn resolve(&mut self) {
        let commands = match self.parts.commands.try_clone() {
            Ok(commands) => commands,
            Err(error) => return self.found(Err(error.to_string())),
        };
        let answer = move |found| {
            if !commands.send(Command::Found(found)) {
                log::debug!("a look-up ended after its reader");
            }
        };
        match self.names.resolve(answer) {
            Known::Now => self.inputs.push(Input::Resolved),
            Known::Later => {}
            Known::Failed(why) => self.found(Err(why)),
        }
    }

    pub(super) fn found(&mut self, found: Found) {
        if let Err(why) = &found {
            self.say(log::Level::Warn, format_args!("name not resolved: {why}"));
        }
        if self.names.found(found) {
            self.inputs.push(Input::Resolved);
        } else {
            self.parts.source.metrics.connects_failed_total.inc();
            self.inputs.push(Input::ResolveFailed);
        }
    }

    pub(super) fn take_signals(&mut self) -> Result<(), PubSubError> {
        let Some(link) = &mut self.link else {
            return Ok(());
        };
        while let Some(signal) = link.signal()? {
            let metrics = &self.parts.source.metrics;
            let input = match signal {
                Signal::Up => Input::Up,
                Signal::Down => Input::Down,
                Signal::ConnectFailed(why) => {
                    metrics.connects_failed_total.inc();
                    if let Some(permit) = self.lines.permit(Instant::now()) {
                        log::warn!("{}: not connected: {why}{permit}", self.parts.source.uri);
                    }
                    Input::ConnectFailed
                }
                Signal::BrokenOff(why) => {
                    // A side that does not accept the other's key, or whether there are any, says no more.
                    metrics.connects_failed_total.inc();
                    metrics.refusals_total.inc();
                    if let Some(permit) = self.lines.permit(Instant::now()) {
                        log::warn!("{}: not connected: {why}{permit}", self.parts.source.uri);
                    }
                    Input::ConnectFailed
                }
                Signal::TurnedAway(count) => {
                    metrics.refusals_total.add(count);
                    if let Some(permit) = self.lines.permit(Instant::now()) {
                        log::warn!(
                            "{}: {count} connections not taken, of users who are not in \
                             socket_users{permit}",
                            self.parts.source.uri
                        );
                    }
                    continue;
                }
                Signal::Refused(why) => {
                    metrics.refusals_total.inc();
                    if let Some(permit) = self.lines.permit(Instant::now()) {
                        log::error!("{}: refused: {why}{permit}", self.parts.source.uri);
                    }
                    Input::Refused
                }
            };
            self.inputs.push(input);
        }
        Ok(())
    }
}
