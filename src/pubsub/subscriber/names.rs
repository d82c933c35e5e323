//! Where the attempts to connect to one publisher lead: its name, resolved anew for each.

use std::net::SocketAddr;

use super::resolve::{Found, look_up};
use crate::pubsub::endpoint::{Endpoint, Host};

/// Where the look-up stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum LookUp {
    /// None is under way.
    None,
    /// One is.
    UnderWay,
    /// It has ended and no attempt was made with what it found.
    Late,
}

/// What is known at once when an address is asked for.
#[derive(Debug, PartialEq, Eq)]
pub enum Known {
    /// [`Names::target`] gives one.
    Now,
    /// [`Names::found`] will tell.
    Later,
    /// No look-up could be begun: why.
    Failed(String),
}

/// The addresses of one publisher.
#[derive(Debug)]
pub struct Names {
    endpoint: Endpoint,
    /// Where the last look-up led; the attempts take them in turn.
    addresses: Vec<SocketAddr>,
    attempt: usize,
    look_up: LookUp,
}

impl Names {
    /// Those of `endpoint`.
    pub fn new(endpoint: Endpoint) -> Self {
        Names {
            endpoint,
            addresses: Vec::new(),
            attempt: 0,
            look_up: LookUp::None,
        }
    }

    /// Asks for an address; `answer` is called on a thread of its own. At most one look-up is under
    /// way: a name server that hangs must not collect threads. While it hangs, or when it fails, the
    /// addresses last found are tried.
    pub fn resolve(&mut self, answer: impl FnOnce(Found) + Send + 'static) -> Known {
        let Endpoint::Tcp {
            host: Host::Name(name),
            port,
        } = &self.endpoint
        else {
            return Known::Now;
        };
        match self.look_up {
            LookUp::Late => Known::Now,
            LookUp::UnderWay if self.addresses.is_empty() => Known::Later,
            LookUp::UnderWay => Known::Now,
            LookUp::None => match look_up(name.clone(), *port, answer) {
                Ok(()) => {
                    self.look_up = LookUp::UnderWay;
                    Known::Later
                }
                Err(error) => Known::Failed(error.to_string()),
            },
        }
    }

    /// What the look-up found; says whether there is an address to try, old or new.
    pub fn found(&mut self, found: Found) -> bool {
        self.look_up = LookUp::None;
        if let Ok(addresses) = found {
            self.addresses = addresses;
            // The session may have given the wait up; then the next attempt uses it.
            self.look_up = LookUp::Late;
        }
        !self.addresses.is_empty()
    }

    /// The address of the next attempt, without a name in it.
    pub fn target(&mut self) -> Endpoint {
        if self.look_up == LookUp::Late {
            self.look_up = LookUp::None;
        }
        let endpoint = match self.addresses.as_slice() {
            [] => self.endpoint.clone(),
            addresses => {
                let address = addresses[self.attempt % addresses.len()];
                Endpoint::Tcp {
                    host: Host::Ip(address.ip()),
                    port: address.port(),
                }
            }
        };
        self.attempt = self.attempt.wrapping_add(1);
        endpoint
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_tried_in_turn_and_the_last_ones_when_the_name_server_fails() {
        let mut names = Names::new(Endpoint::Tcp {
            host: Host::Name("localhost".into()),
            port: 1,
        });
        assert!(!names.found(Err("no server".into())));
        let addresses: Vec<SocketAddr> =
            vec!["10.0.0.1:1".parse().unwrap(), "10.0.0.2:1".parse().unwrap()];
        assert!(names.found(Ok(addresses)));
        // It came late: it is used before another one is begun.
        assert_eq!(names.resolve(drop), Known::Now);
        let targets: Vec<String> = (0..3).map(|_| names.target().to_string()).collect();
        assert_eq!(
            targets,
            ["tcp://10.0.0.1:1", "tcp://10.0.0.2:1", "tcp://10.0.0.1:1"]
        );
        assert!(names.found(Err("no server".into())));
    }
}
