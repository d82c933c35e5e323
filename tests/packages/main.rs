//! The packages as an operator meets them: installed into a machine with systemd, which is a
//! container of this host's own root, its changes kept aside.
//!
//! `make test-packages` makes the packages and runs this as root; without it the tests say that they
//! are skipped. What is missing then is a failure.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod container;
mod documents;
mod install;
mod life;
mod lint;
mod packages;
mod rpm;
mod sandbox;
mod together;
mod upgrade;
