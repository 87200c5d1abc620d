//! Everything that talks to the kernel's eBPF; the only module that knows aya.
//!
//! `btf` and `layout` find the offsets, `preflight` says what is missing before anything is tried,
//! `loader` loads and attaches, `ring` reads events, `poller` walks the iterators and reads what `facts`
//! says of processes and namespaces, `stacks` does all that for the programs that take stacks.

pub mod btf;
pub mod cgroups;
mod descriptors;
mod facts;
pub mod layout;
pub mod loader;
pub mod netns;
mod netns_socket;
pub mod poller;
pub mod preflight;
pub mod ring;
pub mod stacks;
