//! tcptrail
fn main() {}
