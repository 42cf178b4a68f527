; test: verify    source: a number that is 0 or -1 is walked as each of them at a bitwise operation with a constant
; section: syscall
    .map values type=array key_size=4 value_size=64 max_entries=1
    *(u32 *)(r10 - 4) = 0
    r2 = r10
    r2 += -4
    r6 = *(u32 *)(r1 + 0)
    r1 = values ll
    call bpf_map_lookup_elem
    if r0 != 0 goto found
    r0 = 0
    exit
found:
    w6 s>>= 31
    w6 |= 9
    if w6 s< 0 goto out
    r0 += r6
    *(u8 *)(r0 + 54) = 1
out:
    r0 = 0
    exit
; accept
