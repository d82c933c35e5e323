//! The kinds of values: what is allowed.

use std::path::Path;

use figment::value::{Dict, Value};

use super::Known;
use super::secure::{public_key_fault, texts};
use super::setting::{integer, number, show};
use super::text;
use crate::event::topic;
use crate::pubsub::endpoint::check_ipc_path;

/// What values a key takes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Kind {
    /// true or false.
    Flag,
    /// One of these words.
    Choice(&'static [&'static str]),
    /// 1–65535.
    Port,
    /// 1–65535, or 0 for none.
    PortOrNone,
    /// A whole number from the first to the second, of the third.
    Count(i64, i64, &'static str),
    /// Seconds, fractions allowed, from the first to the second.
    Seconds(f64, f64),
    /// A list of publishers; the entries are checked where transport and port are known.
    Addresses,
    /// An address to bind; checked where transport and port are known.
    BindAddress,
    /// A list of tables.
    Tables,
    /// A list of topics.
    Topics,
    /// An absolute path of at most so many bytes.
    Folder(usize),
    /// The path of a unix socket.
    Socket,
    /// A name, or nothing.
    Text,
    /// An IP address and a port to listen on, or nothing.
    Listen,
    /// The alias of a pub/sub driver.
    Driver,
    /// A level, or a filter as env_logger knows it.
    LogFilter,
    /// Nothing, 32 hexadecimal digits, or a uuid.
    PublisherId,
    /// Public keys, or their files, by address.
    PublicKeys,
    /// `[[handler]]` tables.
    Handlers,
    /// `[[grant]]` tables.
    Grants,
    /// A list of users.
    Users,
}

impl Kind {
    /// What a value must be, to follow "is not".
    pub fn wants(&self) -> String {
        match self {
            Kind::Flag => "true or false".into(),
            Kind::Choice(words) => match words {
                [all @ .., last] if !all.is_empty() => format!("{} or {last}", all.join(", ")),
                words => words.join(""),
            },
            Kind::Port => "a port number from 1 to 65535".into(),
            Kind::PortOrNone => "a port number from 1 to 65535, or 0".into(),
            Kind::Count(min, max, unit) => {
                format!("a whole number of {unit} from {min} to {max}")
            }
            Kind::Seconds(min, max) => format!("a number of seconds from {min} to {max}"),
            Kind::Addresses => r#"a list of addresses, such as ["10.0.0.1", "[fd00::1]:8866"]"#.into(),
            Kind::BindAddress => "an IP address of this host, or *".into(),
            Kind::Tables => r#"a list of tables, such as ["lport", "lrouter"]"#.into(),
            Kind::Topics => r#"a list of topics, such as ["tenant1", "tenant2"]"#.into(),
            Kind::Folder(max) => format!("an absolute path of at most {max} bytes"),
            Kind::Socket => "the absolute path of a unix socket, at most 107 bytes".into(),
            Kind::Text => "a text without control characters".into(),
            Kind::Listen => {
                r#"an IP address and a port, such as "127.0.0.1:9866" or "[::1]:9866", or empty"#.into()
            }
            Kind::Driver => "the name of a pub/sub driver".into(),
            Kind::LogFilter => {
                "off, error, warn, info, debug, trace, or a filter such as info,fanfare::pubsub=debug"
                    .into()
            }
            Kind::PublisherId => "empty, 32 hexadecimal digits, or a uuid".into(),
            Kind::PublicKeys => r#"a table of keys, such as { "10.0.0.1" = "public:…" }"#.into(),
            Kind::Handlers => "a list of tables; write [[handler]] above each".into(),
            Kind::Grants => "a list of tables; write [[grant]] above each".into(),
            Kind::Users => r#"a list of users, such as ["neutron", "1001"]"#.into(),
        }
    }

