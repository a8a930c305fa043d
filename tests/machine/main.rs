//! The contract on the real thing: each test boots a throwaway machine with systemd and Caddy of its own.
//!
//! These tests never skip. Where no machine can be booted (not root, no systemd-nspawn) they fail and say why.

mod boots;
mod deploys;
mod machine;
mod rollouts;
mod routes;
mod survives;
