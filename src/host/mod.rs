//! The adapters: each does one thing to this server or to the network.
