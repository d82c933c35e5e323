//! What the gate knows and decides; its thread is in [`super::server`].

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::zap::{Question, Verdict};
use super::{Cuts, GateMetrics, GateOptions};
use crate::publisher::history::Moment;
use crate::pubsub::PubSubError;
use crate::security::admission;
use crate::security::authorized::{Authorized, Directory, Look};
use crate::security::pending::Pending;
use crate::util::bucket::Bucket;
use crate::util::rate::RateLimit;

pub(super) struct Guard {
    options: GateOptions,
    directory: Directory,
    authorized: Authorized,
    pending: Pending,
    /// Whether the list is to be written, and when that was done last.
    changed: bool,
    written: Option<Instant>,
    /// Whether connections are to be cut.
    lost: bool,
    last_cut: Option<Instant>,
    cuts: Cuts,
    metrics: Arc<GateMetrics>,
    complaints: RateLimit,
    refusals: RateLimit,
    hurries: RateLimit,
    /// The connections that each node may still make.
    admissions: HashMap<String, Bucket>,
}

/// Connections that a node may make at once, at both ports, and how many more a second. An agent makes
/// two, and makes them anew only with pauses.
const ADMISSIONS: f64 = 64.0;
const ADMISSION_RATE: f64 = 2.0;

/// How often the list is written at most. Strangers change it as they please, and meanwhile nobody is answered.
const WRITE_EVERY: Duration = Duration::from_secs(3);

impl Guard {
    pub(super) fn new(options: GateOptions, cuts: Cuts, metrics: Arc<GateMetrics>) -> Self {
        Guard {
            directory: Directory::new(&options.authorized),
            options,
            authorized: Authorized::default(),
            pending: Pending::default(),
            changed: false,
            written: None,
            lost: false,
            last_cut: None,
            cuts,
            metrics,
            complaints: RateLimit::new(5, Duration::from_secs(60)),
            refusals: RateLimit::new(10, Duration::from_secs(60)),
            hurries: RateLimit::new(5, Duration::from_secs(60)),
            admissions: HashMap::new(),
        }
    }

    /// The first look, which must succeed.
    pub(super) fn begin(&mut self) -> Result<(), PubSubError> {
        let look = self.directory.look().map_err(|error| PubSubError::System {
            what: "authorized_keys".into(),
            why: format!("{error}; it needs a file NAME.key for each node: fanfare authorise"),
        })?;
        if let Some(look) = look {
            self.take(look, Instant::now());
        }
        match Pending::read(&self.options.pending) {
            Ok(pending) => self.pending = pending,
            // It only helps the operator.
            Err(error) => log::warn!("{}: {error}", self.options.pending.display()),
        }
        self.forget_known();
        Ok(())
    }

    pub(super) fn judge(&mut self, question: &Question<'_>, now: Instant) -> Verdict {
        let Question { key, address } = question;
        if let Some(name) = self.authorized.name(key) {
            if self.options.admitted.is_out(name, now) {
                self.metrics.gate_kept_out_total.inc();
                // As an unknown one: it may come later.
                return Verdict::Unknown;
            }
            let (burst, full) = (ADMISSIONS, Bucket::full(ADMISSIONS, now));
            let admissions = self.admissions.entry(name.to_owned()).or_insert(full);
            if !admissions.take(burst, ADMISSION_RATE, now) {
                self.metrics.gate_hurried_total.inc();
                if let Some(permit) = self.hurries.permit(now) {
                    log::warn!(
                        "node {name} connects without end, from {address}: some of its attempts are \
                         refused{permit}"
                    );
                }
                return Verdict::Unknown;
            }
            log::debug!("{name} connects from {address}");
            self.metrics.gate_admitted_total.inc();
            let (number, user_id) = admission::user_id(name);
            // Keys are asked for on tcp only, so there is one.
            if let Ok(address) = address.parse() {
                self.options.admitted.came(name, number, address, now);
            }
            return Verdict::Admitted(user_id);
        }
        self.metrics.gate_refused_total.inc();
        let at = Moment::now().unix_micros / 1_000_000;
        self.changed = true;
        let new = self.pending.came(*key, address, at);
        self.metrics.gate_pending.set(self.pending.len() as u64);
        if new && let Some(permit) = self.refusals.permit(now) {
            log::warn!(
                "refused {address}: {key} is not authorised; to admit it: fanfare authorise NAME \
                 {key}{permit}"
            );
        }
        Verdict::Unknown
    }

    /// Looks at the directory, writes the list, and orders the cut that is due.
    pub(super) fn tick(&mut self, now: Instant) {
        let look = self.directory.look();
        let failed = look.is_err();
        self.metrics.gate_directory_failed.set(failed.into());
        match look {
            Ok(Some(look)) => self.take(look, now),
            Ok(None) => {}
            // Who was authorised stays so: a disk that fails for a moment is no reason to cut
            // everybody off. Nobody is added, and nobody shut out, which the operator must be told.
            Err(error) => {
                if let Some(permit) = self.complaints.permit(now) {
                    log::error!("authorized_keys {error}; as it was{permit}");
                }
            }
        }
        self.forget_known();
        let rested = |last| now.saturating_duration_since(last) >= WRITE_EVERY;
        if self.written.is_none_or(rested) {
            self.write(now);
        }
        let waited = |last| now.saturating_duration_since(last) >= self.options.cut_every;
        if self.lost && self.last_cut.is_none_or(waited) {
            self.lost = false;
            self.last_cut = Some(now);
            self.metrics.gate_cuts_total.inc();
            self.cuts.order();
        }
    }

