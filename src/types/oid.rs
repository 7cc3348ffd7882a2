use std::fmt;

/// An object id: 8 bytes, big-endian, so that the order of the bytes is the
/// order of the numbers. The root object of a database is [`Oid::ROOT`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Oid(pub [u8; 8]);

impl Oid {
    /// The root object, and the least oid.
    pub const ROOT: Self = Self([0; 8]);

    /// The oid with the number `number`.
    pub const fn from_u64(number: u64) -> Self {
        Self(number.to_be_bytes())
    }

    /// The oid as a number.
    pub const fn to_u64(self) -> u64 {
        u64::from_be_bytes(self.0)
    }

    /// Reads an oid from exactly 8 bytes.
    pub fn from_slice(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self)
    }
}

impl fmt::Display for Oid {
    /// As ZODB prints it: `0x` and an even number of hex digits.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = format!("{:x}", self.to_u64());
        let padding = if digits.len().is_multiple_of(2) {
            ""
        } else {
            "0"
        };
        write!(f, "0x{padding}{digits}")
    }
}

impl fmt::Debug for Oid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Oid({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn displays_as_zodb_does() {
        assert_eq!(Oid::ROOT.to_string(), "0x00");
        assert_eq!(Oid::from_u64(0x1ab).to_string(), "0x01ab");
    }

    #[test]
    fn orders_as_numbers() {
        assert!(Oid::from_u64(255) < Oid::from_u64(256));
    }
}
