//! Names of configured things. They are the only strings that become metric labels.

use std::fmt;
use std::sync::Arc;

macro_rules! names {
    ($($(#[$doc:meta])* $name:ident),+ $(,)?) => {$(
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(Arc<str>);

        impl $name {
            /// Names a configured thing.
            pub fn new(name: &str) -> Self {
                Self(Arc::from(name))
            }

            /// The name as configured.
            pub fn as_str(&self) -> &str {
                &self.0
            }

            /// The shared text, for places that keep many copies.
            pub fn shared(&self) -> Arc<str> {
                Arc::clone(&self.0)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    )+};
}

names! {
    /// `id` of a `[[route]]`.
    RouteName,
    /// Key of an `[upstream.NAME]` table.
    UpstreamName,
    /// Key of an `[auth.NAME]` table.
    AuthName,
    /// Key of a `[limit.NAME]` table.
    LimitName,
    /// `name` of a `[[listener]]`.
    ListenerName,
}
