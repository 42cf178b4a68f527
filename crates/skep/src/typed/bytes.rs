//! Members that Rust structures cannot express: bit fields and members of unions.

use super::Plain;

/// `count` bits from bit `at` on, as a number; BTF counts bits as a little-endian machine does.
#[must_use]
pub fn bits(bytes: &[u8], at: u32, count: u32) -> u64 {
    (0..count.min(64)).fold(0, |value, bit| {
        let place = (at + bit) as usize;
        let set = bytes
            .get(place / 8)
            .is_some_and(|b| b >> (place % 8) & 1 == 1);
        value | u64::from(set) << bit
    })
}

/// Sets `count` bits from bit `at` on; bits outside of `bytes` are left out.
pub fn set_bits(bytes: &mut [u8], at: u32, count: u32, value: u64) {
    for bit in 0..count.min(64) {
        let place = (at + bit) as usize;
        if let Some(byte) = bytes.get_mut(place / 8) {
            let mask = 1u8 << (place % 8);
            *byte = if value >> bit & 1 == 1 {
                *byte | mask
            } else {
                *byte & !mask
            };
        }
    }
}

/// The member of a union that begins with its first byte; bytes that the union lacks are zero.
#[must_use]
pub fn member<T: Plain>(union: &[u8]) -> T {
    let mut value = T::new_zeroed();
    let to = value.as_mut_bytes();
    let len = to.len().min(union.len());
    to[..len].copy_from_slice(&union[..len]);
    value
}

/// Writes a member of a union.
pub fn set_member<T: Plain>(union: &mut [u8], value: &T) {
    let from = value.as_bytes();
    let len = from.len().min(union.len());
    union[..len].copy_from_slice(&from[..len]);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_are_read_where_they_were_written() {
        let mut bytes = [0xffu8; 4];
        set_bits(&mut bytes, 5, 9, 0b1_0101_0101);
        assert_eq!(bits(&bytes, 5, 9), 0b1_0101_0101);
        assert_eq!(bits(&bytes, 0, 5), 0b1_1111);
        assert_eq!(bits(&bytes, 14, 18), (1 << 18) - 1);
        assert_eq!(bits(&bytes, 30, 8), 0b11);
    }

    #[test]
    fn members_of_unions_share_their_bytes() {
        let mut union = [0u8; 8];
        set_member(&mut union, &0x0102_0304u32.to_le());
        assert_eq!(member::<[u8; 2]>(&union), [4, 3]);
        assert_eq!(member::<u64>(&union).to_le(), 0x0102_0304);
    }
}
