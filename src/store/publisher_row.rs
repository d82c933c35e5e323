//! The rows of the table `publisher`: who publishes, and where (a contract with other publishers,
//! agents, and the system this one replaces).

use serde::{Deserialize, Serialize};

/// The table's name.
pub const PUBLISHER_TABLE: &str = "publisher";

/// One publisher, as its row says. Its key is the publisher's id; fields that are not known are
/// ignored, those that are not needed may be missing.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PublisherRow {
    /// The publisher's id; 32 hexadecimal digits from a Fanfare publisher, any text from others.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// Where agents connect to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uri: Option<String>,
    /// When it was last known to live, seconds since the Unix epoch, with a fraction.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_activity_timestamp: Option<f64>,
    /// Number of the publisher's unbroken life; not from a legacy publisher.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub incarnation: Option<u64>,
    /// A random number of the process that wrote the row: two publishers with one id tell each
    /// other apart by it even where a copied state gives them the same incarnation and address. Not
    /// from a legacy publisher.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub instance: Option<u64>,
}

impl PublisherRow {
    /// Reads a row's value; `None` when it is no JSON object of this form.
    pub fn parse(value: &str) -> Option<Self> {
        // An array would do for a struct, too.
        if !value.trim_start().starts_with('{') {
            return None;
        }
        serde_json::from_str(value).ok()
    }

    /// The row's value.
    pub fn to_json(&self) -> String {
        // Texts and numbers can always be written.
        serde_json::to_string(self).unwrap_or_default()
    }
}

/// A publisher's id as it stands in keys and rows: 32 lower-case hexadecimal digits.
pub fn id_text(id: &[u8; 16]) -> String {
    format!("{:032x}", u128::from_be_bytes(*id))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_of_old_and_new_publishers_are_read() {
        let old = r#"{"id":"a","uri":"tcp://1.2.3.4:8866","last_activity_timestamp":12,"x":[1]}"#;
        let row = PublisherRow::parse(old).unwrap();
        assert_eq!(row.last_activity_timestamp, Some(12.0));
        assert_eq!(row.incarnation, None);
        let new = PublisherRow {
            incarnation: Some(u64::MAX),
            last_activity_timestamp: Some(1_700_000_000.125),
            ..row
        };
        assert_eq!(PublisherRow::parse(&new.to_json()), Some(new));
        for bad in ["", "7", "[null,null,1,1]", r#"{"uri":7}"#, "{"] {
            assert_eq!(PublisherRow::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn an_id_has_32_digits() {
        assert_eq!(id_text(&[0; 16]), "0".repeat(32));
        assert_eq!(id_text(&[0xab; 16]), "ab".repeat(16));
    }
}
