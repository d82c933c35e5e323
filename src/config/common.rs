//! The keys that agent and publisher share, and the checks that go with them.

use figment::value::Value;

use super::Faults;
use super::keys::{Spec, key};
use super::kind::Kind;
use super::layers::Layers;
use super::setting::Setting;
use crate::pubsub::endpoint::{Defaults, Endpoint};

/// How tcp sockets are secured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Security {
    /// CURVE: encrypted, both sides known by their keys.
    #[default]
    Curve,
    /// Plain text; anyone who reaches the port takes part.
    None,
}

impl Setting for Security {
    fn from_value(value: &Value) -> Option<Self> {
        match value.as_str()? {
            "curve" => Some(Security::Curve),
            "none" => Some(Security::None),
            _ => None,
        }
    }
}

pub(super) const TRANSPORTS: Kind = Kind::Choice(&["tcp", "epgm", "ipc"]);

pub(super) const SECURITY: Spec = key(
    r#""curve""#,
    Kind::Choice(&["curve", "none"]),
    "How the network sockets are secured. \"none\" sends and accepts events in plain text from\n\
     anyone who reaches the port, so it is never the default. \"curve\" encrypts, and nobody takes\n\
     part without a key that the other side knows: docs/security.md.",
);

pub(super) const STATE_DIR: Spec = key(
    r#""/var/lib/fanfare""#,
    Kind::Folder(1024),
    "Where state is kept over restarts: the publisher's journal and rows, the agent's checkpoint.\n\
     Removing a publisher's loses what only it knew; an agent's is only there to save time.",
);

pub(super) const RUN_DIR: Spec = key(
    r#""/run/fanfare""#,
    Kind::Folder(80),
    "Where the control socket and locks are. Short, because the path of a unix socket is.\n\
     A second daemon of one kind needs another.",
);

pub(super) const METRICS_DOC: &str = "The address on which Prometheus finds /metrics, and anyone /healthz and /readyz. Whoever\n\
     reaches it can read them; there is no password. Empty: nothing listens.";

pub(super) const STUCK_TIMEOUT: Spec = key(
    "600.0",
    Kind::Seconds(0.5, 86400.0),
    "A thread that works on one thing for so long is stuck: the daemon is not ready, and the service\n\
     manager's watchdog (WatchdogSec) is fed no more, so that it restarts the daemon. Longer than\n\
     any handler may take over one event.",
);

pub(super) const TOMBSTONE_TTL: Spec = key(
    "604800",
    Kind::Seconds(1.0, 31_536_000.0),
    "How long a deleted object is remembered, so that a late older change does not bring it\n\
     back. Longer than any publisher is away. The same at publishers and agents.",
);

pub(super) const LOG_LEVEL: Spec = key(
    r#""info""#,
    Kind::LogFilter,
    "What is logged, by level and module.",
);

pub(super) const HELLO_INTERVAL: Spec = key(
    "1.0",
    Kind::Seconds(0.05, 60.0),
    "How soon after an event a publisher says hello at the latest. A lost last event is found\n\
     only by the hello after it.",
);

pub(super) const MAX_IDLE_TIME: Spec = key(
    "5.0",
    Kind::Seconds(0.1, 3600.0),
    "How often an idle publisher says hello. An agent that hears nothing for three times as long\n\
     takes the connection for dead and makes it again. The same on agents and publishers.",
);

pub(super) const MAX_MESSAGE_SIZE: Spec = key(
    "4194304",
    Kind::Count(1 << 10, 1 << 30, "bytes"),
    "Longest message, all frames together. A longer one is refused and counted; it bounds the\n\
     memory that a broken or hostile peer can take.",
);

pub(super) const SOCKET_USERS: Spec = key(
    "[]",
    Kind::Users,
    "The users, by name or number, who may use the unix sockets of the daemon beside root and the\n\
     user it runs as; the others are refused and counted, whatever group they are of. Empty: whoever\n\
     mode and group of the socket let in.",
);

pub(super) const STOP_TIMEOUT: Spec = key(
    "1.5",
    Kind::Seconds(0.1, 60.0),
    "How long the daemon takes at most to end in order; what is stuck is then abandoned. Keep it\n\
     below the service manager's limit (TimeoutStopSec).",
);

/// The addresses that the list `key` names, each once.
pub(super) fn endpoints(
    key: &str,
    entries: &[String],
    defaults: &Defaults,
    layers: &Layers,
    faults: &mut Faults,
    notes: &mut Vec<String>,
) -> Vec<Endpoint> {
    let mut endpoints = Vec::new();
    // While the transport is not known, an entry without a scheme can mean anything.
    let unclear = faults.name_any(&["publisher_transport"]);
    for entry in entries {
        if unclear && !entry.contains("://") {
            continue;
        }
        match Endpoint::parse(entry, defaults) {
            Ok(endpoint) if endpoints.contains(&endpoint) => {
                notes.push(format!("{key} lists {endpoint} more than once"));
            }
            Ok(endpoint) => endpoints.push(endpoint),
            Err(error) => {
                let at = layers.locate(key);
                faults.add(at, key, format_args!("{entry:?}: {error}"));
            }
        }
    }
    endpoints
}

/// Multicast has no security, and nothing may be open without the operator having written so.
pub(super) fn check_protected(
    security: Security,
    endpoint: &Endpoint,
    key: &str,
    layers: &Layers,
    faults: &mut Faults,
) {
    let bare = matches!(endpoint, Endpoint::Epgm { .. });
    if security == Security::Curve && bare && !faults.name_any(&["security", key]) {
        let why = format!(
            r#"{endpoint} is multicast, which nothing secures; use tcp, or write security = "none""#
        );
        faults.add(layers.locate(key), key, why);
    }
}

/// What to say at each start when nothing is secured.
pub(super) fn security_warning(security: Security) -> Option<String> {
    (security == Security::None).then(|| {
        r#"security = "none": events travel in plain text, and anyone who reaches the port can send and read them"#
            .into()
    })
}
