//! The daemons as their operators see them: control socket, HTTP, service manager, SIGHUP.

mod agent;
mod http;
mod manager;
mod reload;
mod service;
