//! What each kind of instruction computes, as a table. The loop that runs it is in [`super::run`].

/// A `match` over all codes: those of the table, and the arms given, which are those that leave the straight path or need the
/// machine.
///
/// `$r` are the registers, `$i` is the instruction; `$jump` is a macro that takes a jump if its second argument holds.
#[rustfmt::skip] // one kind of instruction per line
macro_rules! dispatch {
    ($code:expr, $r:ident, $i:ident, $jump:ident; $rest:tt) => {
        arms! {
            ($code, $r, $i, $jump; $rest)
            arithmetic {
                Add64R Add64K Add32R Add32K: u64::wrapping_add, u32::wrapping_add;
                Sub64R Sub64K Sub32R Sub32K: u64::wrapping_sub, u32::wrapping_sub;
                Mul64R Mul64K Mul32R Mul32K: u64::wrapping_mul, u32::wrapping_mul;
                Div64R Div64K Div32R Div32K: w64::div, w32::div;
                Sdiv64R Sdiv64K Sdiv32R Sdiv32K: w64::sdiv, w32::sdiv;
                Or64R Or64K Or32R Or32K: |a, b| a | b, |a, b| a | b;
                And64R And64K And32R And32K: |a, b| a & b, |a, b| a & b;
                Lsh64R Lsh64K Lsh32R Lsh32K: w64::lsh, w32::lsh;
                Rsh64R Rsh64K Rsh32R Rsh32K: w64::rsh, w32::rsh;
                Mod64R Mod64K Mod32R Mod32K: w64::rem, w32::rem;
                Smod64R Smod64K Smod32R Smod32K: w64::srem, w32::srem;
                Xor64R Xor64K Xor32R Xor32K: |a, b| a ^ b, |a, b| a ^ b;
                Arsh64R Arsh64K Arsh32R Arsh32K: w64::arsh, w32::arsh;
            }
            comparisons {
                Jeq64R Jeq64K Jeq32R Jeq32K: |a, b| a == b, |a, b| a == b;
                Jne64R Jne64K Jne32R Jne32K: |a, b| a != b, |a, b| a != b;
                Jgt64R Jgt64K Jgt32R Jgt32K: |a, b| a > b, |a, b| a > b;
                Jge64R Jge64K Jge32R Jge32K: |a, b| a >= b, |a, b| a >= b;
                Jlt64R Jlt64K Jlt32R Jlt32K: |a, b| a < b, |a, b| a < b;
                Jle64R Jle64K Jle32R Jle32K: |a, b| a <= b, |a, b| a <= b;
                Jset64R Jset64K Jset32R Jset32K: |a, b| a & b != 0, |a, b| a & b != 0;
                Jsgt64R Jsgt64K Jsgt32R Jsgt32K: |a, b| a as i64 > b as i64, |a, b| a as i32 > b as i32;
                Jsge64R Jsge64K Jsge32R Jsge32K: |a, b| a as i64 >= b as i64, |a, b| a as i32 >= b as i32;
                Jslt64R Jslt64K Jslt32R Jslt32K: |a, b| (a as i64) < b as i64, |a, b| (a as i32) < b as i32;
                Jsle64R Jsle64K Jsle32R Jsle32K: |a, b| a as i64 <= b as i64, |a, b| a as i32 <= b as i32;
            }
            of_dst {
                Neg64: u64::wrapping_neg;
                Neg32: |v| u64::from((v as u32).wrapping_neg());
                Be16: |v| u64::from((v as u16).swap_bytes());
                Be32: |v| u64::from((v as u32).swap_bytes());
                Be64: u64::swap_bytes;
                Le16: |v| u64::from(v as u16);
                Le32: |v| u64::from(v as u32);
            }
            of_src {
                Mov64: |v| v;
                Mov32: |v| u64::from(v as u32);
                Movsx64B: |v| v as i8 as u64;
                Movsx64H: |v| v as i16 as u64;
                Movsx64W: |v| v as i32 as u64;
                Movsx32B: |v| u64::from(v as i8 as u32);
                Movsx32H: |v| u64::from(v as i16 as u32);
            }
            loads {
                LoadB: u8, u64::from;
                LoadH: u16, u64::from;
                LoadW: u32, u64::from;
                LoadD: u64, |v| v;
                LoadSB: i8, |v| v as u64;
                LoadSH: i16, |v| v as u64;
                LoadSW: i32, |v| v as u64;
            }
            stores {
                StoreBR StoreBK: |v| v as u8;
                StoreHR StoreHK: |v| v as u16;
                StoreWR StoreWK: |v| v as u32;
                StoreDR StoreDK: |v| v;
            }
        }
    };
}

/// The arms of [`dispatch`], from its rows.
macro_rules! arms {
    (
        ($code:expr, $r:ident, $i:ident, $jump:ident; { $($rest:tt)* })
        arithmetic { $($a64r:ident $a64k:ident $a32r:ident $a32k:ident: $wide:expr, $narrow:expr;)* }
        comparisons { $($c64r:ident $c64k:ident $c32r:ident $c32k:ident: $holds_wide:expr, $holds_narrow:expr;)* }
        of_dst { $($unary:ident: $of_dst:expr;)* }
        of_src { $($mov:ident: $of_src:expr;)* }
        loads { $($load:ident: $loaded:ty, $extend:expr;)* }
        stores { $($store_reg:ident $store_imm:ident: $cut:expr;)* }
    ) => {
        match $code {
            $(
                Code::$a64r => ops::alu64r($r, $i, $wide),
                Code::$a64k => ops::alu64k($r, $i, $wide),
                Code::$a32r => ops::alu32r($r, $i, $narrow),
                Code::$a32k => ops::alu32k($r, $i, $narrow),
            )*
            $(
                Code::$c64r => $jump!($i, ops::cmp64r($r, $i, $holds_wide)),
                Code::$c64k => $jump!($i, ops::cmp64k($r, $i, $holds_wide)),
                Code::$c32r => $jump!($i, ops::cmp32r($r, $i, $holds_narrow)),
                Code::$c32k => $jump!($i, ops::cmp32k($r, $i, $holds_narrow)),
            )*
            $( Code::$unary => ops::unary($r, $i, $of_dst), )*
            $( Code::$mov => ops::mov($r, $i, $of_src), )*
            // SAFETY: all accesses were proven by the verifier.
            $( Code::$load => unsafe { ops::load::<$loaded>($r, $i, $extend) }, )*
            $(
                // SAFETY: as above.
                Code::$store_reg => unsafe { ops::store_reg($r, $i, $cut) },
                // SAFETY: as above.
                Code::$store_imm => unsafe { ops::store_imm($r, $i, $cut) },
            )*
            $($rest)*
        }
    };
}

pub(super) use {arms, dispatch};
