//! A pack time as the protocol gives it, as a transaction id.

use crate::types::Tid;

/// The transaction id of a moment in seconds since 1970, rounded as ZODB's
/// `pack` rounds it. None: no transaction id can name it.
pub fn pack_time(seconds_since_1970: f64) -> Option<Tid> {
    /// The fraction of a minute is counted in 2^32 steps.
    const STEP_SECONDS: f64 = 60.0 / 4_294_967_296.0;
    const MINUTE_SECONDS: f64 = 60.0;
    /// The year 9999, as far as Python's calendar goes.
    const LAST_SECONDS: f64 = 253_402_300_800.0;
    if !(0.0..LAST_SECONDS).contains(&seconds_since_1970) {
        return None;
    }
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "checked above"
    )]
    let (whole, steps) = (
        seconds_since_1970 as u64,
        (seconds_since_1970 % MINUTE_SECONDS / STEP_SECONDS) as u64,
    );
    let time = std::time::UNIX_EPOCH + std::time::Duration::from_secs(whole);
    let minute = Tid::from_time(time).to_u64() & !0xffff_ffff;
    Some(Tid::from_u64(minute | steps.min(0xffff_ffff)))
}

#[cfg(test)]
#[allow(clippy::unreadable_literal, reason = "as Python prints them")]
mod tests {
    use super::*;

    #[test]
    fn times_are_those_of_zodb() {
        // TimeStamp(*time.gmtime(t)[:5] + (t % 60,)).raw() of ZODB's pack
        for (seconds, expected) in TIMES {
            let tid = pack_time(seconds).unwrap();
            assert_eq!(tid.to_u64(), expected, "{seconds}");
        }
        for impossible in [-1.0, f64::NAN, f64::INFINITY, 1e15] {
            assert_eq!(pack_time(impossible), None);
        }
    }

    const TIMES: [(f64, u64); 6] = [
        (0.0, 0x023c_2b00_0000_0000),
        (59.999_999_999, 0x023c_2b00_ffff_ffff),
        (1_795_336_392.5, 0x040d_2ee1_3555_5555),
        (1_795_336_392.123_456, 0x040d_2ee1_33ba_0c00),
        (951_782_400.0, 0x0332_ade0_0000_0000),
        (1_000_000_000.1, 0x033f_2eea_ab17_e4b3),
    ];
}
