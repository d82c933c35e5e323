//! Where a configuration is read from.

use std::ffi::OsString;
use std::path::PathBuf;

/// Where the packages put the configuration.
pub const DEFAULT_DIR: &str = "/etc/fanfare";

/// The folder beside the default file whose `*.toml` are read after it.
pub const DROP_IN_DIR: &str = "conf.d";

/// Where a configuration is read from. The default is nothing but the built-in defaults.
#[derive(Debug, Clone, Default)]
pub struct Sources {
    /// Files named on the command line, later ones win; they must exist. They replace the default
    /// file and its conf.d.
    pub files: Vec<PathBuf>,
    /// The folder of the default file (`agent.toml`, `publisher.toml`; may be missing) and of
    /// conf.d.
    pub default_dir: Option<PathBuf>,
    /// Environment variables; those without the prefix `FANFARE_` are passed over.
    pub env: Vec<(OsString, OsString)>,
    /// `key=value` each, the value in TOML syntax or a bare word; later ones win.
    pub sets: Vec<String>,
}

impl Sources {
    /// What a daemon reads: /etc/fanfare and the environment, with `files` and `sets` from its
    /// command line.
    pub fn system(files: Vec<PathBuf>, sets: Vec<String>) -> Self {
        Sources {
            files,
            default_dir: Some(DEFAULT_DIR.into()),
            env: std::env::vars_os().collect(),
            sets,
        }
    }
}
