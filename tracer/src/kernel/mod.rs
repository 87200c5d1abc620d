//! Everything that talks to the kernel's eBPF.
pub mod btf;
pub mod layout;