    /// Writes the list, if it is another than was written.
    pub(super) fn write(&mut self, now: Instant) {
        if !std::mem::take(&mut self.changed) {
            return;
        }
        self.written = Some(now);
        if let Err(error) = self.pending.write(&self.options.pending)
            && let Some(permit) = self.complaints.permit(now)
        {
            log::warn!("{}: {error}{permit}", self.options.pending.display());
        }
    }

    fn take(&mut self, look: Look, now: Instant) {
        for why in &look.bad {
            if let Some(permit) = self.complaints.permit(now) {
                log::warn!("authorises nobody: {why}{permit}");
            }
        }
        for why in &look.unsure {
            if let Some(permit) = self.complaints.permit(now) {
                log::error!("authorises whom it did: {why}{permit}");
            }
        }
        let lost: Vec<&str> = self.authorized.lost_in(&look.authorized).collect();
        if let Some(first) = lost.first() {
            log::warn!(
                "{} nodes are authorised no longer or by another key ({first} is one); all \
                 connections will be made anew",
                lost.len()
            );
            self.lost = true;
        }
        self.metrics.gate_reads_total.inc();
        self.metrics.gate_nodes.set(look.authorized.len() as u64);
        self.metrics.gate_bad_files.set(look.bad.len() as u64);
        self.metrics.gate_unsure_files.set(look.unsure.len() as u64);
        if self.authorized != look.authorized {
            self.authorized = look.authorized;
            // No more than there are nodes; a few connections more for one that is authorised anew.
            self.admissions.clear();
        }
    }

    fn forget_known(&mut self) {
        let authorized = &self.authorized;
        if self.pending.forget(|key| authorized.name(key).is_some()) {
            self.changed = true;
        }
        self.metrics.gate_pending.set(self.pending.len() as u64);
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::security::admitted::Admitted;
    use crate::security::key::PublicKey;

    #[test]
    fn a_directory_that_cannot_be_looked_at_is_counted_and_changes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let authorized = folder.path().join("authorized");
        std::fs::create_dir(&authorized).unwrap();
        let key = PublicKey::new([1; 32]);
        let file = authorized.join("n1.key");
        crate::security::file::write_public(&file, &key, false).unwrap();
        let options = GateOptions {
            authorized: authorized.clone(),
            pending: folder.path().join("pending"),
            cut_every: Duration::ZERO,
            admitted: Admitted::default(),
        };
        let metrics = Arc::<GateMetrics>::default();
        let mut guard = Guard::new(options, Cuts::default(), Arc::clone(&metrics));
        guard.begin().unwrap();
        let now = Instant::now();
        let mut admits = || {
            guard.tick(now);
            let address = "127.0.0.1";
            let verdict = guard.judge(&Question { key, address }, now);
            let failed = metrics.gate_directory_failed.get();
            (matches!(verdict, Verdict::Admitted(_)), failed)
        };
        assert_eq!(admits(), (true, 0));
        let set = |mode| {
            let permissions = std::fs::Permissions::from_mode(mode);
            std::fs::set_permissions(&authorized, permissions).unwrap();
        };
        set(0o777);
        std::fs::remove_file(&file).unwrap();
        assert_eq!(admits(), (true, 1), "as it was");
        set(0o755);
        assert_eq!(admits(), (false, 0));
        std::fs::remove_dir(&authorized).unwrap();
        assert_eq!(admits(), (false, 1));
    }

    #[test]
    fn the_list_is_written_now_and_then() {
        let folder = tempfile::tempdir().unwrap();
        let pending = folder.path().join("pending");
        let options = GateOptions {
            authorized: folder.path().into(),
            pending: pending.clone(),
            cut_every: Duration::ZERO,
            admitted: Admitted::default(),
        };
        let mut guard = Guard::new(options, Cuts::default(), Arc::default());
        let start = Instant::now();
        let mut comes = |number, after: Duration| {
            let question = Question {
                key: PublicKey::new([number; 32]),
                address: "127.0.0.1",
            };
            assert!(matches!(guard.judge(&question, start), Verdict::Unknown));
            guard.tick(start + after);
            Pending::read(&pending).unwrap().len()
        };
        let soon = Duration::from_secs(1);
        assert_eq!(comes(1, Duration::ZERO), 1, "at once");
        assert_eq!(comes(2, soon), 1);
        assert_eq!(comes(3, WRITE_EVERY), 3);
        assert_eq!(comes(4, WRITE_EVERY + soon), 3);
        guard.write(start);
        assert_eq!(Pending::read(&pending).unwrap().len(), 4, "at the end");
    }
}
