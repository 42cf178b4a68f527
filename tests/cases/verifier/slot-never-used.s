; test: verify    source: a path that never used the stack slot whose number matters in the state it ends at: the kernel fails
; section: syscall
; kernel: refuses wrongly
    .map tables type=array key_size=4 value_size=64 max_entries=1
    r6 = r1
    r1 = tables ll
    r1 = *(u32 *)(r6 + 4)
    r2 = *(u64 *)(r6 + 16)
    r3 = *(u64 *)(r6 + 24)
    r4 = *(u64 *)(r6 + 32)
    if r4 > 27 goto +2
    *(u64 *)(r10 - 32) = r2
    if r3 s> 255 goto +1
    *(u64 *)(r10 - 48) = 47
    r4 = bswap32 r4
    r2 = *(u16 *)(r10 - 32)
    w1 |= 8
    r1 = bswap64 r1
    if w2 < -1 goto +0
    r0 = 0
    r0 = 0
    exit
; accept
