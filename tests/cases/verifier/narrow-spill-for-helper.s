; test: verify    source: a narrow spill stands for its whole slot where a helper reads it
; section: cgroup/connect4
; caps: bpf
    .map table type=hash key_size=8 value_size=8 max_entries=4
    r2 = *(u32 *)(r1 + 4)
    *(u32 *)(r10 - 8) = r2
    r2 = r10
    r2 += -8
    r1 = table ll
    call bpf_map_lookup_elem
    r0 = 1
    exit
; accept
