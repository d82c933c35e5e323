//! How long honest agents wait for events while a publisher is attacked. A measurement, for `make
//! soak`: attackers, publisher and agent share the machine, and what that machine's host takes of it is left out
//! ([`witness`]). Where the host takes much, what is left is slow too, and a calm before and after says little
//! of the time between; so the same is measured at the same time of a publisher that nobody attacks.

mod attack;
mod line;
mod waits;
mod witness;

use std::sync::Arc;
use std::time::Duration;

use fanfare::pubsub::SubscriberOptions;
use fanfare::security::party::{ANY, NodeKeys};

use crate::rig::agent::options;
use crate::rig::cluster::Cluster;
use crate::rig::site::Site;

use attack::{Attack, noticed};
use line::{Line, Pair, Round};
use waits::Waits;
use witness::{Mark, Pause, Witness};

const KINDS: &[&str] = &[
    "garbage",
    "half_open",
    "slow_loris",
    "bombs",
    "flood",
    "endless",
    "oversize",
];

/// How long calm is measured before an attack and after it, and how long each attack: as long as who does
/// harm is kept out, since what it does before that it does once in so long.
const CALM_ROUND: Duration = Duration::from_secs(15);
const ATTACK: Duration = Duration::from_secs(60);
/// No event takes longer, whatever happens.
const LONGEST: Duration = Duration::from_millis(500);

/// How often an attack is measured at most: the host's own stalls make a round worse now and then, what
/// an attack does makes all of them worse.
const TRIES: usize = 3;

const CONFIG: &str = "durability = \"os\"\nmax_connections = 4000\n";

/// By anybody, where there are no keys.
#[test]
#[ignore = "a measurement; make soak"]
fn attacks_at_most_double_the_latency_of_honest_agents() {
    let cluster = Cluster::running(CONFIG);
    let other = Cluster::running(CONFIG);
    attacked((&cluster, &other), options, &|_, _| Vec::new());
}

/// With keys, as it is by default: by strangers, and by nodes that were taken over; each only once, since
/// it is kept out then.
#[test]
#[ignore = "a measurement; make soak"]
fn attacks_at_most_double_the_latency_of_agents_with_keys() {
    let taken = |kind: &str, number: usize| format!("{kind}-{number}");
    let each = KINDS
        .iter()
        .flat_map(|kind| (0..TRIES).map(move |number| taken(kind, number)));
    let names: Vec<String> = std::iter::once("n1".to_owned()).chain(each).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let site = Site::with(&names, CONFIG);
    let trusted = [(ANY.to_owned(), vec![site.publisher_key()])];
    let honest = || SubscriberOptions {
        keys: Some(Arc::new(NodeKeys::new(
            site.secret("n1"),
            trusted.clone().into(),
        ))),
        ..options()
    };
    let keys = site.keys().display().to_string();
    let whose = |kind: &str, number: usize| vec![keys.clone(), taken(kind, number)];
    let other = site.other(CONFIG);
    attacked((&site.cluster, &other), honest, &whose);
}

/// Measures with the attacks of somebody who has the keys for the try with this number.
fn attacked(
    (cluster, other): (&Cluster, &Cluster),
    honest: impl Fn() -> SubscriberOptions,
    keys: &dyn Fn(&str, usize) -> Vec<String>,
) {
    let mut pair = Pair {
        attacked: Line::through(cluster, honest()),
        other: Line::through(other, honest()),
    };
    let witness = Witness::begin();
    let mut next = |length| pair.measure(&witness, length);
    let mut calms = (0..TRIES).map(|_| next(CALM_ROUND));
    let first = calms.find(Round::is_enough).expect("a calm");
    eprintln!("calm: {first}");
    let mut before = first.clone();
    // `SIEGE=bombs` for that attack alone.
    let only = std::env::var("SIEGE").ok();
    let kinds = KINDS
        .iter()
        .filter(|kind| only.as_ref().is_none_or(|only| only == *kind));
    let mut worse = Vec::new();
    for kind in kinds {
        let mut tries = (0..TRIES).map(|number| {
            let noticed_before = noticed(cluster, kind);
            let attack = Attack::begin(cluster, kind, &keys(kind, number));
            let during = next(ATTACK);
            let cut = attack.end();
            // What an attack leaves behind stays; what the host does passes.
            let is_calm = |round: &Round| round.is_like(&[&first]);
            let mut after = next(CALM_ROUND);
            let (mut rounds, mut longest) = (1, during.longest().max(after.longest()));
            while !is_calm(&after) && rounds < TRIES {
                eprintln!("{kind}: after it {after}");
                after = next(CALM_ROUND);
                rounds += 1;
                longest = longest.max(after.longest());
            }
            let noticed = noticed(cluster, kind) - noticed_before;
            // The host itself is calmer at one time than at another: what is just before and just after
            // is what an attack is compared with, and what is after it with the beginning.
            let calm = [&before, &after];
            eprintln!(
                "{kind}: {during}, {:.2} times; after it {after}; cut off {cut} times, {noticed} noticed; \
                 publisher {} kB",
                during.times(&calm),
                cluster.host.peak_kb(),
            );
            assert!(noticed > 0 || *kind == "oversize" && cut > 0, "{kind}: it did no harm");
            let left_calm = is_calm(&after);
            let good = during.is_like(&calm) && left_calm && longest <= LONGEST;
            if left_calm {
                before = after;
            }
            good
        });
        if !tries.any(|good| good) {
            worse.push(*kind);
        }
    }
    pair.attacked.stop();
    pair.other.stop();
    assert!(worse.is_empty(), "more than doubled by {worse:?}");
}
