//! The filter line of a client.

use serde::Deserialize;

use super::rows::Row;

/// What a client wants; an empty list lets everything through.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Filter {
    #[serde(default)]
    tables: Vec<String>,
    #[serde(default)]
    topics: Vec<String>,
    #[serde(default)]
    actions: Vec<Wanted>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Wanted {
    Create,
    Set,
    Delete,
}

impl Filter {
    /// Reads the line.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(line: &[u8]) -> Result<Self, String> {
        serde_json::from_slice(line).map_err(|error| error.to_string())
    }

    /// Whether states of this row's place are wanted, whatever happened to it.
    pub fn covers(&self, row: &Row) -> bool {
        let among = |names: &[String], name: &str| {
            names.is_empty() || names.iter().any(|known| known == name)
        };
        among(&self.tables, &row.name.0) && among(&self.topics, &row.topic)
    }

    /// Whether this state is wanted.
    pub fn wants(&self, row: &Row) -> bool {
        let is_wanted = |wanted: &Wanted| (*wanted == Wanted::Delete) == row.is_gone;
        self.covers(row) && (self.actions.is_empty() || self.actions.iter().any(is_wanted))
    }
}
