//! tcptrail: the life of every TCP connection, as the kernel lives it.
pub mod kernel;