    /// Whether a bare word on the command line or in the environment is the value itself.
    pub(super) fn takes_text(&self) -> bool {
        match self {
            Kind::Choice(_)
            | Kind::BindAddress
            | Kind::Folder(_)
            | Kind::Socket
            | Kind::Text
            | Kind::Listen
            | Kind::Driver
            | Kind::LogFilter
            | Kind::PublisherId => true,
            Kind::Flag
            | Kind::Port
            | Kind::PortOrNone
            | Kind::Count(..)
            | Kind::Seconds(..)
            | Kind::Addresses
            | Kind::Tables
            | Kind::Topics
            | Kind::PublicKeys
            | Kind::Handlers
            | Kind::Grants
            | Kind::Users => false,
        }
    }

    /// Everything that is wrong with `value`.
    pub(super) fn check(&self, value: &Value, known: &Known<'_>) -> Vec<String> {
        let is_not = || vec![format!("{} is not {}", show(value), self.wants())];
        let allowed = match self {
            Kind::Flag => value.to_bool().is_some(),
            Kind::Port => integer(value).is_some_and(|n| (1..=65535).contains(&n)),
            Kind::PortOrNone => integer(value).is_some_and(|n| (0..=65535).contains(&n)),
            Kind::Count(min, max, _) => integer(value).is_some_and(|n| (*min..=*max).contains(&n)),
            Kind::Seconds(min, max) => number(value).is_some_and(|n| (*min..=*max).contains(&n)),
            Kind::Addresses | Kind::Tables | Kind::Topics | Kind::Users => match value.as_array() {
                Some(entries) => return self.check_entries(entries),
                None => false,
            },
            Kind::PublicKeys => match value.as_dict() {
                Some(entries) => return check_public_keys(entries),
                None => false,
            },
            Kind::Handlers | Kind::Grants => value
                .as_array()
                .is_some_and(|tables| tables.iter().all(|table| table.as_dict().is_some())),
            _ => match value.as_str() {
                Some(text) => return self.check_text(text, known),
                None => false,
            },
        };
        if allowed { Vec::new() } else { is_not() }
    }

    fn check_entries(&self, entries: &[Value]) -> Vec<String> {
        let check = |entry: &Value| match entry.as_str() {
            None => Some(format!("{} is not a text; write it in quotes", show(entry))),
            Some(text) if *self == Kind::Topics => topic::check(text)
                .err()
                .map(|error| format!("{text:?}: {error}")),
            Some("") => Some(r#""" is empty; leave it out or name something"#.into()),
            Some(_) => None,
        };
        entries.iter().filter_map(check).collect()
    }

    fn check_text(&self, text: &str, known: &Known<'_>) -> Vec<String> {
        let is_not = || match text.contains("secret:") {
            true => format!("a secret key is not {}", self.wants()),
            false => format!("{text:?} is not {}", self.wants()),
        };
        let fault = match self {
            Kind::Choice(words) => (!words.contains(&text)).then(is_not),
            Kind::Folder(max) => {
                let allowed = Path::new(text).is_absolute() && !text.contains('\0');
                (!allowed || text.len() > *max).then(is_not)
            }
            Kind::Socket => check_ipc_path(text).err().map(|error| match text {
                "" => error.to_string(),
                _ => format!("{text:?}: {error}"),
            }),
            Kind::Driver => (!known.drivers.contains(&text)).then(|| {
                format!(
                    "{text:?} is not a driver; known are {}",
                    known.drivers.join(", ")
                )
            }),
            Kind::Text => text.chars().any(char::is_control).then(is_not),
            Kind::Listen => {
                let address = text.parse::<std::net::SocketAddr>();
                let usable = text.is_empty() || address.is_ok_and(|address| address.port() != 0);
                (!usable).then(is_not)
            }
            Kind::LogFilter => text::log_filter_fault(text),
            Kind::PublisherId => (!text.is_empty() && text::id(text).is_none()).then(is_not),
            _ => None,
        };
        fault.into_iter().collect()
    }
}

fn check_public_keys(entries: &Dict) -> Vec<String> {
    let check = |(name, value): (&String, &Value)| match texts(value) {
        None => vec![format!(
            "{name:?} is not given as a text; write it in quotes, or several as a list"
        )],
        Some(texts) => {
            let faults = texts.iter().filter_map(|text| public_key_fault(text));
            faults.map(|why| format!("{name:?}: {why}")).collect()
        }
    };
    entries.iter().flat_map(check).collect()
}
