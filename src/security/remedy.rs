//! The command that mends a key file.

use std::fs;
use std::io::{self, ErrorKind};
use std::path::Path;

use super::file::{self, PUBLIC_END, SECRET_END};
use super::key::KeyError;
use crate::util::users;

/// What a key file is for, which decides how there comes to be a good one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Use {
    /// The secret key of this daemon.
    Own,
    /// The public key of a publisher that is trusted.
    Publisher,
    /// The public key of a node that may connect.
    Node,
}

/// The name that `fanfare keygen` gives a publisher's pair.
const PUBLISHER: &str = "publisher";

/// The name of the files in the defaults, which is no node's.
const UNNAMED: &str = "node";

impl Use {
    /// What puts a good key in the place of the file at `path`.
    fn again(self, path: &Path, force: &str) -> String {
        let folder = path.parent().unwrap_or(path).display();
        match self {
            Use::Own => {
                let whose = match name(path) {
                    Some(PUBLISHER) => "--publisher".to_owned(),
                    Some(UNNAMED) | None => "--node NAME".to_owned(),
                    Some(name) => format!("--node {name}"),
                };
                format!("fanfare keygen {whose} --dir {folder}{force}")
            }
            Use::Node => {
                let name = name(path).unwrap_or("NAME");
                format!("fanfare authorise {name} KEY --dir {folder}{force}")
            }
            // A new pair would shut out all who know the old one.
            Use::Publisher => format!(
                "scp HOST:/etc/fanfare/keys/{PUBLISHER}{PUBLIC_END} {}",
                path.display()
            ),
        }
    }

    /// What mends a file that holds something else.
    pub(super) fn of_contents(self, path: &Path, error: KeyError) -> String {
        let again = self.again(path, " --force");
        match (error, self) {
            (KeyError::IsPublic, _) => format!("; if there is none, run: {again}"),
            (KeyError::IsSecret, Use::Publisher) => {
                format!("; on its host, run: fanfare keygen --{PUBLISHER} --force; here: {again}")
            }
            (KeyError::IsSecret, _) => {
                let name = name(path).unwrap_or("NAME");
                format!("; on its host, run: fanfare keygen --node {name} --force; here: {again}")
            }
            _ => format!("; run: {again}"),
        }
    }

    /// What mends what is no file.
    pub(super) fn of_no_file(self, path: &Path) -> String {
        let (path, again) = (path.display(), self.again(path, ""));
        format!("; run: mv {path} {path}.old && {again}")
    }

    /// What mends that a file cannot be read, where a command does.
    pub(super) fn of_error(self, path: &Path, error: &io::Error) -> String {
        match error.kind() {
            ErrorKind::NotFound => format!("; run: {}", self.again(path, "")),
            ErrorKind::PermissionDenied => {
                let open = match self {
                    Use::Own => format!("chown {} {}", users::own(), path.display()),
                    Use::Publisher | Use::Node => format!("chmod a+r {}", path.display()),
                };
                format!("; run: {}", on_its_way(path).unwrap_or(open))
            }
            _ => String::new(),
        }
    }
}

/// Whose the file is.
fn name(path: &Path) -> Option<&str> {
    let file = path.file_name()?.to_str()?;
    let mut ends = [SECRET_END, PUBLIC_END].iter();
    let name = ends.find_map(|end| file.strip_suffix(end));
    name.filter(|name| file::is_name(name))
}

/// What mends that a directory cannot be listed, where a command does.
pub(super) fn of_folder(path: &Path, error: &io::Error) -> String {
    let folder = path.display();
    match error.kind() {
        ErrorKind::NotFound => format!("; run: mkdir -p {folder}"),
        ErrorKind::NotADirectory => {
            format!("; run: mv {folder} {folder}.old && mkdir -p {folder}")
        }
        ErrorKind::PermissionDenied => {
            let open = format!("chown {} {folder}", users::own());
            format!("; run: {}", on_its_way(path).unwrap_or(open))
        }
        _ => String::new(),
    }
}

/// Where it is a folder above that keeps this user from it: what opens that.
fn on_its_way(path: &Path) -> Option<String> {
    let denied =
        |path: &Path| fs::metadata(path).is_err_and(|e| e.kind() == ErrorKind::PermissionDenied);
    if !denied(path) {
        return None;
    }
    let closed = path.ancestors().skip(1).find(|folder| !denied(folder))?;
    Some(format!("chmod a+x {}", closed.display()))
}
