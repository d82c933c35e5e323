//! How far this publisher has come: nobody can have heard more of it.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Incarnation and last seq. The service's thread sets it before it sends; the sync service holds
/// against it what agents say that they have. One who has more has heard it from this publisher when
/// it was further, or from another one with its id, or lies: that is told, and not acted on.
#[derive(Debug, Default)]
pub struct Reach(Mutex<(u64, u64)>);

impl Reach {
    /// It has come so far.
    pub fn set(&self, incarnation: u64, seq: u64) {
        *self.lock() = (incarnation, seq);
    }

    /// The last seq, where `seq` of `incarnation` is beyond it. Of other incarnations nothing is known.
    pub fn falls_short(&self, incarnation: u64, seq: u64) -> Option<u64> {
        let (own, last) = *self.lock();
        (own == incarnation && last < seq).then_some(last)
    }

    fn lock(&self) -> MutexGuard<'_, (u64, u64)> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_beyond_in_the_same_incarnation_is() {
        let reach = Reach::default();
        assert_eq!(reach.falls_short(5, 1), None);
        reach.set(5, 10);
        assert_eq!(reach.falls_short(5, 10), None);
        assert_eq!(reach.falls_short(5, 11), Some(10));
        assert_eq!(reach.falls_short(4, 11), None);
        assert_eq!(reach.falls_short(6, 11), None);
    }
}
