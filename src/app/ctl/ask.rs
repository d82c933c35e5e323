//! Asking a daemon, and what to say when it cannot be asked.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use serde_json::Value;

use crate::app::logging::tell;
use crate::config::{AGENT_KEYS, Key, Known, PUBLISHER_KEYS, Sources, load_agent, load_publisher};
use crate::control::{Client, ClientError, Code, Request, socket_path};
use crate::handler::registry::Registry;

/// Exit status when the daemon refused or what was named is not there.
pub const REFUSED: u8 = 1;

/// Exit status when the daemon could not be asked.
pub const UNREACHABLE: u8 = 3;

/// Exit status when the daemon is not ready.
pub const NOT_READY: u8 = 4;

/// Which daemon is asked.
#[derive(Debug, clap::Args)]
pub struct Target {
    /// The daemon's control socket; by default the one in the configured run_dir
    #[arg(long, value_name = "PATH")]
    socket: Option<PathBuf>,
    /// Read FILE for run_dir instead of the default configuration; may be repeated
    #[arg(short, long, value_name = "FILE")]
    config: Vec<PathBuf>,
}

/// The kind of daemon.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wanted {
    Agent,
    Publisher,
}

impl Wanted {
    fn name(self) -> &'static str {
        match self {
            Wanted::Agent => "agent",
            Wanted::Publisher => "publisher",
        }
    }
}

impl Target {
    fn path(&self, wanted: Wanted) -> PathBuf {
        if let Some(path) = &self.socket {
            return path.clone();
        }
        let modules = Registry::builtin();
        let sources = Sources::system(self.config.clone(), Vec::new());
        let known = Known::new(&modules);
        let (configured, keys) = match wanted {
            Wanted::Agent => (
                load_agent(&sources, &known).map(|config| config.run_dir),
                AGENT_KEYS,
            ),
            Wanted::Publisher => (
                load_publisher(&sources, &known).map(|config| config.run_dir),
                PUBLISHER_KEYS,
            ),
        };
        // Who asks need not be allowed to read the daemon's configuration.
        let folder = configured.unwrap_or_else(|_| default_run_dir(keys).into());
        socket_path(&folder, wanted.name())
    }

    /// A connection to the daemon that is wanted.
    pub fn connect(&self, wanted: Wanted) -> Result<Client, ExitCode> {
        let path = self.path(wanted);
        let client = Client::connect(&path).map_err(|error| failed(&error, wanted))?;
        let found = &client.greeting().fanfare;
        if *found == wanted.name() {
            return Ok(client);
        }
        let (path, wanted) = (path.display(), wanted.name());
        tell(format_args!(
            "fanfare: {path} is that of a fanfare {found}, not that of a fanfare {wanted}"
        ));
        Err(ExitCode::from(UNREACHABLE))
    }
}

fn default_run_dir(keys: &'static [Key]) -> &'static str {
    let key = keys.iter().find(|key| key.name == "run_dir");
    key.map_or("", |key| key.default.trim_matches('"'))
}

/// Says what went wrong and what to do; gives the exit status.
pub fn failed(error: &ClientError, wanted: Wanted) -> ExitCode {
    tell(format_args!("fanfare: {error}"));
    let daemon = wanted.name();
    match error {
        ClientError::Down(_) => tell(format_args!(
            "is it running? See: systemctl status fanfare-{daemon}\n\
             start it: systemctl start fanfare-{daemon}\n\
             or name its socket: --socket PATH, or its configuration: --config FILE"
        )),
        ClientError::Forbidden(path) => tell(format_args!(
            "only its user and members of its group may: {}",
            advice(path)
        )),
        ClientError::Refused(refusal) if refusal.code == Code::Forbidden => tell(format_args!(
            "try with sudo, or have socket_users of the {daemon} name this user, and restart it"
        )),
        ClientError::Refused(_) | ClientError::Version { .. } | ClientError::Broken { .. } => {}
    }
    ExitCode::from(status(error))
}

/// A refusal is the daemon's answer, but for those that keep from asking.
fn status(error: &ClientError) -> u8 {
    match error {
        ClientError::Refused(refusal) => match refusal.code {
            Code::Forbidden | Code::Busy => UNREACHABLE,
            _ => REFUSED,
        },
        _ => UNREACHABLE,
    }
}

/// How to be let in.
fn advice(path: &Path) -> String {
    use std::os::unix::fs::MetadataExt;
    // Who may not look into the folder sees whose it is, which is the socket's group too.
    let found = std::fs::metadata(path);
    let found = found.or_else(|_| std::fs::metadata(path.parent().unwrap_or(path)));
    let group = found.ok().map(|found| found.gid());
    let groups = std::fs::read_to_string("/etc/group").unwrap_or_default();
    let name = groups.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse().ok() == group).then_some(name)
    });
    match name {
        Some("root") | None => "try with sudo".into(),
        Some(name) => format!("try with sudo, or join: usermod -aG {name} USER, and log in again"),
    }
}

/// Asks for one thing and prints what `text` makes of the answer.
pub fn done(
    target: &Target,
    wanted: Wanted,
    request: &Request,
    text: impl FnOnce(&Value) -> String,
) -> ExitCode {
    let mut client = match target.connect(wanted) {
        Ok(client) => client,
        Err(status) => return status,
    };
    match client.ask(request, |_| true) {
        Ok(value) => print(&format!("{}\n", text(&value))),
        Err(error) => failed(&error, wanted),
    }
}

/// Prints; the exit status when that is all.
pub fn print(text: &str) -> ExitCode {
    match put(text) {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    }
}

/// Prints; `false` when nobody reads any more.
pub fn put(text: &str) -> bool {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())
        .and_then(|()| out.flush())
        .is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::Refusal;

    #[test]
    fn what_keeps_from_asking_is_no_answer() {
        let refused = |code| status(&Refusal::new(code, "why").into());
        for code in [Code::Forbidden, Code::Busy] {
            assert_eq!(refused(code), UNREACHABLE, "{code:?}");
        }
        for code in [
            Code::NotFound,
            Code::Invalid,
            Code::Unsupported,
            Code::Other,
        ] {
            assert_eq!(refused(code), REFUSED, "{code:?}");
        }
        assert_eq!(status(&ClientError::Down("/run/x".into())), UNREACHABLE);
    }
}
