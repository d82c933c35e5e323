use super::*;
use crate::event::{Action, Event};
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Instant;

/// A handler and its lane's queue, as small as they can be.
struct Model {
    replica: Replica,
    catchup: Catchup,
    queue: VecDeque<EventBatch>,
    capacity: usize,
    state: BTreeMap<String, String>,
    bracket: Option<BTreeMap<String, String>>,
    brackets: usize,
}

impl Model {
    fn new(delivery: Delivery, capacity: usize) -> Self {
        Model {
            replica: Replica::new(),
            catchup: Catchup::new(delivery),
            queue: VecDeque::new(),
            capacity,
            state: BTreeMap::new(),
            bracket: None,
            brackets: 0,
        }
    }

    fn publish(&mut self, event: &Event<'_>) {
        self.replica.apply(event, Instant::now());
        if !self.catchup.is_behind() {
            if self.queue.len() < self.capacity {
                self.queue.push_back([*event].into_iter().collect());
                return;
            }
            self.catchup.fall_behind();
        }
        self.catchup
            .changed(RowKey::new(event.table, event.key), self.replica.len());
    }

    fn apply(&mut self, events: &EventBatch) {
        let rows = self.bracket.as_mut().unwrap_or(&mut self.state);
        for event in events.iter() {
            match event.action {
                Action::Delete => rows.remove(event.key),
                _ => rows.insert(event.key.into(), event.value.unwrap_or("").into()),
            };
        }
    }

    /// What the lane does in one turn; `false` when there was nothing to do.
    fn turn(&mut self) -> bool {
        if let Some(events) = self.queue.pop_front() {
            self.apply(&events);
            return true;
        }
        if !self.catchup.is_behind() {
            return false;
        }
        match self.catchup.next(&self.replica, &Filter::default()) {
            Step::Begin(_) => {
                self.bracket = Some(BTreeMap::new());
                self.brackets += 1;
            }
            Step::Rows(rows) => self.apply(&rows),
            Step::End => self.state = self.bracket.take().expect("an open bracket"),
            Step::UpToDate => {}
        }
        true
    }

    fn rows(&self) -> BTreeMap<String, String> {
        let names = self.replica.keys(|_, _| true);
        let value = |name: &RowKey| self.replica.event(name).value.unwrap_or("").to_owned();
        names
            .iter()
            .map(|name| (name.key.to_string(), value(name)))
            .collect()
    }
}

#[derive(Debug, Clone)]
enum Op {
    Set(u16, u8),
    Delete(u16),
    Turn,
    Resync,
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let key = 0u16..400;
    let op = prop_oneof![
        8 => (key.clone(), any::<u8>()).prop_map(|(key, value)| Op::Set(key, value)),
        3 => key.prop_map(Op::Delete),
        5 => Just(Op::Turn),
        1 => Just(Op::Resync),
    ];
    prop::collection::vec(op, 1..1500)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    /// Any interleaving of events, full queues, resyncs and slowness ends with the handler's rows
    /// equal to the replica's.
    #[test]
    fn it_ends_with_the_replica(
        ops in ops(), capacity in 0usize..6, events in any::<bool>(),
    ) {
        let delivery = if events { Delivery::Events } else { Delivery::State };
        let mut model = Model::new(delivery, capacity);
        for op in ops {
            match op {
                Op::Set(key, value) =>
                    model.publish(&Event::set("t", &key.to_string(), &value.to_string())),
                Op::Delete(key) => model.publish(&Event::delete("t", &key.to_string())),
                Op::Turn => { model.turn(); }
                Op::Resync => model.catchup.resync(SyncReason::Requested),
            }
        }
        let mut turns = 0;
        while model.turn() {
            turns += 1;
            prop_assert!(turns < 10_000, "it never comes up to date");
        }
        prop_assert!(model.bracket.is_none());
        prop_assert_eq!(&model.state, &model.rows());
    }
}

#[test]
fn a_stuck_lane_is_told_to_start_over_rather_than_remember_for_ever() {
    let mut model = Model::new(Delivery::State, 0);
    for key in 0..GONE_REMEMBERED * 2 {
        model.publish(&Event::set("t", &key.to_string(), "x"));
        model.publish(&Event::delete("t", &key.to_string()));
        assert!(model.catchup.remembered() <= GONE_REMEMBERED + 1);
    }
    let step = model.catchup.next(&model.replica, &Filter::default());
    assert!(
        matches!(step, Step::Begin(SyncReason::Overflow)),
        "{step:?}"
    );
}

