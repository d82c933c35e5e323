//! The programs: parse → wire → wait → stop in order.

pub mod agent;
pub mod ctl;
mod daemon;
#[cfg(test)]
mod documents;
mod keys;
mod logging;
#[cfg(test)]
mod manual;
mod publish;
pub mod publisher;

/// Exit status when the configuration must be mended.
const CONFIG_FAULT: u8 = 2;
