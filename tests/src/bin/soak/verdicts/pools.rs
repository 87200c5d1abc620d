//! Pools that warm up, work, idle past their servers' timeouts, and work again.

use std::thread::sleep;
use std::time::Duration;

use anyhow::Result;
use tests::java::Program;
use tests::netns::Netns;
use tests::servers::{Postgres, nginx, redis};

const HTTP: u16 = 8401;
const PG: u16 = 5499;
const REDIS: u16 = 6390;

/// Four pools of so many connections.
const THREADS: &str = "12";
/// Longer together than the default threshold of CLOSE_WAIT and the servers' timeouts, so that what the
/// servers have closed is looked at.
const WORK_MS: &str = "35000";
const IDLE_MS: &str = "95000";

pub(crate) fn ready() -> bool {
    tests::java::ready(&["nginx", "redis-server", "setpriv"]) && Postgres::ready()
}

pub(crate) fn run(netns: &Netns, time: Duration) -> Result<Vec<String>> {
    let _nginx = nginx(netns, HTTP, "5s")?;
    let _redis = redis(netns, REDIS, &["--timeout", "15"])?;
    let _database = Postgres::start_with(netns, PG, &["idle_session_timeout=20s"])?;
    let ports = [HTTP, PG, REDIS].map(|port| port.to_string());
    let args = [&ports[0], &ports[1], &ports[2], THREADS, WORK_MS, IDLE_MS];
    let mut pools = Program::java(netns, &[], "IdlePools", &args)?;
    pools.wait_for("ready")?;
    sleep(time);
    let mut did = pools.said.clone();
    did.extend(pools.said_since());
    did.retain(|line| line != "ready");
    Ok(did)
}
