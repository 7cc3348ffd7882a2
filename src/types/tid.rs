use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// A transaction id, and the serial of every record that the transaction wrote.
///
/// It is a ZODB `TimeStamp`: the upper 4 bytes count minutes since 1900 in a
/// calendar of 31-day months, the lower 4 bytes are the fraction of the minute
/// in units of 60 / 2^32 seconds. Big-endian, so bytes order as times do.
/// Source: persistent's `TimeStamp`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Tid(pub [u8; 8]);

const MINUTES_PER_DAY: u64 = 24 * 60;
const MINUTES_PER_MONTH: u64 = 31 * MINUTES_PER_DAY;
const MINUTES_PER_YEAR: u64 = 12 * MINUTES_PER_MONTH;
const FIRST_YEAR: i64 = 1900;
/// The fraction of a minute is counted in 2^32 steps.
const STEPS_PER_MINUTE: u128 = 1 << 32;
const NANOS_PER_MINUTE: u128 = 60_000_000_000;
const SECONDS_PER_STEP: f64 = 60.0 / 4_294_967_296.0;
const SECONDS_FROM_1901_TO_1970: f64 = 2_177_452_800.0;

impl Tid {
    /// The tid before all others; the last transaction of an empty storage.
    pub const ZERO: Self = Self([0; 8]);
    /// The greatest tid.
    pub const MAX: Self = Self([0xff; 8]);

    /// The tid with the number `number`.
    pub const fn from_u64(number: u64) -> Self {
        Self(number.to_be_bytes())
    }

    /// The tid as a number.
    pub const fn to_u64(self) -> u64 {
        u64::from_be_bytes(self.0)
    }

    /// Reads a tid from exactly 8 bytes.
    pub fn from_slice(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self)
    }

    /// The least tid greater than this one ([`Tid::MAX`] stays).
    #[must_use]
    pub const fn next(self) -> Self {
        Self::from_u64(self.to_u64().saturating_add(1))
    }

    /// The tid of a moment. Moments before 1970 count as 1970.
    pub fn from_time(time: SystemTime) -> Self {
        let since_epoch = time.duration_since(UNIX_EPOCH).unwrap_or_default();
        let days = i64::try_from(since_epoch.as_secs() / 86_400).unwrap_or(i64::MAX / 2);
        let (year, month, day) = civil_from_days(days);
        let minute_of_day = (since_epoch.as_secs() % 86_400) / 60;
        let years = u64::try_from(year - FIRST_YEAR).unwrap_or(0);
        let minutes = years * MINUTES_PER_YEAR
            + (month - 1) * MINUTES_PER_MONTH
            + (day - 1) * MINUTES_PER_DAY
            + minute_of_day;
        let nanos_of_minute = u128::from(since_epoch.as_secs() % 60) * 1_000_000_000
            + u128::from(since_epoch.subsec_nanos());
        let steps = nanos_of_minute * STEPS_PER_MINUTE / NANOS_PER_MINUTE;
        let steps = u64::try_from(steps).unwrap_or(u64::from(u32::MAX));
        Self::from_u64((minutes << 32) | steps)
    }

    /// The moment that this tid names, as time since 1970 (zero for earlier ones).
    pub fn to_time_since_epoch(self) -> Duration {
        let number = self.to_u64();
        let minutes = number >> 32;
        let year = FIRST_YEAR + i64::try_from(minutes / MINUTES_PER_YEAR).unwrap_or(0);
        let month = minutes / MINUTES_PER_MONTH % 12 + 1;
        let day = minutes / MINUTES_PER_DAY % 31 + 1;
        let minute_of_day = minutes % MINUTES_PER_DAY;
        let days = days_from_civil(year, month, day);
        let nanos = u128::from(number & 0xffff_ffff) * NANOS_PER_MINUTE / STEPS_PER_MINUTE;
        let nanos = u64::try_from(nanos).unwrap_or(0);
        match u64::try_from(days) {
            Ok(days) => {
                Duration::from_secs(days * 86_400 + minute_of_day * 60)
                    + Duration::from_nanos(nanos)
            }
            Err(_) => Duration::ZERO,
        }
    }

    /// Seconds since 1970, as Python's `TimeStamp.timeTime()` gives them, to the last bit: it adds
    /// the fraction to the seconds since 1901, and the last digits are lost there.
    pub fn to_unix_seconds(self) -> f64 {
        let number = self.to_u64();
        let steps = u32::try_from(number & 0xffff_ffff).unwrap_or(u32::MAX);
        let minute = Self::from_u64(number - u64::from(steps)).to_time_since_epoch();
        let since_1901 = minute.as_secs_f64() + SECONDS_FROM_1901_TO_1970;
        since_1901 + f64::from(steps) * SECONDS_PER_STEP - SECONDS_FROM_1901_TO_1970
    }
}

