; test: verify, run            source: RFC 9669 §3
; spills and fills keep values, at the lowest and highest slot
; memory: 3
    r2 = *(u64 *)(r1 + 0)
    *(u64 *)(r10 - 8) = r2
    *(u64 *)(r10 - 512) = r1
    r3 = *(u64 *)(r10 - 512)
    r0 = *(u64 *)(r10 - 8)
    r4 = *(u64 *)(r3 + 8)
    *(u32 *)(r10 - 4) = w4
    r4 = *(u64 *)(r10 - 8)
    *(u64 *)(r1 + 16) = r4
    exit
; in 0x1122334455667788 0xa1a2a3a4a5a6a7a8 -> r0 = 0x1122334455667788, out 0x1122334455667788 0xa1a2a3a4a5a6a7a8 0xa5a6a7a855667788
; in 0xffffffffffffffff 0x0 -> r0 = 0xffffffffffffffff, out 0xffffffffffffffff 0x0 0xffffffff
