//! Texts that other programs read: unit files, launch blobs, the Caddyfile. Pure.

pub mod caddyfile;
pub mod joined;
pub mod launch;
pub mod unit;
