//! The contract on the real thing: each test boots a throwaway machine with systemd and Caddy of its own.
//!
//! These tests never skip. Where no machine can be booted (not root, no systemd-nspawn) they fail and say why.

mod api;
mod archives;
mod artifacts;
mod beside;
mod boots;
mod calendar;
mod certificates;
mod claims;
mod cli;
mod demo;
mod deploys;
mod docs;
mod examples;
mod faults;
mod hooks;
mod hostile;
mod isolation;
mod logs;
mod looks;
mod machine;
mod openapi;
mod probes;
mod properties;
mod readme;
mod reasons;
mod refusals;
mod rollouts;
mod routes;
mod services;
mod sites;
mod stats;
mod stops;
mod streams;
mod survives;
mod suspended;
