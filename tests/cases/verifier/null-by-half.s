; test: verify    source: a pointer that is not NULL compared by its lower half: the kernel decides the jump
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
    if w0 == 0 goto never
    r0 = 0
    exit
never:
    r0 = *(u64 *)(r2 + 0)
    exit
; accept
