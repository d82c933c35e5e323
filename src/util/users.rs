//! Users of the system, and who is at the other end of a unix socket.

use std::fs;
use std::io;
use std::os::fd::AsFd;

/// The users who may connect; without a list all whom mode and group of the socket let in.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Users(Option<Vec<u32>>);

impl Users {
    /// Those with these names or numbers, and always root and this process's own user; an empty list
    /// is none. Gives the names that nobody has, too: these let nobody in.
    ///
    /// # Errors
    /// /etc/passwd cannot be read.
    pub fn named(names: &[String]) -> io::Result<(Self, Vec<String>)> {
        if names.is_empty() {
            return Ok((Users(None), Vec::new()));
        }
        let mut known = None;
        let mut unknown = Vec::new();
        let mut users = vec![0, rustix::process::geteuid().as_raw()];
        for name in names {
            let found = match name.parse() {
                Ok(number) => Some(number),
                Err(_) => {
                    if known.is_none() {
                        known = Some(fs::read_to_string("/etc/passwd")?);
                    }
                    find(known.as_deref().unwrap_or_default(), name)
                }
            };
            match found {
                Some(user) if !users.contains(&user) => users.push(user),
                Some(_) => {}
                None => unknown.push(name.clone()),
            }
        }
        Ok((Users(Some(users)), unknown))
    }

    /// The same; names that nobody has are told in the log, as of `what`.
    ///
    /// # Errors
    /// As [`Users::named`].
    pub fn told(names: &[String], what: &str) -> io::Result<Self> {
        let (users, unknown) = Self::named(names)?;
        for name in unknown {
            log::warn!("{what}: there is no user {name:?}");
        }
        Ok(users)
    }

    /// The list, where there is one.
    pub fn listed(&self) -> Option<&[u32]> {
        self.0.as_deref()
    }

    /// Whether the user at the other end of `socket` may be there; the user's number if not, where
    /// the system tells it.
    pub fn admit(&self, socket: impl AsFd) -> Result<(), Option<u32>> {
        let Some(users) = &self.0 else { return Ok(()) };
        match rustix::net::sockopt::socket_peercred(socket) {
            Ok(peer) if users.contains(&peer.uid.as_raw()) => Ok(()),
            Ok(peer) => Err(Some(peer.uid.as_raw())),
            Err(_) => Err(None),
        }
    }
}

/// The name of this process's user, as /etc/passwd has it; else the number.
pub fn own() -> String {
    let own = rustix::process::geteuid().as_raw().to_string();
    let text = fs::read_to_string("/etc/passwd").unwrap_or_default();
    name(&text, &own).map_or(own.clone(), str::to_owned)
}

fn name<'a>(text: &'a str, number: &str) -> Option<&'a str> {
    let mut lines = text.lines();
    lines.find_map(|line| {
        let mut parts = line.split(':');
        let name = parts.next()?;
        (parts.nth(1)? == number).then_some(name)
    })
}

/// The number of `user` in the text of /etc/passwd. A directory service's are not looked up: write
/// their numbers.
fn find(text: &str, user: &str) -> Option<u32> {
    let line = text
        .lines()
        .find(|line| line.split(':').next() == Some(user) && !user.is_empty())?;
    line.split(':').nth(2)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixStream;

    #[test]
    fn users_are_found_by_their_whole_names() {
        let text = "root:x:0:0::/:\nneutron2:x:7:7::/:\nneutron:x:64:64::/:\n";
        assert_eq!(find(text, "neutron"), Some(64));
        assert_eq!(find(text, "neu"), None);
        assert_eq!(find(text, ""), None);
        assert_eq!(name(text, "64"), Some("neutron"));
        assert_eq!(name(text, "6"), None);
    }

    #[test]
    fn who_is_not_listed_is_not_admitted() {
        let (ours, _theirs) = UnixStream::pair().unwrap();
        let own = rustix::process::geteuid().as_raw();
        let admit = |names: &[&str]| {
            let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
            Users::named(&names).unwrap().0.admit(&ours)
        };
        assert_eq!(admit(&[]), Ok(()));
        assert_eq!(admit(&["12345"]), Ok(()), "this process's own user");
        let others = Users(Some(vec![own + 1]));
        assert_eq!(others.admit(&ours), Err(Some(own)));
        let (users, unknown) = Users::named(&["no such user".into()]).unwrap();
        assert_eq!(unknown, ["no such user"]);
        assert!(users.listed().is_some(), "it opens nothing");
    }
}
