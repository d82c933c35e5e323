mod faults;
mod grants;
mod handlers;
mod sources;

use std::fs;
use std::path::Path;
use std::time::Duration;

use super::*;
use crate::event::Event;
use crate::handler::{BuildError, Handler, HandlerError, Module, SyncReason};
use crate::pubsub::endpoint::{Host, Transport};

/// A configuration as its author sees it.
#[derive(Default)]
struct Case<'a> {
    /// Files of the default folder: path within it, text.
    files: &'a [(&'a str, &'a str)],
    /// Those of `files` that are named on the command line.
    named: &'a [&'a str],
    env: &'a [(&'a str, &'a str)],
    sets: &'a [&'a str],
}

impl Case<'_> {
    fn write(&self, dir: &Path) -> Sources {
        for (name, text) in self.files {
            let path = dir.join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        Sources {
            files: self.named.iter().map(|name| dir.join(name)).collect(),
            default_dir: Some(dir.into()),
            env: self.env.iter().map(|(k, v)| (k.into(), v.into())).collect(),
            sets: self.sets.iter().map(|set| set.to_string()).collect(),
        }
    }

    /// The configuration, or the lines of its faults without the folder's path.
    fn load<T>(
        &self,
        load: fn(&Sources, &Known<'_>) -> Result<T, Faults>,
    ) -> Result<T, Vec<String>> {
        let dir = tempfile::tempdir().unwrap();
        let sources = self.write(dir.path());
        let registry = registry();
        let prefix = format!("{}/", dir.path().display());
        load(&sources, &known(&registry)).map_err(|faults| {
            let text = faults.to_string().replace(&prefix, "");
            text.lines().map(str::to_owned).collect()
        })
    }

    fn agent(&self) -> AgentConfig {
        self.load(load_agent).unwrap()
    }

    fn agent_faults(&self) -> Vec<String> {
        self.load(load_agent).unwrap_err()
    }

    fn publisher_faults(&self) -> Vec<String> {
        self.load(load_publisher).unwrap_err()
    }
}

fn known(registry: &Registry) -> Known<'_> {
    Known {
        drivers: vec!["zmq_pubsub_driver", "zmq_pubsub_multiproc_driver"],
        modules: registry,
    }
}

struct Nothing;

impl Handler for Nothing {
    fn begin_sync(&mut self, _: SyncReason) -> Result<(), HandlerError> {
        Ok(())
    }
    fn apply(&mut self, _: &Event<'_>) -> Result<(), HandlerError> {
        Ok(())
    }
    fn end_sync(&mut self) -> Result<(), HandlerError> {
        Ok(())
    }
}

/// The modules in the box and `probe`, whose settings are all numbers.
fn registry() -> Registry {
    Registry::builtin().with(Module {
        name: "probe",
        about: "for tests",
        keys: &["alpha", "beta", "busy"],
        build: |_, settings, _| {
            settings.get::<u8>("alpha")?;
            settings.get::<u8>("beta")?;
            match settings.get::<u8>("busy")? {
                Some(_) => Err(BuildError::Environment("the probe is busy".into())),
                None => Ok(Box::new(Nothing)),
            }
        },
    })
}

const NONE: &str = "security=none";
