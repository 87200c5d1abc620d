//! Why a segment was sent again.

use tracer_common::wire::again;

/// What made the kernel send a segment again.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Cause {
    /// No ACK came within the retransmission timeout.
    Timeout,
    /// Later segments were acknowledged and this one was not.
    Fast,
    /// No ACK came for the last segment, which is sent again as a probe, before the timeout.
    Probe,
    /// A timeout before it: what was on its way then counts as lost and is sent again bit by bit.
    SlowStart,
}

impl Cause {
    /// As in the JSON contract.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Cause::Timeout => "timeout",
            Cause::Fast => "fast",
            Cause::Probe => "tail_loss_probe",
            Cause::SlowStart => "slow_start",
        }
    }

    /// In a line.
    #[must_use]
    pub const fn short_name(self) -> &'static str {
        match self {
            Cause::Timeout => "RTO",
            Cause::Fast => "fast",
            Cause::Probe => "TLP",
            Cause::SlowStart => "slow start",
        }
    }

    /// As the wire has it; `None` of what the kernel did not tell, and of anything else.
    #[must_use]
    pub const fn of_wire(number: u8) -> Option<Cause> {
        match number {
            again::TIMEOUT => Some(Cause::Timeout),
            again::FAST => Some(Cause::Fast),
            again::PROBE => Some(Cause::Probe),
            again::SLOW_START => Some(Cause::SlowStart),
            _ => None,
        }
    }
}

/// How a segment was sent again.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Again {
    /// Why; `None` where it is not known, as of SYN-ACKs.
    pub cause: Option<Cause>,
    /// So many segments of the path's size at once; 0 where it is not known.
    pub segments: u16,
    /// The timeout that ran out, in jiffies; 0 where none did, or it is not known.
    pub rto: u32,
    /// Why it was not sent after all, a positive errno; 0 when it was.
    pub error: u16,
}

impl Again {
    /// The timeout that ran out, nanoseconds.
    #[must_use]
    pub fn rto_ns(self, jiffy_ns: u64) -> Option<u64> {
        (self.rto != 0).then(|| u64::from(self.rto).saturating_mul(jiffy_ns))
    }
}
