//! Metrics for Prometheus, and health for whoever probes, over HTTP.
//!
//! | path | answer |
//! |---|---|
//! | `/metrics` | every metric of docs/metrics.md, in Prometheus' text form |
//! | `/healthz` | 200 while the main loop answers, else 503 |
//! | `/readyz` | 200 when the daemon is ready, else 503 with a reason a line |
//!
//! Anything else is 404, any method but GET and HEAD 405. A connection carries one request.

mod families;
mod http;
mod server;
mod text;

pub use families::{AGENT, Family, Group, PUBLISHER, agent, service};
pub use server::{Exhibit, Exporter, ExporterMetrics, Ill};
pub use text::{markdown, render};
