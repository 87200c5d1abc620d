//! What is stuck, made for real, with the verdict it must have; and beside each its twin, the same load
//! done right, which must stay silent.

mod close_wait;
mod stage;
