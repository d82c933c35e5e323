//! Failures while a lane catches up, with the real thread.

use super::*;
use crate::dispatch::Delivery;

/// What a [`Through`] goes through to.
#[derive(Default)]
struct Backend {
    down: AtomicBool,
    rows: Mutex<Rows>,
    /// Rows given since the bracket was opened, and the most of any bracket.
    given: AtomicUsize,
    most: AtomicUsize,
    marks: Mutex<Vec<&'static str>>,
    idle: AtomicUsize,
}

impl Backend {
    fn rows(&self) -> Rows {
        self.rows.lock().unwrap().clone()
    }

    fn marks(&self) -> Vec<&'static str> {
        self.marks.lock().unwrap().clone()
    }
}

type Act = Box<dyn FnMut(&Event<'_>) -> Result<(), HandlerError> + Send>;

/// Gives rows to a backend while that is not down and `act` lets them through.
struct Through {
    backend: Arc<Backend>,
    act: Act,
    /// How many brackets fail to open.
    unopened: usize,
}

fn not_now() -> HandlerError {
    HandlerError::Retry("not now".into())
}

impl Handler for Through {
    fn begin_sync(&mut self, _: SyncReason) -> Result<(), HandlerError> {
        self.backend.marks.lock().unwrap().push("begin");
        self.backend.given.store(0, Ordering::SeqCst);
        self.backend.rows.lock().unwrap().clear();
        if self.unopened > 0 {
            self.unopened -= 1;
            return Err(not_now());
        }
        Ok(())
    }

    fn apply(&mut self, event: &Event<'_>) -> Result<(), HandlerError> {
        let given = 1 + self.backend.given.fetch_add(1, Ordering::SeqCst);
        self.backend.most.fetch_max(given, Ordering::SeqCst);
        if self.backend.down.load(Ordering::SeqCst) {
            return Err(not_now());
        }
        (self.act)(event)?;
        let value = event.value.unwrap_or("").to_owned();
        let mut rows = self.backend.rows.lock().unwrap();
        rows.insert(event.key.into(), value);
        Ok(())
    }

    fn end_sync(&mut self) -> Result<(), HandlerError> {
        self.backend.marks.lock().unwrap().push("end");
        Ok(())
    }

    fn idle(&mut self, _: Instant) -> Result<Option<Instant>, HandlerError> {
        self.backend.idle.fetch_add(1, Ordering::SeqCst);
        Ok(None)
    }
}

fn through(
    hub: &Arc<Hub>,
    delivery: Delivery,
    limits: Limits,
    handler: impl FnOnce(Arc<Backend>) -> Through,
) -> (Lane, Arc<Backend>) {
    let backend = Arc::<Backend>::default();
    let handler = Mutex::new(Some(handler(Arc::clone(&backend))));
    let build: Build = Box::new(move |_| {
        let handler = handler.lock().unwrap().take();
        Ok(Box::new(handler.expect("it is made once")))
    });
    let seat = SeatOptions {
        delivery,
        queue_length: 1,
        ..wide()
    };
    let options = LaneOptions {
        limits,
        ..LaneOptions::new("test", seat, build)
    };
    (Lane::start(hub, options).unwrap(), backend)
}

fn soon() -> Limits {
    Limits {
        retry_min: Duration::from_millis(10),
        retry_max: Duration::from_millis(50),
        ..Limits::default()
    }
}

fn hub_of(rows: u64) -> Arc<Hub> {
    let hub = Hub::new();
    for key in 0..rows {
        publish(&hub, key, 1);
    }
    hub
}

#[test]
fn a_bracket_of_which_more_fails_than_may_wait_is_left_for_a_pause() {
    // Nothing is given twice: that would count.
    let late = Limits {
        retry_min: Duration::from_secs(3600),
        retry_max: Duration::from_secs(3600),
        ..Limits::default()
    };
    let rows = Limits {
        waiting: 100,
        ..late
    };
    let bytes = Limits {
        bytes: 10_000,
        ..late
    };
    for (delivery, limits, most) in [
        (Delivery::State, rows, 101),
        (Delivery::Events, rows, 101),
        // An event takes 36 bytes or more.
        (Delivery::Events, bytes, 278),
    ] {
        let hub = hub_of(5000);
        let (lane, backend) = through(&hub, delivery, limits, |backend| {
            backend.down.store(true, Ordering::SeqCst);
            Through {
                backend,
                act: Box::new(|_| Ok(())),
                unopened: 0,
            }
        });
        within("two pauses", || {
            lane.metrics.too_many_failures_total.get() >= 2
        });
        let given = backend.most.load(Ordering::SeqCst);
        assert!(given <= most, "{given} rows of one bracket, {delivery:?}");
        backend.down.store(false, Ordering::SeqCst);
        within("all rows", || backend.rows() == replica(&hub));
    }
}

/// Other rows change as fast as the handler takes them: there is always more to catch up with.
#[test]
fn a_row_that_failed_is_given_again_while_the_lane_is_behind() {
    for delivery in [Delivery::State, Delivery::Events] {
        let hub = hub_of(50);
        let feed = Arc::clone(&hub);
        let (mut turn, mut tries) = (0, 0);
        let idle = Arc::<AtomicUsize>::default();
        let seen = Arc::clone(&idle);
        let (lane, backend) = through(&hub, delivery, soon(), |backend| Through {
            backend: Arc::clone(&backend),
            act: Box::new(move |event| {
                if event.key == "7" {
                    tries += 1;
                    seen.store(backend.idle.load(Ordering::SeqCst), Ordering::SeqCst);
                    return if tries == 1 { Err(not_now()) } else { Ok(()) };
                }
                if tries < 2 {
                    turn += 1;
                    publish(&feed, 10 + turn % 40, turn);
                }
                Ok(())
            }),
            unopened: 0,
        });
        within("it is given again", || backend.rows().contains_key("7"));
        assert_eq!(lane.metrics.retries_total.get(), 1);
        assert_eq!(idle.load(Ordering::SeqCst), 0, "it was up to date");
        within("all rows", || backend.rows() == replica(&hub));
    }
}

/// It takes longer than the wait for the next one.
#[test]
fn a_bracket_that_failed_to_open_is_closed_before_it_comes_again() {
    for delivery in [Delivery::State, Delivery::Events] {
        let hub = hub_of(2000);
        let (_lane, backend) = through(&hub, delivery, soon(), |backend| Through {
            backend,
            act: Box::new(|_| {
                std::thread::sleep(Duration::from_micros(50));
                Ok(())
            }),
            unopened: 2,
        });
        within("it opens", || backend.marks().len() == 6);
        let bracket = ["begin", "end"];
        assert_eq!(backend.marks(), [bracket, bracket, bracket].concat());
        assert_eq!(backend.rows(), replica(&hub));
    }
}

/// Even where one row fails for ever.
#[test]
fn pauses_are_short_again_once_a_bracket_was_taken() {
    let limits = Limits {
        waiting: 100,
        ..soon()
    };
    let hub = hub_of(300);
    let (lane, backend) = through(&hub, Delivery::State, limits, |backend| {
        backend.down.store(true, Ordering::SeqCst);
        Through {
            backend,
            act: Box::new(|event| match event.key {
                "7" => Err(not_now()),
                _ => Ok(()),
            }),
            unopened: 0,
        }
    });
    let pauses = &lane.metrics.too_many_failures_total;
    within("long pauses", || pauses.get() >= 4);
    backend.down.store(false, Ordering::SeqCst);
    within("all rows", || {
        backend.marks().last() == Some(&"end") && backend.rows().len() == 299
    });
    let before = pauses.get();
    backend.down.store(true, Ordering::SeqCst);
    lane.handle().resync(SyncReason::Requested);
    let mut left = Duration::ZERO;
    within("it pauses", || match lane.handle().status().state {
        LaneState::Pausing(until) => {
            left = until.saturating_duration_since(Instant::now());
            true
        }
        _ => false,
    });
    // Where it was seen late it is another one.
    let longest = RESTART_MIN * (1 << (pauses.get() - before - 1));
    assert!(left <= longest, "{left:?} of at most {longest:?} are left");
}
