; test: verify    source: the distance of a linked scalar where the explored state had no link: it is covered
; section: syscall
    .map tables type=array key_size=4 value_size=64 max_entries=1
    r6 = r1
    *(u32 *)(r10 - 4) = 0
    r2 = r10
    r2 += -4
    r1 = tables ll
    call bpf_map_lookup_elem
    r9 = r0
    r0 = *(u8 *)(r6 + 0)
    r1 = *(u32 *)(r6 + 4)
    r2 = 31
    r4 = *(u32 *)(r6 + 16)
    r5 = *(u64 *)(r6 + 40)
    r8 = *(u32 *)(r6 + 32)
    w7 = w8
    if r1 <= 2 goto +1
    w7 += -2147483648
    if w0 > w2 goto +0
    w5 += 63
    w3 = 11
    w1 = (s8)w4
    if r3 >= r5 goto +4
    if r4 < 63 goto +5
    w5 >>= 6
    if r8 s> r2 goto +0
    w3 <<= 3
    if w1 >= 2147483647 goto +6
    *(u8 *)(r10 - 46) = 128
    w0 = w4
    r1 = bswap32 r1
    if w3 > 8 goto +0
    w4 >>= 14
    w7 = atomic_fetch_xor((u32 *)(r9 + 8), w7)
    r3 = r9
    r3 += r7
    exit
; accept
