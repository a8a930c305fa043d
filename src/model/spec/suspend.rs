//! Whether the agent only watches, for how long and why.

use std::fmt;

use schemars::JsonSchema;
use serde::de::{self, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::model::quantity::Timestamp;

/// Whether the agent only watches: `true`, `false`, or why and until when.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Suspend {
    /// The agent converges.
    #[default]
    No,
    /// The agent only observes.
    Yes(Suspension),
}

/// Why a project is suspended, and until when.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Suspension {
    /// Why, for whoever asks.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// When it ends by itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
}

impl Suspend {
    /// Returns the suspension in force at this time.
    pub fn at(&self, now: Timestamp) -> Option<&Suspension> {
        match self {
            Suspend::Yes(suspension) if suspension.until.is_none_or(|until| now < until) => Some(suspension),
            _ => None,
        }
    }
}

impl Serialize for Suspend {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Suspend::No => serializer.serialize_bool(false),
            Suspend::Yes(suspension) => suspension.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for Suspend {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;
        impl<'de> Visitor<'de> for Either {
            type Value = Suspend;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("true, false, or {reason, until}")
            }
            fn visit_bool<E: de::Error>(self, on: bool) -> Result<Suspend, E> {
                Ok(if on { Suspend::Yes(Suspension::default()) } else { Suspend::No })
            }
            fn visit_map<A: de::MapAccess<'de>>(self, map: A) -> Result<Suspend, A::Error> {
                Suspension::deserialize(de::value::MapAccessDeserializer::new(map)).map(Suspend::Yes)
            }
        }
        deserializer.deserialize_any(Either)
    }
}
