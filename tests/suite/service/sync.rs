//! The sync service, asked over a bare DEALER.

mod crowd;
mod journal;
mod odd;
mod rows;
