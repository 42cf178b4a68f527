; test: verify    source: a spilled number read back with its sign is another number: what is learnt of one says nothing of the other
; kernel: accepts wrongly
; section: socket
    .map values type=array key_size=4 value_size=64 max_entries=1
    *(u32 *)(r10 - 4) = 0
    r2 = r10
    r2 += -4
    r1 = values ll
    call bpf_map_lookup_elem
    if r0 == 0 goto out
    r7 = r0
    call bpf_get_prandom_u32
    w0 = w0
    *(u64 *)(r10 - 16) = r0
    r1 = *(s32 *)(r10 - 16)
    if r1 s> -1 goto out
    r2 = *(u64 *)(r10 - 16)
    r2 >>= 63
    r2 ^= 1
    r2 *= 1000
    r7 += r2
    *(u8 *)(r7 + 0) = 0
out:
    r0 = 0
    exit
; error V0201 at 18: r7 may reach byte 1001 of a map value; 64 bytes are accessible
