//! What apps get as variables: values in clear, sealed ones, secrets by name.

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::model::names::{EnvName, SecretName};

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
        let variable = EnvName::parse(variable).map_err(|e| e.to_string())?;
        let name = SecretName::parse(name).map_err(|e| e.to_string())?;
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
