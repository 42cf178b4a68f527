; test: verify    source: a number compared with itself: what is narrowed holds for the other side and for its copies too
; section: syscall
    .map tables type=array key_size=4 value_size=64 max_entries=1
    r6 = r1
    *(u32 *)(r10 - 4) = 0
    r2 = r10
    r2 += -4
    r1 = tables ll
    call bpf_map_lookup_elem
    r9 = r0
    r7 = *(u32 *)(r6 + 28)
    r8 = *(u8 *)(r6 + 8)
    w7 &= 0
    *(u64 *)(r10 - 32) = r8
    if r8 s<= r8 goto +2
    if w8 != w7 goto +1
    r7 %= 32
    r4 = r9
    r4 += r7
    exit
; accept
