; test: verify    source: a fetching atomic: the kernel does not see that the number in the slot matters, and ends the other path too early
; section: syscall
; kernel: accepts wrongly
    .map tables type=array key_size=4 value_size=64 max_entries=1
    r6 = r1
    *(u32 *)(r10 - 4) = 0
    r2 = r10
    r2 += -4
    r1 = tables ll
    call bpf_map_lookup_elem
    r9 = r0
    r2 = *(u8 *)(r6 + 2)
    r7 = *(u64 *)(r6 + 56)
    *(u16 *)(r10 - 12) = 60
    if w7 s> 61 goto +1
    *(u64 *)(r10 - 16) = 4
    w0 = cmpxchg32_32(r10 - 16, w0, w2)
    w0 &= 127
    r4 = r9
    r4 += r0
    r4 = *(u32 *)(r4 + 32)
    exit
; error V0201 at 17: r4 may reach byte 163 of a map value; 64 bytes are accessible
