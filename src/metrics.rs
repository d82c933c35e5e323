//! Counters and gauges, each named and explained once.
//!
//! A group of metrics is a struct made by `metrics!`; its `each` walks name, kind, help and value,
//! so that status, exporter, documentation and tests need no list of their own. Names follow the
//! Prometheus conventions without the `fanfare_` prefix.

use std::sync::atomic::{AtomicU64, Ordering};

/// A number that others read while one or more threads change it. `Relaxed`: it orders nothing.
#[derive(Debug, Default)]
pub struct Metric(AtomicU64);

impl Metric {
    /// Counts one.
    pub fn inc(&self) {
        self.add(1);
    }

    /// Counts `n`.
    pub fn add(&self, n: u64) {
        self.0.fetch_add(n, Ordering::Relaxed);
    }

    /// Sets a gauge.
    pub fn set(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }

    /// The value now.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// How a metric behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Only rises.
    Counter,
    /// Rises and falls.
    Gauge,
}

impl Kind {
    /// The word that Prometheus has for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
        }
    }
}

/// One metric as it is declared: what documentation and tests walk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Declared {
    /// Name by Prometheus conventions, without prefix.
    pub name: &'static str,
    /// Counter or gauge.
    pub kind: Kind,
    /// One sentence for operators.
    pub help: &'static str,
}

/// One metric as `each` shows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sample {
    /// Name by Prometheus conventions, without the `fanfare_` prefix.
    pub name: &'static str,
    /// Counter or gauge.
    pub kind: Kind,
    /// One sentence for operators.
    pub help: &'static str,
    /// The value now.
    pub value: u64,
}

/// A group of metrics whose kind its reader need not know.
pub trait Counts: std::fmt::Debug + Send + Sync {
    /// Every metric of the group with its value now.
    fn samples(&self) -> Vec<Sample>;
}

/// Declares a group of metrics: `field: Kind = "help"` each; the field's name is the metric's.
#[macro_export]
macro_rules! metrics {
    ($(#[$doc:meta])* pub struct $group:ident { $($field:ident: $kind:ident = $help:literal,)* }) => {
        $(#[$doc])*
        #[derive(Debug, Default)]
        pub struct $group {
            $(#[doc = $help] pub $field: $crate::metrics::Metric,)*
        }

        impl $group {
            /// Every metric of the group as declared, in the order of `each`.
            pub const DECLARED: &'static [$crate::metrics::Declared] = &[
                $($crate::metrics::Declared {
                    name: stringify!($field),
                    kind: $crate::metrics::Kind::$kind,
                    help: $help,
                },)*
            ];

            /// Every metric of the group with its value now.
            pub fn each(&self) -> Vec<$crate::metrics::Sample> {
                vec![$($crate::metrics::Sample {
                    name: stringify!($field),
                    kind: $crate::metrics::Kind::$kind,
                    help: $help,
                    value: self.$field.get(),
                },)*]
            }
        }

        impl $crate::metrics::Counts for $group {
            fn samples(&self) -> Vec<$crate::metrics::Sample> {
                self.each()
            }
        }
    };
}
