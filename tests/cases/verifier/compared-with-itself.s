; test: verify    source: a number compared with itself: the side that cannot be taken is walked, and narrowed
; section: syscall
    .map values type=array key_size=4 value_size=64 max_entries=1
    *(u32 *)(r10 - 4) = 0
    r2 = r10
    r2 += -4
    r6 = r1
    r1 = values ll
    call bpf_map_lookup_elem
    if r0 != 0 goto found
    r0 = 0
    exit
found:
    r5 = *(u8 *)(r6 + 8)
    if r5 s>= r5 goto out
    r5 -= 1
    if r5 > 56 goto out
    r0 += r5
    *(u8 *)(r0 + 7) = 1
out:
    r0 = 0
    exit
; accept
