//! Which nodes may have which topics.

use crate::event::topic::{HELLO, MAX_TOPIC_LEN, SEND_ALL};

/// Names, or beginnings of names that end in `*`.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Names(Vec<String>);

impl Names {
    fn cover(&self, name: &str) -> bool {
        self.0.iter().any(|own| match own.strip_suffix('*') {
            Some(beginning) => name.starts_with(beginning),
            None => own == name,
        })
    }

    /// Whether every name that begins with `prefix` is covered.
    fn cover_all(&self, prefix: &[u8]) -> bool {
        let beginnings = self.0.iter().filter_map(|own| own.strip_suffix('*'));
        beginnings
            .into_iter()
            .any(|beginning| prefix.starts_with(beginning.as_bytes()))
    }
}

/// Some nodes may have some topics.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    nodes: Names,
    topics: Names,
}

impl Grant {
    /// The nodes may have the topics; a name that ends in `*` stands for all that begin so.
    pub fn new(nodes: Vec<String>, topics: Vec<String>) -> Self {
        Grant {
            nodes: Names(nodes),
            topics: Names(topics),
        }
    }
}

/// What a subscription is to the one who may not have it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Judgement {
    /// It may be had.
    Granted,
    /// The topic may be had, but not all topics that begin so: this form of the subscription would
    /// bring those too. Agents make it for publishers that do not end topics with NUL.
    TooWide,
    /// It may not be had.
    Forbidden,
}

/// All grants. None: every node may have every topic. Where there is one, a node may have what is
/// granted to it, and what is for everybody: `D` and the publisher's heartbeat.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Grants(Vec<Grant>);

impl Grants {
    /// These.
    pub fn new(grants: Vec<Grant>) -> Self {
        Grants(grants)
    }

    /// Whether every node may have every topic.
    pub fn is_open(&self) -> bool {
        self.0.is_empty()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn of<'a>(&'a self, node: &str) -> impl Iterator<Item = &'a Names> {
        let own = self.0.iter().filter(|grant| grant.nodes.cover(node));
        own.map(|grant| &grant.topics)
    }

    /// Whether `node` may have `topic`; a node that nobody admitted has no name, and may have
    /// nothing where there are grants.
    pub fn allow(&self, node: Option<&str>, topic: &str) -> bool {
        if self.is_open() {
            return true;
        }
        let Some(node) = node else { return false };
        topic == SEND_ALL || self.of(node).any(|topics| topics.cover(topic))
    }

    /// Whether `node` may subscribe to `prefix`. A subscription is a prefix of what is sent, which
    /// is a topic and NUL: one that ends in NUL brings one topic, any other all that begin so.
    pub fn judge(&self, node: Option<&str>, prefix: &[u8]) -> Judgement {
        if self.is_open() {
            return Judgement::Granted;
        }
        let Some(name) = node else {
            return Judgement::Forbidden;
        };
        let (topic, whole) = match prefix.split_last() {
            Some((0, topic)) => (topic, true),
            _ => (prefix, false),
        };
        if topic.len() > MAX_TOPIC_LEN || topic.contains(&0) {
            return Judgement::Forbidden;
        }
        if !whole && self.of(name).any(|topics| topics.cover_all(prefix)) {
            return Judgement::Granted;
        }
        let allowed = match std::str::from_utf8(topic) {
            Ok(HELLO) => true,
            Ok(topic) => !topic.starts_with('\u{1}') && self.allow(node, topic),
            Err(_) => false,
        };
        match (allowed, whole) {
            (true, true) => Judgement::Granted,
            (true, false) => Judgement::TooWide,
            (false, _) => Judgement::Forbidden,
        }
    }

    /// Whether `node` may have the same by these as by `others`, which is told by what is written.
    pub fn same_for(&self, node: &str, others: &Grants) -> bool {
        self.is_open() == others.is_open() && self.of(node).eq(others.of(node))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Judgement::{Forbidden, Granted, TooWide};

    fn grant(nodes: &[&str], topics: &[&str]) -> Grant {
        let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        Grant::new(owned(nodes), owned(topics))
    }

    #[test]
    fn a_node_has_what_is_granted_and_what_is_for_all() {
        let grants = Grants::new(vec![
            grant(&["n1", "rack2-*"], &["t1"]),
            grant(&["n1"], &["u*"]),
            grant(&["admin"], &["*"]),
        ]);
        let judge = |node: &str, prefix: &[u8]| grants.judge(Some(node), prefix);
        for (node, prefix, expected) in [
            ("n1", &b"t1\0"[..], Granted),
            ("rack2-7", b"t1\0", Granted),
            ("rack1-7", b"t1\0", Forbidden),
            ("n1", b"t10\0", Forbidden),
            ("n1", b"t1", TooWide),
            ("n1", b"t", Forbidden),
            ("n1", b"", Forbidden),
            ("n1", b"\0", Forbidden),
            ("n1", b"u7\0", Granted),
            ("n1", b"u", Granted),
            ("n1", b"u7", Granted),
            ("n1", b"t1\0x", Forbidden),
            ("n1", b"t1\0\0", Forbidden),
            ("n1", b"\xff\0", Forbidden),
            ("nobody", b"D\0", Granted),
            ("nobody", b"D", TooWide),
            ("nobody", b"\x01hello\0", Granted),
            ("nobody", b"\x01hello", TooWide),
            ("nobody", b"\x01", Forbidden),
            ("nobody", b"\x01other\0", Forbidden),
            ("admin", b"", Granted),
            ("admin", b"anything\0", Granted),
            ("admin", b"\x01other\0", Forbidden),
        ] {
            assert_eq!(judge(node, prefix), expected, "{node} {prefix:?}");
        }
        let long = [&[b'u'; MAX_TOPIC_LEN + 1][..], b"\0"].concat();
        assert_eq!(judge("n1", &long), Forbidden);
        assert_eq!(grants.judge(None, b"D\0"), Forbidden);
        assert!(!grants.allow(None, "D") && grants.allow(Some("x"), "D"));
    }

    #[test]
    fn without_a_grant_everybody_has_everything() {
        let open = Grants::default();
        assert_eq!(open.judge(None, b""), Granted);
        assert!(open.allow(None, "t"));
    }

    #[test]
    fn changes_are_told_by_node() {
        let before = Grants::new(vec![grant(&["n1"], &["t1"]), grant(&["n2"], &["t2"])]);
        let after = Grants::new(vec![grant(&["n1"], &["t1"]), grant(&["n2"], &["t3"])]);
        assert!(after.same_for("n1", &before) && !after.same_for("n2", &before));
        assert!(after.same_for("n3", &before));
        assert!(!after.same_for("n3", &Grants::default()));
    }
}
