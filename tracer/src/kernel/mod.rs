//! Everything that talks to the kernel's eBPF; the only module that knows aya.
//!
//! `btf` and `layout` find the offsets, `preflight` says what is missing before anything is tried,
//! `loader` loads and attaches, `ring` reads events, `alarm` wakes who reads them, `poller` walks the iterators, asks for single
//! sockets (`questions`) and reads what `facts`
//! says of processes and namespaces, and `interfaces` of interfaces; `stacks` does all that for the programs that
//! take stacks. `destroy` ends sockets, which `sock_diag` asks for; `jiffies` reads the kernel's; `conntrack` asks where connections really go;
//! `netlink` is what both speak. `memory` and `copy` make up for C libraries: memory that is not given back, copying that is slow.

pub mod alarm;
pub mod btf;
pub mod cgroups;
pub mod conntrack;
mod constants;
#[cfg(target_arch = "x86_64")]
pub mod copy;
mod descriptors;
pub mod destroy;
mod drops;
mod facts;
mod hooks;
mod interfaces;
pub mod jiffies;
pub mod layout;
pub mod loader;
pub mod memory;
mod netlink;
pub mod netns;
mod netns_socket;
mod places;
pub mod poller;
pub mod preflight;
mod questions;
mod refusal;
mod resolved;
pub mod ring;
mod sock_diag;
pub mod stacks;
