//! Everything that talks to the kernel's eBPF.
pub mod btf;
