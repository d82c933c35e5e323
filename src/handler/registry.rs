//! Which handler modules there are.
//!
//! A module of the box is one line of [`MODULES`]; a program that links the library adds its own
//! with [`Registry::with`].

use super::{BuildError, Handler, Module, Settings, exec, file, log, pipe, socket};
use crate::util::stop::StopToken;

/// The modules in the box.
pub static MODULES: &[Module] = &[
    exec::MODULE,
    file::MODULE,
    log::MODULE,
    pipe::MODULE,
    socket::MODULE,
];

/// The module in the box that is called `name`.
pub fn find(name: &str) -> Option<&'static Module> {
    MODULES.iter().find(|module| module.name == name)
}

/// The modules a program knows.
#[derive(Debug, Clone)]
pub struct Registry {
    modules: Vec<Module>,
}

impl Default for Registry {
    fn default() -> Self {
        Registry::builtin()
    }
}

impl Registry {
    /// The modules in the box.
    pub fn builtin() -> Self {
        Registry {
            modules: MODULES.to_vec(),
        }
    }

    /// These and `module`, which takes the place of one of the same name.
    pub fn with(mut self, module: Module) -> Self {
        self.modules.retain(|known| known.name != module.name);
        self.modules.push(module);
        self
    }

    /// The module called `name`.
    pub fn find(&self, name: &str) -> Option<&Module> {
        self.modules.iter().find(|module| module.name == name)
    }

    /// The names of all modules.
    pub fn names(&self) -> impl Iterator<Item = &'static str> {
        self.modules.iter().map(|module| module.name)
    }

    /// The name that was probably meant by `name`, for messages.
    pub fn nearest(&self, name: &str) -> Option<&'static str> {
        nearest(name, self.names())
    }
}

impl Module {
    /// One fault for each key that the module does not know, with the nearest one it knows.
    pub fn unknown_keys(&self, settings: &Settings) -> Vec<BuildError> {
        settings
            .keys()
            .filter(|key| !self.keys.contains(key))
            .map(|key| {
                let why = match nearest(key, self.keys.iter().copied()) {
                    Some(near) => format!("unknown key; did you mean `{near}`?"),
                    None if self.keys.is_empty() => {
                        format!("unknown key; module {} has none", self.name)
                    }
                    None => format!(
                        "unknown key; module {} has {}",
                        self.name,
                        self.keys.join(", ")
                    ),
                };
                BuildError::setting(key, why)
            })
            .collect()
    }

    /// Makes a handler as [`Module::build`] does, but refuses unknown keys first. Who reports all
    /// faults at once calls [`Module::unknown_keys`] and `build` instead.
    pub fn make(
        &self,
        name: &str,
        settings: &Settings,
        stop: &StopToken,
    ) -> Result<Box<dyn Handler>, BuildError> {
        match self.unknown_keys(settings).into_iter().next() {
            Some(fault) => Err(fault),
            None => (self.build)(name, settings, stop),
        }
    }
}

/// The candidate that `word` is probably a slip of; `None` when none is near.
fn nearest<'a>(word: &str, candidates: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    candidates
        .map(|candidate| (strsim::damerau_levenshtein(word, candidate), candidate))
        .filter(|(slips, candidate)| *slips <= 1 + candidate.len() / 3)
        .min()
        .map(|(_, candidate)| candidate)
}

/// The settings written in `toml`, for tests of modules.
#[cfg(test)]
pub(crate) fn settings(toml: &str) -> Settings {
    use figment::Figment;
    use figment::providers::{Format, Toml};
    Settings::new(
        Figment::from(Toml::string(toml))
            .extract()
            .expect("settings are TOML"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Event;
    use crate::handler::{HandlerError, SyncReason};

    fn fault(module: &Module, toml: &str) -> String {
        let made = module.make("x", &settings(toml), &StopToken::never());
        made.err().expect("a fault").to_string()
    }

    #[test]
    fn every_module_is_in_order() {
        let names: Vec<_> = MODULES.iter().map(|module| module.name).collect();
        assert!(names.is_sorted_by(|a, b| a < b), "{names:?}");
        for module in MODULES {
            assert!(std::ptr::eq(find(module.name).unwrap(), module));
            assert!(!module.about.is_empty());
            assert!(module.keys.is_sorted_by(|a, b| a < b), "{}", module.name);
            for key in module.keys {
                assert_eq!(
                    fault(module, &format!("{key}x = 1")),
                    format!("{key}x: unknown key; did you mean `{key}`?")
                );
                // A list of tables is no valid value of any key: the module does read it.
                let wrong = settings(&format!("{key} = [{{}}]"));
                assert_eq!(module.unknown_keys(&wrong), []);
                let fault = fault(module, &format!("{key} = [{{}}]"));
                let required = fault.ends_with("must be set");
                assert!(required || fault.starts_with(&format!("{key}:")), "{fault}");
            }
            assert!(
                fault(module, "zzzzzzzzzzzz = 1").contains(module.keys[0]),
                "the known keys are listed where none is near"
            );
        }
        assert!(find("nothing").is_none());
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

    #[test]
    fn a_program_can_add_its_own() {
        let own = |name| Module {
            name,
            about: "does nothing",
            keys: &[],
            build: |_, _, _| Ok(Box::new(Nothing)),
        };
        let registry = Registry::builtin().with(own("mine")).with(own("log"));
        assert_eq!(
            registry.names().collect::<Vec<_>>(),
            ["exec", "file", "pipe", "socket", "mine", "log"]
        );
        assert_eq!(registry.find("log").unwrap().about, "does nothing");
        assert_eq!(registry.nearest("exce"), Some("exec"));
        assert_eq!(registry.nearest("whatever"), None);
        let mine = registry.find("mine").unwrap();
        assert_eq!(fault(mine, "a = 1"), "a: unknown key; module mine has none");
        assert!(mine.make("x", &settings(""), &StopToken::never()).is_ok());
    }
}
