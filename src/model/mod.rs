//! The nouns: what users ask for, what the machine shows, what must be remembered. Pure data; no input or output.

pub mod names;
