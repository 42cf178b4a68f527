; test: verify    source: a range and known bits with one number in common
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
    r5 = *(u64 *)(r6 + 8)
    r5 &= 0xf0
    if r5 > 0x2f goto out
    if r5 < 0x11 goto out
    r0 += r5
    *(u64 *)(r0 + 24) = r5
out:
    r0 = 0
    exit
; accept
