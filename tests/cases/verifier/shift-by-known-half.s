; test: verify    source: a shift by a number whose lower half alone is known
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
    r1 = *(u64 *)(r6 + 8)
    if w1 != 0 goto out
    r2 = *(u8 *)(r6 + 0)
    w2 &= 31
    w2 <<= w1
    r0 += r2
    *(u8 *)(r0 + 0) = 1
out:
    r0 = 0
    exit
; error V0205 at 15: a map value is moved by a number without lower bound
