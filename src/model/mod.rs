//! The data types: what users ask for, what the machine shows, what must be recorded. Pure data; no I/O.

pub mod calendar;
pub mod desired;
pub mod document;
pub mod event;
pub mod expected;
pub mod failure;
mod host;
mod host_document;
pub mod layout;
mod named;
pub mod names;
pub mod observed;
pub mod pattern;
pub mod problem;
pub mod progress;
pub mod quantity;
pub mod reason;
pub mod record;
pub mod schema;
pub mod services;
pub mod spec;
pub mod spec_rules;
pub mod stats;
pub mod status;