/// Days since 1970-01-01 to (year, month 1–12, day 1–31) of the proleptic
/// Gregorian calendar, by counting in 400-year eras that start on 1 March.
fn civil_from_days(days: i64) -> (i64, u64, u64) {
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 {
        shifted_month + 3
    } else {
        shifted_month - 9
    };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    (year, month.unsigned_abs(), day.unsigned_abs())
}

/// The inverse of [`civil_from_days`]; a day past the month's end runs on.
fn days_from_civil(year: i64, month: u64, day: u64) -> i64 {
    let month = i64::try_from(month).unwrap_or(1);
    let day = i64::try_from(day).unwrap_or(1);
    let year = year - i64::from(month <= 2);
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let shifted_month = if month > 2 { month - 3 } else { month + 9 };
    let day_of_year = (153 * shifted_month + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

impl fmt::Display for Tid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "0x{:016x}", self.to_u64())
    }
}

impl fmt::Debug for Tid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Tid({self})")
    }
}

/// Gives out tids that strictly increase, whatever the clock does.
///
/// Invariant: every tid returned is greater than `last` was, and is `last` afterwards.
#[derive(Debug)]
pub struct TidClock {
    last: Tid,
}

impl TidClock {
    /// A clock whose tids come after `last`.
    pub const fn after(last: Tid) -> Self {
        Self { last }
    }

    /// The tid of `now`, or the one after the last where the clock has not moved on.
    pub fn next(&mut self, now: SystemTime) -> Tid {
        let tid = Tid::from_time(now).max(self.last.next());
        debug_assert!(tid > self.last || tid == Tid::MAX);
        self.last = tid;
        tid
    }

    /// The tid of a transaction that is finished now; `prescribed` was seen at its vote,
    /// under the lock on everything, to come after the last.
    pub fn assign(&mut self, prescribed: Option<Tid>, now: SystemTime) -> Tid {
        let Some(tid) = prescribed else {
            return self.next(now);
        };
        let later = self.accept(tid);
        debug_assert!(later, "a prescribed tid comes after the last");
        tid
    }

    /// Notes a tid that was prescribed from outside. False, and nothing is
    /// changed, where it does not come after the last.
    pub fn accept(&mut self, tid: Tid) -> bool {
        let later = tid > self.last;
        if later {
            self.last = tid;
        }
        later
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn time(seconds: u64, nanos: u32) -> SystemTime {
        UNIX_EPOCH + Duration::new(seconds, nanos)
    }

    #[test]
    fn agrees_with_persistent_timestamp() {
        // TimeStamp(2026, 11, 22, 8, 33, 12.5).raw() of the persistent package
        let tid = Tid::from_time(time(1_795_336_392, 500_000_000));
        assert_eq!(tid.to_string(), TIMESTAMP_2026);
        // TimeStamp(1970, 1, 1, 0, 0, 0).raw()
        assert_eq!(Tid::from_time(UNIX_EPOCH).to_string(), "0x023c2b0000000000");
    }

    const TIMESTAMP_2026: &str = "0x040d2ee135555555";

    #[test]
    fn seconds_are_those_of_persistent_timestamp() {
        // TimeStamp(bytes.fromhex(…)).timeTime() of the persistent package
        for (number, seconds) in [
            (0x040d_2f22_efc4_e611, 1_795_340_336.195_891),
            (0x040d_2f22_efc2_5a3b, 1_795_340_336.193_560_1),
            (0x040d_2f22_efc4_8977, 1_795_340_336.195_56),
        ] {
            let got = Tid::from_u64(number).to_unix_seconds();
            assert!(got.to_bits() == f64::to_bits(seconds), "{got} != {seconds}");
        }
    }

    #[test]
    fn time_survives_the_round_trip() {
        for seconds in [0, 59, 86_399, 951_782_400, 1_795_336_392, 4_102_444_800] {
            let back = Tid::from_time(time(seconds, 123_456_789)).to_time_since_epoch();
            let error = back.abs_diff(Duration::new(seconds, 123_456_789));
            assert!(
                error < Duration::from_nanos(20),
                "{seconds}: off by {error:?}"
            );
        }
    }

    #[test]
    fn clock_goes_up_when_time_stands_still_or_goes_back() {
        let mut clock = TidClock::after(Tid::ZERO);
        let first = clock.next(time(1_000_000, 0));
        let second = clock.next(time(1_000_000, 0));
        let third = clock.next(time(5, 0));
        assert!(first < second && second < third);
        assert!(!clock.accept(first));
        assert!(clock.accept(Tid::from_time(time(2_000_000, 0))));
    }
}
