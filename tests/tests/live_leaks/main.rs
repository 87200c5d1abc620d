//! `leaks`: who opened what is never closed, against what the programs that opened it really are.

mod collected;
mod every;
mod incident;
mod inlined;
mod jvm;
mod native;
mod page;
mod server;
mod stage;
mod users;
