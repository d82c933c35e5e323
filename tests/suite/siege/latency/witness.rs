//! When the host of this machine had taken a processor away. That comes and goes, for 5 to 20 ms at a time and
//! up to a few per cent of all time; so it may be the whole p99. What was on its way then tells nothing of a
//! publisher.

use std::time::{Duration, Instant, SystemTime};

use serde_json::Value;

use crate::rig::left_out;
use crate::rig::peer::python;
use crate::rig::process::Process;

/// The unit of `/proc/stat`.
const TICK: Duration = Duration::from_millis(10);

/// A time during which one processor was not there.
#[derive(Debug, Clone, Copy)]
pub struct Pause {
    from: SystemTime,
    until: SystemTime,
}

impl Pause {
    /// Whether it is within the time between these; or as long again was not over then, in which what could not
    /// be done is made up for.
    pub fn touches(&self, from: SystemTime, until: SystemTime) -> bool {
        self.from <= until && from <= self.until + self.length()
    }

    fn length(&self) -> Duration {
        self.until.duration_since(self.from).unwrap_or_default()
    }

    fn read(line: &str) -> Option<Pause> {
        let said: Value = serde_json::from_str(line).ok()?;
        let at = |name: &str| {
            let seconds = Duration::try_from_secs_f64(said[name].as_f64()?).ok()?;
            Some(SystemTime::UNIX_EPOCH + seconds)
        };
        Some(Pause {
            from: at("from")?,
            until: at("until")?,
        })
    }
}

/// One process for each processor (`tests/peers/witness.py`).
pub struct Witness(Vec<Process>);

/// The beginning of a time that is watched.
pub struct Mark {
    lines: Vec<usize>,
    at: Instant,
    stolen: Duration,
}

/// What was seen since.
pub struct Seen {
    /// None where that is more than the system itself knows of: it could be an attack that kept the processors
    /// busy.
    pub pauses: Vec<Pause>,
    /// The part of all processors' time that the system knows was taken away.
    pub stolen: f64,
}

impl Witness {
    /// Watches; where it may not, nothing is seen.
    pub fn begin() -> Witness {
        let watches = |number: usize| {
            let mut command = python("witness.py");
            command.arg(number.to_string());
            let process = Process::start(command);
            let said = process.out.find("it watches", |line| Some(line.to_owned()));
            match said.strip_prefix("SKIPPED: ") {
                Some(why) => {
                    left_out(why);
                    None
                }
                None => Some(process),
            }
        };
        let processors = std::thread::available_parallelism().unwrap().get();
        Witness((0..processors).map_while(watches).collect())
    }

    pub fn mark(&self) -> Mark {
        Mark {
            lines: self.0.iter().map(|process| process.out.len()).collect(),
            at: Instant::now(),
            stolen: stolen(),
        }
    }

    pub fn since(&self, mark: &Mark) -> Seen {
        let each = self.0.iter().zip(&mark.lines);
        let lines = each.flat_map(|(process, start)| process.out.from(*start));
        let pauses: Vec<Pause> = lines.filter_map(|line| Pause::read(&line)).collect();
        let all: Duration = pauses.iter().map(Pause::length).sum();
        let known = stolen().saturating_sub(mark.stolen);
        let watched = u32::try_from(self.0.len()).unwrap();
        let credible = all <= known.mul_f64(1.25) + TICK * watched;
        if !credible {
            eprintln!(
                "{all:.1?} without a processor, of which the host took {known:.1?}: not left out"
            );
        }
        Seen {
            pauses: if credible { pauses } else { Vec::new() },
            stolen: known.div_duration_f64(mark.at.elapsed() * processors()),
        }
    }
}

/// All that the system has, whether this process may use them or not.
fn processors() -> u32 {
    let stat = std::fs::read_to_string("/proc/stat").unwrap();
    let each = stat.lines().filter(|line| line.starts_with("cpu"));
    // The first line is of all together.
    u32::try_from(each.count() - 1).unwrap()
}

/// What the host has taken of all processors so far.
fn stolen() -> Duration {
    let stat = std::fs::read_to_string("/proc/stat").unwrap();
    let all = stat.lines().next().unwrap();
    let ticks = all.split_ascii_whitespace().nth(8).unwrap();
    TICK * ticks.parse::<u32>().unwrap()
}
