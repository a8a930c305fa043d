//! The HTTP API.

pub mod keys;
