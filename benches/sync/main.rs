//! How fast what was missed comes back: a replay beside the same events live, a snapshot beside a
//! range read of the same rows from etcd, and a burst over the high-water mark; and how long all that
//! asking holds up who publishes. One real `fanfare-publisher` each; agents without handlers.
//!
//! Arguments: `--test` for a quick look, and the names of parts (`replay`, `snapshot`, `overflow`,
//! `asked`) to run only those.

#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod asked;
mod etcd;
mod overflow;
mod replay;
mod rig;
mod snapshot;

/// Tells this program that it is the agent whose memory is measured.
const AS_AGENT: &str = "--as-agent";

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [first, uri, rows] = &arguments[..]
        && first == AS_AGENT
    {
        return snapshot::agent(uri, rows.parse().unwrap());
    }
    let quick = arguments.iter().any(|argument| argument == "--test");
    let parts = arguments.iter().filter(|name| !name.starts_with("--"));
    let parts: Vec<&str> = parts.map(String::as_str).collect();
    let wanted = |part: &str| parts.is_empty() || parts.contains(&part);
    let few = |full: u64| if quick { full / 50 } else { full };
    if wanted("replay") {
        replay::run(few(100_000), if quick { 1 } else { 3 });
    }
    if wanted("snapshot") {
        snapshot::run(few(100_000));
    }
    if wanted("overflow") {
        overflow::run(if quick { 5_000 } else { 50_000 });
    }
    if wanted("asked") {
        match quick {
            true => asked::run(2_000, 1, 100),
            false => asked::run(100_000, 7, 2_000),
        }
    }
}
