//! Rules that the simulation (tests/simulation) cannot see well: what is *not* asked, how long is
//! waited, and publishers without a sync service or without hellos.

mod asking;
mod listing;
mod lives;
mod patience;
mod rig;
mod without;
