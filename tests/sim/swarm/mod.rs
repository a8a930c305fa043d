//! Many lives, each of its own seed, in which much goes wrong.

pub mod broken;
pub mod drift;
pub mod life;
pub mod operator;
pub mod options;
pub mod oracle;
pub mod report;
pub mod shape;
