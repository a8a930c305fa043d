//! Enums whose variants have a fixed name on the wire: the names, the list of all and both conversions from one table.

/// Defines an enum from a table of variants and names.
macro_rules! named {
    ($(#[$about:meta])* pub enum $type:ident { $($(#[$each:meta])* $variant:ident = $name:literal,)+ }) => {
        $(#[$about])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
        pub enum $type {
            $($(#[$each])* #[serde(rename = $name)] $variant,)+
        }

        impl $type {
            /// All variants, in the order of the API's description.
            pub const ALL: &[Self] = &[$(Self::$variant),+];

            /// Returns its name in the API.
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)+
                }
            }
        }

        impl std::fmt::Display for $type {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.pad(self.name())
            }
        }
    };
}

pub(crate) use named;
