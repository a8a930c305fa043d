//! What holds for every spec, request and value, not for examples: found by generating them.

mod commands;
mod quantities;
mod rendering;
mod signing;
mod specs;
mod webhooks;
