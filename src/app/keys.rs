//! `fanfare keygen`, `pending` and `authorise`: keys, and who may connect.

use std::error::Error;
use std::fs::{self, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;

use super::logging;
use crate::pubsub::driver::zmq::curve;
use crate::security::authorized::Directory;
use crate::security::file::{self, PUBLIC_END};
use crate::security::key::{PublicKey, SecretKey};
use crate::security::party::ANY;
use crate::security::pending::Pending;

/// The shortest beginning of a key that may stand for it, without `public:`.
const MIN_BEGINNING: usize = 8;

#[derive(Debug, Args)]
pub struct KeygenArgs {
    /// A publisher's pair, publisher.key and publisher.key_secret
    #[arg(long, required_unless_present = "node", conflicts_with = "node")]
    publisher: bool,
    /// The pair of the node of this name, NAME.key and NAME.key_secret
    #[arg(long, value_name = "NAME")]
    node: Option<String>,
    /// Where the files go; made if it is not there
    #[arg(long, value_name = "DIR", default_value = "/etc/fanfare/keys")]
    dir: PathBuf,
    /// Replace files that are there
    #[arg(long)]
    force: bool,
}

#[derive(Debug, Args)]
pub struct PendingArgs {
    /// The publisher's list
    #[arg(long, value_name = "FILE", default_value = "/var/lib/fanfare/pending")]
    pending: PathBuf,
}

#[derive(Debug, Args)]
pub struct AuthoriseArgs {
    /// What the node is called
    #[arg(value_name = "NAME")]
    name: String,
    /// The key as `fanfare keygen` printed it on the node; or the first 8 or more characters of one
    /// that `fanfare pending` lists
    #[arg(value_name = "KEY")]
    key: String,
    /// The directory of nodes that may connect (authorized_keys)
    #[arg(
        long,
        value_name = "DIR",
        default_value = "/etc/fanfare/authorized_keys"
    )]
    dir: PathBuf,
    /// The publisher's list
    #[arg(long, value_name = "FILE", default_value = "/var/lib/fanfare/pending")]
    pending: PathBuf,
    /// Give a name that is there this key in place of its own
    #[arg(long)]
    force: bool,
}

pub fn keygen(args: &KeygenArgs) -> ExitCode {
    told(make_pair(args))
}

pub fn pending(args: &PendingArgs) -> ExitCode {
    told(list(args))
}

pub fn authorise(args: &AuthoriseArgs) -> ExitCode {
    told(admit(args))
}

/// Prints the lines, or the reason why there are none.
fn told(lines: Result<Vec<String>, Box<dyn Error>>) -> ExitCode {
    let written = lines.and_then(|lines| {
        let mut out = io::stdout().lock();
        lines.iter().try_for_each(|line| writeln!(out, "{line}"))?;
        Ok(())
    });
    match written {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            logging::tell(why);
            ExitCode::FAILURE
        }
    }
}

fn check_name(name: &str) -> Result<(), String> {
    match file::is_name(name) {
        true => Ok(()),
        false => Err(format!(
            "{name:?} is no name; write 1 to 64 letters, digits, - _ and . that do not begin with ."
        )),
    }
}

/// Makes `folder` and those above it that are missing, for the daemon to read whatever the umask. What is
/// there stays as it is.
fn make_folder(folder: &Path) -> Result<(), String> {
    let is_missing = |folder: &&Path| !folder.as_os_str().is_empty() && !folder.is_dir();
    let missing: Vec<&Path> = folder.ancestors().take_while(is_missing).collect();
    for folder in missing.into_iter().rev() {
        let made = match fs::create_dir(folder) {
            Ok(()) => fs::set_permissions(folder, Permissions::from_mode(0o755)),
            // By somebody else, meanwhile.
            Err(_) if folder.is_dir() => Ok(()),
            Err(error) => Err(error),
        };
        made.map_err(|error| format!("cannot make {}: {error}", folder.display()))?;
    }
    Ok(())
}

