//! How a key is declared. Everything else follows from the declaration: the typed struct, the
//! check, the "did you mean" and the files under etc/.

use super::kind::Kind;

/// A key as declared.
#[derive(Debug, Clone, Copy)]
pub struct Key {
    /// What the operator writes.
    pub name: &'static str,
    /// The default as TOML text.
    pub default: &'static str,
    /// What values it takes.
    pub kind: Kind,
    /// What it does and why one would change it; lines of at most 96 characters.
    pub doc: &'static str,
    /// Whether a reload takes it. Others wait for the next start.
    pub live: bool,
}

/// What the environment variables of keys begin with.
pub const ENV_PREFIX: &str = "FANFARE_";

/// A key without its name, which is its field's.
#[derive(Debug, Clone, Copy)]
pub(super) struct Spec {
    default: &'static str,
    kind: Kind,
    doc: &'static str,
    live: bool,
}

pub(super) const fn key(default: &'static str, kind: Kind, doc: &'static str) -> Spec {
    Spec {
        default,
        kind,
        doc,
        live: false,
    }
}

impl Spec {
    /// The same, which a reload takes.
    pub(super) const fn live(self) -> Spec {
        Spec { live: true, ..self }
    }

    pub(super) const fn named(self, name: &'static str) -> Key {
        Key {
            name,
            default: self.default,
            kind: self.kind,
            doc: self.doc,
            live: self.live,
        }
    }
}

impl Key {
    /// What values it takes, and when they take effect where that is not at the next start: a sentence each.
    pub(super) fn value(&self) -> Vec<String> {
        let value = format!("Value: {}.", self.kind.wants());
        let when = self.live.then(|| "A reload takes it.".to_owned());
        [value].into_iter().chain(when).collect()
    }
}

/// Declares a configuration: `field: Type = spec` each, the field's name being the key's, then
/// after `with` the fields that are worked out from those, each with its value until then.
macro_rules! settings {
    (
        $(#[$doc:meta])*
        pub struct $config:ident, $(#[$keys_doc:meta])* $keys:ident {
            $($field:ident: $type:ty = $spec:expr,)*
        } with {
            $($(#[$more_doc:meta])* $more:ident: $more_type:ty = $initial:expr,)*
        }
    ) => {
        $(#[$doc])*
        #[derive(Debug, Clone)]
        pub struct $config {
            $(
                #[doc = concat!("`", stringify!($field), "`; see [`", stringify!($keys), "`].")]
                pub $field: $type,
            )*
            $($(#[$more_doc])* pub $more: $more_type,)*
        }

        $(#[$keys_doc])*
        pub static $keys: &[$crate::config::Key] = &[$($spec.named(stringify!($field))),*];

        impl $config {
            /// The keys whose values differ from those of `other`: those that a reload takes, and those that
            /// wait for the next start.
            pub fn differs(&self, other: &Self) -> (Vec<&'static str>, Vec<&'static str>) {
                let (mut live, mut later) = (Vec::new(), Vec::new());
                $(if self.$field != other.$field {
                    const KEY: $crate::config::Key = $spec.named(stringify!($field));
                    let names = if KEY.live { &mut live } else { &mut later };
                    names.push(KEY.name);
                })*
                (live, later)
            }

            /// Takes over the values of these keys; what is worked out from them stays as it is.
            pub fn take_over(&mut self, keys: &[&str], other: &Self) {
                $(if keys.contains(&stringify!($field)) {
                    self.$field.clone_from(&other.$field);
                })*
            }

            /// Each key by itself; the default stands in for what is at fault.
            fn read(
                layers: &$crate::config::layers::Layers,
                known: &$crate::config::Known<'_>,
                faults: &mut $crate::config::Faults,
            ) -> Self {
                $config {
                    $($field: {
                        const KEY: $crate::config::Key = $spec.named(stringify!($field));
                        layers.setting(&KEY, known, faults)
                    },)*
                    $($more: $initial,)*
                }
            }
        }
    };
}

pub(super) use settings;
