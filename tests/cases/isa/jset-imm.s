; test: verify, run            source: RFC 9669 §4.3
; words: dst; r0: a bit for each jump taken, 64-bit with 0, -1, 7, -2147483648, then 32-bit
    r2 = *(u64 *)(r1 + 0)
    r0 = 0
    if r2 & 0 goto +1
    goto +1
    r0 |= 1
    if r2 & -1 goto +1
    goto +1
    r0 |= 2
    if r2 & 7 goto +1
    goto +1
    r0 |= 4
    if r2 & -2147483648 goto +1
    goto +1
    r0 |= 8
    if w2 & 0 goto +1
    goto +1
    r0 |= 16
    if w2 & -1 goto +1
    goto +1
    r0 |= 32
    if w2 & 7 goto +1
    goto +1
    r0 |= 64
    if w2 & -2147483648 goto +1
    goto +1
    r0 |= 128
    exit
; in 0x0 -> r0 = 0x0
; in 0x1 -> r0 = 0x66
; in 0x7 -> r0 = 0x66
; in 0xffffffffffffffff -> r0 = 0xee
; in 0x7fffffff -> r0 = 0x66
; in 0x80000000 -> r0 = 0xaa
; in 0xffffffff -> r0 = 0xee
; in 0x100000000 -> r0 = 0xa
; in 0x7fffffffffffffff -> r0 = 0xee
; in 0x8000000000000000 -> r0 = 0xa
; in 0x123456789abcdef0 -> r0 = 0xaa
