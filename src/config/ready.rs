//! When an agent counts as up.

use figment::value::Value;

use super::setting::Setting;

/// When the service manager is told that the agent is up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Ready {
    /// When it runs.
    #[default]
    Started,
    /// When every publisher is followed and every handler runs.
    InSync,
}

impl Setting for Ready {
    fn from_value(value: &Value) -> Option<Self> {
        match value.as_str()? {
            "started" => Some(Ready::Started),
            "in-sync" => Some(Ready::InSync),
            _ => None,
        }
    }
}
