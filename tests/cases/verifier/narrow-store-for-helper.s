; test: verify    source: a store that begins inside a slot does not stand for the rest of it
; section: cgroup/connect4
; caps: bpf
    .map table type=hash key_size=8 value_size=8 max_entries=4
    r2 = *(u32 *)(r1 + 4)
    *(u32 *)(r10 - 8) = r2
    *(u8 *)(r10 - 4) = r2
    r2 = r10
    r2 += -8
    r1 = table ll
    call bpf_map_lookup_elem
    r0 = 1
    exit
; error V0302 at 7: r2 passes stack byte -3, which was not written on this path
