//! Where a replay that somebody looks at is, and how fast it goes. Pure: time that passes is an argument.

use crate::time::MonoNs;

/// How fast, in hundredths of the time it took.
const SPEEDS: [u32; 12] = [10, 25, 50, 100, 200, 500, 1_000, 3_000, 6_000, 30_000, 60_000, 360_000];
const AS_IT_WAS: u32 = 100;

/// What somebody wants of a replay.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Play {
    /// Stand still, or go on.
    Pause,
    /// So many nanoseconds on, or back.
    Seek(i64),
    /// The next speed.
    Faster,
    /// The speed before.
    Slower,
    /// To the beginning.
    Begin,
    /// To the end.
    End,
}

/// Where it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Playback {
    /// The recording's beginning.
    pub start: MonoNs,
    /// Its end.
    pub end: MonoNs,
    /// What has been up to here is shown.
    pub at: MonoNs,
    /// It stands still.
    pub paused: bool,
    /// It is on its way to a place that was asked for.
    pub seeking: bool,
    speed: u32,
}

impl Playback {
    /// At the beginning, as fast as it was, or a given number of times as fast.
    #[must_use]
    pub fn new(start: MonoNs, end: MonoNs, speed: f64) -> Playback {
        let hundredths = (speed * 100.0).clamp(1.0, 1e9);
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped")]
        let speed = hundredths as u32;
        Playback { start, end: end.max(start), at: start, paused: false, seeking: false, speed }
    }

    /// So much time has passed for who looks.
    pub fn advance(&mut self, passed_ns: u64) {
        if self.paused || self.at >= self.end {
            return;
        }
        let ns = u128::from(passed_ns) * u128::from(self.speed) / u128::from(AS_IT_WAS);
        self.at = self.at.after(u64::try_from(ns).unwrap_or(u64::MAX)).min(self.end);
    }

    /// Does what is wanted.
    pub fn play(&mut self, play: Play) {
        match play {
            // At the end there is nothing to go on to: it begins again.
            Play::Pause if self.at >= self.end && !self.paused => self.at = self.start,
            Play::Pause => self.paused = !self.paused,
            Play::Seek(ns) if ns < 0 => {
                self.at = self.at.before(ns.unsigned_abs()).max(self.start);
            }
            Play::Seek(ns) => self.at = self.at.after(ns.unsigned_abs()).min(self.end),
            Play::Faster => self.speed = self.next_speed(true),
            Play::Slower => self.speed = self.next_speed(false),
            Play::Begin => self.at = self.start,
            Play::End => self.at = self.end,
        }
    }

    fn next_speed(&self, faster: bool) -> u32 {
        let found = if faster {
            SPEEDS.iter().find(|speed| **speed > self.speed)
        } else {
            SPEEDS.iter().rev().find(|speed| **speed < self.speed)
        };
        found.copied().unwrap_or(self.speed)
    }

    /// Whether everything was shown.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.at >= self.end
    }

    /// `1x`, `0.25x`, `60x`.
    #[must_use]
    pub fn speed(&self) -> String {
        let (whole, rest) = (self.speed / AS_IT_WAS, self.speed % AS_IT_WAS);
        if rest == 0 {
            return format!("{whole}x");
        }
        let text = format!("{whole}.{rest:02}");
        format!("{}x", text.trim_end_matches('0'))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: u64 = 1_000_000_000;

    #[test]
    fn time_goes_as_fast_as_is_wanted() {
        let mut playback = Playback::new(MonoNs(10 * S), MonoNs(100 * S), 1.0);
        let mut check = |play: Option<Play>, passed, at, speed: &str| {
            if let Some(play) = play {
                playback.play(play);
            }
            playback.advance(passed);
            assert_eq!((playback.at, playback.speed().as_str()), (MonoNs(at), speed), "{play:?}");
        };
        check(None, S, 11 * S, "1x");
        check(Some(Play::Faster), S, 13 * S, "2x");
        check(Some(Play::Pause), S, 13 * S, "2x");
        check(Some(Play::Seek(5 * S.cast_signed())), S, 18 * S, "2x");
        check(Some(Play::Seek(-20 * S.cast_signed())), S, 10 * S, "2x");
        check(Some(Play::Pause), S, 12 * S, "2x");
        check(Some(Play::Slower), S, 13 * S, "1x");
        check(Some(Play::Slower), 2 * S, 14 * S, "0.5x");
        check(Some(Play::End), S, 100 * S, "0.5x");
        // From the end on it begins again.
        check(Some(Play::Pause), 2 * S, 11 * S, "0.5x");
    }

    #[test]
    fn speeds_end_somewhere() {
        let mut playback = Playback::new(MonoNs(0), MonoNs(S), 1.0);
        for _ in 0..100 {
            playback.play(Play::Faster);
        }
        assert_eq!(playback.speed(), "3600x");
        for _ in 0..100 {
            playback.play(Play::Slower);
        }
        assert_eq!(playback.speed(), "0.1x");
        assert_eq!(Playback::new(MonoNs(5), MonoNs(0), 0.25).speed(), "0.25x");
    }
}