fn make_pair(args: &KeygenArgs) -> Result<Vec<String>, Box<dyn Error>> {
    let name = args.node.as_deref().unwrap_or("publisher");
    check_name(name)?;
    make_folder(&args.dir)?;
    let secret = SecretKey::random()?;
    let public = curve::public_key(&secret)?;
    let [path, secret_path] = file::write_pair(&args.dir, name, &public, &secret, args.force)?;
    // A file of root's is of no use to the daemon, which says so only when it is started.
    let chown = match rustix::process::geteuid().is_root() {
        true => format!(
            "; with the units of the packages: chown fanfare {}",
            secret_path.display()
        ),
        false => String::new(),
    };
    let mut lines = vec![
        format!("{}: the public key", path.display()),
        format!(
            "{}: the secret key; it stays on this host, and must belong to the user that the daemon \
             runs as{chown}",
            secret_path.display()
        ),
    ];
    lines.extend(match &args.node {
        Some(name) => [
            "in agent.toml of this node:".to_owned(),
            format!("node_key = {:?}", secret_path.display().to_string()),
            "on each publisher's host:".to_owned(),
            format!("fanfare authorise {name} '{public}'"),
        ],
        None => [
            "in publisher.toml of this host:".to_owned(),
            format!("publisher_key = {:?}", secret_path.display().to_string()),
            format!("in agent.toml of each node; this publisher's address in place of {ANY:?} where each publisher has its own key:"),
            format!("publisher_keys = {{ {ANY:?} = '{public}' }}"),
        ],
    });
    Ok(lines)
}

fn read_pending(path: &Path) -> Result<Pending, String> {
    Pending::read(path).map_err(|error| format!("{}: {error}", path.display()))
}

fn list(args: &PendingArgs) -> Result<Vec<String>, Box<dyn Error>> {
    let pending = read_pending(&args.pending)?;
    let lines = pending
        .iter()
        .map(|(key, seen)| format!("{key} from {} at {} (Unix seconds)", seen.address, seen.at));
    Ok(lines.collect())
}

fn admit(args: &AuthoriseArgs) -> Result<Vec<String>, Box<dyn Error>> {
    check_name(&args.name)?;
    let key = match PublicKey::parse(&args.key) {
        Ok(key) => key,
        Err(_) => find(&read_pending(&args.pending)?, &args.key)?,
    };
    make_folder(&args.dir)?;
    let known = Directory::new(&args.dir).look()?;
    let holder = known.as_ref().and_then(|look| look.authorized.name(&key));
    if let Some(holder) = holder.filter(|holder| *holder != args.name) {
        return Err(format!("{holder} has this key; every node needs its own").into());
    }
    let path = args.dir.join(format!("{}{PUBLIC_END}", args.name));
    // Its own file is written anew though it holds the key: it may be one that the daemon cannot read.
    file::write_public(&path, &key, args.force || holder.is_some())?;
    Ok(vec![format!(
        "{} may connect, within seconds: {}",
        args.name,
        path.display()
    )])
}

fn find(pending: &Pending, beginning: &str) -> Result<PublicKey, String> {
    let beginning = beginning.strip_prefix("public:").unwrap_or(beginning);
    if beginning.len() < MIN_BEGINNING {
        return Err(format!(
            "give the key, or {MIN_BEGINNING} or more characters of its beginning"
        ));
    }
    let begins = |key: &&PublicKey| {
        let text = key.to_string();
        text.strip_prefix("public:")
            .is_some_and(|text| text.starts_with(beginning))
    };
    let mut found = pending.iter().map(|(key, _)| key).filter(begins);
    match (found.next(), found.next()) {
        (Some(key), None) => Ok(*key),
        (None, _) => Err("no pending key begins so; see fanfare pending".into()),
        (Some(_), Some(_)) => Err("several pending keys begin so; give more of it".into()),
    }
}
