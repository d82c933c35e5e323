//! Reads the sources: built-in defaults, files, environment, command line.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use figment::value::Dict;

use super::fault::unknown_key;
use super::keys::{ENV_PREFIX, Key};
use super::layers::{Layer, Layers, Origin};
use super::sources::{DROP_IN_DIR, Sources};
use super::{Faults, parse};

/// What the exec module tells its commands in the environment, without the prefix. A command that
/// calls a program of this system hands these on, and they are no keys.
const COMMAND_ENV: &[&str] = &["ACTION", "KEY", "SYNC", "TABLE", "TOPIC"];

/// The one of [`COMMAND_ENV`] that is no slip of a key: it shows that the others are none either.
const COMMAND_MARK: &str = "ACTION";

/// A program that is configured.
pub(super) struct Program {
    /// The name of its default file, without `.toml`.
    pub name: &'static str,
    pub keys: &'static [Key],
    /// The keys of the other programs of this host. conf.d and the environment are common to all,
    /// so there these are passed over.
    pub foreign: &'static [Key],
}

impl Program {
    fn find(&self, name: &str) -> Option<&'static Key> {
        self.keys.iter().find(|key| key.name == name)
    }

    /// Reads every source; what cannot be read or is not known is a fault and left out.
    pub fn layers(&self, sources: &Sources, faults: &mut Faults) -> Layers {
        let mut layers = vec![self.defaults(faults)];
        if let (Some(dir), []) = (&sources.default_dir, &sources.files[..]) {
            layers.extend(self.file(&dir.join(self.name).with_extension("toml"), true, faults));
            for path in drop_ins(&dir.join(DROP_IN_DIR), faults) {
                layers.extend(self.file(&path, false, faults));
            }
        }
        for path in &sources.files {
            layers.extend(self.file(path, false, faults));
        }
        layers.push(self.environment(&sources.env, faults));
        layers.push(self.command_line(&sources.sets, faults));
        Layers(layers)
    }

    fn defaults(&self, faults: &mut Faults) -> Layer {
        let mut layer = empty(Origin::BuiltIn);
        for key in self.keys {
            match parse::value(key.default) {
                Ok(value) => drop(layer.values.insert(key.name.into(), value)),
                Err(why) => faults.add(&layer.origin, key.name, why),
            }
        }
        layer
    }

    fn file(&self, path: &Path, may_be_missing: bool, faults: &mut Faults) -> Option<Layer> {
        let text = match fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if may_be_missing && error.kind() == ErrorKind::NotFound => return None,
            Err(error) => {
                faults.add_source(path.display(), error);
                return None;
            }
        };
        match parse::file(&text) {
            Ok(values) => {
                let origin = Origin::File(path.into());
                let layer = Layer {
                    origin,
                    values,
                    text,
                };
                Some(self.known_only(layer, faults))
            }
            Err((line, why)) => {
                faults.add_source(format_args!("{}:{line}", path.display()), why);
                None
            }
        }
    }

    fn environment(&self, env: &[(OsString, OsString)], faults: &mut Faults) -> Layer {
        let mut layer = empty(Origin::Environment);
        let mut ours: Vec<(&str, &OsStr)> = env
            .iter()
            .filter_map(|(name, value)| Some((name.to_str()?, value.as_os_str())))
            .filter_map(|(name, value)| Some((name.strip_prefix(ENV_PREFIX)?, value)))
            .collect();
        // The environment has no order of its own; faults should have one.
        ours.sort_unstable();
        let in_command = ours.iter().any(|(name, _)| *name == COMMAND_MARK);
        for (name, value) in ours {
            if in_command && COMMAND_ENV.contains(&name) {
                continue;
            }
            let name = name.to_ascii_lowercase();
            let Some(value) = value.to_str() else {
                faults.add(layer.locate(&name), &name, "is not UTF-8");
                continue;
            };
            self.insert(&mut layer, &name, value, faults);
        }
        self.known_only(layer, faults)
    }

    fn command_line(&self, sets: &[String], faults: &mut Faults) -> Layer {
        let mut layer = empty(Origin::CommandLine);
        for set in sets {
            match set.split_once('=') {
                Some((name, value)) => self.insert(&mut layer, name.trim(), value.trim(), faults),
                None => faults.add_source(
                    &layer.origin,
                    format_args!("{set:?} has no value; write key=value"),
                ),
            }
        }
        self.known_only(layer, faults)
    }

    fn insert(&self, layer: &mut Layer, name: &str, text: &str, faults: &mut Faults) {
        // An unknown key is kept as text, to be reported with those of the files.
        let value = match self.find(name) {
            Some(key) => parse::word_or_value(key, text),
            None => Ok(text.into()),
        };
        match value {
            Ok(value) => drop(layer.values.insert(name.into(), value)),
            Err(why) => faults.add(layer.locate(name), name, why),
        }
    }

    fn known_only(&self, mut layer: Layer, faults: &mut Faults) -> Layer {
        let values = std::mem::take(&mut layer.values);
        for (name, value) in values {
            let is_foreign = || self.foreign.iter().any(|key| key.name == name);
            if self.find(&name).is_some() {
                layer.values.insert(name, value);
            } else if !(is_common(&layer.origin) && is_foreign()) {
                let why = unknown_key(&name, self.keys.iter().map(|key| key.name));
                faults.add(layer.locate(&name), &name, why);
            }
        }
        layer
    }
}

/// Whether a source is read by every program of the host.
fn is_common(origin: &Origin) -> bool {
    match origin {
        Origin::Environment => true,
        Origin::File(path) => {
            let dir = path.parent().and_then(Path::file_name);
            dir.is_some_and(|dir| dir == DROP_IN_DIR)
        }
        Origin::BuiltIn | Origin::CommandLine => false,
    }
}

fn empty(origin: Origin) -> Layer {
    Layer {
        origin,
        values: Dict::new(),
        text: String::new(),
    }
}

/// The files of conf.d by name. Hidden ones are passed over: editors leave such.
fn drop_ins(dir: &Path, faults: &mut Faults) -> Vec<PathBuf> {
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Vec::new(),
        Err(error) => {
            faults.add_source(dir.display(), error);
            return Vec::new();
        }
    };
    let mut paths = Vec::new();
    for entry in entries {
        match entry {
            Ok(entry) => paths.push(entry.path()),
            Err(error) => faults.add_source(dir.display(), error),
        }
    }
    let hidden = |path: &Path| {
        let name = path.file_name().unwrap_or_default();
        name.as_encoded_bytes().starts_with(b".")
    };
    paths.retain(|path| path.extension() == Some(OsStr::new("toml")) && !hidden(path));
    paths.sort_unstable();
    paths
}
