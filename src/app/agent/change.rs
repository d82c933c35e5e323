//! What a new configuration changes while the agent runs: decided here, done in [`super::live`].

use crate::config::{AgentConfig, HandlerConfig};

/// What is to be done.
#[derive(Debug, Default, PartialEq)]
pub struct Change {
    /// The publishers are others, or what completes the addresses of those that are discovered is.
    pub publishers: bool,
    /// Topics to subscribe to.
    pub topics_new: Vec<String>,
    /// Topics to unsubscribe from.
    pub topics_gone: Vec<String>,
    /// Handlers to end, by name. One that is changed is ended and started.
    pub handlers_gone: Vec<String>,
    /// Handlers to start.
    pub handlers_new: Vec<HandlerConfig>,
    /// What to log.
    pub log_level: Option<String>,
    /// Changed keys that take effect by a reload.
    pub taken: Vec<&'static str>,
    /// Changed keys that take effect at the next start only.
    pub later: Vec<&'static str>,
}

impl Change {
    /// What leads from `old` to `new`.
    pub fn between(old: &AgentConfig, new: &AgentConfig) -> Self {
        let (was, is) = (old.subscriptions(), new.subscriptions());
        let without = |topics: &[String], others: &[String]| -> Vec<String> {
            let gone = topics.iter().filter(|topic| !others.contains(topic));
            gone.cloned().collect()
        };
        let missing = |handlers: &[HandlerConfig], from: &[HandlerConfig]| -> Vec<HandlerConfig> {
            let missing = from.iter().filter(|handler| !handlers.contains(handler));
            missing.cloned().collect()
        };
        let gone = missing(&new.handler, &old.handler);
        let (taken, later) = old.differs(new);
        Change {
            publishers: old.publishers != new.publishers
                || old.publisher_port != new.publisher_port
                || old.publisher_transport != new.publisher_transport,
            topics_new: without(&is, &was),
            topics_gone: without(&was, &is),
            handlers_gone: gone.into_iter().map(|handler| handler.name).collect(),
            handlers_new: missing(&old.handler, &new.handler),
            log_level: (old.log_level != new.log_level).then(|| new.log_level.clone()),
            taken,
            later,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Known, Sources, load_agent};
    use crate::handler::registry::Registry;

    fn config(folder: &std::path::Path, text: &str) -> AgentConfig {
        let file = folder.join("agent.toml");
        std::fs::write(&file, format!("security = \"none\"\n{text}")).unwrap();
        let sources = Sources {
            files: vec![file],
            ..Sources::default()
        };
        load_agent(&sources, &Known::new(&Registry::builtin())).unwrap()
    }

    #[test]
    fn the_same_files_change_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let text = "topics = [\"a\"]\n[[handler]]\nmodule = \"exec\"\ncommand = [\"x\", \"y\"]\n";
        let (old, new) = (config(folder.path(), text), config(folder.path(), text));
        assert_eq!(Change::between(&old, &new), Change::default());
    }

    #[test]
    fn each_kind_of_change() {
        let folder = tempfile::tempdir().unwrap();
        let old = config(
            folder.path(),
            "publishers_ips = [\"10.0.0.1\"]\ntopics = [\"a\", \"b\"]\n\
             [[handler]]\nmodule = \"log\"\n\
             [[handler]]\nmodule = \"exec\"\ncommand = [\"x\"]\n\
             [[handler]]\nname = \"gone\"\nmodule = \"log\"\n",
        );
        let new = config(
            folder.path(),
            "publishers_ips = [\"10.0.0.1\", \"10.0.0.2\"]\ntopics = [\"b\", \"c\"]\n\
             log_level = \"debug\"\nrun_dir = \"/elsewhere\"\nstuck_timeout = 9.0\ntombstone_ttl = 9\n\
             [[handler]]\nmodule = \"exec\"\ncommand = [\"y\"]\n\
             [[handler]]\nmodule = \"log\"\n\
             [[handler]]\nname = \"new\"\nmodule = \"log\"\n",
        );
        let change = Change::between(&old, &new);
        assert!(change.publishers);
        assert_eq!(change.topics_new, ["c"]);
        assert_eq!(change.topics_gone, ["a"]);
        assert_eq!(change.handlers_gone, ["exec", "gone"]);
        let started: Vec<&str> = change
            .handlers_new
            .iter()
            .map(|handler| handler.name.as_str())
            .collect();
        assert_eq!(started, ["exec", "new"]);
        assert_eq!(change.log_level.as_deref(), Some("debug"));
        let taken = [
            "publishers_ips",
            "topics",
            "log_level",
            "stuck_timeout",
            "tombstone_ttl",
            "handler",
        ];
        assert!(taken.iter().all(|key| change.taken.contains(key)));
        assert_eq!(change.taken.len(), taken.len());
        assert_eq!(change.later, ["run_dir"]);
    }

    /// Discovery completes addresses by them, whatever the configured publishers have of their own.
    #[test]
    fn port_and_transport_are_of_the_discovered_publishers_too() {
        let folder = tempfile::tempdir().unwrap();
        let own = "publishers_ips = [\"tcp://10.0.0.1:1\"]\n";
        let old = config(folder.path(), own);
        for key in ["publisher_port = 9000", "publisher_transport = \"ipc\""] {
            let new = config(folder.path(), &format!("{own}{key}\n"));
            assert_eq!(old.publishers, new.publishers, "{key}");
            let change = Change::between(&old, &new);
            assert!(change.publishers && change.taken.len() == 1, "{change:?}");
        }
    }
}
