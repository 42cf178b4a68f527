; test: verify    source: a link that the explored state did not have only narrows what may be: it is covered
; section: syscall
    .map tables type=array key_size=4 value_size=64 max_entries=1
    r6 = r1
    *(u32 *)(r10 - 4) = 0
    r2 = r10
    r2 += -4
    r1 = tables ll
    call bpf_map_lookup_elem
    r9 = r0
    r0 = *(u64 *)(r6 + 0)
    r1 = *(u32 *)(r6 + 4)
    r3 = 49491308
    r5 = 639216841
    r8 = r1
    if w3 s< 8 goto +2
    if w0 & w0 goto +4
    r8 = *(s32 *)(r6 + 16)
    w3 %= 1
    if w1 s<= w5 goto +1
    r5 = -r5
    w1 = w8
    r8 <<= r0
    r1 -= 797529045
    if w1 >= 31 goto +2
    r2 = r9
    r2 += r1
    exit
; accept
