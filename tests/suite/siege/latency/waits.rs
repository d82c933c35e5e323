//! How long events took.

use std::fmt;
use std::time::Duration;

/// Events of which a p99 says something: 20 took longer. What is left out is left out of both lines.
const ENOUGH: usize = 2_000;

/// How long the events of a round took, sorted: all of them, and those that had all processors meanwhile.
#[derive(Clone)]
pub struct Waits {
    all: Vec<Duration>,
    kept: Vec<Duration>,
}

impl Waits {
    pub fn of(mut all: Vec<Duration>, mut kept: Vec<Duration>) -> Waits {
        all.sort_unstable();
        kept.sort_unstable();
        Waits { all, kept }
    }

    pub fn with(&self, other: &Waits) -> Waits {
        let both = |one: &[Duration], other: &[Duration]| [one, other].concat();
        Waits::of(both(&self.all, &other.all), both(&self.kept, &other.kept))
    }

    pub fn p99(&self) -> Duration {
        place(&self.kept, 99)
    }

    /// Of all: none is left out of this, which is what the host does as much as what anybody else does.
    pub fn p99_of_all(&self) -> Duration {
        place(&self.all, 99)
    }

    /// Of all, too.
    pub fn longest(&self) -> Duration {
        place(&self.all, 100)
    }

    /// Whether a p99 of those that are left says anything.
    pub fn is_enough(&self) -> bool {
        self.kept.len() >= ENOUGH
    }
}

fn place(sorted: &[Duration], percent: usize) -> Duration {
    let last = sorted.len().saturating_sub(1);
    let place = (sorted.len() * percent / 100).min(last);
    sorted.get(place).copied().unwrap_or_default()
}

impl fmt::Display for Waits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (p50, p99, longest) = (place(&self.kept, 50), self.p99(), self.longest());
        let lost = (self.all.len() - self.kept.len()) as f64 / self.all.len() as f64;
        let all = place(&self.all, 99);
        write!(
            f,
            "p50 {p50:.1?}, p99 {p99:.1?} (with the {:.1} % left out {all:.1?}), ",
            100.0 * lost
        )?;
        write!(f, "longest {longest:.1?}")
    }
}
