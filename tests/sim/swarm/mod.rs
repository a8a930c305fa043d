//! Many lives, each of its own seed, in which much goes wrong.

pub mod broken;
mod directory;
mod drift;
pub mod life;
mod listener;
pub mod operator;
pub mod options;
pub mod oracle;
pub mod report;
pub mod services;
pub mod shape;
mod trials;
