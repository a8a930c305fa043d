//! Claims about the loop, on a machine of plain maps: no time passes, nothing runs, everything can go wrong.

mod crashes;
mod kinds;
mod metrics;
mod rollouts;
mod services;
mod suspended;
mod world;
