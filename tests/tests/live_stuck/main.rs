//! What is stuck, made for real, with the verdict it must have; and beside each its twin, the same load
//! done right, which must stay silent.

mod accept;
mod begin;
mod close_wait;
mod closed;
mod database;
mod deferred;
mod exhaustion;
mod gate;
mod gone;
mod healthy;
mod idle_reset;
mod keep_alive;
mod leak;
mod libraries;
mod ports;
mod shared;
mod stage;
mod time_wait;
