//! The variables that apps get: plain values, sealed ones, secrets by name.

use std::fmt;

use serde::de::{self, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Value, json};
use zeroize::Zeroizing;

use crate::model::names::{EnvName, RESERVED_NAMES, RESERVED_PREFIXES, SecretName};

/// An env value in clear. It cannot be shown or written, only opened.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Plain(Zeroizing<String>);

impl Plain {
    /// Longest value: the kernel refuses to start a program with a longer one (128 KiB with its name).
    pub const LONGEST: usize = 120 * 1024;

    /// Checks and keeps a value.
    ///
    /// # Errors
    /// A value with a NUL byte or longer than `LONGEST` cannot reach a process.
    pub fn parse(raw: String) -> Result<Self, String> {
        let value = Zeroizing::new(raw);
        match value.len() {
            _ if value.contains('\0') => Err("the value holds a NUL byte, which no variable can".into()),
            n if n > Self::LONGEST => {
                Err(format!("the value has {n} bytes; {} is the most a variable can have", Self::LONGEST))
            }
            _ => Ok(Self(value)),
        }
    }

    /// Returns the value.
    pub fn open(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for Plain {
    type Error = String;
    fn try_from(raw: String) -> Result<Self, String> {
        Self::parse(raw)
    }
}

/// An env value in the store, by its version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sealed {
    /// The version: 1, 2, 3 … per project and name.
    pub sealed: u32,
}

/// An env value as a document has it: written out, or as the agent shows the stored one.
#[derive(Clone, PartialEq, Eq)]
pub enum Given {
    /// Written out.
    Clear(Plain),
    /// The stored one, unchanged.
    AsItIs(Sealed),
}

impl Given {
    /// Returns the value, if it is written out.
    pub fn clear(&self) -> Option<&str> {
        match self {
            Given::Clear(value) => Some(value.open()),
            Given::AsItIs(_) => None,
        }
    }
}

/// Shows the version of a stored value, and nothing of a plain one.
impl fmt::Debug for Given {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Given::Clear(_) => f.write_str("Clear(…)"),
            Given::AsItIs(sealed) => f.debug_tuple("AsItIs").field(sealed).finish(),
        }
    }
}

impl<'de> Deserialize<'de> for Given {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Value;
        impl<'de> Visitor<'de> for Value {
            type Value = Given;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string")
            }
            fn visit_str<E: de::Error>(self, raw: &str) -> Result<Given, E> {
                Plain::parse(raw.to_owned()).map(Given::Clear).map_err(E::custom)
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Given, A::Error> {
                let is_sealed = map.next_key::<String>()?.is_some_and(|key| key == "sealed");
                let version = if is_sealed { Some(map.next_value::<u32>()?) } else { None };
                match version {
                    Some(0) => Err(de::Error::custom("versions begin at 1")),
                    Some(sealed) if map.next_key::<String>()?.is_none() => Ok(Given::AsItIs(Sealed { sealed })),
                    _ => Err(de::Error::custom(
                        "a variable is a text; a secret is named under secrets: [NAME], and `zexio secret set` stores \
                         its value",
                    )),
                }
            }
        }
        deserializer.deserialize_any(Value)
    }
}

/// A stored secret and the variable it becomes: `NAME`, or `VARIABLE:NAME`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SecretUse {
    /// The variable.
    pub variable: EnvName,
    /// The stored secret.
    pub name: SecretName,
}

impl TryFrom<String> for SecretUse {
    type Error = String;
    fn try_from(raw: String) -> Result<Self, String> {
        let (variable, name) = raw.split_once(':').unwrap_or((&raw, &raw));
        // What is not a name may be the value, and is not shown.
        let name = SecretName::parse(name).map_err(|e| e.to_string())?;
        SecretName::parse(variable).map_err(|e| e.to_string())?;
        let variable = EnvName::parse(variable).map_err(|e| e.to_string())?;
        Ok(Self { variable, name })
    }
}

impl From<SecretUse> for String {
    fn from(used: SecretUse) -> String {
        if used.variable.as_str() == used.name.as_str() {
            used.name.into()
        } else {
            format!("{}:{}", used.variable, used.name)
        }
    }
}

/// Returns the names that a spec's variables may not have, because the system or the agent sets them.
pub(super) fn reserved_variables() -> Value {
    let prefixes: Vec<String> = RESERVED_PREFIXES.iter().map(|prefix| format!("^{prefix}")).collect();
    json!({ "not": { "anyOf": [{ "enum": RESERVED_NAMES }, { "pattern": prefixes.join("|") }] } })
}
