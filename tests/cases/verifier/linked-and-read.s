; test: verify    source: linked scalars: those that are not read any more do not count
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
    r7 = *(u64 *)(r6 + 56)
    r8 = r7
    r3 = r8
    if r3 > 56 goto out
    r0 += r7
    *(u64 *)(r0 + 0) = r3
out:
    r0 = 0
    exit
; accept
