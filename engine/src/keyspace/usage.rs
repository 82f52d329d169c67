//! The 24 bits in which an entry remembers its use: a time of last access, or a frequency.
//!
//! Under an LRU policy they are seconds since 1970, modulo 2^24 (194 days). Under an LFU policy they
//! are Redis's: 16 bits of minutes, when the counter was last brought down, and 8 bits of a counter
//! that grows with the logarithm of the number of accesses (Morris's approximate counting) and loses
//! one with every period of disuse.
#![forbid(unsafe_code)]

use crate::sys::{clock::Clock, random::Random};

/// What a new key's counter starts with, so that it is not evicted before it had a chance.
const FREQUENCY_OF_NEW: u8 = 5;
const STAMP_MASK: u32 = 0x00FF_FFFF;
const MINUTES_MASK: u32 = 0xFFFF;

/// How use is remembered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Policy {
    /// By the time of the last access.
    Recency,
    /// By frequency.
    Frequency {
        /// `lfu-log-factor`: the greater, the more accesses a step of the counter stands for.
        log_factor: u32,
        /// `lfu-decay-time`: minutes without use that cost one step; 0 for never.
        decay_minutes: u32,
    },
}

impl Policy {
    /// The bits of a key made now.
    #[inline]
    pub fn fresh(self, clock: Clock) -> u32 {
        match self {
            Self::Recency => seconds(clock),
            Self::Frequency { .. } => minutes(clock) << 8 | u32::from(FREQUENCY_OF_NEW),
        }
    }

    /// The bits of a key that had `bits` and is used now.
    #[inline]
    pub fn used(self, bits: u32, clock: Clock, random: &mut Random) -> u32 {
        match self {
            Self::Recency => seconds(clock),
            Self::Frequency { log_factor, .. } => {
                let counter = grown(self.frequency(bits, clock), log_factor, random);
                minutes(clock) << 8 | u32::from(counter)
            }
        }
    }

    /// The bits of a key that was last used `idle_s` seconds ago; nothing under an LFU policy, which
    /// has no use for that.
    pub fn idle_for(self, idle_s: u64, clock: Clock) -> Option<u32> {
        // What was unused for longer than the stamp can tell counts as unused for that long.
        let idle_s = idle_s.min(u64::from(STAMP_MASK)) as u32;
        let bits = seconds(clock).wrapping_sub(idle_s) & STAMP_MASK;
        (self == Self::Recency).then_some(bits)
    }

    /// The bits of a key whose counter is `frequency` now; nothing under an LRU policy.
    pub fn with_frequency(self, frequency: u8, clock: Clock) -> Option<u32> {
        (self != Self::Recency).then(|| minutes(clock) << 8 | u32::from(frequency))
    }

    /// The counter of a key with `bits`, less what its disuse until now has cost.
    pub fn frequency(self, bits: u32, clock: Clock) -> u8 {
        let decay_minutes = match self {
            Self::Frequency { decay_minutes, .. } => decay_minutes,
            Self::Recency => 0,
        };
        let unused = minutes(clock).wrapping_sub(bits >> 8) & MINUTES_MASK;
        let lost = unused.checked_div(decay_minutes).unwrap_or(0);
        (bits as u8).saturating_sub(u8::try_from(lost).unwrap_or(u8::MAX))
    }
}

/// Seconds since a key with `bits` was last used, under [`Policy::Recency`].
pub fn idle_seconds(bits: u32, clock: Clock) -> u32 {
    seconds(clock).wrapping_sub(bits) & STAMP_MASK
}

fn grown(counter: u8, log_factor: u32, random: &mut Random) -> u8 {
    let above = u64::from(counter.saturating_sub(FREQUENCY_OF_NEW));
    let chance = above * u64::from(log_factor) + 1;
    counter.saturating_add(u8::from(random.below(chance) == 0))
}

fn seconds(clock: Clock) -> u32 {
    clock.now_s() as u32 & STAMP_MASK
}

fn minutes(clock: Clock) -> u32 {
    (clock.now_s() / 60) as u32 & MINUTES_MASK
}

#[cfg(test)]
mod tests {
    use super::*;

    const LFU: Policy = Policy::Frequency { log_factor: 10, decay_minutes: 1 };

    fn at_minute(minute: i64) -> Clock {
        Clock::at_us(minute * 60_000_000)
    }

    #[test]
    fn idle_time_survives_the_wrap_of_24_bits() {
        let wrap_s = 1_i64 << 24;
        let bits = Policy::Recency.fresh(Clock::at_us((wrap_s - 3) * 1_000_000));
        assert_eq!(idle_seconds(bits, Clock::at_us((wrap_s + 4) * 1_000_000)), 7);
    }

    #[test]
    fn a_counter_grows_with_the_logarithm_of_use() {
        let mut random = Random::from_seed(3);
        let clock = at_minute(1_000);
        let mut bits = LFU.fresh(clock);
        assert_eq!(LFU.frequency(bits, clock), 5);
        for _ in 0..1_000 {
            bits = LFU.used(bits, clock, &mut random);
        }
        let thousand = LFU.frequency(bits, clock);
        assert!((12..30).contains(&thousand), "{thousand}");
        for _ in 0..1_000_000 {
            bits = LFU.used(bits, clock, &mut random);
        }
        assert_eq!(LFU.frequency(bits, clock), 255);
    }

    #[test]
    fn disuse_costs_a_step_each_period() {
        let bits = LFU.fresh(at_minute(65_530));
        assert_eq!(LFU.frequency(bits, at_minute(65_533)), 2);
        assert_eq!(LFU.frequency(bits, at_minute(65_540)), 0);
        let never = Policy::Frequency { log_factor: 10, decay_minutes: 0 };
        assert_eq!(never.frequency(bits, at_minute(65_540)), 5);
    }
}
