//! Small things every layer uses.

pub mod atomic_file;
pub mod backoff;
pub mod bucket;
pub mod descriptors;
pub mod group;
pub mod lock_file;
pub mod poll;
pub mod printable;
pub mod pulse;
pub mod rate;
pub mod reader;
pub mod serve;
pub mod shutdown;
pub mod stop;
pub mod systemd;
#[cfg(test)]
pub mod testing;
pub mod thread;
pub mod users;
pub mod waker;
