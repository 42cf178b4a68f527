; test: verify, run            source: RFC 9669 §4.1
; words: 64-bit words of which 32-bit arithmetic changes the lower half and clears the upper half: by add, sub, and, or, xor; 32-bit words changed by 64-bit arithmetic; a word changed by itself
; memory: 9
    r3 = *(u64 *)(r1 + 64)
    r2 = *(u64 *)(r1 + 0)
    w2 += 5
    *(u64 *)(r1 + 0) = r2
    r2 = *(u64 *)(r1 + 8)
    w2 -= w3
    *(u64 *)(r1 + 8) = r2
    r2 = *(u64 *)(r1 + 16)
    w2 &= w3
    *(u64 *)(r1 + 16) = r2
    r2 = *(u64 *)(r1 + 24)
    w2 |= w3
    *(u64 *)(r1 + 24) = r2
    r2 = *(u64 *)(r1 + 32)
    w2 ^= -1
    *(u64 *)(r1 + 32) = r2
    w2 = *(u32 *)(r1 + 40)
    r2 += r3
    *(u32 *)(r1 + 40) = w2
    r2 = *(u64 *)(r1 + 48)
    r2 |= 256
    *(u64 *)(r1 + 48) = r2
    w2 = *(u32 *)(r1 + 56)
    r2 -= r3
    *(u64 *)(r1 + 56) = r2
    r0 = 0
    exit
; in 0xffffffffffffffff 0x123456789abcdef0 0xffffffffffffffff 0x123456789abcdef0 0x8080808080808080 0x123456789abcdef0 0xf000000000000001 0x123456789abcdef0 0x8000000080000001 -> r0 = 0x0, out 0x4 0x1abcdeef 0x80000001 0x9abcdef1 0x7f7f7f7f 0x123456781abcdef1 0xf000000000000101 0x800000001abcdeef 0x8000000080000001
; in 0x123456789abcdef0 0xffffffffffffffff 0x8080808080808080 0xffffffffffffffff 0x123456789abcdef0 0xffffffffffffffff 0x0 0xffffffffffffffff 0xffffffffffffffff -> r0 = 0x0, out 0x9abcdef5 0x0 0x80808080 0xffffffff 0x6543210f 0xfffffffffffffffe 0x100 0x100000000 0xffffffffffffffff