#[test]
fn a_row_given_in_the_bracket_is_not_given_again() {
    let mut model = Model::new(Delivery::State, 0);
    model.publish(&Event::set("t", "k", "1"));
    model.catchup.resync(SyncReason::Started);
    assert!(matches!(
        model.catchup.next(&model.replica, &Filter::default()),
        Step::Begin(_)
    ));
    model.publish(&Event::set("t", "k", "2"));
    let step = model.catchup.next(&model.replica, &Filter::default());
    assert!(matches!(&step, Step::Rows(rows) if rows.get(0).unwrap().value == Some("2")));
    assert!(matches!(
        model.catchup.next(&model.replica, &Filter::default()),
        Step::End
    ));
    assert!(matches!(
        model.catchup.next(&model.replica, &Filter::default()),
        Step::UpToDate
    ));
}

#[test]
fn a_publisher_that_flaps_does_not_keep_a_slow_handler_at_its_first_rows() {
    let mut model = Model::new(Delivery::State, 0);
    for key in 0..CHUNK * 4 {
        model.publish(&Event::set("t", &key.to_string(), "1"));
    }
    // It comes and goes faster than a bracket can be given.
    for turn in 0..20 {
        if turn % 2 == 0 {
            model.catchup.resync(SyncReason::Reconnected);
        }
        model.publish(&Event::set("t", "new", &turn.to_string()));
        model.turn();
    }
    assert!(model.brackets >= 2, "{} brackets", model.brackets);
    assert!(model.state.contains_key("new"), "no bracket ever ended");
}

/// Rows that change as fast as the handler takes them must not keep it from the others.
#[test]
fn a_lane_that_stays_behind_comes_by_every_row() {
    let mut model = Model::new(Delivery::State, 0);
    for key in 0..CHUNK * 4 {
        model.publish(&Event::set("t", &key.to_string(), "1"));
    }
    let mut given = BTreeSet::new();
    for turn in 0..4 {
        let step = model.catchup.next(&model.replica, &Filter::default());
        let Step::Rows(rows) = step else {
            panic!("it is behind for good: {step:?}");
        };
        assert_eq!(rows.len(), CHUNK);
        for row in rows.iter() {
            given.insert(row.key.to_owned());
            model.publish(&Event::set("t", row.key, &turn.to_string()));
        }
        assert_eq!(model.catchup.remembered(), CHUNK * 4);
    }
    assert_eq!(given.len(), CHUNK * 4, "some rows were never given");
}

/// They are copied under the hub's lock.
#[test]
fn a_step_ends_where_rows_are_large() {
    const LARGE: usize = STEP_BYTES / 3;
    let mut model = Model::new(Delivery::State, 0);
    let value = "x".repeat(LARGE);
    for key in 0..20 {
        model.publish(&Event::set("t", &key.to_string(), &value));
    }
    let steps = |model: &mut Model| {
        let mut given = BTreeSet::new();
        loop {
            let step = model.catchup.next(&model.replica, &Filter::default());
            match step {
                Step::Begin(_) => continue,
                Step::Rows(rows) => {
                    assert!(rows.text_len() < STEP_BYTES + 2 * LARGE, "{}", rows.len());
                    given.extend(rows.iter().map(|row| row.key.to_owned()));
                }
                Step::End | Step::UpToDate => return given.len(),
            }
        }
    };
    assert_eq!(steps(&mut model), 20, "what changed");
    model.catchup.resync(SyncReason::Requested);
    assert_eq!(steps(&mut model), 20, "a bracket");
}

/// The handler of an `events` lane sees a row go back in time if anything is given past its queue.
#[test]
fn events_follow_a_bracket_without_a_hole() {
    let mut model = Model::new(Delivery::Events, 4);
    model.catchup.resync(SyncReason::Started);
    let set =
        |model: &mut Model, value: u32| model.publish(&Event::set("t", "k", &value.to_string()));
    set(&mut model, 1);
    while !matches!(
        model.catchup.next(&model.replica, &Filter::default()),
        Step::End
    ) {}
    assert!(
        !model.catchup.is_behind(),
        "the queue takes events from the bracket's end on"
    );
    set(&mut model, 2);
    assert_eq!(model.queue.len(), 1);
}
